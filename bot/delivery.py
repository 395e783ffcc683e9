"""Who calls `advance`: a small loop in this process.

One process at a time, held by a lock on a file beside the database; another process (the command line while `serve`
runs) may queue runs and answer questions, and this loop notices. A run that waits for people or for a retry is a row
with `wake_at`, not a thread.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol

from bot.engine.engine import Engine
from bot.engine.rounds import Rounds
from bot.errors import SickbayError
from bot.store import Store
from bot.store.database import Foreign

log = logging.getLogger(__name__)

POLL = 0.2
"""Seconds between two looks for commits of other processes; one costs a few microseconds."""


class Busy(SickbayError):
    """Another process advances the runs of this database."""


class Claim:
    """The right to advance runs of a database: one process holds it."""

    def __init__(self, database: str) -> None:
        self._path = Path(f"{database}.lock")
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Take it; false when another process has it."""
        file = self._path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Clockwork(Protocol):
    """Whoever starts runs by the clock."""

    def turn(self) -> None:
        """Start what is due now."""

    def next_wake(self) -> datetime | None:
        """Return when something is due."""


class Delivery:
    """The embedded loop."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        dispatch: Callable[[], int] | None = None,
        *,
        timetable: Clockwork | None = None,
        rounds: Rounds | None = None,
        workers: int = 32,
        pause: float = 5.0,
    ) -> None:
        """Advance at most `workers` runs at once; `dispatch` turns stored alerts into runs before each look.

        `timetable` does the same for the clock; `rounds` look after what ended runs have left out of traffic. `pause` is
        for how many seconds a run is left alone when the database refuses to record it, and the clock when it cannot be
        looked at.
        """
        self._pause = pause
        self._store = store
        self._engine = engine
        self._dispatch = dispatch
        self._timetable = timetable
        self._rested = 0.0
        """Until then the timetable, which failed, is left alone."""
        self._claim = Claim(store.database.path)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="run")
        self._read = store.now()
        """What the clock said last."""
        self._active: set[int] = set()
        self._guard = threading.Lock()
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="delivery", daemon=True)
        self._rounds = rounds
        if rounds is not None:
            rounds.ring = self._bell.set
        self._unlisten = store.database.listen(self._bell.set)

    @property
    def alive(self) -> bool:
        """Is the loop going?"""
        return self._thread.is_alive()

    def start(self, first: Callable[[], None] = lambda: None) -> int:
        """Begin; return how many interrupted runs go on. `first` is done once it is sure that nobody else does.

        Raises:
            Busy: when another process already advances the runs of this database.

        """
        if not self._claim.take():
            raise Busy(
                "another Sickbay is running on this database",
                where=self._store.database.path,
                advice="stop it first, or give this one its own `store: {path: …}`",
            )
        first()
        interrupted = self._store.runs.reclaim()
        self._store.runs.rouse()  # a clock may also be set back while nobody looks at it
        self._store.runs.look_again()
        if self._rounds is not None:
            self._rounds.begin()
        self._thread.start()
        return interrupted

    def stop(self) -> None:
        """Take no more runs; commands that are going on hosts go on and are asked for after the next start."""
        self._stop.set()
        self._bell.set()
        self._unlisten()
        self._engine.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._claim.release()

    def _loop(self) -> None:
        foreign = self._store.database.foreign_changes()
        while not self._stop.is_set():
            self._bell.clear()
            try:
                self._turn()
                self._rest(foreign)
            except Exception:
                log.exception("cannot look for due runs; trying again")
                self._stop.wait(1)
        foreign.close()

    def _rest(self, foreign: Foreign) -> None:
        """Wait until something was committed, here or elsewhere, or a sleeping run is due."""
        rested = self._rested
        wakes = [self._store.runs.next_wake()]
        wakes += [self._timetable.next_wake()] if self._timetable is not None and not rested else []
        wakes += [self._rounds.next_wake()] if self._rounds is not None else []
        next_wake = min((wake for wake in wakes if wake is not None), default=None)
        while not self._stop.is_set() and not self._bell.wait(POLL):
            if foreign.changed():
                self._store.database.announce()
            back = self._set_back()
            due = next_wake is not None and self._read >= next_wake
            if due or back or (rested and time.monotonic() >= rested):
                return

    def _set_back(self) -> bool:
        """Was the clock set back since it was last read? Then no time that was noted for a run to wake holds."""
        before, self._read = self._read, self._store.now()
        if self._read < before:
            self._store.runs.rouse()
        return self._read < before

    def _turn(self) -> None:
        self._set_back()
        self._keep_time()
        if self._dispatch is not None:
            self._dispatch()
        for run_id in self._store.runs.cancel_asked():
            self._engine.cancel(run_id)
        for run_id in self._store.runs.due():
            with self._guard:
                if run_id in self._active:
                    continue
                self._active.add(run_id)
            self._pool.submit(self._advance, run_id)
        if self._rounds is not None:
            self._rounds.turn()

    def _keep_time(self) -> None:
        """Start what is due by the clock; what people and alerts start does not wait for it."""
        if self._timetable is None or time.monotonic() < self._rested:
            return
        try:
            self._timetable.turn()
            self._rested = 0.0
        except Exception:
            log.exception("cannot look at the schedules; trying again in %g s", self._pause)
            self._rested = time.monotonic() + self._pause

    def _advance(self, run_id: int) -> None:
        while not self._stop.is_set():
            try:
                self._engine.advance(run_id)
                break
            except Exception:
                log.exception("run %s could not be recorded; trying again", run_id)
                self._stop.wait(self._pause)
        with self._guard:
            self._active.discard(run_id)
        self._bell.set()
