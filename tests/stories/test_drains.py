"""Drains through kills: whatever became of the process, a host that Sickbay took out of traffic is put back or listed."""

import pytest

from bot.runs.run import RunState, Status
from bot.sim.fleet import PretendFleet
from bot.store import Store
from tests.parts.programs import short_directory
from tests.stories.faults import PUT_BACK, PUT_BACK_BOOK
from tests.stories.ward import alert, flat, pretend_ward

pytestmark = pytest.mark.timeout(120)

HOLD_BOOK = """
version: 1
name: hold
description: Take a host out and keep it so
kind: mutate
triggers: [{alert: {match: {alertname: Hold}}}]
mode: approve
evidence: none
steps:
  - {id: out, name: Out of traffic, uses: haproxy.drain, with: {keep: waits for a new disk}}
verify: [{run: "true", mutates: false}]
"""
HOLD = {"match": {"alertname": "Hold"}, "runbook": "hold"}


def by_hand(fleet: PretendFleet, state: str) -> None:
    """Do what somebody does who types into HAProxy's socket."""
    fleet._do(lambda: fleet._world.set_mode("gpu-03", state))  # type: ignore[arg-type]


def stands(fleet: PretendFleet) -> str:
    """Return how gpu-03 stands at HAProxy."""
    return fleet._do(lambda: fleet._world.servers["gpu-03"].mode)


def ledger(store: Store) -> list[str]:
    """Return what there was to tell of drains."""
    return [event.kind for event in store.timeline.after(0) if event.kind.startswith("drain.")]


def test_what_was_kept_is_told_listed_and_let_go_when_somebody_has_put_it_back_meanwhile() -> None:
    with (
        short_directory("hold") as folder,
        pretend_ward(folder, 3, routes=[HOLD], books={"hold": HOLD_BOOK}) as (ward, fleet),
    ):
        ward.serve.start()
        ward.post(alert("Hold"))
        ward.click("alice", ward.question(), "approve")
        run = ward.ended()
        assert run.state is RunState.SUCCEEDED, run.reason
        assert stands(fleet) == "drain"
        root = ward.shown("🚧 gpu-03 is out of traffic since", "for alert Hold: waits for a new disk")
        assert ward.say("mallory", "drains").acked
        ward.wait(lambda: "1 drain" in ward.whispers("mallory"))
        told = ward.whispers("mallory")
        for words in (
            "be_vllm/gpu-03 at lb-01",
            "alert Hold",
            "1 hold",
            "waits for a new disk",
            "drain (DRAIN)",
        ):
            assert words in told

        ward.serve.kill()
        by_hand(fleet, "ready")
        ward.serve.start()
        ward.until(lambda store: not store.drains.open(), "the ledger to be empty")
        ward.wait(lambda: "🚧" not in flat(ward.now(root)))
        ward.shown("gpu-03 is no longer held out of traffic since", "somebody else has put it back")
        with ward.store() as store:
            assert ledger(store) == ["drain.made", "drain.kept", "drain.seen", "drain.closed"]
        assert stands(fleet) == "ready"


@pytest.mark.parametrize("meanwhile", ["nothing", "ready", "maint"])
def test_a_run_that_is_killed_while_it_holds_a_host_out_undoes_its_own_and_nobody_elses(
    meanwhile: str,
) -> None:
    with (
        short_directory("holds") as folder,
        pretend_ward(folder, 3, routes=[PUT_BACK], books={"put-back": PUT_BACK_BOOK}) as (ward, fleet),
    ):
        ward.serve.start()
        ward.post(alert("Dies"))
        ward.click("alice", ward.question(), "approve")
        ward.begun("restart")
        ward.serve.kill()
        assert stands(fleet) == "drain"
        if meanwhile != "nothing":
            by_hand(fleet, meanwhile)
        ward.serve.start()
        run = ward.ended()
        assert run.state is RunState.FAILED, run.reason
        back = ward.attempts()["back"]
        with ward.store() as store:
            left = store.drains.open()
        if meanwhile == "maint":
            assert back.status is Status.FAILED
            assert "somebody else has changed it since" in back.summary
            assert "Left out of traffic: gpu-03 (be_vllm/gpu-03)." in run.reason
            assert [one.host for one in left] == ["gpu-03"]
            assert stands(fleet) == "maint"
        else:
            assert back.status is Status.OK, back.summary
            assert ("somebody else put it back" in back.summary) is (meanwhile == "ready")
            assert left == []
            assert stands(fleet) == "ready"
