"""The tables: what Sickbay remembers, all of it JSON and plain values, nothing pickled."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
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
    text,
)

SCHEMA = 4
"""Raised with every change of the tables; a database of another number is refused, not guessed at."""


class Ours(str):
    """Text that is written as it is: it was masked already, or is a time."""

    __slots__ = ()


class Moment(TypeDecorator[datetime]):
    """A point in time as UTC text, which sorts as it passes and reads as it is."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write it."""
        return None if value is None else Ours(value.astimezone(UTC).isoformat(timespec="microseconds"))

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
)
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
    Column("cancelled_by", String),
    Column("plan", JSON(none_as_null=True)),
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

outputs = Table(
    "outputs",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True),
    Column("stream", String, primary_key=True),
    Column("at", Integer, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

host_locks = Table(
    "host_locks",
    metadata,
    Column("host", String, primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
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
    sqlite_autoincrement=True,
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
