"""What the engine does again, and what it undoes."""

import threading

import pytest

from bot.effect import Lost
from bot.messages import plan_text
from bot.runs.run import RunState, Status
from tests.parts.books import book
from tests.parts.script import Script, done
from tests.parts.stage import Stage, ended

OVER = Lost("the host was rebooted while it ran", "look there", over=True)


def test_an_idempotent_change_that_was_lost_is_done_once_more_as_an_attempt_of_its_own(stage: Stage) -> None:
    steps = [{"id": "stop", "run": "stop it", "idempotent": True, "delay": "0s"}]
    stage.script.on("stop", OVER, done())
    run = stage.play(book(steps=steps))
    assert run.state is RunState.SUCCEEDED
    first, again = [one for one in stage.script.sent if one.step == "stop"]
    assert (first.number, again.number) == (1, 2)
    assert first.key != again.key
    assert again.first_sent is None
    assert [(one.number, one.status) for one in stage.attempts(run.id) if one.step == "stop"] == [
        (1, Status.UNKNOWN),
        (2, Status.OK),
    ]
    assert "it is idempotent, so it is done once more" in stage.attempts(run.id)[0].summary


def test_one_that_is_lost_again_goes_to_a_person(stage: Stage) -> None:
    steps = [{"id": "stop", "run": "stop it", "idempotent": True, "delay": "0s"}]
    stage.script.on("stop", OVER)
    run = stage.play(book(steps=steps))
    assert run.state is RunState.NEEDS_HUMAN
    assert stage.script.steps().count("stop") == 2


@pytest.mark.parametrize("outcome", [OVER, Lost("it may still be going", "look there")])
def test_a_change_that_was_lost_and_may_not_be_repeated_goes_to_a_person(stage: Stage, outcome: Lost) -> None:
    steps = [{"id": "stop", "run": "stop it", "idempotent": not outcome.over, "delay": "0s"}]
    stage.script.on("stop", outcome, done())
    run = stage.play(book(steps=steps))
    assert run.state is RunState.NEEDS_HUMAN
    assert stage.script.steps().count("stop") == 1


def test_what_a_step_did_is_undone_when_verify_fails_with_the_values_of_the_plan(stage: Stage) -> None:
    undo = {"name": "back into traffic", "run": 'undrain "{{ host.name }}"'}
    steps = [{"id": "drain", "run": "drain", "rollback": undo}, {"id": "start", "run": "start it"}]
    stage.script.on("proof", done(exit_code=1))
    run = stage.play(book(steps=steps), mode="approve")
    assert run.plan is not None
    shown = plan_text(run.plan)
    assert "rollback\n    - back into traffic" in shown.replace("  rollback", "rollback")
    assert "only where its step has succeeded and the host does not come through" in shown
    stage.decide(run.id)
    run = stage.advance(run.id)
    assert ended(run) == (RunState.FAILED, "Failed on gpu-01. First: proof on gpu-01. Rolled back on gpu-01.")
    assert stage.script.steps() == ["drain", "start", "proof", "drain_rollback", "note", "undo"]
    back = next(one for one in stage.script.sent if one.step == "drain_rollback")
    assert back.command.mutating
    assert dict(back.command.env) == {"sickbay_1": "gpu-01"}


def test_a_rollback_that_was_going_when_the_process_died_is_asked_for_and_not_begun_anew(
    stage: Stage,
) -> None:
    steps = [{"id": "drain", "run": "drain", "rollback": {"run": "undrain"}}, {"id": "start", "run": "x"}]
    stage.script.on("start", done(exit_code=1))
    held = stage.script.on("drain_rollback", gate=threading.Event(), deaf=True)
    run_id = stage.queue(book(steps=steps))
    thread = stage.apart(run_id)
    held.wait()
    stage.engine.close()
    thread.join(5)
    stage.script = Script()
    stage.restart()
    stage.clock.on(minutes=1)
    run = stage.advance(run_id)
    assert run.state is RunState.FAILED
    (again,) = [one for one in stage.script.sent if one.step == "drain_rollback"]
    assert again.number == 1
    assert again.first_sent is not None


def test_a_cancel_does_not_end_a_rollback(stage: Stage) -> None:
    steps = [{"id": "drain", "run": "drain", "rollback": {"run": "undrain"}}, {"id": "start", "run": "x"}]
    stage.script.on("start", done(exit_code=1))
    held = stage.script.on("drain_rollback", gate=threading.Event())
    run_id = stage.queue(book(steps=steps))
    thread = stage.apart(run_id)
    held.wait()
    stage.store.runs.cancel(run_id, "bob")
    stage.engine.cancel(run_id)
    assert held.gate is not None
    held.gate.set()
    thread.join(5)
    assert stage.statuses(run_id)["drain_rollback"] is Status.OK
    assert ended(stage.run(run_id)) == (RunState.CANCELLED, "Cancelled by bob. Rolled back on gpu-01.")
