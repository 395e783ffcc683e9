"""The ledger of the guard: who has which lock, what was done when, what is frozen, whether the breaker is open.

A host is taken in one transaction with the answer about it, so two runs never both get a yes that only one may have.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from bot.errors import SickbayError
from bot.guard.decision import (
    PEOPLE,
    TRIPPED,
    Answer,
    Capacity,
    Covers,
    Facts,
    Floor,
    Freeze,
    Settings,
    Tripped,
    Use,
    Want,
    World,
    answer,
    clean_up,
    halt,
    trips,
)
from bot.runs.run import Run
from bot.store.database import Database
from bot.store.holds import held
from bot.store.runs import fenced
from bot.store.tables import breaker, freezes, lock_waits, locks, runs, uses, wishes
from bot.store.timeline import tell


class Ledger:
    """What the guard remembers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ── taking hosts ──
    def take(
        self,
        run: Run,
        wants: Mapping[str, Want],
        world: World,
        floor: Floor | None = None,
        *,
        clean_up_only: bool = False,
    ) -> dict[str, Answer]:
        """Take those hosts that the guard gives for one mutating run; return its answer for each host.

        Who asks has changed none of them yet: one that is this run's already, because it was killed before a command
        left, is asked about again. When one of them has to be waited for, none is taken: who waits holds nothing.
        """
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run)
            mine = set(tx.scalars(select(locks.c.host).where(locks.c.run_id == run.id)))
            again = set() if clean_up_only else mine & set(wants)
            given = {host: Answer(host, None, "go") for host in wants if host in mine - again}
            wanted = {host: want for host, want in wants.items() if host not in given}
            if not clean_up_only:
                _wish(tx, run, wanted, now, world.settings)
            look = _Look(tx, run, now, world, None if clean_up_only else floor, set(mine))
            waits: dict[int, str] = {}
            for host, want in wanted.items():
                facts = look.at(host, want)
                one = (clean_up if clean_up_only else answer)(run, facts)
                if (
                    one.reaction == "queue" and mine - again
                ):  # two that hold and wait could wait for each other
                    one = replace(one, reaction="refuse")
                given[host] = one
                if one.reaction == "go":
                    look.gone.add(host)
                    continue
                look.gone.discard(host)
                if one.reaction == "queue":
                    waits |= _holders(facts)
            if any(one.reaction == "queue" for one in given.values()):
                for holder, key in waits.items():
                    row = {"run_id": run.id, "holder_id": holder, "key": key}
                    tx.execute(insert(lock_waits).values(row).on_conflict_do_nothing())
                return given
            tx.execute(delete(lock_waits).where(lock_waits.c.run_id == run.id))
            for host, want in wanted.items():
                one = given[host]
                if one.reaction == "go":
                    _lock(tx, run, host, want)
                    if not clean_up_only:
                        _use(tx, run, host, now, want)
                    continue
                if host in again:  # nothing was changed there
                    tx.execute(delete(locks).where(locks.c.run_id == run.id, locks.c.host == host))
                    tx.execute(delete(uses).where(uses.c.run_id == run.id, uses.c.host == host))
                _tell(tx, run, one, now)
        return given

    def answers(self, run: Run, wants: Mapping[str, Want], world: World) -> dict[str, Answer]:
        """Return what the guard would say now; takes nothing and counts nothing, replicas neither."""
        with self._db.read() as tx:
            look = _Look(tx, run, self._db.now(), world, None, set())
            return {host: answer(run, look.at(host, want)) for host, want in wants.items()}

    def wish(self, run: Run, wants: Mapping[str, Want], settings: Settings) -> None:
        """Write down what automation wants to change, before anybody was asked about it."""
        with self._db.write() as tx:
            _wish(tx, run, wants, self._db.now(), settings)

    # ── freezing ──
    def freezes(self) -> list[Freeze]:
        """Return what is frozen, oldest first."""
        with self._db.read() as tx:
            return _freezes(tx)

    def freeze(self, freeze: Freeze, via: str = "") -> None:
        """Stop all changes on a host set; one that is frozen already gets the new reason, person and time."""
        row = {"hosts": freeze.hosts, "by": freeze.by, "at": freeze.at, "reason": freeze.reason}
        with self._db.write() as tx:
            tx.execute(insert(freezes).values(row).on_conflict_do_update(index_elements=["hosts"], set_=row))
            told: dict[str, Any] = {
                "by": freeze.by,
                "reason": freeze.reason,
                "hosts": freeze.hosts,
                "via": via,
            }
            tell(tx, freeze.at, "guard.frozen", **told)

    def thaw(self, hosts: str, by: str, via: str = "") -> bool:
        """Lift a freeze; false when there is none of exactly this host set."""
        with self._db.write() as tx:
            if tx.execute(delete(freezes).where(freezes.c.hosts == hosts)).rowcount == 0:
                return False
            tell(tx, self._db.now(), "guard.thawed", by=by, hosts=hosts, via=via)
            return True

    # ── the breaker ──
    def tripped(self) -> Tripped | None:
        """Return why automation stands still, if it does."""
        with self._db.read() as tx:
            return _tripped(tx)

    def reset(self, by: str, reason: str, via: str = "") -> bool:
        """Let automation go on; false when it was not stopped."""
        now = self._db.now()
        with self._db.write() as tx:
            closed = {"reset_at": now, "reset_by": by, "reason": reason}
            if tx.execute(update(breaker).where(breaker.c.reset_at.is_(None)).values(closed)).rowcount == 0:
                return False
            # marked, not compared with a clock that may be set back
            tx.execute(update(wishes).values(settled=1))
            tell(tx, now, "breaker.reset", by=by, reason=reason, via=via)
            return True


class _Look:
    """Gathers what is known about hosts, within one transaction; what is the same for all of them once."""

    def __init__(
        self, tx: Connection, run: Run, now: datetime, world: World, floor: Floor | None, gone: set[str]
    ) -> None:
        """`gone` are hosts that this run has taken, up to now."""
        self._tx = tx
        self._run = run
        self._now = now
        self._world = world
        self._floor = floor
        self.gone = gone
        self._held = held(tx, locks.c.run_id != run.id)
        self._freezes = [(one, covered(one, world.covers)) for one in _freezes(tx)]
        self._tripped = _tripped(tx)
        self._uses = _uses(tx, run, now)
        self._verified = _verified(tx, run)
        self._changed: dict[str, tuple[int, datetime] | None] = {}

    def at(self, host: str, want: Want) -> Facts:
        """Return what is known about a host."""
        keys = {f"host {host}", *want.keys}
        return Facts(
            host=host,
            now=self._now,
            holder=next((holder for _, holder in self._held if holder.key in keys), None),
            freezes=tuple(one for one, hosts in self._freezes if hosts is None or host in hosts),
            window=self._world.window(host, self._now),
            tripped=self._tripped,
            verified=self._verified.get(host),
            uses=self._uses,
            gpus=want.gpus,
            capacity=self._capacity(host),
        )

    def _capacity(self, host: str) -> Capacity | None:
        """Count again what was counted, with what has happened since: only what is surely ready stays."""
        floor = self._floor
        if floor is None or host not in floor.seen or floor.seen[host].ready is False:
            return None
        had = {name: holder for name, holder in self._held if name is not None and name in floor.seen}
        taken = {name: holder for name, holder in had.items() if not holder.step}
        leaving = self.gone & set(floor.batch)
        others, unknown, outdated = [], {}, []
        for name, seen in floor.seen.items():
            if name in leaving or name in taken:
                continue
            why = seen.why
            if name in had:
                why = f"{had[name]} has ended and holds it"
            elif seen.ready is not None and (changed := self._changed_since(name, seen.at)):
                run, at = changed
                why = f"run {run} has changed it since it was counted"
                if at <= self._now:
                    outdated.append(name)
                else:  # no count taken before then is newer
                    why = f"run {run} changed it at {at:%H:%M:%S} UTC by a clock that was set back since"
            elif seen.ready is not None:
                others += [name] if seen.ready and name != host else []
                continue
            unknown[name] = why
        return Capacity(floor.group, floor.replicas, tuple(others), unknown, taken, tuple(outdated))

    def _changed_since(self, host: str, at: datetime | None) -> tuple[int, datetime] | None:
        """Return which other run had the host last, at this moment or later, and when."""
        if host in self._changed:
            return self._changed[host]
        had = func.max(uses.c.at, func.coalesce(runs.c.ended_at, uses.c.at), type_=uses.c.at.type)
        query = (
            select(uses.c.run_id, had)
            .outerjoin(runs, runs.c.id == uses.c.run_id)
            .where(uses.c.host == host, uses.c.run_id != self._run.id)
            .order_by(had.desc())
        )
        if at is not None:
            query = query.where(had >= at)
        row = self._tx.execute(query.limit(1)).first()
        found = (row[0], row[1]) if row is not None else None
        self._changed[host] = found
        return found


def halted(
    tx: Connection, run: Run, wants: Mapping[str, Want], now: datetime, world: World
) -> dict[str, Answer]:
    """Return the answers for those hosts, of a run that has them, on which nothing more may be changed now.

    It is asked in the transaction that writes that a command leaves, so none leaves after a freeze was answered.
    """
    _wish(tx, run, wants, now, world.settings)
    on = [(one, covered(one, world.covers)) for one in _freezes(tx)]
    tripped = _tripped(tx)
    found: dict[str, Answer] = {}
    for host in wants:
        freezes = tuple(one for one, hosts in on if hosts is None or host in hosts)
        if (one := halt(run, Facts(host, now, freezes=freezes, tripped=tripped))) is not None:
            found[host] = one
            _tell(tx, run, one, now)
    return found


def _wish(tx: Connection, run: Run, wants: Mapping[str, Want], now: datetime, settings: Settings) -> None:
    """Write down which hosts are to be changed without a person's word, and open the breaker at too many."""
    deep = [host for host, want in wants.items() if want.level >= settings.level]
    if run.requester.via in PEOPLE or not deep:
        return
    rows = [{"run_id": run.id, "host": host, "at": now} for host in deep]
    tx.execute(insert(wishes).on_conflict_do_nothing(), rows)
    if _tripped(tx) is not None:
        return
    recent = (wishes.c.settled == 0, wishes.c.at > now - settings.within)
    query = select(wishes.c.host, wishes.c.at).where(*recent)
    if over := trips([(row.host, row.at) for row in tx.execute(query)], now, settings):
        tx.execute(breaker.insert().values(at=now, hosts=list(over)))
        tell(tx, now, TRIPPED, incident=run.incident_id, run=run.id, hosts=list(over))


def _tell(tx: Connection, run: Run, one: Answer, now: datetime) -> None:
    told = {"rail": one.rail, "reaction": one.reaction, "why": one.words}
    tell(tx, now, "guard.answered", incident=run.incident_id, run=run.id, host=one.host, **told)


def covered(freeze: Freeze, covers: Covers) -> frozenset[str] | None:
    """Return the hosts of a freeze; None: all, also where nobody can read its set any more."""
    if not freeze.hosts:
        return None
    try:
        return covers(freeze.hosts)
    except SickbayError:
        return None


def _uses(tx: Connection, run: Run, now: datetime) -> tuple[Use, ...]:
    """Return what counts for the limits of a runbook."""
    limits = run.runbook.limits
    if limits is None:
        return ()
    query = uses.select().where(uses.c.runbook == run.runbook.name, uses.c.at > now - limits.per)
    return tuple(Use(row.run_id, row.runbook, row.host, row.at, tuple(row.gpus)) for row in tx.execute(query))


def _verified(tx: Connection, run: Run) -> dict[str, datetime]:
    """Return when a runbook that rests last succeeded on each host."""
    if run.runbook.cooldown is None:
        return {}
    mine = (uses.c.runbook == run.runbook.name, uses.c.verified_at.is_not(None))
    query = select(uses.c.host, func.max(uses.c.verified_at)).where(*mine).group_by(uses.c.host)
    return {row[0]: row[1] for row in tx.execute(query)}


def _holders(facts: Facts) -> dict[int, str]:
    """Return the runs that a run waits for, and what it wants of them."""
    if facts.holder is not None:
        return {facts.holder.run: facts.holder.key}
    if facts.capacity is None:
        return {}
    return {one.run: f"capacity {facts.capacity.group}" for one in facts.capacity.taken.values()}


def _lock(tx: Connection, run: Run, host: str, want: Want) -> None:
    for key in (f"host {host}", *want.keys):
        row = {"key": key, "run_id": run.id, "host": host if key == f"host {host}" else None}
        tx.execute(insert(locks).values(row).on_conflict_do_update(index_elements=["key"], set_=row))


def _use(tx: Connection, run: Run, host: str, now: datetime, want: Want) -> None:
    row = {"run_id": run.id, "host": host, "runbook": run.runbook.name, "at": now, "gpus": list(want.gpus)}
    tx.execute(insert(uses).values(row).on_conflict_do_nothing())


def _freezes(tx: Connection) -> list[Freeze]:
    rows = tx.execute(freezes.select().order_by(freezes.c.at))
    return [Freeze(row.by, row.at, row.reason, row.hosts) for row in rows]


def _tripped(tx: Connection) -> Tripped | None:
    row = tx.execute(breaker.select().where(breaker.c.reset_at.is_(None))).first()
    return None if row is None else Tripped(row.at, tuple(row.hosts))
