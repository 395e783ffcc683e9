"""A plan is void once what it was made from is no longer so, whoever notices it and when; and it is said why."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.alert import Alert
from bot.commands.verbs import Asker, Commands
from bot.delivery import Delivery
from bot.dispatch import Dispatch
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.engine.preconditions import broken
from bot.facts.registry import PARSERS
from bot.inventory import Host, Inventory
from bot.library import digest_in, load_library
from bot.messages import approval_card, run_card
from bot.messages.card import Card
from bot.route import Route
from bot.runs.approval import Person
from bot.runs.plan import Plan, Precondition
from bot.runs.record import Record
from bot.runs.run import Run, RunState
from bot.steps import KINDS
from bot.views import run_view
from tests.parts.books import START, attempt, book, run
from tests.parts.script import BOOT, PATIENCE, REFUSED, done
from tests.parts.stage import ALICE, BOB, Stage, machines

MEND = """\
version: 1
name: mend
description: Mend it
kind: mutate
evidence: none
triggers: [{command: true}, {alert: {match: {alertname: Broken}}}]
steps:
  - {id: look, run: "true", mutates: false}
  - {id: stop, run: stop it}
verify:
  - {id: proof, run: prove it, mutates: false}
"""
KEPT = done(f"capture m\nm begin boot\n{BOOT}\nm end boot 0\n")


def words(card: Card) -> str:
    """Return what a card says."""
    return repr(card)


class Desk:
    """A stage with runbooks in files, a desk and a dispatch."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.file = folder / "mend.yaml"
        self.file.write_text(MEND)
        self.library, _ = load_library([folder], kinds=KINDS, parsers=PARSERS)
        self.reload(stage.inventory)

    def reload(self, inventory: Inventory) -> None:
        """Start anew with this inventory; the runbooks stay as they were read."""
        self.stage.inventory = inventory
        planner = Planner(KINDS, inventory, lambda name: digest_in(self.library, name))
        self.stage.engine = Engine(self.stage.store, planner, self.stage.script, successes=0)
        people = {"alice": ALICE, "bob": BOB}
        self.commands = Commands(self.stage.store, inventory, self.library, people, channel="oncall")
        route = Route.model_validate({"match": {}, "runbook": "mend", "mode": "auto"})
        self.dispatch = Dispatch(self.stage.store, inventory, self.library, [route], "oncall")

    def say(self, text: str, person: Person = BOB) -> str:
        """Say it at the desk; return the answer."""
        return words(self.commands.do(text, Asker(person.name, person)).card)

    def asked(self, hosts: str = "gpu-01") -> Run:
        """Start the runbook, up to its question."""
        reply = self.commands.do(f"run mend {hosts}", Asker("alice", ALICE))
        found = self.stage.advance(reply.runs[0])
        assert found.state is RunState.WAITING
        return found

    def tell(self, status: str = "firing", **labels: str) -> None:
        """Let a monitor tell an alert."""
        one = Alert(
            "test",
            labels.get("gpu", "0"),
            status,  # type: ignore[arg-type]
            START,
            {"alertname": "Broken", "host": "gpu-01", **labels},
        )
        self.stage.store.alerts.add([one])
        self.dispatch.turn()

    def alerted(self, **labels: str) -> Run:
        """Let an alert start the runbook, up to its question."""
        self.tell(**labels)
        found = self.stage.advance(1)
        assert found.state is RunState.WAITING
        return found

    def voided(self, run_id: int, why: str) -> None:
        """Hold that the plan is void, that nothing was changed, and that everybody reads why."""
        ended = self.stage.advance(run_id)
        assert ended.state is RunState.CANCELLED
        assert "stop" not in self.stage.script.steps()
        approval = self.stage.store.approvals.get(run_id)
        assert approval is not None
        assert (approval.state, approval.note) == ("void", why)
        (told,) = [one for one in self.stage.events(run_id) if one.kind == "approval.void"]
        assert told.data["why"] == why
        view = run_view(self.stage.store, ended)
        assert f"The plan no longer held: {why}. Nothing was changed." in words(run_card(view))
        card = approval_card(view)
        assert "No longer asked" in words(card)
        assert f"No decision is needed any more: {why}. This plan changed nothing." in "".join(
            node.words[0].text for node in card.nodes if hasattr(node, "words")
        )


@pytest.fixture
def desk(stage: Stage, tmp_path: Path) -> Desk:
    folder = tmp_path / "runbooks"
    folder.mkdir()
    return Desk(stage, folder)


def moved() -> Inventory:
    """Return the inventory with gpu-01 at another address."""
    hosts = list(machines().hosts.values())
    return Inventory([replace(hosts[0], address="10.0.9.9", user="root"), *hosts[1:]])


def grown() -> Inventory:
    """Return the inventory with one host more in @serving."""
    return machines(5)


def edit(desk: Desk) -> None:
    desk.file.write_text(MEND.replace("stop it", "stop everything"))


CHANGES: list[tuple[str, Callable[[Desk], None], str]] = [
    ("gpu-01", edit, "the file of the runbook mend was changed"),
    ("gpu-01", lambda desk: desk.file.unlink(), "the file of the runbook mend is gone"),
    (
        "gpu-01",
        lambda desk: desk.reload(moved()),
        "the inventory entry of gpu-01 was changed (address 10.0.0.1 → 10.0.9.9, user none → root)",
    ),
    (
        "gpu-01",
        lambda desk: desk.reload(machines(container="other")),
        "the inventory entry of gpu-01 was changed (vars)",
    ),
    (
        "gpu-01",
        lambda desk: desk.reload(Inventory(list(machines().hosts.values())[1:])),
        "the host set gpu-01 was gpu-01, and now no such host: gpu-01; gpu-01 is no longer in the inventory",
    ),
    (
        "@serving",
        lambda desk: desk.reload(grown()),
        "the host set @serving was gpu-[01-04] and is now gpu-[01-05]",
    ),
]


@pytest.mark.parametrize(("hosts", "change", "why"), CHANGES, ids=[why for _, _, why in CHANGES])
def test_what_changes_between_plan_and_click_refuses_the_click(
    desk: Desk, hosts: str, change: Callable[[Desk], None], why: str
) -> None:
    asked = desk.asked(hosts)
    change(desk)
    said = desk.say(f"approve {asked.id}")
    assert f"This plan is no longer asked about: {why}" in said
    assert "nothing was changed; start the runbook again for a new plan" in said
    desk.voided(asked.id, why)


@pytest.mark.parametrize(("hosts", "change", "why"), CHANGES, ids=[why for _, _, why in CHANGES])
def test_what_changes_between_click_and_start_stops_the_start(
    desk: Desk, hosts: str, change: Callable[[Desk], None], why: str
) -> None:
    asked = desk.asked(hosts)
    assert "Your approval" in desk.say(f"approve {asked.id}")
    change(desk)
    desk.voided(asked.id, why)


@pytest.mark.parametrize(("hosts", "change", "why"), CHANGES, ids=[why for _, _, why in CHANGES])
def test_what_changes_is_also_noticed_without_a_click_once_the_run_is_looked_at(
    desk: Desk, hosts: str, change: Callable[[Desk], None], why: str
) -> None:
    asked = desk.asked(hosts)
    change(desk)
    desk.voided(asked.id, why)


def test_after_a_start_with_another_inventory_waiting_plans_are_void_without_a_click(desk: Desk) -> None:
    asked = desk.asked()
    desk.reload(moved())
    over = threading.Event()

    def heard() -> None:
        if desk.stage.run(asked.id).state.ended:
            over.set()

    unlisten = desk.stage.store.database.listen(heard)
    delivery = Delivery(desk.stage.store, desk.stage.engine)
    delivery.start()
    assert over.wait(PATIENCE)
    unlisten()
    delivery.stop()
    why = "the inventory entry of gpu-01 was changed (address 10.0.0.1 → 10.0.9.9, user none → root)"
    desk.voided(asked.id, why)


def test_what_was_approved_and_then_cancelled_stays_so_when_its_alert_clears(desk: Desk) -> None:
    asked = desk.alerted()
    desk.say(f"approve {asked.id}")
    desk.say(f"cancel {asked.id}")
    assert desk.stage.advance(asked.id).state is RunState.CANCELLED
    desk.tell("resolved")
    approval = desk.stage.store.approvals.get(asked.id)
    assert approval is not None
    assert approval.state == "approved"


def test_nothing_changed_and_the_plan_is_carried_out(desk: Desk) -> None:
    asked = desk.asked("@serving")
    desk.file.write_text(MEND)  # written anew, and the same
    assert "Your approval" in desk.say(f"approve {asked.id}")
    assert desk.stage.advance(asked.id).state is RunState.SUCCEEDED
    assert desk.stage.script.steps("gpu-01") == ["look", "stop", "proof"]


def test_once_begun_a_plan_is_finished_whatever_changes(desk: Desk) -> None:
    held = desk.stage.script.on("stop", done(), gate=threading.Event())
    asked = desk.alerted()
    desk.say(f"approve {asked.id}")
    thread = desk.stage.apart(asked.id)
    held.wait()
    edit(desk)
    desk.tell("resolved")
    assert held.gate is not None
    held.gate.set()
    thread.join(PATIENCE)
    ended = desk.stage.run(asked.id)
    assert ended.state is RunState.SUCCEEDED
    approval = desk.stage.store.approvals.get(asked.id)
    assert approval is not None
    assert approval.state == "approved"


def test_a_plan_that_nobody_is_asked_about_is_checked_before_its_first_command_too(desk: Desk) -> None:
    stage = desk.stage
    loaded = desk.library["mend"]
    run_id = stage.queue(loaded.runbook, digest=loaded.digest, mode="auto")
    edit(desk)
    ended = stage.advance(run_id)
    assert ended.state is RunState.CANCELLED
    assert ended.reason == (
        "The plan no longer held: the file of the runbook mend was changed. Nothing was changed."
    )
    assert stage.script.steps() == ["look"]


def test_an_edited_runbook_is_read_again_when_it_is_started(desk: Desk) -> None:
    edit(desk)
    asked = desk.asked()
    desk.say(f"approve {asked.id}")
    assert desk.stage.advance(asked.id).state is RunState.SUCCEEDED
    assert [one.command.text for one in desk.stage.script.sent if one.step == "stop"] == ["stop everything"]


def test_a_runbook_that_was_edited_into_a_mistake_is_not_started_and_says_where(desk: Desk) -> None:
    desk.file.write_text(MEND.replace("verify:", "verfy:"))
    said = desk.say("run mend gpu-01")
    assert "mend.yaml:10: unknown key `verfy`" in said
    desk.tell()
    (incident,) = desk.stage.store.incidents.newest()
    assert "its file was changed and has mistakes" in incident.note
    assert "mend.yaml:10" in incident.note
    assert desk.stage.store.runs.newest() == []


# ── the alert ──
def test_an_alert_that_clears_before_the_click_refuses_the_click(desk: Desk) -> None:
    asked = desk.alerted()
    desk.tell("resolved")
    assert "This plan is no longer asked about: the alert has cleared" in desk.say(f"approve {asked.id}")
    desk.voided(asked.id, "the alert has cleared")


def test_an_alert_that_clears_between_click_and_start_stops_the_start(desk: Desk) -> None:
    asked = desk.alerted()
    assert "Your approval" in desk.say(f"approve {asked.id}")
    desk.tell("resolved")
    desk.voided(asked.id, "the alert has cleared")


def test_a_plan_falls_with_its_own_alert_even_when_others_of_the_incident_go_on(desk: Desk) -> None:
    asked = desk.alerted(gpu="3")
    desk.tell(gpu="5")
    desk.tell("resolved", gpu="3")
    why = (
        "the alert it was made for has cleared "
        "(1 more of its incident is still firing: start the runbook again if they need it)"
    )
    desk.voided(asked.id, why)
    (incident,) = desk.stage.store.incidents.newest()
    assert incident.resolved_at is None


def test_a_plan_stands_when_another_alert_of_its_incident_clears(desk: Desk) -> None:
    asked = desk.alerted(gpu="3")
    desk.tell(gpu="5")
    desk.tell("resolved", gpu="5")
    desk.say(f"approve {asked.id}")
    assert desk.stage.advance(asked.id).state is RunState.SUCCEEDED


def test_what_another_run_has_changed_voids_an_approved_plan_that_has_not_begun(desk: Desk) -> None:
    asked = desk.asked()
    other = desk.stage.queue(desk.library["mend"].runbook, mode="auto", digest=desk.library["mend"].digest)
    desk.say(f"approve {asked.id}")
    assert desk.stage.advance(other).state is RunState.SUCCEEDED
    desk.stage.script.sent.clear()
    desk.voided(asked.id, f"run {other} has changed gpu-01 since it was looked at")


# ── races ──
def together(*deeds: Callable[[], object]) -> None:
    """Do several things at the same moment, each in a thread of its own."""
    start = threading.Barrier(len(deeds))

    def at_once(deed: Callable[[], object]) -> None:
        start.wait(PATIENCE)
        deed()

    threads = [threading.Thread(target=at_once, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("turn", range(20))
def test_of_a_click_and_the_alerts_end_at_the_same_moment_the_first_counts_and_nothing_begins(
    desk: Desk, turn: int
) -> None:
    asked = desk.alerted()
    said: list[str] = []
    together(lambda: said.append(desk.say(f"approve {asked.id}")), lambda: desk.tell("resolved"))
    clicked = "Your approval" in said[0]
    assert clicked or "This plan is no longer asked about: the alert has cleared" in said[0]
    kinds = [kind for kind in desk.stage.kinds(asked.id) if kind in ("approval.decided", "approval.void")]
    assert kinds == (["approval.decided"] if clicked else []) + ["approval.void"]
    desk.voided(asked.id, "the alert has cleared")


@pytest.mark.parametrize("turn", range(20))
def test_of_the_start_and_the_alerts_end_at_the_same_moment_exactly_one_wins(desk: Desk, turn: int) -> None:
    asked = desk.alerted()
    desk.say(f"approve {asked.id}")
    together(lambda: desk.stage.advance(asked.id), lambda: desk.tell("resolved"))
    approval = desk.stage.store.approvals.get(asked.id)
    assert approval is not None
    if approval.state == "void":
        desk.voided(asked.id, "the alert has cleared")
    else:
        ended = desk.stage.run(asked.id)
        assert (approval.state, ended.state) == ("approved", RunState.SUCCEEDED)
        assert desk.stage.script.steps() == ["look", "stop", "proof"]


def test_a_plan_with_evidence_is_void_until_it_begins(desk: Desk) -> None:
    desk.file.write_text(MEND.replace("evidence: none\n", ""))
    asked = desk.alerted()
    desk.say(f"approve {asked.id}")
    desk.tell("resolved")
    desk.voided(asked.id, "the alert has cleared")
    assert desk.stage.script.steps() == ["look"]


@pytest.mark.parametrize("mode", ["approve", "auto"])
@pytest.mark.parametrize("what", ["the alert has cleared", "the file of the runbook mend was changed"])
def test_while_nothing_was_changed_the_question_about_missing_evidence_is_void_like_any_other(
    desk: Desk, what: str, mode: str
) -> None:
    desk.file.write_text(MEND.replace("evidence: none\n", "mode: auto\n" if mode == "auto" else ""))
    desk.stage.script.on("evidence", REFUSED)
    asked = desk.alerted()
    if mode == "approve":
        desk.say(f"approve {asked.id}")
        asked = desk.stage.advance(asked.id)
    assert asked.plan is not None
    assert (asked.state, [host for host, _ in asked.plan.without]) == (RunState.WAITING, ["gpu-01"])
    if "alert" in what:
        desk.tell("resolved")
    else:
        desk.file.write_text(MEND)
    assert f"This plan is no longer asked about: {what}" in desk.say(f"approve {asked.id}")
    desk.voided(asked.id, what)
    assert desk.stage.script.steps() == ["look", "evidence"]


def test_after_a_restart_too(desk: Desk) -> None:
    desk.file.write_text(MEND.replace("evidence: none\n", ""))
    desk.stage.script.on("evidence", REFUSED)
    asked = desk.alerted()
    desk.say(f"approve {asked.id}")
    assert desk.stage.advance(asked.id).state is RunState.WAITING
    desk.file.write_text(MEND)
    desk.stage.store.runs.look_again()
    desk.voided(asked.id, "the file of the runbook mend was changed")


@pytest.mark.parametrize("mode", ["approve", "auto"])
def test_an_alert_that_clears_while_the_evidence_is_taken_leaves_the_host_as_it_is(
    desk: Desk, mode: str
) -> None:
    desk.file.write_text(MEND.replace("evidence: none\n", "mode: auto\n" if mode == "auto" else ""))
    gate = threading.Event()
    taking = desk.stage.script.on("evidence", gate=gate)
    desk.tell()
    if mode == "approve":
        assert desk.stage.advance(1).state is RunState.WAITING
        desk.say("approve 1")
    thread = desk.stage.apart(1)
    taking.wait()
    desk.tell("resolved")
    gate.set()
    thread.join(PATIENCE)
    ended = desk.stage.run(1)
    why = "The plan no longer held; nothing was changed."
    if mode == "auto":
        why = "Cancelled by the alert, which has cleared."
    assert (ended.state, ended.reason) == (RunState.CANCELLED, why)
    assert all(one.done for one in desk.stage.attempts(1))
    assert desk.stage.script.steps() == ["look", "evidence"]


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_once_a_host_was_changed_the_question_about_missing_evidence_stands_whatever_changes(
    desk: Desk, answer: str
) -> None:
    desk.file.write_text(MEND.replace("evidence: none\n", ""))
    desk.stage.script.on("evidence", KEPT)
    desk.stage.script.on("evidence", REFUSED, host="gpu-02")
    asked = desk.asked("gpu-[01-02]")
    desk.say(f"approve {asked.id}")
    assert desk.stage.advance(asked.id).state is RunState.WAITING
    assert desk.stage.script.steps("gpu-01") == ["look", "evidence", "boot.2.1", "stop", "proof"]
    desk.file.write_text(MEND)
    desk.stage.store.runs.look_again()
    assert desk.stage.advance(asked.id).state is RunState.WAITING
    desk.say(f"{answer} {asked.id}")
    ended = desk.stage.advance(asked.id)
    assert "approval.void" not in desk.stage.kinds(asked.id)
    if answer == "approve":
        assert ended.state is RunState.SUCCEEDED
        return
    why = "Going on without the evidence of gpu-02 was denied; nothing was changed there."
    assert (ended.state, ended.reason) == (RunState.CANCELLED, why)
    assert why in words(run_card(run_view(desk.stage.store, ended)))
    assert desk.stage.script.steps("gpu-02") == ["look", "evidence"]


# ── pure ──
def planned(one: Run, **verdict: Any) -> Plan:
    """Return the plan of a run on host a, after its look."""
    inventory = Inventory([Host("a", "10.0.0.1")])
    return Planner(KINDS, inventory).plan(one, Record([attempt("look", "a", **verdict)]), ["a"])


def test_what_a_plan_was_made_from_is_part_of_its_digest() -> None:
    alert = {"name": "Broken", "fingerprint": "f", "starts_at": "t", "status": "firing", "labels": {}}
    one = run(book(), ("a",), host_set="@serving", inputs={"keep": 1}, alert=alert)
    plan = planned(one)
    assert [(each.about, each.name) for each in plan.preconditions] == [
        ("runbook", "mend"),
        ("input", "keep"),
        ("alert", "Broken"),
        ("host set", "@serving"),
        ("host", "a"),
        ("look", "look on a"),
    ]
    others = [
        planned(replace(one, inputs={"keep": 2})),
        planned(replace(one, alert={**alert, "fingerprint": "g"})),
        planned(replace(one, host_set="a")),
        planned(one, facts={"gpus": 7}),
        planned(replace(one, runbook_digest="e")),
    ]
    assert len({each.digest for each in (plan, *others)}) == 6
    assert Plan.from_json(plan.as_json()) == plan


def test_a_host_that_came_into_the_inventory_is_a_change_too() -> None:
    plan = Plan("mend", "d", (("a",),), (), (Precondition("host", "a", None),))
    assert broken(plan, Inventory([]), None) == []
    assert broken(plan, Inventory([Host("a", "10.0.0.1")]), None) == ["a has come into the inventory"]


def test_a_plan_that_falls_when_its_hosts_are_taken_counts_for_no_limit_and_ends_nobody_elses_question(
    desk: Desk,
) -> None:
    desk.file.write_text(MEND.replace("evidence: none\n", "limits: {runs: 1, per: 1h, by: host}\n"))
    asked, other = desk.asked(), desk.asked()
    desk.say(f"approve {asked.id}")
    gate = threading.Event()
    taking = desk.stage.script.on("evidence", KEPT, gate=gate)
    thread = desk.stage.apart(asked.id)
    taking.wait()
    desk.file.write_text(desk.file.read_text().replace("stop it", "stop it now"))
    gate.set()
    thread.join(PATIENCE)
    desk.voided(asked.id, "the file of the runbook mend was changed")
    assert "approval.void" not in desk.stage.kinds(other.id)
    after = desk.asked()
    desk.say(f"approve {after.id}")
    assert desk.stage.advance(after.id).state is RunState.SUCCEEDED
