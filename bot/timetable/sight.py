"""What a scheduled run saw: of each check on each host whether it is wrong, well, or cannot be told.

What is wrong is so for certain: a check failed, or something is not well. What nobody can tell is neither, whatever
kept it from being told: the verdict `unknown`, a host out of reach, a command that never left. When that is so of most
hosts at once, one cause is likelier than many, mostly one of our own, and the hosts are seen as one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bot.finding import Place
from bot.fleet import named
from bot.language.runbook import Step
from bot.program import ordered
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, RunState, Status
from bot.verdict import Verdict

LEAST, HALF, QUARTER, MANY = 3, 2, 4, 50
"""Hosts are seen as one from so many on, when they are more than half, or as many as nobody reads about one by one; and
then until they are no more than a quarter, so that half a fleet at the edge is not told host by host."""


class How(StrEnum):
    """What can be said."""

    WRONG = "wrong"
    WELL = "well"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen at one place."""

    place: Place
    how: How
    what: str
    """How the place is called."""
    said: str
    hosts: str = ""
    """The host set, when many are seen as one."""


def sights(run: Run, record: Record) -> list[Sight]:
    """Return what a run saw, host by host; what a person cut short saw nothing, and a check left out was not made."""
    if run.cancelled_by is not None or run.state is RunState.CANCELLED:
        return []
    steps = [one for section, one in ordered(run.runbook) if section in ("steps", "verify")]
    return [sight for host in run.hosts for sight in _of_host(run, record, steps, host)]


def _of_host(run: Run, record: Record, steps: Sequence[Step], host: str) -> Iterator[Sight]:
    name, whole = run.runbook.name, Place(run.runbook.name, host)
    made = [(one, last) for one in steps if (last := record.last(one.id, host)) is not None and last.done]
    away = next((last for _, last in made if last.status is Status.UNREACHABLE), None)
    if away is not None:
        yield Sight(whole, How.UNTOLD, host, away.summary)
    elif not made:
        yield Sight(whole, How.UNTOLD, host, f"it was not looked at. {run.reason}".strip())
    elif any(last.sent and last.status in (Status.OK, Status.FAILED) for _, last in made):
        yield Sight(whole, How.WELL, host, "")
    for one, last in made:
        if (how := _how(last)) is not None:
            yield Sight(Place(name, host, one.id), how, one.title, last.summary)


def _how(last: Attempt) -> How | None:
    if last.status in (Status.SKIPPED, Status.UNREACHABLE):
        return None
    if last.verdict is Verdict.UNHEALTHY:
        return How.WRONG
    if last.verdict is Verdict.UNKNOWN or last.status is Status.UNKNOWN or not last.sent:
        return How.UNTOLD
    return How.WELL if last.status is Status.OK else How.WRONG


def together(runbook: str, seen: Iterable[Sight], total: int, *, already: bool) -> Sight:
    """Return what there is to say of all hosts at once; `already`: are they seen as one since before?"""
    first: dict[str, Sight] = {}
    for one in seen:
        if one.how is How.UNTOLD:
            first.setdefault(one.place.host, one)
    place, number = Place(runbook), len(first)
    share = QUARTER if already else HALF
    if number < LEAST or not (number * share > total or number >= MANY):
        return Sight(place, How.WELL, "hosts", "")
    away = sum(not one.place.step for one in first.values())
    cause = "Sickbay's own network or login" if away * 2 > number else "one cause (a tool, the runbook)"
    host, one = next(iter(first.items()))
    title = f"{one.what}: " if one.place.step else ""
    hosts = named(first)
    said = f"{cause} is likelier than as many. {host} says: {title}{one.said}"
    return Sight(place, How.UNTOLD, f"{number} of {total} hosts, {hosts}", said, hosts)
