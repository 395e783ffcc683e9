"""However a run ends: what was begun on a host is cleaned up there, and before every change there is evidence or a word about it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.program import Act, Ask, Finish, Sleep, next_move
from bot.runs.column import Call
from bot.runs.record import Record
from bot.runs.run import Run, RunState, Status
from tests.parts.books import START, attempt, book, mutates, plan_for, run

STEPS = [
    {"id": "look", "run": "x", "mutates": False},
    {"id": "drain", "run": "x"},
    {"id": "restart", "run": "x", "retries": 1, "delay": "0s"},
]
ALWAYS = [{"id": "undrain", "run": "x"}, {"id": "told", "run": "x", "mutates": False}]
EVIDENCE = [{"id": "keep", "run": "x"}]
NOTE = [{"id": "note", "run": "x", "mutates": False}]
ACT = ("drain", "restart")
CHANGE = (*ACT, "mend")
DEADLINE = START + timedelta(hours=1)
Answer = Callable[[Call], Status]


class World:
    """Plays a run: hosts answer by `answer`; whoever watches may cancel, let time pass, and answer questions."""

    def __init__(self, one: Run, answer: Answer, *, granted: str = "approved") -> None:
        self.run = replace(one, deadline=DEADLINE)
        self.record = Record()
        self.now = START
        self.answer = answer
        self.granted = granted
        self.approval: Any = None
        self.order: list[tuple[str, str]] = []
        self.touched: set[tuple[str, str, int]] = set()
        self.idle: frozenset[str] = frozenset()
        """Hosts on which the plan changes nothing."""
        self.before: Callable[[Call], None] = lambda _: None
        self.after: Callable[[Call], None] = lambda _: None
        self.crash: Callable[[Call], bool] = lambda _: False
        self.broken = ""

    def play(self) -> Finish:
        """Take the run to its end."""
        for _ in range(500):
            move = next_move(
                self.run,
                self.record,
                mutates(self.run.runbook),
                self.approval,
                self.now + timedelta(minutes=9),
                self.now,
                broken=self.broken,
            )
            match move:
                case Act(calls):
                    for call in calls:
                        self._do(call)
                case Ask(without) if self.run.plan is not None:
                    self.run = replace(
                        self.run, plan=replace(self.run.plan, without=(*self.run.plan.without, *without))
                    )
                    self.approval = self.granted
                case Ask():
                    plan = plan_for(self.run, self.record)
                    entries = (
                        replace(one, decision="skip") if one.step in ACT and one.host in self.idle else one
                        for one in plan.entries
                    )
                    self.run = replace(self.run, plan=replace(plan, entries=tuple(entries)))
                case Sleep():
                    raise AssertionError("nothing to sleep for")
                case Finish():
                    return move
        raise AssertionError("the run never ends")

    def _do(self, call: Call) -> None:
        """Begin a call and end it; a crash between leaves it begun, and it is asked for again."""
        self.before(call)
        place = (call.step.id, call.host)
        known = self.record.last(*place)
        if call.left_out:
            self.record.add(attempt(*place, Status.SKIPPED, summary=call.left_out))
            return
        if known is None or known.number < call.number:
            self.order.append(place)
        self.record.add(attempt(*place, Status.BEGUN, call.number))
        if not self.crash(call):
            status = self.answer(call)
            self.record.add(attempt(*place, status, call.number))
            if status is not Status.SKIPPED and call.step.id in CHANGE:
                self.touched.add((*place, call.number))
        self.after(call)

    def cancel(self) -> None:
        """Cancel the run."""
        self.run = replace(self.run, cancelled_by="alice")

    def check(self, end: Finish) -> None:
        """Hold what happened against what was promised."""
        assert end.state.ended
        for host in self.run.hosts:
            mine = [step for step, at in self.order if at == host]
            touched = [step for step, at, _ in self.touched if at == host]
            come = any(self.record.last(step, host) for step in ("keep", *ACT))
            look = self.record.last("look", host)
            if come or (look and not look.good and self.run.cancelled_by is None):
                assert "told" in mine, f"{host} was left without a last look"
            elif look and look.good:
                assert "told" not in mine, f"it had not come to {host}"
            assert ("undrain" in mine) == bool(touched), (
                f"{host} was cleaned up where nothing was changed, or not at all"
            )
            if touched:
                clean = min(map(mine.index, ("undrain", "told")))
                assert max(map(mine.index, touched)) < clean, "it was cleaned up too early"
                assert mine.index("keep") < min(map(mine.index, touched)), (
                    f"{host} was changed before its evidence"
                )
                kept = self.record.last("keep", host)
                assert kept is not None
                rule, without = (
                    self.run.runbook.evidence.missing,
                    dict(self.run.plan.without if self.run.plan else ()),
                )
                assert (
                    kept.good
                    or rule == "go"
                    or (rule == "ask" and host in without and self.approval == "approved")
                )
            assert all(one.done for one in self.record.of(host)), "it ended with something still going"


def mending(**changes: Any) -> Any:
    """Return a runbook that drains, restarts, proves, and always puts back."""
    return book(**{"steps": STEPS, "always": ALWAYS, "evidence": EVIDENCE} | changes)


def fine(_: Call) -> Status:
    """Do well."""
    return Status.OK


EVERY = ("look", "keep", "drain", "restart", "proof", "note", "undrain", "told")


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("what", ["cancel", "timeout"])
def test_a_run_that_is_stopped_at_any_step_cleans_up_what_had_begun(what: str, step: str, when: str) -> None:
    """Stopped before a step's command leaves, while it goes (it then fails), and after it ended."""
    failing = "proof" if step == "note" else ""
    world = World(
        run(mending(), ("a", "b")),
        lambda call: (
            Status.FAILED if call.step.id in (failing, step if when == "during" else "") else Status.OK
        ),
    )

    def stop(call: Call) -> None:
        if call.step.id == step:
            if what == "cancel":
                world.cancel()
            else:
                world.now = DEADLINE

    setattr(world, "after" if when == "after" else "before", stop)
    end = world.play()
    world.check(end)
    if world.record.last("drain", "a"):
        assert world.record.last("undrain", "a")


@pytest.mark.parametrize("step", EVERY)
def test_a_mistake_of_ours_at_any_step_still_cleans_up_and_says_so(step: str) -> None:
    failing = "proof" if step == "note" else ""
    world = World(
        run(mending(), ("a", "b")),
        lambda call: Status.FAILED if call.step.id in (failing, step) else Status.OK,
    )

    def stumble(call: Call) -> None:
        if call.step.id == step:
            world.broken = "Sickbay itself failed (KeyError: 'x')."

    world.after = stumble
    end = world.play()
    world.check(end)
    assert end.state is RunState.NEEDS_HUMAN
    assert end.reason.startswith("Sickbay itself failed (KeyError: 'x').")
    assert {host for one, host in world.order if one == "drain"} <= {
        host for one, host in world.order if one == "undrain"
    }


@pytest.mark.parametrize("what", ["cancel", "timeout"])
def test_a_clean_up_that_fails_fails_also_a_run_that_was_stopped(what: str) -> None:
    world = World(
        run(mending(), ("a", "b")),
        lambda call: Status.UNREACHABLE if call.step.id == "undrain" else Status.OK,
    )

    def stop(call: Call) -> None:
        if call.step.id == "drain":
            if what == "cancel":
                world.cancel()
            else:
                world.now = DEADLINE

    world.after = stop
    end = world.play()
    why = "Cancelled by alice." if what == "cancel" else "The runbook's timeout passed."
    assert (end.state, end.reason) == (RunState.FAILED, f"{why} Clean-up failed on a.")


def test_the_end_names_the_step_that_failed_first_and_its_host() -> None:
    def answer(call: Call) -> Status:
        world.now += timedelta(seconds=1)
        wrong = (call.step.id, call.host) in (("restart", "b"), ("undrain", "b"), ("proof", "a"))
        return Status.FAILED if wrong else Status.OK

    world = World(run(mending(serial=[2], max_failures=2), ("a", "b")), answer)
    end = world.play()
    assert end.reason == "Failed on a,b. First: restart on b. Clean-up failed on b."


@pytest.mark.parametrize("status", [Status.FAILED, Status.UNREACHABLE, Status.UNKNOWN])
@pytest.mark.parametrize("step", EVERY)
def test_whatever_goes_wrong_at_whatever_step_the_clean_up_is_begun(step: str, status: Status) -> None:
    """A failed canary, a host that is gone in the middle, a command whose end nobody knows."""
    wrong = (step, "proof") if step == "note" else (step,)
    world = World(run(mending(), ("a", "b")), lambda call: status if call.step.id in wrong else Status.OK)
    end = world.play()
    world.check(end)
    assert end.state is not RunState.SUCCEEDED or step == "keep"
    if status is Status.UNKNOWN and step in ("drain", "restart", "undrain"):
        assert end.state is RunState.NEEDS_HUMAN
        assert "Nobody knows how a command ended on a" in end.reason


@pytest.mark.parametrize("step", EVERY)
def test_a_crash_at_any_step_is_followed_by_its_clean_up(step: str) -> None:
    crashes = iter([True, True])
    failing = "proof" if step == "note" else ""
    world = World(
        run(mending(), ("a",)), lambda call: Status.FAILED if call.step.id == failing else Status.OK
    )
    world.crash = lambda call: call.step.id == step and next(crashes, False)
    world.check(world.play())


def test_more_failures_than_allowed_stop_the_rest_and_clean_up_the_others() -> None:
    world = World(
        run(mending(serial=[2], max_failures=1), tuple("abcd")),
        lambda call: Status.FAILED if call.step.id == "restart" else Status.OK,
    )
    end = world.play()
    world.check(end)
    assert {host for step, host in world.order if step == "undrain"} == {"a", "b"}
    assert "Not begun on" not in end.reason or "c" in end.reason


@pytest.mark.parametrize("answer", ["denied", "expired", "void"])
def test_a_no_to_going_on_without_evidence_touches_nothing_and_leaves_the_batches_before_cleaned_up(
    answer: str,
) -> None:
    world = World(
        run(mending(serial=[1]), ("a", "b")),
        lambda call: Status.FAILED if (call.step.id, call.host) == ("keep", "b") else Status.OK,
        granted=answer,
    )
    end = world.play()
    world.check(end)
    assert end.state is RunState.CANCELLED
    assert "without the evidence of b" in end.reason
    assert world.record.last("undrain", "a")
    assert not world.record.last("drain", "b")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_order_of_answers_stops_crashes_and_noes_leaves_a_host_without_its_clean_up(
    data: st.DataObject,
) -> None:
    changes: dict[str, Any] = {
        "serial": data.draw(st.lists(st.sampled_from([1, 2, 3, "50%"]), min_size=1, max_size=2)),
        "max_failures": data.draw(st.integers(0, 3)),
        "evidence": {"pack": EVIDENCE, "missing": data.draw(st.sampled_from(["ask", "refuse", "go"]))},
        "rescue": data.draw(st.sampled_from([NOTE, [*NOTE, {"id": "mend", "run": "x"}]])),
    }
    idle = data.draw(st.frozensets(st.sampled_from("abcd"), max_size=3))
    statuses = st.sampled_from(
        [*[Status.OK] * 8, Status.FAILED, Status.UNREACHABLE, Status.UNKNOWN, Status.SKIPPED]
    )

    def answer(call: Call) -> Status:
        if call.host in idle and call.step.id in ACT:
            return Status.SKIPPED
        status = data.draw(statuses)
        looks = call.step.id in ("look", "keep", "proof", "note", "told")
        return Status.FAILED if looks and status is Status.UNKNOWN else status

    granted = data.draw(st.sampled_from(["approved", "approved", "denied", "expired", "void"]))
    world = World(run(mending(**changes), tuple("abcd")), answer, granted=granted)
    world.idle = idle
    stop = data.draw(st.none() | st.tuples(st.sampled_from(["cancel", "timeout"]), st.integers(1, 25)))
    crashes = data.draw(st.sets(st.integers(1, 30), max_size=4))
    begun = [0]

    def watch(_: Call) -> None:
        begun[0] += 1
        if stop is not None and begun[0] == stop[1]:
            if stop[0] == "cancel":
                world.cancel()
            else:
                world.now = DEADLINE

    world.before = watch
    world.crash = lambda _: begun[0] in crashes
    world.check(world.play())
