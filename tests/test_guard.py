"""The guard: every rail's good way, its refusal in words, and the race for a host."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.engine.preparing import uuids
from bot.engine.rails import Rails
from bot.guard.decision import Answer, Freeze, Settings, Want
from bot.guard.maintenance import Window, Windows
from bot.language.runbook import Runbook
from bot.messages import run_card
from bot.runs.record import Record
from bot.runs.run import Attempt, Requester, Run, RunState, Status
from bot.steps import KINDS
from bot.store import Streams
from bot.store.attempts import Attempts
from bot.views import run_view
from tests.parts.books import attempt, book
from tests.parts.books import run as a_run
from tests.parts.script import done
from tests.parts.stage import Stage, ended, stage

__all__ = ["stage"]
ALERT = Requester("alert Down", via="alert")
BARE: dict[str, Any] = {"rescue": [], "always": []}
BUSY = "gpu-01 is being changed by run 1 (mend, started by alice)"


def refusal(stage: Stage, run: Run, step: str = "stop", host: str = "gpu-01") -> tuple[str, str]:
    """Return what was said where a step was refused: words and advice."""
    found = [one for one in stage.attempts(run.id) if (one.step, one.host) == (step, host) and not one.sent]
    assert found, f"{step} on {host} was not refused"
    return found[-1].summary, found[-1].advice


def held_up(stage: Stage) -> tuple[threading.Event, threading.Thread]:
    """Let run 1 hold gpu-01 until the event is set."""
    gate = threading.Event()
    rule = stage.script.on("stop", gate=gate)
    thread = stage.apart(stage.queue())
    rule.wait()
    return gate, thread


def test_a_run_waits_as_a_row_for_a_host_and_looks_again(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate)
    first = stage.queue()
    thread = stage.apart(first)
    held.wait()
    second = stage.play()
    assert (second.state, second.wake_at, second.deadline) == (RunState.RUNNING, None, None)
    assert second.waits == BUSY
    shown = "".join(repr(node) for node in run_card(run_view(stage.store, second)).nodes)
    assert f"Waits: {BUSY}." in shown.replace("'), Plain(text='", "")
    assert stage.store.runs.due() == []
    (waits,) = [one for one in stage.events(second.id) if one.kind == "run.held"]
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


def test_a_host_that_verified_rests_although_its_run_failed_elsewhere(stage: Stage) -> None:
    rested = book(cooldown="30m", max_failures=1, **BARE)
    stage.script.on("proof", done("", 1), done(), host="gpu-02")
    first = stage.play(rested, ("gpu-01", "gpu-02"))
    assert first.state is RunState.FAILED
    (proof,) = [one for one in stage.attempts(first.id) if (one.step, one.host) == ("proof", "gpu-01")]
    stage.clock.on(minutes=1)
    again = stage.play(rested)
    assert again.state is RunState.FAILED
    assert f"mend mended gpu-01 at {proof.ended_at:%Y-%m-%d %H:%M:%S} UTC" in refusal(stage, again)[0]
    assert stage.play(rested, ("gpu-02",)).state is RunState.SUCCEEDED, "what did not verify does not rest"


def test_a_host_that_verified_rests_although_its_run_was_cancelled(stage: Stage) -> None:
    rested = book(cooldown="30m", **BARE)
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate, host="gpu-02")
    run = stage.queue(rested, ("gpu-01", "gpu-02"))
    thread = stage.apart(run)
    held.wait()
    assert stage.store.runs.cancel(run, "alice")
    stage.engine.cancel(run)
    thread.join()
    assert stage.run(run).state is RunState.CANCELLED
    gate.set()
    assert "and rests there for 30m" in refusal(stage, stage.play(rested))[0]
    assert stage.play(rested, ("gpu-02",)).state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (
            [(), ()],
            ("GPU-a",),
            "on GPU GPU-a (gpu-01) 2 times within 6h, and 2 is the limit (where the UUIDs",
        ),
        ([(), ("GPU-a", "GPU-b")], ("GPU-b",), "on GPU GPU-b (gpu-01) 2 times"),
        ([("GPU-a",), ("GPU-b",)], ("GPU-b",), ""),
        ([(), ("GPU-a",)], ("GPU-b",), ""),
        ([("GPU-a",), ("GPU-b",)], (), "on gpu-01 2 times"),
    ],
)
def test_a_use_of_unknown_gpus_counts_for_each_gpu_of_the_host(
    stage: Stage, before: list[tuple[str, ...]], now: tuple[str, ...], said: str
) -> None:
    limited = book(limits={"runs": 2, "per": "6h", "by": "gpu"})
    world = Rails(stage.store, Planner(KINDS, stage.inventory)).world

    def take(gpus: tuple[str, ...], host: str = "gpu-01") -> Answer:
        run = stage.store.runs.claim(stage.queue(limited, (host,)))
        assert run is not None
        one = stage.store.ledger.take(run, {host: Want(gpus=gpus)}, world)[host]
        begun = replace(run, begun_at=stage.store.approvals.begin(run))
        stage.store.runs.finish(begun, RunState.FAILED, "", None)
        return one

    for gpus in before:
        assert take(gpus).reaction == "go"
    assert take((), "gpu-02").reaction == "go", "another host's unknown GPUs are none of these"
    answer = take(now)
    assert answer.reaction == ("escalate" if said else "go")
    assert said in answer.words


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


def test_who_waited_keeps_its_approval_where_the_plan_comes_to_the_same(stage: Stage) -> None:
    gate, thread = held_up(stage)
    second = stage.play(mode="approve")
    assert stage.decide(second.id) is None
    waits = stage.advance(second.id)
    assert (waits.state, waits.plan, waits.begun_at) == (RunState.RUNNING, None, None)
    gate.set()
    thread.join()
    assert stage.advance(second.id).state is RunState.SUCCEEDED
    assert stage.kinds(second.id).count("approval.asked") == 1


def test_who_waited_asks_anew_where_the_plan_comes_to_something_else(stage: Stage) -> None:
    steps = [
        {"id": "look", "run": "true", "mutates": False},
        {"id": "stop", "run": "stop it"},
        {"id": "more", "run": "more", "when": "steps.look.stdout == 'bad'"},
    ]
    gate, thread = held_up(stage)
    second = stage.play(book(steps=steps), mode="approve")
    assert stage.decide(second.id) is None
    stage.advance(second.id)
    gate.set()
    thread.join()
    stage.script.on("look", done("bad"))
    assert stage.advance(second.id).state is RunState.WAITING
    (void,) = [one for one in stage.events(second.id) if one.kind == "approval.void"]
    assert void.data["why"] == (
        "looked at again after a wait, the plan is another than the one that was approved"
    )


def test_who_waits_ends_when_the_alert_clears(stage: Stage) -> None:
    gate, thread = held_up(stage)
    second = stage.play(mode="approve", requester=ALERT)
    assert stage.decide(second.id) is None
    stage.advance(second.id)
    with stage.store.write() as tx:
        assert stage.store.approvals.void(tx, second.id, "the alert has cleared")
    gate.set()
    thread.join()
    assert ended(stage.advance(second.id)) == (
        RunState.CANCELLED,
        "The plan no longer held; nothing was changed.",
    )


def test_who_waits_can_be_cancelled(stage: Stage) -> None:
    gate, thread = held_up(stage)
    second = stage.play()
    assert stage.store.runs.cancel(second.id, "bob")
    assert ended(stage.advance(second.id)) == (RunState.CANCELLED, "Cancelled by bob.")
    gate.set()
    thread.join()
    assert stage.script.steps().count("stop") == 1


def test_a_run_that_goes_on_after_a_crash_keeps_its_host(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("stop", gate=gate)
    first = stage.queue()
    stage.apart(first)
    rule.wait()
    stage.restart()
    second = stage.play(book(on_conflict="fail"))
    words, advice = refusal(stage, second)
    assert words == BUSY
    assert advice == "wait for run 1, or `sickbay cancel 1`, then start again"
    gate.set()
    assert stage.advance(first).state is RunState.SUCCEEDED
    assert stage.play().state is RunState.SUCCEEDED


def test_a_host_that_was_taken_but_not_touched_is_given_again_after_a_crash(stage: Stage) -> None:
    first = stage.queue()
    claimed = stage.store.runs.claim(first)
    assert claimed is not None
    rails = Rails(stage.store, Planner(KINDS, stage.inventory))
    assert stage.store.ledger.take(claimed, {"gpu-01": Want()}, rails.world)["gpu-01"].reaction == "go"
    stage.restart()
    assert stage.advance(first).state is RunState.SUCCEEDED


def test_a_run_that_ended_holds_nobody_up_whatever_it_left_behind(stage: Stage) -> None:
    stage.script.on("proof", RuntimeError("a mistake of ours"))
    assert stage.play().state is RunState.NEEDS_HUMAN
    stage.script.on("proof", done())
    assert stage.play(book(on_conflict="fail")).state is RunState.SUCCEEDED


def test_nobody_is_asked_about_what_the_rails_would_not_let_go(stage: Stage) -> None:
    rested = book(cooldown="30m", limits={"runs": 1, "per": "6h", "by": "host"}, **BARE)
    assert stage.play(rested).state is RunState.SUCCEEDED
    second = stage.play(rested, mode="approve")
    assert second.state is RunState.FAILED
    assert second.reason.startswith("mend mended gpu-01 at ")
    assert second.reason.endswith("Nobody was asked. if it is broken again, look for the cause.")
    assert stage.store.approvals.get(second.id) is None
    stage.clock.on(minutes=31)
    assert ended(stage.play(rested, mode="approve")) == (
        RunState.NEEDS_HUMAN,
        (
            "mend has acted on gpu-01 1 time within 6h, and 1 is the limit. Nobody was asked. "
            "it does not help for long: look for the cause."
        ),
    )
    stage.clock.on(hours=7)
    third = stage.play(rested, ("gpu-01", "gpu-02"), mode="approve")
    assert third.state is RunState.WAITING, "where some hosts may be changed, people are asked"


def test_two_runs_that_hold_and_wait_do_not_wait_for_each_other(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("stop", host="gpu-02", gate=gate)
    thread = stage.apart(stage.queue(hosts=("gpu-02",)))
    rule.wait()
    second = stage.play(book(max_failures=1), ("gpu-01", "gpu-02"))
    assert second.state is RunState.FAILED
    assert refusal(stage, second, host="gpu-02")[0] == BUSY.replace("gpu-01", "gpu-02")
    gate.set()
    thread.join()


@pytest.mark.parametrize("then", ["escalate", "refuse"])
def test_a_card_is_counted_wherever_it_sits(stage: Stage, then: str) -> None:
    limited = book(limits={"runs": 1, "per": "6h", "by": "gpu", "then": then})
    world = Rails(stage.store, Planner(KINDS, stage.inventory)).world
    for host, gpus, reaction in (
        ("gpu-01", ("GPU-a", "GPU-b"), "go"),
        ("gpu-01", ("GPU-c",), "go"),
        ("gpu-02", ("GPU-d", "GPU-b"), then),
    ):
        run = stage.store.runs.claim(stage.queue(limited))
        assert run is not None
        one = stage.store.ledger.take(run, {host: Want(gpus=gpus)}, world)[host]
        assert one.reaction == reaction
        begun = replace(run, begun_at=stage.store.approvals.begin(run))
        stage.store.runs.finish(begun, RunState.FAILED, "", None)
    assert one.words == "mend has acted on GPU GPU-b (gpu-02) 1 time within 6h, and 1 is the limit"


def test_the_cards_of_a_host_are_those_that_all_have_a_uuid() -> None:
    run = a_run(book(), ("a",))

    def seen(*gpus: Any) -> tuple[str, ...]:
        return uuids(run, Record([attempt("look", "a", facts={"gpus": list(gpus)})]), "a")

    assert seen({"uuid": "GPU-a"}, {"uuid": "GPU-b"}) == ("GPU-a", "GPU-b")
    assert seen({"uuid": "GPU-a"}, {"uuid": None}) == ()
    assert seen({"uuid": "GPU-a"}, "odd") == ()
    assert seen() == ()


def test_a_plan_decides_nothing_by_gpus_that_nobody_has_seen(stage: Stage) -> None:
    limited = book(limits={"runs": 1, "per": "6h", "by": "gpu"}, **BARE)
    rails = Rails(stage.store, Planner(KINDS, stage.inventory))

    def said() -> tuple[str, str]:
        shown = a_run(limited, ("gpu-01",), id=0)
        (line,) = rails.lines(shown, Planner(KINDS, stage.inventory).preview(shown))
        return line.answer, line.words

    assert stage.play(limited).state is RunState.SUCCEEDED
    assert said() == ("ok", "limits: by GPU, which is decided when its GPUs have been seen")
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "stock-taking"))
    assert said()[0] == "would refuse", "what is known is said"


# ── freshness ──
LOOKS = [
    {"id": "look", "run": "true", "mutates": False},
    {"id": "stop", "run": "stop it", "when": "steps.look.stdout == 'bad'"},
    {"id": "start", "run": "start it"},
]


def approved(stage: Stage, runbook: Runbook, **later: float) -> int:
    """Return a run whose plan was approved some time after its look."""
    run = stage.play(runbook, mode="approve")
    assert run.state is RunState.WAITING
    stage.clock.on(**later)
    assert stage.decide(run.id) is None
    return run.id


def test_what_was_seen_two_minutes_ago_is_good_enough(stage: Stage) -> None:
    run = approved(stage, book(), seconds=120)
    assert stage.advance(run).state is RunState.SUCCEEDED
    assert stage.script.steps().count("look") == 1


def test_what_was_seen_too_long_ago_is_looked_at_again(stage: Stage) -> None:
    run = approved(stage, book(), seconds=121)
    assert stage.advance(run).state is RunState.SUCCEEDED
    assert stage.script.steps()[:3] == ["look", "look", "stop"]
    (again,) = [one for one in stage.events(run) if one.kind == "host.looked_again"]
    assert again.data["why"] == "what was seen is 121 s old, and 2m is the limit"


def test_a_clock_set_back_makes_nothing_fresh(stage: Stage) -> None:
    run = approved(stage, book(), seconds=-60)
    assert stage.advance(run).state is RunState.SUCCEEDED
    (again,) = [one for one in stage.events(run) if one.kind == "host.looked_again"]
    assert again.data["why"] == "the clock was set back since it was looked at"


def test_people_are_asked_anew_where_a_second_look_shows_something_else(stage: Stage) -> None:
    stage.script.on("look", done("bad"), done("fine"))
    run = approved(stage, book(steps=LOOKS), minutes=5)
    stage.advance(run)
    assert stage.advance(run).state is RunState.WAITING
    assert "stop" not in stage.script.steps()
    (why,) = [one.data["why"] for one in stage.events(run) if one.kind == "run.held"]
    assert why == "gpu-01 is another than when the plan was made: stop it was to be done and is not needed"
    assert stage.decide(run) is None
    assert stage.advance(run).state is RunState.SUCCEEDED
    assert "stop" not in stage.script.steps()


def test_a_later_host_that_changed_meanwhile_is_left_alone(stage: Stage) -> None:
    def late(host: str) -> None:
        stage.clock.on(minutes=5)

    gate = threading.Event()
    rule = stage.script.on("proof", host="gpu-01", gate=gate)
    stage.script.on("look", done("bad"), done("fine"), host="gpu-02")
    stage.script.on("look", done("bad"), host="gpu-01")
    run = stage.queue(book(steps=LOOKS), ("gpu-01", "gpu-02"))
    thread = stage.apart(run)
    rule.wait()
    late("gpu-02")
    gate.set()
    thread.join()
    words, advice = refusal(stage, stage.run(run), host="gpu-02", step="stop")
    assert words == "gpu-02 is another than when the plan was made: stop it was to be done and is not needed"
    assert advice == "start the runbook again for a new plan"
    assert stage.script.steps("gpu-02") == ["look", "look"]


def test_a_look_that_takes_longer_than_it_lasts_justifies_nothing(stage: Stage) -> None:
    gate = threading.Event()
    steps = [
        {"id": "look", "run": "true", "mutates": False},
        {"id": "slow", "run": "true", "mutates": False},
        {"id": "stop", "run": "stop it"},
    ]
    run = approved(stage, book(steps=steps), minutes=5)
    rule = stage.script.on("slow", gate=gate)
    thread = stage.apart(run)
    rule.wait()
    stage.clock.on(seconds=130)
    gate.set()
    thread.join()
    words, advice = refusal(stage, stage.run(run))
    assert words == (
        "gpu-01 was looked at again and still cannot be relied on: what was seen is 130 s old, and 2m is the limit"
    )
    assert advice == "make the look shorter, then start the runbook again"
    assert "stop" not in stage.script.steps()


class Killed(BaseException):
    """kill -9."""


class Dies(Attempts):
    """Attempts of a bot that is killed when it has written down a second, or later, look."""

    def end(self, run: Run, ended: Sequence[tuple[Attempt, Streams | None]]) -> list[Attempt]:
        """Write it down, and die."""
        written = super().end(run, ended)
        if any(one.step == "look" and one.number > 1 for one in written):
            raise Killed
        return written


def killed_after_looking_again(stage: Stage, run: int, **down: float) -> None:
    """Let a run be killed right after its next look, and Sickbay be down for a while."""
    whole = stage.store.attempts
    stage.store.attempts = Dies(stage.store.database, stage.store.outputs)
    with pytest.raises(Killed):
        stage.advance(run)
    stage.store.attempts = whole
    stage.clock.on(**down)
    stage.restart()


def test_after_a_second_look_and_a_long_pause_a_host_is_looked_at_once_more(stage: Stage) -> None:
    run = approved(stage, book(), minutes=5)
    killed_after_looking_again(stage, run, minutes=3)
    assert stage.advance(run).state is RunState.SUCCEEDED
    assert stage.script.steps()[:4] == ["look", "look", "look", "stop"]
    told = [one.data["why"] for one in stage.events(run) if one.kind == "host.looked_again"]
    assert told[1] == "what was seen is 180 s old, and 2m is the limit"


def test_after_a_third_look_and_a_long_pause_a_host_is_left_alone(stage: Stage) -> None:
    run = approved(stage, book(), minutes=5)
    for _ in range(2):
        killed_after_looking_again(stage, run, minutes=3)
    end = stage.advance(run)
    assert refusal(stage, end) == (
        "gpu-01 was looked at again and still cannot be relied on: what was seen is 180 s old, and 2m is the limit",
        "start the runbook again",
    )
    assert stage.script.steps() == ["look", "look", "look"]


# ── capacity ──
READY = done('=== completion\n{"choices":[{"text":"hi"}],"model":"m"}\n200 0.01 \n')
BROKEN = done("=== completion\nboom\n500 0.01 \n")


def floor(replicas: int, **changes: Any) -> Runbook:
    """Return a runbook that leaves so many of @serving ready; there are four."""
    return book(guard={"min_ready": {"group": "@serving", "replicas": replicas}}, **changes)


def test_a_ready_host_is_changed_while_enough_others_stay_ready(stage: Stage) -> None:
    stage.script.on(r"ready\.1", READY)
    assert stage.play(floor(3)).state is RunState.SUCCEEDED
    asked = [sent.host for sent in stage.script.sent if sent.step == "ready.1"]
    assert sorted(asked) == ["gpu-01", "gpu-02", "gpu-03", "gpu-04"]


def test_the_last_replicas_are_not_taken(stage: Stage) -> None:
    stage.script.on(r"ready\.1", READY)
    stage.script.on(r"ready\.1", BROKEN, host="gpu-02")
    run = stage.play(floor(3))
    assert run.state is RunState.FAILED
    assert refusal(stage, run) == (
        "2 of @serving would stay ready without gpu-01, and 3 must",
        "bring another replica back first",
    )
    assert "stop" not in stage.script.steps()


def test_a_broken_replica_may_be_mended_below_the_floor(stage: Stage) -> None:
    stage.script.on(r"ready\.1", BROKEN)
    assert stage.play(floor(3)).state is RunState.SUCCEEDED


def test_what_is_not_known_to_be_ready_does_not_count(stage: Stage) -> None:
    stage.script.on(r"ready\.1", READY)
    stage.script.on(r"ready\.1", done(""), host="gpu-02")
    words, _ = refusal(stage, stage.play(floor(3)))
    assert words.startswith(
        "2 of @serving would stay ready without gpu-01, and 3 must; whether gpu-02 is ready is unknown (:8000/v1/models"
    )
    assert words.endswith("), so it is not counted")


def test_replicas_are_counted_again_before_each_batch(stage: Stage) -> None:
    stage.script.on(r"ready\.1", READY)
    stage.script.on(r"ready\.2", READY)
    stage.script.on(r"ready\.2", BROKEN, host="gpu-01")
    run = stage.play(floor(3), ("gpu-01", "gpu-02"))
    assert run.state is RunState.FAILED
    assert stage.statuses(run.id, "gpu-01")["start"] is Status.OK
    words, _ = refusal(stage, run, host="gpu-02")
    assert words == "2 of @serving would stay ready without gpu-02, and 3 must"


def test_a_batch_takes_no_more_than_the_floor_allows(stage: Stage) -> None:
    stage.script.on(r"ready\.1", READY)
    run = stage.play(floor(3, serial=2), ("gpu-01", "gpu-02"))
    assert stage.statuses(run.id, "gpu-01")["start"] is Status.OK
    words, _ = refusal(stage, run, host="gpu-02")
    assert words == "2 of @serving would stay ready without gpu-02, and 3 must"


def test_two_runs_never_take_the_last_two_replicas_together(stage: Stage) -> None:
    stage.script.on(r"ready\.1", READY)
    gate = threading.Event()
    rule = stage.script.on("stop", host="gpu-02", gate=gate)
    first = stage.queue(floor(3), ("gpu-02",))
    thread = stage.apart(first)
    rule.wait()
    second = stage.play(floor(3, on_conflict="fail"))
    assert refusal(stage, second) == (
        (
            "2 of @serving would stay ready without gpu-01, and 3 must; "
            "gpu-02 is being changed by run 1 (mend, started by alice)"
        ),
        "wait for the other runs, or bring another replica back first",
    )
    third = stage.play(floor(3))
    assert (third.state, third.wake_at) == (RunState.RUNNING, None), "it waits"
    gate.set()
    thread.join()
    stage.clock.on(seconds=1)
    assert stage.advance(third.id).state is RunState.SUCCEEDED


def test_a_replica_that_another_run_changed_since_the_count_is_counted_again(stage: Stage) -> None:
    stage.script.on(r"ready\.1", READY)
    gate = threading.Event()
    rule = stage.script.on(r"ready\.1", READY, host="gpu-04", gate=gate)
    second = stage.queue(floor(3))
    thread = stage.apart(second)
    rule.wait()
    assert (
        stage.play(hosts=("gpu-02",)).state is RunState.SUCCEEDED
    )  # the count of gpu-02 is worth nothing now
    gate.set()
    thread.join()
    (why,) = [one.data["why"] for one in stage.events(second) if one.kind == "run.held"]
    assert "whether gpu-02 is ready is unknown (run 2 has changed it since it was counted)" in why
    stage.clock.on(seconds=1)
    assert stage.advance(second).state is RunState.SUCCEEDED


# ── maintenance ──
def in_window(stage: Stage) -> None:
    """Let gpu-01 be in maintenance for an hour."""
    now = stage.clock()
    window = Window(hosts="gpu-01", start=now, end=now + timedelta(hours=1), reason="new fans")
    planner = Planner(KINDS, stage.inventory)
    windows = Windows((window,), lambda hosts: frozenset({hosts}))
    rails = Rails(stage.store, planner, Settings(), windows)
    stage.engine = Engine(stage.store, planner, stage.script, successes=0, rails=rails)


def test_automation_keeps_out_of_a_maintenance_window_and_people_may_act(stage: Stage) -> None:
    in_window(stage)
    run = stage.play(requester=ALERT)
    assert run.state is RunState.FAILED
    assert refusal(stage, run) == (
        "gpu-01 is in maintenance until 2026-03-01 04:00 UTC: new fans, and nothing is started there automatically",
        "a person may run it all the same",
    )
    assert stage.play().state is RunState.SUCCEEDED
    assert stage.play(hosts=("gpu-02",), requester=ALERT).state is RunState.SUCCEEDED
    stage.clock.on(hours=1)
    assert stage.play(requester=ALERT).state is RunState.SUCCEEDED


def test_what_a_person_approved_is_no_automation(stage: Stage) -> None:
    in_window(stage)
    run = stage.play(requester=ALERT, mode="approve")
    assert stage.decide(run.id) is None
    assert stage.advance(run.id).state is RunState.SUCCEEDED


# ── the breaker ──
def test_restarts_do_not_trip_the_breaker_unless_it_is_told_to(stage: Stage) -> None:
    steps = [{"id": "stop", "uses": "docker.restart", "with": {"name": "vllm"}}]
    mild = book(steps=steps, verify=[{"id": "proof", "run": "true", "mutates": False}], **BARE)
    for host in ("gpu-01", "gpu-02", "gpu-03", "gpu-04"):
        stage.play(mild, (host,), requester=ALERT)
    assert stage.store.ledger.tripped() is None
    planner = Planner(KINDS, stage.inventory)
    rails = Rails(stage.store, planner, Settings(hosts=2, level=1))
    stage.engine = Engine(stage.store, planner, stage.script, successes=0, rails=rails)
    for host in ("gpu-01", "gpu-02"):
        stage.play(mild, (host,), requester=ALERT)
    assert stage.store.ledger.tripped() is not None


def test_people_go_on_while_the_breaker_is_open(stage: Stage) -> None:
    for host in ("gpu-01", "gpu-02", "gpu-03"):
        stage.play(book(), (host,), requester=ALERT)
    assert stage.store.ledger.tripped() is not None
    assert stage.play().state is RunState.SUCCEEDED
    asked = stage.play(requester=ALERT, mode="approve")
    assert stage.decide(asked.id) is None
    assert stage.advance(asked.id).state is RunState.SUCCEEDED


def test_wishes_before_a_reset_do_not_trip_it_again_and_a_clock_set_back_hides_none(stage: Stage) -> None:
    for host in ("gpu-01", "gpu-02", "gpu-03"):
        stage.play(book(), (host,), requester=ALERT)
    assert stage.store.ledger.reset("bob", "it was the switch")
    assert not stage.store.ledger.reset("bob", "again"), "it is not open"
    assert stage.play(book(), ("gpu-04",), requester=ALERT).state is RunState.SUCCEEDED
    stage.clock.on(minutes=-30)
    for host in ("gpu-01", "gpu-02"):
        stage.play(book(), (host,), requester=ALERT)
    tripped = stage.store.ledger.tripped()
    assert tripped is not None
    assert tripped.hosts == ("gpu-01", "gpu-02", "gpu-04")
