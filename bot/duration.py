"""Durations as people write them: a number with its unit, `30s`, `10m`, `2h`, `7d`; a bare number is refused."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse(text: Any) -> timedelta:
    """Read `90s`; raise ValueError with the form wanted."""
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or not (match := re.fullmatch(_PATTERN, text)):
        raise ValueError(f"a duration needs its unit, like 30s, 10m or 2h, not {text!r}")
    unit = match[2]
    try:
        return timedelta(seconds=float(text.removesuffix(unit)) * _UNITS[unit])
    except OverflowError:
        raise ValueError(f"no duration is that long: {text!r}") from None


def write(duration: timedelta) -> str:
    """Write a duration in the largest unit that keeps it exact: `10m`."""
    seconds = duration.total_seconds()
    for unit in ("d", "h", "m", "s"):
        count = seconds / _UNITS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{round(seconds * 1000)}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse),
    PlainSerializer(write),
    WithJsonSchema({"type": "string", "pattern": _PATTERN, "examples": ["30s", "10m", "2h"]}),
]
