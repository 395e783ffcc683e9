"""Hosts that are this machine: their commands run here, in a real shell; one that changes something starts once only."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime

from bot.effect import (
    Cancelled,
    Command,
    Finished,
    Keep,
    Outcome,
    Output,
    Pending,
    Unreachable,
    answered,
    handed,
)
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from tests.parts.haproxy import BACKEND, HAProxy
from tests.parts.posix import run


class Nearby:
    """A Remote; hosts named in `gone` cannot be reached, whatever is asked of them."""

    def __init__(self, gone: tuple[str, ...] = ()) -> None:
        self.gone = set(gone)
        self.sent: list[tuple[str, Command]] = []
        """Steps and commands, in the order they came."""
        self.held: dict[str, threading.Event] = {}
        """Steps that wait here until the test lets them go."""
        self.came: dict[str, threading.Event] = {}
        self._done: dict[str, Future[Outcome]] = {}
        self._threads: list[threading.Thread] = []

    def hold(self, step: str) -> threading.Event:
        """Let commands of a step wait before they run; `came[step]` is set when one is there."""
        self.came[step] = threading.Event()
        self.held[step] = threading.Event()
        return self.held[step]

    def start(
        self,
        host: Host,
        command: Command,
        *,
        key: str,
        first_sent: datetime | None,
        stdout: Keep | None = None,
        stderr: Keep | None = None,
        barred: bool = False,
    ) -> Pending:
        """Run it, or find again what was started under this key."""
        if host.name in self.gone:
            return answered(Unreachable("tcp", "no route to host", "is it powered on?"))
        known = self._done.get(key) if command.mutating else None
        if known is None and barred:
            return answered(Cancelled(Output(), Output(), ended=True))
        if known is None:
            assert first_sent is None or not command.mutating or key not in self._done
            step = key.rsplit("/", 3)[1]
            self.sent.append((step, command))
            known = self._done[key] = Future()
            thread = threading.Thread(target=self._run, args=(step, command, known))
            self._threads.append(thread)
            thread.start()
        outcome: Future[Outcome] = Future()
        known.add_done_callback(lambda done: outcome.set_result(handed(done.result(), stdout, stderr)))
        return Pending(outcome, lambda: None)

    def close(self) -> None:
        """Wait for what goes on."""
        for gate in self.held.values():
            gate.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, step: str, command: Command, future: Future[Outcome]) -> None:
        if step in self.held:
            self.came[step].set()
            self.held[step].wait(30)
        outcome: Finished = run(command)
        future.set_result(outcome)


def behind(proxy: HAProxy, names: tuple[str, ...] = ("gpu-03", "gpu-04")) -> Inventory:
    """Return hosts behind a balancer, and the balancer's machine."""
    hosts = [
        Host(
            name,
            f"10.0.0.{at}",
            vars={"haproxy": {"host": "lb-01", "socket": str(proxy.socket), "server": f"{BACKEND}/{name}"}},
        )
        for at, name in enumerate(names, 3)
    ]
    return Inventory([*hosts, Host("lb-01", "10.0.0.100")])


def draining(
    *,
    drain: Mapping[str, object] | None = None,
    keep: str = "",
    steps: Sequence[Mapping[str, object]] = (),
    server: str = "",
    **changes: object,
) -> Runbook:
    """Return a runbook that drains (with more keys in that step), does more, and undrains where it had drained."""
    given = {key: value for key, value in (("keep", keep), ("server", server)) if value}
    undo = {
        "id": "undrain",
        "when": "steps.drain.ok and steps.drain.facts.changed",
        "uses": "haproxy.undrain",
        "with": {"server": server} if server else {},
    }
    data: dict[str, object] = {
        "version": 1,
        "name": "mend",
        "description": "Mend it out of traffic",
        "kind": "mutate",
        "triggers": [{"command": True}],
        "evidence": "none",
        "steps": [
            {"id": "drain", "uses": "haproxy.drain", "with": given, **(drain or {})},
            *steps,
        ],
        "verify": [{"id": "proof", "run": "true", "mutates": False}],
        "always": [] if keep else [undo],
    }
    return Runbook.model_validate(data | changes)
