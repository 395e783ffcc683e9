"""The timeline and its readers: events, how far each reader has come, what it posted where.

Events are chained (`chain`): who writes one reads the hash of the newest in the same statement, and SQLite lets one
writer in at a time, so there is no other order than that of the numbers. The database itself asks for the hash, of the
very values that it stores: so it fits whatever is done to a text on its way there.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from bot import chain
from bot.chain import BEGIN, COLUMNS, Stored, Walked
from bot.errors import SickbayError
from bot.incident import Event
from bot.store.database import Database, masked
from bot.store.tables import APPEND_ONLY, Ours, cursors, events, posts, runs, seen, written
from bot.store.trouble import as_it_is, full, told

_HALF = re.compile("[\ud800-\udfff]")
# Statements of ours alone, written out or made from our own names.
_COUNTER = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
_TELL = """
INSERT INTO events (id, at, kind, incident_id, run_id, host, step, data, hash)
SELECT id, at, kind, incident_id, run_id, host, step, data,
  link((SELECT hash FROM events ORDER BY id DESC LIMIT 1), id, at, kind, incident_id, run_id, host, step, data)
FROM (SELECT
  1 + max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0),
    coalesce((SELECT max(id) FROM events), 0)) AS id,
  ? AS at, ? AS kind, ? AS incident_id, ? AS run_id, ? AS host, ? AS step, ? AS data)
"""
_RAW = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in (*COLUMNS, "hash"))
_WALK = f"SELECT {_RAW} FROM events ORDER BY id"  # noqa: S608


def tell(
    tx: Connection,
    at: datetime,
    kind: str,
    *,
    incident: int | None = None,
    run: int | None = None,
    host: str | None = None,
    step: str | None = None,
    **data: Any,
) -> None:
    """Append an event to the timeline, in the transaction of what it tells."""
    tell_each(tx, at, kind, [{"host": host, "step": step, "data": data}], incident=incident, run=run)


def tell_each(
    tx: Connection,
    at: datetime,
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    incident: int | None,
    run: int | None,
) -> None:
    """Append the same event for several hosts; each row says host, step and data."""
    about = (written(at), str(kind), incident, run)
    tx.exec_driver_sql(
        _TELL, [(*about, row["host"], row["step"], _json(row["data"])) for row in masked(tx, rows)]
    )


def _json(data: Any) -> str:
    """Write data as text; half a letter, which an alert may hold, is no reason to lose the event."""
    text = json.dumps(data, ensure_ascii=False)
    return Ours(json.dumps(data) if _HALF.search(text) else text)


def first_time(tx: Connection, at: datetime, key: str) -> bool:
    """Note a delivery's key; false when it was noted before, so that a repeat can be ignored.

    Within the transaction of its effect, a delivery is either noted and done, or neither.
    """
    statement = insert(seen).values(key=key, at=at).on_conflict_do_nothing()
    return tx.execute(statement).rowcount == 1


class Timeline:
    """Readers' side of the timeline."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def note(
        self,
        kind: str,
        *,
        incident: int | None = None,
        run: int | None = None,
        host: str | None = None,
        **data: Any,
    ) -> None:
        """Append an event that goes with no change of state, such as a start of the service."""
        with self._db.write() as tx:
            if run is not None:
                incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == run))
            tell(tx, self._db.now(), kind, incident=incident, run=run, host=host, **data)

    def head(self) -> tuple[int, str]:
        """Return the number and the hash of the newest event; 0 and `BEGIN` before the first."""
        with self._db.read() as tx:
            row = tx.execute(select(events.c.id, events.c.hash).order_by(events.c.id.desc()).limit(1)).first()
            return (row.id, row.hash) if row else (0, BEGIN)

    def tell(self, tx: Connection, kind: str, **data: Any) -> None:
        """Append an event that is about no incident and no run, in the transaction of what it tells."""
        tell(tx, self._db.now(), kind, **data)

    def after(self, event_id: int, limit: int = 500) -> list[Event]:
        """Return the events that follow this one, oldest first."""
        with self._db.read() as tx:
            rows = tx.execute(
                events.select().where(events.c.id > event_id).order_by(events.c.id).limit(limit)
            )
            return [Event(**row) for row in rows.mappings()]

    def get(self, event_id: int) -> Event | None:
        """Return one event."""
        with self._db.read() as tx:
            row = tx.execute(events.select().where(events.c.id == event_id)).mappings().first()
            return None if row is None else Event(**row)

    def of(
        self, *, incident: int | None = None, run: int | None = None, kind: str | None = None
    ) -> list[Event]:
        """Return all events of an incident or a run, or those of one kind, oldest first."""
        query = events.select().order_by(events.c.id)
        query = query.where(events.c.incident_id == incident) if incident is not None else query
        query = query.where(events.c.run_id == run) if run is not None else query
        query = query.where(events.c.kind == kind) if kind is not None else query
        with self._db.read() as tx:
            return [Event(**row) for row in tx.execute(query).mappings()]

    def looked_again(self, run: int) -> dict[str, int]:
        """Return how often each host was looked at again since a run began, or began anew."""
        of_it = (events.c.run_id == run, events.c.kind.in_(("run.held", "host.looked_again")))
        found: dict[str, int] = {}
        with self._db.read() as tx:
            for row in tx.execute(select(events.c.kind, events.c.host).where(*of_it).order_by(events.c.id)):
                if row.kind == "run.held":
                    found.clear()
                else:
                    found[row.host] = found.get(row.host, 0) + 1
        return found

    def of_nobody(self, first: int, last: int) -> list[Event]:
        """Return the events from one to another that are about no incident and no run, such as stops of the service."""
        nobody = (events.c.incident_id.is_(None), events.c.run_id.is_(None))
        query = events.select().where(events.c.id.between(first, last), *nobody).order_by(events.c.id)
        with self._db.read() as tx:
            return [Event(**row) for row in tx.execute(query).mappings()]

    def cursor(self, reader: str) -> int:
        """Return the last event this reader has dealt with; 0 before the first."""
        with self._db.read() as tx:
            return tx.scalar(select(cursors.c.event_id).where(cursors.c.reader == reader)) or 0

    def advance(self, reader: str, event_id: int) -> None:
        """Remember how far a reader has come."""
        statement = insert(cursors).values(reader=reader, event_id=event_id)
        with self._db.write() as tx:
            tx.execute(
                statement.on_conflict_do_update(index_elements=["reader"], set_={"event_id": event_id})
            )

    def place(self, key: str) -> Mapping[str, Any] | None:
        """Return where a reader posted this (its own words, such as channel and ts), if it did."""
        with self._db.read() as tx:
            return tx.scalar(select(posts.c.place).where(posts.c.key == key))

    def places(self, keys: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return where these were posted, those that were."""
        with self._db.read() as tx:
            query = select(posts.c.key, posts.c.place).where(posts.c.key.in_(keys))
            return {row.key: row.place for row in tx.execute(query)}

    def posted_at(self, channel: str, ts: str) -> str | None:
        """Return what was posted there; None when nothing that was noted yet."""
        place = posts.c.place
        there = (place["channel"].as_string() == channel, place["ts"].as_string() == ts)
        with self._db.read() as tx:
            return tx.scalar(select(posts.c.key).where(*there))

    def put(self, key: str, place: Mapping[str, Any]) -> None:
        """Remember where a reader posted this."""
        statement = insert(posts).values(key=key, place=dict(place))
        with self._db.write() as tx:
            tx.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"place": dict(place)}))

    def first_time(self, key: str, tx: Connection | None = None) -> bool:
        """Note a delivery's key, in this transaction or in one of its own; false when it was noted before."""
        if tx is None:
            with self._db.write() as own:
                return first_time(own, self._db.now(), key)
        return first_time(tx, self._db.now(), key)


def verify(path: Path | str, noted: str = "") -> Walked:
    """Walk the chain of a database file, which is only read: it may be a copy, or in use.

    Raises:
        SickbayError: when it is no database of ours at all.

    """
    try:
        with closing(_opened(path)) as file:
            (counter,) = file.execute(_COUNTER).fetchone()
            found = chain.walk(_stored(file), counter, noted)
            triggers = dict(file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    except sqlite3.Error as error:
        if full(error, path):
            raise told(error, path, "the timeline cannot be read") from error
        raise SickbayError(
            f"the timeline cannot be read: {error}",
            where=str(path),
            advice="is it the database of this Sickbay? One in use is copied with `VACUUM INTO` (README)",
        ) from error
    if not found.fault and any(triggers.get(name) != sql for name, sql in APPEND_ONLY.items()):
        lost = ", ".join(name for name, sql in APPEND_ONLY.items() if triggers.get(name) != sql)
        fault = f"all events fit, but what keeps them from being changed is gone from the database: {lost}"
        return Walked(found.events, found.head, fault, found.noted)
    return found


def _opened(path: Path | str) -> sqlite3.Connection:
    """Open it and begin one moment of it, whoever writes meanwhile; on a full disk, as it is."""
    if Path(path).is_dir():
        advice = "name the database in it, such as sickbay.db"
        raise SickbayError("it is a folder, and no database", where=str(path), advice=advice)
    if not Path(path).is_file():
        raise SickbayError("there is no such file", where=str(path), advice="name the database of a Sickbay")
    try:
        return _begun(f"file:{quote(str(Path(path).resolve()))}?mode=ro")
    except sqlite3.Error as error:
        uri = as_it_is(path) if full(error, path) else None
        if uri is None:
            raise
        return _begun(uri)


def _begun(uri: str) -> sqlite3.Connection:
    file = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        file.execute("BEGIN")
        file.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        file.close()
        raise
    return file


def _stored(file: sqlite3.Connection) -> Iterator[Stored]:
    return (chain.stored(row) for row in file.execute(_WALK))
