"""HAProxy's runtime socket: which servers take traffic, which are drained, and who still holds a session.

Reads `show stat` (CSV) and `show servers state`, or both in one text when they were asked together
(`show stat; show servers state`); what one of them does not tell is None. The administrative bits are those of
HAProxy's management guide.
"""

import csv
from typing import Any, Literal

from bot.facts import Facts, FactsError, bounded

EXPECTED = "HAProxy's `show stat` or `show servers state`"
LARGEST = 8 * 1024 * 1024
MOST_SERVERS = 5000

Operation = Literal["stopped", "starting", "running", "stopping"]
_OPERATION: dict[str, Operation] = {"0": "stopped", "1": "starting", "2": "running", "3": "stopping"}
_ADMIN_BITS = {
    0x01: "forced maint",
    0x02: "inherited maint",
    0x04: "configured maint",
    0x08: "forced drain",
    0x10: "inherited drain",
    0x20: "resolution maint",
    0x40: "host name maint",
}
_DRAIN = 0x18
_MAINT = 0x23
"""Without 0x04, which stays set on a server that was `disabled` in the configuration and has long been put to work."""


class Server(Facts):
    """One server of one backend."""

    backend: str
    name: str
    status: str | None = None
    """As `show stat` says it: UP, DOWN, DRAIN, MAINT, no check, UP 1/3 …"""
    sessions: int | None = None
    """Sessions now (`scur`)."""
    queued: int | None = None
    """Requests waiting for this server (`qcur`)."""
    weight: int | None = None
    check: str | None = None
    """Result of the last health check, such as L7OK."""
    selected: int | None = None
    """How often it was chosen for a request since HAProxy started (`lbtot`); sessions that cling to it do not count."""
    changed: int | None = None
    """Seconds since it last went up or down."""
    operation: Operation | None = None
    admin: tuple[str, ...] | None = None
    """Why it is kept from traffic by a person or the configuration; empty when it is not."""
    drain: bool | None = None
    """Takes no new sessions, keeps those it has."""
    maint: bool | None = None


class Haproxy(Facts):
    """All servers, in the order HAProxy lists them."""

    servers: tuple[Server, ...]


def parse(text: str) -> Haproxy:
    """Read the answers to one or both questions.

    Raises:
        FactsError: when neither table is there, or one is cut in the middle of a line.

    """
    text = bounded(text, EXPECTED, LARGEST)
    servers: dict[tuple[str, str], dict[str, Any]] = {}
    columns: list[str] = []
    separator = ","
    seen = False
    for line in text.splitlines():
        if line.startswith("# pxname,"):
            columns, separator, seen = line.removeprefix("# ").split(","), ",", True
        elif line.startswith("# be_id "):
            columns, separator, seen = line.removeprefix("# ").split(), " ", True
        elif not line.strip():
            columns = []
        elif columns:
            _row(dict(zip(columns, _cells(line, separator, columns, text), strict=False)), servers)
            if len(servers) > MOST_SERVERS:
                raise FactsError(EXPECTED, text, why=f"it lists more than {MOST_SERVERS} servers")
    if not seen:
        raise FactsError(EXPECTED, text)
    return Haproxy(servers=tuple(Server(**server) for server in servers.values()))


def _cells(line: str, separator: str, columns: list[str], text: str) -> list[str]:
    try:
        cells = next(csv.reader([line])) if separator == "," else line.split()
    except csv.Error as error:
        raise FactsError(EXPECTED, text, why=f"a line of the table is damaged: {error}") from error
    # A cut number would be a wrong number. `show stat` fills every column; of the other table the ten first are
    # enough to know that the ones read here are whole.
    least = len(columns) - 1 if separator == "," else 10
    if len(cells) < least:
        raise FactsError(EXPECTED, text, why=f"the table ends in the middle of a line: {line[:80]!r}")
    return cells


def _row(row: dict[str, str], servers: dict[tuple[str, str], dict[str, Any]]) -> None:
    backend = row.get("pxname", row.get("be_name", ""))
    name = row.get("svname", row.get("srv_name", ""))
    if name in {"FRONTEND", "BACKEND", ""} or row.get("type", "2") != "2":
        return
    server = servers.setdefault((backend, name), {"backend": backend, "name": name})
    if "svname" in row:
        status = row.get("status", "")
        server |= {
            "status": status or None,
            "sessions": _count(row.get("scur")),
            "queued": _count(row.get("qcur")),
            "weight": _count(row.get("weight")),
            "check": row.get("check_status", "").removeprefix("* ") or None,
            "selected": _count(row.get("lbtot")),
            "changed": _count(row.get("lastchg")),
        }
        # A drained server that is also down shows as DOWN; only `show servers state` tells.
        hidden = not status or status.startswith(("DOWN", "MAINT"))
        server.setdefault("drain", None if hidden else status.startswith("DRAIN"))
        server.setdefault("maint", status.startswith("MAINT") if status else None)
    else:
        bits = _count(row.get("srv_admin_state"))
        admin = None if bits is None else tuple(why for bit, why in _ADMIN_BITS.items() if bits & bit)
        server |= {"operation": _OPERATION.get(row.get("srv_op_state", "")), "admin": admin}
        server["weight"] = server.get("weight", _count(row.get("srv_uweight")))
        server.setdefault("changed", _count(row.get("srv_time_since_last_change")))
        if bits is not None:
            server |= {"drain": bool(bits & _DRAIN), "maint": bool(bits & _MAINT)}


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
