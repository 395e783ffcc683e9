"""The tables: what Sickbay remembers, all of it JSON and plain values, nothing pickled."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    DDL,
    JSON,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
    exists,
    text,
)

SCHEMA = 5
"""Raised with every change of the tables; a database of another number is refused, not guessed at."""


class Ours(str):
    """Text that is written as it is: it was masked already, or is a time."""

    __slots__ = ()


def written(at: datetime) -> str:
    """Return a moment as it is stored."""
    return Ours(at.astimezone(UTC).isoformat(timespec="microseconds"))


class Moment(TypeDecorator[datetime]):
    """A point in time as UTC text, which sorts as it passes and reads as it is."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write it."""
        return None if value is None else written(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read it."""
        return None if value is None else datetime.fromisoformat(value)


metadata = MetaData()

meta = Table("meta", metadata, Column("schema", Integer, primary_key=True))

incidents = Table(
    "incidents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("severity", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("state", String, nullable=False),
    Column("host", String),
    Column("opened_at", Moment, nullable=False),
    Column("resolved_at", Moment),
    Column("recovered_by", Integer),
    Column("note", Text, nullable=False, server_default=""),
    Column("times", Integer, nullable=False, server_default="1"),
)
Index("incidents_by_key", incidents.c.key)
Index(
    "one_open_incident_per_key",
    incidents.c.key,
    unique=True,
    sqlite_where=text("state = 'open'"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("episode", String, nullable=False, index=True),
    Column("source", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("status", String, nullable=False),
    Column("starts_at", Moment, nullable=False),
    Column("ends_at", Moment),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("url", Text, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("dispatched", Integer, nullable=False, server_default="0"),
    Column("incident_id", ForeignKey("incidents.id"), index=True),
)
Index(
    "alerts_to_dispatch",
    alerts.c.id,
    sqlite_where=text("dispatched = 0"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident_id", ForeignKey("incidents.id"), index=True),
    Column("runbook", JSON, nullable=False),
    Column("runbook_name", String, nullable=False),
    Column("runbook_digest", String, nullable=False),
    Column("hosts", JSON, nullable=False),
    Column("host_set", Text, nullable=False, server_default=""),
    Column("inputs", JSON, nullable=False),
    Column("alert", JSON(none_as_null=True)),
    Column("mode", String, nullable=False),
    Column("lowered", Text, nullable=False, server_default=""),
    Column("requester", JSON, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("channel", String, nullable=False),
    Column("thread", String),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("begun_at", Moment),
    Column("deadline", Moment),
    Column("ended_at", Moment),
    Column("wake_at", Moment),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("look_from", Integer, nullable=False, server_default="1"),
    Column("waits", Text, nullable=False, server_default=""),
    Column("looks", JSON, nullable=False, server_default="{}"),
    Column("cancelled_by", String),
    Column("plan", JSON(none_as_null=True)),
    Column("former", JSON(none_as_null=True)),
    Column("fallen", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    Column("verdict", String),
    Column("proved", Integer),
)
Index("proofs", runs.c.runbook_name, runs.c.runbook_digest, sqlite_where=text("proved is not null"))

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("step", String, nullable=False),
    Column("host", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("begun_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("summary", Text, nullable=False, server_default=""),
    Column("advice", Text, nullable=False, server_default=""),
    Column("verdict", String),
    Column("facts", JSON, nullable=False),
    Column("exit_code", Integer),
    Column("again", Integer, nullable=False, server_default="0"),
    Column("sent", Integer, nullable=False, server_default="1"),
    UniqueConstraint("run_id", "step", "host", "number"),
)
_LATER = attempts.alias()
NEWEST = ~exists().where(
    _LATER.c.run_id == attempts.c.run_id,
    _LATER.c.step == attempts.c.step,
    _LATER.c.host == attempts.c.host,
    _LATER.c.number > attempts.c.number,
)
"""Holds of the last try of a step on a host."""

outputs = Table(
    "outputs",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True),
    Column("stream", String, primary_key=True),
    Column("at", Integer, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

locks = Table(
    "locks",
    metadata,
    Column("key", String, primary_key=True),
    Column("host", String),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    # Of a run that has ended: the step of which nobody knows how it ended there. Without it nothing is held.
    Column("step", String),
    Column("why", Text, nullable=False, server_default=""),
)

lock_waits = Table(
    "lock_waits",
    metadata,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("holder_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("key", String, nullable=False),
)

uses = Table(
    "uses",
    metadata,
    Column("run_id", Integer, primary_key=True),
    Column("host", String, primary_key=True),
    Column("runbook", String, nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("gpus", JSON, nullable=False),
    Column("verified_at", Moment),
)

wishes = Table(
    "wishes",
    metadata,
    Column("run_id", Integer, primary_key=True),
    Column("host", String, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("settled", Integer, nullable=False, server_default="0"),
)

breaker = Table(
    "breaker",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("hosts", JSON, nullable=False),
    Column("reset_at", Moment),
    Column("reset_by", String),
    Column("reason", Text),
)

freezes = Table(
    "freezes",
    metadata,
    Column("hosts", String, primary_key=True),
    Column("by", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("reason", Text, nullable=False),
)

drains = Table(
    "drains",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host", String, nullable=False),
    Column("lb", String, nullable=False),
    Column("socket", String, nullable=False),
    Column("server", String, nullable=False),
    # Of the run all is written down that tells whose the drain is: it outlives the run's row.
    Column("run", Integer, nullable=False, index=True),
    Column("first_run", Integer, nullable=False, index=True),
    Column("runbook", String, nullable=False),
    Column("incident", Integer),
    Column("by", String, nullable=False),
    Column("person", String),
    Column("why", Text, nullable=False),
    Column("keep", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("state", String, nullable=False),
    Column("since", Moment),
    Column("selected", Integer),
    Column("doing", String),
    Column("doing_run", Integer, index=True),
    Column("doing_step", String),
    Column("doing_host", String),
    Column("doing_number", Integer),
    Column("kept_at", Moment),
    Column("note", Text, nullable=False, server_default=""),
    Column("lost", Text, nullable=False, server_default=""),
    Column("seen", String, nullable=False, server_default=""),
    Column("seen_words", Text, nullable=False, server_default=""),
    Column("seen_at", Moment),
    Column("closed", Text, nullable=False, server_default=""),
    Column("closed_at", Moment),
)
Index(
    "one_owner_per_server",
    drains.c.lb,
    drains.c.socket,
    drains.c.server,
    unique=True,
    sqlite_where=text("closed_at is null"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String, nullable=False),
    Column("rule", JSON, nullable=False),
    Column("requester", JSON, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("state", String, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
)

decisions = Table(
    "decisions",
    metadata,
    Column("run_id", ForeignKey("approvals.run_id", ondelete="CASCADE"), primary_key=True),
    Column("person", String, primary_key=True),
    Column("answer", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("glass", Text, nullable=False, server_default=""),
    Column("via", String, nullable=False, server_default=""),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("kind", String, nullable=False),
    Column("incident_id", Integer, index=True),
    Column("run_id", Integer, index=True),
    Column("host", String),
    Column("step", String),
    Column("data", JSON, nullable=False),
    Column("hash", String(64), nullable=False),
    sqlite_autoincrement=True,
)

APPEND_ONLY = {
    f"events_{name}": f"CREATE TRIGGER events_{name} BEFORE {when} BEGIN "
    "SELECT RAISE(ABORT, 'the timeline is append-only'); END"
    for name, when in {
        "are_not_edited": "UPDATE ON events",
        "are_not_removed": "DELETE ON events",
        "come_last": "INSERT ON events WHEN new.id <= (SELECT max(id) FROM events)",
    }.items()
}
"""Triggers that refuse everything but a new event at the end: a slip of ours, or of somebody with the database open."""
for _trigger in APPEND_ONLY.values():
    event.listen(events, "after_create", DDL(_trigger))  # type: ignore[no-untyped-call]

commands = Table(
    "commands",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("text", Text, nullable=False),
)

cursors = Table(
    "cursors",
    metadata,
    Column("reader", String, primary_key=True),
    Column("event_id", Integer, nullable=False),
)

posts = Table(
    "posts",
    metadata,
    Column("key", String, primary_key=True),
    Column("place", JSON, nullable=False),
)

seen = Table(
    "seen",
    metadata,
    Column("key", String, primary_key=True),
    Column("at", Moment, nullable=False),
)
