"""Sickbay as a whole: it starts, it stops and leaves nothing, and what cannot start says so."""

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest
from slack_sdk.signature import SignatureVerifier

from bot.app import App
from bot.assembly import Assembly
from bot.cli.demo import webhook
from bot.commands.verbs import Asker
from bot.config.config import load
from bot.effect import Command, Finished
from bot.errors import SickbayError
from bot.runs.run import RunState
from bot.sim.slack import PretendSlack
from bot.slack.manifest import SCOPES
from bot.store import Store
from bot.store.timeline import verify
from tests.parts.clinic import SECRET, Clinic
from tests.parts.leaks import nothing_left
from tests.parts.programs import free_port, wait_until
from tests.parts.states import ALICE, BEGIN

LABELS = {"alertname": "VLLMStalled", "host": "gpu-01"}


def assembly(clinic: Clinic, **environ: str) -> Assembly:
    everything = clinic.environ | environ
    return Assembly.of(*load(clinic.config, everything), everything)


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {name.replace("_", "-"): headers[name] for name in headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def alone(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in a loop of its own, after whose end nothing may be left."""
    with nothing_left():
        asyncio.run(work())


def settings(slack: PretendSlack, **more: str) -> dict[str, str]:
    return {"channel": "oncall", "base_url": slack.base_url, **more}


def tokens(slack: PretendSlack) -> dict[str, str]:
    return {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_APP_TOKEN": slack.app_token}


# ── starting and stopping ──
def test_it_starts_is_well_and_leaves_nothing_behind(
    clinic: Clinic, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-demo")  # slack-bolt looks there too, and would warn

    async def live() -> None:
        async with PretendSlack(scopes=tuple(SCOPES)) as slack:
            clinic.write(slack=settings(slack))
            async with App(assembly(clinic, **tokens(slack))) as app:
                await slack.wait_for_connection()
                code, health = await asyncio.to_thread(ask, f"{app.address}/healthz")
                assert (code, json.loads(health)["wrong"]) == (200, {})
                assert "delivery" in {thread.name for thread in threading.enumerate()}

    asyncio.run(live())  # what libraries make once and keep is no leak
    alone(live)
    assert [one for one in caplog.records if one.levelname not in ("INFO", "DEBUG")] == []


def test_stopping_waits_for_no_caller_who_dawdles(clinic: Clinic) -> None:
    async def live() -> None:
        app = App(assembly(clinic))
        await app.start()
        host, port = app.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as caller:
            head = f"POST /alerts/alertmanager HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
            caller.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
            await asyncio.sleep(0.1)
            began = time.monotonic()
            await app.stop()
            assert time.monotonic() - began < 8

    alone(live)


def test_two_on_one_database_are_refused(clinic: Clinic) -> None:
    async def live() -> None:
        async with App(assembly(clinic)):
            with pytest.raises(SickbayError, match="another Sickbay is running"):
                await App(assembly(clinic)).start()

    alone(live)
    assert service(clinic) == ["service.started", "config.read", "service.stopped"], (
        "the other one never worked"
    )


def service(clinic: Clinic) -> list[str]:
    with closing(Store(clinic.folder / "sickbay.db")) as store:
        return [event.kind for event in store.timeline.after(0)]


def test_starts_and_stops_are_in_the_timeline_with_the_configuration_that_was_read(
    clinic: Clinic, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def live() -> None:
        async with App(assembly(clinic)):
            pass

    asyncio.run(live())
    path = clinic.folder / "sickbay.db"
    with closing(Store(path)) as store:
        started, config, stopped = store.timeline.after(0)
        head = store.timeline.head()[1]
    assert (started.kind, started.data["pid"], stopped.kind) == (
        "service.started",
        os.getpid(),
        "service.stopped",
    )
    assert config.data["sha256"] == hashlib.sha256(clinic.config.read_bytes()).hexdigest()
    assert (config.data["hosts"], config.data["people"]) == (4, ["alice", "bob"])
    assert f"the timeline ends with event 3, {head}" in caplog.text, "a head that stands elsewhere"
    assert verify(path, head).noted == 3


def test_a_start_that_fails_is_a_start_and_a_stop(clinic: Clinic) -> None:
    async def live() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            clinic.write(web={"listen": f"127.0.0.1:{other.getsockname()[1]}"})
            with pytest.raises(SickbayError, match="cannot listen"):
                await App(assembly(clinic)).start()

    asyncio.run(live())
    assert service(clinic) == ["service.started", "config.read", "service.stopped"]


# ── what cannot start ──
def test_a_port_that_is_taken_is_told_and_everything_is_stopped(clinic: Clinic) -> None:
    async def live() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            clinic.write(web={"listen": taken})
            with pytest.raises(
                SickbayError, match=f"cannot listen on {taken}: Address already in use"
            ) as told:
                await App(assembly(clinic)).start()
            assert "is another Sickbay running?" in told.value.advice
        async with App(assembly(clinic)) as again:
            assert again.address.endswith(taken)

    alone(live)


def test_a_refused_slack_token_is_told_and_everything_is_stopped(clinic: Clinic) -> None:
    async def live() -> None:
        async with PretendSlack() as slack:
            clinic.write(slack=settings(slack))
            app = App(assembly(clinic, SLACK_BOT_TOKEN="xoxb-of-somebody", SLACK_APP_TOKEN=slack.app_token))
            with pytest.raises(SickbayError, match="Slack refuses SLACK_BOT_TOKEN: invalid_auth") as told:
                await app.start()
            assert "xoxb-of-somebody" not in str(told.value)
            assert not app.delivery.alive

    alone(live)


def test_without_slack_alerts_are_taken_and_health_says_so(clinic: Clinic) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/api/"
    clinic.write(slack={"base_url": nobody})

    async def live() -> None:
        app = App(assembly(clinic, SLACK_BOT_TOKEN="xoxb-demo", SLACK_APP_TOKEN="xapp-demo"))
        starting = asyncio.create_task(app.start())
        await asyncio.to_thread(wait_until, lambda: bool(app.address), "the web door", seconds=5)
        alert = json.dumps(webhook("firing", BEGIN, BEGIN, LABELS, {})).encode()
        taken = await asyncio.to_thread(
            ask, f"{app.address}/alerts/alertmanager", alert, Authorization=f"Bearer {SECRET}"
        )
        assert taken[0] == 200, taken
        assert not starting.done(), "an alert need not wait for Slack"
        await asyncio.to_thread(wait_until, lambda: bool(app.store.incidents.newest()), "an incident")
        await starting
        code, health = await asyncio.to_thread(ask, f"{app.address}/healthz")
        assert code == 503
        assert list(json.loads(health)["wrong"]) == ["slack"]
        await app.stop()

    alone(live)


# ── Slack by HTTP ──
async def test_slack_by_http_is_taken_with_its_signature_only(clinic: Clinic) -> None:
    async with PretendSlack(scopes=tuple(SCOPES)) as slack:
        clinic.write(slack=settings(slack, transport="http"))
        environ = {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_SIGNING_SECRET": "the-signing-secret"}
        async with App(assembly(clinic, **environ)) as app:
            body = json.dumps({"type": "url_verification", "challenge": "are you there"}).encode()

            def signed(secret: str, at: int) -> dict[str, str]:
                signature = SignatureVerifier(secret).generate_signature(timestamp=str(at), body=body)
                return {"X_Slack_Request_Timestamp": str(at), "X_Slack_Signature": str(signature)}

            async def post(secret: str, at: float) -> tuple[int, str]:
                headers = {"Content_Type": "application/json", **signed(secret, int(at))}
                return await asyncio.to_thread(ask, f"{app.address}/slack/events", body, **headers)

            assert (await post("another-secret", time.time()))[0] == 401
            assert (await post("the-signing-secret", time.time() - 3600))[0] == 401, "replayed an hour later"
            code, answer = await post("the-signing-secret", time.time())
            assert code == 200
            assert "are you there" in answer


async def test_in_socket_mode_nothing_is_served_for_slack(clinic: Clinic) -> None:
    async with App(assembly(clinic)) as app:
        assert (await asyncio.to_thread(ask, f"{app.address}/slack/events", b"{}"))[0] == 404


# ── SIGTERM ──
def test_sigterm_ends_at_once_and_what_goes_on_a_host_is_picked_up_again(clinic: Clinic) -> None:
    parts = assembly(clinic)
    host = parts.inventory.hosts["gpu-01"]
    remote = parts.remote()

    def written() -> str:
        look = Command("cat $HOME/slow 2>/dev/null || true")
        seen = remote.start(host, look, key="look", first_sent=None).outcome.result()
        assert isinstance(seen, Finished)
        return seen.stdout.text

    def ended() -> bool:
        run = parts.store.runs.get(1)
        return run is not None and run.state is RunState.SUCCEEDED

    try:
        with clinic.serving() as server:
            parts.commands.do("run slow gpu-01", Asker("alice", ALICE))
            wait_until(lambda: "begun" in written(), "the command begun")
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.end() == 0, server.text
            assert time.monotonic() - began < 2
        assert not ended()
        with clinic.serving() as server:
            assert re.search("going on with 1 interrupted run", server.text)
            wait_until(ended, "the end of the run", seconds=20)
        assert written().split() == ["begun", "done"], "once"
    finally:
        remote.close()
        parts.store.close()
