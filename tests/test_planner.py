"""From a step and what is known of a host to what is shown and done."""

from dataclasses import replace
from typing import Any

import pytest

from bot.engine.planner import Planner, view
from bot.inventory import Host, Inventory
from bot.language.template import Unknown
from bot.runs.plan import Entry
from bot.runs.record import Record
from bot.runs.run import Run, Status
from bot.steps import KINDS
from bot.steps.kind import CannotPlan
from bot.verdict import Verdict
from tests.parts.books import attempt, book, run

INVENTORY = Inventory(
    [Host(name, f"10.0.0.{at}", vars={"container": f"vllm-{at}"}) for at, name in enumerate("abc", 1)]
)
PLANNER = Planner(KINDS, INVENTORY)


def planned(steps: list[dict[str, Any]], record: Record | None = None, **changes: Any) -> dict[str, Entry]:
    """Plan a mutate runbook's steps on host a."""
    one = run(book(steps=steps), ("a",), **changes)
    return {entry.step: entry for entry in PLANNER.plan(one, record or Record(), ["a"]).entries}


def step_of(one: Run, step: str) -> Any:
    """Return a step of a run's runbook."""
    return next(each for each in one.runbook.steps if each.id == step)


def test_a_plan_has_every_step_after_the_look_on_every_host_in_the_order_of_the_batches() -> None:
    one = run(book(serial=[1, 2]), ("a", "b", "c"))
    plan = PLANNER.plan(one, Record(), ["a", "b", "c"])
    assert plan.batches == (("a",), ("b", "c"))
    assert [(entry.step, entry.host) for entry in plan.entries] == [
        *[(step, "a") for step in ("stop", "start", "proof", "note", "undo")],
        *[(step, host) for step in ("stop", "start", "proof", "note", "undo") for host in "bc"],
    ]
    assert {entry.step for entry in plan.entries if entry.mutating} == {"stop", "start", "undo"}


def test_what_is_known_is_decided_and_what_is_not_says_what_it_waits_for() -> None:
    steps: list[dict[str, Any]] = [
        {"id": "look", "run": "x", "mutates": False},
        {"id": "yes", "run": "x", "when": "steps.look.ok"},
        {"id": "no", "run": "x", "when": "steps.look.failed"},
        {"id": "maybe", "run": "x", "when": "steps.yes.failed"},
        {"id": "value", "run": 'x "{{ steps.yes.stdout }}"'},
        {"id": "wrong", "run": 'x "{{ host.vars.nothing }}"'},
    ]
    entries = planned(steps, Record([attempt("look", "a")]))
    assert [entries[step].decision for step in ("yes", "no", "maybe", "value", "wrong")] == [
        "run", "skip", "later", "later", "later",
    ]  # fmt: skip
    assert entries["no"].note == "not needed: steps.look.failed"
    assert entries["maybe"].note == "depends on what is seen: steps.yes.failed"
    assert entries["maybe"].text == "x"
    assert entries["value"].text == ""
    assert entries["wrong"].note


def test_a_step_that_may_be_skipped_says_so_even_where_it_could_not_be_done() -> None:
    steps: list[dict[str, Any]] = [
        {"id": "look", "run": "x"},
        {"id": "wrong", "when": "steps.look.ok", "run": 'x "{{ host.vars.container + 1 }}"'},
    ]
    note = planned(steps)["wrong"].note
    assert note.startswith("depends on what is seen: steps.look.ok; cannot be done as it stands: ")


def test_what_waits_for_a_step_that_is_not_needed_is_not_needed_either() -> None:
    """A host without a load balancer: nothing is drained there, so nothing has to be put back, and no server is missing."""
    steps: list[dict[str, Any]] = [
        {"id": "drain", "uses": "haproxy.drain", "when": "host.vars.haproxy is defined"},
        {"id": "stop", "run": "x"},
        {"id": "undrain", "uses": "haproxy.undrain", "when": "steps.drain.ok and steps.stop.failed"},
        {"id": "again", "run": "x", "when": "steps.undrain.ok or steps.stop.ok"},
    ]
    found = planned(steps)
    assert [found[step].decision for step in ("drain", "stop", "undrain", "again")] == [
        "skip",
        "run",
        "skip",
        "later",
    ]
    assert found["undrain"].note == "not needed: steps.drain.ok and steps.stop.failed"


def test_a_preview_is_the_plan_that_a_run_would_make_with_its_look_before_it() -> None:
    one = run(book(), ("a", "b"))
    shown, real = PLANNER.preview(one), PLANNER.plan(one, Record([attempt("look", "a")]), ["a", "b"])
    assert [(entry.section, entry.step, entry.host) for entry in shown.entries[:2]] == [
        ("look", "look", "a"),
        ("look", "look", "b"),
    ]
    assert shown.entries[2:] == real.entries
    assert shown.batches == real.batches


def test_a_condition_that_cannot_be_worked_out_is_shown_and_does_not_stop_the_plan() -> None:
    entries = planned([{"id": "stop", "run": "x", "when": "host.vars.container + 1"}])
    assert entries["stop"].decision == "later"
    assert entries["stop"].note.startswith("cannot be done as it stands")


def test_a_host_that_is_gone_is_shown_in_the_plan() -> None:
    one = run(book(), ("gone",))
    (stop, *_) = PLANNER.plan(one, Record(), ["gone"]).entries
    assert "no longer in the inventory" in stop.note
    with pytest.raises(CannotPlan):
        PLANNER.context(one, "gone", Record())


def test_values_stand_beside_the_text_never_in_it() -> None:
    entry = planned(
        [{"id": "stop", "run": 'docker stop "{{ host.vars.container }}"', "retries": 2, "timeout": "9s"}]
    )["stop"]
    assert (entry.text, entry.env) == ('docker stop "${sickbay_1}"', {"sickbay_1": "vllm-1"})
    assert (entry.timeout, entry.retries, entry.on) == (9.0, 2, "")


def test_a_plain_command_changes_the_host_unless_the_runbook_only_looks_or_says_so() -> None:
    one = run(book(), ("a",))
    context = PLANNER.context(one, "a", Record())
    assert not PLANNER.effect(one.runbook, step_of(one, "look"), context).command.mutating
    assert PLANNER.effect(one.runbook, step_of(one, "stop"), context).command.mutating
    looking = run(
        book(kind="observe", verify=[], rescue=[], always=[], steps=[{"id": "look", "run": "x"}]), ("a",)
    )
    assert not PLANNER.effect(looking.runbook, step_of(looking, "look"), context).command.mutating
    assert PLANNER.mutates(one.runbook) == {"stop", "start", "undo"}


def test_a_kinds_own_time_stands_unless_the_step_sets_one() -> None:
    steps: list[dict[str, Any]] = [{"id": "probe", "uses": "docker.restart", "with": {"name": "vllm"}}]
    own = planned(steps)["probe"].timeout
    assert planned([{**steps[0], "timeout": "7s"}])["probe"].timeout == 7.0
    assert own not in (7.0, 0.0)


def test_arguments_that_do_not_fit_are_told_with_the_kind() -> None:
    one = run(book(steps=[{"id": "stop", "uses": "docker.restart", "with": {"nmae": "vllm"}}]), ("a",))
    with pytest.raises(CannotPlan, match=r"docker\.restart"):
        PLANNER.effect(one.runbook, step_of(one, "stop"), PLANNER.context(one, "a", Record()))


def test_steps_that_have_not_run_are_unknown_to_the_plan_and_false_to_the_run() -> None:
    one = run(book(), ("a",))
    step = step_of(one, "stop").model_copy(update={"when": "steps.look.failed"})
    with pytest.raises(Unknown):
        PLANNER.wanted(step, PLANNER.context(one, "a", Record(), planning=True))
    assert not PLANNER.wanted(step, PLANNER.context(one, "a", Record()))


def test_nothing_a_step_found_can_hide_how_it_ended() -> None:
    liar = attempt("look", "a", Status.FAILED, facts={"ok": True, "failed": False, "gpus": 8})
    seen = view(liar)
    assert (seen["ok"], seen["failed"], seen["gpus"]) == (False, True, 8)
    doubtful = view(replace(liar, status=Status.OK, verdict=Verdict.UNKNOWN))
    assert (doubtful["ok"], doubtful["failed"]) == (False, False)
    assert view(None)["started"] is False
    assert view(attempt("look", "a", Status.UNREACHABLE))["started"] is False
    assert view(attempt("look", "a", Status.FAILED))["started"] is True
    assert view(attempt("look", "a", Status.FAILED, sent=False))["started"] is False
