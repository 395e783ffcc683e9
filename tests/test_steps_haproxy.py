"""The HAProxy kinds against a real HAProxy, through every program that can speak to its socket."""

import contextlib
import csv
import json
import socketserver
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bot.steps import KINDS
from bot.steps.kind import CannotPlan, Judgement
from bot.verdict import Verdict
from tests.parts.haproxy import HAProxy
from tests.parts.posix import SHELLS, answered, only
from tests.parts.programs import free_port, require, short_directory, wait_until
from tests.parts.step import do, host, judge, plan
from tests.parts.vllm import Vllm

SPEAKERS = {"socat": "socat", "python3": "python3", "perl": "perl", "nc": "netcat-openbsd"}
"""Programs, and the Debian packages they are in."""


@pytest.fixture
def balancer() -> Iterator[HAProxy]:
    """Two replicas behind one HAProxy."""
    with (
        Vllm() as one,
        Vllm() as two,
        short_directory("lb") as directory,
        HAProxy(directory, {"gpu-03": one.address, "gpu-04": two.address}) as proxy,
    ):
        yield proxy


@contextlib.contextmanager
def over_tcp(proxy: HAProxy) -> Iterator[int]:
    """The runtime socket on a TCP port, one line and its answer a connection."""

    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(proxy.command(self.rfile.readline().decode().strip()).encode() + b"\n\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Line) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def context(proxy: HAProxy, server: str = "gpu-03") -> dict[str, Any]:
    return host(haproxy={"host": "lb-01", "socket": str(proxy.socket), "server": f"be_vllm/{server}"})


def act(
    proxy: HAProxy,
    kind: str,
    server: str = "gpu-03",
    shell: str = "dash",
    found: Mapping[str, str] | None = None,
    **given: Any,
) -> Judgement:
    return do(f"haproxy.{kind}", given, context(proxy, server), shell=shell, found=found)


def left(seen: Judgement, **more: str) -> dict[str, str]:
    """What the ledger makes of an answer, for the next command about the server."""
    return {"OWN": seen.facts["state"], "SELECTED": str(seen.facts["selected"]), **more}


def ask(proxy: HAProxy) -> None:
    """Ask the service for one completion."""
    body = json.dumps({"prompt": "How are you?", "max_tokens": 1}).encode()
    request = urllib.request.Request(
        f"{proxy.frontend}/v1/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def served(proxy: HAProxy, requests: int) -> None:
    """Let the service answer so many requests, one after another."""
    for _ in range(requests):
        ask(proxy)


def backlog(proxy: HAProxy) -> int:
    """How many requests wait for any server."""
    rows = csv.DictReader(proxy.command("show stat").removeprefix("# ").splitlines())
    return next(int(row["qcur"]) for row in rows if (row["pxname"], row["svname"]) == ("be_vllm", "BACKEND"))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_server_is_drained_put_into_maintenance_and_brought_back(balancer: HAProxy, shell: str) -> None:
    before = act(balancer, "state", shell=shell)
    assert before.verdict is Verdict.HEALTHY
    assert before.facts["state"] == "ready"
    assert before.facts["backend_up"] == 1
    assert "be_vllm/gpu-03: ready (UP), 0 sessions, 1 other up" in before.summary

    drained = act(balancer, "drain", shell=shell)
    assert drained.ok, drained.summary
    assert balancer.server_state("gpu-03") == "DRAIN"
    assert act(balancer, "state", shell=shell).verdict is None

    assert drained.facts["changed"] is True
    deeper = act(balancer, "maintenance", shell=shell, found=left(drained))
    assert deeper.ok, deeper.summary
    assert balancer.server_state("gpu-03") == "MAINT"

    back = act(balancer, "undrain", shell=shell, found=left(deeper, AGE="0"))
    assert back.ok, back.summary
    assert back.facts["changed"] is True
    assert back.facts["state"] == "ready"
    balancer.wait_for("gpu-03", "UP")


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_any_program_that_can_speak_to_a_socket_will_do(
    balancer: HAProxy, speaker: str, tmp_path: Path
) -> None:
    require(speaker, package=SPEAKERS[speaker])
    path = only(tmp_path / "bin", [speaker])
    seen = do("haproxy.drain", {}, context(balancer), path=path)
    assert seen.ok, seen.summary
    assert balancer.server_state("gpu-03") == "DRAIN"


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_socket_by_address_and_port_will_do_as_well(
    balancer: HAProxy, speaker: str, tmp_path: Path
) -> None:
    require(speaker, package=SPEAKERS[speaker])
    path = only(tmp_path / "bin", [speaker])
    with over_tcp(balancer) as port:
        given = {"lb": "lb-01", "socket": f"127.0.0.1:{port}", "server": "be_vllm/gpu-03"}
        seen = do("haproxy.drain", given, path=path)
    assert seen.ok, seen.summary
    assert balancer.server_state("gpu-03") == "DRAIN"


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_balancer_that_does_not_answer_is_unknown_and_not_changed(speaker: str, tmp_path: Path) -> None:
    require(speaker, package=SPEAKERS[speaker])
    path = only(tmp_path / "bin", [speaker])
    given = {"lb": "lb-01", "socket": f"127.0.0.1:{free_port()}", "server": "be/x"}
    nobody = do("haproxy.state", given, path=path)
    assert nobody.verdict is Verdict.UNKNOWN
    assert "could not be asked" in nobody.summary
    assert not do("haproxy.drain", given, path=path).ok


def test_without_such_a_program_it_is_said_what_to_install(balancer: HAProxy, tmp_path: Path) -> None:
    path = only(tmp_path / "bin")
    drained = do("haproxy.drain", {}, context(balancer), path=path)
    assert not drained.ok
    assert "no program here can speak to a socket" in drained.summary
    assert drained.advice == "install socat on the load balancer"
    assert do("haproxy.state", {}, context(balancer), path=path).verdict is Verdict.UNKNOWN
    assert balancer.server_state("gpu-03") == "UP"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("state", "word"), [("drain", "drained"), ("maint", "in maintenance")])
def test_a_server_that_somebody_else_took_out_is_left_alone(
    balancer: HAProxy, state: str, word: str, shell: str
) -> None:
    balancer.command(f"set server be_vllm/gpu-03 state {state}")
    refused = act(balancer, "drain", shell=shell)
    assert not refused.ok
    assert refused.summary == f"refused: be_vllm/gpu-03 is {word} already: somebody else took it out"
    assert "undrain-host" in refused.advice
    assert refused.facts == {"changed": False}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("state", ["drain", "maint"])
def test_what_somebody_else_took_out_may_be_left_so_and_is_not_ours(
    balancer: HAProxy, state: str, shell: str
) -> None:
    balancer.command(f"set server be_vllm/gpu-03 state {state}")
    seen = act(balancer, "drain", shell=shell, taken="leave")
    assert seen.ok, seen.summary
    assert seen.facts["changed"] is False
    assert "somebody else took it out, and it is theirs" in seen.summary
    assert act(balancer, "state").facts["state"] == state


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("state", "word"), [("drain", "drained"), ("maint", "in maintenance")])
def test_what_is_not_ours_is_neither_put_into_maintenance_nor_put_back(
    balancer: HAProxy, state: str, word: str, shell: str
) -> None:
    balancer.command(f"set server be_vllm/gpu-03 state {state}")
    for kind in ("undrain", "maintenance"):
        refused = act(balancer, kind, shell=shell)
        assert not refused.ok
        assert f"be_vllm/gpu-03 is {word}" in refused.summary
        assert "somebody else took it out" in refused.summary
        assert refused.advice == (
            "ask who drained gpu-03; `undrain-host` with take_over=true puts it back all the same"
        )
    assert act(balancer, "state").facts["state"] == state
    assert act(balancer, "undrain", shell=shell, found={"OWN": "any"}).ok


@pytest.mark.parametrize("shell", SHELLS)
def test_what_somebody_has_changed_since_is_no_longer_ours(balancer: HAProxy, shell: str) -> None:
    found = left(act(balancer, "drain", shell=shell))
    balancer.command("set server be_vllm/gpu-03 state maint")
    refused = act(balancer, "undrain", shell=shell, found=found)
    assert refused.summary == (
        "refused: be_vllm/gpu-03 is in maintenance, and Sickbay left it in drain: somebody else has changed it since"
    )
    assert not act(balancer, "maintenance", shell=shell, found=found).ok
    assert balancer.server_state("gpu-03") == "MAINT"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_took_requests_since_was_put_back_and_taken_out_again_by_somebody(
    balancer: HAProxy, shell: str
) -> None:
    found = left(act(balancer, "drain", shell=shell))
    served(balancer, 2)
    assert act(balancer, "state").facts["selected"] == int(found["SELECTED"]), "a drained server was chosen"
    balancer.command("set server be_vllm/gpu-03 state ready")
    served(balancer, 2)
    balancer.command("set server be_vllm/gpu-03 state drain")
    refused = act(balancer, "undrain", shell=shell, found=found)
    assert "has taken requests since Sickbay took it out" in refused.summary
    assert balancer.server_state("gpu-03") == "DRAIN"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_younger_maintenance_is_somebody_elses(balancer: HAProxy, shell: str) -> None:
    deeper = act(balancer, "maintenance", shell=shell, found=left(act(balancer, "drain")))
    balancer.command("set server be_vllm/gpu-03 state ready")
    balancer.wait_for("gpu-03", "UP")
    balancer.command("set server be_vllm/gpu-03 state maint")
    refused = act(balancer, "undrain", shell=shell, found=left(deeper, AGE="600"))
    assert "the maintenance of be_vllm/gpu-03 is younger than Sickbay's" in refused.summary
    assert act(balancer, "undrain", shell=shell, found=left(deeper, AGE="0")).ok


def test_a_haproxy_that_was_started_anew_knows_no_drain_of_ours(balancer: HAProxy) -> None:
    served(balancer, 4)
    found = left(act(balancer, "drain"))
    assert int(found["SELECTED"]) > 0
    balancer.stop()
    balancer.start()
    balancer.command("set server be_vllm/gpu-03 state drain")
    refused = act(balancer, "undrain", found=found)
    assert "HAProxy was started anew" in refused.summary
    assert "take_over=true" in refused.advice


@pytest.mark.parametrize("shell", SHELLS)
def test_what_somebody_has_put_back_needs_no_undrain(balancer: HAProxy, shell: str) -> None:
    found = left(act(balancer, "drain", shell=shell))
    balancer.command("set server be_vllm/gpu-03 state ready")
    back = act(balancer, "undrain", shell=shell, found=found)
    assert back.ok
    assert back.facts["changed"] is False
    assert "takes traffic already: somebody else put it back" in back.summary
    again = act(balancer, "drain", shell=shell, found=found)
    assert not again.ok
    assert "somebody else has put it back" in again.summary
    assert again.advice == "ask who put gpu-03 back; it takes traffic now"
    assert balancer.server_state("gpu-03") == "UP"


def test_requests_that_waited_for_the_server_are_not_taken_for_new_ones() -> None:
    """Behind `maxconn` a request may have been waiting when the server was drained."""
    with (
        Vllm() as one,
        Vllm() as two,
        short_directory("lb") as directory,
        HAProxy(directory, {"gpu-03": f"{one.address} maxconn 1", "gpu-04": two.address}) as proxy,
        ThreadPoolExecutor() as clients,
    ):
        one.stall()
        proxy.command("set server be_vllm/gpu-04 state maint")
        for _ in range(3):
            clients.submit(ask, proxy)
        wait_until(lambda: int(proxy.stat("gpu-03")["scur"]) == 1, "a request in flight")
        wait_until(lambda: int(proxy.stat("gpu-03")["qcur"]) + backlog(proxy) == 2, "two that wait")
        proxy.command("set server be_vllm/gpu-04 state ready")
        drained = act(proxy, "drain", last="allow")
        assert drained.ok, drained.summary
        found = left(drained)
        one.resume()
        wait_until(lambda: int(proxy.stat("gpu-03")["scur"]) == 0, "the end of all")
        back = act(proxy, "undrain", found=found)
        assert back.ok, (back.summary, drained.facts)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_last_ready_server_is_not_drained_unless_that_is_allowed(balancer: HAProxy, shell: str) -> None:
    balancer.command("set server be_vllm/gpu-04 state maint")
    refused = act(balancer, "drain", shell=shell)
    assert not refused.ok
    assert "no other server of be_vllm is ready" in refused.summary
    assert balancer.server_state("gpu-03") == "UP"
    assert act(balancer, "drain", shell=shell, last="allow").ok
    assert balancer.server_state("gpu-03") == "DRAIN"


def test_a_server_that_is_down_is_no_other_ready_one() -> None:
    with Vllm() as one, short_directory("lb") as directory:
        servers = {"gpu-03": one.address, "gpu-04": "127.0.0.1:9"}
        with HAProxy(directory, servers) as proxy:
            proxy.wait_for("gpu-04", "DOWN")
            assert "nobody would serve" in act(proxy, "drain").summary
            down = act(proxy, "state", "gpu-04")
            assert down.verdict is Verdict.UNHEALTHY


def test_maintenance_wants_a_drained_server(balancer: HAProxy) -> None:
    refused = act(balancer, "maintenance")
    assert not refused.ok
    assert "is not drained" in refused.summary
    assert balancer.server_state("gpu-03") == "UP"


def test_a_server_the_balancer_does_not_know_is_refused_and_named(balancer: HAProxy) -> None:
    refused = act(balancer, "drain", "gpu-30")
    assert not refused.ok
    assert "HAProxy knows no server be_vllm/gpu-30" in refused.summary
    seen = act(balancer, "state", "gpu-30")
    assert seen.verdict is Verdict.UNKNOWN
    assert "did you mean" in seen.summary


def test_waiting_ends_when_the_last_session_does(balancer: HAProxy) -> None:
    seen = act(balancer, "state", wait="30s")
    assert seen.facts["sessions"] == 0


def test_waiting_is_bounded_when_a_session_never_ends(balancer: HAProxy, tmp_path: Path) -> None:
    stat = (
        "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,"
        "\nbe_vllm,gpu-03,0,0,7,7,,9,1,1,,0,,0,0,0,0,DRAIN,1,\n"
    )
    path = only(tmp_path / "bin")
    (tmp_path / "bin/socat").write_text(f"#!/bin/sh\ncat > /dev/null\ncat <<'END'\n{stat}END\n")
    (tmp_path / "bin/socat").chmod(0o755)
    seen = do("haproxy.state", {"wait": "1s"}, context(balancer), path=path)
    assert seen.ok
    assert seen.facts["sessions"] == 7


def test_silence_of_the_balancer_is_not_taken_for_success() -> None:
    given = {"lb": "lb-01", "socket": "/run/x.sock", "server": "be/gpu-03"}
    mute = judge("haproxy.drain", given, answered(""))
    assert not mute.ok
    header = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,"
    table = f"{header}\nbe,gpu-03,0,0,2,2,,2,1,1,,0,,0,0,0,0,UP,1,\n"
    denied = judge("haproxy.drain", given, answered(f"Permission denied.\n\n{table}"))
    assert not denied.ok
    assert "HAProxy said: Permission denied." in denied.summary
    assert "level admin" in denied.advice


def test_the_command_runs_on_the_load_balancer_and_holds_no_value() -> None:
    seen = host(haproxy={"host": "lb-01", "server": "be_vllm/gpu-03"})
    for kind in ("haproxy.drain", "haproxy.maintenance", "haproxy.undrain", "haproxy.state"):
        uses = KINDS[kind]
        effect = uses.plan(uses.arguments.model_validate({}), seen)
        assert effect.host == "lb-01"
        assert "gpu-03" not in effect.command.text
        assert effect.command.env["SOCKET"] == "/run/haproxy/admin.sock"
        assert uses.mutating is effect.command.mutating


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({}, "`host` is missing"),
        ({"haproxy": {"host": "lb-01"}}, "`server` is missing"),
        ({"haproxy": "lb-01"}, "not a mapping"),
        ({"haproxy": {"host": "lb-01", "server": "be/a; disable server be/b"}}, "`server` is not right"),
        ({"haproxy": {"host": "lb-01", "server": "be/a", "socket": "/x,exec=y"}}, "`socket` is not right"),
    ],
)
def test_a_host_without_its_place_at_the_balancer_is_not_planned(
    written: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CannotPlan) as error:
        plan("haproxy.drain", {}, host(**written))
    assert complaint in error.value.what
    assert "haproxy: {host: lb-01" in error.value.advice
