"""Runs: their rows, who may write them (the fence), and what is due."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    update,
)

from bot.alert import Alert
from bot.exposure import unexposed
from bot.guard.autonomy import Earned
from bot.language.runbook import Mode, Runbook
from bot.runs.plan import Plan
from bot.runs.run import Requester, Run, RunState
from bot.store.alerts import recovered
from bot.store.database import Database, Fenced
from bot.store.drains import leave
from bot.store.holds import give_back, let_go, sweep
from bot.store.tables import approvals, lock_waits, locks, runs, uses
from bot.store.timeline import tell
from bot.verdict import Verdict

_OPEN = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)

# Statements that are asked all the time, built once: to build one costs several times what it costs to run it.
_DUE = (
    select(runs.c.id)
    .where(runs.c.state.in_(_OPEN), or_(runs.c.wake_at <= bindparam("now"), runs.c.state == RunState.QUEUED))
    .order_by(runs.c.wake_at, runs.c.id)
)
_NEXT_WAKE = select(func.min(runs.c.wake_at)).where(runs.c.state.in_(_OPEN))
_CANCEL_ASKED = select(runs.c.id).where(runs.c.state.in_(_OPEN), runs.c.cancelled_by.is_not(None))
_REFRESH = select(runs.c.state, runs.c.deadline, runs.c.wake_at, runs.c.cancelled_by, runs.c.fallen).where(
    runs.c.id == bindparam("run"), runs.c.fence == bindparam("held")
)


class Runs:
    """All runs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(
        self,
        tx: Connection,
        *,
        runbook: Runbook,
        digest: str,
        hosts: tuple[str, ...],
        inputs: Mapping[str, Any],
        mode: Mode,
        requester: Requester,
        channel: str,
        host_set: str = "",
        thread: str | None = None,
        incident: int | None = None,
        alert: Mapping[str, Any] | None = None,
    ) -> int:
        """Queue a run, in the transaction of what asked for it; raise where a secret stands in what is to be done."""
        now = self._db.now()
        statement = runs.insert().values(
            incident_id=incident,
            runbook=unexposed(runbook, inputs, self._db.mask),
            runbook_name=runbook.name,
            runbook_digest=digest,
            hosts=list(hosts),
            host_set=host_set,
            inputs=dict(inputs),
            alert=alert,
            mode=mode,
            requester=asdict(requester),
            state=RunState.QUEUED,
            channel=channel,
            thread=thread,
            created_at=now,
        )
        (run_id,) = tx.execute(statement).inserted_primary_key or (0,)
        told: dict[str, Any] = {"runbook": runbook.name, "hosts": list(hosts), "digest": digest, "mode": mode}
        told |= {"by": requester.name, "via": requester.door or requester.via}
        tell(tx, now, "run.queued", incident=incident, run=run_id, **told)
        return int(run_id)

    def get(self, run_id: int) -> Run | None:
        """Return a run."""
        with self._db.read() as tx:
            row = tx.execute(runs.select().where(runs.c.id == run_id)).mappings().first()
            return _run(row) if row else None

    def refresh(self, run: Run) -> Run:
        """Return the run with what others may have changed since it was read.

        No deadline lies further ahead than the runbook's timeout: a clock that was set back gives no more time.

        Raises:
            Fenced: when somebody has taken it over.

        """
        with self._db.read() as tx:
            row = tx.execute(_REFRESH, {"run": run.id, "held": run.fence}).mappings().first()
        if row is None:
            raise Fenced(f"run {run.id}")
        run = replace(run, **{**row, "state": RunState(row["state"])})
        latest = self._db.now() + run.runbook.timeout
        if run.deadline is None or run.deadline <= latest:
            return run
        with self._db.write() as tx:
            fenced(tx, run, deadline=latest)
        return replace(run, deadline=latest)

    def newest(self, *, open_only: bool = False, limit: int = 20) -> list[Run]:
        """Return the newest runs first."""
        query = runs.select().order_by(runs.c.id.desc()).limit(limit)
        query = query.where(runs.c.state.in_(_OPEN)) if open_only else query
        with self._db.read() as tx:
            return [_run(row) for row in tx.execute(query).mappings()]

    def answering(self, tx: Connection, incident_id: int, alert: Alert) -> list[int]:
        """Return the incident's runs that this very alert has started."""
        query = select(runs.c.id, runs.c.alert).where(runs.c.incident_id == incident_id)
        about = {"fingerprint": alert.fingerprint, "starts_at": alert.starts_at.isoformat()}
        return [row.id for row in tx.execute(query) if about.items() <= (row.alert or {}).items()]

    def of_incident(self, tx: Connection, incident_id: int) -> list[int]:
        """Return the incident's runs, oldest first."""
        return list(
            tx.scalars(select(runs.c.id).where(runs.c.incident_id == incident_id).order_by(runs.c.id))
        )

    def due(self) -> list[int]:
        """Return the runs that can be advanced now, longest waiting first."""
        with self._db.read() as tx:
            return list(tx.scalars(_DUE, {"now": self._db.now()}))

    def next_wake(self) -> datetime | None:
        """Return when the next sleeping run is due."""
        with self._db.read() as tx:
            found: datetime | None = tx.scalar(_NEXT_WAKE)
            return found

    def reclaim(self) -> int:
        """After a start: make every run that was being advanced due again; return how many.

        A run that goes on keeps its locks; one that has ended keeps those of hosts that are in doubt.
        """
        now, advanced = self._db.now(), (RunState.RUNNING, RunState.WAITING)
        held = (runs.c.state.in_(advanced), runs.c.wake_at.is_(None))
        with self._db.write() as tx:
            sweep(tx)
            found = tx.execute(select(runs.c.id, runs.c.incident_id).where(*held).order_by(runs.c.id)).all()
            tx.execute(update(runs).where(*held).values(wake_at=now))
            for row in found:
                tell(tx, now, "run.resumed", incident=row.incident_id, run=row.id)
            return len(found)

    def rouse(self) -> None:
        """The clock was set back: let whatever rests look at it, since nobody knows how long it has rested."""
        asleep = (runs.c.state.in_(_OPEN), runs.c.wake_at.is_not(None))
        with self._db.write() as tx:
            tx.execute(update(runs).where(*asleep).values(wake_at=self._db.now()))

    def look_again(self) -> None:
        """After a start: let every run that waits for people see whether its plan still holds."""
        with self._db.write() as tx:
            tx.execute(update(runs).where(runs.c.state == RunState.WAITING).values(wake_at=self._db.now()))

    def claim(self, run_id: int) -> Run | None:
        """Take a run over: whoever held it before is fenced off. None when it has ended."""
        now = self._db.now()
        with self._db.write() as tx:
            row = tx.execute(runs.select().where(runs.c.id == run_id)).mappings().first()
            if row is None or RunState(row["state"]).ended:
                return None
            run = _run(row)
            values: dict[str, Any] = {"fence": run.fence + 1, "wake_at": None, "waits": ""}
            if run.deadline is None and run.started_at is not None:  # waiting for a lock does not count
                values["deadline"] = now + run.runbook.timeout
            if run.started_at is None:
                values |= {
                    "state": RunState.RUNNING,
                    "started_at": now,
                    "deadline": now + run.runbook.timeout,
                }
                tell(tx, now, "run.started", incident=run.incident_id, run=run.id)
            tx.execute(update(runs).where(runs.c.id == run_id).values(**values))
            return _run(tx.execute(runs.select().where(runs.c.id == run_id)).mappings().one())

    def sleep(self, run: Run, until: datetime | None, *, waiting: bool) -> None:
        """Put a run to rest until a moment, or until somebody acts.

        Somebody may have acted since the run was read: then it does not rest.
        """
        with self._db.write() as tx:
            asked = tx.scalar(select(approvals.c.state).where(approvals.c.run_id == run.id))
            cancelled_by = tx.scalar(select(runs.c.cancelled_by).where(runs.c.id == run.id))
            acted = cancelled_by != run.cancelled_by or (waiting and asked != "pending")
            state = RunState.WAITING if waiting and not acted else RunState.RUNNING
            fenced(tx, run, wake_at=self._db.now() if acted else until, state=state)
            if state is not run.state:
                tell(tx, self._db.now(), f"run.{state}", incident=run.incident_id, run=run.id)

    def finish(
        self,
        run: Run,
        state: RunState,
        reason: str,
        verdict: Verdict | None,
        *,
        proved: bool | None = None,
        verified: Mapping[str, datetime] | None = None,
    ) -> None:
        """End a run and what it still asks, free its hosts, keep its drains, and tell the incident of a verified recovery.

        `proved` says whether its verify passed; it counts for the runbook's autonomy. `verified` are the hosts that came
        through it, and when: they rest, whatever became of the others.
        """
        now, reason = self._db.now(), self._db.mask.text(reason)
        with self._db.write() as tx:
            state, reason = leave(tx, now, run, state, reason)
            counts = None if proved is None or (proved and state is not RunState.SUCCEEDED) else int(proved)
            ending = {"state": state, "reason": reason, "verdict": verdict, "ended_at": now, "wake_at": None}
            fenced(tx, run, **ending, proved=counts)
            if run.begun_at is None:
                let_go(tx, now, run.id)
            self._outdate(tx, now, run)
            rest = {host: now for host in run.hosts if state is RunState.SUCCEEDED} | dict(verified or {})
            for host, at in rest.items():
                used = (uses.c.run_id == run.id, uses.c.host == host)
                tx.execute(update(uses).where(*used).values(verified_at=at))
            give_back(tx, now, run.id)
            void(tx, now, run.id, f"the run has ended as {state}")
            tell(
                tx,
                now,
                "run.ended",
                incident=run.incident_id,
                run=run.id,
                state=state,
                reason=reason,
                verdict=verdict,
            )
            acted = run.plan is not None and run.plan.changes and run.mode != "suggest"
            if run.incident_id and state is RunState.SUCCEEDED and acted:
                recovered(tx, now, run.incident_id, run.id)

    def queue(self, run: Run, look_from: int, why: str) -> None:
        """Put a run that has changed nothing to rest until a lock is given back; then it looks again and plans anew.

        The lock may have been given back since it was asked for: then it does not rest.
        """
        now = self._db.now()
        with self._db.write() as tx:
            still = tx.scalar(select(func.count()).where(lock_waits.c.run_id == run.id))
            cancelled = tx.scalar(select(runs.c.cancelled_by).where(runs.c.id == run.id))
            wake = None if still and cancelled is None else now
            former = run.plan.as_json() if run.plan is not None else None
            anew = {
                "waits": why,
                "look_from": look_from,
                "looks": {},
                "plan": None,
                "former": former,
                "begun_at": None,
            }
            fenced(tx, run, wake_at=wake, deadline=None, **anew)
            let_go(tx, now, run.id)
            tell(tx, now, "run.held", incident=run.incident_id, run=run.id, why=why)

    def relook(self, run: Run, looks: Mapping[str, int], why: Mapping[str, str], count: str = "") -> None:
        """Write with which numbers hosts are looked at again, and why; `count` says why replicas are counted again."""
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run, looks=dict(looks))
            for host, words in why.items():
                tell(tx, now, "host.looked_again", incident=run.incident_id, run=run.id, host=host, why=words)
            if count:
                tell(tx, now, "run.counted_again", incident=run.incident_id, run=run.id, why=count)

    def _outdate(self, tx: Connection, now: datetime, run: Run) -> None:
        """End other runs' questions about hosts that this run has changed: their plans rest on what was seen before."""
        changed = set(tx.scalars(select(locks.c.host).where(locks.c.run_id == run.id)))
        asked = (
            select(runs.c.id, runs.c.hosts)
            .join(approvals, approvals.c.run_id == runs.c.id)
            .where(runs.c.state.in_(_OPEN), runs.c.id != run.id, runs.c.begun_at.is_(None))
            .where(runs.c.plan.is_not(None))  # who waits for a lock looks again anyway
        )
        for other in tx.execute(asked.where(approvals.c.state.in_(("pending", "approved")))).all():
            if touched := sorted(changed & set(other.hosts)):
                why = f"run {run.id} has changed {', '.join(touched)} since it was looked at"
                void(tx, now, other.id, why, approved=True)
                tx.execute(update(runs).where(runs.c.id == other.id).values(wake_at=now))

    def earned(self, name: str, digest: str) -> Earned:
        """Count a runbook's verified successes since its verify last failed."""
        of_it = (runs.c.runbook_name == name, runs.c.runbook_digest == digest)
        with self._db.read() as tx:
            failed = tx.scalar(select(func.max(runs.c.ended_at)).where(*of_it, runs.c.proved == 0))
            since = () if failed is None else (runs.c.ended_at > failed,)
            count = tx.scalar(select(func.count()).where(*of_it, runs.c.proved == 1, *since))
        return Earned(count or 0, failed is not None)

    def cancel(self, run_id: int, by: str, *, via: str = "") -> bool:
        """Ask for a run's end; false when it has ended already or was cancelled before."""
        with self._db.write() as tx:
            return self._cancel(tx, run_id, by, via)

    def _cancel(self, tx: Connection, run_id: int, by: str, via: str = "") -> bool:
        now = self._db.now()
        statement = update(runs).where(
            runs.c.id == run_id, runs.c.state.in_(_OPEN), runs.c.cancelled_by.is_(None)
        )
        if tx.execute(statement.values(cancelled_by=by, wake_at=now)).rowcount != 1:
            return False
        incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == run_id))
        tell(tx, now, "run.cancel_asked", incident=incident, run=run_id, by=by, via=via)
        void(tx, now, run_id, f"the run was cancelled by {by}")
        return True

    def withdraw(self, tx: Connection, run_ids: Sequence[int], by: str) -> None:
        """Cancel those of these runs that would change something, but have neither asked nor begun to act."""
        rows = tx.execute(
            runs.select().where(
                runs.c.id.in_(run_ids),
                runs.c.state.in_(_OPEN),
                runs.c.begun_at.is_(None),
                ~exists().where(approvals.c.run_id == runs.c.id),
            )
        )
        for run in map(_run, rows.mappings()):
            if run.runbook.kind == "mutate":
                self._cancel(tx, run.id, by)

    def cancel_asked(self) -> list[int]:
        """Return the open runs whose end was asked for."""
        with self._db.read() as tx:
            return list(tx.scalars(_CANCEL_ASKED))


def void(tx: Connection, now: datetime, run_id: int, why: str, *, approved: bool = False) -> bool:
    """End a run's question because the reason for it is gone; false when there is none to end.

    With `approved` also one that was answered with yes, but none of a run that has sent a change: what such a run still
    asks is whether it goes on without evidence, and that stands whatever becomes of the reason.
    """
    standing: ColumnElement[bool] = approvals.c.state == "pending"
    if approved:
        unbegun = exists().where(runs.c.id == run_id, runs.c.begun_at.is_(None), runs.c.state.in_(_OPEN))
        standing = and_(approvals.c.state.in_(("pending", "approved")), unbegun)
    statement = update(approvals).where(approvals.c.run_id == run_id, standing)
    if tx.execute(statement.values(state="void", note=why)).rowcount != 1:
        return False
    incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == run_id))
    tell(tx, now, "approval.void", incident=incident, run=run_id, why=why)
    return True


def fenced(tx: Connection, run: Run, **values: Any) -> None:
    """Write a run's row, only while nobody else has taken the run over.

    Raises:
        Fenced: when somebody has.

    """
    statement = update(runs).where(runs.c.id == run.id, runs.c.fence == run.fence)
    if tx.execute(statement.values(**(values or {"fence": run.fence}))).rowcount != 1:
        raise Fenced(f"run {run.id}")


def _run(row: RowMapping) -> Run:
    fields: dict[str, Any] = dict(row)
    del fields["runbook_name"], fields["proved"]
    return Run(
        **{
            **fields,
            "runbook": Runbook.model_validate(row["runbook"]),
            "hosts": tuple(row["hosts"]),
            "requester": Requester(**row["requester"]),
            "state": RunState(row["state"]),
            "plan": Plan.from_json(row["plan"]) if row["plan"] else None,
            "former": Plan.from_json(row["former"]) if row["former"] else None,
            "verdict": Verdict(row["verdict"]) if row["verdict"] else None,
        }
    )
