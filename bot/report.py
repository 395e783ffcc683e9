"""The report of an incident: what was seen, decided and done, when, where and how; the shape of its JSON.

For whoever was not there: a review, an auditor, another program. `sickbay schema report` prints this as JSON Schema.
`version` is raised when something that stands here changes its meaning or goes; what is added does not raise it. All
times are UTC, by the clock of the machine where Sickbay runs; what a host wrote down itself stands beside what that is
by this clock, with how sure it is.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

VERSION: Literal[1] = 1


class Piece(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Alert(Piece):
    """An alert of the incident, its newest state."""

    name: str
    source: str
    fingerprint: str
    status: str
    """firing or resolved."""
    starts_at: datetime
    """As the monitor says."""
    ends_at: datetime | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    url: str


class Clock(Piece):
    """A host's clock, measured while evidence was taken there."""

    host: str
    run: int
    at: datetime
    offset: float | None
    """Seconds that it was ahead; behind is negative. None: unknown."""
    within: float | None
    """Seconds by which the offset may be wrong, either way."""
    unknown: str
    """Why nobody knows."""


class Seen(Piece):
    """Something that a host wrote down, with its own time."""

    host: str
    source: str
    """kernel_log or logs (of the container)."""
    raw: str
    """The time as the host wrote it; empty: none."""
    at: datetime | None
    """The same by our clock; None: nobody can say."""
    within: float | None
    text: str


class Evidence(Piece):
    """What was kept of a host before it was changed, or where a step asked for it."""

    host: str
    step: str
    number: int
    taken_at: datetime
    sha256: str
    """Over what was asked, where, when, and what came."""
    holds: bool
    """Made again from what is stored, is the hash the same?"""
    parts: Mapping[str, str]
    """By name, how each ended: kept, not there, failed, late or skipped."""
    seen: tuple[Seen, ...]
    left_out: int
    """Lines like those of `seen` that are not told, because they are older or too many."""


class PlanStep(Piece):
    """What was to be done on one host."""

    section: str
    step: str
    title: str
    host: str
    on: str
    """The machine that the command goes to, when that is another."""
    decision: str
    """run, skip or later."""
    note: str
    says: str
    command: str
    env: Mapping[str, str]
    changes: bool
    timeout: float
    retries: int


class Plan(Piece):
    """What was shown to people and carried out."""

    digest: str
    fits: bool
    """Is it the plan whose digest the timeline has?"""
    batches: tuple[tuple[str, ...], ...]
    steps: tuple[PlanStep, ...]
    without: tuple[tuple[str, str], ...]
    """Hosts whose evidence could not be had, and why."""
    text: str
    """The plan as people were shown it."""


class Decision(Piece):
    """What a person said about a plan, or what became of the question."""

    at: datetime
    by: str
    via: str
    """slack, cli or cli with the account that it was said from: how it came in; empty: nobody said anything."""
    answer: str
    """approve or deny; void, expired or lapsed where nobody answered or an answer no longer counts."""
    counted: bool
    why: str
    digest: str
    """Of the plan that it was about."""


class Guard(Piece):
    """What a guard rail said when a host was to be changed."""

    at: datetime
    host: str
    rail: str
    """Which, such as capacity, freeze, cooldown."""
    reaction: str
    """What came of it, such as queue, refuse, escalate."""
    why: str


class Printed(Piece):
    """What a command wrote to one stream."""

    bytes: int
    text: str
    cut: bool
    """Is some of it left out here?"""


class Try(Piece):
    """One try of one step on one host."""

    section: str
    step: str
    title: str
    host: str
    on: str
    number: int
    status: str
    begun_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    summary: str
    advice: str
    verdict: str | None
    changes: bool
    """May the command change the host?"""
    sent: bool
    """Did anything reach the host, or may it have?"""
    command: str
    """Its text; values from outside are in `env`. Empty: none was sent, or it is not known any more."""
    sha256: str
    """Over the text, as the timeline has it."""
    env: Mapping[str, str]
    stdout: Printed
    stderr: Printed


class Run(Piece):
    """A run of a runbook for the incident."""

    id: int
    runbook: str
    runbook_digest: str
    kind: str
    mode: str
    lowered: str
    """Why the mode is more careful than the runbook's."""
    by: str
    via: str
    hosts: tuple[str, ...]
    inputs: Mapping[str, Any]
    state: str
    reason: str
    verdict: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    plan: Plan | None
    decisions: tuple[Decision, ...]
    guard: tuple[Guard, ...]
    """Where a rail kept the run from a change; where none did, nothing stands here."""
    evidence: tuple[Evidence, ...]
    tries: tuple[Try, ...]


class Told(Piece):
    """One event of the timeline."""

    id: int
    at: datetime
    kind: str
    run: int | None
    host: str | None
    step: str | None
    text: str
    """The event as a sentence."""
    data: Mapping[str, Any]
    hash: str


class Message(Piece):
    """A message to people."""

    about: str
    """incident:7; again:346, of the event that it was opened again; run:12, approval:12, plan:12 or output:12; alarm:345 or glass:345, of the event that broke glass."""
    state: str
    """posted, posting (nobody knows whether it arrived), refused or gone."""
    channel: str
    posted_at: datetime | None


class Chain(Piece):
    """The chain of hashes that the whole timeline is, when this was written."""

    events: int
    """How many fit, from the first."""
    head: str
    """The hash of the last of them: note it, and `sickbay audit verify --head` can tell later what became of it."""
    fault: str
    """The first that does not fit; empty: all of them do."""


class Report(Piece):
    """An incident, told from its first alert to its end."""

    version: Literal[1]
    written_at: datetime
    id: int
    title: str
    severity: str
    state: str
    host: str | None
    opened_at: datetime
    resolved_at: datetime | None
    recovered_by: int | None
    """The run that verified recovery."""
    note: str
    """Why nothing was done, where no route named a runbook."""
    alerts: tuple[Alert, ...]
    clocks: tuple[Clock, ...]
    runs: tuple[Run, ...]
    timeline: tuple[Told, ...]
    messages: tuple[Message, ...]
    chain: Chain
