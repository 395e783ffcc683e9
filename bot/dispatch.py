"""Alert → incident → route → run; an alert is dispatched whole or not at all.

Alerts are dispatched in the order they were stored. A repeat joins the open incident and starts nothing; an alert that
no route takes is shown, and nothing is done about it.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from bot.alert import Alert
from bot.config.routing import Routing
from bot.guard.maintenance import Windows
from bot.inventory import Inventory
from bot.library import Loaded
from bot.route import Route
from bot.runs.run import Requester
from bot.store import Store

log = logging.getLogger(__name__)

TOGETHER = 50
"""Alerts in one transaction: enough to keep up with a storm, few enough not to hold up the door."""

AGAIN = timedelta(minutes=90)
"""What a schedule finds so soon after it was gone goes on in the same incident; an hourly schedule can still notice."""


class Dispatch:
    """Turns stored alerts into incidents and runs."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        library: Mapping[str, Loaded],
        routes: Sequence[Route],
        channel: str,
        windows: Windows | None = None,
    ) -> None:
        """`channel` is where incidents without a route's own channel are shown; inside `windows` no run is started."""
        self._store = store
        self._routing = Routing(inventory, library, routes, windows or Windows())
        self._channel = channel

    def turn(self) -> int:
        """Dispatch what is waiting; return how many alerts it was."""
        waiting = self._store.alerts.waiting(TOGETHER)
        if not waiting:
            return 0
        try:
            with self._store.write() as tx:
                for alert_id, alert in waiting:
                    self._route(tx, alert_id, alert)
        except OperationalError:
            raise  # the database is busy or full: the alerts stay where they are
        except Exception:  # noqa: BLE001 - told below, for the alert that it is about
            self._one_by_one(waiting)
        return len(waiting)

    def _one_by_one(self, waiting: Sequence[tuple[int, Alert]]) -> None:
        """Dispatch alerts of which one cannot be routed: the others are not to suffer for it."""
        for alert_id, alert in waiting:
            try:
                with self._store.write() as tx:
                    self._route(tx, alert_id, alert)
            except OperationalError:
                raise
            except Exception:
                log.exception("cannot route alert %s", alert.key)
                self._show(alert_id, alert)

    def _route(self, tx: Connection, alert_id: int, alert: Alert) -> None:
        if alert.status == "firing":
            self._firing(tx, alert_id, alert)
        else:
            self._resolved(tx, alert_id, alert)

    def _show(self, alert_id: int, alert: Alert) -> None:
        """Show an alert that could not be routed, so that it holds up no other."""
        note = "Sickbay itself failed on this alert; its log has the details. Nothing is done."
        key, severity = f"not routed: {alert.key}", alert.labels.get("severity", "")
        incidents = self._store.incidents
        with self._store.write() as tx:
            incident = incidents.open(
                tx, key=key, title=alert.name, severity=severity, channel=self._channel, host=None, note=note
            )
            incidents.join(tx, alert_id, incident, alert)

    def _firing(self, tx: Connection, alert_id: int, alert: Alert) -> None:
        incidents = self._store.incidents
        route, host = self._routing.route(alert)
        group = route.group_by if route else ["alertname"]
        place = host.name if host else next(iter(alert.machines), "")
        key = json.dumps([*(f"{name}={alert.labels.get(name, '')}" for name in group), place])
        if (incident := incidents.open_for(tx, key)) is not None:
            incidents.join(tx, alert_id, incident, alert)
            return
        if incidents.cleared(tx, alert.episode):
            incidents.join(tx, alert_id, None, alert)
            return
        proposal, note = self._routing.proposal(alert, route, host, self._store.now())
        channel = (route.channel if route else "") or self._channel
        title = alert.annotations.get("summary") or alert.name
        lately = incidents.lately(tx, key, alert.starts_at - AGAIN) if alert.ours else None
        if lately is not None:
            proposal = None if incidents.busy(tx, lately) else proposal
            incidents.reopen(tx, lately, title=title, note=note)
        incident = lately or incidents.open(
            tx,
            key=key,
            title=title,
            severity=alert.labels.get("severity", ""),
            channel=channel,
            host=host.name if host else None,
            note=note,
        )
        incidents.join(tx, alert_id, incident, alert)
        if proposal is not None:
            self._store.runs.create(
                tx,
                runbook=proposal.loaded.runbook,
                digest=proposal.loaded.digest,
                hosts=proposal.hosts,
                host_set=proposal.host_set,
                inputs=proposal.inputs,
                mode=proposal.mode,
                requester=Requester(f"alert {alert.name}", via="alert"),
                channel=channel,
                incident=incident,
                alert=alert.as_seen(host.name if host else None),
            )

    def _resolved(self, tx: Connection, alert_id: int, alert: Alert) -> None:
        store = self._store
        incident = store.incidents.of_episode(tx, alert.episode)
        store.incidents.join(tx, alert_id, incident, alert)
        if incident is None:
            return
        if others := store.incidents.firing(tx, incident):
            runs = store.runs.answering(tx, incident, alert)
            still = f"{others} more of its incident {'is' if others == 1 else 'are'} still firing"
            why = f"the alert it was made for has cleared ({still}: start the runbook again if they need it)"
        else:
            runs = store.runs.of_incident(tx, incident)
            why = alert.annotations.get("ended", "") if alert.ours else ""
            why = why or "the alert has cleared"
        for run_id in runs:
            store.approvals.void(tx, run_id, why)
        store.runs.withdraw(tx, runs, "the alert, which has cleared")
        if not others:
            store.incidents.resolve(tx, incident, why)
