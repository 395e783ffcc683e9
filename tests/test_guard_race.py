"""A hundred triggers at once on one host: whoever asks, and however, one run changes it at a time.

`SICKBAY_RACES` says how often each race is run.
"""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bot.alert import Alert
from bot.commands.verbs import Asker, Commands
from bot.delivery import Delivery
from bot.dispatch import Dispatch
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.guard.decision import Floor, Seen, Want, World
from bot.language.runbook import Runbook
from bot.library import Loaded
from bot.route import Route
from bot.runs.approval import Person
from bot.runs.run import Requester, Run, RunState
from bot.steps import KINDS
from bot.store import Store
from tests.parts.books import book
from tests.parts.script import PATIENCE, Script
from tests.parts.stage import locked, machines

RACES = int(os.environ.get("SICKBAY_RACES", "1"))
TRIGGERS = 100
TURNS = 32
ALICE = Person("alice", "U0ALICE", ("oncall",))
TRIGGERED = [{"command": True}, {"alert": {"match": {"severity": "page"}}}]


class Crowd:
    """A store with a loop that goes, and four kinds of callers."""

    def __init__(self, folder: Path, runbook: Runbook) -> None:
        self.runbook = runbook
        self.store = Store(folder / "sickbay.db")
        self.script = Script()
        library = {runbook.name: Loaded(runbook, "", "d", "mend.yaml")}
        planner = Planner(KINDS, machines())
        routes = [
            Route.model_validate({"match": {"severity": "page"}, "runbook": runbook.name, "mode": "auto"})
        ]
        dispatch = Dispatch(self.store, machines(), library, routes, "oncall")
        engine = Engine(self.store, planner, self.script, successes=0)
        self.delivery = Delivery(self.store, engine, dispatch.turn)
        self.commands = Commands(
            self.store, machines(), library, {"alice": ALICE}, planner=planner, successes=0, channel="oncall"
        )

    def webhook(self, number: int) -> None:
        """Let a monitor tell of trouble; each of another kind, so that they are not one incident."""
        labels = {"alertname": f"Down{number}", "host": "gpu-01", "severity": "page"}
        starts = datetime(2026, 3, 1, tzinfo=UTC)
        self.store.alerts.add([Alert("alertmanager", f"f{number}", "firing", starts, labels, {})])

    def slack(self, number: int) -> None:
        """Say it in Slack; each envelope is delivered twice."""
        asker = Asker("alice", ALICE, "slack", "C0ONCALL", delivery=f"envelope-{number}")
        for _ in range(2):
            assert self.commands.do("run mend gpu-01", asker).ok

    def terminal(self, number: int) -> None:
        """Type it."""
        assert self.commands.do("run mend gpu-01", Asker("alice", ALICE)).ok

    def schedule(self, number: int) -> None:
        """Let a clock start it."""
        with self.store.write() as tx:
            self.store.runs.create(
                tx,
                runbook=self.runbook,
                digest="d",
                hosts=("gpu-01",),
                inputs={},
                mode="auto",
                requester=Requester(f"schedule {number}", via="schedule"),
                channel="oncall",
            )

    def shout(self, triggers: int = TRIGGERS) -> list[Run]:
        """Let all of them call at the same moment; return their runs when all have ended."""
        callers: list[Callable[[int], None]] = [self.webhook, self.slack, self.terminal, self.schedule]
        start = threading.Barrier(triggers)

        def call(number: int) -> None:
            start.wait()
            callers[number % len(callers)](number)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(triggers)]
        self.delivery.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._ended(triggers)

    def _ended(self, triggers: int) -> list[Run]:
        bell = threading.Event()
        unlisten = self.store.database.listen(bell.set)
        ends = time.monotonic() + 3 * PATIENCE
        while True:
            bell.clear()
            runs = self.store.runs.newest(limit=2 * triggers)
            if len(runs) == triggers and all(run.state.ended for run in runs):
                unlisten()
                return runs
            assert time.monotonic() < ends, [(run.id, run.state) for run in runs if not run.state.ended]
            bell.wait(0.5)

    def acting(self) -> list[str]:
        """Return the runs that changed the host, as often as one of them took its turn."""
        changes = [sent.key.split("/")[1] for sent in self.script.sent if sent.step != "look"]
        return [run for run, _ in groupby(changes)]

    def close(self) -> None:
        """Stop the loop."""
        self.script.close()
        self.delivery.stop()
        self.store.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("race", range(RACES))
@pytest.mark.parametrize("on_conflict", ["queue", "skip", "fail"])
def test_of_a_hundred_triggers_at_once_one_acts(tmp_path: Path, on_conflict: str, race: int) -> None:
    steps = [{"id": "look", "run": "true", "mutates": False}, {"id": "stop", "run": "stop it"}]
    verify = [{"id": "look_2", "run": "true", "mutates": False}]
    crowd = Crowd(
        tmp_path,
        book(
            steps=steps,
            verify=verify,
            rescue=[],
            always=[],
            mode="auto",
            triggers=TRIGGERED,
            on_conflict=on_conflict,
            cooldown="30m",
        ),
    )
    with ExitStack() as closing:
        closing.callback(crowd.close)
        runs = crowd.shout()
        assert [sent.step for sent in crowd.script.sent if sent.step == "stop"] == ["stop"]
        acted = [run for run in runs if run.state is RunState.SUCCEEDED]
        assert [str(run.id) for run in acted] == crowd.acting()[:1]
        assert all(run.reason for run in runs if run not in acted), "who did not act says why"
        assert locked(crowd.store) == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("race", range(RACES))
def test_runs_that_wait_for_each_other_act_one_after_the_other(tmp_path: Path, race: int) -> None:
    crowd = Crowd(
        tmp_path,
        book(mode="auto", triggers=TRIGGERED, verify=[{"id": "look_2", "run": "true", "mutates": False}]),
    )
    with ExitStack() as closing:
        closing.callback(crowd.close)
        runs = crowd.shout(TURNS)
        assert {run.state for run in runs} == {RunState.SUCCEEDED}
        turns = [sent for sent in crowd.script.sent if not sent.step.startswith("look")]
        order = [run for run, _ in groupby(sent.key.split("/")[1] for sent in turns)]
        assert len(order) == len(set(order)) == TURNS, "nobody comes in between"


def _take(path: str, run_ids: list[int], start: Any, results: Any) -> None:
    """Try to take gpu-01 for each of these runs, at the same moment as other processes."""
    store = Store(path)
    claimed = [run for run in map(store.runs.claim, run_ids) if run is not None]
    floor = Floor("@all", 1, ("gpu-01",), {"gpu-01": Seen(ready=True), "gpu-02": Seen(ready=True)})
    start.wait()
    given = {}
    for index, run in enumerate(claimed):
        host = ("gpu-01", "gpu-02")[index % 2]
        answer = store.ledger.take(run, {host: Want()}, World(lambda _: frozenset()), floor)[host]
        given[run.id] = [host, answer.reaction]
    results.put(json.dumps(given))
    store.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("race", range(RACES))
def test_of_many_processes_one_takes_the_last_replica_but_one(tmp_path: Path, race: int) -> None:
    path = tmp_path / "sickbay.db"
    store = Store(path)
    with store.write() as tx:
        ids = [
            store.runs.create(
                tx,
                runbook=book(on_conflict="fail"),
                digest="d",
                hosts=("gpu-01",),
                inputs={},
                mode="auto",
                requester=Requester("alice", "alice"),
                channel="oncall",
            )
            for _ in range(40)
        ]
    apart = multiprocessing.get_context("spawn")
    start, results = apart.Barrier(4), apart.Queue()
    processes = [apart.Process(target=_take, args=(str(path), ids[at::4], start, results)) for at in range(4)]
    for process in processes:
        process.start()
    given = [answer for _ in processes for answer in json.loads(results.get(timeout=120)).values()]
    for process in processes:
        process.join()
    assert len(given) == 40
    assert len([host for host, reaction in given if reaction == "go"]) == 1
    assert {reaction for _, reaction in given} == {"go", "refuse"}
    store.close()
