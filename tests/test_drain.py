"""Whose a drain is, and who may touch it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.guard.drain import SLACK, Drain, Grant, Refusal, Said, Turn, compared, ended, marks, may, settled
from bot.runs.run import Attempt, Requester, Run, RunState, Status
from tests.parts.books import START, attempt, book, run

ALICE = Requester("alice", "alice")
ALERT = Requester("alert VLLMStalled", via="alert")
OURS = Drain(
    id=1,
    host="gpu-03",
    lb="lb-01",
    socket="/run/x.sock",
    server="be/gpu-03",
    run=7,
    runbook="drain-host",
    incident=None,
    by="alice",
    person="alice",
    why="new disk",
    at=START,
    state="drain",
    since=START,
    keep=True,
    selected=120,
    kept_at=START,
)


def turn(deed: Any, **more: Any) -> Turn:
    return Turn(deed, "lb-01", "/run/x.sock", "be/gpu-03", **more)


def by(number: int, requester: Requester = ALICE) -> Run:
    return run(book(), ("gpu-03",), id=number, requester=requester)


def asked(deed: Any, runs: Run, drain: Drain | None, *, busy: bool = False, **more: Any) -> Grant | Refusal:
    return may(turn(deed, **more), runs, drain, START + timedelta(minutes=10), busy=busy)


def refused(answer: Grant | Refusal) -> Refusal:
    assert isinstance(answer, Refusal)
    assert answer.words
    assert answer.advice
    return answer


def granted(answer: Grant | Refusal) -> Grant:
    assert isinstance(answer, Grant), answer
    return answer


def test_a_server_that_nobody_has_drained_is_claimed() -> None:
    assert granted(asked("drain", by(8), None)) == Grant(claim="new")


def test_one_that_another_run_drains_is_refused_with_its_owner() -> None:
    words = refused(asked("drain", by(8), replace(OURS, kept_at=None), busy=True)).words
    assert words == (
        "run 7 (drain-host, alice) drained be/gpu-03 at 2026-03-01 03:00 UTC: new disk, and is still at work"
    )


@pytest.mark.parametrize("deed", ["drain", "maint", "ready"])
def test_one_that_somebody_else_keeps_is_refused_to_every_run(deed: str) -> None:
    answer = refused(asked(deed, by(8, Requester("bob", "bob")), OURS))
    assert "run 7 (drain-host, alice) drained be/gpu-03" in answer.words
    assert "it is kept so" in answer.words
    assert answer.advice == "ask alice; `undrain-host` takes it over and puts it back"


def test_who_keeps_it_may_work_on_it_and_it_stays_theirs() -> None:
    answer = granted(asked("drain", by(8), OURS))
    assert answer.claim == ""
    assert answer.env == {"OWN": "drain", "SELECTED": "120"}


def test_maintenance_and_undrain_of_what_the_ledger_does_not_know_find_nothing_of_ours() -> None:
    assert granted(asked("maint", by(8), None)).env == {"OWN": "none"}
    assert granted(asked("ready", by(8), None)).env == {"OWN": "none"}


def test_an_own_drain_is_undone_as_it_was_left() -> None:
    kept = replace(OURS, state="maint")
    assert granted(asked("ready", by(7), kept)).env == {
        "OWN": "maint",
        "SELECTED": "120",
        "AGE": str(600 - SLACK),
    }


def test_one_whose_end_was_lost_is_left_to_people() -> None:
    answer = refused(asked("ready", by(7), replace(OURS, state="unknown", note="the link broke")))
    assert answer.words == "whether this run has changed be/gpu-03 is not known: the link broke"


def test_one_that_somebody_has_changed_since_is_left_to_people() -> None:
    answer = refused(asked("ready", by(7), replace(OURS, lost="it was left drained, and somebody …")))
    assert "somebody" in answer.words
    assert "take_over=true" in answer.advice


def test_a_person_takes_over_what_was_kept_and_an_alert_does_not() -> None:
    bob = by(8, Requester("bob", "bob"))
    assert granted(asked("ready", bob, OURS, whose="kept")) == Grant(marks(OURS, START), claim="take over")
    words = refused(asked("ready", by(8, ALERT), OURS, whose="kept")).words
    assert words == "alert VLLMStalled is no person, and only a person takes over a drain"
    words = refused(asked("ready", by(8, ALERT), None, whose="anybody")).words
    assert "only a person" in words


def test_nobody_takes_over_from_a_run_that_is_at_work() -> None:
    bob = by(8, Requester("bob", "bob"))
    answer = refused(asked("ready", bob, OURS, busy=True, whose="anybody"))
    assert answer.advice == "wait for run 7, or `sickbay cancel 7`"


@pytest.mark.parametrize("changes", [{"lost": "it has taken requests since"}, {"state": "unknown"}])
def test_what_does_not_stand_as_it_was_left_is_taken_over_only_by_saying_so(changes: Any) -> None:
    bob, drain = by(8, Requester("bob", "bob")), replace(OURS, **changes)
    assert "take_over=true" in refused(asked("ready", bob, drain, whose="kept")).advice
    assert granted(asked("ready", bob, drain, whose="anybody")) == Grant({"OWN": "any"}, claim="take over")
    assert granted(asked("ready", bob, None, whose="anybody")) == Grant({"OWN": "any"}, claim="take over")


def over(status: Status, **facts: Any) -> Attempt:
    return attempt("drain", "gpu-03", status, facts=facts, summary="said so")


CLAIMED = replace(OURS, state="claimed", doing="drain", selected=None, since=None, kept_at=None)


@pytest.mark.parametrize(
    ("done", "state", "closed"),
    [
        (over(Status.OK, changed=True, selected=5), "drain", ""),
        (over(Status.OK, changed=False), "claimed", "somebody else had taken it out"),
        (over(Status.FAILED, changed=False), "claimed", "nothing was changed"),
        (over(Status.UNREACHABLE), "claimed", "nothing was changed"),
        (replace(over(Status.FAILED), sent=False), "claimed", "nothing was changed"),
        (over(Status.FAILED), "unknown", ""),
        (over(Status.UNKNOWN), "unknown", ""),
    ],
)
def test_a_claim_is_a_drain_only_when_haproxy_said_that_it_was_changed(
    done: Attempt, state: str, closed: str
) -> None:
    after = settled(CLAIMED, done)
    assert (after.state, after.closed, after.doing) == (state, closed, None)
    if state == "drain":
        assert (after.selected, after.since) == (5, START)


@pytest.mark.parametrize(
    ("done", "state", "closed"),
    [
        (over(Status.OK, changed=True), "drain", "put back by run 1"),
        (over(Status.OK, changed=False), "drain", "somebody else had put it back"),
        (over(Status.FAILED, changed=False), "drain", ""),
        (over(Status.UNREACHABLE), "drain", ""),
        (over(Status.UNKNOWN), "unknown", ""),
    ],
)
def test_a_drain_ends_when_it_was_put_back_and_stays_when_that_was_refused(
    done: Attempt, state: str, closed: str
) -> None:
    after = settled(replace(OURS, doing="ready"), done)
    assert (after.state, after.closed) == (state, closed)


def test_maintenance_deepens_a_drain() -> None:
    after = settled(replace(OURS, doing="maint"), over(Status.OK, changed=True, selected=121))
    assert (after.state, after.selected) == ("maint", 121)


LATER = START + timedelta(hours=1)
MAINT = replace(OURS, state="maint")


@pytest.mark.parametrize(
    ("drain", "said", "lost"),
    [
        (OURS, Said("drain", "", 120), ""),
        (OURS, Said("drain", "", None), ""),
        (OURS, Said("drain", "", 121), "it has taken requests since"),
        (OURS, Said("drain", "", 3), "HAProxy was started anew"),
        (OURS, Said("maint", "", 120), "somebody else has put it into maintenance since"),
        (MAINT, Said("drain", "", 120), "somebody else has changed it to drained since"),
        (MAINT, Said("maint", "", 120, 3600), ""),
        (MAINT, Said("maint", "", 120, 60), "its maintenance is younger than ours"),
        (replace(OURS, state="unknown"), Said("maint", "", 500), ""),
    ],
)
def test_haproxy_is_compared_with_how_the_server_was_left(drain: Drain, said: Said, lost: str) -> None:
    after = compared(drain, said, LATER)
    assert lost in after.lost
    assert bool(after.lost) is bool(lost)
    assert (after.seen, after.seen_at, after.closed) == (said.state, LATER, "")


def test_what_takes_traffic_is_closed_and_what_cannot_be_asked_stays_unknown() -> None:
    assert "somebody else has put it back" in compared(OURS, Said("ready", ""), LATER).closed
    unknown = compared(OURS, Said(None, "no answer"), LATER)
    assert (unknown.seen, unknown.seen_words, unknown.closed) == ("", "no answer", "")


def test_a_run_succeeds_with_a_drain_only_when_it_said_that_it_keeps_it() -> None:
    assert ended(RunState.SUCCEEDED, "", []) == (RunState.SUCCEEDED, "")
    assert ended(RunState.SUCCEEDED, "", [OURS]) == (
        RunState.SUCCEEDED,
        "Kept out of traffic: gpu-03 (be/gpu-03). `undrain-host` brings it back.",
    )
    forgotten = replace(OURS, keep=False)
    state, reason = ended(RunState.SUCCEEDED, "", [forgotten])
    assert (state, reason) == (
        RunState.FAILED,
        "Left out of traffic: gpu-03 (be/gpu-03). `undrain-host` brings it back.",
    )
    state, reason = ended(RunState.FAILED, "Failed on gpu-03.", [OURS])
    assert reason.startswith("Failed on gpu-03. Left out of traffic: gpu-03")
    state, reason = ended(RunState.SUCCEEDED, "", [replace(OURS, state="unknown")])
    assert state is RunState.FAILED
    assert "Whether it takes traffic is not known: gpu-03 (be/gpu-03)." in reason


@given(
    state=st.sampled_from(["drain", "maint"]),
    selected=st.none() | st.integers(0, 50),
    said=st.sampled_from(["drain", "maint", "ready", None]),
    now_selected=st.none() | st.integers(0, 60),
    age=st.none() | st.integers(0, 7200),
)
def test_only_what_stands_as_it_was_left_stays_ours(
    state: Any, selected: int | None, said: str | None, now_selected: int | None, age: int | None
) -> None:
    """Whatever was counted: another state, more requests, or fewer, is never taken for ours."""
    drain = replace(OURS, state=state, selected=selected)
    after = compared(drain, Said(said, "", now_selected, age), LATER)
    if said in ("drain", "maint") and not after.lost:
        assert said == state
        if selected is not None and now_selected is not None:
            assert selected == now_selected
    assert bool(after.closed) is (said == "ready")
