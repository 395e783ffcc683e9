"""Regular expressions that people write, matched in a time that no text can make long.

Python's `re` tries every way to divide a text among repeats and cannot be interrupted: `^(a+)+$` takes longer than the
age of a machine on forty letters, `^.+-.+-.+-.+$` half a minute on a thousand. So a pattern is turned into its positions
(Glushkov's automaton), and all that a text may have reached so far is followed at once, as the bits of one number: each
character is looked at once, whatever came before. What no automaton can do (references back, possessive repeats) is
refused, and so is what would have too many positions. One sign, and what looks around, is still judged by `re`.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

LONGEST = 1000
"""Characters of a text that is held against a pattern."""
MAX_POSITIONS = 1200
"""Signs of a pattern with its repeats written out, times the kinds of ways between them."""
MAX_WAYS = 20_000
MAX_CLASSES = 64
"""Different signs that are no plain letter; each is tried on each different letter of a text."""
MAX_CONDITIONS = 8

_PIECE = re.compile(
    r"\[\^?\]?(?:\\.|[^\]\\])*\]|\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|[0-3][0-7]{2}|[1-9][0-9]?|.)"
    r"|\(\?#[^)]*\)|\(\?P?<\w+>|\(\?[a-zA-Z]*(?:-[a-zA-Z]+)?[:)]|\(\?<?[=!]|\(\?P=|\(\?\(|\(\?>"
    r"|(?:[*+?]|\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\})[?+]?|.",
    re.DOTALL,
)
_TIMES = re.compile(r"([*+?])(.?)|\{([0-9]*)(,?)([0-9]*)\}(.?)")
_CONDITIONS = frozenset(("^", "$", r"\b", r"\B", r"\A", r"\Z"))
_FLAGS = {"a": re.A, "i": re.I, "m": re.M, "s": re.S, "u": re.U}

Ways = dict[int, int]
"""The positions that can come next, as bits, by the conditions that must hold in between, as bits."""
_Go = Callable[[int], int]
"""Builds a part of a pattern before a node; returns the node it begins with."""


class Endless(ValueError):
    """A pattern whose time or size has no bound; the text says what to do."""


class Pattern:
    """A pattern whose match takes a bounded number of steps."""

    def __init__(self, written: str) -> None:
        """Read it.

        Raises:
            re.error: when it is no regular expression.
            Endless: when it can be no automaton, or one that is too large.

        """
        if len(written) > LONGEST:
            raise Endless(f"it is longer than {LONGEST:,} characters: write it shorter")
        self.steps = 0
        """Steps that the last match took; what is counted is what grows with text or pattern."""
        try:
            re.compile(written)
            self._build(written)
        except (RecursionError, OverflowError, MemoryError) as error:
            raise Endless("it is nested too deep: write it flatter") from error

    def _build(self, written: str) -> None:
        reader = _Reader(written)
        end = reader.node()
        first = reader.whole()(end)
        self._conditions = reader.conditions
        self._first = reader.ways(first)
        self._plain, self._classes = reader.plain, reader.classes
        follow = {position: reader.ways(node) for position, node in reader.after.items()}
        self._end = 1  # bit 0 is the end of the pattern
        size = 1 + len(follow)
        self._tables: dict[int, list[int]] = {}
        self._last: Ways = {}
        for position, ways in follow.items():
            for needs, reached in ways.items():
                if reached & 1:
                    self._last[needs] = self._last.get(needs, 0) | 1 << position
                if reached > 1:
                    self._tables.setdefault(needs, [0] * size)[position] = reached & ~1
        if size * max(1, len(self._tables)) > MAX_POSITIONS:
            raise Endless("it has too many signs with its repeats written out: repeat less")
        self._joined: dict[tuple[int, int, int], int] = {}

    def fullmatch(self, text: str) -> bool:
        """Is the whole text such a text?"""
        self.steps = 0
        holding = self._holding(text)
        accepts = {letter: self._accepts(letter) for letter in set(text)}
        reached = self._open(self._first, next(holding))
        if not text:
            return bool(reached & 1)
        for letter in text[:-1]:
            reached &= accepts[letter]
            if not reached:
                return False
            reached = self._next(reached, next(holding))
        reached &= accepts[text[-1]]
        conditions = next(holding)
        return any(reached & last for needs, last in self._last.items() if needs & ~conditions == 0)

    def _holding(self, text: str) -> Iterator[int]:
        """Yield which conditions hold before each letter, and at the end."""
        for at in range(len(text) + 1):
            self.steps += len(self._conditions)
            yield sum(1 << number for number, one in enumerate(self._conditions) if one.match(text, at))

    def _accepts(self, letter: str) -> int:
        self.steps += len(self._classes)
        positions = self._plain.get(letter, 0)
        for sign, where in self._classes.items():
            if sign.fullmatch(letter):
                positions |= where
        return positions

    @staticmethod
    def _open(ways: Ways, conditions: int) -> int:
        reached = 0
        for needs, where in ways.items():
            if needs & ~conditions == 0:
                reached |= where
        return reached

    def _next(self, positions: int, conditions: int) -> int:
        """Follow eight positions at once; each eight of each value is worked out once."""
        reached = 0
        joined = self._joined
        for needs, table in self._tables.items():
            if needs & ~conditions:
                continue
            for index, eight in enumerate(positions.to_bytes((positions.bit_length() + 7) // 8, "little")):
                if not eight:
                    continue
                self.steps += 1
                key = needs, index, eight
                if (found := joined.get(key)) is None:
                    found = 0
                    for bit, ways in enumerate(table[8 * index : 8 * index + 8]):
                        if eight >> bit & 1:
                            found |= ways
                    joined[key] = found
                reached |= found
        return reached


class _Reader:
    """Reads a pattern into nodes: a position with its sign, a condition, or a choice of nodes."""

    def __init__(self, written: str) -> None:
        self._pieces: list[str] = [piece for piece in _PIECE.findall(written) if not piece.startswith("(?#")]
        self._at = 0
        self._nodes: list[list[int]] = []
        """What each leads to without taking a letter."""
        self._needs: dict[int, int] = {}
        self._position: dict[int, int] = {}
        self.after: dict[int, int] = {}
        """The node behind each position."""
        self.plain: dict[str, int] = {}
        self.classes: dict[re.Pattern[str], int] = {}
        self.conditions: list[re.Pattern[str]] = []
        self._visited = 0

    def node(self, *onward: int) -> int:
        self._nodes.append(list(onward))
        if len(self._nodes) > 5 * MAX_POSITIONS:
            raise Endless("it has too many signs with its repeats written out: repeat less")
        return len(self._nodes) - 1

    def ways(self, start: int) -> Ways:
        """Return what can be reached from a node without a letter."""
        found: Ways = {}
        seen, waiting = {(start, 0)}, [(start, 0)]
        while waiting:
            node, needs = waiting.pop()
            self._visited += 1
            if self._visited > MAX_WAYS:
                raise Endless("too many of its parts may be missing: repeat less")
            if node in self._position or node == 0:
                found[needs] = found.get(needs, 0) | 1 << self._position.get(node, 0)
                continue
            needs |= self._needs.get(node, 0)
            more = {(onward, needs) for onward in self._nodes[node]} - seen
            seen |= more
            waiting += more
        return found

    # ── reading ──
    def whole(self) -> _Go:
        return self._choice(re.NOFLAG)[0]

    def _choice(self, flags: re.RegexFlag) -> tuple[_Go, re.RegexFlag]:
        """Read alternatives up to the end of their group."""
        found: list[_Go] = []
        while True:
            parts: list[_Go] = []
            while self._at < len(self._pieces) and self._pieces[self._at] not in ("|", ")"):
                part, flags = self._part(flags)
                parts.append(part)
            found.append(_chain(parts))
            if self._at == len(self._pieces) or self._pieces[self._at] == ")":
                return (found[0] if len(found) == 1 else self._either(found)), flags
            self._at += 1

    def _part(self, flags: re.RegexFlag) -> tuple[_Go, re.RegexFlag]:
        piece = self._take()
        if piece.startswith("(?") and piece.endswith(")"):
            return _chain([]), _flags(piece, flags)
        one = self._one(piece, flags)
        if self._at < len(self._pieces) and (times := _TIMES.fullmatch(self._pieces[self._at])):
            self._at += 1
            one = self._repeated(one, times)
        return one, flags

    def _take(self) -> str:
        self._at += 1
        return self._pieces[self._at - 1]

    def _one(self, piece: str, flags: re.RegexFlag) -> _Go:
        if piece in ("(?=", "(?!", "(?<=", "(?<!"):
            return self._condition(piece + self._looked_at() + ")", flags)
        if piece in ("(?>", "(?P=", "(?(") or re.fullmatch(r"\\[1-9][0-9]?", piece):
            raise Endless(f"`{piece}` needs to remember what was matched: write it without")
        if piece.startswith("("):
            inner, _ = self._choice(_flags(piece, flags) if piece.endswith(":") else flags)
            self._at += 1
            return inner
        return self._condition(piece, flags) if piece in _CONDITIONS else self._sign(piece, flags)

    def _looked_at(self) -> str:
        """Read what is looked at before or behind a place: `re` does it, so it may hold one repeat and no group."""
        inside = ""
        repeats = 0
        while (piece := self._take()) != ")":
            repeats += _TIMES.fullmatch(piece) is not None
            if piece.startswith("(") or repeats > 1:
                raise Endless("a look around may hold one repeat and no group: write less into it")
            inside += piece
        return inside

    # ── building, from the end to the beginning ──
    def _sign(self, piece: str, flags: re.RegexFlag) -> _Go:
        sign = re.compile(piece, flags)
        plain = piece[-1] if re.fullmatch(r"[^\\.\[]|\\[^\w]", piece) and not flags & re.I else ""

        def go(onward: int) -> int:
            node = self.node(onward)
            position = len(self.after) + 1
            self._position[node], self.after[position] = position, onward
            if plain:
                self.plain[plain] = self.plain.get(plain, 0) | 1 << position
            else:
                self.classes[sign] = self.classes.get(sign, 0) | 1 << position
            if len(self.classes) > MAX_CLASSES:
                raise Endless(f"it has more than {MAX_CLASSES} different signs")
            return node

        return go

    def _condition(self, piece: str, flags: re.RegexFlag) -> _Go:
        one = re.compile(piece, flags)
        if one not in self.conditions:
            self.conditions.append(one)
        if len(self.conditions) > MAX_CONDITIONS:
            raise Endless(f"it looks around in more than {MAX_CONDITIONS} ways")
        bit = 1 << self.conditions.index(one)

        def go(onward: int) -> int:
            node = self.node(onward)
            self._needs[node] = bit
            return node

        return go

    def _either(self, parts: list[_Go]) -> _Go:
        return lambda onward: self.node(*(part(onward) for part in parts))

    def _repeated(self, one: _Go, times: re.Match[str]) -> _Go:
        short, how, low, comma, high, how_ = times.groups()
        if "+" in (how, how_):
            raise Endless(f"`{times[0]}` keeps what it took: write it without the last `+`")
        least = int(low or 0) if short is None else int(short == "+")
        most = int(high) if high else least if short is None and not comma else 1 if short == "?" else None

        def go(onward: int) -> int:
            if most is None:
                node = again = self.node(onward)
                self._nodes[again].append(one(again))
            else:
                node = onward
                for _ in range(most - least):
                    node = self.node(one(node), onward)
            for _ in range(least):
                node = self.node(one(node))
            return node

        return go


def _chain(parts: list[_Go]) -> _Go:
    def go(onward: int) -> int:
        for part in reversed(parts):
            onward = part(onward)
        return onward

    return go


def _flags(piece: str, flags: re.RegexFlag) -> re.RegexFlag:
    """Return the flags as `(?i)` or `(?i-s:` changes them."""
    on, _, off = piece[2:-1].partition("-")
    for letter in on + off:
        if letter not in _FLAGS:
            raise Endless(f"the flag `{letter}` is not read here: write it without")
    for letter in on:
        flags = flags & ~(re.A | re.U) if letter in "au" else flags
        flags |= _FLAGS[letter]
    for letter in off:
        flags &= ~_FLAGS[letter]
    return flags


@lru_cache(maxsize=256)
def pattern(written: str) -> Pattern:
    """Return the pattern that is written so."""
    return Pattern(written)
