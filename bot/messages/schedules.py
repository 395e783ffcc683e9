"""What is run by the clock, as a table: when next, and what came of it the last time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.language.schedule import Schedule
from bot.messages.card import Card, Node, Note, Table, Title
from bot.messages.short import line
from bot.messages.words import say, text
from bot.runs.run import Run
from bot.wording import count


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """One schedule, and how it stands."""

    schedule: Schedule
    next_at: datetime | None
    last_tick: datetime | None = None
    """The last one of its runbook that was dealt with."""
    run: Run | None = None
    note: str = ""
    """Why the last tick started no run."""


def schedule_table(rows: Sequence[ScheduleRow]) -> Card:
    """List schedules."""
    title = count(len(rows), "schedule")
    nodes: list[Node] = [Title(text(title, bold=True))]
    if rows:
        columns = ("Runbook", "When", "Hosts", "Next (UTC)", "Last (UTC)", "What came of it")
        nodes.append(Table(columns, tuple(_row(row) for row in rows)))
    else:
        nodes.append(Note(say("listing.no_schedules")))
    return Card(title, tuple(nodes))


def _row(row: ScheduleRow) -> tuple[str, ...]:
    cron = row.schedule.cron
    zone = str(cron.zone)
    return (
        row.schedule.runbook,
        f"{cron.expression} ({line(cron.words, 60)}{'' if zone == 'UTC' else f', {zone}'})",
        row.schedule.hosts or "as the runbook says, else all",
        f"{row.next_at:%m-%d %H:%M}" if row.next_at else "never",
        f"{row.last_tick:%m-%d %H:%M}" if row.last_tick else "–",
        _came(row),
    )


def _came(row: ScheduleRow) -> str:
    if row.run is None:
        return line(row.note, 160) or ("its run is no longer kept" if row.last_tick else "not run yet")
    verdict = f", {row.run.verdict}" if row.run.verdict else ""
    reason = f": {row.run.reason}" if row.run.reason else ""
    return line(f"run {row.run.id} {row.run.state}{verdict}{reason}", 160)
