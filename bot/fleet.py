"""What many hosts said, short enough to be read: hosts that said the same are one line, the odd ones are named.

Two hosts rarely answer alike to the letter: one has 61 °C and the other 62. So what is equal is folded first; if that
leaves more lines than anybody reads, answers that differ in their numbers only are put together, with the span of each
number; and what is still too much is counted, with its hosts.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bot.inventory import fold

Kind = TypeVar("Kind", bound=Hashable)

_DIGITS = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"([^0-9]*)([0-9]{1,15}(?:\.[0-9]{1,15})?)([^0-9]*)")


@dataclass(frozen=True, slots=True)
class Group(Generic[Kind]):
    """Hosts whose answers are shown as one."""

    kind: Kind
    """What must never be put together with another: a status, a verdict."""
    text: str
    hosts: tuple[str, ...]
    """In natural order."""
    answers: int = 1
    """How many different texts."""


@dataclass(frozen=True, slots=True)
class Folded(Generic[Kind]):
    """All hosts, each once."""

    groups: tuple[Group[Kind], ...]
    """The largest first, within the rank of their kind."""
    rest: tuple[str, ...] = ()
    """Hosts whose answers are too many to be shown."""
    others: int = 0
    """How many different answers those gave."""


def folded(
    answers: Iterable[tuple[str, Kind, str]],
    *,
    most: int | None = None,
    rank: Callable[[Kind], int] = lambda _: 0,
) -> Folded[Kind]:
    """Fold what hosts answered (host, kind, text) into at most `most` groups; kinds of a lower rank come first."""
    told = {host: (kind, text) for host, kind, text in answers}
    groups = _alike(told, lambda text: text)
    if most is not None and len(groups) > most:
        groups = _alike(told, lambda text: _DIGITS.sub("#", text))
    groups.sort(key=lambda group: (rank(group.kind), -len(group.hosts), natural(group.hosts[0])))
    if most is None or len(groups) <= most:
        return Folded(tuple(groups))
    rest = groups[most:]
    hosts = sorted((host for group in rest for host in group.hosts), key=natural)
    return Folded(tuple(groups[:most]), tuple(hosts), sum(group.answers for group in rest))


def _alike(told: dict[str, tuple[Kind, str]], shape: Callable[[str], str]) -> list[Group[Kind]]:
    groups: dict[tuple[Kind, str], dict[str, str]] = {}
    for host, (kind, text) in told.items():
        groups.setdefault((kind, shape(text)), {})[host] = text
    return [
        Group(kind, spanned(texts.values()), tuple(sorted(texts, key=natural)), len(set(texts.values())))
        for (kind, _), texts in groups.items()
    ]


def spanned(texts: Iterable[str]) -> str:
    """Write texts that differ in their digits only as one: `54–71 °C`; what is no plain number becomes `…`."""
    alike = sorted(set(texts))
    if len(alike) == 1:
        return alike[0]
    return " ".join(_word(words) for words in zip(*(text.split(" ") for text in alike), strict=True))


def _word(words: Sequence[str]) -> str:
    if len(set(words)) == 1:
        return words[0]
    numbers = [_NUMBER.fullmatch(word) for word in words]
    found = [number for number in numbers if number is not None]
    if len(found) < len(words):
        return _DIGITS.sub("…", words[0])
    low, high = (pick(found, key=lambda number: float(number[2])) for pick in (min, max))
    return f"{low[1]}{low[2]}–{high[2]}{low[3]}" if low[2] != high[2] else words[0]


def named(hosts: Iterable[str], most: int = 120) -> str:
    """Write hosts as a host set of bounded length; those beyond are counted."""
    every = sorted(set(hosts), key=natural)
    whole = fold(every)
    if len(whole) <= most:
        return whole
    low, high = 0, len(every)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(fold(every[:middle])) <= most else (low, middle)
    first = fold(every[:low]) if low else f"{every[0][: most - 1]}…"
    more = len(every) - max(low, 1)
    return f"{first} and {more} more" if more else first


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """Sort key by which `gpu-9` comes before `gpu-10`."""
    parts = re.split(r"([0-9]{1,18})", name)
    pairs = zip(parts[::2], [*parts[1::2], "-1"], strict=True)
    return (*((text, int(number)) for text, number in pairs), (name, 0))
