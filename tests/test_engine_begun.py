"""What is done on a host on which a run has changed nothing, and after the first host that was changed went wrong."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from bot.guard.decision import Freeze
from bot.guard.drain import Turn
from bot.language.runbook import Runbook
from bot.runs.record import Record
from bot.runs.result import host_result
from bot.runs.run import Requester, RunState, Status
from tests.parts.books import book
from tests.parts.script import BOOT, REFUSED, done
from tests.parts.stage import Stage, ended

BOTH = ("gpu-01", "gpu-02")
FOUR = ("gpu-01", "gpu-02", "gpu-03", "gpu-04")
ILL = "'ill' in steps.look.stdout"
LOOK = {"id": "look", "run": "true", "mutates": False}
KEPT = done(f"capture m\nm begin boot\n{BOOT}\nm end boot 0\n")
LEFT_OUT = (Status.SKIPPED, "left out, since nothing was changed there")


def mending(**changes: Any) -> Runbook:
    """Return a runbook that changes what is ill, and has clean-up that changes and clean-up that looks."""
    steps = [LOOK, {"id": "stop", "run": "stop it", "when": ILL}]
    always = [{"id": "undo", "run": "undo it"}, {"id": "seen", "run": "see it", "mutates": False}]
    return book(**{"steps": steps, "always": always, **changes})


def said(stage: Stage, run: int, step: str, host: str) -> tuple[Status, str]:
    """Return how a step ended on a host, in words."""
    (one,) = (one for one in stage.attempts(run) if (one.step, one.host) == (step, host))
    return one.status, one.summary


def kept_by_bob(stage: Stage) -> None:
    """Let an earlier run of Bob's keep gpu-01 out of traffic."""
    run = stage.store.runs.claim(stage.queue(book(), requester=Requester("bob", "bob")))
    assert run is not None
    turn = Turn("drain", "lb-01", "/run/x.sock", "be/gpu-01", keep="new disk")
    begun, _ = stage.store.attempts.begin(run, [("stop", "gpu-01", 1)], changes={("stop", "gpu-01", 1): turn})
    end = replace(begun[0], status=Status.OK, ended_at=stage.clock(), facts={"changed": True, "selected": 5})
    stage.store.attempts.end(run, [(end, None)])
    stage.store.runs.finish(run, RunState.SUCCEEDED, "", None)
    assert stage.store.drains.open()


# ── clean-up ──
def test_a_frozen_host_that_needed_nothing_is_not_changed_by_the_clean_up_either(stage: Stage) -> None:
    stage.script.on("look", done("ill"), host="gpu-02")
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "hands off", "gpu-01"))
    run = stage.play(mending(rescue=[]), BOTH)
    assert run.state is RunState.SUCCEEDED
    assert stage.script.steps("gpu-01") == ["look", "proof", "seen"]
    assert said(stage, run.id, "undo", "gpu-01") == LEFT_OUT
    assert stage.script.steps("gpu-02") == ["look", "stop", "proof", "undo", "seen"]


def test_a_change_that_the_freeze_refused_leaves_nothing_to_clean_up(stage: Stage) -> None:
    stage.script.on("look", done("ill"))
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "hands off", "gpu-01"))
    run = stage.play(mending())
    assert run.state is RunState.FAILED
    assert stage.script.steps("gpu-01") == ["look", "seen"]
    assert said(stage, run.id, "undo", "gpu-01") == LEFT_OUT


def test_a_host_that_somebody_else_keeps_out_of_traffic_is_not_cleaned_up_either(stage: Stage) -> None:
    kept_by_bob(stage)
    stage.script.on("look", done("ill"))
    run = stage.play(mending(rescue=[]))
    assert run.state is RunState.FAILED
    assert "drained be/gpu-01" in said(stage, run.id, "stop", "gpu-01")[1]
    assert stage.script.steps("gpu-01") == ["look", "seen"]
    assert said(stage, run.id, "undo", "gpu-01") == LEFT_OUT


def test_clean_up_of_what_was_changed_is_refused_where_somebody_has_taken_the_host_out_since(
    stage: Stage,
) -> None:
    stage.script.on("look", done("ill"))
    gate = threading.Event()
    proving = stage.script.on("proof", gate=gate)
    run = stage.queue(mending())
    thread = stage.apart(run)
    proving.wait()
    kept_by_bob(stage)
    gate.set()
    thread.join()
    assert stage.run(run).state is RunState.FAILED
    assert stage.run(run).reason.endswith("Clean-up failed on gpu-01.")
    status, why = said(stage, run, "undo", "gpu-01")
    assert (status, "refused: run" in why, "kept so" in why) == (Status.FAILED, True, True)
    assert "undo" not in stage.script.steps()


def test_after_a_crash_what_was_sent_before_it_is_still_cleaned_up(stage: Stage) -> None:
    stage.script.on("look", done("ill"))
    gate = threading.Event()
    stopping = stage.script.on("stop", gate=gate)
    run = stage.queue(mending())
    thread = stage.apart(run)
    stopping.wait()
    before = stage.restart()
    before.close()
    thread.join()
    stage.script.on("stop", done(exit_code=1))
    assert stage.advance(run).state is RunState.FAILED
    assert stage.script.steps()[-2:] == ["undo", "seen"]


# ── after a failed look ──
@pytest.mark.parametrize("answer", [REFUSED, done(exit_code=1)])
def test_after_a_failed_look_rescue_and_always_look_and_change_nothing(stage: Stage, answer: Any) -> None:
    stage.script.on("look", answer)
    rescue = [{"id": "note", "run": "note it", "mutates": False}, {"id": "kick", "run": "kick it"}]
    run = stage.play(mending(rescue=rescue))
    assert ended(run) == (RunState.FAILED, "Failed on gpu-01. First: look on gpu-01.")
    assert stage.script.steps() == ["look", "note", "seen"]
    assert said(stage, run.id, "kick", "gpu-01") == LEFT_OUT
    assert said(stage, run.id, "undo", "gpu-01") == LEFT_OUT


def test_they_are_done_before_people_are_asked_about_the_others_and_once(stage: Stage) -> None:
    stage.script.on("look", REFUSED, host="gpu-01")
    stage.script.on("look", done("ill"), host="gpu-02")
    run = stage.play(mending(max_failures=1), BOTH, mode="approve")
    assert run.state is RunState.WAITING
    assert stage.script.steps("gpu-01") == ["look", "note", "seen"]
    assert stage.decide(run.id) is None
    assert stage.advance(run.id).state is RunState.FAILED
    assert stage.script.steps("gpu-01") == ["look", "note", "seen"]
    assert stage.script.steps("gpu-02") == ["look", "stop", "proof", "undo", "seen"]


def test_a_run_that_is_cancelled_while_it_looks_ends_without_them(stage: Stage) -> None:
    looking = stage.script.on("look", gate=threading.Event())
    run = stage.queue(mending())
    thread = stage.apart(run)
    looking.wait()
    assert stage.store.runs.cancel(run, "alice")
    stage.engine.cancel(run)
    thread.join()
    assert ended(stage.run(run)) == (RunState.CANCELLED, "Cancelled by alice.")
    assert stage.script.steps() == ["look"]


# ── the canary ──
@pytest.mark.parametrize("answer", [done(exit_code=1), REFUSED])
@pytest.mark.parametrize("step", ["stop", "proof", "undo"])
def test_a_canary_that_fails_ends_the_rest_however_many_may_fail(
    stage: Stage, step: str, answer: Any
) -> None:
    stage.script.on(step, answer, host="gpu-01")
    run = stage.play(book(serial=[1, 3], max_failures=3), FOUR)
    assert run.state is RunState.FAILED
    assert "The canary failed, so nothing was begun on gpu-[02-04]." in run.reason
    assert set(stage.script.steps("gpu-0[234]")) == {"look"}


def test_a_canary_that_the_guard_held_back_proves_nothing(stage: Stage) -> None:
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "hands off", "gpu-01"))
    run = stage.play(book(serial=[1, 3], max_failures=3), FOUR)
    assert run.state is RunState.FAILED
    assert "The canary was held back, so nothing was begun on gpu-[02-04]." in run.reason
    assert set(stage.script.steps()) == {"look"}


def test_a_canary_that_was_held_back_has_not_failed_because_another_host_was_not_reached(
    stage: Stage,
) -> None:
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "hands off", "gpu-01"))
    stage.script.on("look", REFUSED, host="gpu-04")
    run = stage.play(book(serial=[1, 2], max_failures=3), FOUR)
    assert run.state is RunState.FAILED
    assert "The canary was held back, so nothing was begun on gpu-[02-03]." in run.reason


def test_a_canary_that_came_through_lets_the_others_fail_as_many_as_may(stage: Stage) -> None:
    stage.script.on("stop", done(exit_code=1), host="gpu-02")
    run = stage.play(book(serial=[1, 1, 2], max_failures=1), FOUR)
    assert "canary" not in run.reason
    assert "stop" in stage.script.steps("gpu-04")


def test_where_hosts_go_one_by_one_the_first_is_no_canary(stage: Stage) -> None:
    stage.script.on("stop", done(exit_code=1), host="gpu-01")
    run = stage.play(book(max_failures=1), BOTH)
    assert "canary" not in run.reason
    assert "stop" in stage.script.steps("gpu-02")


# ── evidence before a rescue ──
def rescued(missing: str = "ask") -> Runbook:
    """Return a runbook whose rescue changes a host that was not to be changed."""
    rescue = [{"id": "mend", "run": "mend it"}, {"id": "note", "run": "note it", "mutates": False}]
    return mending(rescue=rescue, evidence={"missing": missing}, serial=[2], max_failures=1)


@pytest.fixture
def ill(stage: Stage) -> Stage:
    """Return a stage where gpu-02 is to be changed, and only gpu-01 does not come through its verify."""
    stage.script.on("evidence", KEPT)
    stage.script.on("look", done("ill"), host="gpu-02")
    stage.script.on("proof", done(exit_code=1), host="gpu-01")
    return stage


def test_a_host_that_only_the_rescue_changes_is_captured_before_it(ill: Stage) -> None:
    run = ill.play(rescued(), BOTH)
    assert run.state is RunState.FAILED
    assert ill.script.steps("gpu-01") == [
        "look",
        "proof",
        "evidence",
        "boot.1.1",
        "mend",
        "note",
        "undo",
        "seen",
    ]
    assert ill.script.steps("gpu-02") == ["look", "evidence", "boot.1.1", "stop", "proof", "undo", "seen"]
    assert run.plan is not None
    planned = run.plan.entry("evidence", "gpu-01")
    assert planned is not None
    assert (planned.decision, planned.note) == ("later", "only before rescue changes something there")


def test_where_no_rescue_changes_anything_no_evidence_is_taken_for_it(ill: Stage) -> None:
    run = ill.play(mending(evidence="default", serial=[2]), BOTH)
    assert ill.script.steps("gpu-01") == ["look", "proof", "note", "seen"]
    assert said(ill, run.id, "evidence", "gpu-01")[1] == "not needed: nothing is changed there"


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_without_it_people_are_asked_before_the_rescue_changes_anything(ill: Stage, answer: Any) -> None:
    ill.script.on("evidence", REFUSED, host="gpu-01")
    run = ill.play(rescued(), BOTH)
    assert run.state is RunState.WAITING
    assert ill.script.steps("gpu-01") == ["look", "proof", "evidence"]
    assert ill.decide(run.id, answer=answer) is None
    run = ill.advance(run.id)
    after = ["mend", "note", "undo", "seen"] if answer == "approve" else ["seen"]
    assert ill.script.steps("gpu-01") == ["look", "proof", "evidence", *after]
    if answer == "deny":
        why = "Going on without the evidence of gpu-01 was denied; nothing was changed there."
        assert ended(run) == (RunState.CANCELLED, why)


def test_where_it_must_not_be_missing_the_rescue_only_looks(ill: Stage) -> None:
    ill.script.on("evidence", REFUSED, host="gpu-01")
    run = ill.play(rescued("refuse"), BOTH)
    assert run.state is RunState.FAILED
    assert ill.script.steps("gpu-01") == ["look", "proof", "evidence", "note", "seen"]
    assert said(ill, run.id, "mend", "gpu-01") == (Status.SKIPPED, "left out, since there is no evidence")


# ── evidence that is lost once others of the batch were changed ──
@pytest.mark.parametrize("missing", ["ask", "refuse"])
def test_nobody_is_asked_about_lost_evidence_while_another_host_stands_changed(
    stage: Stage, missing: str
) -> None:
    steps = [
        LOOK,
        {"id": "drain", "run": "drain it", "when": "host.name == 'gpu-01'"},
        {"id": "wait", "run": "wait it", "mutates": False},
        {"id": "stop", "run": "stop it"},
    ]
    gate = threading.Event()
    stage.script.on("evidence", KEPT)
    stage.script.on("evidence", KEPT, REFUSED, host="gpu-02")
    waiting = stage.script.on("wait", gate=gate, host="gpu-02")
    proving = stage.script.on("proof", host="gpu-01")
    run_id = stage.queue(
        mending(steps=steps, evidence={"missing": missing}, serial=[2], max_failures=1), BOTH
    )
    thread = stage.apart(run_id)
    waiting.wait()
    proving.wait()
    stage.clock.on(seconds=150)
    gate.set()
    thread.join()
    run = stage.run(run_id)
    assert run.state is RunState.FAILED
    assert stage.script.steps("gpu-01")[-3:] == ["proof", "undo", "seen"], "it does not wait for anybody"
    assert "stop" not in stage.script.steps("gpu-02")
    assert said(stage, run_id, "undo", "gpu-02") == LEFT_OUT
    assert "approval.asked" not in stage.kinds(run_id)
    assert run.reason.startswith("Failed on gpu-02. First: evidence on gpu-02.")
    why = " gpu-02 was left as it was for want of evidence; nobody was asked, since others were changed already."
    assert (why in run.reason) is (missing == "ask")
    assert host_result(run, Record(stage.attempts(run_id)), "gpu-02") == "unreachable"


def test_nor_before_a_rescue_while_another_host_waits_for_its_own(ill: Stage) -> None:
    ill.script.on("proof", done(exit_code=1))
    ill.script.on("evidence", REFUSED, host="gpu-01")
    run = ill.play(rescued(), BOTH)
    assert run.state is RunState.FAILED
    assert ill.script.steps("gpu-02")[-4:] == ["mend", "note", "undo", "seen"]
    assert ill.script.steps("gpu-01") == ["look", "proof", "evidence", "note", "seen"]
    assert "gpu-01 was left as it was for want of evidence" in run.reason
