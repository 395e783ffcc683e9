"""Who may do what: the `permissions:` of sickbay.yaml, held against a person, a runbook and its hosts.

Looking is free to all, and so is a runbook that only looks. Without `permissions:` everybody who is somebody (under
`people:`, or in a Slack user group that gives a role) may do everything but break glass. Once there is one rule, only
what a rule grants is allowed. The approval rule of a runbook comes on top: both must let a person decide, unless they
break glass.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field

from bot.errors import Misplaced, SickbayError
from bot.fleet import named
from bot.inventory import Inventory
from bot.language.inputs import Noun
from bot.runs.approval import Person

Right = Literal["change", "approve", "cancel", "break_glass", "freeze", "reset", "enroll"]

DEEDS: Mapping[Right, str] = {
    "change": "start `{runbook}`, which changes hosts",
    "approve": "decide about runs of `{runbook}`",
    "cancel": "cancel runs of `{runbook}`",
    "break_glass": "break glass for runs of `{runbook}`",
    "freeze": "freeze or thaw hosts",
    "reset": "reset the breaker",
    "enroll": "make a host's key known",
}
GRANTED: frozenset[Right] = frozenset({"break_glass"})
"""Rights that nobody has without a rule that says so."""
Groups = Mapping[str, Sequence[str]]
"""Roles of the members of a Slack user group, by its id."""
_NAMED = 3
"""How many people a refusal names."""


class NotAllowed(SickbayError):
    """Somebody may not do what they asked for."""


class Permission(Noun):
    """What the people with some role may do."""

    roles: Annotated[tuple[str, ...], Field(min_length=1)]
    may: Annotated[tuple[Right, ...], Field(min_length=1)]
    runbooks: tuple[str, ...] = Field((), description="names, `*` stands for anything; empty: all")
    hosts: str = Field("", description="a host set; empty: all")


class Permissions:
    """The rules of one configuration."""

    def __init__(
        self,
        rules: Sequence[Permission],
        people: Mapping[str, Person],
        inventory: Inventory,
        groups: Groups | None = None,
    ) -> None:
        """Read the host set of every rule; `groups` are only named to those who ask whom to ask.

        Raises:
            Misplaced: when a rule names hosts that are not there.

        """
        self._people = people
        self._groups = groups or {}
        self._rules: list[tuple[Permission, frozenset[str] | None]] = []
        for index, rule in enumerate(rules):
            try:
                hosts = inventory.covers(rule.hosts) if rule.hosts else None
            except SickbayError as error:
                raise Misplaced(("permissions", index, "hosts"), error.what, error.advice) from error
            self._rules.append((rule, hosts))

    def has(self, person: Person | None, right: Right) -> bool:
        """Is there anything on which this person has the right?"""
        if person is None:
            return False
        return self._unruled(right) or any(right in rule.may for rule, _ in self._of(person))

    @property
    def ruled(self) -> bool:
        """Is there a rule?"""
        return bool(self._rules)

    def refusal(
        self, person: Person, right: Right, runbook: str = "", hosts: Collection[str] = ()
    ) -> NotAllowed | None:
        """Say who one is, what is missing and whom to ask; None when it is allowed.

        Without `hosts` it is about all of them: it takes a rule for all.
        """
        missing = self._missing(person, right, runbook, hosts)
        if not missing:
            return None
        roles = f"with the role {', '.join(person.roles)}" if person.roles else "without a role"
        deed = DEEDS[right].format(runbook=runbook)
        where = f" on {named(sorted(missing))}" if missing < set(hosts) else ""
        return NotAllowed(
            f"you are {person.name}, {roles}, and may not {deed}{where}",
            advice=self._advice(right, runbook, hosts),
        )

    def allowed(
        self,
        right: Right,
        runbook: str,
        hosts: Collection[str],
        people: Mapping[str, Person] | None = None,
    ) -> dict[str, Person]:
        """Return everybody who has the right there now, of these people or of those in the configuration."""
        return {
            name: person
            for name, person in (self._people if people is None else people).items()
            if not self._missing(person, right, runbook, hosts)
        }

    def anywhere(self, right: Right, runbook: str) -> dict[str, Person]:
        """Return everybody who has the right on some hosts at least."""
        return {
            name: person
            for name, person in self._people.items()
            if self._unruled(right) or any(_grants(rule, right, runbook) for rule, _ in self._of(person))
        }

    def _unruled(self, right: Right) -> bool:
        """Is the right everybody's, because there is no rule?"""
        return not self._rules and right not in GRANTED

    def _missing(self, person: Person, right: Right, runbook: str, hosts: Collection[str]) -> set[str]:
        """Return the hosts that no rule gives this person."""
        if self._unruled(right):
            return set()
        missing = set(hosts) or {""}  # a run without a host takes a rule without one
        for rule, covered in self._of(person):
            if _grants(rule, right, runbook):
                missing -= missing if covered is None else covered
        return missing

    def _of(self, person: Person) -> Iterable[tuple[Permission, frozenset[str] | None]]:
        return (one for one in self._rules if set(one[0].roles) & set(person.roles))

    def _advice(self, right: Right, runbook: str, hosts: Collection[str]) -> str:
        groups = {
            f"somebody of the Slack user group {group}": Person("", roles=tuple(roles))
            for group, roles in self._groups.items()
        }
        may = list(self.allowed(right, runbook, hosts, {**self._people, **groups}))
        rule = f"a rule under `permissions:` in sickbay.yaml with `may: [{right}]` for one of your roles"
        if not may:
            return f"nobody may; it takes {rule}"
        more = f" or {len(may) - _NAMED} more" if len(may) > _NAMED else ""
        return f"ask {', '.join(may[:_NAMED])}{more}, who may; or ask for {rule}"


def _grants(rule: Permission, right: Right, runbook: str) -> bool:
    fits = not rule.runbooks or any(fnmatchcase(runbook, pattern) for pattern in rule.runbooks)
    return right in rule.may and fits
