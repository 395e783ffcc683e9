"""An approval: who may say yes to a plan, until when, and what has been said.

Judged by the clock and the rows, not by who woke first: a click after the deadline is refused even when nobody has
yet noticed that the deadline passed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from bot.language.runbook import ApprovalRule
from bot.runs.run import Requester

BROKEN = "approval.glass_broken"
"""The event that somebody decided alone, past the rule."""
Answer = Literal["approve", "deny"]
ApprovalState = Literal["pending", "approved", "denied", "expired", "void"]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody known by `people:` in the configuration, or by a Slack user group that gives a role."""

    name: str
    """Who is known by a user group alone is `@` and the Slack user id: handles change and can be chosen."""
    slack: str = ""
    """Slack user id, such as U0ALICE."""
    roles: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()
    """User names of the operating system in the terminal; empty: the name itself."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's answer."""

    person: str
    answer: Answer
    at: datetime
    glass: str = ""
    """Why they decided alone, past the rule; empty: as the rule says."""
    via: str = ""
    """Where they said it."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to people about one plan."""

    run_id: int
    digest: str
    rule: ApprovalRule
    requester: Requester
    expires_at: datetime
    state: ApprovalState
    decisions: tuple[Decision, ...] = ()
    note: str = ""
    """Why it is void, or whose approval no longer counts."""

    def state_at(self, now: datetime) -> ApprovalState:
        """Return the state, knowing that a pending question ends at its deadline."""
        return "expired" if self.state == "pending" and now >= self.expires_at else self.state

    @property
    def glass(self) -> Decision | None:
        """Return the answer of whoever broke glass."""
        return next((one for one in self.decisions if one.glass), None)

    def refusal(self, person: Person, answer: Answer, now: datetime, *, alone: bool = False) -> str | None:
        """Say why this person's answer does not count now; None when it does.

        Who decides `alone` is past the rule of roles, requester and number; not past the end of the question.
        """
        state = self.state_at(now)
        if state == "expired":
            return f"This question closed at {self.expires_at:%H:%M:%S} UTC. Start the runbook again to ask anew."
        if state == "void":
            return f"This plan is no longer asked about: {self.note}"
        if state != "pending":
            last = self.decisions[-1]
            word = "approved" if last.answer == "approve" else "denied"
            stop = (
                f" To stop it, cancel run {self.run_id}." if (state, answer) == ("approved", "deny") else ""
            )
            return f"{last.person} has already {word} this at {last.at:%H:%M:%S} UTC.{stop}"
        if alone:
            return None
        if not self._named(person):
            return (
                f"{person.name} may not decide this: it takes one of the roles {', '.join(self.rule.from_)}."
            )
        if answer == "approve" and person.name == self.requester.person and not self.rule.allow_requester:
            return "You asked for this run, so somebody else has to approve it."
        if any(decision.person == person.name for decision in self.decisions):
            return "You have answered already; somebody else is needed too."
        return None

    def lapsed(self, people: Mapping[str, Person | None]) -> tuple[str, ...]:
        """Return whose approval no longer counts: they may not decide now, whatever they might when they did.

        `people` are those who were looked at: None for who has no right any more. Whoever is not among them answered
        since then.
        """
        if self.state != "pending":
            return ()
        return tuple(
            decision.person
            for decision in self.decisions
            if decision.person in people and not self._named(people[decision.person])
        )

    def _named(self, person: Person | None) -> bool:
        return person is not None and bool(set(self.rule.from_) & set(person.roles))

    def without(self, lapsed: Collection[str]) -> "Approval":
        """Return the question as it stands once these people's approvals no longer count."""
        return replace(self, decisions=tuple(one for one in self.decisions if one.person not in lapsed))

    @property
    def needed(self) -> int:
        """How many more people have to approve."""
        return max(0, self.rule.required - sum(one.answer == "approve" for one in self.decisions))

    def state_after(self, answer: Answer, *, alone: bool = False) -> ApprovalState:
        """Return the state once this answer is added: one deny ends it, enough approvals pass it."""
        if answer == "deny":
            return "denied"
        if alone:
            return "approved"
        yes = 1 + sum(decision.answer == "approve" for decision in self.decisions)
        return "approved" if yes >= self.rule.required else "pending"
