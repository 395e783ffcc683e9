"""A plan: exactly what a run would do, host by host and batch by batch, before anything is done.

The dry run prints it, the approval card shows it and is bound to its digest, and the engine sends the commands that
stand in it: what was approved is what runs. Where a value or a condition is only known once earlier steps have run,
the plan says so instead of guessing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Decision = Literal["run", "skip", "later"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step on one host."""

    section: str
    step: str
    title: str
    host: str
    """The host whose column this is."""
    decision: Decision
    note: str = ""
    """Why it is skipped, or what it waits to know."""
    on: str = ""
    """Where the command runs, when that is another machine (a load balancer)."""
    says: str = ""
    """The command in short, as a person would write it."""
    text: str = ""
    env: dict[str, str] = field(default_factory=dict)
    timeout: float = 0.0
    mutating: bool = False
    retries: int = 0

    @property
    def changes(self) -> bool:
        """Could it change the host, leaving rescue and clean-up aside?"""
        return self.mutating and self.decision != "skip" and self.section in ("steps", "verify")


@dataclass(frozen=True, slots=True)
class GuardLine:
    """What a guard rail says of a plan, for one host."""

    host: str
    answer: Literal["ok", "would wait", "would refuse"]
    words: str = ""
    """Which rail, and why."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """A value that the plan was made from: once it is another, the plan no longer holds."""

    about: Literal["runbook", "input", "alert", "host set", "host", "look"]
    name: str
    value: Any
    """Plain data."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All entries, in the order of the batches."""

    runbook: str
    runbook_digest: str
    batches: tuple[tuple[str, ...], ...]
    entries: tuple[Entry, ...]
    preconditions: tuple[Precondition, ...] = ()
    members: tuple[str, ...] = ()
    """Hosts of the group of which some must stay ready."""
    without: tuple[tuple[str, str], ...] = ()
    """Hosts whose evidence could not be had, and why: people are asked whether to go on."""

    @property
    def digest(self) -> str:
        """SHA-256 over everything that would be done and what it rests on; approvals are bound to it."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def essence(self) -> str:
        """SHA-256 over what people agree to: what is done, and what the look made of it; not the numbers it saw."""
        rests = [
            {**asdict(one), "value": {**one.value, "facts": None}} if one.about == "look" else asdict(one)
            for one in self.preconditions
        ]
        text = json.dumps({**asdict(self), "preconditions": rests, "without": None}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def changed(self) -> frozenset[str]:
        """The hosts on which something may be changed, leaving rescue aside."""
        return frozenset(entry.host for entry in self.entries if entry.changes)

    @property
    def changes(self) -> bool:
        """Could anything be changed on any host, leaving rescue aside?"""
        return any(entry.changes for entry in self.entries)

    def entry(self, step: str, host: str) -> Entry | None:
        """Return what was planned for a step on a host."""
        return next((entry for entry in self.entries if (entry.step, entry.host) == (step, host)), None)

    def as_json(self) -> dict[str, Any]:
        """Return plain data; `Plan.from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """Read what `as_json` wrote."""
        return cls(
            runbook=data["runbook"],
            runbook_digest=data["runbook_digest"],
            batches=tuple(tuple(batch) for batch in data["batches"]),
            entries=tuple(Entry(**entry) for entry in data["entries"]),
            preconditions=tuple(Precondition(**one) for one in data["preconditions"]),
            members=tuple(data.get("members", ())),
            without=tuple((host, why) for host, why in data.get("without", ())),
        )


def partition(hosts: Sequence[str], sizes: Sequence[int | str]) -> tuple[tuple[str, ...], ...]:
    """Cut hosts into batches: each size once, the last one repeated.

    A share such as `25%` is of all hosts, rounded down, but at least one host, so that a batch never grows past what
    was asked for and always makes headway.
    """
    batches: list[tuple[str, ...]] = []
    rest = list(hosts)
    turn = 0
    while rest:
        count = _size(sizes[min(turn, len(sizes) - 1)], len(hosts))
        batches.append(tuple(rest[:count]))
        rest = rest[count:]
        turn += 1
    return tuple(batches)


def canary(sizes: Sequence[int | str], hosts: int) -> bool:
    """Is the first batch of so many hosts a canary: smaller than one that may follow?"""
    counts = [_size(size, hosts) for size in sizes]
    return bool(counts) and counts[0] < max(counts)


def _size(size: int | str, hosts: int) -> int:
    return size if isinstance(size, int) else max(1, hosts * int(size.rstrip("%")) // 100)


def allowed_failures(limit: int | str, hosts: int) -> int:
    """Return how many hosts may fail: a number as it is, a share of the hosts rounded down."""
    return limit if isinstance(limit, int) else hosts * int(limit.rstrip("%")) // 100
