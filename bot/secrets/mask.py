"""Redaction: what must not leave is replaced where it is written, before it is stored, sent, logged or printed.

Known secrets are found in all the forms of `shapes` by one compiled pattern, also where one is split over two pieces of
a stream; of what is not known, a few shapes are. Doors and store all hold the same mask, which learns a secret's new
value when its file changes and forgets no old one.
"""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any, AnyStr, Generic, TypeVar

from bot.secrets.shapes import HINT, OPEN, SHAPES, SHORTEST, STOPS, forms, tree

T = TypeVar("T")
HIDDEN = "•••"
_BEFORE = 96
"""Bytes before a piece of a stream that may hold the beginning of a shape: `password=` does not have to be hidden."""
_HELD, _HELD_KEY = 4096, 16 * 1024
"""Bytes that are held back at most for a shape whose end has not come, and for a private key."""
_NEAR = 64
"""Bytes before a value in which the word stands that tells what it is."""
_KEY_ENDS = re.compile(rb"-----END [A-Z ]*-----")
_STOPS = tuple(one.encode() for one in STOPS)


@dataclass(frozen=True, slots=True)
class _Search(Generic[AnyStr]):
    """How secrets are found in texts, or in bytes."""

    known: re.Pattern[AnyStr] | None
    shapes: re.Pattern[AnyStr]
    open: re.Pattern[AnyStr]
    hint: re.Pattern[AnyStr]
    hidden: AnyStr

    def spans(self, text: AnyStr, *, at: int = 0, guessing: bool = True) -> list[tuple[int, int]]:
        """Return what is to be hidden, in order, overlapping ones as one; without guessing only what is known.

        Known ones are looked for from `at` on; what stands before can only tell what follows.
        """
        found: list[tuple[int, int]] = []
        while self.known is not None and (match := self.known.search(text, at)):
            found.append(match.span())
            at = match.start() + 1
        if guessing and self.hinted(text):
            found += (match.span(match.lastindex or 0) for match in self.shapes.finditer(text))
        return _merged(found)

    def hinted(self, text: AnyStr) -> bool:
        """May it hold a shape?"""
        return self.hint.search(text.lower()) is not None

    def without(self, text: AnyStr, spans: Iterable[tuple[int, int]]) -> AnyStr:
        """Return the text without what is to be hidden."""
        pieces: list[AnyStr] = []
        at = 0
        for start, end in spans:
            pieces.append(text[at:start])
            pieces.append(self.hidden)
            at = end
        pieces.append(text[at:])
        return text[:0].join(pieces)


class Mask:
    """Replaces known secrets, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Take the values that are known: tokens, webhook secrets, what `secrets:` names."""
        self._lock = threading.Lock()
        self._forms: frozenset[str] = frozenset()
        self._compile()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Take more values; when it returns they are hidden. From any thread."""
        more = {form for secret in secrets if len(secret) >= SHORTEST for form in forms(secret)}
        with self._lock:
            if not more <= self._forms:
                self._forms |= more
                self._compile()

    def _compile(self) -> None:
        known = tree(self._forms) if self._forms else None
        written = [form.encode("utf-8", "surrogateescape") for form in self._forms]
        self._texts = _Search(
            re.compile(known) if known else None,
            re.compile(SHAPES),
            re.compile(OPEN),
            re.compile(HINT),
            HIDDEN,
        )
        self.bytes = _Search(
            re.compile(known.encode("utf-8", "surrogateescape")) if known else None,
            re.compile(SHAPES.encode()),
            re.compile(OPEN.encode()),
            re.compile(HINT.encode()),
            HIDDEN.encode(),
        )
        self.longest = max(map(len, written), default=0)
        self.threes = frozenset(form[at : at + 3] for form in written for at in range(len(form) - 2))
        self.beginnings = frozenset(form[:size] for form in written for size in range(1, len(form)))
        self.endings = frozenset(form[-size:] for form in written for size in range(SHORTEST, len(form)))

    def knows(self, text: str) -> bool:
        """Does a known secret stand in the text, in whatever form?"""
        return self._texts.known is not None and self._texts.known.search(text) is not None

    def text(self, text: str) -> str:
        """Return the text without its secrets."""
        if len(text) < SHORTEST:
            return text
        spans = self._texts.spans(text)
        return self._texts.without(text, spans) if spans else text

    def known(self, text: str) -> str:
        """Return the text without the secrets that are known; what only looks like one stays, because it may be run."""
        spans = self._texts.spans(text, guessing=False)
        return self._texts.without(text, spans) if spans else text

    def over(self, value: T) -> T:
        """Return a card, plain data, or any part of one, with every text masked."""
        return _over(value, self.text)  # type: ignore[no-any-return]

    def over_known(self, value: T) -> T:
        """Return the same without the secrets that are known."""
        return _over(value, self.known)  # type: ignore[no-any-return]


class Veil:
    """Masks one stream of bytes as it comes.

    Only what may turn out to be a secret is held back: the beginning of a known one, or of a shape, at the very end of
    what has come. So at most as much as the longest secret waits, or a few KiB behind a word such as `password=`.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._before = b""
        self._held = b""
        self._torn = False

    def add(self, data: bytes) -> bytes:
        """Take the next bytes; return what is settled."""
        return self._settle(self._held + data, last=False)

    def peek(self) -> bytes:
        """Return what is held back as it would be if nothing more came."""
        before, held, torn = self._before, self._held, self._torn
        rest = self.rest()
        self._before, self._held, self._torn = before, held, torn
        return rest

    def rest(self) -> bytes:
        """Return what is held back: nothing more comes, or something was left out here."""
        settled = self._settle(self._held, last=True)
        self._before = b""
        return settled

    def gap(self) -> bytes:
        """Return what is held back, and hide at the next bytes what may be the rest of a secret."""
        settled, self._torn = self.rest(), bool(self._mask.endings)
        return settled

    def _settle(self, text: bytes, *, last: bool) -> bytes:
        if not text:
            return text
        if self._torn and not last and len(text) < self._mask.longest:
            self._held = text
            return b""
        search = self._mask.bytes
        whole, offset = self._before + text, len(self._before)
        spans = search.spans(whole, at=offset)
        if self._torn:
            self._torn = False
            spans = _merged([(offset, offset + self._ending(text)), *spans])
        begun = self._begun(text)
        cut = len(whole)
        if not last:
            cut = min([len(whole) - begun, *self._opened(whole, offset)])
            cut = next((max(start, offset) for start, end in spans if start < cut < end), cut)
        elif begun >= SHORTEST:
            spans = _merged([*spans, (len(whole) - begun, len(whole))])
        shown = [(max(start, offset), end) for start, end in spans if offset < end <= cut]
        self._before, self._held = whole[max(0, cut - _BEFORE) : cut], whole[cut:]
        return search.without(whole[:cut], shown)[offset:]

    def _begun(self, text: bytes) -> int:
        """How many bytes at the end are the beginning of a known secret?"""
        most = min(len(text), self._mask.longest - 1)
        if text[-3:] not in self._mask.threes:
            most = min(most, 2)
        return next((size for size in range(most, 0, -1) if text[-size:] in self._mask.beginnings), 0)

    def _ending(self, text: bytes) -> int:
        """How many bytes at the beginning are the end of a known secret?"""
        most = min(len(text), self._mask.longest - 1)
        return next((size for size in range(most, 0, -1) if text[:size] in self._mask.endings), 0)

    def _opened(self, whole: bytes, offset: int) -> Iterator[int]:
        """Yield where a shape begins that has no end yet."""
        key = whole.rfind(b"-----BEGIN ", max(0, len(whole) - _HELD_KEY))
        if key >= 0 and not _KEY_ENDS.search(whole, key):
            yield max(key, offset)
        search = self._mask.bytes
        line = max(0, len(whole) - _HELD)
        stop = max(whole.rfind(one, line) for one in _STOPS)
        near = whole[max(line, stop - _NEAR) :]
        if search.hinted(near) and (found := search.open.search(near)):
            yield max(offset, len(whole) - len(near) + found.start(found.lastindex or 0))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif end > start:
            merged.append((start, end))
    return merged


def _over(value: Any, text: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {_over(key, text): _over(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [_over(one, text) for one in value]
    if isinstance(value, tuple):
        return tuple(_over(one, text) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: _over(getattr(value, field.name), text)
            for field in fields(value)
            if not isinstance(getattr(value, field.name), bool | datetime | None)
        }
        return replace(value, **changes)
    return value
