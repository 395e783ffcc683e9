"""What scheduled runs found at one place: open from when it was first seen until it is seen to be gone.

A place has one open finding at a time. What is certain (a check failed, something is not well) and what nobody can tell
have different names as alerts, so that no route which mends the one is taken for the other.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from bot.alert import OURS, Alert


@dataclass(frozen=True, slots=True)
class Place:
    """What is looked at by the schedule of a runbook."""

    runbook: str
    host: str = ""
    """Empty: all hosts of the schedule, or the schedule itself."""
    step: str = ""
    """A step of the runbook, or of a schedule its expression; empty: the host or the hosts as a whole."""

    @property
    def name(self) -> str:
        """As the second part of an alert's name: the step, `host`, `hosts` or `schedule`."""
        if self.host:
            return self.step or "host"
        return "schedule" if self.step else "hosts"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong at a place, or that cannot be told."""

    place: Place
    sure: bool
    begun_at: datetime
    count: int = 1
    hosts: str = ""
    """The host set it is about, when it is about many."""

    @property
    def labels(self) -> dict[str, str]:
        """What routes may match."""
        place = self.place
        about = f"{place.runbook}/{place.name}"
        labels = {"alertname": about if self.sure else f"{about}/unknown", "runbook": place.runbook}
        labels |= {"host": place.host} if place.host else {}
        labels |= {"hosts": self.hosts} if self.hosts else {}
        labels |= {("step" if place.host else "schedule"): place.step} if place.step else {}
        return labels

    @property
    def fingerprint(self) -> str:
        """Names it whenever it comes."""
        named = json.dumps([self.place.runbook, self.place.host, self.place.step, self.sure])
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def begun(self, summary: str, run: int | None) -> Alert:
        """Return the alert that tells of it."""
        says = {"summary": summary} | ({"run": str(run)} if run is not None else {})
        return Alert(OURS, self.fingerprint, "firing", self.begun_at, self.labels, says)

    def over(self, at: datetime, why: str = "") -> Alert:
        """Return the alert that tells its end; `why` where it is not that all is well."""
        says = {"ended": why} if why else {}
        return Alert(OURS, self.fingerprint, "resolved", self.begun_at, self.labels, says, ends_at=at)
