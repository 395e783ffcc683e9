"""Locks when their run has ended: given back, or kept where nobody knows whether a command of it still goes on.

At most one run changes a host. So a host whose last command ended in doubt stays with the run that sent it, through
restarts, until a person has looked there and says so.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from bot.guard.decision import Holder
from bot.runs.run import Status
from bot.store.database import Database
from bot.store.tables import NEWEST, attempts, lock_waits, locks, runs, uses
from bot.store.timeline import tell

RELEASED = "run.released"
"""The event that a person let the hosts of a run go."""


class Holds:
    """What runs that have ended still hold."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> dict[str, Holder]:
        """Return the hosts that are held, and by which run."""
        with self._db.read() as tx:
            kept = locks.c.step.is_not(None)
            return {one.what: one for host, one in held(tx, kept) if host is not None}

    def of(self, run_id: int) -> list[Holder]:
        """Return what a run holds, host by host."""
        return [one for one in self.all().values() if one.run == run_id]

    def release(self, run_id: int, by: str, reason: str, via: str = "") -> list[str]:
        """Let go what a run that has ended still holds, because a person has looked there; return the hosts."""
        now = self._db.now()
        mine = (locks.c.run_id == run_id, locks.c.step.is_not(None))
        with self._db.write() as tx:
            hosts = [host for host in tx.scalars(select(locks.c.host).where(*mine)) if host is not None]
            if not hosts:
                return []
            tx.execute(delete(locks).where(*mine))
            incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == run_id))
            told: dict[str, Any] = {"by": by, "reason": self._db.mask.text(reason), "via": via}
            tell(tx, now, RELEASED, incident=incident, run=run_id, hosts=sorted(hosts), **told)
        return sorted(hosts)


def give_back(tx: Connection, now: datetime, run_id: int) -> None:
    """Give the locks of a run that ends back, but those in doubt, and let who waits for them take their turn."""
    mine = locks.c.run_id == run_id
    doubt = _doubt(tx, run_id)
    for host, (step, why) in doubt.items():
        tx.execute(update(locks).where(mine, locks.c.host == host).values(step=step, why=why))
    if doubt:  # what else it had locked may be what that command is at
        step, why = next(iter(doubt.values()))
        tx.execute(update(locks).where(mine, locks.c.host.is_(None)).values(step=step, why=why))
        incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == run_id))
        steps = {host: step for host, (step, _) in doubt.items()}
        tell(tx, now, "run.holds", incident=incident, run=run_id, hosts=sorted(doubt), steps=steps)
    tx.execute(delete(locks).where(mine, locks.c.step.is_(None)))
    tx.execute(delete(lock_waits).where(lock_waits.c.run_id == run_id))
    pass_on(tx, now, run_id)


def let_go(tx: Connection, now: datetime, run_id: int) -> None:
    """Free what a run had taken that has sent no change: it counts as no use, and changes nobody's plan."""
    tx.execute(delete(locks).where(locks.c.run_id == run_id))
    tx.execute(delete(uses).where(uses.c.run_id == run_id))
    pass_on(tx, now, run_id)


def sweep(tx: Connection) -> None:
    """After a start: a run that goes on keeps its locks, one that ended in doubt its hosts; no other holds anybody up."""
    going = select(runs.c.id).where(runs.c.ended_at.is_(None))
    tx.execute(delete(locks).where(locks.c.run_id.not_in(going), locks.c.step.is_(None)))


def held(tx: Connection, *which: object) -> list[tuple[str | None, Holder]]:
    """Return locks, each with its host where it is one's."""
    query = (
        select(locks, runs.c.runbook_name, runs.c.requester)
        .join(runs, runs.c.id == locks.c.run_id)
        .where(or_(runs.c.ended_at.is_(None), locks.c.step.is_not(None)), *which)  # type: ignore[arg-type]
        .order_by(locks.c.key)
    )
    return [
        (
            row.host,
            Holder(
                row.run_id,
                row.runbook_name,
                row.requester["name"],
                row.key.removeprefix("host "),
                row.key,
                row.step or "",
                row.why,
            ),
        )
        for row in tx.execute(query)
    ]


def _doubt(tx: Connection, run_id: int) -> Mapping[str, tuple[str, str]]:
    """Return the locked hosts on which nobody knows how a step of a run ended, with the last such step and why."""
    unsure = attempts.c.status.in_((Status.UNKNOWN, Status.BEGUN))
    here = and_(locks.c.run_id == attempts.c.run_id, locks.c.host == attempts.c.host)
    query = (
        select(attempts.c.host, attempts.c.step, attempts.c.summary)
        .join(locks, here)
        .where(attempts.c.run_id == run_id, unsure, NEWEST)
        .order_by(attempts.c.id)
    )
    return {row.host: (row.step, row.summary or "its end was not written down") for row in tx.execute(query)}


def pass_on(tx: Connection, now: datetime, run_id: int) -> None:
    """Wake who has waited longest for what this run had or might have had; the others wait for that one.

    If all were woken, a hundred who wait would look a hundred times each before their turn.
    """
    waiting = (
        select(lock_waits.c.run_id, lock_waits.c.key)
        .join(runs, runs.c.id == lock_waits.c.run_id)
        .where(lock_waits.c.holder_id == run_id, runs.c.ended_at.is_(None))
        .order_by(lock_waits.c.run_id)
    )
    rows = tx.execute(waiting).all()
    tx.execute(delete(lock_waits).where(lock_waits.c.holder_id == run_id))
    turns: dict[str, int] = {}
    for row in rows:
        first = turns.setdefault(row.key, row.run_id)
        if first == row.run_id:
            tx.execute(update(runs).where(runs.c.id == first).values(wake_at=now))
        else:
            behind = {"run_id": row.run_id, "holder_id": first, "key": row.key}
            tx.execute(insert(lock_waits).values(behind).on_conflict_do_nothing())
