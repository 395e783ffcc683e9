"""What commands print: written while it comes, so that it is neither held in memory nor lost before the end.

Bytes stay in memory for a quarter of a second, or until there are 64 kB of them; then one thread writes what has come
on all hosts, in one transaction. So a command may print for an hour on a thousand hosts, and people can read along. Of
a long stream the head stays, and of the rest only what is the tail at that time. The last bytes are written together
with the end of the attempt.

Secrets are taken out as the bytes come, before anything is kept. So what a step decides by (`parse`, `expect`, the facts
of its kind) is what people read and what is there after a crash; the real bytes are nowhere but on the host.
"""

import logging
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from bot.effect import HEAD, TAIL, Output
from bot.runs.run import Attempt, Run
from bot.secrets.mask import Veil
from bot.store.database import Database, Fenced
from bot.store.runs import fenced
from bot.store.tables import attempts, outputs

log = logging.getLogger(__name__)

PIECE = 64 * 1024
"""Bytes of a stream that are not held back any longer."""
PERIOD = 0.25
"""Seconds after which also fewer are written."""
BEHIND = 32 * 1024 * 1024
"""Bytes of all streams together, not written yet, from which on hosts are held back."""
_AT_ONCE = 4 * 1024 * 1024
"""Bytes that one transaction writes, so that others come in between."""

_OF = (
    select(attempts.c.id)
    .where(
        attempts.c.run_id == bindparam("of_run"),
        attempts.c.step == bindparam("of_step"),
        attempts.c.host == bindparam("of_host"),
        attempts.c.number == bindparam("of_number"),
    )
    .scalar_subquery()
)
_ADD = insert(outputs).values(attempt_id=_OF)
_FORGET = delete(outputs).where(outputs.c.attempt_id == _OF, outputs.c.stream == bindparam("of_stream"))
_PASS = _FORGET.where(
    outputs.c.at >= bindparam("tail_from"), outputs.c.at + outputs.c.size <= bindparam("tail_now")
)
_READ = select(outputs.c.stream, outputs.c.at, outputs.c.size, outputs.c.data).where(
    outputs.c.attempt_id == _OF
).order_by(outputs.c.at)  # fmt: skip


class Stream:
    """One stream of one attempt, as it comes; safe from any thread."""

    def __init__(self, outputs: "Outputs", run: Run, attempt: Attempt, name: str, *, stale: bool) -> None:
        self.run = run
        self.name = name
        self.place = _place(attempt)
        self.total = 0
        """Bytes that came or were counted."""
        self.size = 0
        """Bytes that are not written yet."""
        self._outputs = outputs
        self._pieces: list[tuple[int, bytearray]] = []
        """What is not written yet, each with its place in the stream."""
        self._head = HEAD
        self._tail_from: int | None = None
        self._end = 0
        """Where the last piece ends: before `total` when the end of the stream was left out."""
        self._veil = Veil(outputs.mask)
        self._stale = stale
        self._wrote = False
        self._wipe = False
        self._closed = False

    # ── as a Keep ──
    @property
    def full(self) -> bool:
        """Is the writer behind, on whichever hosts?"""
        return self._outputs.unwritten > BEHIND

    def add(self, data: bytes) -> None:
        """Take the next bytes; never waits."""
        with self._outputs.guard:
            if self._closed or not data:
                return
            self._anew()
            self._take_in(self._veil.add(data))

    def skip(self, count: int) -> None:
        """Count bytes that were left out before they came here."""
        with self._outputs.guard:
            if count > 0:
                self._anew()
                self._take_in(self._veil.gap())
                self.total += count

    def restart(self) -> None:
        """Forget everything: the stream comes again from its beginning."""
        with self._outputs.guard:
            self._wipe = self._wipe or self._wrote or self._stale
            self._stale = self._wrote = False
            self._outputs.unwritten -= self.size
            self._pieces, self.size, self.total, self._end = [], 0, 0, 0
            self._head, self._tail_from = HEAD, None
            self._veil = Veil(self._outputs.mask)

    @property
    def output(self) -> Output:
        """How much came; what it is stands in the store."""
        return Output(b"", self.total)

    # ── for the writer ──
    def take(self) -> "_Part":
        """Hand over what is not written yet."""
        part = _Part(self, self._pieces, self.size, self._wipe, self._tail_from, self.total - TAIL)
        self._outputs.unwritten -= self.size
        self._pieces, self.size, self._wipe = [], 0, False
        self._wrote = self._wrote or bool(part.pieces)
        return part

    def give_back(self, part: "_Part") -> None:
        """Take back what could not be written."""
        if not self._closed:
            self._pieces = part.pieces + self._pieces
            self._wipe = self._wipe or part.wipe
            self.size += part.size
            self._outputs.unwritten += part.size
            self._outputs.came(self)

    def last(self, *, answered: bool) -> "_Part":
        """Hand over the rest, and no more from here on; what an earlier life kept gives way to an answer only."""
        self._wipe = self._wipe or (answered and self._stale)
        self._take_in(self._veil.rest())
        if self.total > self._end:
            self._pieces.append((self.total, bytearray()))
        part = self.take()
        self.close()
        return part

    def close(self) -> None:
        """Take nothing more, and forget what is not written."""
        self._closed = True
        self._outputs.unwritten -= self.size
        self._pieces, self.size = [], 0

    def held(self) -> tuple[bool, bytes, int]:
        """Return whether what is written is of this stream, what is not written, and how much there is of both."""
        doubtful = self._veil.peek()
        more = b"".join([*(data for _, data in self._pieces), doubtful])
        return self._wrote and not self._wipe, more, self.total + len(doubtful)

    def _anew(self) -> None:
        """What an earlier life of the process kept gives way as soon as the stream comes again."""
        self._wipe, self._stale = self._wipe or self._stale, False

    def _take_in(self, data: bytes) -> None:
        if not data:
            return
        head, tail = data[: self._head], data[self._head :]
        if head:
            self._append(head, apart=False)
            self._head -= len(head)
        if tail:
            first = self._tail_from is None
            self._tail_from = self.total if self._tail_from is None else self._tail_from
            self.total += max(0, len(tail) - TAIL)
            self._append(tail[-TAIL:], apart=first)
            self._drop()
        self._outputs.came(self)

    def _append(self, data: bytes, *, apart: bool) -> None:
        if self._pieces and self._end == self.total and not apart and len(self._pieces[-1][1]) < PIECE:
            self._pieces[-1][1].extend(data)
        else:
            self._pieces.append((self.total, bytearray(data)))
        self.total += len(data)
        self._end = self.total
        self.size += len(data)
        self._outputs.unwritten += len(data)

    def _drop(self) -> None:
        """Let go of what was the tail before it was written."""
        while len(self._pieces) > 1 and self._tail_from is not None:
            at, data = next(piece for piece in self._pieces if piece[0] >= self._tail_from)
            if at + len(data) > self.total - TAIL:
                return
            self._pieces.remove((at, data))
            self.size -= len(data)
            self._outputs.unwritten -= len(data)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is written of a stream at one time."""

    stream: Stream
    pieces: list[tuple[int, bytearray]]
    size: int
    wipe: bool
    tail_from: int | None
    tail_now: int

    @property
    def place(self) -> dict[str, Any]:
        return {**self.stream.place, "of_stream": self.stream.name}


def _write(tx: Connection, parts: Sequence[_Part]) -> None:
    if wiped := [part.place for part in parts if part.wipe]:
        tx.execute(_FORGET, wiped)
    rows = [
        {
            **part.place,
            "stream": part.stream.name,
            "at": at,
            "size": len(data),
            "data": zlib.compress(data, 1),
        }
        for part in parts
        for at, data in part.pieces
    ]
    if rows:
        tx.execute(_ADD, rows)
    passed = [
        {**part.place, "tail_from": part.tail_from, "tail_now": part.tail_now}
        for part in parts
        if part.tail_from is not None
    ]
    if passed:
        tx.execute(_PASS, passed)


@dataclass(frozen=True, slots=True)
class Streams:
    """What one attempt prints."""

    stdout: Stream
    stderr: Stream

    def both(self) -> tuple[Stream, Stream]:
        """Return the two."""
        return self.stdout, self.stderr


class Outputs:
    """All that commands printed and print."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.mask = database.mask
        self.guard = threading.Lock()
        """Held for every change of a stream: they come from the room that reads hosts, and go from here."""
        self.unwritten = 0
        self._waiting: dict[Stream, None] = {}
        self._bell = threading.Event()
        self._press = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, run: Run, attempt: Attempt, *, again: bool = False) -> Streams:
        """Return what keeps the streams of an attempt that has begun; `again`: it may have printed before."""
        return Streams(*(Stream(self, run, attempt, name, stale=again) for name in ("stdout", "stderr")))

    def came(self, stream: Stream) -> None:
        """Note that a stream has something to write; called under the guard."""
        self._waiting[stream] = None
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._write_on, name="outputs", daemon=True)
            self._thread.start()
        self._bell.set()
        if stream.size >= PIECE or self.unwritten > BEHIND // 2:
            self._press.set()

    def whole(self, streams: Streams) -> tuple[Output, Output]:
        """Return all that is kept of what an attempt printed so far, written or not."""
        with self._db.still():
            with self.guard:
                held = [stream.held() for stream in streams.both()]
            rows = self._rows(streams.stdout.place) if any(wrote for wrote, *_ in held) else {}
            found = [
                _whole(rows.get(stream.name, []) if wrote else [], more, total)
                for stream, (wrote, more, total) in zip(streams.both(), held, strict=True)
            ]
            return found[0], found[1]

    def of(self, attempt: Attempt) -> tuple[Output, Output]:
        """Return what is written of what an attempt printed, also while it goes on."""
        rows = self._rows(_place(attempt))
        return _whole(rows.get("stdout", [])), _whole(rows.get("stderr", []))

    def last(self, tx: Connection, ended: Iterable[tuple[Streams, bool]]) -> None:
        """Write the rest of what attempts printed, in the transaction of their end; with each, whether it answered."""
        parts = []
        with self.guard:
            for streams, answered in ended:
                for stream in streams.both():
                    parts.append(stream.last(answered=answered))
                    self._waiting.pop(stream, None)
        _write(tx, parts)

    def leave(self, streams: Streams) -> None:
        """Forget what is not written: nobody here will end this attempt."""
        with self.guard:
            for stream in streams.both():
                stream.close()
                self._waiting.pop(stream, None)

    def close(self) -> None:
        """Write no more."""
        self._closing.set()
        self._bell.set()
        self._press.set()
        if self._thread is not None:
            self._thread.join()

    def _rows(self, place: dict[str, Any]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        with self._db.read() as tx:
            for row in tx.execute(_READ, place):
                found.setdefault(row.stream, []).append(row)
        return found

    def _write_on(self) -> None:
        while not self._closing.is_set():
            self._bell.wait()
            self._press.wait(PERIOD)
            self._bell.clear()
            self._press.clear()
            try:
                while self._waiting and not self._closing.is_set():
                    self._write_waiting()
            except Exception:
                log.exception("what commands print cannot be written; trying again")
                self._closing.wait(1)

    def _write_waiting(self) -> None:
        """Write what is there; it leaves memory in the transaction, so that a reader finds each byte once."""
        parts: list[_Part] = []
        try:
            with self._db.write() as tx:
                with self.guard:
                    room = _AT_ONCE
                    while self._waiting and room > 0:
                        stream = next(iter(self._waiting))
                        del self._waiting[stream]
                        parts.append(stream.take())
                        room -= parts[-1].size
                lost = _taken_over(tx, {part.stream.run.id: part.stream.run for part in parts}.values())
                _write(tx, [part for part in parts if part.stream.run.id not in lost])
        except Exception:
            with self.guard:
                for part in parts:
                    part.stream.give_back(part)
            raise


def _taken_over(tx: Connection, runs: Iterable[Run]) -> set[int]:
    """Return the runs that are somebody else's now: nothing more is written of them."""
    lost = set()
    for run in runs:
        try:
            fenced(tx, run)
        except Fenced:
            lost.add(run.id)
    return lost


def _place(attempt: Attempt) -> dict[str, Any]:
    return {
        "of_run": attempt.run_id,
        "of_step": attempt.step,
        "of_host": attempt.host,
        "of_number": attempt.number,
    }


def _whole(rows: list[Any], more: bytes = b"", total: int = 0) -> Output:
    data = b"".join([*(zlib.decompress(row.data) for row in rows), more])
    total = total or (rows[-1].at + rows[-1].size if rows else 0)
    return Output(data if len(data) <= HEAD else data[:HEAD] + data[HEAD:][-TAIL:], total)
