"""A run: one runbook, on its hosts, once.

A run's position is not stored anywhere: it follows from the attempts recorded (see `program`), so there is no cursor
that a crash could leave wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.language.runbook import Mode, Runbook
from bot.runs.plan import Plan
from bot.verdict import Verdict


class RunState(StrEnum):
    """Where a run stands; the last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEEDS_HUMAN = "needs_human"

    @property
    def ended(self) -> bool:
        """Is it final?"""
        return self not in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)


class Status(StrEnum):
    """How an attempt of a step on a host stands; what a host's result is made of."""

    BEGUN = "begun"
    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    """A mutating command whose end nobody knows: never repeated."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step on one host. `begun` is written before the command leaves, the rest after."""

    run_id: int
    step: str
    host: str
    number: int
    status: Status
    begun_at: datetime
    ended_at: datetime | None = None
    summary: str = ""
    """One line for people."""
    advice: str = ""
    """What to do next, when something is wrong."""
    verdict: Verdict | None = None
    """None: this step judges nothing."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    """What commands printed, up to `effect.KEEP` bytes; at hand only while it is judged, else fetched where it is needed."""
    again: bool = False
    """Not what was wanted: to be tried again while retries are left."""
    sent: bool = True
    """May anything have reached the host? False for what failed while it was made ready here."""

    @property
    def key(self) -> str:
        """Unique by meaning; the host remembers a mutating command under it."""
        return f"{self.run_id}/{self.step}/{self.host}/{self.number}"

    @property
    def done(self) -> bool:
        """Has it ended, in whatever way?"""
        return self.status is not Status.BEGUN

    @property
    def good(self) -> bool:
        """May the host go on to its next step?"""
        return self.status in (Status.OK, Status.SKIPPED)


@dataclass(frozen=True, slots=True)
class Requester:
    """Who wants the run: a person, or an alert through its route."""

    name: str
    """What people read: a name, or `alert VLLMStalled`."""
    person: str | None = None
    """The key under `people:`; None for alerts and strangers."""
    via: str = "cli"
    """slack, cli, alert, or schedule."""
    door: str = ""
    """Where a person came in, for the record: with the account that said to be them."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run's row."""

    id: int
    incident_id: int | None
    runbook: Runbook
    """As it was when the run began; later edits of the file do not reach it."""
    runbook_digest: str
    hosts: tuple[str, ...]
    inputs: Mapping[str, Any]
    alert: Mapping[str, Any] | None
    """The alert as runbooks see it (`alert.labels` …), if one started the run."""
    mode: Mode
    requester: Requester
    state: RunState
    channel: str
    created_at: datetime
    started_at: datetime | None = None
    deadline: datetime | None = None
    """When the part now running must end; waiting for people does not count."""
    ended_at: datetime | None = None
    wake_at: datetime | None = None
    fence: int = 0
    look_from: int = 1
    """The first number of attempts that count: a run that has waited for a lock begins anew."""
    waits: str = ""
    """What it waits for while another run has what it needs."""
    looks: Mapping[str, int] = field(default_factory=dict)
    """The same for the look at a single host, where what was seen had grown old."""
    cancelled_by: str | None = None
    lowered: str = ""
    """Why its mode is more careful than the runbook's."""
    plan: Plan | None = None
    former: Plan | None = None
    """The plan that it had before it began anew; where the new one comes to the same, this one stands."""
    fallen: str = ""
    """Why a plan that nobody was asked about no longer held, before its first change; it never holds again."""
    reason: str = ""
    """Why it ended as it did."""
    verdict: Verdict | None = None
    host_set: str = ""
    """How the hosts were written, such as `@serving`; empty: nobody wrote a set."""
    begun_at: datetime | None = None
    """When its first change was about to leave; from then on the plan is not voided any more."""
    thread: str | None = None
    """Where the asker wants the result, opaque to all but the door it came through."""
