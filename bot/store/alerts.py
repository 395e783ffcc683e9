"""Alerts as they come in, and the incidents they make."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert

from bot.alert import Alert
from bot.incident import Incident, IncidentState
from bot.store.database import Database, masked
from bot.store.schedule_tables import findings
from bot.store.tables import alerts, incidents, runs
from bot.store.timeline import tell

# Statements of a storm, built once: to build one costs several times what it costs to run it.
_WAITING = alerts.select().where(alerts.c.dispatched == 0).order_by(alerts.c.id).limit(bindparam("most"))
_OPEN_FOR = select(incidents.c.id).where(
    incidents.c.key == bindparam("wanted"), incidents.c.state == IncidentState.OPEN
)
_JOIN = (
    update(alerts)
    .where(alerts.c.id == bindparam("alert"))
    .values(dispatched=1, incident_id=bindparam("incident"))
)
_KNOWN = select(alerts.c.key).where(alerts.c.key.in_(bindparam("keys", expanding=True)))
_ADD = alerts.insert()


class Alerts:
    """The inbox: stored first, dispatched after."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, batch: Sequence[Alert]) -> int:
        """Store alerts in one transaction; return how many were new (a repeat changes nothing)."""
        return self.add_each([batch])[0]

    def add_each(self, batches: Sequence[Sequence[Alert]]) -> list[int]:
        """Store what several callers brought, in one transaction; return for each how many were new."""
        received_at = self._db.now()
        by_key = [{alert.key: alert for alert in batch} for batch in batches]
        keys = list(dict.fromkeys(key for batch in by_key for key in batch))
        if not keys:
            return [0] * len(batches)
        counts: list[int] = []
        rows: list[dict[str, Any]] = []
        with self._db.write() as tx:
            known: set[str] = set()
            for at in range(0, len(keys), 1000):
                known.update(tx.scalars(_KNOWN, {"keys": keys[at : at + 1000]}))
            for batch in by_key:
                new = {key: alert for key, alert in batch.items() if key not in known}
                known.update(new)
                counts.append(len(new))
                rows += [{**_row(alert), "received_at": received_at} for alert in new.values()]
            if rows:
                tx.execute(_ADD, masked(tx, rows))
        return counts

    def put(self, tx: Connection, alert: Alert) -> None:
        """Store an alert of our own, in the transaction of what found it; one that is known changes nothing."""
        row = masked(tx, {**_row(alert), "received_at": self._db.now()})
        tx.execute(insert(alerts).values(row).on_conflict_do_nothing(index_elements=["key"]))

    def waiting(self, limit: int = 200) -> list[tuple[int, Alert]]:
        """Return alerts not yet dispatched, with their row ids, in the order they came."""
        with self._db.read() as tx:
            return [(row["id"], _alert(row)) for row in tx.execute(_WAITING, {"most": limit}).mappings()]


class Incidents:
    """Incidents; `tx` methods are for `dispatch`, which does several things in one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, incident_id: int) -> Incident | None:
        """Return an incident with its alerts."""
        with self._db.read() as tx:
            row = tx.execute(incidents.select().where(incidents.c.id == incident_id)).mappings().first()
            return _incident(tx, row) if row else None

    def newest(self, *, open_only: bool = False, limit: int = 20) -> list[Incident]:
        """Return the newest incidents first."""
        query = incidents.select().order_by(incidents.c.id.desc()).limit(limit)
        query = query.where(incidents.c.state == IncidentState.OPEN) if open_only else query
        with self._db.read() as tx:
            return [_incident(tx, row) for row in tx.execute(query).mappings()]

    def open_for(self, tx: Connection, key: str) -> int | None:
        """Return the open incident with this key."""
        return tx.scalar(_OPEN_FOR, {"wanted": key})

    def of_episode(self, tx: Connection, episode: str) -> int | None:
        """Return the incident that this alert's firing belongs to."""
        return tx.scalar(
            select(alerts.c.incident_id)
            .where(alerts.c.episode == episode, alerts.c.incident_id.is_not(None))
            .limit(1)
        )

    def open(
        self,
        tx: Connection,
        *,
        key: str,
        title: str,
        severity: str,
        channel: str,
        host: str | None,
        note: str,
    ) -> int:
        """Open an incident."""
        now = self._db.now()
        statement = incidents.insert().values(
            key=key,
            title=title,
            severity=severity,
            channel=channel,
            host=host,
            state=IncidentState.OPEN,
            opened_at=now,
            note=note,
        )
        (incident_id,) = tx.execute(statement).inserted_primary_key or (0,)
        tell(tx, now, "incident.opened", incident=incident_id, host=host, title=title, note=note)
        return int(incident_id)

    def lately(self, tx: Connection, key: str, since: datetime) -> int | None:
        """Return the newest incident with this key, if it was resolved no earlier than this."""
        query = select(incidents.c.id).where(incidents.c.key == key, incidents.c.resolved_at >= since)
        return tx.scalar(query.order_by(incidents.c.id.desc()).limit(1))

    def reopen(self, tx: Connection, incident_id: int, *, title: str, note: str) -> None:
        """Go on with a resolved incident, because what it was about has come back."""
        statement = update(incidents).where(incidents.c.id == incident_id)
        state = {"state": IncidentState.OPEN, "resolved_at": None, "recovered_by": None}
        tx.execute(statement.values(**state, title=title, note=note, times=incidents.c.times + 1))
        row = tx.execute(
            select(incidents.c.host, incidents.c.times).where(incidents.c.id == incident_id)
        ).one()
        told = {"title": title, "note": note, "times": row.times}
        tell(tx, self._db.now(), "incident.reopened", incident=incident_id, host=row.host, **told)

    def busy(self, tx: Connection, incident_id: int) -> bool:
        """Does a run of this incident still go?"""
        query = select(runs.c.id).where(runs.c.incident_id == incident_id, runs.c.ended_at.is_(None))
        return tx.scalar(query.limit(1)) is not None

    def join(self, tx: Connection, alert_id: int, incident_id: int | None, alert: Alert) -> None:
        """Mark an alert dispatched, to this incident or to none."""
        tx.execute(_JOIN, {"alert": alert_id, "incident": incident_id})
        if incident_id is not None:
            kind = f"alert.{alert.status}"
            tell(tx, self._db.now(), kind, incident=incident_id, alert=alert.name, labels=dict(alert.labels))

    def firing(self, tx: Connection, incident_id: int) -> int:
        """Count the incident's alerts that have not been resolved."""
        end = alerts.alias()
        ended = exists().where(end.c.episode == alerts.c.episode, end.c.status == "resolved")
        query = select(func.count(alerts.c.episode.distinct())).where(
            alerts.c.incident_id == incident_id, ~ended
        )
        return tx.scalar(query) or 0

    def cleared(self, tx: Connection, episode: str) -> bool:
        """Has this alert's end been told already? Monitors' calls may overtake each other."""
        query = select(alerts.c.id).where(alerts.c.episode == episode, alerts.c.status == "resolved")
        return tx.scalar(query) is not None

    def resolve(self, tx: Connection, incident_id: int, reason: str) -> None:
        """Close an incident."""
        now = self._db.now()
        open_ones = update(incidents).where(
            incidents.c.id == incident_id, incidents.c.state == IncidentState.OPEN
        )
        if tx.execute(open_ones.values(state=IncidentState.RESOLVED, resolved_at=now)).rowcount:
            tell(tx, now, "incident.resolved", incident=incident_id, reason=reason)

    def runs(self, incident_id: int) -> list[int]:
        """Return the ids of the incident's runs, oldest first."""
        with self._db.read() as tx:
            query = select(runs.c.id).where(runs.c.incident_id == incident_id).order_by(runs.c.id)
            return list(tx.scalars(query))


def recovered(tx: Connection, at: datetime, incident_id: int, run_id: int) -> None:
    """Note that a run verified recovery; the incident closes when its alerts clear."""
    tx.execute(update(incidents).where(incidents.c.id == incident_id).values(recovered_by=run_id))
    tell(tx, at, "incident.recovered", incident=incident_id, run=run_id)


def _row(alert: Alert) -> dict[str, Any]:
    return {
        "key": alert.key,
        "episode": alert.episode,
        "source": alert.source,
        "fingerprint": alert.fingerprint,
        "status": alert.status,
        "starts_at": alert.starts_at,
        "ends_at": alert.ends_at,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "url": alert.url,
    }


def _alert(row: RowMapping) -> Alert:
    return Alert(
        source=row["source"],
        fingerprint=row["fingerprint"],
        status=row["status"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        labels=row["labels"],
        annotations=row["annotations"],
        url=row["url"],
    )


def _incident(tx: Connection, row: RowMapping) -> Incident:
    query = alerts.select().where(alerts.c.incident_id == row["id"]).order_by(alerts.c.id)
    newest: dict[str, Alert] = {}
    for alert in map(_alert, tx.execute(query).mappings()):
        newest[alert.episode] = alert
    found = select(func.sum(findings.c.count), func.max(findings.c.seen_at)).where(
        findings.c.episode.in_(newest)
    )
    times, seen_at = tx.execute(found).one()
    fields: dict[str, Any] = dict(row)
    fields |= {"state": IncidentState(row["state"]), "alerts": tuple(newest.values())}
    return Incident(**fields, found=times or 0, found_at=seen_at)
