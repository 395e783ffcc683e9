"""One SQLite file, written by one thread at a time; and the signal that something was committed.

WAL lets readers go on while a writer works; `synchronous=FULL` makes a commit survive a power cut, which is what
"stored before acknowledged" means.

Nothing goes into the file before the secrets that are known are out of it, whatever the table and whoever writes it. What
only looks like a secret is taken out by the rooms that store what strangers say (`masked`), because a plan is run as it
was stored.
"""

import json
import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from bot.chain import BEGIN, link
from bot.errors import SickbayError
from bot.secrets.mask import Mask
from bot.store.tables import SCHEMA, Ours, meta, metadata
from bot.store.trouble import as_it_is, full, told

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
T = TypeVar("T")

ROOM = 16 * 1024 * 1024
"""Bytes left on the disk below which health complains."""


def utc_now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


class Fenced(Exception):
    """Another process or thread has taken this run over: stop touching it."""


class Database:
    """Transactions on the file, and who wants to hear of them."""

    def __init__(self, path: Path | str, clock: Clock, patience: float, mask: Mask) -> None:
        self.path = str(path)
        self.mask = mask
        self.now = clock
        self._writing = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self._refused = ""
        self.unwritable: SickbayError | None = None
        """Why it can only be looked at; None: it takes what is written."""
        self._engine = self._opened(f"sqlite:///{path}", patience)
        event.listen(self._engine, "connect", _configure)
        found = self._create(patience)
        if found not in (None, SCHEMA):
            raise SickbayError(
                f"the database has layout {found}, this Sickbay needs {SCHEMA}",
                where=self.path,
                advice="start the Sickbay that wrote it, or move the file away to begin anew",
            )

    def _opened(self, url: str, patience: float) -> Engine:
        engine = create_engine(
            url,
            json_serializer=self._json,
            execution_options={"mask": self.mask},
            connect_args={"timeout": patience, "check_same_thread": False},
            pool_size=32,
            max_overflow=64,
        )
        event.listen(engine, "before_cursor_execute", self._masked, retval=True)
        return engine

    def _create(self, patience: float) -> int | None:
        """Make what is missing; on a full disk only look. Return the layout that was found."""
        try:
            # it keeps what hosts printed; the files beside it copy its mode
            Path(self.path).touch(mode=0o600)
            with self.write() as tx:
                found = tx.scalar(select(meta.c.schema)) if inspect(tx).has_table(meta.name) else None
                if found in (None, SCHEMA):  # another's file stays as it is
                    metadata.create_all(tx)
                if found is None:
                    tx.execute(meta.insert().values(schema=SCHEMA))
        except Exception as error:
            uri = as_it_is(self.path) if full(error, self.path) else None
            if uri is None:
                raise told(error, self.path) from error
            self.unwritable = told(error, self.path, "nothing can be written")
            self._engine.dispose()
            self._engine = self._opened(f"sqlite:///{uri}&uri=true", patience)
            try:
                with self.read() as tx:
                    return tx.scalar(select(meta.c.schema))
            except DatabaseError:  # nothing was in it yet
                raise told(error, self.path) from error
        return found

    def _json(self, value: Any) -> str:
        text = json.dumps(value, ensure_ascii=False)
        if self.mask.knows(text):
            text = json.dumps(self.mask.over_known(value), ensure_ascii=False)
        return Ours(text)

    def _masked(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        """Take known secrets out of every text that a statement carries."""
        if not self.mask.longest:
            return statement, parameters
        if isinstance(parameters, list):
            return statement, [self._without(row) for row in parameters]
        return statement, self._without(parameters)

    def _without(self, row: Any) -> Any:
        if isinstance(row, dict):
            return dict(zip(row, self._without(tuple(row.values())), strict=True))
        return tuple(
            self.mask.known(value) if isinstance(value, str) and not isinstance(value, Ours) else value
            for value in row
        )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a write transaction; commits at the end, then wakes the listeners.

        Raises:
            SickbayError: on a full disk, where it could only be opened to look.

        """
        if self.unwritable is not None:
            raise self.unwritable
        with self._writing, self._noting(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        self.announce()

    def still(self) -> AbstractContextManager[object]:
        """Hold off the writers of this process for as long as it takes to read."""
        return self._writing

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            self._refused = str(error.orig)
            raise

    def refusal(self) -> str:
        """Say why it takes nothing in, or did not since this was asked last, or soon will not; empty: all is well.

        It tries a write, because reading goes on on a full disk; and it looks at what is left, because a small write
        may still fit where an alert does not.
        """
        before, self._refused = self._refused, ""
        try:
            with self.write() as tx:
                tx.execute(update(meta).values(schema=SCHEMA))
        except OperationalError as error:
            return str(error.orig)
        left = shutil.disk_usage(Path(self.path).resolve().parent).free
        return f"only {left // 1024} KiB are left on its disk" if left < ROOM else before

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection that sees one moment of the database."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every commit, from the committing thread; return a function that ends it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def announce(self) -> None:
        """Wake the listeners: something was committed, here or by another process."""
        for callback in list(self._listeners):
            try:
                callback()
            except Exception:
                log.exception("a listener failed; what was committed stands")

    def foreign_changes(self) -> "Foreign":
        """Return what tells whether others have committed."""
        return Foreign(self.path)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


class Foreign:
    """A cheap question, for one thread: has anybody else committed since I last asked?"""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path)
        self._last = self._version()

    def changed(self) -> bool:
        """Ask; this process's own commits count too."""
        before, self._last = self._last, self._version()
        return before != self._last

    def close(self) -> None:
        """Ask no more."""
        self._connection.close()

    def _version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)


def masked(tx: Connection, value: T) -> T:
    """Return what a stranger said (plain data, or a noun) without secrets, and without what looks like one."""
    mask: Mask = tx.get_execution_options()["mask"]
    return mask.over(value)


def _configure(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    connection.create_function("link", -1, lambda before, *values: link(before or BEGIN, values))
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()
