"""The ledger of the guard: who has which lock, what was done when, what is frozen, whether the breaker is open.

A host is taken in one transaction with the answer about it, so two runs never both get a yes that only one may have.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from bot.errors import SickbayError
from bot.guard import (
    Answer,
    Facts,
    Freeze,
    Holder,
    Settings,
    Tripped,
    Use,
    answer,
    clean_up,
    trips,
)
from bot.run import Run
from bot.store.database import Database
from bot.store.runs import fenced
from bot.store.tables import breaker, freezes, lock_waits, locks, runs, uses, wishes
from bot.store.timeline import tell

Covers = Callable[[str], frozenset[str]]
"""Which hosts a host set means now.

Raises SickbayError when it means none any more; a freeze of such a set covers everything, since nobody knows what it meant.
"""


class Ledger:
    """What the guard remembers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ── taking hosts ──
    def take(
        self,
        run: Run,
        keys: Mapping[str, Sequence[str]],
        gpus: Mapping[str, tuple[str, ...]],
        covers: Covers,
        settings: Settings,
        *,
        clean_up_only: bool = False,
    ) -> dict[str, Answer]:
        """Take those hosts that the guard gives for one mutating run; return its answer for each host.

        `keys` names what must be locked for a host besides the host itself. A host that the run has already is given.
        When one of them has to be waited for, none is taken: who waits holds nothing.
        """
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run)
            mine = set(tx.scalars(select(locks.c.host).where(locks.c.run_id == run.id)))
            given = {host: Answer(host, None, "go") for host in keys if host in mine}
            wanted = [host for host in keys if host not in mine]
            if wanted and not clean_up_only:
                self._wish(tx, run, wanted, now, settings)
            known = {
                host: self._facts(
                    tx, run, host, [f"host {host}", *keys[host]], gpus.get(host, ()), covers, now
                )
                for host in wanted
            }
            for host, facts in known.items():
                one = (clean_up if clean_up_only else answer)(run, facts)
                if one.reaction == "queue" and mine:  # two runs that hold and wait could wait for each other
                    one = replace(one, reaction="refuse")
                given[host] = one
            if any(one.reaction == "queue" for one in given.values()):
                for facts in known.values():
                    if given[facts.host].reaction == "queue" and facts.holder is not None:
                        row = {"run_id": run.id, "holder_id": facts.holder.run}
                        tx.execute(insert(lock_waits).values(row).on_conflict_do_nothing())
                return given
            for host in wanted:
                one = given[host]
                if one.reaction == "go":
                    self._lock(tx, run, host, [f"host {host}", *keys[host]])
                    if not clean_up_only:
                        self._use(tx, run, host, now, gpus.get(host, ()))
                else:
                    told = {"rail": one.rail, "reaction": one.reaction, "why": one.words}
                    tell(tx, now, "guard.answered", incident=run.incident_id, run=run.id, host=host, **told)
        return given

    def answers(
        self,
        run: Run,
        keys: Mapping[str, Sequence[str]],
        gpus: Mapping[str, tuple[str, ...]],
        covers: Covers,
    ) -> dict[str, Answer]:
        """Return what the guard would say now; takes nothing and counts nothing."""
        with self._db.read() as tx:
            now = self._db.now()
            return {
                host: answer(
                    run,
                    self._facts(tx, run, host, [f"host {host}", *more], gpus.get(host, ()), covers, now),
                )
                for host, more in keys.items()
            }

    def _facts(
        self,
        tx: Connection,
        run: Run,
        host: str,
        keys: Sequence[str],
        gpus: tuple[str, ...],
        covers: Covers,
        now: datetime,
    ) -> Facts:
        name = run.runbook.name
        verified = tx.scalar(
            select(func.max(uses.c.verified_at)).where(uses.c.runbook == name, uses.c.host == host)
        )
        found: list[Use] = []
        if run.runbook.limits is not None:
            query = uses.select().where(uses.c.runbook == name, uses.c.at > now - run.runbook.limits.per)
            found = [
                Use(row.run_id, row.runbook, row.host, row.at, tuple(row.gpus)) for row in tx.execute(query)
            ]
        return Facts(
            host=host,
            now=now,
            holder=_holder(tx, run, keys),
            freezes=tuple(one for one in _freezes(tx) if covered(one, host, covers)),
            tripped=_tripped(tx),
            verified=verified,
            uses=tuple(found),
            gpus=gpus,
        )

    def _wish(
        self, tx: Connection, run: Run, hosts: Sequence[str], now: datetime, settings: Settings
    ) -> None:
        """Write down which hosts an alert wants to have changed, and open the breaker when they are too many."""
        if run.requester.via != "alert":
            return
        rows = [{"run_id": run.id, "host": host, "at": now} for host in hosts]
        tx.execute(insert(wishes).on_conflict_do_nothing(), rows)
        if _tripped(tx) is not None:
            return
        reset = tx.scalar(select(func.max(breaker.c.reset_at)))
        query = select(wishes.c.host, wishes.c.at)
        query = query if reset is None else query.where(wishes.c.at > reset)
        if over := trips([(row.host, row.at) for row in tx.execute(query)], now, settings):
            tx.execute(breaker.insert().values(at=now, hosts=list(over)))
            tell(tx, now, "breaker.tripped", incident=run.incident_id, run=run.id, hosts=list(over))

    def _lock(self, tx: Connection, run: Run, host: str, keys: Sequence[str]) -> None:
        for key in keys:
            row = {"key": key, "run_id": run.id, "host": host if key == f"host {host}" else None}
            tx.execute(insert(locks).values(row).on_conflict_do_nothing())

    def _use(self, tx: Connection, run: Run, host: str, now: datetime, gpus: tuple[str, ...]) -> None:
        row = {"run_id": run.id, "host": host, "runbook": run.runbook.name, "at": now, "gpus": list(gpus)}
        tx.execute(insert(uses).values(row).on_conflict_do_nothing())

    # ── freezing ──
    def freezes(self) -> list[Freeze]:
        """Return what is frozen, oldest first."""
        with self._db.read() as tx:
            return _freezes(tx)

    def freeze(self, freeze: Freeze) -> None:
        """Stop all changes on a host set; one that is frozen already keeps its new reason."""
        row = {"hosts": freeze.hosts, "by": freeze.by, "at": freeze.at, "reason": freeze.reason}
        with self._db.write() as tx:
            tx.execute(insert(freezes).values(row).on_conflict_do_update(index_elements=["hosts"], set_=row))
            tell(tx, freeze.at, "guard.frozen", by=freeze.by, reason=freeze.reason, hosts=freeze.hosts)

    def thaw(self, hosts: str, by: str) -> bool:
        """Lift a freeze; false when there is none of exactly this host set."""
        with self._db.write() as tx:
            if tx.execute(delete(freezes).where(freezes.c.hosts == hosts)).rowcount == 0:
                return False
            tell(tx, self._db.now(), "guard.thawed", by=by, hosts=hosts)
            return True

    # ── the breaker ──
    def tripped(self) -> Tripped | None:
        """Return why automation stands still, if it does."""
        with self._db.read() as tx:
            return _tripped(tx)

    def reset(self, by: str, reason: str) -> bool:
        """Let automation go on; false when it was not stopped."""
        now = self._db.now()
        with self._db.write() as tx:
            closed = {"reset_at": now, "reset_by": by, "reason": reason}
            if tx.execute(update(breaker).where(breaker.c.reset_at.is_(None)).values(closed)).rowcount == 0:
                return False
            tell(tx, now, "breaker.reset", by=by, reason=reason)
            return True


def covered(freeze: Freeze, host: str, covers: Covers) -> bool:
    """Is a host within a freeze? One whose set nobody can read any more covers everything."""
    if not freeze.hosts:
        return True
    try:
        return host in covers(freeze.hosts)
    except SickbayError:
        return True


def _holder(tx: Connection, run: Run, keys: Sequence[str]) -> Holder | None:
    query = (
        select(locks.c.key, runs.c.id, runs.c.runbook_name, runs.c.requester)
        .join(runs, runs.c.id == locks.c.run_id)
        .where(locks.c.key.in_(keys), locks.c.run_id != run.id)
        .order_by(locks.c.key)
    )
    row = tx.execute(query).first()
    if row is None:
        return None
    what = row.key.removeprefix("host ")
    return Holder(row.id, row.runbook_name, row.requester["name"], what)


def _freezes(tx: Connection) -> list[Freeze]:
    rows = tx.execute(freezes.select().order_by(freezes.c.at))
    return [Freeze(row.by, row.at, row.reason, row.hosts) for row in rows]


def _tripped(tx: Connection) -> Tripped | None:
    row = tx.execute(breaker.select().where(breaker.c.reset_at.is_(None))).first()
    return None if row is None else Tripped(row.at, tuple(row.hosts))
