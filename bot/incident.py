"""An incident: something is wrong, from its first alert to its end; and the timeline of what was seen and done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.alert import Alert


class IncidentState(StrEnum):
    """Open until its alerts are resolved."""

    OPEN = "open"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident with the alerts that belong to it, newest state of each."""

    id: int
    key: str
    """What alerts must share to belong here."""
    title: str
    severity: str
    channel: str
    state: IncidentState
    opened_at: datetime
    host: str | None = None
    resolved_at: datetime | None = None
    recovered_by: int | None = None
    """The run that verified recovery, while the alert itself has not yet cleared."""
    note: str = ""
    """Why nothing is done, when no route names a runbook."""
    alerts: tuple[Alert, ...] = ()
    times: int = 1
    """How often it was opened: what comes back soon goes on in the same incident."""
    found: int = 0
    """How often a schedule has found it; 0: it was told by a monitor."""
    found_at: datetime | None = None
    """When it was found last."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline; written in the transaction that did what it tells."""

    id: int
    at: datetime
    kind: str
    """Dotted noun and verb, such as `run.started`, `step.ended`, `approval.asked`, `incident.resolved`."""
    incident_id: int | None = None
    run_id: int | None = None
    host: str | None = None
    step: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    hash: str = ""
    """Over what it says and over the hash of the event before it (see `chain`)."""
