"""Who somebody is at this moment, and whether they may: sickbay.yaml, and what Slack says of its own users.

The file says who is known and which Slack user groups give a role; whether an account still exists and who is in a
group only Slack can say, and it is asked each time somebody wants to do something, or is told what they may.
What Slack does not say gives nobody a right. It takes none back that was used before, and where Slack is down the
terminal goes on: there the operating system says who one is.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from bot.errors import SickbayError
from bot.people.permissions import Groups, NotAllowed, Permissions, Right
from bot.runs.approval import Person

Standing = Literal["active", "gone", "foreign", "unknown"]


@dataclass(frozen=True, slots=True)
class Member:
    """What Slack says of one of its users now."""

    standing: Standing
    groups: frozenset[str] = frozenset()
    """Those of the user groups asked about that the user is in."""
    untold: frozenset[str] = frozenset()
    """User groups of which Slack does not say who is in them."""
    why: str = ""
    """Why it is `gone`, or why something is not told."""


class Members(Protocol):
    """Whoever can ask Slack."""

    def of(self, users: Collection[str]) -> Mapping[str, Member]:
        """Return what Slack says of each of these user ids; never raises."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who says something, and where the answer belongs."""

    name: str
    """What people read."""
    person: Person | None = None
    """Who it is under `people:`; None for strangers."""
    via: str = "cli"
    channel: str = ""
    """Where runs are shown; empty: where the configuration says."""
    thread: str | None = None
    delivery: str = ""
    """Names what was said once and for all, so that a repeated delivery starts nothing twice; empty: never repeated."""
    slack: str = ""
    """Slack user id; empty in the terminal."""
    foreign: bool = False
    """Did Slack say that they belong to another workspace?"""
    login: str = ""
    """In the terminal: the operating system's user, where `--as` names another."""

    @property
    def door(self) -> str:
        """Where they come in, for the record."""
        return f"{self.via}, {self.login} as {self.name}" if self.login else self.via


@dataclass(frozen=True, slots=True)
class Roster:
    """Who there is and what they may, as one reading of the configuration says."""

    people: Mapping[str, Person]
    rights: Permissions
    groups: Groups = field(default_factory=dict)
    """Roles of the members of Slack user groups."""


Read = Callable[[], Roster]
"""Returns what the configuration says at this moment; raises SickbayError when that cannot be read."""


class Authority:
    """Judges by what the configuration and Slack say now."""

    def __init__(self, roster: Roster, members: Members | None = None, read: Read | None = None) -> None:
        """`read` returns the newest roster, else it stays the one given; without `members` nobody asks Slack."""
        self._roster = roster
        self._members = members
        self._read = read

    def asking(self, members: Members) -> "Authority":
        """Return the same, with Slack to be asked."""
        return Authority(self._roster, members, self._read)

    def _fresh(self) -> Roster:
        if self._read is not None:
            self._roster = self._read()
        return self._roster

    @property
    def roster(self) -> Roster:
        """The newest that could be read: to name people by, and for what stops something."""
        try:
            return self._fresh()
        except SickbayError:
            return self._roster

    def person_of(self, slack: str) -> Person | None:
        """Return who this Slack user is under `people:`."""
        return next((one for one in self.roster.people.values() if slack and one.slack == slack), None)

    # ── who ──
    def seen(self, asker: Asker) -> Person | None:
        """Return who asks, with what is known of them now; nobody is refused for what is not."""
        return self._now(asker, self.roster)[0]

    def known(self, asker: Asker, what: str, *, stops: bool = False) -> Person:
        """Return who asks, if they are somebody and still are; `stops` what goes on rather than starting something.

        Raises:
            NotAllowed: saying who they are taken for, and what they may not.

        """
        person, member = self._now(asker, self.roster if stops else self._fresh())
        return self._known(asker, person, member, what, stops=stops)

    def _known(
        self, asker: Asker, person: Person | None, member: Member, what: str, *, stops: bool
    ) -> Person:
        if asker.foreign or member.standing == "foreign":
            raise NotAllowed(
                f"{asker.name}, you are of another Slack workspace than Sickbay's, so you may not {what}",
                advice="whoever is named under `people:` has to be a user of the workspace itself",
            )
        if member.standing == "gone":
            raise NotAllowed(
                f"{asker.name} {member.why}, so nobody may {what} by that name",
                advice="take them out of `people:` in sickbay.yaml, or have the account opened again",
            )
        if person is None:
            raise NotAllowed(
                f"I don't know you, {asker.name}, so you may not {what}",
                advice=_silence(member) or _introduce(asker),
            )
        if member.standing == "unknown" and asker.via == "slack" and not stops:
            raise NotAllowed(
                f"Slack does not say whether {asker.name} is still a user here ({member.why}), so you may not {what} from here",
                advice="try again in a minute, or in a terminal on the machine where Sickbay runs",
            )
        return person

    def may(
        self,
        asker: Asker,
        right: Right,
        what: str,
        *,
        runbook: str = "",
        hosts: Collection[str] = (),
        stops: bool = False,
    ) -> Person:
        """Return who asks, if they have the right there; without `hosts` it is about all.

        Raises:
            NotAllowed: saying who one is, what is missing and whom to ask.

        """
        roster = self.roster if stops else self._fresh()
        found, member = self._now(asker, roster)
        person = self._known(asker, found, member, what, stops=stops)
        if refusal := roster.rights.refusal(person, right, runbook, hosts):
            refusal.advice = "; ".join(filter(None, (refusal.advice, _silence(member))))
            raise refusal
        return person

    def silence(self, asker: Asker) -> str:
        """Say what Slack does not say, where that may be why somebody lacks a role; else nothing."""
        return _silence(self._now(asker, self.roster)[1])

    def still(
        self, names: Collection[str], right: Right, runbook: str, hosts: Collection[str]
    ) -> dict[str, Person | None]:
        """Return these people, who could before, as they are now; None for who may no longer.

        Only what is known takes a right away: an account that is gone, a group that somebody has left.
        """
        roster = self.roster
        found = {
            name: Person(name, name[1:]) if name.startswith("@") else roster.people.get(name)
            for name in names
        }
        asked = {one.slack: one for one in found.values() if one is not None and one.slack}
        told = self._members.of(asked) if self._members is not None and asked else {}
        people = {one.name: one for one in found.values() if one is not None}
        for slack, person in asked.items():
            member = told.get(slack, Member("unknown", untold=frozenset(roster.groups)))
            if member.standing in ("gone", "foreign"):
                del people[person.name]
            else:
                people[person.name] = _with_roles(person, roster.groups, member.groups | member.untold)
        allowed = roster.rights.allowed(right, runbook, hosts, people)
        return {name: allowed.get(name) for name in names}

    # ── what is known ──
    def _now(self, asker: Asker, roster: Roster) -> tuple[Person | None, Member]:
        """Return who asks, with the roles of their groups, and what Slack says of them."""
        person = roster.people.get(asker.person.name) if asker.person is not None else None
        slack = asker.slack or (person.slack if person is not None else "")
        if self._members is None or not slack:
            return person, Member("active")
        member = self._members.of([slack])[slack]
        if member.standing in ("active", "unknown") and not asker.foreign:
            found = _with_roles(person or Person(f"@{slack}", slack), roster.groups, member.groups)
            person = found if person is not None or found.roles else None
        return person, member


def _with_roles(person: Person, known: Groups, groups: Collection[str]) -> Person:
    given = [role for group in sorted(groups) for role in known.get(group, ())]
    return replace(person, roles=tuple(dict.fromkeys((*person.roles, *given))))


def _introduce(asker: Asker) -> str:
    """Say how a stranger becomes known; an account that is nobody's own, such as root, may be somebody already."""
    added = "ask to be added under `people:` in sickbay.yaml"
    return (
        f"if you stand under `people:`, say which with --as NAME; else {added}"
        if asker.via == "cli"
        else added
    )


def _silence(member: Member) -> str:
    if not member.untold:
        return ""
    groups = ", ".join(sorted(member.untold))
    return (
        f"Slack does not say who is in the user group {groups} ({member.why}), so it gives nobody a role now"
    )
