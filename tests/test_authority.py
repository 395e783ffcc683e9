"""Who somebody is now: sickbay.yaml, and what Slack says of its users."""

from collections.abc import Collection, Mapping

import pytest

from bot.errors import SickbayError
from bot.people.authority import Asker, Authority, Member, Roster
from bot.people.permissions import Permission, Permissions, Right
from bot.runs.approval import Person
from tests.parts.states import ALICE, BOB, PEOPLE, inventory

GROUPS = {"S0ONCALL": ("oncall",), "S0LEADS": ("lead",)}
GONE = Member("gone", why="is deactivated in Slack")
SILENT = Member("unknown", untold=frozenset(GROUPS), why="users.info: ratelimited")
CAROL = Person("@U0CAROL", "U0CAROL", ("oncall",))


class Says:
    """A Slack that says what it was told to say; of everybody else nothing."""

    def __init__(self, **told: Member) -> None:
        self.told = told

    def of(self, users: Collection[str]) -> Mapping[str, Member]:
        """Return it."""
        return {user: self.told.get(user, SILENT) for user in users}


def authority(rules: tuple[Permission, ...] = (), **told: Member) -> Authority:
    rights = Permissions(rules, PEOPLE, inventory(), GROUPS)
    return Authority(Roster(PEOPLE, rights, GROUPS), Says(**told))


def clicking(person: Person | None, slack: str = "", *, foreign: bool = False) -> Asker:
    slack = slack or (person.slack if person else "")
    return Asker(person.name if person else "carol", person, "slack", slack=slack, foreign=foreign)


def refused(found: Authority, asker: Asker, *, stops: bool = False) -> SickbayError:
    with pytest.raises(SickbayError) as raised:
        found.known(asker, "decide about runs", stops=stops)
    return raised.value


def test_a_user_group_gives_a_role_to_somebody_under_people_and_to_somebody_who_is_not() -> None:
    told = authority(
        U0ALICE=Member("active", frozenset({"S0LEADS"})), U0CAROL=Member("active", frozenset({"S0ONCALL"}))
    )
    assert told.known(clicking(ALICE), "x").roles == ("oncall", "lead")
    assert told.known(clicking(None, "U0CAROL"), "x") == CAROL


def test_who_is_only_known_by_a_group_is_called_by_an_id_that_nobody_can_choose() -> None:
    told = authority(U0CAROL=Member("active", frozenset({"S0ONCALL"})))
    asker = Asker("alice", None, "slack", slack="U0CAROL")
    assert told.known(asker, "x").name == "@U0CAROL"


def test_who_is_in_no_group_is_a_stranger() -> None:
    error = refused(authority(U0CAROL=Member("active")), clicking(None, "U0CAROL"))
    assert error.what == "I don't know you, carol, so you may not decide about runs"
    assert error.advice == "ask to be added under `people:` in sickbay.yaml"


def test_a_stranger_in_the_terminal_hears_of_as_first() -> None:
    error = refused(authority(), Asker("root", None, "cli"))
    assert error.what == "I don't know you, root, so you may not decide about runs"
    assert error.advice == (
        "if you stand under `people:`, say which with --as NAME; else ask to be added under `people:` in sickbay.yaml"
    )


def test_a_deactivated_account_may_nothing_not_even_stop_something() -> None:
    told = authority(U0ALICE=GONE)
    for stops in (False, True):
        error = refused(told, clicking(ALICE), stops=stops)
        assert error.what == "alice is deactivated in Slack, so nobody may decide about runs by that name"
    at_terminal = Asker("alice", ALICE)
    assert "is deactivated in Slack" in refused(told, at_terminal).what


@pytest.mark.parametrize("member", [Member("foreign"), Member("active", frozenset({"S0ONCALL"}))])
def test_who_is_of_another_workspace_may_nothing(member: Member) -> None:
    foreign = member.standing != "foreign"
    error = refused(authority(U0ALICE=member), clicking(ALICE, foreign=foreign))
    assert "you are of another Slack workspace than Sickbay's" in error.what


def test_where_slack_does_not_say_nothing_is_started_from_it_and_what_goes_on_can_be_stopped() -> None:
    told = authority()
    error = refused(told, clicking(ALICE))
    assert error.what == (
        "Slack does not say whether alice is still a user here (users.info: ratelimited), "
        "so you may not decide about runs from here"
    )
    assert "in a terminal" in error.advice
    assert told.known(clicking(ALICE), "cancel runs", stops=True) == ALICE
    assert told.known(Asker("alice", ALICE), "x") == ALICE, "in the terminal the operating system says who"


def test_where_slack_does_not_say_who_is_in_a_group_it_gives_nobody_a_role_and_says_why() -> None:
    half = Member("active", untold=frozenset({"S0ONCALL"}), why="usergroups.users.list: missing_scope")
    error = refused(authority(U0CAROL=half), clicking(None, "U0CAROL"))
    assert error.advice == (
        "Slack does not say who is in the user group S0ONCALL (usergroups.users.list: missing_scope), "
        "so it gives nobody a role now"
    )
    rules = (Permission(roles=("lead",), may=("approve",)),)
    with pytest.raises(SickbayError) as raised:
        authority(rules, U0ALICE=half).may(clicking(ALICE), "approve", "x", runbook="y")
    assert "ask somebody of the Slack user group S0LEADS, who may" in raised.value.advice
    assert raised.value.advice.endswith("so it gives nobody a role now")


def test_without_anybody_to_ask_people_are_who_the_file_says() -> None:
    silent = Authority(Roster(PEOPLE, Permissions((), PEOPLE, inventory(), GROUPS), GROUPS))
    assert silent.known(clicking(ALICE), "x") == ALICE
    assert "I don't know you" in refused(silent, clicking(None, "U0CAROL")).what


# ── those who answered before ──
def still(found: Authority, *names: str) -> dict[str, bool]:
    return {name: one is not None for name, one in found.still(names, "approve", "x", ["gpu-01"]).items()}


def test_who_answered_before_is_looked_at_again() -> None:
    told = authority(U0ALICE=GONE, U0BOB=Member("active"), U0CAROL=Member("active"))
    found = told.still(["alice", "bob", "@U0CAROL", "dave"], "approve", "x", ["gpu-01"])
    assert found["alice"] is None
    assert found["bob"] == BOB
    assert found["@U0CAROL"] == Person("@U0CAROL", "U0CAROL", ()), "no role any more; the rule says the rest"
    assert found["dave"] is None, "no longer under people"


def test_what_slack_does_not_say_takes_nothing_back() -> None:
    for found in (
        authority(),
        Authority(Roster(PEOPLE, Permissions((), PEOPLE, inventory(), GROUPS), GROUPS)),
    ):
        people = found.still(["alice", "@U0CAROL"], "approve", "x", ["gpu-01"])
        assert people["alice"] is not None
        assert people["@U0CAROL"] is not None
        assert set(people["@U0CAROL"].roles) == {"oncall", "lead"}


def test_a_rule_that_is_gone_takes_the_right_back() -> None:
    rules = (Permission(roles=("lead",), may=("approve",)),)
    leads = Member("active", frozenset({"S0LEADS"}))
    assert still(authority(rules, U0ALICE=leads, U0BOB=Member("active")), "alice", "bob") == {
        "alice": True,
        "bob": False,
    }


# ── rights of verbs ──
@pytest.mark.parametrize("right", ["change", "approve", "cancel", "freeze", "reset", "enroll"])
def test_without_rules_whoever_is_somebody_may_and_with_one_only_who_it_names(right: Right) -> None:
    active = Member("active")
    assert authority(U0ALICE=active).may(clicking(ALICE), right, "x", hosts=["gpu-01"]) == ALICE
    assert authority(U0ALICE=active).may(clicking(ALICE), right, "x") == ALICE
    rules = (Permission(roles=("lead",), may=(right,)),)
    with pytest.raises(SickbayError) as raised:
        authority(rules, U0ALICE=active).may(clicking(ALICE), right, "x", hosts=["gpu-01"])
    assert "you are alice, with the role oncall, and may not" in raised.value.what
    some = (Permission(roles=("oncall",), may=(right,), hosts="gpu-[01-02]"),)
    assert authority(some, U0ALICE=active).may(clicking(ALICE), right, "x", hosts=["gpu-01"]) == ALICE
    with pytest.raises(SickbayError):
        authority(some, U0ALICE=active).may(clicking(ALICE), right, "x")


def test_nobody_may_break_glass_without_a_rule_that_says_so() -> None:
    with pytest.raises(SickbayError) as raised:
        authority(U0ALICE=Member("active")).may(
            clicking(ALICE), "break_glass", "x", runbook="y", hosts=["gpu-01"]
        )
    assert raised.value.what == "you are alice, with the role oncall, and may not break glass for runs of `y`"
    assert raised.value.advice.startswith("nobody may; it takes a rule under `permissions:`")
    rules = (Permission(roles=("oncall",), may=("break_glass",)),)
    assert (
        authority(rules, U0ALICE=Member("active")).may(clicking(ALICE), "break_glass", "x", runbook="y")
        == ALICE
    )
