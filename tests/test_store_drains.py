"""The ledger of drains: claimed with the attempt or not at all, one owner, settled with the attempt's end."""

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from bot.guard.drain import Drain, Grant, Refusal, Said, Turn
from bot.runs.run import Requester, Run, RunState, Status
from bot.store import Fenced, Store
from tests.parts.books import book
from tests.parts.states import Hands

PLACE = ("drain", "gpu-03", 1)
DRAIN = Turn("drain", "lb-01", "/run/x.sock", "be/gpu-03", keep="new disk")
READY = Turn("ready", "lb-01", "/run/x.sock", "be/gpu-03", whose="kept")


class Ledger:
    """A store and runs in it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Hands()
        self.store = Store(folder / "sickbay.db", self.clock)

    def run(self, by: str = "alice") -> Run:
        """Return a run that has just begun."""
        with self.store.write() as tx:
            run_id = self.store.runs.create(
                tx,
                runbook=book(),
                digest="d",
                hosts=("gpu-03",),
                inputs={},
                mode="auto",
                requester=Requester(by, by),
                channel="",
            )
        run = self.store.runs.claim(run_id)
        assert run is not None
        return run

    def claim(self, run: Run, turn: Turn = DRAIN, place: Any = PLACE) -> Grant | Refusal:
        """Begin an attempt that turns the server."""
        _, said = self.store.attempts.begin(run, [place], changes={place: turn})
        answer = said[place]
        assert isinstance(answer, Grant | Refusal)
        return answer

    def end(self, run: Run, status: Status = Status.OK, place: Any = PLACE, **facts: Any) -> None:
        """End it."""
        (begun,) = [
            one for one in self.store.attempts.of(run.id) if (one.step, one.host, one.number) == place
        ]
        done = replace(begun, status=status, ended_at=self.clock(), facts=facts)
        self.store.attempts.end(run, [(done, None)])

    def kept(self) -> Run:
        """Let a run drain, and end."""
        run = self.run()
        self.claim(run)
        self.end(run, changed=True, selected=5)
        self.store.runs.finish(run, RunState.SUCCEEDED, "", None)
        return run


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.store.close()


def test_a_refusal_begins_no_attempt(ledger: Ledger) -> None:
    ledger.kept()
    other = ledger.run("bob")
    assert isinstance(ledger.claim(other), Refusal)
    assert ledger.store.attempts.of(other.id) == []


def test_an_attempt_that_cannot_be_written_claims_nothing(ledger: Ledger) -> None:
    run = ledger.run()
    ledger.store.attempts.begin(run, [PLACE])
    with pytest.raises(IntegrityError):
        ledger.claim(run)
    assert ledger.store.drains.open() == []
    assert ledger.store.runs.claim(run.id) is not None
    with pytest.raises(Fenced):
        ledger.claim(run, place=("drain", "gpu-03", 2))
    assert ledger.store.drains.open() == []


def test_of_many_that_claim_one_server_at_once_one_gets_it(ledger: Ledger) -> None:
    runs = [ledger.run(f"person-{number}") for number in range(8)]
    ready = threading.Barrier(len(runs))
    said: list[Grant | Refusal] = []

    def claim(run: Run) -> None:
        ready.wait()
        said.append(ledger.claim(run))

    threads = [threading.Thread(target=claim, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in said if isinstance(one, Grant)]) == 1
    (drain,) = ledger.store.drains.open()
    assert all(drain.owner in one.words for one in said if isinstance(one, Refusal))


def test_two_sockets_are_two_balancers(ledger: Ledger) -> None:
    assert isinstance(ledger.claim(ledger.run()), Grant)
    assert isinstance(ledger.claim(ledger.run("bob"), replace(DRAIN, socket="/run/y.sock")), Grant)


def test_the_reason_of_the_end_and_the_ledger_are_one_transaction(ledger: Ledger) -> None:
    run = ledger.kept()
    ended = ledger.store.runs.get(run.id)
    assert ended is not None
    assert ended.reason == "Kept out of traffic: gpu-03 (be/gpu-03). `undrain-host` brings it back."
    (drain,) = ledger.store.drains.open()
    assert (drain.kept_at, drain.selected) == (ledger.clock(), 5)
    kinds = [event.kind for event in ledger.store.timeline.of(run=run.id)]
    assert kinds[-2:] == ["drain.kept", "run.ended"]


def test_a_run_that_ends_while_it_drains_leaves_something_unknown(ledger: Ledger) -> None:
    run = ledger.run()
    ledger.claim(run)
    ledger.store.runs.finish(run, RunState.NEEDS_HUMAN, "It broke.", None)
    ended = ledger.store.runs.get(run.id)
    assert ended is not None
    assert ended.reason.startswith("It broke. Whether it takes traffic is not known: gpu-03 (be/gpu-03).")
    (drain,) = ledger.store.drains.open()
    assert (drain.state, drain.note, drain.doing) == ("unknown", "its end was not seen", None)


def test_who_takes_over_is_the_owner_from_then_on_also_when_it_fails(ledger: Ledger) -> None:
    first = ledger.kept()
    run = ledger.run("bob")
    answer = ledger.claim(run, READY)
    assert isinstance(answer, Grant)
    assert answer.env["OWN"] == "drain"
    (drain,) = ledger.store.drains.open()
    assert (drain.run, drain.by, drain.kept_at) == (run.id, "bob", None)
    ledger.end(run, Status.UNREACHABLE)
    ledger.store.runs.finish(run, RunState.FAILED, "It broke.", None)
    (drain,) = ledger.store.drains.open()
    assert (drain.by, drain.state, drain.kept_at) == ("bob", "drain", ledger.clock())
    told = [event.kind for event in ledger.store.timeline.of(run=first.id)]
    assert told[-2:] == ["drain.taken_over", "drain.kept"]


def test_who_took_over_is_not_said_to_have_drained(ledger: Ledger) -> None:
    first = ledger.kept()
    run = ledger.run("bob")
    ledger.claim(run, READY)
    ledger.end(run, Status.UNREACHABLE)
    (drain,) = ledger.store.drains.open()
    assert drain.owner.startswith(
        f"run {run.id} (mend, bob) has taken over from run {first.id}, which drained be/gpu-03 at "
    )


def test_a_host_behind_two_balancers_is_everybodys_who_keeps_it_out_there(ledger: Ledger) -> None:
    ledger.kept()
    bob = ledger.run("bob")
    ledger.claim(bob, replace(DRAIN, lb="lb-02"))
    ledger.end(bob, changed=True)
    ledger.store.runs.finish(bob, RunState.SUCCEEDED, "", None)
    place = ("restart", "gpu-03", 1)
    for who, other in (("alice", "bob"), ("bob", "alice")):
        _, said = ledger.store.attempts.begin(ledger.run(who), [place], changes={place: None})
        refusal = said[place]
        assert isinstance(refusal, Refusal)
        assert f", {other}) drained be/gpu-03" in refusal.words


def test_a_server_that_is_free_again_can_be_drained_again(ledger: Ledger) -> None:
    ledger.kept()
    run = ledger.run("bob")
    ledger.claim(run, READY)
    ledger.end(run, changed=True)
    assert ledger.store.drains.open() == []
    assert isinstance(ledger.claim(ledger.run(), place=("drain", "gpu-03", 1)), Grant)


def test_a_look_writes_nothing_while_a_command_changes_the_server(ledger: Ledger) -> None:
    run = ledger.run()
    ledger.claim(run)
    (drain,) = ledger.store.drains.open()
    assert ledger.store.drains.seen(drain.id, Said("ready", "takes traffic")) is None
    assert len(ledger.store.drains.open()) == 1


def test_a_retry_of_an_undrain_is_still_the_owners(ledger: Ledger) -> None:
    run = ledger.run()
    ledger.claim(run)
    ledger.end(run, changed=True, selected=5)
    own = replace(READY, whose="run")
    for number in (1, 2):
        place = ("undrain", "gpu-03", number)
        answer = ledger.claim(run, own, place)
        assert isinstance(answer, Grant)
        assert answer.env == {"OWN": "drain", "SELECTED": "5"}
        ledger.end(run, Status.FAILED if number == 1 else Status.OK, place, changed=number == 2)
    assert ledger.store.drains.open() == []


DEEDS = {
    "drain": replace(DRAIN, keep=""),
    "keep": DRAIN,
    "maint": Turn("maint", "lb-01", "/run/x.sock", "be/gpu-03"),
    "undrain": Turn("ready", "lb-01", "/run/x.sock", "be/gpu-03"),
    "take": READY,
    "take all": replace(READY, whose="anybody"),
}
ENDS: dict[str, tuple[Status, dict[str, Any]]] = {
    "done": (Status.OK, {"changed": True, "selected": 5}),
    "idle": (Status.OK, {"changed": False}),
    "refused": (Status.FAILED, {"changed": False}),
    "unseen": (Status.FAILED, {}),
    "gone": (Status.UNREACHABLE, {}),
    "lost": (Status.UNKNOWN, {}),
}
LOOKS = {"ready": Said("ready", ""), "drained": Said("drain", "", 5), "changed": Said("maint", "", 9)}
HAPPENINGS = st.one_of(
    st.tuples(st.sampled_from(list(DEEDS)), st.sampled_from(["done", "done", "done", *ENDS, ""])),
    st.tuples(st.sampled_from([*ENDS, *LOOKS, "no answer", "finish", "finish", "finish", "sweep"])),
)
"""A deed and how it ends (or not yet), or one of the other things that happen."""


class Rivals:
    """Three people whose runs are after one server; what each may is held against what it must not."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.runs: dict[int, Run] = {}
        self.going: dict[int, Any] = {}
        self.turns = 0

    def happen(self, what: str, who: int) -> None:
        """Let something happen to the run of one of them."""
        ledger, drains = self.ledger, self.ledger.store.drains
        run = self.runs.get(who)
        if what in DEEDS and who not in self.going:
            run = self.runs.setdefault(who, run or ledger.run(f"person-{who}"))
            self.turns += 1
            place = (what.replace(" ", "_"), "gpu-03", self.turns)
            before = drains.open()
            answer = ledger.claim(run, DEEDS[what], place)
            self.judge(what, run, before, answer)
            if isinstance(answer, Grant):
                self.going[who] = place
        elif what in ENDS and who in self.going and run is not None:
            status, facts = ENDS[what]
            ledger.end(run, status, self.going.pop(who), **facts)
        elif what == "finish" and run is not None:
            self.going.pop(who, None)
            del self.runs[who]
            ledger.store.runs.finish(run, RunState.FAILED, "", None)
        elif what in LOOKS or what == "no answer":
            for drain in drains.open():
                drains.seen(drain.id, LOOKS.get(what, Said(None, "no answer")))
        elif what == "sweep":
            drains.sweep()

    def judge(self, what: str, run: Run, before: list[Drain], answer: Grant | Refusal) -> None:
        """A yes must rest on an own drain, on none at all, or on a person who takes over what nobody works on."""
        if isinstance(answer, Refusal):
            assert answer.words
            assert answer.advice
            return
        if not before:
            return
        (drain,) = before
        mine = drain.run == run.id
        if not mine:
            assert drain.run not in {one.id for one in self.runs.values()}, "two are at work"
            assert what.startswith("take") or (
                what in ("drain", "keep") and drain.person == run.requester.person
            )
        if answer.env.get("OWN") in ("drain", "maint"):
            assert drain.state == answer.env["OWN"]
            assert not drain.lost

    def check(self) -> None:
        """Each server has one owner, and each drain a run that is at work or a place on the list."""
        found = self.ledger.store.drains.open()
        assert len(found) <= 1
        working = {one.id for one in self.runs.values()}
        for drain in found:
            assert drain.kept_at is not None or drain.run in working
            assert not drain.closed


@settings(max_examples=80, deadline=None)
@given(happenings=st.lists(st.tuples(HAPPENINGS, st.integers(0, 2)), min_size=6, max_size=20))
def test_whatever_happens_each_drain_has_one_owner_and_ends_or_is_listed(
    happenings: list[tuple[tuple[str, ...], int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder))
        rivals = Rivals(ledger)
        try:
            for parts, who in happenings:
                for what in filter(None, parts):
                    rivals.happen(what, who)
                    rivals.check()
            for who in list(rivals.runs):
                rivals.happen("finish", who)
            rivals.check()
        finally:
            ledger.store.close()
