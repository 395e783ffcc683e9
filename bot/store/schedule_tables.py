"""The tables of what the clock starts: schedules, their ticks, and what the runs of ticks found or could not tell."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint, text

from bot.store.tables import Moment, metadata

schedules = Table(
    "schedules",
    metadata,
    Column("runbook", String, primary_key=True),
    Column("expression", String, primary_key=True),
    Column("since", Moment, nullable=False),
    Column("cursor", Moment, nullable=False),
)

ticks = Table(
    "ticks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("runbook", String, nullable=False),
    Column("tick", Moment, nullable=False),
    Column("at", Moment, nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="SET NULL")),
    Column("note", Text, nullable=False, server_default=""),
    Column("taken", Integer, nullable=False, server_default="1"),
    UniqueConstraint("runbook", "tick"),
)
Index("ticks_to_take", ticks.c.id, sqlite_where=text("taken = 0"))

findings = Table(
    "findings",
    metadata,
    Column("episode", String, primary_key=True),
    Column("runbook", String, nullable=False),
    Column("host", String, nullable=False),
    Column("step", String, nullable=False),
    Column("sure", Integer, nullable=False),
    Column("hosts", Text, nullable=False, server_default=""),
    Column("begun_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_run", Integer),
    Column("run_id", Integer),
    Column("ended_at", Moment),
)
Index(
    "one_open_finding",
    findings.c.runbook,
    findings.c.host,
    findings.c.step,
    unique=True,
    sqlite_where=text("ended_at is null"),
)

doubts = Table(
    "doubts",
    metadata,
    Column("runbook", String, primary_key=True),
    Column("host", String, primary_key=True),
    Column("step", String, primary_key=True),
    Column("since", Moment, nullable=False),
)
