"""When a schedule is due: a cron expression, and the step from a clock to at most one tick.

The step is pure, so that every jump of a clock can be tested. It holds on to one moment, the cursor: up to there all
ticks are decided. Whatever happened since (nothing, a night switched off, a clock set wrong and set right) one step
runs one tick at most, and the newest at that; what was missed is counted, not made up for. A clock that goes back takes
the cursor with it, and whoever calls remembers which ticks were run, so that none is run twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from hashlib import sha256
from itertools import islice, takewhile
from typing import Annotated, Literal

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator

Missed = Literal["skip", "once"]
"""What becomes of ticks while nobody looked: nothing, or one run for all of them."""

LATE = timedelta(minutes=1)
"""From then on a tick is missed."""

MOST = 100
"""Missed ticks that are counted."""

_SPANS = tuple(timedelta(hours=hours) for hours in (1, 24, 24 * 32, 24 * 366, 24 * 366 * 9))
"""How far back the newest tick is looked for, so that a year away costs no year of ticks."""


def readable(expression: str) -> str:
    """Return a cron expression that can be read and comes true.

    Raises:
        ValueError: saying what is wrong.

    """
    if len(expression.split()) != 5:
        raise ValueError(f"a schedule has five fields (minute hour day month weekday), not {expression!r}")
    try:
        first = next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)), None)
    except (CronSimError, AssertionError, ValueError, TypeError) as error:
        why = f": {str(error).lower()}" if isinstance(error, CronSimError) else ""
        raise ValueError(f"{expression!r} is no schedule{why}") from error
    if first is None:
        raise ValueError(f"{expression!r} never comes")
    return expression


Expression = Annotated[str, AfterValidator(readable)]
"""Five fields as cron has them, such as `*/10 * * * *`."""


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone."""

    expression: str
    zone: tzinfo = UTC

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick after a moment, in UTC."""
        return next(self._after(moment), None)

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """Return the newest tick after `since`, up to and with `until`."""
        for span in _SPANS:
            begin = max(since, until - span)
            found = None
            for tick in self._after(begin):
                if tick > until:
                    break
                found = tick
            if found is not None or begin == since:
                return found
        return None

    def count(self, since: datetime, until: datetime) -> int:
        """Count the ticks after `since`, up to and with `until`, no further than `MOST`."""
        return sum(1 for _ in takewhile(lambda tick: tick <= until, islice(self._after(since), MOST)))

    @cached_property
    def words(self) -> str:
        """The expression as people say it."""
        return CronSim(self.expression, datetime(2026, 1, 1, tzinfo=UTC)).explain()

    def _after(self, moment: datetime) -> Iterator[datetime]:
        for tick in CronSim(self.expression, moment.astimezone(self.zone)):
            at = tick.astimezone(UTC)
            if at > moment:
                yield at


@dataclass(frozen=True, slots=True)
class Schedule:
    """A runbook that is run by the clock."""

    runbook: str
    cron: Cron
    hosts: str = ""
    """A host set; empty: as the runbook says, else the whole fleet."""
    own: bool = True
    """Does the runbook say so itself, and not sickbay.yaml?"""

    def offset(self, since: datetime, jitter: timedelta) -> timedelta:
        """Return by how much its ticks are late on purpose: always the same, and not that of its neighbours."""
        name = f"{self.runbook} {self.cron.expression} {since.isoformat()}"
        part = int.from_bytes(sha256(name.encode()).digest()[:4]) / 2**32
        return jitter * part


@dataclass(frozen=True, slots=True)
class Step:
    """Where a schedule stands now."""

    cursor: datetime
    """Up to here all ticks are decided."""
    tick: datetime | None = None
    """To be run now."""
    missed: int = 0
    """Ticks that are not run any more, at most `MOST`."""


def step(
    cron: Cron, cursor: datetime, now: datetime, missed: Missed, ran: Callable[[datetime], bool]
) -> Step:
    """Go on from the cursor to now; `ran` says which ticks were run before."""
    if now < cursor:
        return Step(now)
    tick = cron.latest(cursor, now)
    if tick is None:
        return Step(cursor)
    passed = cron.count(cursor, tick)
    if missed == "skip" and now - tick > LATE:
        return Step(tick, None, passed)
    return Step(tick, None if ran(tick) else tick, passed - 1)
