"""Clocks of hosts: how far one is off from ours, and what that makes of the times that a host writes.

A host tells its time at the beginning and at the end of a command that is sent to it anyway. It was told after the
command was sent and before its outcome was here, so the offset lies between two bounds, whatever the way there and the
way back took: half of the round trip is what nobody can know. A clock that nobody measured is unknown, not right.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_READING = re.compile(r"(\d{9,10})(?!\d)(?:\.(\d{1,9}))?", re.ASCII)
_UPTIME = re.compile(r"\d{1,10}(?:\.\d{1,6})?", re.ASCII)
_SINCE_BOOT = re.compile(r"\s*\d{1,10}\.\d{1,9}\s*", re.ASCII)
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000_000
_DRIFT = 50e-6
"""Share of its uptime by which the clock of the kernel's log may have gone astray: nobody sets it right."""
_SLACK = 0.1
"""Seconds between a host's look at its clock and at its uptime."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a host's clock said, in nanoseconds since 1970."""

    at: int
    grain: int
    """It was that time or up to so many nanoseconds later: `date` may know whole seconds only."""
    uptime: float | None = None
    """Seconds since the host had booted, then."""


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a host's clock is ahead of ours, in seconds; behind is negative."""

    seconds: float
    within: float
    """By how much that may be wrong, either way."""
    booted: datetime | None = None
    """When the host booted, by our clock."""
    uptime: float = 0.0
    """Seconds since then."""


@dataclass(frozen=True, slots=True)
class Ours:
    """A moment by our clock, and by how many seconds it may be wrong, either way."""

    at: datetime
    within: float


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """The offset is unknown."""

    why: str


def reading(said: str, uptime: str = "") -> Reading | None:
    """Read `date +%s.%N` and the first number of /proc/uptime; None when it is no time."""
    found = _READING.match(said)
    if found is None:
        return None
    digits = found[2] or ""
    at = int(found[1]) * _SECOND + int(digits.ljust(9, "0"))
    since = float(uptime) if _UPTIME.fullmatch(uptime) else None
    return Reading(at, 10 ** (9 - len(digits)), since)


def measure(
    sent: datetime, came: datetime, first: Reading, last: Reading | None = None
) -> Offset | Unmeasured:
    """Return the offset from a command sent and come back by our clock, and what the host's said meanwhile."""
    last = last or first
    if came < sent:
        return Unmeasured("the clock of Sickbay was set back while it was measured")
    if last.at + last.grain <= first.at:
        return Unmeasured("the host's clock was set back while it was measured")
    most = first.at + first.grain - _nanoseconds(sent)
    least = last.at - _nanoseconds(came)
    if least > most:
        return Unmeasured("the host's clock was set forward while it was measured")
    middle = round((least + most) / 2 / 1000)
    within = math.ceil(max(most - middle * 1000, middle * 1000 - least) / 1000)
    if first.uptime is None:
        return Offset(middle / 1e6, within / 1e6)
    booted = _BEGIN + timedelta(microseconds=first.at // 1000 - middle, seconds=-first.uptime)
    return Offset(middle / 1e6, within / 1e6, booted, first.uptime)


def ours(text: str, offset: Offset) -> Ours | None:
    """Return when something was by our clock that a host wrote down; None when the text does not say when.

    It is an ISO time with its zone, or seconds since boot as the kernel's log writes them. A time without a zone or
    without a year could be several.
    """
    if _SINCE_BOOT.fullmatch(text):
        if offset.booted is None:
            return None
        within = offset.within + _SLACK + _DRIFT * offset.uptime
        return Ours(offset.booted + timedelta(seconds=float(text)), within)
    try:
        said = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if said.tzinfo is None or said.year < 1971 or said.year > 9000:
        return None
    return Ours(said.astimezone(UTC) - timedelta(seconds=offset.seconds), offset.within)


def _nanoseconds(at: datetime) -> int:
    return (at - _BEGIN) // _MICROSECOND * 1000
