"""An engine on a real store, with hosts that answer from a script and a clock that is moved by hand."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.incident import Event
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from bot.runs.approval import Answer, Person
from bot.runs.run import Attempt, Requester, Run, RunState, Status
from bot.steps import KINDS
from bot.store import Store
from bot.store.tables import locks
from tests.parts.books import book
from tests.parts.script import PATIENCE, Script
from tests.parts.states import Hands

ALICE = Person("alice", roles=("oncall",))
BOB = Person("bob", roles=("oncall",))


def machines(count: int = 4, **variables: Any) -> Inventory:
    """Return gpu-01 … in @serving."""
    return Inventory(
        Host(f"gpu-{number:02}", f"10.0.0.{number}", groups=("serving",), vars=variables)
        for number in range(1, count + 1)
    )


class Stage:
    """Where a run is played."""

    def __init__(self, folder: Path) -> None:
        self.clock = Hands()
        self.store = Store(folder / "sickbay.db", self.clock)
        self.script = Script()
        self.inventory = machines()
        self.engine = self.another()
        self._threads: list[threading.Thread] = []

    def another(self) -> Engine:
        """Return one more engine on the same store, with the inventory as it is now."""
        return Engine(self.store, Planner(KINDS, self.inventory), self.script, successes=0)

    def restart(self) -> Engine:
        """Go on with a new engine, as after a start of the process; return the old one."""
        before, self.engine = self.engine, self.another()
        self.store.runs.reclaim()
        return before

    def queue(
        self, runbook: Runbook | None = None, hosts: tuple[str, ...] = ("gpu-01",), **changes: Any
    ) -> int:
        """Queue a run; in mode `auto` unless told otherwise."""
        fields: dict[str, Any] = {
            "runbook": runbook or book(),
            "digest": "d",
            "hosts": hosts,
            "inputs": {},
            "mode": "auto",
            "requester": Requester("alice", "alice"),
            "channel": "oncall",
        }
        with self.store.write() as tx:
            return self.store.runs.create(tx, **(fields | changes))

    def advance(self, run_id: int) -> Run:
        """Take a run as far as it goes now."""
        self.engine.advance(run_id)
        return self.run(run_id)

    def play(
        self, runbook: Runbook | None = None, hosts: tuple[str, ...] = ("gpu-01",), **changes: Any
    ) -> Run:
        """Queue a run and take it as far as it goes."""
        return self.advance(self.queue(runbook, hosts, **changes))

    def apart(self, run_id: int, engine: Engine | None = None) -> threading.Thread:
        """Advance a run in a thread of its own."""
        thread = threading.Thread(target=(engine or self.engine).advance, args=(run_id,))
        thread.start()
        self._threads.append(thread)
        return thread

    def run(self, run_id: int) -> Run:
        """Return a run as it is stored."""
        found = self.store.runs.get(run_id)
        assert found is not None
        return found

    def decide(self, run_id: int, person: Person = BOB, answer: Answer = "approve") -> str | None:
        """Answer a run's question."""
        people = {one.name: one for one in (ALICE, BOB, person)}
        return self.store.approvals.decide(run_id, person, answer, people=people)

    def attempts(self, run_id: int) -> list[Attempt]:
        """Return a run's attempts, with what was printed."""
        return attempts(self.store, run_id)

    def statuses(self, run_id: int, host: str = "gpu-01") -> dict[str, Status]:
        """Return how each step's last attempt on a host ended."""
        return {one.step: one.status for one in self.attempts(run_id) if one.host == host}

    def kinds(self, run_id: int) -> list[str]:
        """Return the kinds of a run's events, in order."""
        return [event.kind for event in self.events(run_id)]

    def events(self, run_id: int) -> list[Event]:
        """Return a run's events, in order."""
        return self.store.timeline.of(run=run_id)

    def close(self) -> None:
        """End what was begun."""
        self.script.close()
        self.engine.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.store.close()


def attempts(store: Store, run_id: int) -> list[Attempt]:
    """Return a run's attempts, with what was printed."""
    return [
        replace(one, stdout=stdout.text, stderr=stderr.text)
        for one in store.attempts.of(run_id)
        for stdout, stderr in [store.attempts.output(one)]
    ]


def locked(store: Store) -> dict[str, int]:
    """Return what is locked, and by which run."""
    with store.database.read() as tx:
        return {row.key: row.run_id for row in tx.execute(locks.select().order_by(locks.c.key))}


def ended(run: Run) -> tuple[RunState, str]:
    """Return how a run ended, and why."""
    return run.state, run.reason


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Set up a stage and clear it away."""
    stage = Stage(tmp_path)
    yield stage
    stage.close()
