"""Schedules: how far each has come, the ticks that were dealt with, and what scheduled runs found.

A tick is a row that exists once, written in the transaction that starts its run: whoever comes second, after a crash or
in another process, finds it there.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, delete, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from bot.finding import Finding, Place
from bot.runs.run import RunState
from bot.store.alerts import Alerts
from bot.store.database import Database
from bot.store.schedule_tables import doubts, findings, schedules, ticks
from bot.store.tables import alerts, attempts, outputs, runs
from bot.store.timeline import tell

KEPT = 1000
"""Ticks of a runbook that are remembered: as many as a clock may go back over."""
PRINTED = 100
"""Newest runs by the clock of a runbook of which it is kept what they printed: they come for ever, and say mostly the same."""

_ENDED = [state for state in RunState if state.ended]
_UNTAKEN = (
    select(ticks.c.id, ticks.c.run_id)
    .join(runs, runs.c.id == ticks.c.run_id)
    .where(ticks.c.taken == 0, runs.c.state.in_(_ENDED))
    .order_by(ticks.c.id)
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a schedule has come."""

    since: datetime
    """When it was first seen."""
    cursor: datetime


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment of a schedule that came, and what became of it."""

    runbook: str
    tick: datetime
    run_id: int | None
    note: str
    """Why no run was started."""


class Schedules:
    """All schedules; what takes `tx` belongs into one transaction with what it decides."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def standing(self, tx: Connection, runbook: str, expression: str) -> Standing:
        """Return how far a schedule has come; one that is new begins now, and one from the future begins again."""
        now = self._db.now()
        query = select(schedules.c.since, schedules.c.cursor).where(_one(runbook, expression))
        found = tx.execute(query).first()
        if found is not None and found.since <= now:
            return Standing(found.since, found.cursor)
        fresh = insert(schedules).values(runbook=runbook, expression=expression, since=now, cursor=now)
        again = {"since": now, "cursor": now}
        tx.execute(fresh.on_conflict_do_update(index_elements=["runbook", "expression"], set_=again))
        return Standing(now, now)

    def move(self, tx: Connection, runbook: str, expression: str, cursor: datetime) -> None:
        """Remember how far a schedule has come."""
        tx.execute(update(schedules).where(_one(runbook, expression)).values(cursor=cursor))

    def forget(self, tx: Connection, kept: Collection[tuple[str, str]]) -> None:
        """Forget schedules that are no more, so that they begin anew if they come back."""
        for row in tx.execute(select(schedules.c.runbook, schedules.c.expression)).all():
            if (row.runbook, row.expression) not in kept:
                tx.execute(delete(schedules).where(_one(row.runbook, row.expression)))

    def ran(self, tx: Connection, runbook: str, tick: datetime) -> bool:
        """Was this tick dealt with?"""
        query = select(ticks.c.id).where(ticks.c.runbook == runbook, ticks.c.tick == tick)
        return tx.scalar(query) is not None

    def keep(
        self, tx: Connection, runbook: str, tick: datetime, *, run: int | None = None, note: str = ""
    ) -> None:
        """Write down what became of a tick; written twice it is refused by the table. Old ones are let go."""
        row = {"runbook": runbook, "tick": tick, "at": self._db.now(), "run_id": run, "note": note}
        tx.execute(ticks.insert().values(**row, taken=int(run is None)))
        of_it = select(ticks.c.id).where(ticks.c.runbook == runbook).order_by(ticks.c.id.desc())
        self._let_go(tx, of_it)
        oldest = tx.scalar(of_it.offset(KEPT - 1).limit(1))
        if oldest is not None:
            tx.execute(
                delete(ticks).where(ticks.c.runbook == runbook, ticks.c.id < oldest, ticks.c.taken == 1)
            )

    def _let_go(self, tx: Connection, of_it: Select[tuple[int]]) -> None:
        """Let go of what an old run printed; what a finding was first seen or last seen in stays."""
        old = tx.scalar(
            of_it.with_only_columns(ticks.c.run_id)
            .where(ticks.c.run_id.is_not(None))
            .offset(PRINTED)
            .limit(1)
        )
        named = or_(findings.c.run_id == old, findings.c.first_run == old)
        if old is None or tx.scalar(select(findings.c.episode).where(named).limit(1)) is not None:
            return
        its = select(attempts.c.id).where(attempts.c.run_id == old)
        tx.execute(delete(outputs).where(outputs.c.attempt_id.in_(its)))

    def going(self, tx: Connection, runbook: str) -> int | None:
        """Return the run that the schedule of a runbook started and that has not ended."""
        query = (
            select(ticks.c.run_id)
            .join(runs, runs.c.id == ticks.c.run_id)
            .where(ticks.c.runbook == runbook, runs.c.state.not_in(_ENDED))
        )
        return tx.scalar(query.limit(1))

    def last(self, runbook: str) -> Tick | None:
        """Return the newest tick of a runbook that was dealt with."""
        query = select(ticks.c.runbook, ticks.c.tick, ticks.c.run_id, ticks.c.note)
        query = query.where(ticks.c.runbook == runbook).order_by(ticks.c.id.desc()).limit(1)
        with self._db.read() as tx:
            row = tx.execute(query).mappings().first()
            return Tick(**row) if row else None

    def untaken(self) -> list[tuple[int, int]]:
        """Return (tick, run) of the scheduled runs that have ended and whose findings were not taken in."""
        with self._db.read() as tx:
            return [(row.id, row.run_id) for row in tx.execute(_UNTAKEN)]

    def take(self, tx: Connection, tick_id: int) -> bool:
        """Note that the findings of a tick's run are taken in; false when they were before."""
        statement = update(ticks).where(ticks.c.id == tick_id, ticks.c.taken == 0)
        return tx.execute(statement.values(taken=1)).rowcount == 1


class Findings:
    """What scheduled runs found, and what they could not tell."""

    def __init__(self, database: Database, inbox: Alerts) -> None:
        self._db = database
        self._alerts = inbox

    def open(self, tx: Connection, runbook: str | None = None) -> dict[Place, Finding]:
        """Return the open findings, of one runbook or of all."""
        query = findings.select().where(findings.c.ended_at.is_(None))
        query = query.where(findings.c.runbook == runbook) if runbook is not None else query
        found = (
            Finding(_place(row), bool(row["sure"]), row["begun_at"], row["count"], row["hosts"])
            for row in tx.execute(query).mappings()
        )
        return {one.place: one for one in found}

    def begin(self, tx: Connection, found: Finding, summary: str, run_id: int | None = None) -> None:
        """Open a finding, and tell it as an alert."""
        alert, place, begun = found.begun(summary, run_id), found.place, found.begun_at
        row: dict[str, Any] = {"runbook": place.runbook, "host": place.host, "step": place.step}
        row |= {"episode": alert.episode, "sure": int(found.sure), "hosts": found.hosts, "count": found.count}
        tx.execute(
            findings.insert().values(**row, run_id=run_id, first_run=run_id, begun_at=begun, seen_at=begun)
        )
        self._alerts.put(tx, alert)

    def repeat(self, tx: Connection, found: Finding, run_id: int | None = None, said: str = "") -> None:
        """Count an open finding up; `said` is what is to be told of it beside the number."""
        now, count, episode = self._db.now(), found.count + 1, found.over(found.begun_at).episode
        statement = update(findings).where(findings.c.episode == episode)
        tx.execute(statement.values(count=count, seen_at=now, run_id=run_id))
        told = select(alerts.c.incident_id).where(alerts.c.episode == episode)
        if (incident := tx.scalar(told.where(alerts.c.incident_id.is_not(None)).limit(1))) is not None:
            place = found.place
            tell(
                tx,
                now,
                "finding.repeated",
                incident=incident,
                host=place.host or None,
                step=(place.host and place.step) or None,
                count=count,
                found_by=run_id,
                said=said,
            )

    def end(self, tx: Connection, found: Finding, why: str = "") -> None:
        """Close a finding, and tell its alert's end."""
        alert = found.over(self._db.now(), why)
        tx.execute(
            update(findings).where(findings.c.episode == alert.episode).values(ended_at=self._db.now())
        )
        self._alerts.put(tx, alert)

    def doubts(self, tx: Connection, runbook: str | None = None) -> dict[Place, datetime]:
        """Return of which places nobody could tell anything when they were looked at last, and since when."""
        query = doubts.select() if runbook is None else doubts.select().where(doubts.c.runbook == runbook)
        return {_place(row): row["since"] for row in tx.execute(query).mappings()}

    def doubt(self, tx: Connection, places: Iterable[Place]) -> None:
        """Note that of these nobody can tell anything from now on."""
        rows = [
            {"runbook": one.runbook, "host": one.host, "step": one.step, "since": self._db.now()}
            for one in places
        ]
        if rows:
            tx.execute(insert(doubts).on_conflict_do_nothing(), rows)

    def settle(self, tx: Connection, places: Iterable[Place]) -> None:
        """Note that of these something is known, or nothing is wanted any more."""
        for one in places:
            here = (doubts.c.runbook == one.runbook, doubts.c.host == one.host, doubts.c.step == one.step)
            tx.execute(delete(doubts).where(*here))


def _place(row: RowMapping) -> Place:
    return Place(row["runbook"], row["host"], row["step"])


def _one(runbook: str, expression: str) -> ColumnElement[bool]:
    return and_(schedules.c.runbook == runbook, schedules.c.expression == expression)
