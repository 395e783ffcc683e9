"""A Sickbay in a process of its own that is killed, at a named point or from outside, and started again.

The points are told by the parts around the engine: a store that says what it is about to write and has written, and
hosts (`script.World`) that say what they were sent. Nothing in Sickbay knows of them.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.delivery import Delivery
from bot.effect import Command
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.guard.decision import Answer, Want
from bot.guard.decision import World as Rails
from bot.guard.drain import Grant, Refusal, Turn
from bot.runs.plan import Plan
from bot.runs.run import Attempt, Run, RunState
from bot.steps import KINDS
from bot.store import Store, Streams
from bot.store.approvals import Approvals
from bot.store.attempts import NOTHING, UNASKED, Attempts
from bot.store.drains import Place
from bot.store.runs import Runs
from bot.verdict import Verdict
from tests.parts.script import World
from tests.parts.stage import machines

At = Callable[[str], None]

POINTS = (
    "claimed", "before begun", "begun", "sent", "answered", "before end", "ended",
    "before plan", "planned", "before rest", "at rest", "before finish", "finished",
)  # fmt: skip


@dataclass(frozen=True)
class Life:
    """What a process is started with: where it works, and when it ends."""

    folder: Path
    point: str = ""
    """Where it kills itself; empty: nowhere."""
    turn: int = 1
    """At the how manieth time."""
    failing: Sequence[str] = ()
    seconds: float = 0.02
    """For how long each command goes."""
    passed: list[str] = field(default_factory=list)


def live(life: Life) -> None:
    """Advance runs until killed."""
    guard = threading.Lock()

    def at(point: str) -> None:
        with guard:
            life.passed.append(point)
            if point == life.point and life.passed.count(point) == life.turn:
                os.kill(os.getpid(), signal.SIGKILL)

    store = Store(life.folder / "sickbay.db")
    store.attempts = TellingAttempts(store, at)
    store.runs = TellingRuns(store, at)
    store.approvals = TellingApprovals(store, at)
    world = World(life.folder / "world", seconds=life.seconds, failing=life.failing, at=at)
    delivery = Delivery(store, Engine(store, Planner(KINDS, machines()), world, successes=0))
    delivery.start()
    threading.Event().wait()


class TellingAttempts(Attempts):
    """Says what it is about to write, and what it wrote."""

    def __init__(self, store: Store, at: At) -> None:
        super().__init__(store.database, store.outputs)
        self._at = at

    def begin(
        self,
        run: Run,
        places: Sequence[Place],
        leaving: Sequence[tuple[str, Command]] = (),
        changes: Mapping[Place, Turn | None] = NOTHING,
        wants: Mapping[Place, Want] = UNASKED,
        world: Rails | None = None,
    ) -> tuple[list[Attempt], Mapping[Place, Grant | Refusal | Answer]]:
        """Say it before and after, for each."""
        for _ in places:
            self._at("before begun")
        begun = super().begin(run, places, leaving, changes, wants, world)
        for _ in places:
            self._at("begun")
        return begun

    def end(self, run: Run, ended: Sequence[tuple[Attempt, Streams | None]]) -> list[Attempt]:
        """Say it before and after, for each."""
        for _ in ended:
            self._at("before end")
        written = super().end(run, ended)
        for _ in ended:
            self._at("ended")
        return written


class TellingRuns(Runs):
    """Says what it is about to write, and what it wrote."""

    def __init__(self, store: Store, at: At) -> None:
        super().__init__(store.database)
        self._at = at

    def claim(self, run_id: int) -> Run | None:
        """Say it after."""
        run = super().claim(run_id)
        self._at("claimed")
        return run

    def sleep(self, run: Run, until: Any, *, waiting: bool) -> None:
        """Say it before and after."""
        self._at("before rest")
        super().sleep(run, until, waiting=waiting)
        self._at("at rest")

    def finish(self, run: Run, state: RunState, reason: str, verdict: Verdict | None, **proof: Any) -> None:
        """Say it before and after."""
        self._at("before finish")
        super().finish(run, state, reason, verdict, **proof)
        self._at("finished")


class TellingApprovals(Approvals):
    """Says what it is about to write, and what it wrote."""

    def __init__(self, store: Store, at: At) -> None:
        super().__init__(store.database)
        self._at = at

    def plan(self, run: Run, plan: Plan, *, ask: bool, lowered: str = "") -> Plan:
        """Say it before and after."""
        self._at("before plan")
        counts = super().plan(run, plan, ask=ask, lowered=lowered)
        self._at("planned")
        return counts


class Bodies:
    """Starts such processes, quickly: each is forked off one that has imported everything and done nothing."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.parts.killed"])
        self._living: list[Any] = []

    def start(self, folder: Path, **life: Any) -> Any:
        """Start one; the caller waits for its end or kills it."""
        process = self._context.Process(target=live, args=(Life(folder, **life),), daemon=True)
        process.start()
        self._living.append(process)
        return process

    def bury(self) -> None:
        """Kill all that still live."""
        for process in self._living:
            process.kill()
            process.join()


def told(store: Store, run_id: int) -> Mapping[tuple[str, str | None, str | None, int | None], int]:
    """Count a run's events by kind and place."""
    counts: dict[tuple[str, str | None, str | None, int | None], int] = {}
    for event in store.timeline.of(run=run_id):
        place = (event.kind, event.step, event.host, event.data.get("number"))
        counts[place] = counts.get(place, 0) + 1
    return counts
