"""How far the hosts of one section have come, each in its own column of steps: pure."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bot.language.runbook import Step
from bot.runs.record import Record
from bot.runs.run import Attempt, Status

TO_THE_END = ("always", "evidence")
"""Sections of which a failed step does not keep the next from being tried."""


@dataclass(frozen=True, slots=True)
class Call:
    """Do this step on this host; `number` counts from 1, and a number that has begun is to be resumed."""

    section: str
    step: Step
    host: str
    number: int
    first: int = 1
    """The number of its first try."""
    left_out: str = ""
    """Why nothing is done after all."""

    @property
    def tries(self) -> int:
        """How many tries there will have been with this one."""
        return self.number - self.first + 1


@dataclass(slots=True)
class Column:
    """How far the hosts of one section have come."""

    calls: list[Call] = field(default_factory=list)
    due: list[datetime] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Is there still something to do, now or later?"""
        return bool(self.calls or self.due)

    def spare(self, mutates: Container[str], hosts: Mapping[str, str], record: Record) -> "Column":
        """Leave out what would change one of these hosts, each for its reason; what has begun goes on."""
        self.calls = [
            replace(call, left_out=hosts[call.host])
            if call.host in hosts and call.step.id in mutates and record.last(call.step.id, call.host) is None
            else call
            for call in self.calls
        ]
        return self


def walk(
    section: str,
    steps: Sequence[Step],
    hosts: Iterable[str],
    record: Record,
    now: datetime,
    *,
    stopping: bool = False,
) -> Column:
    """Find what is next in each host's column; when stopping, only what has already begun is brought to its end."""
    column = Column()
    for host in hosts:
        for step in steps:
            last, first = record.last(step.id, host), record.first(step.id, host)
            if last is not None and not last.done:
                column.calls.append(Call(section, step, host, last.number, first))
                break
            retry = last is not None and last.again and _once_more(step, last, last.number - first + 1)
            if stopping and (last is None or retry or not last.good):
                column.dropped.append(host)
                break
            if last is None:
                column.calls.append(Call(section, step, host, first, first))
                break
            if retry:
                due = _due(last.ended_at or now, step.delay, now)
                if due <= now:
                    column.calls.append(Call(section, step, host, last.number + 1, first))
                else:
                    column.due.append(due)
                break
            if not last.good and section not in TO_THE_END:
                column.dropped.append(host)
                break
        else:
            column.passed.append(host)
    return column


def _due(ended: datetime, delay: timedelta, now: datetime) -> datetime:
    """Return when the next try is due; what ended further ahead than the pause is of a clock that was set back since."""
    return now if ended > now + delay else ended + delay


def repeatable(step: Step, tries: int) -> bool:
    """May this attempt be followed by another although nobody knows how it ended? One more than those it has anyway."""
    return step.idempotent and tries <= step.retries + 1


def _once_more(step: Step, last: Attempt, tries: int) -> bool:
    if last.status is Status.UNKNOWN:
        return repeatable(step, tries)
    return tries <= step.retries
