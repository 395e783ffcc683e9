"""Who decides about a run, and what comes of it: N of M, breaking glass, and two who decide in the same moment."""

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bot.commands.grammar import Decide
from bot.commands.verbs import Commands, Reply
from bot.engine.planner import Planner
from bot.engine.preconditions import entry
from bot.guard.decision import Freeze
from bot.incident import Event
from bot.language.runbook import ApprovalRule
from bot.library import Loaded
from bot.messages import approval_card, glass_card, run_card
from bot.people.authority import Asker, Member
from bot.people.permissions import Permission, Permissions
from bot.runs.approval import Approval, Person
from bot.runs.plan import Precondition
from bot.runs.run import Requester
from bot.slack.drafts import touched
from bot.steps import KINDS
from bot.store import Store
from bot.views import run_view
from tests.parts.states import ALICE, BOB, LIBRARY, PEOPLE, RESTART, Scene, inventory
from tests.test_commands import said

LEAD = Person("lead", "U0LEAD", ("lead",))
ALL = {**PEOPLE, "lead": LEAD}
RULES = (
    Permission(roles=("oncall",), may=("change", "approve", "cancel")),
    Permission(roles=("lead",), may=("break_glass",), runbooks=("restart-*",), hosts="gpu-[01-04]"),
)
TWO = RESTART.model_copy(update={"approval": ApprovalRule(required=2)})
REASON = "the other one is on a plane, customers cannot work"
HERE = {one.slack: Member("active") for one in ALL.values()}


class Says:
    """A Slack that says this of its users."""

    def __init__(self, told: Mapping[str, Member]) -> None:
        self.told = told

    def of(self, users: Collection[str]) -> Mapping[str, Member]:
        """Return it."""
        return {user: self.told[user] for user in users}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene.at(tmp_path)
    yield found
    found.store.close()


def desk(
    scene: Scene,
    rules: tuple[Permission, ...] = RULES,
    *,
    store: Store | None = None,
    groups: Mapping[str, tuple[str, ...]] | None = None,
) -> Commands:
    library = LIBRARY | {TWO.name: Loaded(TWO, "", "d" * 64, "restart-container.yaml")}
    rights = Permissions(rules, ALL, inventory())
    return Commands(store or scene.store, inventory(), library, ALL, rights=rights, groups=groups)


def do(commands: Commands, what: str | Decide, person: Person) -> Reply:
    return commands.do(what, Asker(person.name, person))


def told(reply: Reply) -> str:
    return " ".join(said(reply, 400).split())


def asked(scene: Scene, host: str = "gpu-03", by: Requester | None = None) -> int:
    run_id = scene.run(TWO, (host,), by=by)
    scene.ask(scene.claim(run_id))
    return run_id


def question(scene: Scene, run_id: int) -> Approval:
    found = scene.store.approvals.get(run_id)
    assert found is not None
    return found


def events(scene: Scene, run_id: int, kind: str) -> list[Event]:
    return [one for one in scene.store.timeline.of(run=run_id) if one.kind == kind]


def cards(scene: Scene, run_id: int) -> str:
    run = scene.store.runs.get(run_id)
    assert run is not None
    view = run_view(scene.store, run)
    return " ".join(
        " ".join(said(Reply(card), 400).split())
        for card in (
            run_card(view),
            approval_card(view, ALL),
            *(glass_card(run, event, everybody=True) for event in view.broken),
        )
    )


# ── breaking glass ──
def test_who_has_the_right_decides_alone_for_a_run_of_their_own_too_and_says_why(scene: Scene) -> None:
    run_id = asked(scene, by=Requester("lead", "lead"))
    commands = desk(scene)
    assert do(commands, f"approve {run_id}", ALICE).ok
    reply = do(commands, f"approve {run_id} break-glass {REASON}", LEAD)
    assert f"You alone approved run {run_id}. Everybody is told, with your reason: {REASON}" in told(reply)
    found = question(scene, run_id)
    assert found.state == "approved"
    assert found.glass is not None
    assert (found.glass.person, found.glass.glass, found.glass.via) == ("lead", REASON, "cli")
    run = scene.store.runs.get(run_id)
    assert run is not None
    assert run.state == "running"


def test_breaking_glass_is_an_event_of_its_own_that_shows_itself_in_thread_and_channel(scene: Scene) -> None:
    run_id = asked(scene)
    commands = desk(scene)
    do(commands, f"approve {run_id}", ALICE)
    do(commands, f"approve {run_id} break-glass {REASON}", LEAD)
    (event,) = events(scene, run_id, "approval.glass_broken")
    assert event.data == {
        "by": "lead",
        "glass": REASON,
        "via": "cli",
        "required": 2,
        "roles": ["oncall"],
        "had": ["alice"],
        "digest": question(scene, run_id).digest[:12],
    }
    assert touched(event) == {
        f"run:{run_id}": 0,
        f"approval:{run_id}": 0,
        f"glass:{event.id}": 0,
        f"alarm:{event.id}": 0,
        f"broadcast:{event.id}": 0,
    }
    shown = cards(scene, run_id)
    assert re.search(rf"🚨 Glass broken by lead at ..:..: {REASON}", shown), "in the run"
    assert re.search(
        rf"Glass broken: lead alone approved this at ..:..; it takes 2\. Reason: {REASON}", shown
    )
    assert "@channel 🚨 Glass broken: lead alone approved restart-container on gpu-03." in shown
    assert "The runbook takes 2 with the role oncall. It had alice." in shown
    assert f"to stop it: cancel {run_id}" in shown


def test_a_run_that_asks_again_keeps_what_was_broken_before_and_asks_all_the_same(scene: Scene) -> None:
    run_id = asked(scene)
    do(desk(scene), f"approve {run_id} break-glass {REASON}", LEAD)
    scene.ask(scene.claim(run_id))
    assert question(scene, run_id).state == "pending"
    assert "Glass broken by lead at" in cards(scene, run_id)
    do(desk(scene), f"approve {run_id} break-glass again", LEAD)
    assert [one.data["glass"] for one in events(scene, run_id, "approval.glass_broken")] == [REASON, "again"]


def test_who_agreed_first_may_break_glass_afterwards_and_counts_once(scene: Scene) -> None:
    run_id = asked(scene)
    rules = (Permission(roles=("oncall",), may=("approve", "break_glass")),)
    commands = desk(scene, rules)
    assert do(commands, f"approve {run_id}", ALICE).ok
    assert do(commands, f"approve {run_id} break-glass {REASON}", ALICE).ok
    found = question(scene, run_id)
    assert [(one.person, bool(one.glass)) for one in found.decisions] == [("alice", True)]
    assert events(scene, run_id, "approval.glass_broken")[0].data["had"] == []


@pytest.mark.parametrize(
    ("person", "host", "words"),
    [
        (ALICE, "gpu-03", "you are alice, with the role oncall, and may not break glass for runs of"),
        (LEAD, "gpu-05", "you are lead, with the role lead, and may not break glass for runs of"),
    ],
)
def test_anybody_else_is_refused_with_words_and_that_is_written_down(
    scene: Scene, person: Person, host: str, words: str
) -> None:
    run_id = asked(scene, host)
    reply = do(desk(scene), f"approve {run_id} break-glass {REASON}", person)
    assert not reply.ok
    assert words in told(reply)
    assert question(scene, run_id).decisions == ()
    (event,) = events(scene, run_id, "approval.refused")
    assert (event.data["by"], event.data["glass"]) == (person.name, REASON)
    assert words in event.data["why"]
    assert events(scene, run_id, "approval.glass_broken") == []


def test_without_rules_nobody_may_break_glass(scene: Scene) -> None:
    run_id = asked(scene)
    assert "may not break glass" in told(do(desk(scene, ()), f"approve {run_id} break-glass x", ALICE))
    assert question(scene, run_id).state == "pending"


def test_a_stranger_is_refused_and_written_down(scene: Scene) -> None:
    run_id = asked(scene)
    reply = desk(scene).do(f"approve {run_id} break-glass x", Asker("mallory"))
    assert "I don't know you, mallory" in told(reply)
    assert [one.data["by"] for one in events(scene, run_id, "approval.refused")] == ["mallory"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("approve 1 break-glass", "approve: break-glass takes a reason"),
        ('approve 1 --break-glass "  "', "approve: break-glass takes a reason"),
        (f"approve 1 break-glass {'x' * 501}", "approve: the reason is 501 characters long"),
        ("approve 1 break glass", "approve: it takes one number"),
        ("deny 1 break-glass why", "deny: it takes one number"),
    ],
)
def test_without_a_reason_or_in_other_words_it_is_not_taken(scene: Scene, text: str, words: str) -> None:
    run_id = asked(scene)
    assert words in told(do(desk(scene), text, LEAD))
    assert question(scene, run_id).state == "pending"


@pytest.mark.parametrize("text", ["it's down, isn't it", "\"it's down, isn't it\"", "it’s  down,\nisn’t it"])
def test_a_reason_is_taken_as_it_is_typed(scene: Scene, text: str) -> None:
    run_id = asked(scene)
    assert do(desk(scene), f"approve {run_id} —break-glass {text}", LEAD).ok
    glass = question(scene, run_id).glass
    assert glass is not None
    assert glass.glass == "it's down, isn't it"


def test_glass_does_not_open_what_is_over(scene: Scene) -> None:
    commands = desk(scene)
    denied, late = asked(scene), asked(scene, "gpu-04")
    do(commands, f"deny {denied}", ALICE)
    assert "alice has already denied this" in told(do(commands, f"approve {denied} break-glass x", LEAD))
    scene.clock.on(minutes=20)
    assert "This question closed at" in told(do(commands, f"approve {late} break-glass x", LEAD))
    assert "asks nobody for approval" in told(
        do(commands, f"approve {scene.run(TWO, ('gpu-01',))} break-glass x", LEAD)
    )
    assert [question(scene, one).glass for one in (denied, late)] == [None, None]


@pytest.mark.parametrize("digest", ["0" * 12, ""])
def test_glass_does_not_approve_another_plan_than_the_one_that_was_seen(scene: Scene, digest: str) -> None:
    run_id = asked(scene)
    reply = do(desk(scene), Decide(run_id, "approve", digest, REASON), LEAD)
    assert "The plan has changed since this message was shown." in told(reply)
    assert question(scene, run_id).state == "pending"


def test_glass_does_not_approve_a_plan_that_no_longer_holds(scene: Scene) -> None:
    run_id = scene.run(TWO)
    run = scene.claim(run_id)
    rests = Precondition("host", "gpu-03", entry(inventory().hosts["gpu-03"]))
    scene.store.approvals.plan(run, replace(scene.plan(run), preconditions=(rests,)), ask=True)
    fewer = inventory(2)
    planner = Planner(KINDS, fewer, lambda _: "d" * 64)
    rights = Permissions((Permission(roles=("lead",), may=("break_glass",)),), ALL, fewer)
    commands = Commands(scene.store, fewer, LIBRARY, ALL, rights=rights, planner=planner)
    reply = do(commands, f"approve {run_id} break-glass {REASON}", LEAD)
    assert "This plan is no longer asked about: gpu-03 is no longer in the inventory" in told(reply)
    assert question(scene, run_id).state == "void"
    assert events(scene, run_id, "approval.glass_broken") == []


def test_glass_does_not_thaw_what_is_frozen_and_that_it_was_tried_is_written_down(scene: Scene) -> None:
    run_id = asked(scene)
    scene.store.ledger.freeze(Freeze("bob", scene.clock(), "the rack is being moved", "gpu-03"))
    reply = do(desk(scene), f"approve {run_id} break-glass {REASON}", LEAD)
    assert not reply.ok
    assert "the rack is being moved" in told(reply)
    assert question(scene, run_id).state == "pending"
    (event,) = events(scene, run_id, "approval.refused")
    assert (event.data["by"], event.data["glass"]) == ("lead", REASON)


def test_only_who_may_break_glass_is_told_that_one_can(scene: Scene) -> None:
    assert "break-glass" in told(do(desk(scene), "help", LEAD))
    assert "approve RUN break-glass" not in told(do(desk(scene), "help", ALICE))


# ── in the same moment ──
def together(*deeds: Callable[[], Reply]) -> list[Reply]:
    """Do all of it at once, each in a thread of its own."""
    start = threading.Barrier(len(deeds))
    replies: dict[int, Reply] = {}

    def act(number: int) -> None:
        start.wait()
        replies[number] = deeds[number]()

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [replies[number] for number in range(len(deeds))]


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_two_doors_with_a_database_connection_each_decide_once(scene: Scene, answer: str) -> None:
    run_id = scene.run(RESTART)
    scene.ask(scene.claim(run_id))
    other = Store(Path(scene.store.database.path), scene.clock)
    commands = [desk(scene, ()), desk(scene, (), store=other)]
    replies = together(
        lambda: do(commands[0], f"approve {run_id}", ALICE),
        lambda: do(commands[1], f"{answer} {run_id}", BOB),
    )
    other.close()
    (decision,) = question(scene, run_id).decisions
    assert sorted(reply.ok for reply in replies) == [False, True]
    loser = next(told(reply) for reply in replies if not reply.ok)
    assert f"{decision.person} has already" in loser
    assert len(events(scene, run_id, "approval.decided")) == 1


def test_two_of_whom_one_is_known_by_a_user_group_alone_both_count(scene: Scene) -> None:
    groups = {"S0ONCALL": ("oncall",)}
    says = Says(HERE | {"U0CAROL": Member("active", frozenset(groups))})
    carol = Asker("carol", None, "slack", slack="U0CAROL")
    alice = Asker("alice", ALICE, "slack", slack="U0ALICE")
    for _ in range(5):
        run_id = asked(scene)
        desks = [desk(scene, groups=groups).asking(says) for _ in range(2)]
        replies = together(
            lambda: desks[0].do(f"approve {run_id}", carol),  # noqa: B023 - both end in this turn
            lambda: desks[1].do(f"approve {run_id}", alice),  # noqa: B023
        )
        assert [reply.ok for reply in replies] == [True, True]
        assert question(scene, run_id).state == "approved"
        assert {one.person for one in question(scene, run_id).decisions} == {"alice", "@U0CAROL"}


def test_an_approval_and_a_broken_glass_in_the_same_moment_leave_one_of_them_deciding(scene: Scene) -> None:
    run_id = asked(scene)
    rules = (Permission(roles=("oncall", "lead"), may=("approve", "break_glass")),)
    replies = together(
        lambda: do(desk(scene, rules), f"approve {run_id} break-glass one", LEAD),
        lambda: do(desk(scene, rules), f"approve {run_id} break-glass two", ALICE),
    )
    assert sorted(reply.ok for reply in replies) == [False, True]
    assert len(events(scene, run_id, "approval.glass_broken")) == 1
    assert len([one for one in question(scene, run_id).decisions if one.glass]) == 1


def test_what_was_delivered_twice_counts_once_even_after_it_was_taken_back(scene: Scene) -> None:
    run_id = asked(scene)
    lost = Says(HERE | {"U0ALICE": Member("gone", why="is deactivated in Slack")})
    back = Says(HERE)
    click = Asker("alice", ALICE, "slack", delivery="slack/T1/1", slack="U0ALICE")
    assert desk(scene).asking(back).do(f"approve {run_id}", click).ok
    bob = Asker("bob", BOB, "slack", slack="U0BOB")
    reply = desk(scene).asking(lost).do(f"approve {run_id}", bob)
    assert "alice approved before, but may no longer decide this" in told(reply)
    again = desk(scene).asking(back).do(f"approve {run_id}", click)
    assert "This was taken in already." in told(again)
    assert [one.person for one in question(scene, run_id).decisions] == ["bob"]
    anew = desk(scene).asking(back).do(f"approve {run_id}", replace(click, delivery="slack/T2/2"))
    assert anew.ok
    assert question(scene, run_id).state == "approved"
