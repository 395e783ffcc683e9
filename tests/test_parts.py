"""The real parts, each alone, and then the floor of the whole path: drain, let finish, maintenance, restart, serve again."""

import contextlib
import http.client
import http.server
import json
import os
import queue
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.parts.alertmanager import Alertmanager
from tests.parts.chromium import Chromium
from tests.parts.dockerd import Dockerd
from tests.parts.haproxy import SERVED_BY, HAProxy
from tests.parts.programs import (
    Child,
    ProgramFailedError,
    require,
    short_directory,
    socket_path,
    wait_until,
)
from tests.parts.vllm import Vllm

REPOSITORY = Path(__file__).parent.parent
LABELS = {"alertname": "VLLMStalled", "instance": "gpu-03", "severity": "page"}


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.read().decode()


def samples(url: str) -> dict[str, float]:
    """Metrics by sample name; the pretend replica has one engine, so names are unique but for buckets."""
    families = text_string_to_metric_families(get(f"{url}/metrics")[1])
    return {sample.name: sample.value for family in families for sample in family.samples}


def complete(url: str, *, tokens: int = 1) -> tuple[str, str]:
    """One streamed completion: the replica that served it, and its text; a stream broken off raises."""
    body = json.dumps({"prompt": "How are you?", "max_tokens": tokens, "stream": True}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = answer.read().decode().split("\n\n")
        served_by = answer.headers.get(SERVED_BY, "")
    events = [line.removeprefix("data: ") for line in lines if line]
    if events[-1:] != ["[DONE]"]:
        raise http.client.IncompleteRead(b"")
    return served_by, "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])


class Webhook:
    """Takes webhooks on loopback and hands them over through a queue."""

    def __init__(self) -> None:
        self.arrived: queue.Queue[tuple[str | None, dict[str, Any]]] = queue.Queue()
        arrived = self.arrived

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                arrived.put((self.headers["authorization"], json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    thread = threading.Thread(target=hook.server.serve_forever, args=(0.05,))
    thread.start()
    yield hook
    hook.server.shutdown()
    thread.join()
    hook.server.server_close()


@pytest.fixture
def short() -> Iterator[Path]:
    with short_directory("parts") as directory:
        yield directory


# ── programs ──


def test_a_missing_program_leaves_the_test_out_and_names_the_package() -> None:
    with pytest.raises(
        pytest.skip.Exception, match="no-such-program is missing: apt-get install some-package"
    ):
        require("no-such-program", package="some-package")


def test_a_program_that_ends_at_its_start_fails_with_its_log(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "echo the port is taken >&2; exit 3"], tmp_path / "log")
    with pytest.raises(ProgramFailedError, match=r"(?s)code 3.*the port is taken"):
        child.start(lambda: False)
    assert not child.running


def test_a_program_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    child = Child(["sleep", "600"], tmp_path / "log")
    with pytest.raises(ProgramFailedError, match=r"getting ready did not happen within 0\.2 s"):
        child.start(lambda: False, seconds=0.2)
    assert not child.running


def test_a_program_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    child = Child(["sh", "-c", f"trap '' TERM; touch {deaf}; while :; do sleep 0.05; done"], tmp_path / "log")
    child.start(deaf.exists)
    pid = child.pid
    child.stop(grace=0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_socket_path_too_long_for_the_kernel_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="the kernel takes 107"):
        socket_path(Path("/") / ("x" * 120))


# ── nothing may be left out ──


@pytest.mark.parametrize(
    ("strict", "code", "counts"),
    [("0", 0, "1 passed, 1 skipped, 1 xfailed"), ("1", 1, "1 failed, 1 passed, 1 xfailed")],
)
def test_a_skip_is_told_and_is_a_failure_where_nothing_may_be_left_out(
    tmp_path: Path, strict: str, code: int, counts: str
) -> None:
    (tmp_path / "conftest.py").write_text("from tests.parts.noskip import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "from tests.parts.programs import require\n"
        "def test_good(): pass\n"
        "@pytest.mark.xfail\n"
        "def test_known(): assert False\n"
        "def test_left_out(): require('gadget', package='gadget')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "SICKBAY_NO_SKIP": strict, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert "Left out: 1 test: gadget is missing: apt-get install gadget" in done.stdout
    assert counts in done.stdout.splitlines()[-1]
    assert done.returncode == code


# ── the pretend vLLM ──


def test_a_hung_engine_says_it_is_healthy_and_makes_no_token() -> None:
    with ThreadPoolExecutor() as clients, Vllm() as vllm:
        assert complete(vllm.url, tokens=3) == ("", " token0 token1 token2")
        vllm.stall()
        held = clients.submit(complete, vllm.url, tokens=2)
        vllm.wait_running(1)
        before = samples(vllm.url)
        assert get(f"{vllm.url}/health") == (200, "")
        assert json.loads(get(f"{vllm.url}/v1/models")[1])["data"][0]["id"] == vllm.model
        assert before["vllm:num_requests_running"] == 1
        assert before["vllm:generation_tokens_total"] == 3
        assert before["vllm:prompt_tokens_total"] == 3
        assert before["vllm:iteration_tokens_total_count"] == 3
        assert before["vllm:iteration_tokens_total_sum"] == 6
        assert 0 < before["vllm:kv_cache_usage_perc"] < 1
        assert samples(vllm.url) == before
        vllm.resume()
        assert held.result(10) == ("", " token0 token1")
        vllm.wait_running(0)
        assert samples(vllm.url)["vllm:generation_tokens_total"] == 5
        assert vllm.served == 2


def test_metrics_carry_the_labels_of_the_real_vllm() -> None:
    with Vllm(model="m") as vllm:
        text = get(f"{vllm.url}/metrics")[1]
    assert 'vllm:generation_tokens_total{engine="0",model_name="m"} 0.0' in text
    assert "# TYPE vllm:iteration_tokens_total histogram" in text
    assert 'vllm:num_requests_waiting{engine="0",model_name="m"} 0.0' in text


def test_requests_in_flight_can_finish_while_the_engine_still_hangs() -> None:
    with ThreadPoolExecutor() as clients, Vllm() as vllm:
        vllm.stall()
        old = clients.submit(complete, vllm.url)
        vllm.wait_running(1)
        vllm.finish_in_flight()
        assert old.result(10)[1] == " token0"
        new = clients.submit(complete, vllm.url)
        vllm.wait_running(1)
        assert not new.done()
        vllm.resume()
        assert new.result(10)[1] == " token0"


def test_a_restarted_container_has_lost_its_hang_and_its_requests() -> None:
    started: list[str | None] = ["first"]
    with ThreadPoolExecutor() as clients, Vllm(started_at=lambda: started[-1]) as vllm:
        vllm.stall()
        held = clients.submit(complete, vllm.url)
        vllm.wait_running(1)
        started.append(None)
        with pytest.raises((http.client.RemoteDisconnected, OSError)):
            get(f"{vllm.url}/health")
        assert isinstance(held.exception(10), http.client.HTTPException | OSError)
        started.append("second")
        assert complete(vllm.url) == ("", " token0")
        assert samples(vllm.url)["vllm:generation_tokens_total"] == 1


# ── Docker ──


def test_a_restart_changes_when_the_container_was_started(dockerd: Dockerd) -> None:
    assert dockerd.import_busybox() in dockerd.docker("images", "--format", "{{.Repository}}")
    dockerd.run("vllm")
    first = dockerd.started_at("vllm")
    began = time.monotonic()
    dockerd.restart("vllm")
    took = time.monotonic() - began
    second = dockerd.started_at("vllm")
    assert first is not None
    assert second is not None
    assert second > first
    assert took < 5, "PID 1 must hear SIGTERM, else each restart waits for the whole grace time"
    assert "INFO: Shutting down" in dockerd.docker("logs", "vllm")
    assert dockerd.docker("inspect", "--format", "{{.State.StartedAt}}", "vllm") == second
    dockerd.docker("stop", "vllm")
    assert dockerd.started_at("vllm") is None


def test_a_stopped_daemon_leaves_nothing_behind(dockerd: Dockerd) -> None:
    dockerd.run("vllm")
    assert list(dockerd.descendants())
    dockerd.stop()
    assert not list(dockerd.descendants())
    assert not dockerd.mounts()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{dockerd.cgroup}"))


# ── HAProxy ──


def test_the_runtime_socket_moves_a_server_through_its_states(short: Path) -> None:
    with (
        Vllm() as one,
        Vllm() as two,
        HAProxy(short, {"gpu-03": one.address, "gpu-04": two.address}) as balancer,
    ):
        assert {complete(balancer.frontend)[0] for _ in range(2)} == {"gpu-03", "gpu-04"}
        assert balancer.command("set server be_vllm/gpu-03 state drain") == ""
        assert balancer.server_state("gpu-03") == "DRAIN"
        assert {complete(balancer.frontend)[0] for _ in range(4)} == {"gpu-04"}
        assert balancer.command("set server be_vllm/gpu-03 state maint") == ""
        assert balancer.server_state("gpu-03") == "MAINT"
        balancer.command("set server be_vllm/gpu-03 state ready")
        balancer.wait_for("gpu-03", "UP")
        assert "No such server" in balancer.command("set server be_vllm/gpu-99 state drain")


def test_a_server_whose_health_check_fails_is_down(short: Path) -> None:
    with Vllm() as one, HAProxy(short, {"gpu-03": one.address, "gpu-04": "127.0.0.1:1"}) as balancer:
        balancer.wait_for("gpu-04", "DOWN")
        assert balancer.server_state("gpu-03") == "UP"


# ── Alertmanager ──


def test_alertmanager_sends_firing_and_resolved_with_the_secret(tmp_path: Path, webhook: Webhook) -> None:
    with Alertmanager(tmp_path, webhook.url, "s3cret") as manager:
        manager.fire(LABELS, {"summary": "vLLM on gpu-03 stopped answering"})
        secret, firing = webhook.arrived.get(timeout=10)
        assert secret == "Bearer s3cret"
        assert firing["version"] == "4"
        assert firing["status"] == "firing"
        assert firing["alerts"][0]["labels"] == LABELS
        assert firing["alerts"][0]["fingerprint"] == manager.alerts()[0]["fingerprint"]
        manager.resolve(LABELS)
        _, resolved = webhook.arrived.get(timeout=10)
        assert resolved["status"] == "resolved"
        assert resolved["alerts"][0]["startsAt"] == firing["alerts"][0]["startsAt"]
        assert resolved["alerts"][0]["fingerprint"] == firing["alerts"][0]["fingerprint"]


# ── Chromium ──


def test_the_browser_shows_a_page_and_asks_no_other_machine(chromium: Chromium, tmp_path: Path) -> None:
    with Vllm() as vllm:
        page = chromium.page(f"{vllm.url}/v1/models")
        assert vllm.model in page.content()
        page.set_content('<h1>ward</h1><img src="http://192.0.2.1/pixel.png">')
        assert page.get_by_role("heading").inner_text() == "ward"
        page.screenshot(path=tmp_path / "page.png")
    assert chromium.refused == ["http://192.0.2.1/pixel.png"]
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


# ── the floor of the whole path ──


@contextlib.contextmanager
def two_replicas(daemon: Dockerd, directory: Path) -> Iterator[tuple[Vllm, Vllm, HAProxy]]:
    """gpu-03 lives and dies with the container `vllm`, gpu-04 is a healthy neighbour; HAProxy stands in front."""
    daemon.run("vllm")
    with (
        Vllm(started_at=lambda: daemon.started_at("vllm")) as sick,
        Vllm() as well,
        HAProxy(directory, {"gpu-03": sick.address, "gpu-04": well.address}) as balancer,
    ):
        yield sick, well, balancer


def hold_request(sick: Vllm, balancer: HAProxy, clients: ThreadPoolExecutor) -> Future[tuple[str, str]]:
    """Hang gpu-03 and put requests through HAProxy until it holds one."""
    sick.stall()
    requests = [clients.submit(complete, balancer.frontend, tokens=5) for _ in range(2)]
    sick.wait_running(1)
    wait_until(lambda: any(request.done() for request in requests), "the answer of the healthy replica")
    served = next(request for request in requests if request.done())
    assert served.result()[0] == "gpu-04"
    return next(request for request in requests if request is not served)


def test_a_drained_replica_finishes_its_request_and_serves_again_after_the_restart(
    dockerd: Dockerd, short: Path
) -> None:
    with ThreadPoolExecutor() as clients, two_replicas(dockerd, short) as (sick, well, balancer):
        in_flight = hold_request(sick, balancer, clients)
        before = dockerd.started_at("vllm")

        balancer.command("set server be_vllm/gpu-03 state drain")
        assert balancer.sessions("gpu-03") == 1
        assert {complete(balancer.frontend)[0] for _ in range(4)} == {"gpu-04"}
        assert not in_flight.done()

        sick.finish_in_flight()
        assert in_flight.result(10) == ("gpu-03", " token0 token1 token2 token3 token4")
        wait_until(lambda: balancer.sessions("gpu-03") == 0, "the end of the sessions on gpu-03")
        balancer.command("set server be_vllm/gpu-03 state maint")
        assert balancer.server_state("gpu-03") == "MAINT"

        dockerd.restart("vllm")
        after = dockerd.started_at("vllm")
        assert before is not None
        assert after is not None
        assert after > before

        assert complete(sick.url) == ("", " token0"), "verified before traffic returns"
        balancer.command("set server be_vllm/gpu-03 state ready")
        balancer.wait_for("gpu-03", "UP")
        assert {complete(balancer.frontend)[0] for _ in range(4)} == {"gpu-03", "gpu-04"}
        assert sick.served >= 2
        assert well.served >= 5


def test_a_restart_without_a_drain_breaks_the_request_in_flight(dockerd: Dockerd, short: Path) -> None:
    with ThreadPoolExecutor() as clients, two_replicas(dockerd, short) as (sick, _, balancer):
        in_flight = hold_request(sick, balancer, clients)
        dockerd.restart("vllm")
        assert isinstance(in_flight.exception(10), http.client.HTTPException | OSError)
