"""A freeze and the breaker stop the next change of a run that is under way, too; what it has begun is cleaned up."""

import itertools
import threading
from typing import Any

import pytest

from bot.effect import Pending
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.guard.decision import Freeze, Want
from bot.runs.run import Attempt, Requester, Run, RunState, Status
from bot.steps import KINDS
from tests.parts.books import book
from tests.parts.script import PATIENCE, Script, done
from tests.parts.stage import Stage, locked, stage

__all__ = ["stage"]
ALERT = Requester("alert Down", via="alert")
BARE: dict[str, Any] = {"rescue": [], "always": []}
STEPS = [
    {"id": "look", "run": "true", "mutates": False},
    {"id": "drain", "run": "drain it", "rollback": {"run": "undrain it"}},
    {"id": "wait", "run": "wait it", "mutates": False},
    {"id": "restart", "run": "restart it"},
]
FROZEN = "gpu-01 is frozen by bob since 2026-03-01 03:00 UTC: hands off"


class Killed(BaseException):
    """kill -9."""


class Dies(Script):
    """Hosts whose bot is killed when it is about to send this step."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def start(self, *args: Any, **more: Any) -> Pending:
        """Send it, or die."""
        if f"/{self.step}/" in more["key"]:
            raise Killed
        return super().start(*args, **more)


def freeze(stage: Stage, hosts: str = "gpu-01") -> None:
    """Let nobody change a host."""
    stage.store.ledger.freeze(Freeze("bob", stage.clock(), "hands off", hosts))


def trip(stage: Stage) -> None:
    """Open the breaker, by runs elsewhere."""
    for host in ("gpu-02", "gpu-03", "gpu-04"):
        stage.play(book(**BARE), (host,), requester=ALERT)
    assert stage.store.ledger.tripped() is not None


def last(stage: Stage, run: Run, step: str, host: str = "gpu-01") -> Attempt:
    """Return the newest attempt of a step."""
    return [one for one in stage.attempts(run.id) if (one.step, one.host) == (step, host)][-1]


def resting(stage: Stage, run: int) -> tuple[threading.Event, threading.Thread]:
    """Let a run go until it rests between two changes on gpu-01."""
    gate = threading.Event()
    held = stage.script.on("wait", host="gpu-01", gate=gate)
    thread = stage.apart(run)
    held.wait()
    return gate, thread


def killed_before(stage: Stage, step: str, run: int) -> None:
    """Let a run go until it is killed between the row of this step and its command; start Sickbay again."""
    dying = Dies(step)
    engine = Engine(stage.store, Planner(KINDS, stage.inventory), dying, successes=0)
    with pytest.raises(Killed):
        engine.advance(run)
    dying.close()
    stage.script.sent += dying.sent
    assert stage.statuses(run)[step] is Status.BEGUN
    stage.restart()


# ── freeze ──
@pytest.mark.parametrize("requester", [Requester("alice", "alice"), ALERT], ids=["person", "alert"])
def test_a_freeze_stops_the_next_change_of_a_run_under_way_and_what_it_did_is_undone(
    stage: Stage, requester: Requester
) -> None:
    run = stage.queue(book(steps=STEPS), requester=requester)
    gate, thread = resting(stage, run)
    freeze(stage)
    gate.set()
    thread.join()
    assert stage.script.steps() == ["look", "drain", "wait", "drain_rollback", "note", "undo"]
    end = stage.run(run)
    refused = last(stage, end, "restart")
    assert (refused.summary, refused.advice, refused.sent) == (
        FROZEN,
        "ask bob; to lift it: thaw gpu-01",
        False,
    )
    assert (end.state, end.reason) == (
        RunState.FAILED,
        "Failed on gpu-01. First: restart on gpu-01. Rolled back on gpu-01.",
    )
    (told,) = [one for one in stage.events(run) if one.kind == "guard.answered"]
    assert (told.host, told.data["rail"], told.data["why"]) == ("gpu-01", "freeze", FROZEN)
    assert locked(stage.store) == {}


def test_a_freeze_elsewhere_or_one_that_is_lifted_stops_nothing(stage: Stage) -> None:
    run = stage.queue(book(steps=STEPS))
    gate, thread = resting(stage, run)
    freeze(stage)
    freeze(stage, "gpu-02")
    assert stage.store.ledger.thaw("gpu-01", "bob")
    gate.set()
    thread.join()
    assert stage.run(run).state is RunState.SUCCEEDED


def test_a_freeze_stops_a_rescue_that_changes_something(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("proof", done("", 1), gate=gate)
    run = stage.queue(book(rescue=[{"id": "mend", "run": "mend it"}]))
    thread = stage.apart(run)
    rule.wait()
    freeze(stage)
    gate.set()
    thread.join()
    assert stage.script.steps() == ["look", "stop", "start", "proof", "undo"]
    assert last(stage, stage.run(run), "mend").summary == FROZEN


def test_a_freeze_stops_the_next_try(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("stop", done("", 1), gate=gate)
    steps = [{"id": "stop", "run": "stop it", "retries": 3, "delay": "0s"}]
    run = stage.queue(book(steps=steps, rescue=[]))
    thread = stage.apart(run)
    rule.wait()
    freeze(stage)
    gate.set()
    thread.join()
    assert stage.script.steps() == ["stop", "undo"]
    assert last(stage, stage.run(run), "stop").summary == FROZEN


@pytest.mark.parametrize("after", [1, 4, 5, 6, 7, 12, 19])
def test_whenever_a_freeze_comes_no_change_begins_after_it(stage: Stage, after: int) -> None:
    steps = [{"id": f"stop{number}", "run": "stop it"} for number in range(12)]
    hosts = ("gpu-01", "gpu-02", "gpu-03")
    run = stage.queue(book(steps=steps, serial=3, **BARE), hosts)
    there = threading.Event()
    commits = itertools.count(1)
    stop = stage.store.database.listen(lambda: there.set() if next(commits) == after else None)
    thread = stage.apart(run)
    assert there.wait(PATIENCE)
    freeze(stage, "gpu-0[1-2]")
    thread.join()
    stop()
    (frozen,) = stage.store.timeline.of(kind="guard.frozen")
    begun = [one for one in stage.events(run) if one.kind == "step.begun" and one.data.get("changes")]
    assert [one.id for one in begun if one.host != "gpu-03" and one.id > frozen.id] == []
    assert [one.step for one in begun if one.host == "gpu-03"] == [step["id"] for step in steps]
    sent = [(one.step, one.host) for one in stage.script.sent if one.step.startswith("stop")]
    assert sorted(sent) == sorted((one.step, one.host) for one in begun), "what was written is what was sent"


# ── the breaker ──
def test_the_breaker_stops_the_next_change_of_automation_and_a_person_is_called(stage: Stage) -> None:
    run = stage.queue(book(steps=STEPS), requester=ALERT)
    gate, thread = resting(stage, run)
    trip(stage)
    gate.set()
    thread.join()
    assert stage.script.steps("gpu-01") == ["look", "drain", "wait", "drain_rollback", "note", "undo"]
    end = stage.run(run)
    assert end.state is RunState.NEEDS_HUMAN
    assert end.reason.startswith("Stopped on gpu-01 midway: automation stopped itself at ")
    assert end.reason.endswith("then: breaker reset REASON. Rolled back on gpu-01.")


def test_the_breaker_stops_no_run_under_way_that_a_person_started_or_approved(stage: Stage) -> None:
    run = stage.queue(book(steps=STEPS))
    gate, thread = resting(stage, run)
    trip(stage)
    gate.set()
    thread.join()
    assert stage.run(run).state is RunState.SUCCEEDED


REBOOTS: dict[str, Any] = {
    "steps": [{"id": "restart", "uses": "docker.restart", "with": {"name": "vllm"}}],
    "rescue": [{"id": "reboot", "run": "reboot it"}],
    "always": [],
}


def test_a_deep_rescue_is_a_wish_when_it_is_about_to_act(stage: Stage) -> None:
    stage.script.on("restart", done("", 1, "boom"))
    runs = [
        stage.play(book(**REBOOTS), (host,), requester=ALERT)
        for host in ("gpu-01", "gpu-02", "gpu-03", "gpu-04")
    ]
    assert [one.host for one in stage.script.sent if one.step == "reboot"] == ["gpu-01", "gpu-02"]
    assert [one.state for one in runs] == [RunState.FAILED] * 2 + [RunState.NEEDS_HUMAN] * 2
    tripped = stage.store.ledger.tripped()
    assert tripped is not None
    assert tripped.hosts == ("gpu-01", "gpu-02", "gpu-03")
    assert "automation stopped itself at " in last(stage, runs[2], "reboot", "gpu-03").summary
    assert "restart" not in stage.script.steps("gpu-04")


def test_a_deep_rescue_that_is_not_reached_is_no_wish_and_a_persons_never(stage: Stage) -> None:
    at = "2026-03-01T02:00:0"
    stage.script.on("restart", done(f"before {at}1Z running\nafter {at}2Z running\n"))
    for host in ("gpu-01", "gpu-02", "gpu-03", "gpu-04"):
        assert stage.play(book(**REBOOTS), (host,), requester=ALERT).state is RunState.SUCCEEDED
    assert stage.store.ledger.tripped() is None
    stage.script.on("restart", done("", 1, "boom"))
    for host in ("gpu-01", "gpu-02", "gpu-03", "gpu-04"):
        stage.play(book(**REBOOTS), (host,))
    assert stage.script.steps().count("reboot") == 4
    assert stage.store.ledger.tripped() is None


# ── after a crash ──
def taken(stage: Stage, **changes: Any) -> int:
    """Return a run that was killed when it had taken gpu-01, and had sent nothing yet."""
    run = stage.queue(**changes)
    claimed = stage.store.runs.claim(run)
    assert claimed is not None
    world = Rails(stage.store, Planner(KINDS, stage.inventory)).world
    assert stage.store.ledger.take(claimed, {"gpu-01": Want()}, world)["gpu-01"].reaction == "go"
    stage.restart()
    return run


def test_a_host_that_was_taken_before_a_crash_is_asked_about_again(stage: Stage) -> None:
    run = taken(stage)
    freeze(stage)
    assert stage.advance(run).state is RunState.FAILED
    assert stage.script.steps() == ["look"], "nothing was begun, so nothing is cleaned up"
    assert last(stage, stage.run(run), "stop").summary == FROZEN
    assert stage.store.ledger.thaw("gpu-01", "bob")
    limited = book(limits={"runs": 1, "per": "6h", "by": "host"}, **BARE)
    assert stage.play(limited).state is RunState.SUCCEEDED, "what was refused was no use of the host"


def test_a_host_that_was_taken_before_a_crash_is_left_alone_while_the_breaker_is_open(stage: Stage) -> None:
    run = taken(stage, runbook=book(**BARE), requester=ALERT)
    trip(stage)
    assert stage.advance(run).state is RunState.NEEDS_HUMAN
    assert stage.script.steps("gpu-01") == ["look"]


def test_what_a_run_took_before_a_crash_is_its_own_and_no_second_use(stage: Stage) -> None:
    limited = book(limits={"runs": 1, "per": "6h", "by": "host"}, **BARE)
    run = taken(stage, runbook=limited)
    assert stage.advance(run).state is RunState.SUCCEEDED
    assert stage.play(limited).state is RunState.NEEDS_HUMAN


def test_a_first_command_that_never_came_does_not_begin_in_a_freeze(stage: Stage) -> None:
    run = stage.queue()
    killed_before(stage, "stop", run)
    freeze(stage)
    end = stage.advance(run)
    assert stage.script.steps() == ["look"], "nothing was begun, so nothing is cleaned up"
    stop = last(stage, end, "stop")
    assert (stop.status, stop.sent, stop.summary) == (
        Status.FAILED,
        False,
        f"it had not begun, and is not begun now: {FROZEN}",
    )
    assert (end.state, end.reason) == (RunState.FAILED, "Failed on gpu-01. First: stop on gpu-01.")


def test_a_later_command_that_never_came_does_not_begin_either_and_what_was_done_is_cleaned_up(
    stage: Stage,
) -> None:
    run = stage.queue(requester=ALERT)
    killed_before(stage, "start", run)
    trip(stage)
    end = stage.advance(run)
    assert stage.script.steps("gpu-01") == ["look", "stop", "note", "undo"]
    assert end.state is RunState.NEEDS_HUMAN
    assert end.reason.startswith(
        "Stopped on gpu-01 midway: it had not begun, and is not begun now: automation stopped itself at "
    )


def test_a_command_that_never_came_begins_where_nothing_objects(stage: Stage) -> None:
    run = stage.queue()
    killed_before(stage, "stop", run)
    assert stage.advance(run).state is RunState.SUCCEEDED
    assert stage.script.steps().count("stop") == 1


def test_what_had_begun_before_the_freeze_is_asked_for_and_comes_to_its_end(stage: Stage) -> None:
    rule = stage.script.on("stop", gate=threading.Event())
    run = stage.queue()
    thread = stage.apart(run)
    rule.wait()
    freeze(stage)
    stage.engine.close()
    before = stage.script
    before.close()
    thread.join()
    stage.script = Script()
    stage.script.sent += before.sent
    stage.restart()
    end = stage.advance(run)
    assert stage.statuses(run)["stop"] is Status.OK
    assert last(stage, end, "start").summary == FROZEN
    assert stage.script.steps()[-2:] == ["note", "undo"]
