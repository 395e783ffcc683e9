"""The ledger of drains: which server Sickbay took out of traffic, by which run, for whom and why; one owner at a time.

A line is claimed in the transaction that writes down the attempt which drains, and settled in the one that writes down
how it ended; so there is no moment at which a drain of ours stands nowhere. A line outlives its run, until the server
takes traffic again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, or_, select, update

from bot.guard.drain import Drain, Grant, Refusal, Said, Turn, compared, ended, marks, may, settled, theirs
from bot.runs.run import Attempt, Run, RunState
from bot.store.database import Database
from bot.store.tables import drains, runs
from bot.store.timeline import tell

Place = tuple[str, str, int]
"""Step, host, number of an attempt."""
_OPEN = drains.select().where(drains.c.closed_at.is_(None)).order_by(drains.c.at, drains.c.id)
_DOING = drains.select().where(drains.c.doing_run == bindparam("run"))
_CHANGING = (
    "state", "since", "selected", "kept_at", "note", "lost", "seen", "seen_words", "seen_at", "closed",
)  # fmt: skip


class Drains:
    """All drains."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open(self) -> list[Drain]:
        """Return the servers that Sickbay keeps out of traffic, or may, the oldest first."""
        with self._db.read() as tx:
            return _all(tx)

    def kept(self, run: int) -> list[Drain]:
        """Return what a run has left out of traffic when it ended, also what somebody has put back or taken over since."""
        about = or_(drains.c.run == run, drains.c.first_run == run)
        outlived = or_(drains.c.kept_at.is_not(None), drains.c.first_run != drains.c.run)
        query = drains.select().where(about, outlived).order_by(drains.c.id)
        with self._db.read() as tx:
            return [_drain(row) for row in tx.execute(query).mappings()]

    def of(self, turn: Turn) -> Drain | None:
        """Return the open line of a server."""
        with self._db.read() as tx:
            return _open(tx, turn)

    def again(self, run: Run, turn: Turn) -> Mapping[str, str]:
        """Return what a command that may have been sent before must find at the load balancer."""
        drain = self.of(turn)
        if turn.deed == "ready" and turn.whose == "anybody":
            return {"OWN": "any"}
        if drain is None or drain.run != run.id or drain.state not in ("drain", "maint"):
            return {"OWN": "none"}
        return {"OWN": "none"} if turn.deed == "drain" else marks(drain, self._db.now())

    def sweep(self) -> int:
        """After a start: keep what belongs to no run that goes on; return how many there were."""
        now = self._db.now()
        with self._db.write() as tx:
            orphans = [one for one in _all(tx) if one.kept_at is None and not _goes_on(tx, one.run)]
            for one in orphans:
                _keep(tx, now, _left(one), "its run has ended without a word about it")
        return len(orphans)

    def seen(self, drain_id: int, said: Said) -> Drain | None:
        """Write down what HAProxy says of a drain's server now; None when it is closed, or a command changes it just now."""
        now, said = self._db.now(), replace(said, words=self._db.mask.text(said.words))
        with self._db.write() as tx:
            row = tx.execute(drains.select().where(drains.c.id == drain_id)).mappings().one()
            before = _drain(row)
            if row["closed_at"] is not None or before.doing is not None:
                return None
            after = compared(before, said, now)
            _store(tx, now, after)
            if after.closed:
                _told(tx, now, "drain.closed", after, how=after.closed)
            elif after.lost != before.lost:
                _told(tx, now, "drain.lost", after, why=after.lost)
            elif before.seen_at is None or after.seen != before.seen:
                _told(tx, now, "drain.seen", after, state=said.state, said=said.words)
            return after


def take(
    tx: Connection, now: datetime, run: Run, wanted: Mapping[Place, Turn | None]
) -> dict[Place, Grant | Refusal]:
    """Say for each attempt whether it may turn its server, and write down the claims of those that may.

    One that changes a host without turning its server is refused where somebody else keeps that host out of traffic.
    """
    answers: dict[Place, Grant | Refusal] = {}
    others = [one for one in _all(tx) if one.run != run.id]
    for place, turn in wanted.items():
        if turn is None:
            kept = (theirs(run, one, busy=_goes_on(tx, one.run)) for one in others if one.host == place[1])
            refusal = next((one for one in kept if one is not None), None)
            answers |= {place: refusal} if refusal is not None else {}
            continue
        drain = _open(tx, turn)
        busy = drain is not None and drain.run != run.id and _goes_on(tx, drain.run)
        answer = answers[place] = may(turn, run, drain, now, busy=busy)
        if isinstance(answer, Grant):
            _claim(tx, now, run, turn, place, drain, answer)
    return answers


def settle(tx: Connection, now: datetime, run: Run, attempts: Sequence[Attempt]) -> None:
    """Write what these attempts, which have ended, did to servers that they had claimed."""
    doing = tx.execute(_DOING, {"run": run.id}).mappings()
    rows = {(row["doing_step"], row["doing_host"], row["doing_number"]): row for row in doing}
    for attempt in attempts if rows else ():
        row = rows.get((attempt.step, attempt.host, attempt.number))
        if row is None or not attempt.done:
            continue
        before = _drain(row)
        after = settled(before, attempt)
        _store(tx, now, after, free=True)
        if after.closed:
            _told(tx, now, "drain.closed", after, how=after.closed)
        elif after.state != before.state:
            kind = {"drain": "drain.made", "maint": "drain.deepened"}.get(after.state, "drain.unknown")
            _told(tx, now, kind, after, why=after.note or after.why)


def leave(tx: Connection, now: datetime, run: Run, state: RunState, reason: str) -> tuple[RunState, str]:
    """Keep what a run that ends has drained and not put back; return how it ends by that."""
    left = [_left(one) for one in _all(tx) if one.run == run.id and one.kept_at is None]
    for one in left:
        _keep(tx, now, one, "" if one.keep else "nobody put it back before its run ended")
    return ended(state, reason, left)


def _left(drain: Drain) -> Drain:
    """Return a drain as its run leaves it: of what was going when it ended, nobody saw the end."""
    return drain if drain.doing is None else replace(drain, state="unknown", note="its end was not seen")


def _keep(tx: Connection, now: datetime, drain: Drain, note: str) -> None:
    kept = replace(drain, kept_at=now, note=drain.note or note)
    _store(tx, now, kept, free=True)
    _told(tx, now, "drain.kept", kept, why=kept.why, note=kept.note, by=kept.by)


def _claim(
    tx: Connection,
    now: datetime,
    run: Run,
    turn: Turn,
    place: Place,
    drain: Drain | None,
    grant: Grant,
) -> None:
    """Write whose the server is from now on, and which attempt is changing it."""
    step, host, number = place
    values: dict[str, Any] = {
        "doing": turn.deed,
        "doing_run": run.id,
        "doing_step": step,
        "doing_host": host,
        "doing_number": number,
    }
    owner: dict[str, Any] = {
        "run": run.id,
        "runbook": run.runbook.name,
        "incident": run.incident_id,
        "by": run.requester.name,
        "person": run.requester.person,
    }
    if drain is None:
        if grant.claim:
            why = turn.keep or ("taken over" if grant.claim == "take over" else run.runbook.description)
            where = {"host": host, "lb": turn.lb, "socket": turn.socket, "server": turn.server}
            more = {"why": why, "keep": int(bool(turn.keep)), "at": now, "state": "claimed"}
            tx.execute(drains.insert().values(**where, **owner, **more, **values, first_run=run.id))
        return
    if grant.claim == "take over":
        values |= {**owner, "kept_at": None}
        about = {"of_run": drain.run, "of": drain.by, "by": run.requester.name}
        taken = replace(drain, run=run.id, incident=run.incident_id)
        _told(tx, now, "drain.taken_over", taken, **about)
    elif drain.run != run.id:
        return
    tx.execute(update(drains).where(drains.c.id == drain.id).values(**values))


def _open(tx: Connection, turn: Turn) -> Drain | None:
    at = (drains.c.lb == turn.lb, drains.c.socket == turn.socket, drains.c.server == turn.server)
    row = tx.execute(drains.select().where(*at, drains.c.closed_at.is_(None))).mappings().first()
    return _drain(row) if row is not None else None


def _goes_on(tx: Connection, run_id: int) -> bool:
    state = tx.scalar(select(runs.c.state).where(runs.c.id == run_id))
    return state is not None and not RunState(state).ended


def _store(tx: Connection, now: datetime, drain: Drain, *, free: bool = False) -> None:
    values: dict[str, Any] = {name: getattr(drain, name) for name in _CHANGING}
    values |= {"closed_at": now} if drain.closed else {}
    values |= {"doing": None, "doing_run": None} if free else {}
    tx.execute(update(drains).where(drains.c.id == drain.id).values(**values))


def _told(tx: Connection, now: datetime, kind: str, drain: Drain, **data: Any) -> None:
    """Tell it to the run whose drain it is, and to the one that made it, whose messages still speak of it."""
    at = {"server": drain.server, "lb": drain.lb, **data}
    tell(tx, now, kind, incident=drain.incident, run=drain.run, host=drain.host, **at)
    if drain.first_run != drain.run:
        incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == drain.first_run))
        tell(tx, now, kind, incident=incident, run=drain.first_run, host=drain.host, **at)


def _all(tx: Connection) -> list[Drain]:
    """Return the open lines."""
    return [_drain(row) for row in tx.execute(_OPEN).mappings()]


def _drain(row: RowMapping) -> Drain:
    fields: dict[str, Any] = dict(row)
    for name in ("doing_run", "doing_step", "doing_host", "doing_number"):
        del fields[name]
    return Drain(**{**fields, "keep": bool(row["keep"])})
