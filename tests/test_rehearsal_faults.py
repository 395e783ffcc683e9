"""Generated faults: the shipped runbooks hold every rule, and each rule catches what breaks it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.effect import Command, Finished, Lost, Output, TimedOut, Unreachable
from bot.rehearsal import Faults, break_steps
from bot.rehearsal.faults import FAULTS, Fault, Faulty, bent, broken, left_out
from bot.rehearsal.script import Sent
from bot.rehearsal.stage import Played
from bot.runs.run import Attempt, RunState, Status
from bot.shipped import shipped
from bot.verdict import Verdict
from tests.parts.books import START, attempt, book, mutates, run

BOOK = """\
version: 1
name: mend
description: Mend it, out of traffic
kind: mutate
triggers: [{command: true}]
evidence: none
steps:
  - {id: look, run: cat /proc/disk, mutates: false}
  - {id: drain, uses: haproxy.drain, with: {last: allow}}
  - {id: change, run: mend disk}
verify:
  - {id: proof, run: cat /proc/disk, mutates: false, expect: "'fine' in result.stdout"}
always:
  - {id: undrain, when: steps.drain.ok, uses: haproxy.undrain}
"""

CASES = """\
it is mended:
  given:
    hosts:
      gpu-03: {vars: {haproxy: {host: lb-01, server: be_vllm/gpu-03}}}
      lb-01: {}
    replies:
      - {step: look, stdout: broken}
      - step: drain
        stdout: &drained |
          # pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,
          be_vllm,gpu-03,0,0,7,9,,120,1,1,,0,,0,0,0,0,DRAIN,1,1,
          be_vllm,gpu-04,0,0,5,9,,120,1,1,,0,,0,0,0,0,UP,1,1,

          1
          # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
          3 be_vllm 1 gpu-03 192.0.2.3 2 8 1 1 0
          3 be_vllm 2 gpu-04 192.0.2.4 2 0 1 1 100
      - {step: change}
      - {step: proof, stdout: fine}
      - step: undrain
        stdout: |
          # pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,
          be_vllm,gpu-03,0,0,0,9,,120,1,1,,0,,0,0,0,0,UP,1,1,
          be_vllm,gpu-04,0,0,5,9,,120,1,1,,0,,0,0,0,0,UP,1,1,

          1
          # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
          3 be_vllm 1 gpu-03 192.0.2.3 2 0 1 1 0
          3 be_vllm 2 gpu-04 192.0.2.4 2 0 1 1 100
  approve: [ben]
  expect: {state: succeeded}
"""
UNDO = "always:\n  - {id: undrain, when: steps.drain.ok, uses: haproxy.undrain}\n"


def break_book(folder: Path, book: str = BOOK, cases: str = CASES) -> Faults:
    """Break each step of the runbook `mend`."""
    (folder / "mend.yaml").write_text(book)
    (folder / "mend.test.yaml").write_text(cases)
    (found,) = break_steps([folder])
    return found


# ── whole runbooks ──
@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", sorted(shipped("runbooks").glob("*.test.yaml")), ids=lambda file: file.name)
def test_whatever_goes_wrong_in_a_shipped_runbook_every_rule_holds(file: Path) -> None:
    (found,) = break_steps([file])
    assert found.problems == ()
    assert found.passed
    assert found.cases >= len(FAULTS) - 1


def test_a_runbook_that_undoes_its_drain_holds_and_every_step_was_broken_in_every_way(tmp_path: Path) -> None:
    found = break_book(tmp_path)
    assert found.problems == ()
    assert found.cases == 3 * len(FAULTS) + 2 * (len(FAULTS) - 1), "look and proof change nothing to be lost"


def test_a_drain_that_is_undone_only_where_all_went_well_is_caught(tmp_path: Path) -> None:
    found = break_book(tmp_path, BOOK.replace("when: steps.drain.ok", "when: steps.proof.ok"))
    assert not found.passed
    wanted = "gpu-03 was taken out of traffic, not put back, and no later step says so"
    assert [one for one in found.problems if "step change" in one and wanted in one], found.problems
    assert all(one.startswith(f"{tmp_path}/mend.test.yaml:1: with ") for one in found.problems)


def test_a_host_that_is_to_stay_out_is_listed_with_why_and_may_stay(tmp_path: Path) -> None:
    kept = BOOK.replace("with: {last: allow}", "with: {last: allow, keep: new disks}").replace(UNDO, "")
    cases = CASES[: CASES.index("      - step: undrain")] + CASES[CASES.index("  approve:") :]
    assert break_book(tmp_path, kept, cases).problems == ()


def test_a_step_that_says_the_host_was_left_out_is_enough(tmp_path: Path) -> None:
    told = (
        UNDO.replace("steps.drain.ok", "steps.proof.ok")
        + "  - {id: out, when: not steps.undrain.ok, uses: haproxy.state}\n"
    )
    assert break_book(tmp_path, BOOK.replace(UNDO, told)).problems == ()


def test_a_case_that_does_not_go_well_itself_has_to_be_mended_first(tmp_path: Path) -> None:
    found = break_book(tmp_path, BOOK.replace("when: steps.drain.ok", "when: steps.change.facts.done"))
    assert found.problems == (
        f"{tmp_path}/mend.test.yaml:1: the case ends as failed, not as it says: mend it first",
    )
    assert not found.passed


def test_without_a_good_case_there_is_nothing_to_break_and_that_is_told(tmp_path: Path) -> None:
    found = break_book(tmp_path, cases=CASES.replace("state: succeeded", "state: failed"))
    assert not found.passed
    assert "mend.test.yaml:1: no case ends as succeeded" in found.problems[0]


def test_a_runbook_that_cannot_be_read_is_told_by_its_line(tmp_path: Path) -> None:
    found = break_book(tmp_path, BOOK.replace("verify:", "verfy:"))
    assert not found.passed
    assert any("mend.yaml:" in one and "did you mean `verify`?" in one for one in found.problems)


@pytest.mark.timeout(600)
def test_every_good_case_is_broken_not_only_the_first(tmp_path: Path) -> None:
    again = CASES + CASES.replace("it is mended", "it is mended again").replace("&drained ", "")
    assert break_book(tmp_path, cases=again).cases == 2 * break_book(tmp_path).cases


# ── each rule ──
HOST = "gpu-01"
BOOK_OF_RULES = book()


def played(*attempts: Attempt, state: RunState = RunState.FAILED, **changes: Any) -> Played:
    """Return a run of look, stop, start, proof, note and undo as if it had been played; each attempt a second later."""
    fields: dict[str, Any] = {"state": state, "reason": "Failed on gpu-01.", "ended_at": START} | changes
    return Played(run(BOOK_OF_RULES, (HOST,), **fields), attempts, mutates(BOOK_OF_RULES))


def after(seconds: int, step: str, status: Status = Status.OK, **changes: Any) -> Attempt:
    """Return an attempt that began that many seconds after START."""
    summary = "" if status is Status.OK else "it said why"
    fields = {"summary": summary} | changes
    one = attempt(step, HOST, status, **fields)
    at = START.replace(second=seconds)
    return replace(one, begun_at=at, ended_at=at)


FAILED = (
    after(1, "look"),
    after(2, "stop", Status.FAILED),
    after(3, "note"),
    after(4, "undo"),
)
"""A run that went wrong as it should."""


def test_a_run_that_went_wrong_as_it_should_breaks_no_rule() -> None:
    assert list(broken(played(*FAILED))) == []


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (played(*FAILED, state=RunState.RUNNING), "the run did not end, it is running"),
        (played(*FAILED, state=RunState.SUCCEEDED), "the run succeeded, and step stop on gpu-01 is failed"),
        (played(*FAILED, reason=""), "the run is failed, and no person is told why"),
        (
            played(*FAILED, after(5, "start")),
            "step start changed gpu-01 after stop, which is failed",
        ),
        (
            played(
                after(1, "look"), after(2, "stop", Status.UNREACHABLE), after(3, "start"), after(4, "undo")
            ),
            "step start changed gpu-01 after stop, which is unreachable",
        ),
        (
            played(after(1, "look"), after(2, "stop", Status.UNKNOWN), after(3, "undo")),
            "nobody knows how stop ended on gpu-01, and the run is failed",
        ),
        (
            played(*FAILED[:3]),
            "always step undo did not run on gpu-01, where a change had begun",
        ),
        (
            played(after(1, "look"), after(2, "stop", Status.FAILED, number=2), after(4, "undo")),
            "step stop on gpu-01 was tried 2 times, 1 are allowed",
        ),
        (
            played(after(1, "look"), after(2, "stop", Status.FAILED, summary=""), after(4, "undo")),
            "step stop on gpu-01 is failed, and nothing says why",
        ),
        (
            played(*FAILED, verdict=Verdict.HEALTHY),
            "the verdict is healthy, and step stop on gpu-01 is failed",
        ),
    ],
)
def test_each_rule_catches_what_breaks_it(made: Played, problem: str) -> None:
    assert problem in list(broken(made))


@pytest.mark.parametrize("fault", ["timeout", "unreachable", "lost", "wrong exit code"])
def test_a_step_that_passes_without_an_answer_is_caught(fault: Fault) -> None:
    made = played(after(1, "look"), after(2, "stop"), after(3, "start"), after(4, "proof"), after(5, "undo"))
    bend = Faulty("start", fault, struck={HOST})
    assert f"step start on {HOST} passed as ok, with {fault}" in list(broken(made, bend))
    assert list(broken(played(*FAILED), replace(bend, step="stop"))) == []


def test_a_host_that_belongs_out_of_traffic_may_stay_there_when_all_went_well() -> None:
    shown = book(steps=[{"id": "drain", "uses": "haproxy.drain"}], always=[])
    well = run(shown, (HOST,), state=RunState.SUCCEEDED)
    made = Played(well, [after(1, "drain"), after(2, "proof")], frozenset({"drain"}))
    assert left_out(made) == {HOST}
    assert list(broken(made, meant=frozenset({HOST}))) == []
    assert list(broken(made)) == [f"{HOST} was taken out of traffic, not put back, and no later step says so"]


# ── the faults themselves ──
COMMAND = Command("mend", timeout=30)
WELL = Finished(0, Output(b"0123456789", 10), Output(b"", 0))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_makes_another_outcome_of_a_good_one(fault: Fault) -> None:
    assert bent(WELL, fault, COMMAND) != WELL


def test_what_a_fault_makes_is_what_it_is_called() -> None:
    assert bent(WELL, "timeout", COMMAND) == TimedOut(30, Output(b"01234", 5), Output(b"", 0), ended=True)
    assert isinstance(bent(WELL, "lost", COMMAND), Lost)
    assert bent(WELL, "partial output", COMMAND) == replace(WELL, stdout=Output(b"01234", 5))
    assert bent(WELL, "wrong exit code", COMMAND) == replace(WELL, exit_code=1)
    assert bent(replace(WELL, exit_code=7), "wrong exit code", COMMAND) == WELL


def test_a_machine_that_cannot_be_reached_stays_so_and_no_other_suffers() -> None:
    gone = Faulty("change", "unreachable")
    assert gone(Sent("look", HOST, HOST, COMMAND), WELL) == WELL
    assert isinstance(gone(Sent("change", HOST, HOST, COMMAND), WELL), Unreachable)
    assert isinstance(gone(Sent("note", HOST, HOST, COMMAND), WELL), Unreachable)
    assert gone(Sent("undrain", HOST, "lb-01", COMMAND), WELL) == WELL
    assert gone.struck == {HOST}
