"""A plan that falls between its look and its first change: it stays fallen, and its run has used and changed nothing."""

import threading
from typing import Any

import pytest

from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.guard.decision import Want
from bot.language.runbook import Runbook
from bot.runs.run import Run, RunState
from bot.steps import KINDS
from tests.parts.books import book
from tests.parts.script import BOOT, done
from tests.parts.stage import Stage, locked, stage

__all__ = ["stage"]
KEPT = done(f"capture m\nm begin boot\n{BOOT}\nm end boot 0\n")
WHY = "The plan no longer held: the file of the runbook mend was changed. Nothing was changed."


class Shelf:
    """Where the file of the runbook lies, and what it is now."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.digest = "d"
        planner = Planner(KINDS, stage.inventory, lambda _: self.digest)
        stage.engine = Engine(stage.store, planner, stage.script, successes=0)

    def fall(self, runbook: Runbook, mode: str = "auto") -> Run:
        """Play a run whose runbook is edited while its evidence is taken."""
        run = self.stage.queue(runbook, mode=mode)
        if mode == "approve":
            self.stage.advance(run)
            assert self.stage.decide(run) is None
        gate = threading.Event()
        rule = self.stage.script.on("evidence", KEPT, gate=gate)
        thread = self.stage.apart(run)
        rule.wait()
        self.digest = "e"
        gate.set()
        thread.join()
        return self.stage.run(run)


@pytest.fixture
def shelf(stage: Stage) -> Shelf:
    """Return a stage with a runbook that can be edited."""
    return Shelf(stage)


def mending(**changes: Any) -> Runbook:
    """Return a runbook that keeps evidence, and cleans up by looking only."""
    seen = {"id": "seen", "run": "see it", "mutates": False, "retries": 1, "delay": "1m"}
    return book(**{"evidence": "default", "rescue": [], "always": [seen], **changes})


LIMITED: dict[str, Any] = {"limits": {"runs": 1, "per": "1h", "by": "host"}}


def test_a_run_that_changed_nothing_has_used_nothing(shelf: Shelf) -> None:
    run = shelf.fall(mending(**LIMITED))
    assert (run.state, run.reason) == (RunState.CANCELLED, WHY)
    assert locked(shelf.stage.store) == {}
    shelf.digest = "d"
    assert shelf.stage.play(mending(**LIMITED)).state is RunState.SUCCEEDED


def test_it_has_used_nothing_while_its_clean_up_goes_on(shelf: Shelf) -> None:
    shelf.stage.script.on("seen", done(exit_code=1), done())
    run = shelf.fall(mending(**LIMITED))
    assert run.state is RunState.RUNNING
    assert locked(shelf.stage.store) == {}
    shelf.digest = "d"
    assert shelf.stage.play(mending(**LIMITED)).state is RunState.SUCCEEDED


def test_nor_has_it_changed_a_host_that_others_ask_about(shelf: Shelf) -> None:
    asked = shelf.stage.play(book(), mode="approve")
    assert asked.state is RunState.WAITING
    assert shelf.fall(mending()).state is RunState.CANCELLED
    approval = shelf.stage.store.approvals.get(asked.id)
    assert approval is not None
    assert approval.state == "pending"


def test_what_a_run_had_taken_when_it_was_killed_is_no_use_once_it_is_cancelled(stage: Stage) -> None:
    run = stage.queue(book(**LIMITED))
    claimed = stage.store.runs.claim(run)
    assert claimed is not None
    world = Rails(stage.store, Planner(KINDS, stage.inventory)).world
    assert stage.store.ledger.take(claimed, {"gpu-01": Want()}, world)["gpu-01"].reaction == "go"
    stage.restart()
    assert stage.store.runs.cancel(run, "alice")
    assert stage.advance(run).state is RunState.CANCELLED
    assert stage.play(book(**LIMITED)).state is RunState.SUCCEEDED


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("mode", ["auto", "approve"])
def test_a_plan_that_fell_stays_fallen_when_its_runbook_is_put_back(
    shelf: Shelf, mode: str, *, restarted: bool
) -> None:
    shelf.stage.script.on("seen", done(exit_code=1), done())
    run = shelf.fall(mending(), mode)
    assert run.state is RunState.RUNNING, "its clean-up is to be tried again"
    shelf.digest = "d"
    shelf.stage.clock.on(seconds=61)
    if restarted:
        shelf.stage.restart()
    run = shelf.stage.advance(run.id)
    assert run.state is RunState.CANCELLED
    assert run.reason == (WHY if mode == "auto" else "The plan no longer held; nothing was changed.")
    assert [one for one in shelf.stage.script.steps() if "boot" not in one] == [
        "look",
        "evidence",
        "seen",
        "seen",
    ]
