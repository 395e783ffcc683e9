"""Drains of real runs at a real HAProxy: each has an owner, ends or is kept, and nobody else's is touched."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.facts.registry import PARSERS
from bot.language.runbook import Runbook
from bot.library import load_runbook
from bot.runs.run import Requester, Run, RunState, Status
from bot.shipped import shipped
from bot.steps import KINDS
from bot.store import Store
from bot.store.database import utc_now
from tests.parts.books import book as plain_book
from tests.parts.haproxy import HAProxy
from tests.parts.nearby import Nearby, behind, draining
from tests.parts.programs import short_directory
from tests.parts.vllm import Vllm

BREAKS = ({"id": "restart", "run": "exit 3"},)
GOES = ({"id": "restart", "run": "true"},)
ALICE = Requester("alice", "alice")
BOB = Requester("bob", "bob")


@dataclass
class Ward:
    """Two replicas behind a HAProxy, and runs about them."""

    proxy: HAProxy
    store: Store
    remote: Nearby
    engine: Engine = field(init=False)
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = self.another()

    def another(self) -> Engine:
        """Return one more engine on the same store."""
        return Engine(self.store, Planner(KINDS, behind(self.proxy)), self.remote, successes=0)

    def queue(self, book: Runbook, host: str = "gpu-03", *, by: Requester = ALICE, **inputs: Any) -> int:
        """Queue a run."""
        with self.store.write() as tx:
            return self.store.runs.create(
                tx,
                runbook=book,
                digest="d",
                hosts=(host,),
                inputs=book.fill(inputs),
                mode="auto",
                requester=by,
                channel="",
            )

    def play(self, book: Runbook, host: str = "gpu-03", **more: Any) -> Run:
        """Queue a run and take it to its end."""
        run_id = self.queue(book, host, **more)
        self.engine.advance(run_id)
        return self.run(run_id)

    def apart(self, run_id: int) -> threading.Thread:
        """Advance a run in a thread and an engine of its own."""
        thread = threading.Thread(target=self.another().advance, args=(run_id,))
        thread.start()
        self.threads.append(thread)
        return thread

    def run(self, run_id: int) -> Run:
        """Return a run as it is stored."""
        run = self.store.runs.get(run_id)
        assert run is not None
        return run

    def statuses(self, run: Run) -> dict[str, Status]:
        """Return how each step ended."""
        return {one.step: one.status for one in self.store.attempts.of(run.id)}

    def said(self, run: Run, step: str) -> str:
        """Return what there was to say of a step."""
        (one,) = [one for one in self.store.attempts.of(run.id) if one.step == step]
        return one.summary

    def events(self, run: Run) -> list[str]:
        """Return what was told of drains."""
        kinds = [event.kind for event in self.store.timeline.of(run=run.id)]
        return [kind for kind in kinds if kind.startswith("drain.")]

    def at_haproxy(self, server: str = "gpu-03") -> str:
        """Return what HAProxy says of a server."""
        return self.proxy.server_state(server)

    def by_hand(self, state: str, server: str = "gpu-03") -> None:
        """Do what somebody does who types into HAProxy's socket."""
        assert self.proxy.command(f"set server be_vllm/{server} state {state}") == ""


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    with (
        Vllm() as one,
        Vllm() as two,
        short_directory("lb") as directory,
        HAProxy(directory, {"gpu-03": one.address, "gpu-04": two.address}) as proxy,
    ):
        ward = Ward(proxy, Store(tmp_path / "sickbay.db", utc_now), Nearby())
        yield ward
        ward.remote.close()
        for thread in ward.threads:
            thread.join(30)
            assert not thread.is_alive()
        ward.store.close()


def test_a_drain_is_written_down_with_its_attempt_and_closed_with_the_undrain(ward: Ward) -> None:
    gate = ward.remote.hold("restart")
    run_id = ward.queue(draining(steps=GOES))
    thread = ward.apart(run_id)
    assert ward.remote.came["restart"].wait(30)
    (drain,) = ward.store.drains.open()
    assert (drain.host, drain.lb, drain.server) == ("gpu-03", "lb-01", "be_vllm/gpu-03")
    assert (drain.run, drain.runbook, drain.by, drain.person) == (run_id, "mend", "alice", "alice")
    assert (drain.state, drain.why, drain.kept_at) == ("drain", "Mend it out of traffic", None)
    assert ward.at_haproxy() == "DRAIN"
    gate.set()
    thread.join(30)
    assert ward.run(run_id).state is RunState.SUCCEEDED, ward.run(run_id).reason
    assert ward.store.drains.open() == []
    assert ward.events(ward.run(run_id)) == ["drain.made", "drain.closed"]
    assert ward.at_haproxy() in ("UP", "DOWN")


def test_it_is_claimed_before_the_command_leaves(ward: Ward) -> None:
    gate = ward.remote.hold("drain")
    thread = ward.apart(ward.queue(draining()))
    assert ward.remote.came["drain"].wait(30)
    (drain,) = ward.store.drains.open()
    assert (drain.state, drain.doing) == ("claimed", "drain")
    assert ward.at_haproxy() == "UP"
    gate.set()
    thread.join(30)
    assert ward.store.drains.open() == []


def test_what_fails_between_drain_and_undrain_is_put_back_by_always(ward: Ward) -> None:
    run = ward.play(draining(steps=BREAKS))
    assert (run.state, run.reason) == (RunState.FAILED, "Failed on gpu-03. First: restart on gpu-03.")
    assert ward.statuses(run)["undrain"] is Status.OK
    assert ward.store.drains.open() == []
    ward.proxy.wait_for("gpu-03", "UP")


def test_or_by_a_rollback(ward: Ward) -> None:
    undo = {"rollback": {"uses": "haproxy.undrain"}}
    run = ward.play(draining(drain=undo, steps=BREAKS, always=[]))
    assert run.reason == "Failed on gpu-03. First: restart on gpu-03. Rolled back on gpu-03."
    assert ward.store.drains.open() == []
    ward.proxy.wait_for("gpu-03", "UP")


def test_one_that_nobody_puts_back_is_kept_and_named_in_the_end(ward: Ward) -> None:
    run = ward.play(draining(steps=BREAKS, always=[]))
    assert run.reason == (
        "Failed on gpu-03. First: restart on gpu-03. "
        "Left out of traffic: gpu-03 (be_vllm/gpu-03). `undrain-host` brings it back."
    )
    (drain,) = ward.store.drains.open()
    assert drain.kept_at is not None
    assert drain.note == "nobody put it back before its run ended"
    assert ward.events(run) == ["drain.made", "drain.kept"]
    assert ward.at_haproxy() == "DRAIN"


def test_a_run_that_forgets_its_drain_has_not_succeeded(ward: Ward) -> None:
    run = ward.play(draining(always=[]))
    assert run.state is RunState.FAILED
    assert run.reason.startswith("Left out of traffic: gpu-03")


def test_one_that_is_meant_to_stay_is_kept_with_its_reason(ward: Ward) -> None:
    run = ward.play(draining(keep="new disk"))
    assert run.state is RunState.SUCCEEDED
    assert run.reason == "Kept out of traffic: gpu-03 (be_vllm/gpu-03). `undrain-host` brings it back."
    (drain,) = ward.store.drains.open()
    assert (drain.why, drain.keep, drain.note) == ("new disk", True, "")


@pytest.mark.parametrize("state", ["drain", "maint"])
def test_what_somebody_else_took_out_is_not_counted_as_ours_and_not_put_back(ward: Ward, state: str) -> None:
    ward.by_hand(state)
    run = ward.play(draining(steps=GOES))
    assert run.state is RunState.FAILED
    assert "somebody else took it out" in ward.said(run, "drain")
    assert ward.statuses(run) == {"drain": Status.FAILED, "undrain": Status.SKIPPED}
    assert ward.store.drains.open() == []
    assert ward.at_haproxy() == state.upper()


def test_nor_where_the_runbook_goes_on_all_the_same(ward: Ward) -> None:
    ward.by_hand("maint")
    run = ward.play(draining(drain={"with": {"taken": "leave"}}, steps=GOES))
    assert run.state is RunState.SUCCEEDED, run.reason
    (done,) = [one for one in ward.store.attempts.of(run.id) if one.step == "drain"]
    assert done.facts["changed"] is False
    assert ward.statuses(run)["undrain"] is Status.SKIPPED
    assert ward.store.drains.open() == []
    assert ward.events(run) == ["drain.closed"]
    assert ward.at_haproxy() == "MAINT"


def while_out(ward: Ward, act: Callable[[], None]) -> Run:
    """Play a run; somebody does something while it holds the server out of traffic."""
    gate = ward.remote.hold("restart")
    run_id = ward.queue(draining(steps=GOES))
    thread = ward.apart(run_id)
    assert ward.remote.came["restart"].wait(30)
    act()
    gate.set()
    thread.join(30)
    return ward.run(run_id)


def test_an_enable_by_hand_is_noticed_and_ends_the_drain(ward: Ward) -> None:
    run = while_out(ward, lambda: ward.by_hand("ready"))
    assert run.state is RunState.SUCCEEDED
    assert "somebody else put it back" in ward.said(run, "undrain")
    assert ward.store.drains.open() == []
    (event,) = [one for one in ward.store.timeline.of(run=run.id) if one.kind == "drain.closed"]
    assert event.data["how"] == "somebody else had put it back"


def test_what_somebody_puts_into_maintenance_after_us_stays_there_and_the_run_says_so(ward: Ward) -> None:
    run = while_out(ward, lambda: ward.by_hand("maint"))
    assert run.state is RunState.FAILED
    assert "somebody else has changed it since" in ward.said(run, "undrain")
    assert "Clean-up failed on gpu-03." in run.reason
    assert "Left out of traffic: gpu-03 (be_vllm/gpu-03)." in run.reason
    assert ward.at_haproxy() == "MAINT"
    (drain,) = ward.store.drains.open()
    assert drain.kept_at is not None


def test_of_two_runs_that_drain_one_server_at_once_one_owns_it(ward: Ward) -> None:
    """Two hosts of the inventory that are one server at HAProxy, so that no host's lock keeps the runs apart."""
    book = draining(server="be_vllm/gpu-03", steps=GOES)
    gate = ward.remote.hold("drain")
    runs = [ward.queue(book, "gpu-03"), ward.queue(book, "gpu-04", by=BOB)]
    threads = [ward.apart(run_id) for run_id in runs]
    assert ward.remote.came["drain"].wait(30)
    while not any(ward.run(run_id).state.ended for run_id in runs):
        threads[0].join(0.01)
    gate.set()
    for thread in threads:
        thread.join(30)
    states = sorted(ward.run(run_id).state for run_id in runs)
    assert states == [RunState.FAILED, RunState.SUCCEEDED]
    loser = next(ward.run(run_id) for run_id in runs if ward.run(run_id).state is RunState.FAILED)
    assert "drained be_vllm/gpu-03" in ward.said(loser, "drain")
    assert "is still at work" in ward.said(loser, "drain")
    assert [step for step, _ in ward.remote.sent].count("drain") == 1
    assert ward.store.drains.open() == []
    ward.proxy.wait_for("gpu-03", "UP")


def test_a_run_that_is_cancelled_while_it_drains_puts_the_server_back(ward: Ward) -> None:
    gate = ward.remote.hold("restart")
    run_id = ward.queue(draining(steps=GOES))
    thread = ward.apart(run_id)
    assert ward.remote.came["restart"].wait(30)
    ward.store.runs.cancel(run_id, "bob")
    gate.set()
    thread.join(30)
    run = ward.run(run_id)
    assert (run.state, run.reason) == (RunState.CANCELLED, "Cancelled by bob.")
    assert ward.store.drains.open() == []


def test_a_load_balancer_that_is_gone_at_the_end_leaves_the_drain_listed(ward: Ward) -> None:
    run = while_out(ward, lambda: ward.remote.gone.add("lb-01"))
    assert run.state is RunState.FAILED
    assert "Clean-up failed on gpu-03." in run.reason
    (drain,) = ward.store.drains.open()
    assert (drain.state, drain.kept_at is not None) == ("drain", True)


def test_a_machine_that_is_gone_is_cleaned_up_at_its_load_balancer(ward: Ward) -> None:
    ward.remote.gone.add("gpu-03")
    run = ward.play(draining(steps=GOES, rescue=[{"id": "note", "run": "true", "mutates": False}]))
    assert run.reason == "Failed on gpu-03. First: restart on gpu-03."
    assert ward.statuses(run) == {
        "drain": Status.OK,
        "restart": Status.UNREACHABLE,
        "note": Status.UNREACHABLE,
        "undrain": Status.OK,
    }
    assert ward.store.drains.open() == []


def test_a_balancer_that_does_not_answer_is_not_drained_and_nothing_is_kept(ward: Ward) -> None:
    ward.proxy.stop()
    run = ward.play(draining())
    assert run.state is RunState.FAILED
    assert ward.store.drains.open() == []
    assert "could not be asked" in ward.said(run, "drain")


def test_nothing_is_changed_on_a_host_that_somebody_else_keeps_out_of_traffic(ward: Ward) -> None:
    """Also by a runbook that knows no load balancer; who keeps it may, and looking is free."""
    ward.play(draining(keep="new disk"))
    steps = [{"id": "look", "run": "true", "mutates": False}, {"id": "reset", "run": "true"}]
    book = plain_book(
        steps=steps, rescue=[], always=[], verify=[{"id": "proof", "run": "true", "mutates": False}]
    )
    for by in (BOB, Requester("alert VLLMStalled", via="alert")):
        run = ward.play(book, by=by)
        assert run.reason == "Failed on gpu-03. First: reset on gpu-03."
        assert ward.said(run, "reset").startswith("refused: run 1 (mend, alice) drained be_vllm/gpu-03 at ")
        assert ward.said(run, "reset").endswith("UTC: new disk, and it is kept so")
    assert [step for step, _ in ward.remote.sent].count("reset") == 0
    assert ward.play(book, "gpu-04", by=BOB).state is RunState.SUCCEEDED
    assert ward.play(book, by=ALICE).state is RunState.SUCCEEDED
    assert [step for step, _ in ward.remote.sent].count("reset") == 2


def test_who_keeps_a_host_may_mend_it_and_it_stays_out(ward: Ward) -> None:
    ward.play(draining(keep="new disk"))
    run = ward.play(draining(steps=GOES))
    assert run.state is RunState.SUCCEEDED, run.reason
    assert "be_vllm/gpu-03 is drained already, by the same owner" in ward.said(run, "drain")
    assert ward.statuses(run)["undrain"] is Status.SKIPPED
    (drain,) = ward.store.drains.open()
    assert (drain.run, drain.why) == (1, "new disk")
    assert ward.at_haproxy() == "DRAIN"


def test_and_is_told_when_somebody_has_put_it_back(ward: Ward) -> None:
    ward.play(draining(keep="new disk"))
    ward.by_hand("ready")
    run = ward.play(draining(steps=GOES))
    assert run.state is RunState.FAILED
    assert "somebody else has put it back" in ward.said(run, "drain")
    assert ward.at_haproxy() == "UP"


def shipped_book(name: str) -> Runbook:
    book = load_runbook(shipped("runbooks") / f"{name}.yaml", kinds=KINDS, parsers=PARSERS).runbook
    return book.model_copy(update={"evidence": draining().evidence})


def test_drain_host_is_listed_with_its_owner_and_undrain_host_takes_it_over(ward: Ward) -> None:
    run = ward.play(shipped_book("drain-host"), reason="new disk")
    assert run.state is RunState.SUCCEEDED, run.reason
    (drain,) = ward.store.drains.open()
    assert (drain.state, drain.by, drain.why) == ("maint", "alice", "new disk")
    assert ward.at_haproxy() == "MAINT"

    alert = ward.play(draining(steps=GOES), by=Requester("alert VLLMStalled", via="alert"))
    assert "run 1 (drain-host, alice) drained be_vllm/gpu-03" in ward.said(alert, "drain")
    assert ward.at_haproxy() == "MAINT"

    port = int(ward.proxy.servers["gpu-03"].rpartition(":")[2])
    back = ward.play(shipped_book("undrain-host"), by=BOB, port=port)
    assert back.state is RunState.SUCCEEDED, back.reason
    assert "run 1 (drain-host, alice) drained be_vllm/gpu-03" in ward.said(back, "before")
    assert ward.store.drains.open() == []
    ward.proxy.wait_for("gpu-03", "UP")
    told = [one for one in ward.store.timeline.of(run=run.id) if one.kind.startswith("drain.")]
    kinds = ["drain.made", "drain.deepened", "drain.kept", "drain.taken_over", "drain.closed"]
    assert [one.kind for one in told] == kinds
    assert told[3].data["by"] == "bob"
    assert told[4].data["how"] == f"put back by run {back.id}"


def test_undrain_host_leaves_what_sickbay_did_not_do_unless_it_is_told(ward: Ward) -> None:
    ward.by_hand("maint")
    port = int(ward.proxy.servers["gpu-03"].rpartition(":")[2])
    refused = ward.play(shipped_book("undrain-host"), by=BOB, port=port)
    assert refused.state is RunState.FAILED
    assert "not by Sickbay" in ward.said(refused, "undrain")
    assert ward.at_haproxy() == "MAINT"
    back = ward.play(shipped_book("undrain-host"), by=BOB, port=port, take_over=True)
    assert back.state is RunState.SUCCEEDED, back.reason
    assert ward.store.drains.open() == []
    ward.proxy.wait_for("gpu-03", "UP")


def test_a_run_that_dies_while_it_drains_goes_on_as_the_owner(ward: Ward) -> None:
    gate = ward.remote.hold("drain")
    run_id = ward.queue(draining(steps=GOES))
    thread = ward.apart(run_id)
    assert ward.remote.came["drain"].wait(30)
    ward.store.runs.reclaim()
    other = ward.apart(run_id)  # the first one is fenced off: what it hears it cannot write
    gate.set()
    thread.join(30)
    other.join(30)
    assert ward.run(run_id).state is RunState.SUCCEEDED, ward.run(run_id).reason
    assert [step for step, _ in ward.remote.sent].count("drain") == 1
    assert ward.store.drains.open() == []
    ward.proxy.wait_for("gpu-03", "UP")


class Stumbling(Planner):
    """A planner with a mistake in it: it fails on what one step answered."""

    def judge(self, step: Any, answer: Any, context: Any) -> Any:
        """Stumble at `restart`."""
        if step.id == "restart":
            raise ZeroDivisionError("a mistake of ours")
        return super().judge(step, answer, context)


def test_a_mistake_of_ours_in_the_middle_still_puts_the_server_back(ward: Ward) -> None:
    ward.engine = Engine(ward.store, Stumbling(KINDS, behind(ward.proxy)), ward.remote, successes=0)
    run = ward.play(draining(steps=GOES))
    assert run.state is RunState.NEEDS_HUMAN
    assert "Sickbay itself failed (ZeroDivisionError: a mistake of ours)" in run.reason
    assert "Nobody knows how a command ended on gpu-03." in run.reason
    assert ward.statuses(run) == {"drain": Status.OK, "restart": Status.UNKNOWN, "undrain": Status.OK}
    assert ward.store.drains.open() == []
    ward.proxy.wait_for("gpu-03", "UP")
