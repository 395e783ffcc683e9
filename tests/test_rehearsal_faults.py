"""Generated faults: the shipped runbooks hold every rule, and each rule catches what breaks it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.effect import Command, Finished, Lost, Outcome, Output, TimedOut, Unreachable
from bot.rehearsal import Faults, break_steps
from bot.rehearsal.faults import FAULTS, Fault, Faulty, bent, broken, left_out
from bot.rehearsal.script import Sent
from bot.rehearsal.stage import Played
from bot.runs.run import Attempt, RunState, Status
from bot.shipped import shipped
from bot.steps import KINDS
from bot.steps.kind import Context, Judgement, Kind
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


def break_book(
    folder: Path, book: str = BOOK, cases: str = CASES, kinds: Mapping[str, Kind] = KINDS
) -> Faults:
    """Break each step of the runbook `mend`."""
    (folder / "mend.yaml").write_text(book)
    (folder / "mend.test.yaml").write_text(cases)
    (found,) = break_steps([folder], kinds)
    return found


def swap(text: str, old: str, new: str) -> str:
    """Replace what has to be there."""
    assert old in text
    return text.replace(old, new)


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
    ways = 3 * len(FAULTS) + 2 * (len(FAULTS) - 1)
    assert found.cases == ways - 1, "look and proof change nothing to be lost, and half of nothing is nothing"


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


# ── faults that can fail ──
def blind(facts: dict[str, Any] | None = None) -> dict[str, Kind]:
    """Return the step kinds, each of which calls whatever it gets healthy, with its own facts or with these."""

    def of(kind: Kind) -> Kind:
        def judge(arguments: Any, answer: Finished, context: Context) -> Judgement:
            own = kind.judge(arguments, answer, context) if facts is None else None
            verdict = Verdict.HEALTHY if own is None or own.verdict is not None else None
            return Judgement(
                ok=True, summary="all is well", verdict=verdict, facts=own.facts if own else facts or {}
            )

        return replace(kind, judge=judge)

    return {name: of(kind) for name, kind in KINDS.items()}


@pytest.mark.parametrize(
    ("facts", "noticed"),
    [
        (None, {"partial output", "wrong exit code", "garbage output"}),
        ({}, {"partial output", "wrong exit code", "garbage output"}),
        ({"count": 2}, {"wrong exit code", "garbage output"}),
    ],
    ids=["the facts are read", "no facts", "the same facts always"],
)
def test_a_check_that_calls_everything_healthy_is_noticed(
    facts: dict[str, Any] | None, noticed: set[str]
) -> None:
    (found,) = break_steps([shipped("runbooks") / "gpu-check.test.yaml"], blind(facts))
    assert {
        fault for fault in FAULTS for one in found.problems if f"with {fault} at step gpus" in one
    } == noticed
    garbled = "step gpus on gpu-03 passed as healthy, with garbage output, which it cannot have read"
    assert any(one.endswith(garbled) for one in found.problems)


def test_a_change_that_believes_whatever_is_printed_is_noticed(tmp_path: Path) -> None:
    kinds = {**KINDS, "haproxy.drain": blind()["haproxy.drain"]}
    problems = break_book(tmp_path, kinds=kinds).problems
    for fault in ("partial output", "garbage output", "wrong exit code"):
        assert any(f"step drain on gpu-03 passed as ok, with {fault}" in one for one in problems), problems


@pytest.mark.parametrize(
    ("proof", "named"),
    [
        ("", "garbage output: let `expect` say what it has to print, or let it print nothing"),
        (", expect: result.exit_code == 0", "garbage output: let `expect` say"),
        (""", expect: "'bad' not in result.stdout\"""", "garbage output, which it cannot have read"),
        (", expect: result.summary != ''", "garbage output, which it cannot have read"),
    ],
)
def test_a_verify_step_that_passes_whatever_is_printed_is_named(
    tmp_path: Path, proof: str, named: str
) -> None:
    weak = swap(BOOK, """, expect: "'fine' in result.stdout\"""", proof)
    (told,) = break_book(tmp_path, weak).problems
    assert f"verify step proof on gpu-03 passed as ok, with {named}" in told


def test_a_look_whose_expectation_holds_for_garbage_is_named_and_one_that_expects_nothing_is_not(
    tmp_path: Path,
) -> None:
    looks = swap(
        BOOK,
        "mutates: false}\n  - {id: drain",
        """mutates: false, expect: "'bad' not in result.stdout"}
  - {id: drain""",
    )
    (told,) = break_book(tmp_path, looks).problems
    assert ": step look on gpu-03 passed as ok, with garbage output, which it cannot have read" in told


def test_a_proof_that_prints_nothing_is_judged_by_its_exit_code(tmp_path: Path) -> None:
    silent = swap(
        BOOK,
        """cat /proc/disk, mutates: false, expect: "'fine' in result.stdout\"""",
        "test -e /fine, mutates: false",
    )
    cases = swap(CASES, "{step: proof, stdout: fine}", "{step: proof}")
    assert break_book(tmp_path, silent, cases).problems == ()


def test_a_proof_that_has_read_what_it_looks_for_before_the_cut_may_pass(tmp_path: Path) -> None:
    cases = swap(
        CASES, "{step: proof, stdout: fine}", '{step: proof, stdout: "fine, and much more than that"}'
    )
    assert break_book(tmp_path, cases=cases).problems == ()


def test_what_another_case_says_of_the_evidence_hinders_no_fault(tmp_path: Path) -> None:
    kept = swap(BOOK, "evidence: none\n", "")
    lacking = """
a host whose evidence cannot be had is left alone:
  given:
    hosts: {gpu-03: {vars: {haproxy: {host: lb-01, server: be_vllm/gpu-03}}}, lb-01: {}}
    replies: [{step: look}, {step: evidence, unreachable: true}]
  expect: {state: cancelled}
"""
    found = break_book(tmp_path, kept, CASES + lacking)
    assert found.problems == ()
    assert found.cases == break_book(tmp_path, kept, CASES).cases


# ── each rule ──
HOST = "gpu-01"
COMMAND = Command("mend", timeout=30)
WELL = Finished(0, Output(b"0123456789", 10), Output(b"", 0))
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


def struck(step: str, fault: Fault) -> Faulty:
    """Return a fault that has struck its step on the host."""
    bend = Faulty(step, fault)
    bend(Sent(step, HOST, HOST, COMMAND), WELL)
    return bend


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
    bend = struck("start", fault)
    assert any(f"step start on {HOST} passed as ok, with {fault}" in one for one in broken(made, bend))
    assert list(broken(played(*FAILED), struck("stop", fault))) == []


def test_a_fault_whose_step_is_never_reached_is_told() -> None:
    assert list(broken(played(*FAILED), Faulty("start", "garbage output"))) == [
        "the step was not reached, although it is where nothing goes wrong"
    ]


def test_part_of_an_answer_is_enough_for_a_step_that_takes_parts_and_for_no_other() -> None:
    made = played(after(1, "look", facts={"parts": 1}), state=RunState.SUCCEEDED, reason="")
    step = {"id": "look", "uses": "host.capture"}
    run_of = replace(made.run, runbook=book(steps=[step, *BOOK_OF_RULES.model_dump()["steps"][1:]]))
    bend = struck("look", "partial output")
    assert any("reads like the whole" in one for one in broken(replace(made, run=run_of), bend))
    some = replace(made, run=run_of, piecemeal=frozenset({"look"}))
    assert not any("look" in one for one in broken(some, bend))
    assert any("garbage" in one for one in broken(some, struck("look", "garbage output")))


def test_a_host_that_belongs_out_of_traffic_may_stay_there_when_all_went_well() -> None:
    shown = book(steps=[{"id": "drain", "uses": "haproxy.drain"}], always=[])
    well = run(shown, (HOST,), state=RunState.SUCCEEDED)
    made = Played(well, [after(1, "drain"), after(2, "proof")], frozenset({"drain"}))
    assert left_out(made) == {HOST}
    assert list(broken(made, well=made)) == []
    assert list(broken(made)) == [f"{HOST} was taken out of traffic, not put back, and no later step says so"]


# ── the faults themselves ──
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
    assert set(gone.struck) == {HOST}


def test_a_fault_that_changes_nothing_of_the_last_try_has_struck_nothing() -> None:
    bend = Faulty("change", "partial output")
    nothing: Outcome = replace(WELL, stdout=Output(b"", 0))
    bend(Sent("change", HOST, HOST, COMMAND), nothing)
    assert (bend.met, bend.bit, bend.struck) == (True, False, {})
    bend(Sent("change", HOST, HOST, COMMAND), WELL)
    assert (bend.bit, set(bend.struck)) == (True, {HOST})
    bend(Sent("change", HOST, HOST, COMMAND), nothing)
    assert (bend.bit, bend.struck) == (True, {})
