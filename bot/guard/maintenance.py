"""Maintenance windows: when people work on machines, automation keeps out.

A window is once, from `start` to `end`, or `weekly`, by the clock of its time zone: `Sun 02:00-04:00`; one that ends
before it begins ends on the next day. Inside it alerts start nothing on its hosts; people may act all the same.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, Field, field_validator, model_validator

from bot.errors import SickbayError
from bot.language.inputs import Noun

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(r"([A-Za-z]{3}) ([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")
_MINUTES = 24 * 60


class Window(Noun):
    """One line of `maintenance:`."""

    hosts: str = Field(min_length=1, description="a host set")
    start: AwareDatetime | None = Field(None, description="with its offset: 2026-08-01T22:00:00Z")
    end: AwareDatetime | None = None
    weekly: str | None = Field(None, description="such as Sun 02:00-04:00")
    timezone: str = Field("UTC", description="of `weekly`, such as Europe/Berlin")
    reason: str = Field(min_length=1, max_length=200)

    @field_validator("start", "end", mode="before")
    @classmethod
    def _written(cls, moment: object) -> object:
        """Take times as ISO text only: YAML reads a bare one without its offset."""
        if not isinstance(moment, str):
            return moment
        return datetime.fromisoformat(moment)

    @field_validator("weekly")
    @classmethod
    def _weekly(cls, weekly: str | None) -> str | None:
        if weekly is not None:
            _week(weekly)
        return weekly

    @field_validator("timezone")
    @classmethod
    def _zone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {timezone!r}; write one like Europe/Berlin") from error
        return timezone

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.weekly is None) == (self.start is None and self.end is None):
            raise ValueError("a window has either `start` and `end`, or `weekly`")
        if self.weekly is None and (self.start is None or self.end is None or self.end <= self.start):
            raise ValueError("`start` and `end` are both needed, and `end` is after `start`")
        return self

    def until(self, now: datetime) -> datetime | None:
        """Return when the window that is open now closes; None when none is open."""
        if self.weekly is None:
            inside = self.start is not None and self.end is not None and self.start <= now < self.end
            return self.end if inside else None
        day, begin, end = _week(self.weekly)
        local = now.astimezone(ZoneInfo(self.timezone))
        for back in (0, 1):
            first = local.date() - timedelta(days=back)
            opens, closes = _at(first, begin, self.timezone), _at(first, end, self.timezone)
            if first.weekday() == day and opens <= now < closes:
                return closes
        return None


def _week(weekly: str) -> tuple[int, int, int]:
    """Read a weekly window as day, first and last minute of that day; the last may lie on the next one.

    Raises:
        ValueError: when it is none.

    """
    found = _WEEKLY.fullmatch(weekly)
    if found is None or found[1].lower() not in _DAYS:
        raise ValueError(f"expected a day and two times like `Sun 02:00-04:00`, not {weekly!r}")
    begin, end = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    if end > _MINUTES or end == begin:
        raise ValueError(f"{weekly!r} is no stretch of time")
    return _DAYS.index(found[1].lower()), begin, end if end > begin else end + _MINUTES


def _at(day: date, minute: int, zone: str) -> datetime:
    """Return the moment of a minute of a day by the clock on the wall."""
    wall = datetime.combine(day, time(), ZoneInfo(zone)) + timedelta(
        minutes=minute
    )  # same-zone sums go by the wall
    return wall.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows, and which hosts they mean."""

    all: Sequence[Window] = ()
    covers: Callable[[str], frozenset[str]] = lambda _: frozenset()

    def at(self, host: str, now: datetime) -> str:
        """Say which maintenance goes on at a host; empty: none."""
        for window in self.all:
            if (until := window.until(now)) is not None and self._on(window, host):
                return f"{host} is in maintenance until {until:%Y-%m-%d %H:%M} UTC: {window.reason}"
        return ""

    def over(self, hosts: Iterable[str], now: datetime) -> list[str]:
        """Say which maintenance goes on at these hosts."""
        return [words for host in hosts if (words := self.at(host, now))]

    def _on(self, window: Window, host: str) -> bool:
        """Is the window about the host? One whose set means nothing any more is about every host."""
        try:
            return host in self.covers(window.hosts)
        except SickbayError:
            return True
