"""The three verdicts, and which of several counts.

Nothing defaults to healthy: a check that could not be made is unknown, and unknown outweighs healthy, so that an
absent instrument is never shown as a good reading.
"""

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What a check says about a host, a GPU or a service."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


_WEIGHT = {Verdict.HEALTHY: 0, Verdict.UNKNOWN: 1, Verdict.UNHEALTHY: 2}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that counts; of nothing it is unknown."""
    return max(verdicts, key=_WEIGHT.__getitem__, default=Verdict.UNKNOWN)
