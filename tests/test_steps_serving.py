"""The serving kinds against a pretend vLLM that lies as the real one does, by the host's own shell and curl."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bot.steps import KINDS
from bot.verdict import Verdict
from tests.parts.posix import SHELLS, answered, only
from tests.parts.programs import free_port, require
from tests.parts.step import do, host, judge, plan
from tests.parts.vllm import MODEL, Vllm
from tests.test_parts import complete

UNUSED = {"port": 9, "max_time": "1s"}


def port_of(vllm: Vllm) -> int:
    return int(vllm.address.rpartition(":")[2])


@contextmanager
def answering(code: int, body: str = "", *, delay: float = 0.0) -> Iterator[int]:
    """A server that says the same to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wait.wait(delay)
            self.send_response(code)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    wait = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            wait.set()
            server.shutdown()
            thread.join()


@contextmanager
def holding(vllm: Vllm, requests: int) -> Iterator[None]:
    """A vLLM that hangs while requests run."""
    vllm.stall()
    with ThreadPoolExecutor(requests) as customers:
        asked = [customers.submit(complete, vllm.url, tokens=2) for _ in range(requests)]
        vllm.wait_running(requests)
        yield
        vllm.resume()
        for one in asked:
            one.result()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_page_that_answers_as_wanted_is_healthy(shell: str) -> None:
    with Vllm() as vllm:
        seen = do("http.check", {"port": port_of(vllm)}, shell=shell)
    assert seen.verdict is Verdict.HEALTHY
    assert seen.facts["http_code"] == 200
    assert "/health says 200 in " in seen.summary


def test_another_status_is_unhealthy_and_repeats_what_the_page_says() -> None:
    with answering(503, "EngineDeadError\n") as port:
        seen = do("http.check", {"port": port})
        assert seen.verdict is Verdict.UNHEALTHY
        assert seen.summary.endswith("not 200: EngineDeadError")
        assert do("http.check", {"port": port, "status": 503}).verdict is Verdict.HEALTHY


def test_a_port_nobody_listens_on_is_unhealthy() -> None:
    seen = do("http.check", {"port": free_port(), "max_time": "1s"})
    assert seen.verdict is Verdict.UNHEALTHY
    assert "connection refused" in seen.summary


def test_a_page_that_comes_too_late_is_unhealthy() -> None:
    with answering(200, "late", delay=5) as port:
        seen = do("http.check", {"port": port, "max_time": "300ms"})
    assert seen.verdict is Verdict.UNHEALTHY
    assert "no whole answer within 300ms" in seen.summary


@pytest.mark.parametrize("kind", ["http.check", "vllm.progress", "llm.completion"])
def test_a_host_without_curl_is_unknown(kind: str, tmp_path: Path) -> None:
    seen = do(kind, UNUSED, path=only(tmp_path / "bin"))
    assert seen.ok
    assert seen.verdict is Verdict.UNKNOWN
    assert "curl is not installed" in seen.summary


@pytest.mark.parametrize("kind", ["http.check", "vllm.progress", "llm.completion"])
def test_a_proxy_of_the_login_is_not_used(kind: str) -> None:
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    with Vllm() as vllm:
        given = {"port": port_of(vllm)} | ({"window": "1s"} if kind == "vllm.progress" else {})
        assert do(kind, given, env=proxy).verdict is not Verdict.UNHEALTHY


def test_a_path_is_data_for_curl_and_the_shell(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with answering(200) as port:
        given = {"port": port, "path": f"/[1-3]{{a,b}}$(touch${{IFS}}{trap})`touch${{IFS}}{trap}`'\";x"}
        assert do("http.check", given).facts["http_code"] == 200
    assert not trap.exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_requests_without_a_token_are_a_stall_though_health_says_200(shell: str) -> None:
    with Vllm() as vllm, holding(vllm, 3):
        assert do("http.check", {"port": port_of(vllm)}, shell=shell).verdict is Verdict.HEALTHY
        seen = do("vllm.progress", {"port": port_of(vllm), "window": "1s"}, shell=shell)
    assert seen.ok
    assert seen.verdict is Verdict.UNHEALTHY
    assert seen.summary == "no token in 1 s while 3 requests run"
    assert seen.facts["running"] == 3
    assert seen.facts["idle"] is False


def test_tokens_that_come_out_are_progress() -> None:
    with Vllm(pace=0.01) as vllm, ThreadPoolExecutor(1) as customer:
        asked = customer.submit(complete, vllm.url, tokens=200)
        vllm.wait_running(1)
        seen = do("vllm.progress", {"port": port_of(vllm), "window": "1s"})
        asked.result()
    assert seen.verdict is Verdict.HEALTHY
    assert 10 < seen.facts["tokens_per_s"] < 101
    assert "tokens/s, 1 request runs" in seen.summary


def test_an_idle_server_is_not_judged() -> None:
    with Vllm() as vllm:
        seen = do("vllm.progress", {"port": port_of(vllm), "window": "1s"})
    assert seen.ok
    assert seen.verdict is None
    assert seen.summary == "idle: nothing to progress"
    assert seen.facts["idle"] is True


def test_metrics_that_cannot_be_reached_are_unhealthy_without_waiting() -> None:
    began = time.monotonic()
    seen = do("vllm.progress", {"port": free_port(), "window": "1m"})
    assert seen.verdict is Verdict.UNHEALTHY
    assert "connection refused" in seen.summary
    assert time.monotonic() - began < 10


def test_a_page_without_vllms_metrics_is_unknown() -> None:
    with answering(200, "# HELP up\nup 1\n") as port:
        seen = do("vllm.progress", {"port": port, "window": "1s"})
    assert seen.verdict is Verdict.UNKNOWN
    with answering(404, "no") as port:
        assert do("vllm.progress", {"port": port}).verdict is Verdict.UNKNOWN


METRICS = (
    'vllm:num_requests_running{{model_name="m"}} {running}\nvllm:num_requests_waiting{{model_name="m"}} {waiting}\n'
    'vllm:generation_tokens_total{{model_name="m"}} {tokens}\n\n200 0.010 \n'
)


@pytest.mark.parametrize(
    ("before", "after", "verdict", "words"),
    [
        ((2, 0, 50), (2, 0, 10), Verdict.UNKNOWN, "went back"),
        ((0, 0, 50), (2, 0, 50), None, "too early to say"),
        ((2, 0, 50), (0, 0, 50), Verdict.UNKNOWN, "went away without a token"),
        ((0, 4, 50), (0, 4, 50), Verdict.UNKNOWN, "4 requests wait, none runs"),
        ((1, 4, 50), (1, 9, 50), Verdict.UNHEALTHY, "no token in 10 s while 1 request runs, 9 in the queue"),
        ((0, 0, 50), (0, 0, 90), Verdict.HEALTHY, "4.0 tokens/s, 0 requests run"),
    ],
)
def test_two_readings_are_compared(
    before: tuple[int, int, int], after: tuple[int, int, int], verdict: Verdict | None, words: str
) -> None:
    def text(reading: tuple[int, int, int]) -> str:
        return METRICS.format(**dict(zip(("running", "waiting", "tokens"), reading, strict=True)))

    seen = judge("vllm.progress", {}, answered(f"{text(before)}=== second reading\n{text(after)}"))
    assert seen.verdict is verdict
    assert words in seen.summary


def test_a_second_reading_that_never_came_is_unknown() -> None:
    text = METRICS.format(running=1, waiting=0, tokens=1)
    assert judge("vllm.progress", {}, answered(text)).verdict is Verdict.UNKNOWN
    assert judge("vllm.progress", {}, answered(f"{text}=== second reading\n")).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("shell", SHELLS)
def test_one_real_token_is_asked_of_the_first_model(shell: str) -> None:
    with Vllm() as vllm:
        seen = do("llm.completion", {"port": port_of(vllm)}, shell=shell)
        assert vllm.served == 1
    assert seen.verdict is Verdict.HEALTHY
    assert seen.facts["model"] == MODEL
    assert seen.facts["text"] == " token0"
    assert seen.facts["ttft_ms"] < 3000
    assert seen.summary.startswith(f"one token of {MODEL} in ")


@contextmanager
def locked(key: str) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """A server that answers only who brings the key, and keeps the headers that came."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(dict(self.headers))
            length = int(self.headers.get("content-length", 0))
            asked = json.loads(self.rfile.read(length)) if length else {}
            known = self.headers.get("authorization") == f"Bearer {key}"
            body = json.dumps(
                {"data": [{"id": "m"}], "choices": [{"text": asked.get("prompt", "")}]}
            ).encode()
            self.send_response(200 if known else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    came: list[dict[str, str]] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], came
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_key_opens_what_is_locked_and_is_no_argument_of_any_program(shell: str, tmp_path: Path) -> None:
    key = "k3y \"'$(x)\\"
    curl = tmp_path / "curl"
    curl.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/arguments\nexec {require("curl", package="curl")} "$@"\n'
    )
    curl.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    with locked(key) as (port, came):
        assert do("llm.completion", {"port": port}, shell=shell).verdict is Verdict.UNKNOWN
        seen = do("llm.completion", {"port": port, "api_key": key, "prompt": "hé\n"}, shell=shell, path=path)
        assert seen.verdict is Verdict.HEALTHY, seen.summary
        assert seen.facts["text"] == "hé\n"
        headers = {"Authorization": f"Bearer {key}", "X-Two": "2"}
        seen = do("http.check", {"port": port, "headers": headers}, shell=shell, path=path)
        assert seen.verdict is Verdict.HEALTHY, seen.summary
    assert {name.lower(): value for name, value in came[-1].items()}["x-two"] == "2"
    said = (tmp_path / "arguments").read_text()
    assert "@-" in said
    assert "k3y" not in said


def test_headers_are_shown_by_name_and_a_line_cannot_be_smuggled_in() -> None:
    uses = KINDS["http.check"]
    given = uses.arguments.model_validate({"port": 1, "headers": {"Authorization": "Bearer ‹secret k›"}})
    effect = uses.plan(given, host())
    assert effect.says == "GET http://127.0.0.1:1/health with Authorization"
    assert effect.command.env["HEADERS"] == "Authorization: Bearer ‹secret k›"
    for headers in ({"A": "x\ny"}, {"A\n": "x"}, {"A b": "x"}, {"": "x"}):
        with pytest.raises(ValueError, match="validation error"):
            plan("http.check", {"port": 1, "headers": headers})
    with pytest.raises(ValueError, match="validation error"):
        plan("llm.completion", {"api_key": "x\ny"})


def test_a_hang_gives_no_token_in_time() -> None:
    with Vllm() as vllm:
        vllm.stall()
        seen = do("llm.completion", {"port": port_of(vllm), "max_time": "500ms"})
        vllm.resume()
    assert seen.verdict is Verdict.UNHEALTHY
    assert "/v1/completions: no whole answer within 500ms" in seen.summary
    assert seen.facts["ttft_ms"] is None


def test_prompt_and_model_are_data(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    hostile = f"\"; $(touch {trap}) `touch {trap}` ' %s %n \\ \n -o"
    with Vllm() as vllm:
        seen = do("llm.completion", {"port": port_of(vllm), "prompt": hostile, "model": hostile})
    assert seen.verdict is Verdict.HEALTHY, seen.summary
    assert not trap.exists()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "listed",
    [
        json.dumps({"object": "list", "data": [{"id": "org/m-1.5:fp8", "object": "model"}, {"id": "other"}]}),
        json.dumps({"data": [{"id": "org/m-1.5:fp8", "permission": [{"id": "modelperm-1"}]}]}, indent=2),
        '{"object":"list","data":[{"object":"model","id":"org/m-1.5:fp8"}]}',
    ],
)
def test_the_models_name_is_found_however_the_list_is_written(
    listed: str, shell: str, tmp_path: Path
) -> None:
    path = only(tmp_path / "bin")
    (tmp_path / "list").write_text(listed)
    (tmp_path / "bin/curl").write_text(
        f"#!/bin/sh\ncase $* in *models*) cat {tmp_path}/list ;; *) cat > {tmp_path}/sent ;; esac\necho\necho '200 0.1 '\n"
    )
    (tmp_path / "bin/curl").chmod(0o755)
    do("llm.completion", {}, shell=shell, path=path)
    assert json.loads((tmp_path / "sent").read_text())["model"] == "org/m-1.5:fp8"


@pytest.mark.parametrize(
    ("stdout", "verdict", "words"),
    [
        ('{"data":[]}\n200 0.01 \n', Verdict.UNKNOWN, "names no model"),
        ("=== completion\n{}\n200 0.01 \n", Verdict.UNHEALTHY, "200 without a completion"),
        ('=== completion\n{"choices":[]}\n200 0.01 \n', Verdict.UNHEALTHY, "200 without a completion"),
        ("=== completion\nboom\n500 0.01 \n", Verdict.UNHEALTHY, "says 500: boom"),
        ("=== completion\nno such model\n404 0.01 \n", Verdict.UNKNOWN, "says 404: no such model"),
        ("unauthorized\n401 0.01 \n", Verdict.UNKNOWN, "/v1/models says 401"),
        ("=== completion\n", Verdict.UNKNOWN, "/v1/completions"),
        ("=== completion\n\n000 0.01 Empty reply from server\n", Verdict.UNHEALTHY, "Empty reply"),
    ],
)
def test_every_other_answer_is_told_apart(stdout: str, verdict: Verdict, words: str) -> None:
    seen = judge("llm.completion", {}, answered(stdout))
    assert seen.ok
    assert seen.verdict is verdict
    assert words in seen.summary


def test_an_old_curls_complaint_about_its_own_options_is_no_finding() -> None:
    old = "curl: unknown --write-out variable: 'errormsg'\n"
    assert judge("http.check", {"port": 1}, answered("ok\n200 0.01 \n", old)).verdict is Verdict.HEALTHY
    refused = answered("\n000 0.01 \n", f"{old}curl: (7) Failed to connect\n", 7)
    assert "connection refused" in judge("http.check", {"port": 1}, refused).summary


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("http.check", {"port": 0}),
        ("http.check", {"port": 80, "path": "health"}),
        ("http.check", {"port": 80, "path": "/a b"}),
        ("http.check", {"port": 80, "patience": "1s"}),
        ("vllm.progress", {"window": "1h"}),
        ("llm.completion", {"prompt": ""}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(kind: str, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        plan(kind, given)


READING = 'vllm:num_requests_running{model_name="m"} 1\nvllm:generation_tokens_total{model_name="m"} %d\n\n200 0.01\n'


@pytest.mark.parametrize(
    ("kind", "given", "printed", "verdict"),
    [
        ("http.check", {"port": 8000}, "\n200 0.004\n", Verdict.HEALTHY),
        (
            "llm.completion",
            {},
            '{"data":[{"id":"m"}]}\n200 0.003\n=== completion\n{"choices":[{"text":" Hello"}]}\n200 0.210\n',
            Verdict.HEALTHY,
        ),
        ("vllm.progress", {}, f"{READING % 1}=== second reading\n{READING % 9}", Verdict.HEALTHY),
        ("vllm.progress", {}, f"{READING % 1}=== second reading\n{READING % 1}", Verdict.UNHEALTHY),
    ],
)
def test_good_news_of_a_command_that_did_not_end_well_is_not_believed_and_bad_news_is(
    kind: str, given: dict[str, Any], printed: str, verdict: Verdict
) -> None:
    assert judge(kind, given, answered(printed)).verdict is verdict
    found = judge(kind, given, answered(printed, exit_code=1))
    if verdict is Verdict.UNHEALTHY:
        assert found.verdict is Verdict.UNHEALTHY
    else:
        assert found.verdict is Verdict.UNKNOWN
        assert found.summary.endswith("; but the command ended with exit code 1")
        assert found.advice
