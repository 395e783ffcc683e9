"""SIGKILL at every named point and at random instants: every run ends, and nothing is done, told or lost twice."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.language.runbook import Runbook
from bot.runs.run import Attempt, Requester, RunState, Status
from bot.store import Store
from bot.store.timeline import verify
from tests.parts.books import book
from tests.parts.killed import POINTS, Bodies, told
from tests.parts.script import PATIENCE, World
from tests.parts.stage import BOB

HOSTS = ("gpu-01", "gpu-02", "gpu-03")
FAILING = ("stop/gpu-02/1",)
"""This command fails the first time, so that a retry is among what may be cut short."""
BOOK: Runbook = book(
    serial=[2],
    evidence=[{"id": "keep", "run": "keep it"}],
    steps=[
        {"id": "look", "run": "look", "mutates": False},
        {"id": "stop", "run": "stop it", "retries": 1, "delay": "20ms"},
        {"id": "start", "run": "start it"},
    ],
)
CHANGES = {"stop", "start", "undo"}
EXPECTED = sorted(
    [f"{step}/{host}/1" for step in CHANGES for host in HOSTS] + ["stop/gpu-02/2"],
)


def asks_boot(step: str | None) -> bool:
    """Is it the question in which boot a host is? Each life asks it anew, so a kill may leave it open."""
    return (step or "").startswith("boot.")


def kept(store: Store, run_id: int) -> list[Attempt]:
    """Return the attempts that one life hands on to the next."""
    return [one for one in store.attempts.of(run_id) if not asks_boot(one.step)]


@pytest.fixture(scope="module")
def bodies() -> Iterator[Bodies]:
    """Give a way to start processes; bury them in the end."""
    bodies = Bodies()
    yield bodies
    bodies.bury()


class Watch:
    """The test's own view of the database, which it never advances; it answers the question like a person."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.store = Store(folder / "sickbay.db")
        with self.store.write() as tx:
            self.run_id = self.store.runs.create(
                tx,
                runbook=BOOK,
                digest="d",
                hosts=HOSTS,
                inputs={},
                mode=mode,  # type: ignore[arg-type]
                requester=Requester("alice", "alice"),
                channel="oncall",
            )

    def answer(self) -> bool:
        """Approve, if it is asked just now."""
        question = self.store.approvals.get(self.run_id)
        if question is None or question.state != "pending":
            return False
        return self.store.approvals.decide(self.run_id, BOB, "approve") is None

    def ended(self) -> bool:
        """Has the run ended?"""
        run = self.store.runs.get(self.run_id)
        assert run is not None
        return run.state.ended

    def follow(self, process: Any) -> bool:
        """Answer what is asked until the run has ended (true) or the process was killed."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.ended():
                return True
            if not process.is_alive():
                return False
            self.answer()
            process.join(0.01)
        raise AssertionError(f"it neither ends nor dies: {self.store.runs.get(self.run_id)}")

    def check(self) -> None:
        """Hold the whole record against what may have happened once only."""
        run = self.store.runs.get(self.run_id)
        assert run is not None
        assert (run.state, run.reason) == (RunState.SUCCEEDED, "")
        starts = World(self.folder / "world").starts()
        assert sorted(starts) == EXPECTED, "a command that changes something started twice, or not at all"
        attempts = kept(self.store, self.run_id)
        assert {one.status for one in attempts} <= {Status.OK, Status.FAILED}
        places = [(one.step, one.host, one.number) for one in attempts]
        assert len(places) == len(set(places)) == len(EXPECTED) + 4 * len(HOSTS)
        begun = {place: at for at, place in enumerate(places)}
        for host in HOSTS:
            assert begun["keep", host, 1] < begun["stop", host, 1], "a host was changed before its evidence"
        assert all("sha256" in one.facts for one in attempts if one.step == "keep")
        events = {place: n for place, n in told(self.store, self.run_id).items() if not asks_boot(place[1])}
        once = {count for place, count in events.items() if not place[0].endswith(".resumed")}
        assert once == {1}, "an event was told twice"
        assert verify(self.store.database.path).fault == ""
        for kind in ("step.begun", "step.ended"):
            assert {place[1:] for place in events if place[0] == kind} == set(places)
        kinds = {place[0] for place in events}
        asked = {"approval.asked", "approval.decided"} if run.mode == "approve" else set()
        assert kinds >= {"run.queued", "run.started", "run.planned", "run.ended"} | asked


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Watch a run that people have to approve."""
    watch = Watch(tmp_path, "approve")
    yield watch
    watch.store.close()


def test_without_a_kill_the_run_ends_and_the_record_is_whole(bodies: Bodies, watch: Watch) -> None:
    process = bodies.start(watch.folder, failing=FAILING)
    assert watch.follow(process)
    process.kill()
    watch.check()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_named_point_loses_and_doubles_nothing(bodies: Bodies, watch: Watch, point: str) -> None:
    """Killed when it first comes there, then among the changes, then among the last of them, then left alone."""
    for turn in (1, 5, 6):
        process = bodies.start(watch.folder, failing=FAILING, point=point, turn=turn)
        died = not watch.follow(process)
        process.kill()
        process.join()
        assert died or turn > 1 or point == "finished", f"it never came to `{point}`"
    assert watch.follow(bodies.start(watch.folder, failing=FAILING))
    watch.check()


def test_a_kill_while_people_are_asked_waits_on_and_hears_what_was_said_meanwhile(
    bodies: Bodies, watch: Watch
) -> None:
    for _ in range(2):
        process = bodies.start(watch.folder, failing=FAILING)
        until = time.monotonic() + PATIENCE
        while (run := watch.store.runs.get(watch.run_id)) is None or run.state is not RunState.WAITING:
            assert time.monotonic() < until
            process.join(0.01)
        process.join(0.05)
        process.kill()
        process.join()
    assert watch.answer()
    assert watch.follow(bodies.start(watch.folder, failing=FAILING))
    watch.check()


@pytest.mark.parametrize("seed", range(6))
def test_kills_at_random_instants_lose_and_double_nothing(bodies: Bodies, watch: Watch, seed: int) -> None:
    """Six kills a run, close to each other, so that what resumes is killed too; 36 in all.

    The run is ten commands long. Six lives of a quarter of a second, and six deaths, end at most nine of half a second:
    however fast or slow the machine is, no kill comes too late.
    """
    chance = random.Random(seed)
    for _ in range(6):
        process = bodies.start(watch.folder, failing=FAILING, seconds=0.5)
        until = time.monotonic() + chance.uniform(0.05, 0.25)
        while time.monotonic() < until:
            watch.answer()
            process.join(0.005)
        assert not watch.ended(), "it ended before it was killed"
        process.kill()
        process.join()
    assert watch.follow(bodies.start(watch.folder, failing=FAILING))
    watch.check()


def test_a_kill_after_a_cancel_still_cleans_up(bodies: Bodies, tmp_path: Path) -> None:
    watch = Watch(tmp_path, "auto")
    process = bodies.start(watch.folder, seconds=0.3, point="sent", turn=10)
    process.join(PATIENCE)
    assert watch.store.runs.cancel(watch.run_id, "bob")
    assert watch.follow(bodies.start(watch.folder))
    run = watch.store.runs.get(watch.run_id)
    assert run is not None
    assert (run.state, run.reason) == (RunState.CANCELLED, "Cancelled by bob.")
    attempts = kept(watch.store, watch.run_id)
    assert {one.host for one in attempts if one.step == "undo"} == {
        one.host for one in attempts if one.step == "stop"
    }
    assert not [one for one in attempts if not one.done]
    assert not [one for one in attempts if one.step == "start"]
    watch.store.close()
