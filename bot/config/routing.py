"""Which route takes an alert, which machine it is about, and which run that asks for; says so and does nothing."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bot.alert import HOST_LABELS, Alert
from bot.errors import SickbayError
from bot.guard.maintenance import Windows
from bot.inventory import Host, Inventory
from bot.language import template
from bot.language.runbook import Mode, Runbook
from bot.library import Loaded
from bot.route import Route, lower

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proposal:
    """The run that an alert asks for."""

    loaded: Loaded
    hosts: tuple[str, ...]
    host_set: str
    inputs: Mapping[str, Any]
    mode: Mode


@dataclass(frozen=True, slots=True)
class Routing:
    """The routes, with the machines and runbooks that they speak of."""

    inventory: Inventory
    library: Mapping[str, Loaded]
    routes: Sequence[Route]
    windows: Windows = field(default_factory=Windows)
    """Inside them no run is started."""

    def route(self, alert: Alert) -> tuple[Route | None, Host | None]:
        """Return the first route that takes an alert, and the alert's machine."""
        taken = next((route for route in self.routes if route.takes(dict(alert.labels))), None)
        return taken, self.inventory.called(alert.machines)

    def proposal(
        self, alert: Alert, route: Route | None, host: Host | None, now: datetime
    ) -> tuple[Proposal | None, str]:
        """Return the run that the route wants now, or why there is none."""
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
            if at := self.windows.over(hosts, now):
                by_hand = f" To run it all the same: run {book.name} {host_set}" if book.by_command else ""
                return None, f"{book.name} was not started: {'; '.join(at)}.{by_hand}"
            inputs = book.fill(route.inputs)
            return Proposal(loaded, hosts, host_set, inputs, lower(book.mode, route.mode)), ""
        except SickbayError as error:
            log.warning("no run for alert %s: %s", alert.key, error.what)
            return None, f"{loaded.runbook.name} was not started: {error.what}. {error.advice}".strip()

    def _choose(self, route: Route, alert: Alert) -> Loaded | None:
        if route.runbook is not None:
            return self.library.get(route.runbook)
        books = self.library.values()
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
        return tuple(one.name for one in self.inventory.select(wanted)), wanted


def _one_name(value: Any) -> str:
    """Return a value that may stand in a host set: one name, never a set of its own, such as `@all` or `gpu-*`."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", value):
        raise SickbayError(f"{str(value)[:100]!r} from the alert is no host name")
    return value
