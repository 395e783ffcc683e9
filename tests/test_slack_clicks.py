"""Clicks and commands from Slack: who somebody still is, forged and replayed payloads, broken glass, the same moment."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from bot.guard.decision import Settings, Want
from bot.language.runbook import ApprovalRule
from bot.library import Loaded
from bot.people.authority import Asker
from bot.people.permissions import Permission
from bot.runs.approval import Approval, Person
from bot.runs.run import Requester
from bot.sim.slack import Delivery, Message
from bot.sim.slack.workspace import DEFAULT_USERS, User
from bot.store import Store
from tests.parts.room import Room, Staff, room, words
from tests.parts.states import ALICE, BOB, LIBRARY, PEOPLE, RESTART

CAROL = User("U0CAROL", "carol")
TWO = RESTART.model_copy(update={"approval": ApprovalRule(required=2)})
RULES = (
    Permission(roles=("oncall",), may=("change", "approve", "cancel")),
    Permission(roles=("lead",), may=("break_glass",)),
)
LEAD = Person("carol", "U0CAROL", ("lead",))


@pytest.fixture
def staff() -> Staff:
    return Staff(
        people={**PEOPLE, "carol": LEAD},
        rules=RULES,
        library=LIBRARY | {TWO.name: Loaded(TWO, "", "d" * 64, "restart-container.yaml")},
    )


@pytest.fixture
async def open_room(tmp_path: Path, staff: Staff) -> AsyncIterator[Room]:
    async with room(tmp_path, staff=staff, users=(*DEFAULT_USERS, CAROL)) as found:
        yield found


@pytest.fixture
async def by_group(tmp_path: Path) -> AsyncIterator[Room]:
    """Return a room where nobody is under `people:` and a user group gives the role."""
    staff = Staff(people={}, groups={"S0ONCALL": ("oncall",)})
    groups = {"S0ONCALL": ["U0ALICE", "U0CAROL"]}
    async with room(tmp_path, staff=staff, users=(*DEFAULT_USERS, CAROL), usergroups=groups) as found:
        yield found


async def asked(
    room: Room, book: Any = TWO, host: str = "gpu-03", by: Requester | None = None
) -> tuple[int, Message]:
    """Bring a run of an incident to its question; return the run and the question."""
    incident = room.scene.incident(host=host, machine=host)
    run_id = room.scene.run(book, (host,), incident=incident, by=by)
    run = room.scene.claim(run_id)
    room.scene.look(run, host)
    room.scene.ask(run)
    return run_id, await room.shows(f"Approve restart-container on {host}")


def question(room: Room, run_id: int) -> Approval:
    found = room.scene.store.approvals.get(run_id)
    assert found is not None
    return found


def given(room: Room, run_id: int) -> list[tuple[str, str]]:
    """Return who has answered what."""
    return [(one.person, one.answer) for one in question(room, run_id).decisions]


# ── who somebody still is ──
async def test_a_deactivated_account_loses_its_click_and_the_others_keep_theirs(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    open_room.slack.deactivate("alice")
    assert (await open_room.click("alice", shown, "approve")).acked
    await open_room.told(
        "alice", "alice is deactivated in Slack, so nobody may decide about runs by that name"
    )
    assert (await open_room.click("alice", shown, "deny")).acked
    assert given(open_room, run_id) == []
    assert (await open_room.click("bob", shown, "approve")).acked
    await open_room.shows("1 of 2 approvals: bob")


async def test_an_approval_of_an_account_that_was_deactivated_since_no_longer_counts(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    await open_room.click("alice", shown, "approve")
    await open_room.shows("1 of 2 approvals: alice")
    open_room.slack.deactivate("alice")
    open_room.staff.later()
    await open_room.click("bob", shown, "approve")
    await open_room.shows("alice approved before, but may no longer decide this: that does not count.")
    assert given(open_room, run_id) == [("bob", "approve")]
    assert question(open_room, run_id).state == "pending"


async def test_where_slack_does_not_say_nothing_is_approved_and_a_no_still_counts(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    open_room.slack.fail_next("users.info", error="fatal_error", times=2)
    await open_room.click("alice", shown, "approve")
    await open_room.told("alice", "Slack does not say whether alice is still a user here")
    assert given(open_room, run_id) == []
    await open_room.click("alice", shown, "deny")
    await open_room.shows("Denied by alice")


async def test_where_slack_does_not_say_nothing_is_started_from_it(open_room: Room) -> None:
    open_room.slack.fail_next("users.info", error="fatal_error")
    await open_room.slack.slash("alice", "/sickbay", "run restart-container gpu-03")
    refused = words(await open_room.told("alice", "Slack does not say whether alice"))
    assert "so you may not start `restart-container`, which changes hosts from here" in refused
    assert "in a terminal on the machine where Sickbay runs" in refused
    assert open_room.scene.store.runs.newest() == []
    await open_room.slack.slash("alice", "/sickbay", "run restart-container gpu-03")
    await open_room.shows("Queued · restart-container · gpu-03")


async def test_a_deactivated_account_starts_nothing_and_cancels_nothing(open_room: Room) -> None:
    run_id, _ = await asked(open_room)
    open_room.slack.deactivate("bob")
    await open_room.slack.slash("bob", "/sickbay", "run restart-container gpu-04")
    await open_room.told("bob", "so nobody may start `restart-container`")
    await open_room.slack.slash("bob", "/sickbay", f"cancel {run_id}")
    await open_room.told("bob", "so nobody may cancel runs by that name")
    run = open_room.scene.store.runs.get(run_id)
    assert run is not None
    assert run.cancelled_by is None
    assert len(open_room.scene.store.runs.newest()) == 1


async def test_freezing_takes_its_right_and_goes_on_where_slack_does_not_say_but_thawing_does_not(
    open_room: Room,
) -> None:
    slack = open_room.slack
    await slack.slash("alice", "/sickbay", 'freeze "no more"')
    refused = "you are alice, with the role oncall, and may not freeze or thaw hosts"
    await open_room.told("alice", refused)
    assert open_room.scene.store.ledger.freezes() == []
    await slack.slash("carol", "/sickbay", 'breaker reset "go on"')
    await open_room.told("carol", "may not reset the breaker")


async def test_where_slack_does_not_say_one_may_freeze_and_not_thaw(tmp_path: Path) -> None:
    async with room(tmp_path) as found:
        found.slack.fail_next("users.info", error="fatal_error", times=2)
        await found.slack.slash("alice", "/sickbay", 'freeze "the rack is being moved"')
        await found.told("alice", "the rack is being moved")
        await found.slack.slash("alice", "/sickbay", "thaw")
        await found.told("alice", "Slack does not say whether alice is still a user here")
        assert len(found.scene.store.ledger.freezes()) == 1
        await found.slack.slash("alice", "/sickbay", "thaw")
        await found.until(lambda: found.scene.store.ledger.freezes() == [] or None)


# ── user groups ──
async def test_who_is_in_the_user_group_decides_and_the_group_is_called(by_group: Room) -> None:
    run_id, shown = await asked(by_group, RESTART)
    assert "usergroup" in str(shown.blocks)
    await by_group.click("mallory", shown, "approve")
    await by_group.told("mallory", "I don't know you, mallory")
    await by_group.click("carol", shown, "approve")
    answered = await by_group.shows("Approved by")
    assert {"type": "user", "user_id": "U0CAROL"} in answered.blocks[1]["elements"][0]["elements"]
    assert given(by_group, run_id) == [("@U0CAROL", "approve")]


async def test_who_left_the_user_group_between_request_and_click_loses_the_click(by_group: Room) -> None:
    run_id, shown = await asked(by_group, RESTART)
    await by_group.slack.slash("carol", "/sickbay", "help")
    assert "approve RUN" in words(await by_group.told("carol", "what you can say"))
    by_group.slack.set_usergroup("S0ONCALL", ["alice"])
    by_group.staff.later()
    await by_group.click("carol", shown, "approve")
    await by_group.told("carol", "I don't know you, carol, so you may not decide about runs")
    assert given(by_group, run_id) == []
    await by_group.click("alice", shown, "approve")
    await by_group.shows("Approved by")


async def test_a_user_group_that_slack_says_nothing_of_gives_nobody_a_right_and_says_so(
    by_group: Room,
) -> None:
    run_id, shown = await asked(by_group, RESTART)
    by_group.slack.fail_next("usergroups.users.list", error="internal_error")
    await by_group.click("carol", shown, "approve")
    whisper = words(await by_group.told("carol", "I don't know you, carol"))
    assert "Slack does not say who is in the user group S0ONCALL" in whisper
    by_group.slack.set_usergroup("S0ONCALL", None)
    await by_group.click("alice", shown, "approve")
    assert "no_such_subteam" in words(await by_group.told("alice", "I don't know you, alice"))
    assert given(by_group, run_id) == []


async def test_whoever_is_known_by_a_group_starts_runs_and_may_not_approve_their_own(by_group: Room) -> None:
    await by_group.slack.slash("carol", "/sickbay", "run restart-container gpu-03")
    await by_group.shows("Queued · restart-container · gpu-03")
    run = by_group.scene.claim(1)
    assert (run.requester.name, run.requester.person) == ("carol", "@U0CAROL")
    by_group.scene.look(run)
    by_group.scene.ask(run)
    shown = await by_group.shows("Approve restart-container")
    await by_group.click("carol", shown, "approve")
    await by_group.told("carol", "You asked for this run, so somebody else has to approve it.")
    await by_group.click("alice", shown, "approve")
    await by_group.shows("Approved by")


# ── forged and replayed ──
async def forged(room: Room, shown: Message, **changes: Any) -> Delivery:
    """Send what a click of alice would send, with some of it changed."""
    real = room.slack._people
    user = room.slack._workspace.user("alice")
    block, element = shown.element("approve") or ({}, {})
    payload = {
        "type": "block_actions",
        **real._interaction(user, shown.channel, shown),
        "container": {
            "type": "message",
            "message_ts": shown.ts,
            "channel_id": shown.channel,
            "thread_ts": shown.thread_ts,
        },
        "channel": {"id": shown.channel, "name": "oncall"},
        "actions": [real._action(block, element, None)],
    }
    return await room.slack.deliver("interactive", _changed(deepcopy(payload), changes))


def _changed(payload: Any, changes: Mapping[str, Any]) -> Any:
    """Change what is at paths such as `user__team_id`; None takes it away."""
    for path, value in changes.items():
        at = payload
        *way, last = path.split("__")
        for name in way:
            at = at[int(name)] if name.isdigit() else at[name]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return payload


async def test_a_payload_like_slacks_own_counts(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    assert (await forged(open_room, shown)).acked
    assert given(open_room, run_id) == [("alice", "approve")], (
        "what is forged below is refused for its forgery"
    )


async def test_a_click_that_names_another_run_than_its_message_shows_counts_for_neither(
    open_room: Room,
) -> None:
    first, shown = await asked(open_room)
    second, _ = await asked(open_room, host="gpu-04")
    digest = question(open_room, second).digest[:12]
    await forged(open_room, shown, actions__0__value=f"{second}:{digest}")
    await open_room.told("alice", "This button no longer means anything.")
    assert given(open_room, first) == given(open_room, second) == []


@pytest.mark.parametrize("digest", ["", "0" * 12, "short", "d"])
async def test_a_click_with_another_or_no_digest_counts_for_nothing(open_room: Room, digest: str) -> None:
    run_id, shown = await asked(open_room)
    whole = question(open_room, run_id).digest
    await forged(open_room, shown, actions__0__value=f"{run_id}:{whole[:4] if digest == 'short' else digest}")
    await open_room.until(lambda: open_room.slack.ephemerals("alice"))
    told = words(open_room.slack.ephemerals("alice")[0])
    assert "The plan has changed" in told or "This button no longer means anything" in told
    assert given(open_room, run_id) == []


@pytest.mark.parametrize("value", ["", "x", "²:0123456789ab", "9" * 400, "-1:0123456789ab"])
async def test_a_click_whose_value_is_nonsense_is_answered_and_counts_for_nothing(
    open_room: Room, value: str
) -> None:
    run_id, shown = await asked(open_room)
    assert (await forged(open_room, shown, actions__0__value=value)).acked
    await open_room.told("alice", "This button no longer means anything.")
    assert given(open_room, run_id) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"user__team_id": "T0OTHER"},
        {"team__id": "T0OTHER"},
        {"user__team_id": "T0OTHER", "team__id": "T0OTHER"},
    ],
)
async def test_a_click_of_somebody_who_is_not_of_our_workspace_counts_for_nothing(
    open_room: Room, changes: dict[str, str]
) -> None:
    run_id, shown = await asked(open_room)
    await forged(open_room, shown, **changes)
    await open_room.told("alice", "you are of another Slack workspace than Sickbay's")
    assert given(open_room, run_id) == []


@pytest.mark.parametrize("lacking", ["trigger_id", "actions__0__action_ts"])
async def test_a_click_without_what_makes_it_the_only_one_of_its_kind_counts_for_nothing(
    open_room: Room, lacking: str
) -> None:
    run_id, shown = await asked(open_room)
    await forged(open_room, shown, **{lacking: None})
    await open_room.told("alice", "This button no longer means anything.")
    assert given(open_room, run_id) == []


async def test_a_user_of_another_workspace_may_not_act_by_a_command_either(
    tmp_path: Path, staff: Staff
) -> None:
    staff.people = {**staff.people, "eve": Person("eve", "U0EVE", ("oncall",))}
    eve = User("U0EVE", "eve", team="T0OTHER")
    async with room(tmp_path, staff=staff, users=(*DEFAULT_USERS, eve)) as found:
        await found.slack.slash("eve", "/sickbay", "run restart-container gpu-03")
        await found.told("eve", "you are of another Slack workspace than Sickbay's")
        assert found.scene.store.runs.newest() == []


@pytest.mark.parametrize("path", ["event__user_team", "event__source_team", "team_id"])
async def test_a_mention_that_comes_from_another_workspace_starts_nothing(open_room: Room, path: str) -> None:
    mention = await open_room.slack.mention("alice", "oncall", "runbooks")
    assert mention.envelope is not None
    real = deepcopy(mention.envelope["payload"])
    text = real["event"]["text"].replace("runbooks", "run restart-container gpu-03")
    changes = {"event__text": text, "event_id": "Ev2"}
    assert (await open_room.slack.deliver("events_api", _changed(real, changes | {path: "T0OTHER"}))).acked
    await open_room.shows(
        "you are of another Slack workspace than Sickbay's",
        lambda: open_room.slack.thread("oncall", real["event"]["ts"]),
    )
    assert open_room.scene.store.runs.newest() == []
    assert (
        await open_room.slack.deliver("events_api", _changed(real, {path: None, "event_id": "Ev3"}))
    ).acked
    await open_room.shows(
        "Queued · restart-container", lambda: open_room.slack.thread("oncall", real["event"]["ts"])
    )


async def test_glass_is_broken_by_a_mention_too_and_the_thread_sees_the_answer(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    root = open_room.root.ts
    assert shown.thread_ts == root
    await open_room.slack.mention("carol", "oncall", f"approve {run_id} break-glass it's burning", root)
    await open_room.shows(f"You alone approved run {run_id}.", lambda: open_room.slack.thread("oncall", root))
    assert given(open_room, run_id) == [("carol", "approve")]


async def test_a_replayed_envelope_does_not_count_again_for_a_new_question(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    click = await open_room.click("alice", shown, "approve")
    await open_room.shows("1 of 2 approvals: alice")
    run = open_room.scene.store.runs.get(run_id)
    assert run is not None
    open_room.scene.store.approvals.plan(run, open_room.scene.plan(run), ask=True)
    assert given(open_room, run_id) == [], "asked anew, about the same plan"
    assert (await open_room.slack.resend(click)).acked
    assert given(open_room, run_id) == []
    assert (await open_room.click("alice", shown, "approve")).acked
    assert given(open_room, run_id) == [("alice", "approve")]


# ── the same moment ──
async def test_a_double_click_counts_once_and_says_so(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    clicks = await asyncio.gather(*(open_room.click("alice", shown, "approve") for _ in range(2)))
    assert all(one.acked for one in clicks)
    assert given(open_room, run_id) == [("alice", "approve")]
    await open_room.told("alice", "You have answered already; somebody else is needed too.")
    assert (await open_room.shows("1 of 2 approvals: alice")).actions == ["approve", "deny"]
    await open_room.click("bob", shown, "approve")
    assert (await open_room.shows("Approved by alice, bob")).actions == []


async def test_two_clients_and_a_terminal_decide_in_the_same_moment_and_one_counts(open_room: Room) -> None:
    run_id, shown = await asked(open_room, RESTART)
    beside = Store(Path(open_room.scene.store.database.path), open_room.scene.clock)
    terminal = open_room.staff.desk(open_room.scene)
    terminal = type(terminal)(
        beside,
        terminal._inventory,
        terminal._library,
        terminal.people,
        rights=terminal.authority.roster.rights,
    )
    both = await asyncio.gather(
        open_room.click("alice", shown, "approve"),
        open_room.click("bob", shown, "deny"),
        asyncio.to_thread(terminal.do, f"deny {run_id}", Asker("alice", ALICE)),
        asyncio.to_thread(terminal.do, f"approve {run_id}", Asker("bob", BOB)),
    )
    beside.close()
    assert all(one.acked for one in both[:2])
    (decision,) = question(open_room, run_id).decisions
    won = [one for one in both[2:] if one.ok]
    assert len(won) <= 1
    assert (decision.via == "cli") == bool(won)
    decided = [one for one in open_room.scene.store.timeline.of(run=run_id) if one.kind == "approval.decided"]
    assert len(decided) == 1
    word = "Approved" if decision.answer == "approve" else "Denied"
    assert (await open_room.shows(f"{word} by {decision.person}")).actions == []


# ── breaking glass ──
async def test_broken_glass_is_said_in_the_thread_and_to_the_whole_channel(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    root = open_room.root
    await open_room.slack.slash("carol", "/sickbay", f"approve {run_id} break-glass it's burning")
    await open_room.told("carol", f"You alone approved run {run_id}.")
    loud = await open_room.shows("Glass broken: carol alone", open_room.slack.messages)
    assert {"type": "broadcast", "range": "channel"} in loud.blocks[0]["elements"][0]["elements"]
    assert "Reason: it's burning" in words(loud)
    quiet = await open_room.shows(
        "Glass broken: carol alone approved restart-container",
        lambda: open_room.slack.thread("oncall", root.ts),
    )
    assert "broadcast" not in str(quiet.blocks)
    answered = await open_room.shows("Glass broken: carol alone approved this at")
    assert (answered.ts, answered.actions) == (shown.ts, [])
    await open_room.shows("Glass broken by carol at")
    await open_room.settled()
    assert len(open_room.slack.messages()) == 2, "said once, however often it is looked at"


async def test_who_may_not_break_glass_is_told_so_and_nobody_else_is(open_room: Room) -> None:
    run_id, shown = await asked(open_room)
    await open_room.slack.slash("alice", "/sickbay", f"approve {run_id} break-glass now")
    await open_room.told("alice", "you are alice, with the role oncall, and may not break glass for runs of")
    await open_room.slack.slash("carol", "/sickbay", f"approve {run_id} break-glass")
    await open_room.told("carol", "break-glass takes a reason")
    await open_room.settled()
    assert given(open_room, run_id) == []
    assert len(open_room.slack.messages()) == 1
    message = open_room.slack.message("oncall", shown.ts)
    assert message is not None
    assert message.actions == ["approve", "deny"]


async def test_a_deactivated_account_breaks_no_glass(open_room: Room) -> None:
    run_id, _ = await asked(open_room)
    open_room.slack.deactivate("carol")
    await open_room.slack.slash("carol", "/sickbay", f"approve {run_id} break-glass now")
    await open_room.told("carol", "carol is deactivated in Slack")
    assert given(open_room, run_id) == []


# ── automation at a standstill ──
async def test_the_whole_channel_hears_that_automation_stopped_itself(open_room: Room) -> None:
    by = Requester("alert VLLMStalled", via="alert")
    for host in ("gpu-01", "gpu-02", "gpu-03"):
        run_id, _ = await asked(open_room, host=host, by=by)
        run = open_room.scene.store.runs.get(run_id)
        assert run is not None
        open_room.scene.store.ledger.wish(run, {host: Want(level=2)}, Settings())
    loud = await open_room.shows("Automation stopped itself:", open_room.slack.messages)
    assert {"type": "broadcast", "range": "channel"} in loud.blocks[0]["elements"][0]["elements"]
    assert "3 hosts were to be changed deeply at once, gpu-[01-03]." in words(loud)
    assert "breaker reset REASON" in words(loud)
    await open_room.settled()
    assert len(open_room.slack.messages()) == 4, "three incidents, and this once"
