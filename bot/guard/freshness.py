"""Is what was seen of a host still fresh enough to change it? Pure.

People take their time to approve, and hosts reboot: a restart that was right ten minutes ago may be wrong now. So what
a plan rests on may be two minutes old, and must be of the same boot; else it is looked at again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bot.duration import write
from bot.runs.plan import Entry, Plan
from bot.runs.run import Attempt, Status


def stale(look: Sequence[Attempt], evidence: Sequence[Attempt], now: datetime, fresh: timedelta) -> str:
    """Say why what was seen of a host justifies no change any more; empty: it does.

    A look from after now is one of a clock that has been set back since: nobody knows how old it is.
    """
    ends = [one.ended_at for one in look if one.ended_at is not None]
    if not ends:
        return ""
    age = now - min(ends)
    if age < timedelta(0):
        return "the clock was set back since it was looked at"
    if age > fresh:
        return f"what was seen is {round(age.total_seconds())} s old, and {write(fresh)} is the limit"
    since = min(one.begun_at for one in look)
    for one in evidence:
        booted = _booted(one)
        if booted is not None and booted > since:
            return f"it was booted at {booted:%H:%M:%S} UTC, after it was looked at"
    return ""


def lasted(look: Sequence[Attempt]) -> timedelta:
    """Return how long it was looked, from the end of the first step to that of the last."""
    ends = [one.ended_at for one in look if one.ended_at is not None]
    return max(ends) - min(ends) if ends else timedelta(0)


def _booted(evidence: Attempt) -> datetime | None:
    """Return when a host was booted, by what was captured of it; late rather than early, None where it is unknown."""
    up = evidence.facts.get("up_s")
    if evidence.ended_at is None or not isinstance(up, int | float):
        return None
    return evidence.ended_at - timedelta(seconds=up)


def differs(before: Plan, now: Plan, host: str) -> str:
    """Say in what a plan for a host, made anew, is another; empty: what was agreed to still is what would be done."""
    old, new = _deeds(before, host), _deeds(now, host)
    found = [_change(old[step], new[step]) for step in old if step in new and old[step] != new[step]]
    judged, judged_now = _judged(before, host), _judged(now, host)
    found += [
        f"{step} was {_said(judged[step])} and is {_said(judged_now[step])}"
        for step in judged
        if step in judged_now and judged[step] != judged_now[step]
    ]
    return "; ".join(found)


def _deeds(plan: Plan, host: str) -> dict[str, Entry]:
    return {entry.step: entry for entry in plan.entries if entry.host == host and entry.section != "evidence"}


def _change(old: Entry, new: Entry) -> str:
    words = {"run": "to be done", "skip": "not needed", "later": "to be decided on the way"}
    if old.decision != new.decision:
        return f"{old.title} was {words[old.decision]} and is {words[new.decision]}"
    return f"{old.title} would be another command"


def _judged(plan: Plan, host: str) -> dict[str, tuple[Any, Any]]:
    end = f" on {host}"
    return {
        one.name.removesuffix(end): (one.value["status"], one.value["verdict"])
        for one in plan.preconditions
        if one.about == "look" and one.name.endswith(end)
    }


def _said(judged: tuple[Any, Any]) -> str:
    status, verdict = judged
    return str(verdict) if verdict is not None and status == Status.OK else str(status)
