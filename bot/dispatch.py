"""Alert → incident → route → run; an alert is dispatched whole or not at all.

Alerts are dispatched in the order they were stored. A repeat joins the open incident and starts nothing; an alert that
no route takes is shown, and nothing is done about it.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from bot import template
from bot.alert import HOST_LABELS, Alert
from bot.errors import SickbayError
from bot.inventory import Host, Inventory
from bot.library import Loaded
from bot.maintenance import Windows
from bot.route import Route, lower
from bot.run import Requester
from bot.runbook import Mode, Runbook
from bot.store import Store

log = logging.getLogger(__name__)

TOGETHER = 50
"""Alerts in one transaction: enough to keep up with a storm, few enough not to hold up the door."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The run that an alert asks for."""

    loaded: Loaded
    hosts: tuple[str, ...]
    host_set: str
    inputs: Mapping[str, Any]
    mode: Mode


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
        self._windows = windows or Windows()
        self._store = store
        self._inventory = inventory
        self._library = library
        self._routes = routes
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
        host = self._machine(alert)
        route = next((route for route in self._routes if route.takes(dict(alert.labels))), None)
        group = route.group_by if route else ["alertname"]
        place = host.name if host else next(iter(alert.machines), "")
        key = json.dumps([*(f"{name}={alert.labels.get(name, '')}" for name in group), place])
        if (incident := incidents.open_for(tx, key)) is not None:
            incidents.join(tx, alert_id, incident, alert)
            return
        if incidents.cleared(tx, alert.episode):
            incidents.join(tx, alert_id, None, alert)
            return
        proposal, note = self._proposal(alert, route, host)
        channel = (route.channel if route else "") or self._channel
        incident = incidents.open(
            tx,
            key=key,
            title=alert.annotations.get("summary") or alert.name,
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
            why = "the alert has cleared"
        for run_id in runs:
            store.approvals.void(tx, run_id, why)
        store.runs.withdraw(tx, runs, "the alert, which has cleared")
        if not others:
            store.incidents.resolve(tx, incident, why)

    def _machine(self, alert: Alert) -> Host | None:
        """Find the alert's machine in the inventory, by name or address."""
        for called in alert.machines:
            for host in self._inventory.hosts.values():
                if called in (host.name, host.address):
                    return host
        return None

    def _proposal(self, alert: Alert, route: Route | None, host: Host | None) -> tuple[Proposal | None, str]:
        """Return the run that the route wants, or why there is none."""
        if route is None:
            return None, "No route matches this alert: it is shown, nothing is done."
        loaded = self._choose(route, alert)
        try:
            loaded = loaded and loaded.fresh()
        except SickbayError as error:
            return None, f"The runbook was not started, its file was changed and has mistakes: {error}"
        if loaded is None:
            return (
                None,
                "The route names no runbook and none answers this alert: it is shown, nothing is done.",
            )
        try:
            book = loaded.runbook
            hosts, host_set = self._hosts(route, book, alert, host)
            if at := self._windows.over(hosts, self._store.now()):
                by_hand = f" To run it all the same: run {book.name} {host_set}" if book.by_command else ""
                return None, f"{book.name} was not started: {'; '.join(at)}.{by_hand}"
            inputs = book.fill(route.inputs)
            return Proposal(loaded, hosts, host_set, inputs, lower(book.mode, route.mode)), ""
        except SickbayError as error:
            log.warning("no run for alert %s: %s", alert.key, error.what)
            return None, f"{loaded.runbook.name} was not started: {error.what}. {error.advice}".strip()

    def _choose(self, route: Route, alert: Alert) -> Loaded | None:
        if route.runbook is not None:
            return self._library.get(route.runbook)
        books = self._library.values()
        return next((one for one in books if one.runbook.answers(dict(alert.labels))), None)

    def _hosts(
        self, route: Route, book: Runbook, alert: Alert, host: Host | None
    ) -> tuple[tuple[str, ...], str]:
        """Return the hosts, and the set they were written as."""
        wanted = route.hosts or book.hosts or "{{ alert.host }}"
        if "{{" in wanted and host is None:
            named = " or ".join(f"`{machine[:80]}`" for machine in alert.machines[:3])
            says = (
                f"its labels say {named}" if named else f"it has none of the labels {', '.join(HOST_LABELS)}"
            )
            raise SickbayError(
                f"the alert names no host of the inventory: {says}",
                advice="Add the machine under `hosts:` in sickbay.yaml, or mend the label.",
            )
        seen = {"alert": alert.as_seen(host.name if host else None)}
        wanted = "".join(
            _one_name(template.evaluate(piece.text, seen)) if piece.is_value else piece.text
            for piece in template.pieces(wanted)
        )
        return tuple(one.name for one in self._inventory.select(wanted)), wanted


def _one_name(value: Any) -> str:
    """Return a value that may stand in a host set: one name, never a set of its own, such as `@all` or `gpu-*`."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", value):
        raise SickbayError(f"{str(value)[:100]!r} from the alert is no host name")
    return value
