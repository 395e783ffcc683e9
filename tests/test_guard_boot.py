"""A host is changed in the boot of its evidence, and evidence is two minutes old at most: the good way, the refusal, the race."""

import threading
from typing import Any

import pytest

from bot.language.runbook import Runbook
from bot.messages import plan_text
from bot.runs.run import RunState, Status
from tests.parts.books import book
from tests.parts.script import REFUSED, done
from tests.parts.stage import Stage, ended, stage

__all__ = ["stage"]
BARE: dict[str, Any] = {"rescue": [], "always": []}
BLIND = [{"id": "stop", "run": "stop it"}]
FIRST, SECOND = (f"{digit * 8}-0d4e-4c55-9b1a-6a7e8d9c0b1f" for digit in "12")
ASKED = r"boot\..*"


def said(boot: str = FIRST, up: float | None = 86400) -> Any:
    """Return what a host says when it is asked in which boot it is."""
    return done(f"{boot}\n" + (f"{up:.2f} 100.00\n" if up is not None else ""))


def kept(boot: str = FIRST, up: float | None = 86400) -> Any:
    """Return what a host answers to the default pack."""
    return done(f"capture m\nm begin boot\n{said(boot, up).stdout.text}\nm end boot 0\n")


def mending(**changes: Any) -> Runbook:
    """Return a runbook that keeps evidence."""
    return book(**{"evidence": "default", **BARE, **changes})


def whys(stage: Stage, run_id: int) -> list[str]:
    """Return why hosts were looked at again."""
    return [one.data["why"] for one in stage.events(run_id) if one.kind == "host.looked_again"]


def steps(stage: Stage) -> list[str]:
    """Return the steps that were sent, without the numbers of those that ask for the boot."""
    return ["boot" if step.startswith("boot.") else step for step in stage.script.steps()]


def refused(stage: Stage, run_id: int) -> tuple[str, str]:
    """Return what was said where the first change was refused."""
    (one,) = [one for one in stage.attempts(run_id) if one.step == "stop"]
    assert not one.sent
    return one.summary, one.advice


@pytest.fixture
def host(stage: Stage) -> Stage:
    """Return a stage whose hosts are in one boot all the time."""
    stage.script.on("evidence", kept())
    stage.script.on(rf"evidence\.boot|{ASKED}", said())
    return stage


def test_a_host_in_the_boot_of_its_evidence_is_asked_once_and_changed(host: Stage) -> None:
    run = host.play(mending())
    assert ended(run) == (RunState.SUCCEEDED, "")
    assert steps(host) == ["look", "evidence", "boot", "stop", "start", "proof"]
    assert whys(host, run.id) == []


def test_a_host_that_was_booted_between_its_look_and_its_evidence_is_looked_at_again(host: Stage) -> None:
    host.script.on("evidence", kept(up=30))
    host.script.on(ASKED, said(up=30))
    run = host.play(mending(), mode="approve")
    host.clock.on(seconds=60)
    assert host.decide(run.id) is None
    assert host.advance(run.id).state is RunState.SUCCEEDED
    (why,) = whys(host, run.id)
    assert why == "it was booted at 03:00:30 UTC, after it was looked at"
    assert steps(host)[:6] == ["look", "evidence", "boot", "look", "boot", "stop"]


def test_a_host_that_was_booted_after_its_evidence_has_both_anew(host: Stage) -> None:
    host.script.on("evidence", kept(), kept(SECOND))
    host.script.on(ASKED, said(SECOND))
    run = host.play(mending())
    assert run.state is RunState.SUCCEEDED
    assert whys(host, run.id) == ["it was booted since its evidence was taken"]
    assert steps(host)[:7] == ["look", "evidence", "boot", "look", "evidence", "boot", "stop"]


def test_a_host_that_is_booted_again_and_again_is_left_alone(host: Stage) -> None:
    host.script.on("evidence", kept(), kept(SECOND))
    host.script.on(ASKED, said(SECOND), said())
    run = host.play(mending())
    assert run.state is RunState.FAILED
    assert "stop" not in host.script.steps()
    assert refused(host, run.id) == (
        "gpu-01 was looked at again and still cannot be relied on: it was booted since its evidence was taken",
        "start the runbook again",
    )


@pytest.mark.parametrize(
    ("evidence", "boot", "why"),
    [
        (
            done("capture m\nm begin uptime\nup\nm end uptime 0\n"),
            said(),
            "which boot its evidence is of is not known: 1 of 1 parts kept",
        ),
        (
            kept(),
            done("", exit_code=1),
            "which boot it is in is not known: its boot id could not be read: exit code 1",
        ),
        (kept(), done("\0garbage\n"), "which boot it is in is not known: its boot id could not be read"),
        (kept(), REFUSED, "which boot it is in is not known: unreachable (tcp)"),
    ],
)
def test_a_boot_that_nobody_knows_is_not_the_same_one(
    host: Stage, evidence: Any, boot: Any, why: str
) -> None:
    host.script.on("evidence", evidence)
    host.script.on(ASKED, boot)
    run = host.play(mending())
    assert run.state is RunState.FAILED
    assert steps(host) == ["look", "evidence", "boot"] * 2, "looked at again once, and never changed"
    words, advice = refused(host, run.id)
    assert words.startswith(f"gpu-01 was looked at again and still cannot be relied on: {why}")
    assert "boot_id" in advice


def test_where_only_the_uptime_is_unknown_a_second_look_is_good_enough(host: Stage) -> None:
    host.script.on("evidence", kept(up=None))
    host.script.on(ASKED, said(up=None))
    run = host.play(mending(), mode="approve")
    host.clock.on(seconds=1)
    assert host.decide(run.id) is None
    assert host.advance(run.id).state is RunState.SUCCEEDED
    assert steps(host)[:6] == ["look", "evidence", "boot", "look", "boot", "stop"]


def test_beside_a_pack_of_ones_own_the_boot_is_kept_too(host: Stage) -> None:
    own = mending(evidence=[{"run": "dmesg"}])
    run = host.play(own)
    assert run.state is RunState.SUCCEEDED
    assert steps(host)[:5] == ["look", "evidence_1", "evidence.boot", "boot", "stop"]
    assert run.plan is not None
    assert "Boot id, beside the evidence" in plan_text(run.plan)
    host.script.on(ASKED, said(SECOND))
    again = host.play(own)
    assert again.state is RunState.FAILED
    assert "booted since its evidence was taken" in refused(host, again.id)[0]
    assert [one.id for one in mending(evidence=[{"uses": "host.capture"}]).captures] == ["evidence_1"]


def test_without_evidence_there_is_nothing_to_hold_the_boot_against_and_the_plan_says_so(host: Stage) -> None:
    run = host.play(mending(evidence="none"))
    assert run.state is RunState.SUCCEEDED
    assert "boot" not in steps(host)
    assert run.plan is not None
    note = "no evidence is kept (`evidence: none`), so nobody notices whether a host was booted"
    assert note in plan_text(run.plan)
    kept_too = host.play(mending())
    assert kept_too.plan is not None
    assert note not in plan_text(kept_too.plan)


def test_who_was_let_go_on_without_evidence_is_not_held_against_its_boot(host: Stage) -> None:
    host.script.on("evidence", REFUSED)
    host.script.on(ASKED, REFUSED)
    run = host.play(mending())
    assert run.state is RunState.WAITING
    assert host.decide(run.id) is None
    assert host.advance(run.id).state is RunState.SUCCEEDED
    assert "boot" not in steps(host)


def cut_off(host: Stage, run_id: int, gate: threading.Event) -> None:
    """Let the process that advances a run die while a host is asked in which boot it is."""
    rule = host.script.on(ASKED, said(), gate=gate)
    thread = host.apart(run_id)
    rule.wait()
    host.restart().close()
    thread.join(30)


def test_evidence_that_is_too_old_after_a_crash_is_taken_again_though_there_is_no_look(host: Stage) -> None:
    gate = threading.Event()
    run_id = host.queue(mending(steps=BLIND))
    cut_off(host, run_id, gate)
    gate.set()
    host.clock.on(minutes=25)
    assert host.advance(run_id).state is RunState.SUCCEEDED
    assert whys(host, run_id) == ["its evidence is 1500 s old, and 2m is the limit"]
    assert steps(host) == ["evidence", "boot", "boot", "evidence", "boot", "stop", "proof"]


def test_the_boot_that_an_earlier_life_asked_for_is_asked_for_again(host: Stage) -> None:
    gate = threading.Event()
    host.script.on("evidence", kept(), kept(SECOND))
    run_id = host.queue(mending(steps=BLIND))
    cut_off(host, run_id, gate)
    host.script.on(ASKED, said(SECOND))
    gate.set()
    host.clock.on(seconds=110)
    assert host.advance(run_id).state is RunState.SUCCEEDED
    assert whys(host, run_id) == ["it was booted since its evidence was taken"]
    assert [one.number for one in host.attempts(run_id) if one.step == "evidence"] == [1, 2]


def test_a_late_yes_costs_a_second_look_and_no_second_evidence(host: Stage) -> None:
    run = host.play(mending(), mode="approve")
    host.clock.on(minutes=5)
    assert host.decide(run.id) is None
    assert host.advance(run.id).state is RunState.SUCCEEDED
    assert steps(host)[:6] == ["look", "evidence", "boot", "look", "boot", "stop"]


def test_each_host_of_a_batch_is_asked_and_one_that_was_booted_holds_no_other_up(host: Stage) -> None:
    host.script.on(ASKED, said(SECOND), host="gpu-02")
    run = host.play(mending(serial=[2], max_failures=1), ("gpu-01", "gpu-02"))
    assert "proof" in host.script.steps("gpu-01")
    assert "stop" not in host.script.steps("gpu-02")
    assert "gpu-02" in run.reason


def test_a_run_that_waits_for_a_lock_asks_again_when_it_goes_on(host: Stage) -> None:
    gate = threading.Event()
    rule = host.script.on("stop", gate=gate)
    thread = host.apart(host.queue(mending()))
    rule.wait()
    second = host.play(mending())
    assert second.waits
    gate.set()
    thread.join(30)
    assert host.advance(second.id).state is RunState.SUCCEEDED
    assert host.statuses(second.id)["evidence"] is Status.OK


def test_what_sickbay_asks_for_itself_is_no_result_of_the_host(host: Stage) -> None:
    run = host.play(mending())
    assert run.verdict is None
    assert [one.step for one in host.attempts(run.id) if one.step.startswith("boot.")] == ["boot.1.1"]


def test_a_rescue_that_is_the_first_change_is_held_against_the_boot_too(host: Stage) -> None:
    host.script.on("proof", done(exit_code=1))
    host.script.on(ASKED, said(SECOND))
    only = {
        "id": "stop",
        "run": "stop it",
        "when": "host.name == 'gpu-02'",
    }  # a plan that changes nothing begins nothing
    never = [{"id": "look", "run": "true", "mutates": False}, only]
    run = host.play(
        mending(steps=never, rescue=[{"id": "mend", "run": "mend it"}], serial=[2], max_failures=2),
        ("gpu-01", "gpu-02"),
    )
    assert run.state is RunState.FAILED
    assert "mend" not in host.script.steps("gpu-01")
    assert any(step.startswith("boot.") for step in host.script.steps("gpu-01"))


def test_hosts_that_are_through_unchanged_are_not_asked_again_whenever_another_one_is_tried_again(
    host: Stage,
) -> None:
    steps = [
        {"id": "look", "run": "true", "mutates": False},
        {"id": "stop", "run": "stop it", "when": "host.name == 'gpu-03'"},
        {"id": "peek", "run": "peek", "mutates": False},
        {"id": "start", "run": "start it", "when": "steps.peek.stdout == 'ill'"},
    ]
    proof = {"id": "proof", "run": "prove it", "mutates": False, "retries": 5, "delay": "10s"}
    host.script.on("proof", done(exit_code=1), host="gpu-03")
    mend = {"id": "mend", "run": "mend it", "when": "steps.note.stdout == 'ill'"}
    note = {"id": "note", "run": "note it", "mutates": False}
    again = {"id": "again", "run": "see it", "mutates": False, "retries": 2, "delay": "10s"}
    host.script.on("again", done(exit_code=1), host="gpu-03")
    hosts = ("gpu-01", "gpu-02", "gpu-03")
    run = host.play(
        mending(steps=steps, verify=[proof], rescue=[note, mend, again], serial=[2, 1], max_failures=3), hosts
    )
    while not run.state.ended:
        host.clock.on(seconds=10)
        run = host.advance(run.id)
    assert host.script.steps("gpu-03").count("proof") == 6
    asked = {one: [step for step in host.script.steps(one) if step.startswith("boot.")] for one in hosts}
    assert {one: len(steps) for one, steps in asked.items()} == dict.fromkeys(hosts, 1)


def test_a_verify_that_is_the_first_change_is_held_against_the_boot_too(host: Stage) -> None:
    look = {"id": "look", "run": "true", "mutates": False}
    never = {"id": "stop", "run": "stop it", "when": "steps.peek.stdout == 'ill'"}
    host.script.on(ASKED, said(SECOND))
    run = host.play(
        mending(steps=[look, never, look | {"id": "peek"}], verify=[{"id": "try", "run": "try it"}])
    )
    assert "try" not in host.script.steps()
    assert run.state is RunState.FAILED
    assert any(step.startswith("boot.") for step in host.script.steps())


# ── what was to be decided on the way ──
def late(stage: Stage, runbook: Runbook, step: str) -> int:
    """Play a run in which this step takes longer than what was seen before it stays fresh."""
    gate = threading.Event()
    rule = stage.script.on(step, done(exit_code=int(step == "proof")), gate=gate)
    run = stage.queue(runbook)
    thread = stage.apart(run)
    rule.wait()
    stage.clock.on(seconds=150)
    gate.set()
    thread.join()
    return run


WAITING = [
    {"id": "look", "run": "true", "mutates": False},
    {"id": "drain", "run": "drain it", "when": "false"},
    {"id": "wait", "run": "wait it", "mutates": False},
]


def test_a_change_that_was_to_be_decided_on_the_way_is_no_other_plan_once_it_is_decided(host: Stage) -> None:
    stop = {"id": "stop", "run": "stop it", "when": "steps.wait.ok"}
    run = host.run(late(host, mending(steps=[*WAITING, stop]), "wait"))
    assert ended(run) == (RunState.SUCCEEDED, "")
    assert steps(host)[2:] == ["boot", "wait", "look", "evidence", "boot", "stop", "proof"]
    assert "run.held" not in host.kinds(run.id)


def test_a_rescue_after_a_long_verify_is_no_other_plan_either(host: Stage) -> None:
    stop = {"id": "stop", "run": "stop it", "when": "steps.wait.failed"}
    rescue = [{"id": "mend", "run": "mend it", "when": "not steps.proof.ok"}]
    run = host.run(late(host, mending(steps=[*WAITING, stop], rescue=rescue), "proof"))
    assert ended(run) == (RunState.FAILED, "Failed on gpu-01. First: proof on gpu-01.")
    assert steps(host)[2:] == ["boot", "wait", "proof", "look", "evidence", "boot", "mend"]
    assert "run.held" not in host.kinds(run.id)
