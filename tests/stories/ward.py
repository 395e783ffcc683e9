"""A ward: `sickbay serve` as a child, a pretend Slack, hosts of any kind; and what a monitor and people do to it."""

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bot.incident import Incident
from bot.runs.run import Attempt, Run
from bot.sim.fleet import PretendFleet, Timing
from bot.sim.slack import Delivery, Message, PretendSlackThread
from bot.store import Store
from tests.parts.programs import wait_until
from tests.parts.sshd import Sshd
from tests.parts.stage import attempts
from tests.stories.stage import SECRET, Serve

T = TypeVar("T")
Json = dict[str, Any]
QUICK = Timing(stop=0.2, start=0.5, drain=0.3, boot=1.0, answer=0.05)
SHIPPED = Path(__file__).parents[2] / "runbooks"
STALLED: Json = {
    "match": {"alertname": "VLLMStalled"},
    "runbook": "restart-container",
    "inputs": {"window": "1s", "drain_wait": "1s"},
}
"""The usual route, in a hurry."""


class Ward:
    """Sickbay among its neighbours."""

    def __init__(self, folder: Path, slack: PretendSlackThread, text: Json) -> None:
        self.folder = folder
        self.slack = slack
        self.text = {
            "slack": {"channel": "oncall", "base_url": slack.slack.base_url},
            "web": {"listen": "127.0.0.1:0"},
            "people": {
                "alice": {"slack": "U0ALICE", "roles": ["oncall"]},
                "bob": {"slack": "U0BOB", "roles": ["oncall"]},
            },
            **text,
        }
        self.environ = {
            "SLACK_BOT_TOKEN": slack.slack.bot_token,
            "SLACK_APP_TOKEN": slack.slack.app_token,
            "SICKBAY_ALERTMANAGER_SECRET": SECRET,
        }
        self.database = folder / "sickbay.db"
        self.config = folder / "sickbay.yaml"
        self.config.write_text(yaml.safe_dump(self.text))
        self.serve = Serve(self.config, self.environ)

    # ── the monitor ──
    def post(self, *alerts: Json, timeout: float = 30) -> tuple[int, Json]:
        """Post a webhook body; returns status and answer."""
        body = json.dumps({"version": "4", "status": "firing", "alerts": list(alerts)})
        return self.call("/alerts/alertmanager", body.encode(errors="surrogatepass"), timeout=timeout)

    def call(self, path: str, body: bytes | None = None, *, timeout: float = 30) -> tuple[int, Json]:
        """Ask the web door."""
        request = urllib.request.Request(
            f"{self.serve.address}{path}", body, {"Authorization": f"Bearer {SECRET}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    # ── what is stored ──
    @contextmanager
    def store(self) -> Iterator[Store]:
        """Read the database as another process would."""
        store = Store(self.database)
        try:
            yield store
        finally:
            store.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database itself, without a lock."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as db:
            return list(db.execute(query))

    def incidents(self) -> list[Incident]:
        """Return all incidents, oldest first."""
        with self.store() as store:
            return store.incidents.newest(limit=1000)[::-1]

    def run(self, number: int = 1) -> Run:
        """Return a run as it is stored."""
        with self.store() as store:
            found = store.runs.get(number)
            assert found is not None, f"there is no run {number}"
            return found

    def attempts(self, number: int = 1) -> dict[str, Attempt]:
        """Return the last attempt of each step of a run on one host."""
        with self.store() as store:
            return {one.step: one for one in attempts(store, number)}

    def until(self, ready: Callable[[Store], Any], what: str, seconds: float = 20) -> None:
        """Wait until the store says so."""
        with self.store() as store:
            wait_until(lambda: bool(ready(store)), what, seconds=seconds)

    def ended(self, number: int = 1, seconds: float = 30) -> Run:
        """Wait for the end of a run."""
        self.until(
            lambda store: (run := store.runs.get(number)) and run.state.ended,
            f"the end of run {number}",
            seconds,
        )
        return self.run(number)

    def begun(self, step: str, number: int = 1, seconds: float = 20) -> None:
        """Wait until a step of a run has begun."""
        self.until(lambda store: any(one.step == step for one in store.attempts.of(number)), step, seconds)

    # ── Slack ──
    def messages(self) -> list[Message]:
        """Return all messages of the channel and its threads, in the order they stand."""
        slack = self.slack.slack
        return [one for root in slack.messages() for one in [root, *slack.thread("oncall", root.ts)]]

    def wait(self, found: Callable[[], T], seconds: float = 20) -> T:
        """Wait until Slack shows something."""
        return self.slack.call(self.slack.slack.wait_for(found, seconds), seconds + 5)

    def shown(self, *words: str, seconds: float = 20) -> Message:
        """Wait for a message that says all this."""

        def found() -> Message | None:
            return next((one for one in self.messages() if all(word in flat(one) for word in words)), None)

        message = self.wait(found, seconds)
        assert message is not None
        return message

    def question(self, number: int = 1, seconds: float = 20) -> Message:
        """Wait for the approval card of a run."""

        def found() -> Message | None:
            for one in self.messages():
                if "approve" in one.actions and f"run {number} " in flat(one):
                    return one
            return None

        message = self.wait(found, seconds)
        assert message is not None
        return message

    def click(self, user: str, message: Message, action: str) -> Delivery:
        """Click a button."""
        return self.slack.call(self.slack.slack.click(user, "oncall", message.ts, action))

    def press_again(self, user: str, question: Message, number: int) -> str:
        """Press Approve on a card as it was before its buttons went, as a client does that lags behind; the answer."""
        before = len(self.whispers(user))
        with self.store() as store:
            approval = store.approvals.get(number)
        assert approval is not None
        button = {"type": "button", "action_id": "approve", "text": {"type": "plain_text", "text": "Approve"}}
        workspace = self.slack.slack._workspace
        stale = replace(
            self.now(question),
            blocks=[
                {
                    "type": "actions",
                    "block_id": "stale",
                    "elements": [{**button, "value": f"{number}:{approval.digest[:12]}"}],
                }
            ],
        )
        current = self.now(question)
        workspace._messages[stale.channel][stale.ts] = stale
        assert self.click(user, stale, "approve").acked
        workspace._messages[stale.channel][stale.ts] = current
        self.wait(lambda: len(self.whispers(user)) > before)
        return self.whispers(user)[before:]

    def type(self, *words: str, who: str = "") -> tuple[int, str]:
        """Type a command in a terminal on Sickbay's machine; returns exit code and what was said."""
        command = [
            sys.executable,
            "-m",
            "bot",
            *words,
            "--config",
            str(self.config),
            *(["--as", who] if who else []),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **self.environ}
        )
        return done.returncode, done.stdout + done.stderr

    def say(self, user: str, text: str) -> Delivery:
        """Type a slash command."""
        return self.slack.call(self.slack.slack.slash(user, "/sickbay", text))

    def whispers(self, user: str) -> str:
        """Return what only this person was told."""
        return "\n".join(flat(one) for one in self.slack.slack.ephemerals(user))

    def now(self, message: Message) -> Message:
        """Return a message as it is now."""
        found = self.slack.slack.message("oncall", message.ts)
        assert found is not None
        return found


def flat(message: Message) -> str:
    """Return what a message says as one line; its spans stand without spaces of their own."""
    return " ".join(message.words.replace("\n", "").split())


def alert(
    name: str = "VLLMStalled",
    host: str = "gpu-03",
    *,
    status: str = "firing",
    at: str = "2026-01-01T03:00:00Z",
    annotations: Mapping[str, str] | None = None,
    **labels: str,
) -> Json:
    """Return one alert as Alertmanager sends it; equal labels have equal fingerprints."""
    every = {"alertname": name, "severity": "critical", **({"host": host} if host else {}), **labels}
    text = json.dumps(every, sort_keys=True).encode(errors="surrogatepass")
    ended = datetime.now(UTC).isoformat() if status == "resolved" else "0001-01-01T00:00:00Z"
    return {
        "status": status,
        "labels": every,
        "annotations": dict(annotations or {"summary": f"vLLM on {host} stopped answering"}),
        "startsAt": at,
        "endsAt": ended,
        "generatorURL": "http://127.0.0.1:9090/graph",
        "fingerprint": hashlib.sha256(text).hexdigest()[:16],
    }


@contextmanager
def ward(
    folder: Path,
    hosts: Json,
    known_hosts: Sequence[str],
    identities: Sequence[Path],
    *,
    routes: Sequence[Json] = (STALLED,),
    books: Mapping[str, str] | None = None,
    slack: Mapping[str, Any] | None = None,
    login: float = 15.0,
    **text: Any,
) -> Iterator[Ward]:
    """Open a ward; Sickbay itself is not started."""
    (folder / "known_hosts").write_text("".join(known_hosts))
    (folder / "books").mkdir()
    for name, book in (books or {}).items():
        (folder / "books" / f"{name}.yaml").write_text(book)
    configuration = {
        "hosts": hosts,
        "ssh": {
            "known_hosts": str(folder / "known_hosts"),
            "identity_files": [str(key) for key in identities],
            "connect_timeout": min(login, 5.0),
            "login_timeout": login,
        },
        "runbooks": [str(SHIPPED), str(folder / "books")],
        "routes": list(routes),
    }
    with ExitStack() as stack:
        pretended = stack.enter_context(PretendSlackThread(**(slack or {})))
        one = Ward(folder, pretended, {**configuration, **text})
        stack.callback(one.serve.stop)
        yield one


@contextmanager
def pretend_ward(
    folder: Path, count: int = 8, timing: Timing = QUICK, **options: Any
) -> Iterator[tuple[Ward, PretendFleet]]:
    """Open a ward with pretend GPU hosts and their load balancer."""
    with PretendFleet(hosts=count, timing=timing) as fleet:
        files = fleet.write_files(folder)
        hosts = {
            host["name"]: {key: host[key] for key in ("address", "port", "user", "groups", "vars")}
            for host in fleet.inventory()
        }
        known = files["known_hosts"].read_text()
        with ward(folder, hosts, [known], [files["identity_file"]], **options) as one:
            yield one, fleet


@contextmanager
def real_ward(
    folder: Path, names: Sequence[str] = ("gpu-03",), **options: Any
) -> Iterator[tuple[Ward, dict[str, Sshd]]]:
    """Open a ward with real sshds."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(Sshd(folder / name, address=f"127.0.1.{number}"))
            for number, name in enumerate(names, 31)
        }
        hosts = {
            name: {"address": one.address, "port": one.port, "user": one.user, "groups": ["serving"]}
            for name, one in servers.items()
        }
        known = [one.known_hosts_line() for one in servers.values()]
        keys = [one.identity for one in servers.values()]
        yield stack.enter_context(ward(folder, hosts, known, keys, **options)), servers


def patient(action: Callable[[], T], seconds: float = 10) -> T:
    """Do something that may be refused while the other side comes up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
