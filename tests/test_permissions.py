"""Who may do what, on which runbooks and hosts."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bot.commands.verbs import Asker, Commands, Reply
from bot.config.config import load
from bot.errors import Misplaced
from bot.language.runbook import ApprovalRule
from bot.language.schema import Invalid
from bot.library import Loaded
from bot.messages import approval_card
from bot.messages.timeline import sentence
from bot.people.permissions import Permission, Permissions
from bot.runs.approval import Person
from bot.views import run_view
from tests.parts.states import ALICE, BOB, LIBRARY, PEOPLE, RESTART, Scene, inventory
from tests.test_commands import said

CAROL = Person("carol", "U0CAROL", ("ml",))
DAVE = Person("dave", "U0DAVE")
ALL = {**PEOPLE, "carol": CAROL, "dave": DAVE}
RULES = (
    Permission(roles=("oncall",), may=("change", "approve", "cancel")),
    Permission(roles=("ml",), may=("change",), runbooks=("restart-*",), hosts="gpu-[01-04]"),
)
RIGHTS = Permissions(RULES, ALL, inventory())
TWO = RESTART.model_copy(update={"approval": ApprovalRule(required=2)})


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene.at(tmp_path)
    yield found
    found.store.close()


def desk(scene: Scene, people: Mapping[str, Person] = ALL, rules: tuple[Permission, ...] = RULES) -> Commands:
    two = Loaded(TWO, "", "d" * 64, "restart-container.yaml")
    return Commands(
        scene.store,
        inventory(),
        LIBRARY | {TWO.name: two},
        people,
        rights=Permissions(rules, people, inventory()),
        check=("gpu-check",),
    )


def do(commands: Commands, text: str, person: Person) -> Reply:
    return commands.do(text, Asker(person.name, person))


def told(reply: Reply) -> str:
    return " ".join(said(reply, 400).split())


def asked(scene: Scene) -> int:
    run_id = scene.run(TWO)
    scene.ask(scene.claim(run_id))
    return run_id


def test_without_rules_everybody_under_people_may() -> None:
    free = Permissions((), ALL, inventory())
    assert free.refusal(DAVE, "change", "restart-container", ["gpu-01"]) is None
    assert free.has(DAVE, "approve")
    assert not free.has(None, "approve")


def test_a_rule_is_for_its_runbooks_and_hosts_only() -> None:
    assert RIGHTS.refusal(CAROL, "change", "restart-container", ["gpu-01", "gpu-04"]) is None
    partly = RIGHTS.refusal(CAROL, "change", "restart-container", ["gpu-04", "gpu-05"])
    assert partly is not None
    assert partly.what == (
        "you are carol, with the role ml, and may not start `restart-container`, which changes hosts on gpu-05"
    )
    assert partly.advice == (
        "ask alice, bob, who may; or ask for a rule under `permissions:` in sickbay.yaml with "
        "`may: [change]` for one of your roles"
    )
    assert RIGHTS.refusal(CAROL, "change", "drain-host", ["gpu-01"]) is not None
    assert RIGHTS.refusal(CAROL, "change", "restart-container", []) is not None, "no host is not every host"


def test_two_rules_together_cover_the_hosts_of_a_run() -> None:
    rules = tuple(Permission(roles=("ml",), may=("change",), hosts=one) for one in ("gpu-01", "gpu-02"))
    both = Permissions(rules, ALL, inventory())
    assert both.refusal(CAROL, "change", "x", ["gpu-01", "gpu-02"]) is None
    nobody = both.refusal(CAROL, "change", "x", ["gpu-01", "gpu-03"])
    assert nobody is not None
    assert nobody.advice.startswith("nobody may; it takes a rule")


def test_a_rule_for_hosts_that_are_not_there_is_a_mistake_of_its_line(tmp_path: Path) -> None:
    with pytest.raises(Misplaced):
        Permissions((Permission(roles=("a",), may=("change",), hosts="@none"),), ALL, inventory())
    path = tmp_path / "sickbay.yaml"
    path.write_text(
        "hosts:\n  gpu-01: {}\npermissions:\n  - {roles: [oncall], may: [change], hosts: '@servin'}\n"
    )
    with pytest.raises(Invalid) as raised:
        load(path, {"HOME": str(tmp_path)})
    assert "sickbay.yaml:4" in str(raised.value)
    path.write_text("permissions:\n  - {roles: [oncall], may: [aprove]}\n")
    with pytest.raises(Invalid, match="approve"):
        load(path, {"HOME": str(tmp_path)})


def test_changes_are_refused_with_who_one_is_what_is_missing_and_whom_to_ask(scene: Scene) -> None:
    commands = desk(scene)
    reply = do(commands, "run restart-container gpu-01", DAVE)
    assert not reply.ok
    assert "you are dave, without a role, and may not start `restart-container`" in told(reply)
    assert "ask alice, bob, carol, who may" in told(reply)
    assert scene.store.runs.newest() == []
    (event,) = scene.store.timeline.of(kind="command.refused")
    assert event.data["by"] == "dave"
    assert sentence(event).startswith("dave (cli) asked for something and was refused: you are dave, without")
    assert do(commands, "run restart-container gpu-01", CAROL).ok
    assert do(commands, "check gpu-01", DAVE).ok, "looking is free to all"


def test_deciding_takes_the_right_and_who_started_a_run_may_always_cancel_it(scene: Scene) -> None:
    commands = desk(scene)
    run_id = do(commands, "run restart-container gpu-01", CAROL).runs[0]
    scene.ask(scene.claim(run_id))
    for verb in ("approve", "deny"):
        assert "may not decide about runs of `restart-container`" in told(
            do(commands, f"{verb} {run_id}", CAROL)
        )
    assert "may not cancel runs of `restart-container`" in told(do(commands, f"cancel {run_id}", DAVE))
    assert do(commands, f"cancel {run_id}", CAROL).ok


def test_help_shows_only_what_one_may(scene: Scene) -> None:
    commands = desk(scene)
    assert "approve RUN" in told(do(commands, "help", BOB))
    for person in (CAROL, DAVE):
        shown = told(do(commands, "help", person))
        assert "approve RUN" not in shown
        assert "cancel RUN" not in shown
        assert "check HOSTS" in shown
    assert "approve RUN" not in told(commands.do("help", Asker("mallory")))


# ── two who have to agree ──
def test_the_first_of_two_is_told_what_is_still_needed_and_the_card_says_so(scene: Scene) -> None:
    run_id = asked(scene)
    reply = do(desk(scene), f"approve {run_id}", ALICE)
    assert "It still needs 1 more with the role oncall." in told(reply)
    assert "answered already; somebody else is needed too" in told(
        do(desk(scene), f"approve {run_id}", ALICE)
    )
    run = scene.store.runs.get(run_id)
    assert run is not None
    card = told(Reply(approval_card(run_view(scene.store, run), PEOPLE)))
    assert "1 of 2 approvals: alice; needs 1 more with the role oncall" in card
    assert f"Your approval of run {run_id} counts." in told(do(desk(scene), f"approve {run_id}", BOB))
    question = scene.store.approvals.get(run_id)
    assert question is not None
    assert question.state == "approved"


@pytest.mark.parametrize("now", [{"bob": BOB}, {"bob": BOB, "alice": replace(ALICE, roles=("sales",))}])
def test_an_approval_of_somebody_who_lost_the_right_no_longer_counts(
    scene: Scene, now: dict[str, Person]
) -> None:
    run_id = asked(scene)
    assert do(desk(scene, rules=()), f"approve {run_id}", ALICE).ok
    reply = told(do(desk(scene, now, ()), f"approve {run_id}", BOB))
    assert "It still needs 1 more" in reply
    assert "alice approved before, but may no longer decide this: that does not count." in reply
    question = scene.store.approvals.get(run_id)
    assert question is not None
    assert (question.state, [one.person for one in question.decisions]) == ("pending", ["bob"])
    run = scene.store.runs.get(run_id)
    assert run is not None
    assert "alice approved before" in repr(approval_card(run_view(scene.store, run), now))


def test_a_right_taken_by_a_rule_counts_as_lost_too(scene: Scene) -> None:
    run_id = asked(scene)
    lead = Person("lead", roles=("oncall", "lead"))
    people = {"alice": ALICE, "lead": lead}
    assert do(desk(scene, people, ()), f"approve {run_id}", ALICE).ok
    only_leads = (Permission(roles=("lead",), may=("approve",)),)
    assert "alice approved before" in told(do(desk(scene, people, only_leads), f"approve {run_id}", lead))


def test_who_was_removed_between_request_and_click_may_not_decide(scene: Scene) -> None:
    run_id = asked(scene)
    commands = desk(scene, {"alice": ALICE})
    reply = commands.do(f"approve {run_id}", Asker("bob", commands.people.get("bob")))
    assert "I don't know you, bob, so you may not decide about runs" in told(reply)


@pytest.mark.parametrize(("clickers", "state"), [((ALICE, ALICE), "pending"), ((ALICE, BOB), "approved")])
def test_one_person_at_two_doors_counts_once_and_two_people_count_as_two(
    scene: Scene, clickers: tuple[Person, Person], state: str
) -> None:
    run_id = asked(scene)
    start = threading.Barrier(2)
    answers: list[Reply] = []

    def click(person: Person) -> None:
        commands = desk(scene)
        start.wait()
        answers.append(do(commands, f"approve {run_id}", person))

    threads = [threading.Thread(target=click, args=(one,)) for one in clickers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    question = scene.store.approvals.get(run_id)
    assert question is not None
    assert question.state == state
    assert sorted(reply.ok for reply in answers) == [state == "approved", True]
