"""PCI bus ids, which each tool writes in its own way."""

import re

BDF = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?"
"""What a bus id looks like: `00000000:9B:00.0`, `0000:9b:00`, `9b:00.0`."""

_PARTS = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.([0-7]))?")


def bus_id(text: str) -> str | None:
    """Return a bus id as Linux writes it, `0000:9b:00.0`, or None where the text is none."""
    found = _PARTS.fullmatch(text.strip().removeprefix("PCI:"))
    if found is None:
        return None
    domain, bus, device, function = found.groups()
    return f"{int(domain or '0', 16):04x}:{bus.lower()}:{device.lower()}.{function or '0'}"
