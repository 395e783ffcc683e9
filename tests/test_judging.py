"""What each outcome of a command is recorded as."""

from typing import Any

import pytest
from pydantic import BaseModel

from bot.effect import Cancelled, Finished, Lost, Outcome, Output, TimedOut, Unreachable
from bot.engine.judging import judged
from bot.engine.planner import Planner
from bot.language.runbook import Step
from bot.runs.column import Call
from bot.runs.run import Attempt, Status
from bot.steps import KINDS
from bot.steps.kind import Judgement, Kind
from bot.verdict import Verdict
from tests.parts.books import START
from tests.parts.script import done, printed
from tests.parts.stage import machines


class Nothing(BaseModel):
    """No arguments."""


CONTEXT = {"inputs": {"limit": 5}, "steps": {}}


def record(
    outcome: Outcome,
    *,
    mutating: bool = False,
    section: str = "steps",
    number: int = 1,
    where: str = "",
    **step: Any,
) -> Attempt:
    """Judge an outcome of a step."""
    model = Step.model_validate({"id": "x", **({} if "uses" in step else {"run": "x"}), **step})
    begun = Attempt(1, "x", "gpu-01", number, Status.BEGUN, START)
    planner = Planner({**KINDS, "says": saying()}, machines(1))
    call = Call(section, model, "gpu-01", number)
    return judged(planner, call, begun, outcome, CONTEXT, START, mutating=mutating, where=where)


def saying() -> Kind:
    """Return a kind whose verdict is what the command printed."""

    def judge(_arguments: Any, answer: Finished, _context: Any) -> Judgement:
        return Judgement(ok=True, summary="looked", verdict=Verdict(answer.stdout.text))

    return Kind("Says it", Nothing, lambda *_: pytest.fail("not planned here"), judge)


@pytest.mark.parametrize(
    ("over", "idempotent", "number", "retries", "again"),
    [
        (True, True, 1, 0, True),
        (True, True, 2, 0, False),  # once more than it may be tried anyway, not for ever
        (True, True, 3, 2, True),
        (True, True, 4, 2, False),
        (True, False, 1, 5, False),
        (False, True, 1, 5, False),  # what may still be going is not started beside itself
    ],
)
def test_what_was_lost_is_done_again_only_if_it_is_idempotent_and_known_to_be_over(
    *, over: bool, idempotent: bool, number: int, retries: int, again: bool
) -> None:
    outcome = Lost("the host was rebooted while it ran", "look", over=over)
    found = record(outcome, mutating=True, number=number, idempotent=idempotent, retries=retries)
    assert (found.status, found.again) == (Status.UNKNOWN, again)
    says = "; it is idempotent, so it is done once more" if again else ""
    assert found.summary == f"the host was rebooted while it ran{says}"


@pytest.mark.parametrize(
    ("outcome", "status", "if_mutating"),
    [
        (done(), Status.OK, Status.OK),
        (done(exit_code=1), Status.FAILED, Status.FAILED),
        (Finished(None, Output(), Output(), signal="KILL"), Status.FAILED, Status.FAILED),
        (Unreachable("tcp", "refused", "look"), Status.UNREACHABLE, Status.UNREACHABLE),
        (TimedOut(60, Output(), Output(), ended=True), Status.FAILED, Status.FAILED),
        (TimedOut(60, Output(), Output(), ended=False), Status.FAILED, Status.UNKNOWN),
        (Cancelled(Output(), Output(), ended=True), Status.FAILED, Status.FAILED),
        (Cancelled(Output(), Output(), ended=False), Status.FAILED, Status.UNKNOWN),
        (Lost("rebooted", "look"), Status.UNKNOWN, Status.UNKNOWN),
    ],
)
def test_every_outcome_has_one_status(outcome: Outcome, status: Status, if_mutating: Status) -> None:
    assert record(outcome).status is status
    changed = record(outcome, mutating=True)
    assert changed.status is if_mutating
    assert changed.ended_at == START
    if changed.status is Status.UNKNOWN:
        assert changed.advice
        assert not changed.again
    if changed.status is not Status.OK:
        assert changed.summary


def test_what_a_command_printed_before_its_end_is_kept() -> None:
    assert record(TimedOut(60, printed("half"), Output(), ended=True)).stdout == "half"
    assert record(Cancelled(printed("half"), Output(), ended=True)).stdout == "half"


def test_a_load_balancer_that_does_not_answer_is_named_not_the_host_behind_it() -> None:
    gone = record(Unreachable("tcp", "refused", "is sshd running?"), where="lb-01")
    assert (gone.summary, gone.advice) == ("lb-01: unreachable (tcp): refused", "lb-01: is sshd running?")
    assert (
        "lb-01" in record(TimedOut(9, Output(), Output(), ended=False), mutating=True, where="lb-01").advice
    )
    assert record(Unreachable("tcp", "refused", ""), where="gpu-01").summary == "unreachable (tcp): refused"


def test_a_cancelled_try_is_not_tried_again() -> None:
    assert not record(Cancelled(Output(), Output(), ended=True), retries=5).again
    assert record(TimedOut(60, Output(), Output(), ended=True), retries=5).again
    assert record(Unreachable("tcp", "refused", "")).again


def test_an_expectation_sees_the_answer_and_the_inputs() -> None:
    fits: dict[str, Any] = {"expect": "result.exit_code == 0 and result.stdout | int < inputs.limit"}
    assert record(done("4"), **fits).status is Status.OK
    failed = record(done("6"), **fits)
    assert (failed.status, failed.again) == (Status.FAILED, True)
    assert failed.summary.startswith("expected result.exit_code == 0")


def test_an_expression_that_cannot_be_worked_out_fails_the_step_and_says_so() -> None:
    broken = record(done("x"), expect="facts.gpus | length == 8")
    assert broken.status is Status.FAILED
    assert "gpus" in broken.summary


def test_until_is_not_met_yet_is_no_failure_before_the_last_try() -> None:
    until: dict[str, Any] = {"until": "result.stdout == 'ready'", "retries": 2}
    first, last = record(done("no"), **until), record(done("no"), number=3, **until)
    assert (first.status, first.again) == (Status.OK, True)
    assert (last.status, last.again) == (Status.FAILED, True)
    assert "after 3 tries" in last.summary
    met = record(done("ready"), **until)
    assert (met.status, met.again) == (Status.OK, False)


def test_a_check_that_finds_something_wrong_was_done_but_looks_again() -> None:
    sick = record(done("unhealthy"), uses="says", retries=1)
    assert (sick.status, sick.verdict, sick.again) == (Status.OK, Verdict.UNHEALTHY, True)
    assert record(done("unhealthy"), uses="says", retries=1, number=2).status is Status.OK
    assert not record(done("healthy"), uses="says").again


@pytest.mark.parametrize("word", ["unhealthy", "unknown"])
def test_only_a_healthy_verdict_is_proof(word: str) -> None:
    doubt = record(done(word), uses="says", section="verify")
    assert doubt.status is Status.FAILED
    assert record(done(word), uses="says", section="verify", until="true").status is Status.FAILED
    early = record(done(word), uses="says", section="verify", retries=1)
    assert (early.status, early.again) == (Status.OK, True)
    assert record(done("healthy"), uses="says", section="verify").status is Status.OK
