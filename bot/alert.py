"""An alert: what a monitor says is wrong, in Alertmanager's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

HOST_LABELS = ("host", "hostname", "node", "instance")
"""Labels that may name the machine, most exact first; `instance` mostly carries a port."""

OURS = "schedule"
"""The source of alerts that Sickbay itself makes, of what its scheduled runs find."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert in one state."""

    source: str
    """Which door it came through, such as `alertmanager`."""
    fingerprint: str
    status: Literal["firing", "resolved"]
    starts_at: datetime
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    ends_at: datetime | None = None
    url: str = ""
    """Where the monitor shows it."""

    @property
    def key(self) -> str:
        """Unique by meaning: the same alert told twice has the same key."""
        return f"{self.source}/{self.fingerprint}/{self.starts_at.isoformat()}/{self.status}"

    @property
    def episode(self) -> str:
        """Names the alert from its start to its end, so that `resolved` finds what `firing` began."""
        return f"{self.source}/{self.fingerprint}/{self.starts_at.isoformat()}"

    @property
    def name(self) -> str:
        """The alert's name for people."""
        return self.labels.get("alertname", "alert")

    @property
    def ours(self) -> bool:
        """Is it of Sickbay's own making, and no monitor's?"""
        return self.source == OURS

    @property
    def machines(self) -> list[str]:
        """What the labels call the machine, most exact first, without schemes, paths and ports."""
        named = [self.labels[label] for label in HOST_LABELS if self.labels.get(label)]
        return [machine for name in named if (machine := _machine(name))]

    def as_seen(self, host: str | None) -> dict[str, Any]:
        """Return the alert as runbooks see it; `alert.host` is a name of the inventory, or is not there."""
        seen = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "starts_at": self.starts_at.isoformat(),
            "status": self.status,
        }
        return seen | ({"host": host} if host else {})


def _machine(name: str) -> str:
    """Read `gpu-03`, `gpu-03:9400`, `[fd00::3]:9400`, and the address of a probe, `http://gpu-03:8000/health`."""
    name = name.split("://", 1)[-1].split("/", 1)[0].strip()
    if name.startswith("["):
        return name[1:].split("]", 1)[0]
    if name.count(":") > 1:  # an IPv6 address without a port
        return name
    before, colon, port = name.partition(":")
    return before if colon and port.isdecimal() else name
