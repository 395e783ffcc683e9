"""What a plan rests on, written into it; and what of that is no longer so, in words.

A plan is made from values: the runbook's file, the alert, the inputs, the hosts that a set stood for, how each machine
is reached, and what the look has seen. They are part of its digest. Before a yes counts, whenever a run that has changed
nothing is taken up, and right before its first change, those that can have changed meanwhile are compared with the world
as it is now. (That an alert has cleared, or that another run has changed a host, is told by whoever notices it, in the
transaction that records it.)
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from bot.errors import SickbayError
from bot.inventory import Host, Inventory, fold
from bot.language.runbook import Step
from bot.runs.plan import Plan, Precondition
from bot.runs.record import Record
from bot.runs.run import Run

DigestNow = Callable[[str], str | None]
"""The digest of a runbook's file as it lies on the disk now; None: there is none of this name any more."""

_SHOWN = ("address", "port", "user")
"""Parts of an inventory entry whose values are told; of the others it is told that they changed."""


def preconditions(
    run: Run, record: Record, inventory: Inventory, look: Iterable[Step], machines: Iterable[str]
) -> tuple[Precondition, ...]:
    """Write down what a plan of this run is made from; `machines` are all hosts that its commands go to."""
    found = [Precondition("runbook", run.runbook.name, run.runbook_digest)]
    found += [Precondition("input", name, value) for name, value in sorted(run.inputs.items())]
    if run.alert is not None:
        seen = {key: run.alert.get(key) for key in ("fingerprint", "starts_at", "status")}
        found.append(Precondition("alert", str(run.alert.get("name", "alert")), seen))
    if run.host_set:
        found.append(Precondition("host set", run.host_set, sorted(run.hosts)))
    for name in sorted({*run.hosts, *machines}):
        host = inventory.hosts.get(name)
        found.append(Precondition("host", name, None if host is None else entry(host)))
    for step in look:
        for name in run.hosts:
            if (attempt := record.last(step.id, name)) is not None:
                seen = {
                    "status": attempt.status,
                    "verdict": attempt.verdict,
                    "facts": _short(attempt.facts),
                }
                found.append(Precondition("look", f"{step.id} on {name}", seen))
    return tuple(found)


def broken(plan: Plan, inventory: Inventory, digest_now: DigestNow | None) -> list[str]:
    """Say what the plan was made from that is no longer so."""
    return [why for one in plan.preconditions for why in _broken(one, inventory, digest_now)]


def _broken(one: Precondition, inventory: Inventory, digest_now: DigestNow | None) -> Iterator[str]:
    match one.about:
        case "runbook":
            now = one.value if digest_now is None else digest_now(one.name)
            if now is None:
                yield f"the file of the runbook {one.name} is gone"
            elif now != one.value:
                yield f"the file of the runbook {one.name} was changed"
        case "host set":
            yield from _set(one.name, one.value, inventory)
        case "host":
            yield from _host(one.name, one.value, inventory.hosts.get(one.name))


def _set(pattern: str, before: list[str], inventory: Inventory) -> Iterator[str]:
    try:
        now = sorted(host.name for host in inventory.select(pattern))
    except SickbayError as error:
        yield f"the host set {pattern} was {fold(before)}, and now {error.what}"
        return
    if now != before:
        yield f"the host set {pattern} was {fold(before)} and is now {fold(now)}"


def _host(name: str, before: dict[str, Any] | None, host: Host | None) -> Iterator[str]:
    if host is None:
        if before is not None:
            yield f"{name} is no longer in the inventory"
        return
    if before is None:
        yield f"{name} has come into the inventory"
        return
    now = entry(host)
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        said = [
            f"{key} {before.get(key) or 'none'} → {now[key] or 'none'}" if key in _SHOWN else key
            for key in changed
        ]
        yield f"the inventory entry of {name} was changed ({', '.join(said)})"


def entry(host: Host) -> dict[str, Any]:
    """Return what the inventory says of a host, as plain data; what is long or private by its digest."""
    return {
        "address": host.address,
        "port": host.port,
        "user": host.user,
        "vars": _short(host.vars),
        "groups": sorted(host.groups),
        "way there": _short([asdict(hop) for hop in host.jump]),
        "login": _short(asdict(host.access)),
    }


def _short(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
