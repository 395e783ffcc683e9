"""Hosts in doubt: a command may still be going there, or nobody knows how it ended, so they stay with their run."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from bot.cli.terminal import render
from bot.commands.grammar import Misunderstood, Release, parse
from bot.commands.verbs import Asker, Commands
from bot.effect import Lost, Output, TimedOut
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.guard.decision import Floor, Seen, Want
from bot.library import Loaded
from bot.messages import Card, run_card
from bot.people.permissions import Permission, Permissions
from bot.runs.approval import Person
from bot.runs.run import Requester, Run, RunState
from bot.steps import KINDS
from bot.views import run_view
from tests.parts.books import book
from tests.parts.script import REFUSED, done
from tests.parts.stage import ALICE, BOB, Stage, locked, stage

__all__ = ["stage"]
ALERT = Requester("alert Down", via="alert")
BARE: dict[str, Any] = {"rescue": [], "always": []}
STUCK = TimedOut(60.0, Output(), Output(), ended=False)
GONE = Lost("its processes are gone and left no result", "look there")
HELD = (
    "gpu-01 is held by run 1 (mend, started by alice), which has ended, and nobody knows how its step stop ended: "
    "no end within 60 s, and it may still be going"
)
ADVICE = "look there what became of stop; then: release 1 REASON"


def in_doubt(stage: Stage, *hosts: str) -> Run:
    """Let run 1 end while its command may still be going on gpu-01."""
    stage.script.on("stop", STUCK, done(), host="gpu-01")
    run = stage.play(book(**BARE, max_failures=3), hosts or ("gpu-01",))
    assert run.state is RunState.NEEDS_HUMAN
    return run


def desk(stage: Stage, *permissions: Permission) -> Commands:
    """Return a desk that knows alice, who is on call, and bob, who leads."""
    people = {"alice": ALICE, "bob": Person("bob", roles=("lead",))}
    library = {"mend": Loaded(book(**BARE), "", "d", "mend.yaml")}
    planner = Planner(KINDS, stage.inventory)
    rights = Permissions(permissions, people, stage.inventory)
    return Commands(
        stage.store, stage.inventory, library, people, rights=rights, planner=planner, successes=0
    )


def said(commands: Commands, words: str, person: Person = ALICE) -> str:
    """Return what is answered to somebody."""
    return shown(commands.do(words, Asker(person.name, person)).card)


def shown(card: Card) -> str:
    """Return a card as the terminal has it, in one line."""
    console = Console(width=10_000, no_color=True)
    with console.capture() as captured:
        console.print(render(card))
    return " ".join(captured.get().split())


def refusal(stage: Stage, run: Run, step: str = "stop") -> tuple[str, str]:
    (one,) = [one for one in stage.attempts(run.id) if one.step == step and not one.sent]
    return one.summary, one.advice


@pytest.mark.parametrize("conflict", ["queue", "skip", "fail"])
def test_nothing_else_changes_a_host_where_a_command_may_still_be_going(stage: Stage, conflict: str) -> None:
    in_doubt(stage)
    second = stage.play(book(**BARE, on_conflict=conflict), requester=ALERT)
    assert second.state is RunState.FAILED, "refused in words, not queued for nobody knows how long"
    assert refusal(stage, second) == (HELD, ADVICE)
    stage.restart()
    assert refusal(stage, stage.play(book(**BARE, on_conflict=conflict), requester=ALERT)) == (HELD, ADVICE)
    assert stage.script.steps().count("stop") == 1


def test_clean_up_of_another_run_stays_away_too(stage: Stage) -> None:
    in_doubt(stage)
    world = Rails(stage.store, Planner(KINDS, stage.inventory)).world
    other = stage.store.runs.claim(stage.queue(book()))
    assert other is not None
    (answer,) = stage.store.ledger.take(other, {"gpu-01": Want()}, world, clean_up_only=True).values()
    assert (answer.rail, answer.reaction, answer.words) == ("lock", "refuse", HELD)


def test_a_lost_command_holds_its_host_and_no_other(stage: Stage) -> None:
    stage.script.on("stop", GONE, done(), host="gpu-02")
    run = stage.play(book(**BARE, max_failures=3), ("gpu-01", "gpu-02"))
    assert [(one.what, one.step, one.why) for one in stage.store.holds.of(run.id)] == [
        ("gpu-02", "stop", "its processes are gone and left no result")
    ]
    assert stage.play(book(**BARE), ("gpu-01",)).state is RunState.SUCCEEDED
    assert stage.play(book(**BARE), ("gpu-02",)).state is RunState.FAILED
    (kept,) = [one for one in stage.events(run.id) if one.kind == "run.holds"]
    assert kept.data == {"hosts": ["gpu-02"], "steps": {"gpu-02": "stop"}}


def test_a_lock_that_is_no_host_is_kept_with_the_host_in_doubt(stage: Stage) -> None:
    stage.script.on("stop", STUCK, done(), host="gpu-01")
    locked = book(**BARE, lock="runbook")
    stage.play(locked)
    second = stage.play(locked, ("gpu-02",))
    assert refusal(stage, second)[0].startswith("runbook mend is held by run 1 (mend, started by alice)")
    assert stage.store.holds.release(1, "bob", "it had ended") == ["gpu-01"]
    assert stage.play(locked, ("gpu-02",)).state is RunState.SUCCEEDED


def test_nobody_is_asked_about_hosts_that_are_all_held(stage: Stage) -> None:
    in_doubt(stage)
    plain = book(**BARE)
    asked = stage.play(plain, mode="approve", requester=ALERT)
    assert (asked.state, asked.reason) == (RunState.FAILED, f"{HELD}. Nobody was asked. {ADVICE}.")
    assert stage.store.approvals.get(asked.id) is None
    other = stage.play(plain, ("gpu-01", "gpu-02"), mode="approve", requester=ALERT)
    assert other.state is RunState.WAITING, "one of them may be changed"
    assert stage.store.holds.release(1, "bob", "it had ended") == ["gpu-01"]
    assert stage.play(plain, mode="approve", requester=ALERT).state is RunState.WAITING


def test_a_host_that_a_run_is_at_is_asked_about_all_the_same(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("stop", gate=gate)
    thread = stage.apart(stage.queue(book(**BARE)))
    rule.wait()
    assert stage.play(book(**BARE), mode="approve", requester=ALERT).state is RunState.WAITING
    gate.set()
    thread.join()


def test_who_waited_is_refused_when_the_run_ends_in_doubt(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("stop", STUCK, gate=gate)
    thread = stage.apart(stage.queue(book(**BARE)))
    rule.wait()
    waiting = [stage.play(book(**BARE)) for _ in range(3)]
    assert stage.store.runs.due() == []
    gate.set()
    thread.join()
    for run in waiting:  # one wakes the next
        assert stage.store.runs.due() == [run.id]
        assert stage.advance(run.id).state is RunState.FAILED
        assert refusal(stage, run)[0] == HELD


def test_a_command_that_is_asked_for_again_and_found_done_frees_its_host(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("stop", gate=gate)
    first = stage.queue(book(**BARE))
    thread = stage.apart(first)
    rule.wait()
    before = stage.restart()
    before.close()
    gate.set()
    thread.join()
    assert stage.advance(first).state is RunState.SUCCEEDED
    assert stage.store.holds.all() == {}
    assert locked(stage.store) == {}
    assert stage.play(book(**BARE)).state is RunState.SUCCEEDED


def test_an_unreachable_host_on_which_nothing_was_started_is_free(stage: Stage) -> None:
    stage.script.on("stop", REFUSED, done())
    assert stage.play(book(**BARE)).state is RunState.FAILED
    assert stage.play(book(**BARE)).state is RunState.SUCCEEDED


def test_somebody_who_has_looked_lets_the_host_go_by_name(stage: Stage) -> None:
    run = in_doubt(stage)
    commands = desk(stage)
    answer = said(commands, "release 1 it had ended, the container is up")
    assert (
        "gpu-01 may be changed again; run 1 holds nothing more: it had ended, the container is up." in answer
    )
    (event,) = [one for one in stage.events(run.id) if one.kind == "run.released"]
    assert (event.data["by"], event.data["hosts"]) == ("alice", ["gpu-01"])
    assert event.data["reason"] == "it had ended, the container is up"
    assert stage.play(book(**BARE)).state is RunState.SUCCEEDED
    again = said(commands, "release 1 once more")
    assert "run 1 has no host that waits to be released" in again
    assert "there is no run 9" in said(commands, "release 9 gone")


def test_a_run_that_goes_on_is_not_released_but_cancelled(stage: Stage) -> None:
    gate = threading.Event()
    rule = stage.script.on("stop", gate=gate)
    thread = stage.apart(stage.queue(book(**BARE)))
    rule.wait()
    answer = said(desk(stage), "release 1 away with it")
    assert "run 1 has no host that waits to be released" in answer
    assert "it goes on; to end it: cancel 1" in answer
    assert list(locked(stage.store)) == ["host gpu-01"]
    gate.set()
    thread.join()


def test_cancelling_twice_lets_nothing_go(stage: Stage) -> None:
    in_doubt(stage)
    assert "has ended already" in said(desk(stage), "cancel 1")
    assert list(stage.store.holds.all()) == ["gpu-01"]


def test_it_takes_the_right_to_cancel_also_for_who_started_the_run(stage: Stage) -> None:
    in_doubt(stage)
    commands = desk(stage, Permission(roles=("lead",), may=("cancel",)))
    assert "cancel runs of `mend`" in said(commands, "release 1 mine")
    assert "I don't know you, mallory" in said(commands, "release 1 hm", Person("mallory"))
    assert list(stage.store.holds.all()) == ["gpu-01"]
    assert "may be changed again" in said(commands, "release 1 looked", BOB)


def test_release_takes_a_run_and_a_reason() -> None:
    assert parse("release 7 it had ended") == Release(7, "it had ended")
    with pytest.raises(Misunderstood) as refused:
        parse("release 7")
    assert refused.value.what == "release: what was found on its hosts? Whoever reads the run later reads it"
    assert refused.value.advice == "write: release RUN REASON"
    with pytest.raises(Misunderstood, match="it takes one number"):
        parse("release")


def test_people_read_who_holds_a_host_and_how_that_ends(stage: Stage) -> None:
    run = in_doubt(stage)
    commands = desk(stage)
    assert f"{HELD}; {ADVICE}" in said(commands, "hosts")
    assert f"lock: {HELD}" in said(commands, "plan mend gpu-01")
    refused = said(commands, "run mend gpu-01")
    assert HELD in refused
    assert ADVICE in refused
    card = shown(run_card(run_view(stage.store, run)))
    assert (
        "gpu-01 stays with run 1: nobody knows how stop ended there, so nothing else changes it. "
        "When you have looked: release 1 REASON" in card
    )
    stage.store.holds.release(1, "bob", "it had ended")
    card = shown(run_card(run_view(stage.store, run)))
    assert "stays with run 1" not in card
    assert "bob let gpu-01 go" in card
    assert "held" not in said(commands, "hosts")


def test_an_approval_for_a_held_host_is_refused_and_the_question_stays(stage: Stage) -> None:
    asked = stage.play(book(**BARE), mode="approve")
    stage.script.on("stop", STUCK, done(), host="gpu-01")
    other = stage.play(book(**BARE), requester=ALERT)
    assert other.state is RunState.NEEDS_HUMAN
    # that run has changed the host, so what was asked about it is void; a question about others, too, finds it held
    assert stage.advance(asked.id).state is RunState.CANCELLED
    third = stage.play(book(**BARE), ("gpu-01", "gpu-02"), mode="approve")
    assert "nobody knows how its step stop ended" in said(desk(stage), f"approve {third.id}")
    assert stage.run(third.id).state is RunState.WAITING


def test_a_held_replica_counts_as_unknown_and_nobody_waits_for_it(stage: Stage) -> None:
    in_doubt(stage)
    world = Rails(stage.store, Planner(KINDS, stage.inventory)).world
    floor = Floor(
        "@serving",
        1,
        ("gpu-02",),
        {host: Seen(True, stage.clock() + timedelta(seconds=1)) for host in ("gpu-01", "gpu-02")},
    )
    other = stage.store.runs.claim(stage.queue(book(**BARE), ("gpu-02",)))
    assert other is not None
    answer = stage.store.ledger.take(other, {"gpu-02": Want()}, world, floor)["gpu-02"]
    assert (answer.rail, answer.reaction) == ("capacity", "refuse")
    assert (
        "whether gpu-01 is ready is unknown (run 1 (mend, started by alice) has ended and holds it)"
        in answer.words
    )
