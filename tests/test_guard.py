"""The guard: every rail's good way, its refusal in words, and the race for a host."""

import threading
from typing import Any

import pytest

from bot.guard import Freeze
from bot.run import Requester, RunState
from tests.parts.books import book
from tests.parts.stage import Stage, ended, stage

__all__ = ["stage"]
ALERT = Requester("alert Down", via="alert")
BARE: dict[str, Any] = {"rescue": [], "always": []}


def test_a_run_waits_as_a_row_for_a_host_and_looks_again(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate)
    first = stage.queue()
    thread = stage.apart(first)
    held.wait()
    second = stage.play()
    assert (second.state, second.wake_at, second.deadline) == (RunState.RUNNING, None, None)
    assert stage.store.runs.due() == []
    (waits,) = [one for one in stage.events(second.id) if one.kind == "run.lock_awaited"]
    assert waits.data["why"] == "gpu-01 is being changed by run 1 (mend, started by alice)"
    gate.set()
    thread.join()
    assert stage.store.runs.due() == [second.id]
    assert stage.advance(second.id).state is RunState.SUCCEEDED
    assert [one.number for one in stage.attempts(second.id) if one.step == "look"] == [1, 2]


def test_skip_ends_a_run_with_words_and_touches_nothing(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate)
    thread = stage.apart(stage.queue())
    held.wait()
    second = stage.play(book(on_conflict="skip"))
    assert ended(second) == (
        RunState.CANCELLED,
        "Skipped: gpu-01 is being changed by run 1 (mend, started by alice).",
    )
    gate.set()
    thread.join()


def test_a_runbook_lock_holds_other_hosts_too(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate)
    thread = stage.apart(stage.queue(book(lock="runbook", on_conflict="fail")))
    held.wait()
    second = stage.play(book(lock="runbook", on_conflict="fail"), ("gpu-02",))
    assert second.state is RunState.FAILED
    (stop,) = [one for one in stage.attempts(second.id) if one.step == "stop"]
    assert stop.summary == "runbook mend is being changed by run 1 (mend, started by alice)"
    gate.set()
    thread.join()


def test_a_host_rests_after_a_verified_success(stage: Stage) -> None:
    rested = book(cooldown="30m", **BARE)
    assert stage.play(rested).state is RunState.SUCCEEDED
    stage.clock.on(minutes=29)
    stage.restart()
    again = stage.play(rested)
    assert again.state is RunState.FAILED
    (stop,) = [one for one in stage.attempts(again.id) if one.step == "stop"]
    assert "mend mended gpu-01 at " in stop.summary
    assert " and rests there for 30m, until " in stop.summary
    stage.clock.on(minutes=-60)
    assert stage.play(rested).state is RunState.FAILED, "a clock set back ends no rest"
    stage.clock.on(minutes=62)
    assert stage.play(rested).state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("host", "mend has acted on gpu-01 2 times within 6h, and 2 is the limit"),
        ("runbook", "mend has acted 2 times within 6h, and 2 is the limit"),
        (
            "gpu",
            (
                "mend has acted on gpu-01 2 times within 6h, and 2 is the limit "
                "(its GPUs' UUIDs are unknown, so the host is counted)"
            ),
        ),
    ],
)
def test_what_acts_too_often_is_handed_to_a_person(stage: Stage, by: str, said: str) -> None:
    limited = book(limits={"runs": 2, "per": "6h", "by": by}, **BARE)
    assert [stage.play(limited).state for _ in range(2)] == [RunState.SUCCEEDED] * 2
    stage.restart()
    assert ended(stage.play(limited)) == (
        RunState.NEEDS_HUMAN,
        f"{said}. it does not help for long: look for the cause.",
    )
    stage.clock.on(hours=7)
    assert stage.play(limited).state is RunState.SUCCEEDED


def test_a_freeze_stops_changes_and_survives_a_restart(stage: Stage) -> None:
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "stock-taking", "@serving"))
    stage.restart()
    run = stage.play(book())
    assert run.state is RunState.FAILED
    assert stage.script.steps() == ["look"], "neither rescue nor clean-up touches what was never begun"
    (stop,) = [one for one in stage.attempts(run.id) if one.step == "stop"]
    assert stop.summary.startswith("@serving is frozen by bob since ")
    assert stop.summary.endswith(": stock-taking")
    assert stop.advice == "ask bob; to lift it: thaw @serving"
    assert stage.store.ledger.thaw("@serving", "bob")
    assert stage.play(book()).state is RunState.SUCCEEDED


def test_clean_up_of_a_run_under_way_goes_on_in_a_freeze(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate)
    run = stage.queue()
    thread = stage.apart(run)
    held.wait()
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "stop"))
    gate.set()
    thread.join()
    assert stage.script.steps()[-1] == "undo"


def test_three_hosts_wanting_a_change_stop_automation_until_a_person_resets_it(stage: Stage) -> None:
    for host in ("gpu-01", "gpu-02"):
        assert stage.play(book(), (host,), requester=ALERT).state is RunState.SUCCEEDED
    third = stage.play(book(), ("gpu-03",), requester=ALERT)
    assert third.state is RunState.NEEDS_HUMAN
    assert "automation stopped itself at " in third.reason
    assert "(gpu-01, gpu-02, gpu-03)" in third.reason
    stage.restart()
    assert stage.play(book(), ("gpu-04",), requester=ALERT).state is RunState.NEEDS_HUMAN
    assert stage.store.ledger.reset("bob", "it was the switch")
    assert stage.play(book(), ("gpu-04",), requester=ALERT).state is RunState.SUCCEEDED
