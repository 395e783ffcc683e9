"""Counts of replicas: taken before a batch, and again where they have grown old before its hosts are."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot.guard.counting import floor, outdated
from bot.runs.record import Record
from bot.runs.run import RunState
from tests.parts.books import START, attempt, book, plan_for
from tests.parts.books import run as a_run
from tests.parts.script import REFUSED, done
from tests.parts.stage import Stage, stage

__all__ = ["stage"]
BARE: dict[str, Any] = {
    "rescue": [],
    "always": [],
    "guard": {"min_ready": {"group": "@serving", "replicas": 3}},
}
READY = done('=== completion\n{"choices":[{"text":"hi"}],"model":"m"}\n200 0.01 \n')
BROKEN = done("=== completion\nboom\n500 0.01 \n")
COUNT = r"ready\.1"
SLOW: list[dict[str, Any]] = [
    {"id": "look", "run": "true", "mutates": False},
    {"id": "drain", "run": "drain it", "when": "host.vars.haproxy is defined"},
    {"id": "rest", "run": "rest it", "mutates": False},
    {"id": "stop", "run": "stop it"},
]
FRESH = timedelta(minutes=2)


def again(stage: Stage, run: int) -> list[str]:
    return [str(one.data["why"]) for one in stage.events(run) if one.kind == "run.counted_again"]


def late(stage: Stage, **by: float) -> int:
    """Let a run wait so long between the count and the change, while two replicas die."""
    gate = threading.Event()
    held = stage.script.on("rest", gate=gate)
    stage.script.on(COUNT, READY)
    run = stage.queue(book(**BARE, steps=SLOW))
    thread = stage.apart(run)
    held.wait()
    stage.clock.on(**by)
    stage.script.on(COUNT, BROKEN, host="gpu-0[23]")
    gate.set()
    thread.join()
    return run


def test_replicas_that_died_while_the_run_was_busy_are_not_counted(stage: Stage) -> None:
    run = late(stage, minutes=10)
    assert stage.run(run).state is RunState.FAILED
    assert "stop" not in stage.script.steps()
    (stop,) = [one for one in stage.attempts(run) if one.step == "stop"]
    assert stop.summary == "1 of @serving would stay ready without gpu-01, and 3 must"


def test_what_was_counted_a_minute_ago_in_the_same_go_holds(stage: Stage) -> None:
    run = late(stage, minutes=1)
    assert stage.run(run).state is RunState.SUCCEEDED
    assert again(stage, run) == []


def test_without_a_look_an_old_count_is_taken_again_and_told(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("rest", gate=gate)
    stage.script.on(COUNT, READY)
    steps = [{"id": "drain", "run": "drain it", "when": "host.vars.haproxy is defined"}, *SLOW[2:]]
    run = stage.queue(book(**BARE, steps=steps))
    thread = stage.apart(run)
    held.wait()
    stage.clock.on(seconds=121)
    gate.set()
    thread.join()
    assert stage.run(run).state is RunState.SUCCEEDED
    assert again(stage, run) == ["the replicas were counted 121 s ago, and 2m is the limit"]
    assert stage.script.steps().count("ready.1") == 2 * 4
    assert stage.script.steps()[-6:-1] == [*["ready.1"] * 4, "stop"]


def test_a_second_look_is_followed_by_a_second_count(stage: Stage) -> None:
    stage.script.on(COUNT, READY)
    run = stage.play(book(**BARE), mode="approve")
    stage.clock.on(minutes=5)
    assert stage.decide(run.id) is None
    assert stage.advance(run.id).state is RunState.SUCCEEDED
    steps = stage.script.steps()
    at_last = {step: at for at, step in enumerate(steps)}
    assert at_last["look"] < at_last["ready.1"] < at_last["stop"]


def test_a_run_that_has_rested_counts_again_however_short_it_was(stage: Stage) -> None:
    stage.script.on(COUNT, READY)
    stage.script.on("rest", done("", 1), done())
    steps = [SLOW[0], SLOW[1], SLOW[2] | {"retries": 2, "delay": "10s"}, SLOW[3]]
    run = stage.play(book(**BARE, steps=steps))
    assert run.state is RunState.RUNNING
    stage.clock.on(seconds=10)
    stage.script.on(COUNT, BROKEN, host="gpu-02")
    stage.restart()
    assert stage.advance(run.id).state is RunState.FAILED
    assert again(stage, run.id) == ["the run has rested since the replicas were counted"]
    assert "stop" not in stage.script.steps()


def test_a_replica_that_cannot_be_counted_the_second_time_is_unknown(stage: Stage) -> None:
    stage.script.on(COUNT, READY)
    run = stage.play(book(**BARE), mode="approve")
    stage.clock.on(minutes=5)
    stage.script.on(COUNT, REFUSED, host="gpu-03")
    assert stage.decide(run.id) is None
    assert stage.advance(run.id).state is RunState.FAILED
    (stop,) = [one for one in stage.attempts(run.id) if one.step == "stop"]
    assert "whether gpu-03 is ready is unknown (unreachable (tcp): connection refused)" in stop.summary


def test_after_the_clock_was_set_back_within_a_flight_the_replicas_are_counted_once_more_and_no_more(
    stage: Stage,
) -> None:
    gate = threading.Event()
    held = stage.script.on("rest", gate=gate)
    stage.script.on(COUNT, READY)
    run = stage.queue(book(**BARE, steps=SLOW[1:]))
    thread = stage.apart(run)
    held.wait()
    stage.clock.on(hours=-1)
    gate.set()
    thread.join(10)
    assert stage.run(run).state is RunState.SUCCEEDED
    assert again(stage, run) == ["the run has rested since the replicas were counted"]


def test_what_another_run_changed_at_a_time_that_is_still_to_come_is_unknown_and_not_counted_for_ever(
    stage: Stage,
) -> None:
    stage.script.on(COUNT, READY)
    stage.clock.on(hours=1)
    other = stage.play(book(rescue=[], always=[]), ("gpu-02",))
    assert other.state is RunState.SUCCEEDED
    stage.clock.on(hours=-1)
    run = stage.play(book(**BARE))
    assert (run.state, run.waits) == (RunState.FAILED, "")
    (stop,) = [one for one in stage.attempts(run.id) if one.step == "stop"]
    why = f"run {other.id} changed it at 04:00:00 UTC by a clock that was set back since"
    assert f"whether gpu-02 is ready is unknown ({why}), so it is not counted" in stop.summary
    stage.clock.on(hours=1, seconds=1)
    assert stage.play(book(**BARE)).state is RunState.SUCCEEDED


@given(
    count=st.integers(-300, 0),
    took=st.integers(0, 200),
    since=st.integers(-300, 0),
    other=st.integers(-300, 0),
)
def test_no_count_that_is_old_justifies_a_change(count: int, took: int, since: int, other: int) -> None:
    def at(seconds: int) -> Any:
        return START + timedelta(seconds=seconds)

    runbook = book(**BARE)
    one = a_run(runbook, ("a",))
    record = Record([replace(attempt("look", "a", ended_at=at(other)), begun_at=at(other))])
    plan = plan_for(one, record)
    one = replace(one, plan=replace(plan, members=("a", "b")))
    ends = min(0, count + took)
    for host, begun in (("a", count), ("b", ends)):
        record.add(replace(attempt("ready.1", host, ended_at=at(ends)), begun_at=at(begun)))
    why = outdated(one, record, ["a"], at(since), START, FRESH)
    counted = floor(one, record, ["a"], START, FRESH)
    assert counted is not None
    if count < since:
        assert why
    for seen in counted.seen.values():
        assert seen.ready is None or (seen.at is not None and START - seen.at <= FRESH)
    if why and count >= since:
        assert START - at(count) > FRESH, "what is fresh is not counted again"
