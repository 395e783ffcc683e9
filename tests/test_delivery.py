"""Who advances runs, and that nothing due is ever slept through. The clock is the real one here, but where it is set back."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.delivery import POLL, Busy, Claim, Delivery
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.language.runbook import Runbook
from bot.runs.run import Requester, Run, RunState
from bot.steps import KINDS
from bot.store import Clock, Store
from bot.store.database import utc_now
from tests.parts.books import book
from tests.parts.script import PATIENCE, Script, done
from tests.parts.stage import BOB, machines
from tests.parts.states import Hands

ELSEWHERE = """
import sys
from bot.runs.approval import Person
from bot.store import Store
store = Store(sys.argv[1])
print(getattr(store, sys.argv[2]))
assert store.approvals.decide(int(sys.argv[3]), Person("bob", roles=("oncall",)), "approve") is None
"""


class Desk:
    """A store, scripted hosts and a loop that is going."""

    def __init__(self, path: Path, dispatch: Callable[[], int] | None = None, clock: Clock = utc_now) -> None:
        self.store = Store(path, clock)
        self.script = Script()
        self.engine = Engine(self.store, Planner(KINDS, machines()), self.script, successes=0)
        self.delivery = Delivery(self.store, self.engine, dispatch, pause=0.1)

    def queue(self, runbook: Runbook | None = None, **changes: Any) -> int:
        """Queue a run."""
        fields: dict[str, Any] = {"hosts": ("gpu-01",), "inputs": {}, "mode": "auto", "digest": "d"}
        fields |= {"requester": Requester("alice", "alice"), "channel": "oncall"}
        with self.store.write() as tx:
            return self.store.runs.create(tx, runbook=runbook or book(), **(fields | changes))

    def until(self, run_id: int, wanted: Callable[[Run], bool]) -> Run:
        """Wait until a run is as wanted; woken by commits."""
        bell = threading.Event()
        unlisten = self.store.database.listen(bell.set)
        ends = time.monotonic() + PATIENCE
        while True:
            bell.clear()
            run = self.store.runs.get(run_id)
            assert run is not None
            if wanted(run):
                unlisten()
                return run
            assert time.monotonic() < ends, run
            bell.wait(0.5)

    def end(self, run_id: int) -> RunState:
        """Wait for a run's end."""
        return self.until(run_id, lambda run: run.state.ended).state

    def close(self) -> None:
        """Stop the loop."""
        self.delivery.stop()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Start a loop and stop it."""
    desk = Desk(tmp_path / "sickbay.db")
    desk.delivery.start()
    yield desk
    desk.close()


def looking(**changes: Any) -> Runbook:
    """Return an observe runbook of one step."""
    step = {"id": "look", "run": "x", **changes}
    return book(kind="observe", verify=[], rescue=[], always=[], steps=[step])


def waiting(run: Run) -> bool:
    """Does the run wait for people?"""
    return run.state is RunState.WAITING


def test_what_is_queued_is_done(desk: Desk) -> None:
    assert [desk.end(run_id) for run_id in [desk.queue(looking()) for _ in range(5)]] == [
        RunState.SUCCEEDED
    ] * 5
    assert desk.delivery.alive


def test_a_run_that_waits_for_people_holds_no_thread(desk: Desk) -> None:
    run_ids = [desk.queue(hosts=(f"gpu-0{number}",), mode="approve") for number in range(1, 5)]
    for run_id in run_ids:
        desk.until(run_id, waiting)
    ends = time.monotonic() + PATIENCE
    while desk.delivery._active and time.monotonic() < ends:
        desk.delivery._bell.wait(0.01)
    assert desk.delivery._active == set()
    for run_id in run_ids:
        assert desk.store.approvals.decide(run_id, BOB, "approve") is None
    assert {desk.end(run_id) for run_id in run_ids} == {RunState.SUCCEEDED}


def test_a_click_never_falls_between_looking_and_sleeping(desk: Desk) -> None:
    """The answer comes as early as it can: the question's own commit gives it, before the run has gone to rest."""
    told: list[str | None] = []

    def eager() -> None:
        for run in desk.store.runs.newest(open_only=True):
            if (
                run.plan is not None
                and (question := desk.store.approvals.get(run.id))
                and question.state == "pending"
            ):
                told.append(desk.store.approvals.decide(run.id, BOB, "approve"))  # noqa: PERF401

    desk.store.database.listen(eager)
    for _ in range(10):
        assert desk.end(desk.queue(mode="approve")) is RunState.SUCCEEDED
    assert told.count(None) == 10


def test_a_retry_that_is_due_is_made_without_anybody_knocking(desk: Desk) -> None:
    desk.script.on("look", done(exit_code=1), done())
    started = time.monotonic()
    assert desk.end(desk.queue(looking(retries=1, delay="300ms"))) is RunState.SUCCEEDED
    assert 0.3 <= time.monotonic() - started < 5


def test_a_cancel_reaches_a_command_that_is_going(desk: Desk) -> None:
    held = desk.script.on("stop", gate=threading.Event())
    run_id = desk.queue()
    held.wait()
    assert desk.store.runs.cancel(run_id, "bob")
    assert desk.end(run_id) is RunState.CANCELLED
    assert desk.script.steps() == ["look", "stop", "undo"]


def test_another_process_may_queue_and_answer_but_not_advance(desk: Desk, tmp_path: Path) -> None:
    run_id = desk.queue(mode="approve")
    desk.until(run_id, waiting)
    words = [sys.executable, "-c", ELSEWHERE, desk.store.database.path, "runs", str(run_id)]
    subprocess.run(words, check=True, env=os.environ, stdout=subprocess.DEVNULL)
    assert desk.end(run_id) is RunState.SUCCEEDED
    second = Desk(tmp_path / "sickbay.db")
    with pytest.raises(Busy, match="another Sickbay is running on this database"):
        second.delivery.start()
    second.close()


def test_the_claim_is_another_processs_until_that_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "sickbay.db")
    code = "import sys; from bot.delivery import Claim; c = Claim(sys.argv[1]); print(c.take(), flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"True\n"
    claim = Claim(path)
    assert not claim.take()
    holder.kill()
    holder.communicate()
    assert claim.take()
    claim.release()
    assert claim.take()
    claim.release()


def test_stopping_leaves_what_is_going_to_be_asked_for_after_the_next_start(tmp_path: Path) -> None:
    first = Desk(tmp_path / "sickbay.db")
    held = first.script.on("stop", gate=threading.Event())
    first.delivery.start()
    run_id = first.queue()
    held.wait()
    first.close()
    second = Desk(tmp_path / "sickbay.db")
    assert second.delivery.start() == 1
    assert second.end(run_id) is RunState.SUCCEEDED
    assert second.script.sent[0].first_sent is not None
    assert second.script.steps() == ["stop", "start", "proof", "undo"]
    second.close()


def test_an_idle_loop_rests(tmp_path: Path) -> None:
    looks: list[float] = []

    def look() -> int:
        looks.append(time.monotonic())
        return 0

    desk = Desk(tmp_path / "sickbay.db", look)
    desk.delivery.start()
    assert desk.end(desk.queue(looking())) is RunState.SUCCEEDED
    time.sleep(POLL)  # its own last commits are noticed once more
    looks.clear()
    time.sleep(3 * POLL)
    assert len(looks) <= 1
    desk.close()


def test_a_loop_that_stumbles_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stumbles = iter([RuntimeError("once")])

    def dispatch() -> int:
        if (error := next(stumbles, None)) is not None:
            raise error
        return 0

    desk = Desk(tmp_path / "sickbay.db", dispatch)
    desk.delivery.start()
    assert desk.end(desk.queue(looking())) is RunState.SUCCEEDED
    assert "trying again" in caplog.text
    desk.close()


def test_a_run_whose_result_cannot_be_written_is_tried_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk: the database refuses every write of this run until there is room again."""
    gate = threading.Event()
    held = desk.script.on("stop", gate=gate)
    run_id = desk.queue()
    held.wait()
    with desk.store.write() as tx:
        tx.exec_driver_sql(
            "CREATE TRIGGER full BEFORE UPDATE ON runs BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
        )
    gate.set()
    ends = time.monotonic() + PATIENCE
    while "could not be recorded; trying again" not in caplog.text:
        assert time.monotonic() < ends
        time.sleep(0.01)
    with desk.store.write() as tx:
        tx.exec_driver_sql("DROP TRIGGER full")
    assert desk.end(run_id) is RunState.SUCCEEDED
    assert [(one.step, one.first_sent is None) for one in desk.script.sent if one.step == "stop"] == [
        ("stop", True), ("stop", False),
    ]  # fmt: skip


@pytest.mark.parametrize("running", [True, False])
def test_a_run_that_rests_is_not_slept_through_when_the_clock_is_set_back(
    tmp_path: Path, *, running: bool
) -> None:
    clock = Hands()
    desk = Desk(tmp_path / "sickbay.db", clock=clock)
    desk.script.on("look", done(exit_code=1), done())
    run_id = desk.queue(looking(retries=1, delay="10m"))
    if running:
        desk.delivery.start()
        desk.until(run_id, lambda run: run.wake_at is not None and run.wake_at > clock())
        clock.on(hours=-1)
    else:
        desk.engine.advance(run_id)
        clock.on(hours=-1)
        desk.delivery.start()
    assert desk.end(run_id) is RunState.SUCCEEDED
    desk.close()
