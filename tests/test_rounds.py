"""Drains whose runs have ended, held against a real HAProxy: after a start, and again and again."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.engine.balancers import Balancers
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.engine.rounds import AGAIN, SOONER, Rounds
from bot.guard.drain import Drain
from bot.incident import Event
from bot.runs.run import Requester, RunState
from bot.steps import KINDS
from bot.store import Store
from bot.store.tables import runs
from bot.views import run_view
from tests.parts.haproxy import HAProxy
from tests.parts.nearby import Nearby, behind, draining
from tests.parts.programs import short_directory
from tests.parts.states import Hands
from tests.parts.vllm import Vllm


class Night:
    """A server that somebody keeps out of traffic, and a process that was just started."""

    def __init__(self, folder: Path, proxy: HAProxy) -> None:
        self.clock = Hands()
        self.proxy = proxy
        self.store = Store(folder / "sickbay.db", self.clock)
        self.remote = Nearby()
        self.inventory = behind(proxy)
        self.rang = threading.Event()
        self.rounds = self.another()

    def another(self) -> Rounds:
        """Return the rounds of a process that starts now."""
        rounds = Rounds(self.store, Balancers(self.inventory, self.remote), self.rang.set)
        rounds.begin()
        return rounds

    def drain(self, keep: str = "new disk") -> Drain:
        """Drain gpu-03 by a run that ends."""
        book = draining(keep=keep)
        with self.store.write() as tx:
            run_id = self.store.runs.create(
                tx,
                runbook=book,
                digest="d",
                hosts=("gpu-03",),
                inputs={},
                mode="auto",
                requester=Requester("alice", "alice"),
                channel="",
            )
        Engine(self.store, Planner(KINDS, self.inventory), self.remote, successes=0).advance(run_id)
        (drain,) = self.store.drains.open()
        return drain

    def go_round(self) -> list[Drain]:
        """Ask what is due, hear the answer, return what is still open."""
        self.rang.clear()
        self.rounds.turn()
        assert self.rang.wait(30)
        self.rounds.turn()
        return self.store.drains.open()

    def told(self, kind: str) -> list[Event]:
        """Return the events of a kind."""
        return [one for one in self.store.timeline.after(0) if one.kind == kind]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with (
        Vllm() as one,
        Vllm() as two,
        short_directory("lb") as directory,
        HAProxy(directory, {"gpu-03": one.address, "gpu-04": two.address}) as proxy,
    ):
        night = Night(tmp_path, proxy)
        yield night
        night.remote.close()
        night.store.close()


def test_one_that_is_still_out_stays_listed_with_what_haproxy_says(night: Night) -> None:
    night.drain()
    (drain,) = night.go_round()
    assert (drain.seen, drain.seen_at, drain.lost) == ("drain", night.clock(), "")
    assert "be_vllm/gpu-03: drain (DRAIN)" in drain.seen_words
    assert night.rounds.next_wake() == night.clock() + AGAIN
    sent = len(night.remote.sent)
    night.rounds.turn()
    assert len(night.remote.sent) == sent, "it was asked again before it was due"
    night.clock.on(minutes=6)
    night.go_round()
    assert len(night.told("drain.seen")) == 1, "the same was told twice"


def test_a_clock_that_is_set_back_holds_up_no_look(night: Night) -> None:
    night.drain()
    night.go_round()
    sent = len(night.remote.sent)
    night.clock.on(minutes=-60)
    night.go_round()
    assert len(night.remote.sent) > sent


def test_one_that_was_put_back_by_hand_is_closed_and_told(night: Night) -> None:
    night.drain()
    night.proxy.command("set server be_vllm/gpu-03 state ready")
    assert night.go_round() == []
    (event,) = night.told("drain.closed")
    assert event.data["how"] == "it takes traffic: somebody else has put it back"
    assert (event.host, event.run_id) == ("gpu-03", 1)
    assert night.rounds.next_wake() is None
    run = night.store.runs.get(1)
    assert run is not None
    (closed,) = run_view(night.store, run).drains
    assert closed.closed_at == night.clock()


def test_one_that_somebody_changed_is_no_longer_ours_but_listed(night: Night) -> None:
    night.drain()
    night.proxy.command("set server be_vllm/gpu-03 state maint")
    (drain,) = night.go_round()
    assert drain.lost == "it was left drained, and somebody else has put it into maintenance since"
    assert len(night.told("drain.lost")) == 1


@pytest.mark.parametrize("gone", [True, False])
def test_one_that_cannot_be_asked_about_is_unknown_and_asked_again_sooner(night: Night, gone: bool) -> None:
    night.drain()
    if gone:
        night.remote.gone.add("lb-01")
    else:
        night.proxy.stop()
    (drain,) = night.go_round()
    assert drain.seen == ""
    wanted = "lb-01 is unreachable (tcp): no route to host" if gone else "HAProxy on lb-01 could not be asked"
    assert wanted in drain.seen_words
    assert night.rounds.next_wake() == night.clock() + SOONER
    night.clock.on(minutes=2)
    if gone:
        night.remote.gone.clear()
    else:
        night.proxy.start()
    still = night.go_round()
    assert [one.seen for one in still] == (["drain"] if gone else [])  # one that starts anew has forgotten it


def test_a_balancer_that_left_the_inventory_is_unknown(night: Night) -> None:
    night.drain()
    night.inventory.hosts.pop("lb-01")
    (drain,) = night.go_round()
    assert (drain.seen, "lb-01 is no longer in the inventory" in drain.seen_words) == ("", True)


def test_what_a_lost_run_left_is_kept_at_the_start_and_its_incident_told(night: Night) -> None:
    """The run's row says that it has ended, and nobody spoke of its drain: as after a crash between two versions."""
    night.drain()
    with night.store.write() as tx:
        tx.exec_driver_sql("update drains set kept_at = null, incident = 9")
        tx.execute(runs.update().values(state=RunState.FAILED))
    night.rounds = night.another()
    (drain,) = night.go_round()
    assert drain.note == "its run has ended without a word about it"
    event = night.told("drain.kept")[-1]
    assert (event.incident_id, event.data["note"]) == (9, drain.note)


def test_what_a_run_holds_that_goes_on_is_nobody_elses_business(night: Night) -> None:
    night.drain()
    with night.store.write() as tx:
        tx.exec_driver_sql("update drains set kept_at = null")
        tx.execute(runs.update().values(state=RunState.RUNNING))
    night.rounds = night.another()
    sent = len(night.remote.sent)
    night.rounds.turn()
    assert len(night.remote.sent) == sent
    (drain,) = night.store.drains.open()
    assert drain.kept_at is None
