"""`mode: auto` counts once it is earned, and is lost with the first failed verify."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands.verbs import Asker, Commands
from bot.config.settings import Config
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.guard.autonomy import SUCCESSES, Earned, proved, settled, standing
from bot.language.runbook import MODES, Mode, Runbook
from bot.library import Loaded
from bot.messages import approval_card, run_card
from bot.runs.record import Record
from bot.runs.run import Run, RunState, Status
from bot.steps import KINDS
from bot.views import run_view
from tests.parts.books import attempt, book
from tests.parts.script import done
from tests.parts.stage import ALICE, Stage

AUTO = book(mode="auto")


@pytest.fixture
def strict(stage: Stage) -> Stage:
    """Return a stage where `auto` takes three verified successes."""
    stage.engine = Engine(stage.store, Planner(KINDS, stage.inventory), stage.script, successes=3)
    return stage


def succeed(stage: Stage, times: int = 1, runbook: Runbook = AUTO, **changes: Any) -> list[Run]:
    """Play a run that ends well, approved where it asks."""
    ended = []
    for _ in range(times):
        stage.clock.on(minutes=1)
        run = stage.play(runbook, **changes)
        if run.state is RunState.WAITING:
            assert stage.decide(run.id) is None
            run = stage.advance(run.id)
        assert run.state is RunState.SUCCEEDED
        ended.append(run)
    return ended


def fail_verify(stage: Stage) -> None:
    """Play a run whose verify fails."""
    stage.clock.on(minutes=1)
    rule = stage.script.on("proof", done(exit_code=1))
    run = stage.play(AUTO)
    if run.state is RunState.WAITING:
        stage.decide(run.id)
        run = stage.advance(run.id)
    assert run.state is RunState.FAILED
    rule.answers[:] = [done()]


def earned(stage: Stage) -> Earned:
    return stage.store.runs.earned("mend", "d")


# ── pure ──
@given(st.sampled_from(MODES), st.integers(0, 20), st.booleans(), st.integers(0, 10))
def test_no_mode_is_ever_raised_and_only_an_unearned_auto_is_lowered(
    mode: Mode, successes: int, relapsed: bool, needed: int
) -> None:
    counts, why = settled(mode, Earned(successes, relapsed), needed)
    lowered = mode == "auto" and successes < needed
    assert counts == ("approve" if lowered else mode)
    assert bool(why) == lowered


def test_why_a_mode_was_lowered_is_said_in_numbers() -> None:
    assert settled("auto", Earned(2), 5)[1] == (
        "The runbook's mode is auto, but it has 2 of the 5 verified successes that this takes: "
        "somebody has to approve."
    )
    assert "that this takes since its verify last failed:" in settled("auto", Earned(0, relapsed=True), 5)[1]


def test_where_a_runbook_stands_is_said_short() -> None:
    assert standing("auto", Earned(7), 5) == "auto (earned 5/5)"
    assert standing("auto", Earned(2), 5) == "auto → approve (2 of 5)"
    assert standing("approve", Earned(2), 5) == "approve"


@pytest.mark.parametrize(
    ("attempts", "passed"),
    [
        ([], None),
        ([attempt("proof", "a")], True),
        ([attempt("proof", "a"), attempt("proof", "b")], True),
        ([attempt("proof", "a"), attempt("proof", "b", Status.FAILED)], False),
        ([attempt("proof", "a", Status.UNREACHABLE)], False),
        ([attempt("proof", "a", Status.BEGUN)], False),
        ([attempt("proof", "a", Status.SKIPPED)], None),
        ([attempt("proof", "a", Status.FAILED), attempt("proof", "a", number=2)], True),
    ],
)
def test_a_verify_has_passed_when_it_did_on_every_host_where_it_began(
    attempts: list[Any], passed: bool | None
) -> None:
    assert proved(book().verify, ("a", "b", "c"), Record(attempts).last) is passed


def test_five_is_what_it_takes_unless_the_configuration_says_otherwise() -> None:
    assert Config().autonomy.successes == SUCCESSES == 5
    assert Config.model_validate({"autonomy": {"successes": 2}}).autonomy.successes == 2


# ── on a store ──
def test_auto_asks_until_it_is_earned_and_then_does_not(strict: Stage) -> None:
    first = strict.play(AUTO)
    assert (first.state, first.mode) == (RunState.WAITING, "approve")
    why = settled("auto", Earned(), 3)[1]
    assert first.lowered == why
    view = run_view(strict.store, first)
    assert why in repr(run_card(view))
    assert why in repr(approval_card(view))
    (planned,) = [event for event in strict.events(first.id) if event.kind == "run.planned"]
    assert planned.data["lowered"] == why
    strict.decide(first.id)
    assert strict.advance(first.id).state is RunState.SUCCEEDED
    succeed(strict, 2)
    free = strict.play(AUTO)
    assert (free.state, free.mode, free.lowered) == (RunState.SUCCEEDED, "auto", "")
    assert strict.store.approvals.get(free.id) is None


def test_a_failed_verify_takes_it_away_until_it_is_earned_anew(strict: Stage) -> None:
    succeed(strict, 4)
    fail_verify(strict)
    assert earned(strict) == Earned(0, relapsed=True)
    for number in range(3):
        (run,) = succeed(strict)
        assert run.mode == "approve"
        assert f"it has {number} of the 3" in run.lowered
        assert "since its verify last failed" in run.lowered
    assert succeed(strict)[0].mode == "auto"


def test_what_does_not_prove_anything_does_not_count(strict: Stage) -> None:
    idle = [
        {"id": "look", "run": "x", "mutates": False},
        {"id": "stop", "run": "x", "when": "steps.look.failed"},
    ]
    strict.play(book(steps=idle, mode="auto"))
    strict.play(AUTO, mode="suggest")
    denied = strict.play(AUTO)
    strict.decide(denied.id, answer="deny")
    strict.advance(denied.id)
    strict.script.on("undo", done(exit_code=1), done())
    half = strict.play(AUTO)
    strict.decide(half.id)
    assert strict.advance(half.id).state is RunState.FAILED
    assert earned(strict) == Earned()


def test_a_step_that_fails_before_verify_takes_nothing_away(strict: Stage) -> None:
    succeed(strict, 3)
    strict.script.on("stop", done(exit_code=1), done())
    assert strict.play(AUTO).state is RunState.FAILED
    assert succeed(strict)[0].mode == "auto"


def test_an_edited_runbook_and_another_one_have_to_earn_their_own(strict: Stage) -> None:
    succeed(strict, 3)
    assert strict.play(AUTO, digest="e").mode == "approve"
    assert strict.play(book(name="other", mode="auto")).mode == "approve"


def test_what_was_earned_survives_a_restart(strict: Stage, tmp_path: Path) -> None:
    succeed(strict, 2)
    strict.restart()
    assert earned(strict) == Earned(2)


# ── at the desk ──
def test_the_list_of_runbooks_the_plan_and_the_start_say_where_auto_stands(strict: Stage) -> None:
    library = {"mend": Loaded(AUTO, "", "d", "mend.yaml")}
    commands = Commands(strict.store, strict.inventory, library, {"alice": ALICE}, successes=3)
    alice = Asker("alice", ALICE)

    def said(text: str) -> str:
        return repr(commands.do(text, alice).card)

    assert "auto → approve (0 of 3)" in said("runbooks")
    shown = said("plan mend gpu-01")
    assert "Mode approve: after the look" in shown
    assert "it has 0 of the 3 verified successes" in shown
    assert "It asks before it changes anything." in said("run mend gpu-01")
    succeed(strict, 3)
    assert "auto (earned 3/3)" in said("runbooks")
    assert "Mode auto: after the look the rest is done at once" in said("plan mend gpu-01")
    assert "It asks" not in said("run mend gpu-01")
