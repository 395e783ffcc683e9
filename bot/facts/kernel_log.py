"""The kernel's log (`dmesg`, `journalctl -k`): what the NVIDIA driver said about its GPUs.

Takes every clock the two tools write, as the text before the message. A GPU can fall off the bus without an Xid, on one
line or on three, so those lines are read too. The process named by an Xid is who ran into it, not always who caused it.
"""

import re
from typing import Literal

from bot.facts import Facts, FactsError, bounded
from bot.facts.pci import BDF, bus_id
from bot.facts.xid import Level, xid

EXPECTED = "lines of the kernel's log (`dmesg` or `journalctl -k`)"
LARGEST = 64 * 1024 * 1024
MOST_EVENTS = 1000

_XID = re.compile(
    rf"NVRM: Xid \((?:PCI:)?(?P<bdf>{BDF})(?: GPU-I:(?P<gi>\d{{1,4}}))?(?: GPU-CI:(?P<ci>\d{{1,4}}))?\): "
    r"(?P<xid>\d{1,6})\b(?:, pid=(?P<pid>\d{1,10}|'?<unknown>'?|'\d{1,10}'))?(?:, name=(?P<name>[^,]{1,200}))?"
    r"(?:,\s*(?P<msg>.*))?",
    re.ASCII,
)
_RECOVERY = re.compile(r"\bto 0x([0-9a-f]{1,8})\b", re.IGNORECASE)
_CAUSE = re.compile(r"caused by previous Xid (\d{1,6})", re.ASCII)
_FALLEN = re.compile(rf"NVRM: GPU (?:at )?(?:PCI:)?(?P<bdf>{BDF}): GPU has fallen off the bus", re.ASCII)
_FALLEN_ADDRESS = re.compile(rf"\(PCI ID: (?P<bdf>{BDF})|NVRM: The NVIDIA GPU (?P<other>{BDF})", re.ASCII)
_FALLEN_END = re.compile(r"fallen off the bus and is not responding")
_SXID = re.compile(
    rf"nvidia-nvswitch\d{{1,3}}: SXid \(PCI:(?P<bdf>{BDF})\): (?P<sxid>\d{{1,6}}), (?P<msg>.*)", re.ASCII
)
_DENIED = re.compile(
    r"^(?:(?:\S*(?:dmesg|journalctl|sudo|sh|bash)(?:: line \d{1,5}|: \d{1,5})?: |No journal files were"
    r"|Hint: You are currently not seeing messages).{0,200})",
    re.MULTILINE | re.ASCII,
)
"""What the tools write when they may not read the log: an unread log must not pass for a quiet one."""


class KernelEvent(Facts):
    """One thing the driver reported."""

    kind: Literal["xid", "fallen_off_the_bus", "sxid"]
    time: str | None
    """As the log writes it: ISO, `Sun Feb 23 16:24:18 2025`, or seconds since boot."""
    bus_id: str | None
    code: int | None
    meaning: str
    level: Level
    then: str = ""
    pid: int | None = None
    process: str | None = None
    gpu_instance: int | None = None
    """Of a GPU divided by MIG."""
    caused_by: int | None = None
    """The earlier Xid that the driver names as cause."""
    message: str = ""


class KernelLog(Facts):
    """What the driver reported, in the order of the log."""

    lines: int
    events: tuple[KernelEvent, ...]
    left_out: int
    """Events beyond the first `MOST_EVENTS`."""


def parse(text: str) -> KernelLog:
    """Read the log; a log without a word of the driver is a log without events.

    Raises:
        FactsError: when the log could not be read on the host.

    """
    text = bounded(text, EXPECTED, LARGEST)
    events: list[KernelEvent] = []
    lines = text.splitlines()
    fallen_at: str | None = None
    found = 0
    for line in lines:
        if address := _FALLEN_ADDRESS.search(line):
            fallen_at = address["bdf"] or address["other"]
        event = _event(line[:4000], fallen_at)
        if event is not None:
            found += 1
            if len(events) < MOST_EVENTS:
                events.append(event)
    if not events and (denied := _DENIED.search(text)):
        raise FactsError(EXPECTED, text, why=f"the log could not be read: {denied.group()}")
    return KernelLog(lines=len(lines), events=tuple(events), left_out=found - len(events))


def _event(line: str, fallen_at: str | None) -> KernelEvent | None:
    if match := _XID.search(line):
        return _xid_event(line, match)
    if (match := _FALLEN.search(line)) or _FALLEN_END.search(line):
        lost = xid(79)
        return KernelEvent(
            kind="fallen_off_the_bus",
            time=_time(line),
            bus_id=bus_id(match["bdf"] if match else fallen_at or ""),
            code=None,
            meaning=lost.meaning,
            level=lost.level,
            then=lost.then,
            message=line[line.find("NVRM") :][:300],
        )
    if match := _SXID.search(line):
        fatal = match["msg"].startswith("Fatal")
        return KernelEvent(
            kind="sxid",
            time=_time(line),
            bus_id=bus_id(match["bdf"]),
            code=int(match["sxid"]),
            meaning="NVSwitch error, fatal" if fatal else "NVSwitch error, not fatal",
            level="L2" if fatal else "L0",
            then="all GPUs of the host are reset together" if fatal else "",
            message=match["msg"][:300],
        )
    return None


def _xid_event(line: str, match: re.Match[str]) -> KernelEvent:
    message = match["msg"] or ""
    number = _RECOVERY.search(message)
    code = int(match["xid"])
    known = xid(code, int(number[1], 16) if number else None)
    cause = _CAUSE.search(line)
    pid = (match["pid"] or "").strip("'")
    return KernelEvent(
        kind="xid",
        time=_time(line),
        bus_id=bus_id(match["bdf"]),
        code=code,
        meaning=known.meaning,
        level=known.level,
        then=known.then,
        pid=int(pid) if pid.isdigit() else None,
        process=match["name"],
        gpu_instance=int(match["gi"]) if match["gi"] else None,
        caused_by=int(cause[1]) if cause else None,
        message=message[:300],
    )


_BRACKETED = re.compile(r"(?:<\d{1,3}>)?(?:kern\s*:\w*\s*:\s*)?\[\s*([^\]]{1,40})\]", re.ASCII)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)", re.ASCII)
_SYSLOG = re.compile(r"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)", re.ASCII)


def _time(line: str) -> str | None:
    for clock in (_ISO, _SYSLOG, _BRACKETED):
        if found := clock.match(line):
            return found[1]
    return None
