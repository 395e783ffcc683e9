"""The timeline and its readers: events, how far each reader has come, what it posted where."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from bot.incident import Event
from bot.store.database import Database, masked
from bot.store.tables import cursors, events, posts, seen

_TELL = events.insert()


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
    about = {"at": at, "kind": kind, "incident_id": incident, "run_id": run}
    tx.execute(_TELL, [{**about, **row} for row in masked(tx, rows)])


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

    def after(self, event_id: int, limit: int = 500) -> list[Event]:
        """Return the events that follow this one, oldest first."""
        with self._db.read() as tx:
            rows = tx.execute(
                events.select().where(events.c.id > event_id).order_by(events.c.id).limit(limit)
            )
            return [Event(**row) for row in rows.mappings()]

    def of(self, *, incident: int | None = None, run: int | None = None) -> list[Event]:
        """Return all events of an incident or a run, oldest first."""
        query = events.select().order_by(events.c.id)
        query = query.where(events.c.incident_id == incident) if incident is not None else query
        query = query.where(events.c.run_id == run) if run is not None else query
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
