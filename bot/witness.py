"""What a host wrote down itself, at the times that this was by our clock: what the driver said, a container's last words.

Both come out of the evidence. Where the host's clock was not measured, or a time does not say when it was, the line
stands with the host's own words for it and no time of ours.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bot import clock
from bot.clock import Offset
from bot.facts import FactsError, capture, kernel_log
from bot.report import Seen

BEFORE = timedelta(hours=6)
"""How long before the incident something that a host wrote is still told."""
LINES = 200
"""Lines of the driver that are told of one evidence."""
WORDS = 30
"""The last lines of a container's log that are told."""
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


def offset(told: Mapping[str, Any]) -> Offset | None:
    """Read the offset that stands in the event of a capture; None: unknown."""
    said = told.get("clock") or {}
    if "offset" not in said:
        return None
    booted = said.get("booted")
    return Offset(
        said["offset"],
        said["within"],
        datetime.fromisoformat(booted) if booted else None,
        said.get("uptime", 0.0),
    )


def seen(
    host: str, parts: Iterable[capture.Part], by: Offset | None, opened: datetime
) -> Iterator[Seen | None]:
    """Yield what a host wrote down with a time: what the driver said, and a container's last words; None: left out."""
    for part in parts:
        if part.name == "kernel_log" and part.state in ("kept", "late"):
            try:
                found = kernel_log.parse(part.text).events
            except FactsError:
                continue
            lines = [(one.time or "", _driver(one)) for one in found]
            yield from _corrected(host, part.name, lines, by, opened, LINES)
        elif part.name == "logs" and part.state in ("kept", "late"):
            lines = [_stamped(line) for line in part.text.splitlines() if line.strip()]
            yield from _corrected(host, part.name, lines, by, opened, WORDS)


def _driver(event: kernel_log.KernelEvent) -> str:
    code = f"{event.kind.replace('sxid', 'SXid').replace('xid', 'Xid')} {event.code}: " if event.code else ""
    where = f" ({event.bus_id})" if event.bus_id else ""
    return f"{code}{event.meaning}{where}"


def _stamped(line: str) -> tuple[str, str]:
    """Cut the time off that docker puts before each line of a container's log."""
    first, _, rest = line.partition(" ")
    return (first, rest) if _STAMP.match(first) else ("", line)


def _corrected(
    host: str,
    source: str,
    lines: Sequence[tuple[str, str]],
    by: Offset | None,
    opened: datetime,
    most: int,
) -> Iterator[Seen | None]:
    yield from [None] * (len(lines) - most)
    for raw, text in lines[-most:]:
        found = clock.ours(raw, by) if by is not None and raw else None
        if found is not None and found.at < opened - BEFORE:
            yield None
            continue
        yield Seen(
            host=host,
            source=source,
            raw=raw,
            at=found.at if found else None,
            within=found.within if found else None,
            text=text[:500],
        )
