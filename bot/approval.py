"""An approval: who may say yes to a plan, until when, and what has been said.

Judged by the clock and the rows, not by who woke first: a click after the deadline is refused even when nobody has
yet noticed that the deadline passed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from bot.run import Requester
from bot.runbook import ApprovalRule

Answer = Literal["approve", "deny"]
ApprovalState = Literal["pending", "approved", "denied", "expired", "void"]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody known by `people:` in the configuration."""

    name: str
    slack: str = ""
    """Slack user id, such as U0ALICE."""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's answer."""

    person: str
    answer: Answer
    at: datetime


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

    def refusal(self, person: Person, answer: Answer, now: datetime) -> str | None:
        """Say why this person's answer does not count now; None when it does."""
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
        if not set(self.rule.from_) & set(person.roles):
            return (
                f"{person.name} may not decide this: it takes one of the roles {', '.join(self.rule.from_)}."
            )
        if answer == "approve" and person.name == self.requester.person and not self.rule.allow_requester:
            return "You asked for this run, so somebody else has to approve it."
        if any(decision.person == person.name for decision in self.decisions):
            return "You have answered already; somebody else is needed too."
        return None

    def lapsed(self, people: Mapping[str, Person]) -> tuple[str, ...]:
        """Return whose approval no longer counts: they may not decide now, whatever they might when they did."""
        if self.state != "pending":
            return ()
        return tuple(
            decision.person
            for decision in self.decisions
            if (person := people.get(decision.person)) is None or not set(self.rule.from_) & set(person.roles)
        )

    def without(self, lapsed: Collection[str]) -> "Approval":
        """Return the question as it stands once these people's approvals no longer count."""
        return replace(self, decisions=tuple(one for one in self.decisions if one.person not in lapsed))

    @property
    def needed(self) -> int:
        """How many more people have to approve."""
        return max(0, self.rule.required - sum(one.answer == "approve" for one in self.decisions))

    def state_after(self, answer: Answer) -> ApprovalState:
        """Return the state once this answer is added: one deny ends it, enough approvals pass it."""
        if answer == "deny":
            return "denied"
        yes = 1 + sum(decision.answer == "approve" for decision in self.decisions)
        return "approved" if yes >= self.rule.required else "pending"
