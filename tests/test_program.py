"""What a run does next, for every order in which hosts may answer and fail."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.language.runbook import Runbook
from bot.program import Act, Ask, Finish, Move, Sleep, next_move
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, RunState, Status
from tests.parts.books import START, attempt, book, mutates, plan_for, run

HOSTS = tuple("abcdef")


def move(run: Run, record: Record, approval: Any = None, *, now: Any = START) -> Move:
    """Ask what is next, with an approval that runs out after ten minutes."""
    return next_move(run, record, mutates(run.runbook), approval, START + timedelta(minutes=10), now)


def played(
    one: Run, answer: Any, *, cancel_after: int | None = None
) -> tuple[Finish, list[tuple[str, str, int]], Record]:
    """Play a run to its end; `answer(call)` gives each attempt's status. Returns end, calls in order, record.

    What is left out is not among the calls.
    """
    record = Record()
    calls: list[tuple[str, str, int]] = []
    for _ in range(1000):
        now = START + timedelta(hours=1) if one.cancelled_by is None else START
        what = move(one, record, "approved" if one.plan and one.mode == "approve" else None, now=now)
        match what:
            case Act(todo):
                for call in todo:
                    if call.left_out:
                        record.add(attempt(call.step.id, call.host, Status.SKIPPED, summary=call.left_out))
                        continue
                    calls.append((call.step.id, call.host, call.number))
                    status = answer(call)
                    record.add(attempt(call.step.id, call.host, status, call.number))
                    if cancel_after is not None and len(calls) >= cancel_after:
                        one = replace(one, cancelled_by="alice")
            case Ask():
                one = replace(one, plan=plan_for(one, record))
            case Finish():
                return what, calls, record
            case Sleep():
                raise AssertionError("nothing to sleep for")
    raise AssertionError("the run never ends")


def test_a_run_looks_everywhere_first_then_asks_then_acts_host_by_host() -> None:
    one = run(book(), ("a", "b"))
    end, calls, _ = played(one, lambda _: Status.OK)
    assert calls == [
        ("look", "a", 1),
        ("look", "b", 1),
        *[(step, "a", 1) for step in ("stop", "start", "proof", "undo")],
        *[(step, "b", 1) for step in ("stop", "start", "proof", "undo")],
    ]
    assert end.state is RunState.SUCCEEDED


def test_nothing_is_changed_before_somebody_approved() -> None:
    one = run(book(), ("a",), mode="approve")
    record = Record([attempt("look", "a")])
    assert move(one, record) == Ask()
    one = replace(one, plan=plan_for(one, record))
    assert move(one, record, "pending") == Sleep(START + timedelta(minutes=10))
    for state, word in (("denied", "denied"), ("void", "no longer"), ("expired", "in time")):
        end = move(one, record, state)
        assert isinstance(end, Finish)
        assert end.state is RunState.CANCELLED
        assert word in end.reason
        assert "nothing was changed" in end.reason
    late = move(one, record, "pending", now=START + timedelta(minutes=11))
    assert isinstance(late, Finish)


def test_a_suggestion_changes_nothing() -> None:
    end, calls, _ = played(run(book(), ("a",), mode="suggest"), lambda _: Status.OK)
    assert calls == [("look", "a", 1)]
    assert end.state is RunState.SUCCEEDED


def test_the_first_failure_stops_the_batches_that_follow_and_says_which_hosts_were_not_begun() -> None:
    one = run(book(), ("a", "b", "c"))
    end, calls, _ = played(one, lambda call: Status.FAILED if call.step.id == "stop" else Status.OK)
    assert [call for call in calls if call[1] != "a" and call[0] != "look"] == []
    assert [call[0] for call in calls if call[1] == "a"] == ["look", "stop", "note", "undo"]
    assert end.state is RunState.FAILED
    assert "Failed on a." in end.reason


def test_an_unreachable_host_counts_as_a_failure_and_always_is_tried_there() -> None:
    one = run(book(serial=[2]), ("a", "b", "c"))
    end, calls, _ = played(
        one, lambda call: Status.UNREACHABLE if call.host == "a" and call.step.id == "start" else Status.OK
    )
    assert ("undo", "a", 1) in calls
    assert not any(step == "stop" and host == "c" for step, host, _ in calls)
    assert end.state is RunState.FAILED


def test_max_failures_lets_the_others_go_on() -> None:
    one = run(book(max_failures=1), ("a", "b", "c"))
    end, calls, _ = played(
        one, lambda call: Status.FAILED if (call.host, call.step.id) == ("a", "stop") else Status.OK
    )
    assert ("undo", "c", 1) in calls
    assert end.state is RunState.FAILED


def test_a_host_that_failed_in_the_look_is_not_acted_on() -> None:
    one = run(book(max_failures=1), ("a", "b"))
    _, calls, _ = played(
        one, lambda call: Status.FAILED if (call.host, call.step.id) == ("a", "look") else Status.OK
    )
    assert [call[0] for call in calls if call[1] == "a"] == ["look", "note"]
    assert ("stop", "b", 1) in calls


def test_an_unknown_end_of_a_mutating_step_needs_a_human_and_is_never_tried_again() -> None:
    steps = [{"id": "stop", "run": "stop it", "retries": 5}]
    end, calls, _ = played(
        run(book(steps=steps), ("a",)), lambda call: Status.UNKNOWN if call.step.id == "stop" else Status.OK
    )
    assert [call for call in calls if call[0] == "stop"] == [("stop", "a", 1)]
    assert end.state is RunState.NEEDS_HUMAN
    assert "a" in end.reason


def test_a_retry_waits_for_its_delay_in_the_row_not_in_a_thread() -> None:
    steps = [{"id": "look", "run": "x", "retries": 2, "delay": "30s"}]
    one = run(book(kind="observe", verify=[], rescue=[], always=[], steps=steps), ("a",))
    record = Record([attempt("look", "a", Status.FAILED)])
    assert move(one, record) == Sleep(START + timedelta(seconds=30))
    then = move(one, record, now=START + timedelta(seconds=30))
    assert isinstance(then, Act)
    assert then.calls[0].number == 2


def test_a_step_that_began_is_resumed_under_the_same_number() -> None:
    one = run(book(), ("a",))
    record = Record([attempt("look", "a", Status.BEGUN)])
    again = move(one, record)
    assert isinstance(again, Act)
    assert again.calls[0].number == 1


def test_always_runs_after_a_cancel_but_only_where_something_began() -> None:
    end, calls, _ = played(run(book(), ("a", "b")), lambda _: Status.OK, cancel_after=3)
    assert calls[-1] == ("undo", "a", 1)
    assert ("start", "a", 1) not in calls
    assert not any(host == "b" and step != "look" for step, host, _ in calls)
    assert end.state is RunState.CANCELLED


def test_the_timeout_ends_the_work_and_still_cleans_up() -> None:
    one = run(book(), ("a",), deadline=START)
    one = replace(one, plan=plan_for(one, Record([attempt("look", "a")])))
    record = Record([attempt("look", "a"), attempt("stop", "a")])
    undo = move(one, record, now=START + timedelta(seconds=1))
    assert isinstance(undo, Act)
    assert [call.step.id for call in undo.calls] == ["undo"]
    record.add(attempt("undo", "a"))
    end = move(one, record, now=START + timedelta(seconds=1))
    assert isinstance(end, Finish)
    assert end.state is RunState.FAILED


def test_a_failed_clean_up_fails_the_run() -> None:
    end, _, _ = played(
        run(book(), ("a",)), lambda call: Status.FAILED if call.step.id == "undo" else Status.OK
    )
    assert end.state is RunState.FAILED


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_run_ends_and_keeps_its_promises(data: st.DataObject) -> None:
    """No order of answers loses a host, repeats a finished step, exceeds the batch, or acts after the limit."""
    serial = data.draw(st.lists(st.sampled_from([1, 2, 3, "50%"]), min_size=1, max_size=3))
    limit = data.draw(st.integers(0, 3))
    retries = data.draw(st.integers(0, 2))
    steps = [
        {"id": "look", "run": "x", "mutates": False},
        {"id": "stop", "run": "x", "retries": retries, "delay": "0s"},
        {"id": "start", "run": "x"},
    ]
    one = run(book(serial=serial, max_failures=limit, steps=steps), HOSTS)
    statuses = st.sampled_from(
        [*[Status.OK] * 6, Status.FAILED, Status.UNREACHABLE, Status.UNKNOWN, Status.SKIPPED]
    )
    finished: set[tuple[str, str]] = set()

    def answer(call: Any) -> Status:
        place = (call.step.id, call.host)
        assert place not in finished, "a finished step was done again"
        status = data.draw(statuses)
        if status in (Status.OK, Status.SKIPPED, Status.UNKNOWN):
            finished.add(place)
        return status

    cancel = data.draw(st.none() | st.integers(1, 20))
    end, calls, record = played(one, answer, cancel_after=cancel)
    assert end.state.ended
    began = {host for step, host, _ in calls if step == "stop"}
    assert all(record.last("undo", host) for host in began), "a host was left without its clean-up"
    assert all(host in HOSTS for _, host, _ in calls)
    failed = [host for host in HOSTS if any(not a.good for a in record.of(host) if a.step != "note")]
    if end.state is RunState.SUCCEEDED:
        assert not failed


@pytest.mark.parametrize("kind", ["observe", "mutate"])
def test_a_record_gives_the_same_move_in_whatever_order_it_was_read(kind: str) -> None:
    runbook: Runbook = book() if kind == "mutate" else book(kind="observe", verify=[], rescue=[], always=[])
    one = run(runbook, ("a", "b"))
    rows: list[Attempt] = [
        attempt("look", "a"),
        attempt("look", "b", Status.FAILED),
        attempt("look", "b", number=2),
    ]
    assert move(one, Record(rows)) == move(one, Record(reversed(rows)))


def approved(runbook: Runbook, *rows: Attempt, **changes: Any) -> Run:
    """Return a run on host a whose plan stands."""
    one = run(runbook, ("a",), **changes)
    return replace(one, plan=plan_for(one, Record([attempt("look", "a")])))


@pytest.mark.parametrize("halted", [{"cancelled_by": "alice"}, {"deadline": START}])
def test_a_run_that_is_to_end_waits_for_no_retry(halted: dict[str, Any]) -> None:
    steps = [{"id": "stop", "run": "x"}]
    verify = [{"id": "proof", "run": "x", "mutates": False, "until": "false", "retries": 20, "delay": "15s"}]
    one = approved(book(steps=steps, verify=verify), **halted)
    record = Record([attempt("stop", "a"), attempt("proof", "a", again=True)])
    for now in (START, START + timedelta(seconds=15)):
        undo = move(one, record, now=now)
        assert isinstance(undo, Act)
        assert [call.step.id for call in undo.calls] == ["undo"]


def test_a_rescue_that_is_going_ends_before_the_clean_up_begins() -> None:
    one = approved(book(), cancelled_by="alice")
    record = Record(
        [attempt("look", "a"), attempt("stop", "a", Status.FAILED), attempt("note", "a", Status.BEGUN)]
    )
    going = move(one, record)
    assert isinstance(going, Act)
    assert [(call.step.id, call.number) for call in going.calls] == [("note", 1)]


def test_the_timeout_of_the_work_does_not_count_while_people_are_asked() -> None:
    one = approved(book(), mode="approve", deadline=START + timedelta(minutes=5))
    record = Record([attempt("look", "a")])
    later = START + timedelta(minutes=6)
    assert move(one, record, "pending", now=later) == Sleep(START + timedelta(minutes=10))
    for state in ("denied", "expired"):
        end = move(one, record, state, now=START + timedelta(minutes=11))
        assert isinstance(end, Finish)
        assert end.state is RunState.CANCELLED


def test_a_plan_that_has_to_be_asked_about_is_not_acted_on_without_its_question() -> None:
    one = approved(book(), mode="approve")
    end = move(one, Record([attempt("look", "a")]), None)
    assert isinstance(end, Finish)
    assert end.state is RunState.CANCELLED


@pytest.mark.parametrize("mode", ["suggest", "auto"])
def test_a_host_that_failed_in_the_look_fails_the_run_even_when_nothing_needs_doing(mode: str) -> None:
    one = run(book(max_failures=1), ("a", "b"), mode=mode)
    record = Record([attempt("look", "a"), attempt("look", "b", Status.FAILED)])
    record.add(attempt("note", "b"))
    record.add(attempt("undo", "b", Status.SKIPPED))
    plan = plan_for(one, record)
    idle = replace(plan, entries=tuple(replace(entry, decision="skip") for entry in plan.entries))
    end = move(replace(one, plan=idle), record)
    assert isinstance(end, Finish)
    assert end.state is RunState.FAILED
    assert "b" in end.reason


# ── rollback ──
def undoable(**changes: Any) -> Runbook:
    """Return a runbook whose first two changes can be undone."""
    steps = [
        {"id": "look", "run": "x", "mutates": False},
        {"id": "drain", "run": "x", "rollback": {"run": "undrain"}},
        {"id": "stop", "run": "x", "rollback": {"run": "start again"}},
        {"id": "start", "run": "x"},
    ]
    return book(**({"steps": steps} | changes))


def test_what_had_succeeded_is_undone_last_first_before_rescue_and_once() -> None:
    end, calls, _ = played(
        run(undoable(), ("a", "b")), lambda call: Status.FAILED if call.step.id == "start" else Status.OK
    )
    assert [step for step, host, _ in calls if host == "a"] == [
        "look", "drain", "stop", "start", "stop_rollback", "drain_rollback", "note", "undo",
    ]  # fmt: skip
    assert [step for step, host, _ in calls if host == "b"] == ["look"]
    assert end.state is RunState.FAILED
    assert end.reason == "Failed on a. First: start on a. Rolled back on a."


def test_a_failed_verify_undoes_and_a_step_that_failed_or_was_skipped_is_not_undone() -> None:
    _, calls, _ = played(
        run(undoable(), ("a",)), lambda call: Status.FAILED if call.step.id == "proof" else Status.OK
    )
    assert [call[0] for call in calls][-4:] == ["stop_rollback", "drain_rollback", "note", "undo"]
    answers = {"drain": Status.SKIPPED, "stop": Status.FAILED}
    _, calls, _ = played(run(undoable(), ("a",)), lambda call: answers.get(call.step.id, Status.OK))
    assert [call[0] for call in calls] == ["look", "drain", "stop", "note", "undo"]


def test_a_rollback_that_fails_ends_the_undoing_and_is_told() -> None:
    bad = ("start", "stop_rollback")
    end, calls, _ = played(
        run(undoable(), ("a",)), lambda call: Status.FAILED if call.step.id in bad else Status.OK
    )
    assert [call[0] for call in calls][4:] == ["stop_rollback", "note", "undo"]
    assert (end.state, end.reason) == (
        RunState.FAILED,
        "Failed on a. First: start on a. Rolling back failed on a.",
    )


def test_after_a_cancel_what_was_done_is_undone_and_a_failure_of_that_fails_the_run() -> None:
    one = run(undoable(), ("a",))
    end, calls, _ = played(one, lambda _: Status.OK, cancel_after=2)
    assert [call[0] for call in calls] == ["look", "drain", "drain_rollback", "undo"]
    assert (end.state, end.reason) == (RunState.CANCELLED, "Cancelled by alice. Rolled back on a.")
    end, _, _ = played(
        one,
        lambda call: Status.FAILED if call.step.id == "drain_rollback" else Status.OK,
        cancel_after=2,
    )
    assert (end.state, end.reason) == (RunState.FAILED, "Cancelled by alice. Rolling back failed on a.")


def test_after_the_timeout_what_was_done_is_undone() -> None:
    one = approved(undoable(), deadline=START)
    record = Record([attempt("look", "a"), attempt("drain", "a")])
    undo = move(one, record, now=START + timedelta(seconds=1))
    assert isinstance(undo, Act)
    assert [(call.section, call.step.id) for call in undo.calls] == [("rollback", "drain_rollback")]


def test_where_nobody_knows_how_a_command_ended_nothing_is_undone() -> None:
    end, calls, _ = played(
        run(undoable(), ("a",)), lambda call: Status.UNKNOWN if call.step.id == "start" else Status.OK
    )
    assert [call[0] for call in calls] == ["look", "drain", "stop", "start", "note", "undo"]
    assert end.state is RunState.NEEDS_HUMAN


def test_a_rollback_that_had_begun_is_resumed_under_its_own_number() -> None:
    one = approved(undoable())
    rows = [attempt("look", "a"), attempt("drain", "a"), attempt("stop", "a", Status.FAILED)]
    again = move(one, Record([*rows, attempt("drain_rollback", "a", Status.BEGUN)]))
    assert isinstance(again, Act)
    assert [(call.step.id, call.number) for call in again.calls] == [("drain_rollback", 1)]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_hosts_answer_each_thing_done_is_undone_at_most_once_and_in_reverse(
    data: st.DataObject,
) -> None:
    statuses = st.sampled_from(
        [*[Status.OK] * 5, Status.SKIPPED, Status.FAILED, Status.UNREACHABLE, Status.UNKNOWN]
    )
    given_: dict[tuple[str, str], Status] = {}

    def answer(call: Any) -> Status:
        status = given_[call.step.id, call.host] = data.draw(statuses)
        return status

    serial = data.draw(st.sampled_from([[1], [2], ["100%"]]))
    one = run(undoable(serial=serial, max_failures=data.draw(st.integers(0, 2))), ("a", "b", "c"))
    end, calls, _ = played(one, answer, cancel_after=data.draw(st.none() | st.integers(1, 15)))
    assert end.state.ended
    assert len(set(calls)) == len(calls)
    for host in "abc":
        mine = [step for step, where, _ in calls if where == host]
        undone = [step for step in mine if step.endswith("_rollback")]
        assert undone == [step for step in ("stop_rollback", "drain_rollback") if step in undone]
        for step in undone:
            assert given_[step.removesuffix("_rollback"), host] is Status.OK
            assert "note" not in mine[: mine.index(step)]
            assert "undo" not in mine[: mine.index(step)]
        through = all(given_.get((step, host)) in (Status.OK, Status.SKIPPED) for step in ("start", "proof"))
        unknown = any(
            given_.get((step, host)) is Status.UNKNOWN for step in ("drain", "stop", "start", "proof")
        )
        if through or unknown:
            assert not undone
        elif given_.get(("drain", host)) is Status.OK:
            stop = given_.get(("stop_rollback", host), Status.OK)
            assert ("drain_rollback" in undone) == (stop in (Status.OK, Status.SKIPPED))


def test_a_lost_end_is_followed_by_another_attempt_only_where_the_step_is_idempotent() -> None:
    for idempotent in (True, False):
        one = approved(book(steps=[{"id": "stop", "run": "x", "idempotent": idempotent, "delay": "0s"}]))
        lost = Record([attempt("stop", "a", Status.UNKNOWN, again=True)])
        what = move(one, lost)
        assert isinstance(what, Act)
        told = [(call.step.id, call.number) for call in what.calls]
        assert told == ([("stop", 2)] if idempotent else [("note", 1)])


@pytest.mark.parametrize("sent", [True, False])
def test_a_try_that_was_sent_is_cleaned_up_after_although_the_next_could_not_be(sent: bool) -> None:
    tries = [
        attempt("stop", "a", Status.FAILED, sent=sent),
        attempt("stop", "a", Status.FAILED, number=2, sent=False, again=False),
    ]
    for rows in (tries, tries[::-1]):
        undo = move(approved(book()), Record([attempt("look", "a"), attempt("note", "a"), *rows]))
        assert isinstance(undo, Act)
        assert [(call.step.id, call.left_out == "") for call in undo.calls] == [("undo", sent)]


def test_what_was_begun_and_then_could_not_be_sent_has_changed_nothing() -> None:
    record = Record([attempt("stop", "a", Status.BEGUN)])
    assert record.changed("a", frozenset({"stop"}))
    record.add(attempt("stop", "a", Status.FAILED, sent=False))
    assert not record.changed("a", frozenset({"stop"}))


@given(
    delay=st.integers(0, 600),
    ended=st.integers(-10_000, 10_000),
    jump=st.integers(-10_000, 10_000),
)
def test_a_try_waits_for_two_pauses_at_most_whatever_the_clock_does(
    delay: int, ended: int, jump: int
) -> None:
    proof = {"id": "proof", "run": "prove it", "mutates": False, "retries": 3, "delay": f"{delay}s"}
    one = run(book(kind="observe", steps=[proof], verify=[], rescue=[], always=[]), ("a",), deadline=None)
    at = START + timedelta(seconds=ended)
    record = Record([attempt("proof", "a", Status.FAILED, ended_at=at)])
    now = at + timedelta(seconds=jump)
    match move(one, record, now=now):
        case Act((call,)):
            assert call.number == 2
            assert not at <= now < at + timedelta(seconds=delay), "not before its pause is over"
        case Sleep(until):
            assert until is not None
            assert now < until <= now + 2 * timedelta(seconds=delay)
        case other:
            raise AssertionError(other)
