"""What `nvidia-smi` says instead of, or in the middle of, its table.

These lines are facts, not failures of the parser: a lost GPU is the answer to the question. The spellings are those
of drivers 470 to 610; the handle error alone has six (with index, bus id or both, with and without space and colon).
"""

import re
from typing import Literal

from bot.facts import Facts
from bot.facts.pci import bus_id

Kind = Literal[
    "no_devices",
    "driver_mismatch",
    "driver_unreachable",
    "nvml_failed",
    "gpu_lost",
    "inforom_corrupted",
    "no_table",
]


class Problem(Facts):
    """One line by which nvidia-smi says that something is wrong."""

    kind: Kind
    text: str
    index: int | None = None
    """Which GPU, where the line says it by number."""
    bus_id: str | None = None
    """Which GPU, where the line says it by bus id."""


_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "gpu_lost",
        re.compile(
            r"Unable to determine the device handle for gpu ?(?P<idx>\d{1,4}(?!\d*:[0-9a-f]{2}))?:? ?"
            r"(?P<bdf>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.\d)?:? ?(?P<why>[^\n<]{0,200})",
            re.IGNORECASE,
        ),
    ),
    (
        "inforom_corrupted",
        re.compile(r"infoROM is corrupted at gpu (?P<bdf>[0-9a-f:.]{1,20})?[^\n<]{0,100}", re.IGNORECASE),
    ),
    ("no_devices", re.compile(r"No devices were found", re.IGNORECASE)),
    (
        "driver_mismatch",
        re.compile(r"Failed to initialize NVML: Driver/library version mismatch[^<]{0,60}", re.IGNORECASE),
    ),
    (
        "driver_unreachable",
        re.compile(r"couldn't communicate with the NVIDIA driver[^\n<]{0,200}", re.IGNORECASE),
    ),
    ("nvml_failed", re.compile(r"Failed to initialize NVML: (?!Driver/library)[^\n<]{1,200}", re.IGNORECASE)),
)

MOST = 64
"""Problems kept of one text."""


def problems(text: str) -> tuple[Problem, ...]:
    """Return every known complaint in the text, in order of kind, at most `MOST`."""
    found: list[Problem] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            groups = match.groupdict()
            found.append(
                Problem(
                    kind=kind,
                    text=" ".join(match.group().split()),
                    index=int(groups["idx"]) if groups.get("idx") else None,
                    bus_id=bus_id((groups.get("bdf") or "").rstrip(".")) if groups.get("bdf") else None,
                )
            )
            if len(found) == MOST:
                return tuple(found)
    return tuple(found)
