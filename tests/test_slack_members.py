"""What Slack says of its own users, asked of the pretend one over HTTP."""

from collections.abc import Iterator, Sequence

import pytest

from bot.people.authority import Member
from bot.sim.slack import PretendSlack, PretendSlackThread
from bot.sim.slack.workspace import DEFAULT_USERS, User
from bot.slack.client import brief_client
from bot.slack.manifest import SCOPES
from bot.slack.members import LIFE, SlackMembers

EVE = User("U0EVE", "eve", team="T0OTHER")


class Seconds:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def slack() -> Iterator[PretendSlack]:
    with PretendSlackThread(scopes=tuple(SCOPES), users=(*DEFAULT_USERS, EVE)) as thread:
        yield thread.slack


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


def asking(slack: PretendSlack, clock: Seconds, groups: Sequence[str] = ("S0ONCALL",)) -> SlackMembers:
    return SlackMembers(brief_client(slack.bot_token, slack.base_url), groups, clock=clock)


def test_who_is_a_user_here_is_active_with_their_groups(slack: PretendSlack, clock: Seconds) -> None:
    told = asking(slack, clock).of(["U0ALICE", "U0MALLORY"])
    assert told["U0ALICE"] == Member("active", frozenset({"S0ONCALL"}))
    assert told["U0MALLORY"] == Member("active")


def test_what_was_said_holds_for_a_minute_and_no_longer(slack: PretendSlack, clock: Seconds) -> None:
    members = asking(slack, clock)
    for _ in range(3):
        assert members.of(["U0ALICE"])["U0ALICE"].standing == "active"
    assert len(slack.calls("users.info")) == len(slack.calls("usergroups.users.list")) == 1
    slack.deactivate("alice")
    clock.now = LIFE - 0.01
    assert members.of(["U0ALICE"])["U0ALICE"].standing == "active"
    clock.now = LIFE
    gone = members.of(["U0ALICE"])["U0ALICE"]
    assert (gone.standing, gone.groups, gone.why) == ("gone", frozenset(), "is deactivated in Slack")
    slack.reactivate("alice")
    clock.now = 2 * LIFE
    assert members.of(["U0ALICE"])["U0ALICE"].standing == "active"


def test_nobody_and_whoever_is_of_another_workspace_are_told_apart(
    slack: PretendSlack, clock: Seconds
) -> None:
    told = asking(slack, clock).of(["U0NOBODY", "U0EVE"])
    assert (told["U0NOBODY"].standing, told["U0NOBODY"].why) == ("gone", "is nobody that Slack knows")
    assert told["U0EVE"].standing == "foreign"


def test_a_group_that_is_not_there_gives_nobody_anything_and_leaves_the_others(
    slack: PretendSlack, clock: Seconds
) -> None:
    found = asking(slack, clock, ("S0ONCALL", "S0LEADS")).of(["U0ALICE"])["U0ALICE"]
    assert (found.standing, found.groups, found.untold) == (
        "active",
        frozenset({"S0ONCALL"}),
        frozenset({"S0LEADS"}),
    )
    assert found.why == "usergroups.users.list: no_such_subteam"


def test_without_the_scope_of_groups_it_says_so(clock: Seconds) -> None:
    scopes = tuple(scope for scope in SCOPES if scope != "usergroups:read")
    with PretendSlackThread(scopes=scopes) as thread:
        found = asking(thread.slack, clock).of(["U0ALICE"])["U0ALICE"]
    assert (found.standing, found.untold) == ("active", frozenset({"S0ONCALL"}))
    assert "missing_scope" in found.why


def test_a_slack_that_fails_or_is_not_there_says_nothing_and_nothing_is_kept_of_that(
    slack: PretendSlack, clock: Seconds
) -> None:
    members = asking(slack, clock)
    slack.fail_next("users.info", error="internal_error")
    found = members.of(["U0ALICE"])["U0ALICE"]
    assert (found.standing, found.untold, found.why) == (
        "unknown",
        frozenset({"S0ONCALL"}),
        "users.info: internal_error",
    )
    assert members.of(["U0ALICE"])["U0ALICE"].standing == "active"
    slack.fail_next("users.info", status=503)
    assert members.of(["U0BOB"])["U0BOB"].standing == "unknown"


def test_a_slack_that_cannot_be_reached_is_left_alone_for_a_moment(
    slack: PretendSlack, clock: Seconds
) -> None:
    nowhere = SlackMembers(brief_client("xoxb-demo", "http://127.0.0.1:9/api"), ("S0ONCALL",), clock=clock)
    for user in ("U0ALICE", "U0BOB"):
        found = nowhere.of([user])[user]
        assert found.standing == "unknown"
        assert "it cannot be reached: " in found.why


def test_slack_is_left_alone_for_as_long_as_it_wants(slack: PretendSlack, clock: Seconds) -> None:
    members = asking(slack, clock)
    slack.fail_next("users.info", error="ratelimited", status=429, retry_after=7)
    assert members.of(["U0ALICE"])["U0ALICE"].why == "users.info: ratelimited"
    clock.now = 6.9
    assert members.of(["U0BOB"])["U0BOB"].standing == "unknown"
    assert len(slack.calls("users.info")) == 1
    clock.now = 7.0
    assert members.of(["U0BOB"])["U0BOB"].standing == "active"
