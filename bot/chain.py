"""The chain of the timeline: every event carries a hash over what it says and over the hash of the event before it.

So an event cannot be edited, removed, put in or moved without one that does not fit, and the hash of the newest event
stands for all of them: whoever noted it elsewhere can say later whether what was there then is still there. It does
not keep anybody who may write the file from writing the whole of it anew; the noted hash does.

The hash is over what is stored, byte by byte, not over what it means: so it can be checked without knowing any kind of
event, and by other programs.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

COLUMNS = ("id", "at", "kind", "incident_id", "run_id", "host", "step", "data")
"""What is hashed, in this order."""
BEGIN = "0" * 64
"""What stands before the first event."""
SHORTEST = 16
"""Letters of a noted hash that are enough to find it."""

Value = int | str | bytes | None


def link(before: str, values: Iterable[Value]) -> str:
    """Return the hash of an event: over the hash before it and its values, each with its type and length."""
    parts = [before.encode()]
    for value in values:
        if value is None:
            parts.append(b"-")
        elif isinstance(value, int):
            parts.append(b"i%d;" % value)
        else:
            raw = value if isinstance(value, bytes) else value.encode()
            parts.append(b"t%d:%s" % (len(raw), raw))
    return hashlib.sha256(b"".join(parts)).hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it lies in the file: texts as bytes, because nobody says that they are still texts."""

    values: tuple[Value, ...]
    """In the order of `COLUMNS`."""
    hash: bytes
    strange: str = ""
    """Which column holds something of another type than was ever written there."""

    @property
    def id(self) -> int:
        """Its number."""
        return self.values[0] if isinstance(self.values[0], int) else 0

    @property
    def words(self) -> str:
        """Say which event this is: number, when, what, where."""
        at, kind, _, run, host = (self._text(index) for index in (1, 2, 3, 4, 5))
        about = [f"at {_moment(at)}", kind, f"run {run}" if run else "", host]
        return f"event {self.id} ({', '.join(part for part in about if part)})"

    def _text(self, index: int) -> str:
        value = self.values[index]
        if value is None:
            return ""
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
        return "".join(letter if letter.isprintable() else "?" for letter in text[:80])


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk along the chain found."""

    events: int
    """How many fit, from the first."""
    head: str
    """The hash of the last that fits; `BEGIN` when there is none."""
    fault: str = ""
    """What does not fit, and where; empty: all of it does."""
    noted: int | None = None
    """The event whose hash was noted, if it was met."""
    whole: bool = True
    """Was the end reached? A fault that a whole chain has is not in an event."""


def walk(events: Iterable[Stored], written: int, noted: str = "") -> Walked:
    """Go along the chain to its end, or to the first event that does not fit.

    `written` is the number of the newest event ever written, as the database counts; `noted` is a hash, or its
    beginning, to look for.
    """
    before, count, met = BEGIN, 0, None
    last: Stored | None = None
    for event in events:
        fault = _fault(last, before, event)
        if fault:
            return Walked(count, before, fault, met, whole=False)
        before, last, count = event.hash.decode(), event, event.id
        if noted and met is None and before.startswith(noted):
            met = event.id
    if count < written:
        return Walked(
            count, before, f"{_missing(count + 1, written)} at the end, {_after(last)}", met, whole=False
        )
    return Walked(count, before, "", met)


def _fault(last: Stored | None, before: str, event: Stored) -> str:
    expected = 1 if last is None else last.id + 1
    if event.id > expected:
        return f"{_missing(expected, event.id - 1)}, between {_between(last)} and {event.words}"
    if event.id < expected:
        return f"{event.words} has a number that no event can have"
    if event.strange:
        return f"{event.words} was changed: its `{event.strange}` holds what is never written there"
    if link(before, event.values).encode() != event.hash:
        return (
            f"{event.words} was changed or put in, or the one before it ({_between(last)}) was: "
            "its hash does not fit"
        )
    return ""


def _missing(first: int, last: int) -> str:
    return f"event {first} is missing" if first == last else f"events {first} to {last} are missing"


def _between(last: Stored | None) -> str:
    return "the beginning" if last is None else last.words


def _after(last: Stored | None) -> str:
    return "and there is no other" if last is None else f"after {last.words}"


def _moment(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return text or "no time"


def stored(row: Sequence[Any]) -> Stored:
    """Read a row of pairs (type in the database's words, value), one for each of `COLUMNS` and one for the hash."""
    types, values = row[0::2], row[1::2]
    strange = [
        column for (column, wanted), found in zip(_TYPES.items(), types, strict=True) if found not in wanted
    ]
    read = tuple(
        int(value) if kind == "integer" else value for kind, value in zip(types, values, strict=True)
    )
    return Stored(read[:-1], bytes(values[-1] or b""), strange[0] if strange else "")


_NUMBER, _TEXT, _NOTHING = "integer", "text", "null"
_TYPES: dict[str, tuple[str, ...]] = {
    "id": (_NUMBER,),
    "at": (_TEXT,),
    "kind": (_TEXT,),
    "incident_id": (_NUMBER, _NOTHING),
    "run_id": (_NUMBER, _NOTHING),
    "host": (_TEXT, _NOTHING),
    "step": (_TEXT, _NOTHING),
    "data": (_TEXT,),
    "hash": (_TEXT,),
}
"""What is ever written in a column; the order is that of `COLUMNS`."""
