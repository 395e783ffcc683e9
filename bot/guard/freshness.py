"""Is what was seen of a host still fresh enough to change it? Pure.

People take their time to approve, and hosts reboot: a restart that was right ten minutes ago may be wrong now. So what
a plan rests on, and the evidence that was kept, may be two minutes old, and must be of the boot in which the host is
right before its first change; else it is looked at again. A boot that nobody knows is not the same one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.duration import write
from bot.language.runbook import Step
from bot.runs.plan import Entry, Plan
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, Status

_TELL = (
    "let its login read /proc/sys/kernel/random/boot_id and /proc/uptime, or do without by `evidence: none`"
)


@dataclass(frozen=True, slots=True)
class Stale:
    """What was seen of a host justifies no change any more."""

    why: str
    evidence: bool = False
    """Has the evidence to be taken again, too?"""
    aged: bool = False
    """Is that a matter of time alone?"""
    advice: str = "start the runbook again"
    """What to do where a second look comes to no more."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a host: the last attempts of its look and of its evidence, and in which boot it is since."""

    look: tuple[Attempt, ...] = ()
    evidence: tuple[Attempt, ...] = ()
    """Of evidence that could not be had, and that people do without, there is nothing to be held against."""
    boot: Attempt | None = None

    @classmethod
    def of(cls, run: Run, look: Sequence[Step], record: Record, host: str) -> "Sight":
        """Gather it."""
        captures = run.runbook.captures
        kept = _kept(_last(captures, record, host))
        boot = record.last(_id(run, (*look, *captures), record, host), host)
        return cls(tuple(_last(look, record, host)), tuple(kept), boot)

    @property
    def kept(self) -> Attempt | None:
        """The evidence that says of which boot it is."""
        return next((one for one in self.evidence if "boot" in one.facts), None)

    def stale(self, now: datetime, fresh: timedelta) -> Stale | None:
        """Say why it justifies no change any more; None: it does.

        What is from after now is of a clock that has been set back since: nobody knows how old it is.
        """
        if why := _old(self.evidence, "its evidence", now, fresh):
            return Stale(why, evidence=True, aged=True)
        if why := _old(self.look, "what was seen", now, fresh):
            return Stale(why, aged=True)
        return self._rebooted(self.kept) if self.kept is not None else None

    def _rebooted(self, kept: Attempt) -> Stale | None:
        was, found = kept.facts["boot"], self.boot
        is_now = found.facts.get("boot") if found is not None and found.status is Status.OK else None
        if was is None or is_now is None or found is None:
            asked = (
                kept.summary if was is None else found.summary if found is not None else "it was not asked"
            )
            which = "its evidence is of" if was is None else "it is in"
            return Stale(f"which boot {which} is not known: {asked}", evidence=True, advice=_TELL)
        if was != is_now:
            return Stale("it was booted since its evidence was taken", evidence=True)
        # what was looked at after the evidence lies between the two questions
        before = [one.begun_at for one in self.look if one.begun_at < kept.begun_at]
        booted = _booted(found) or _booted(kept)
        if before and booted is None:
            why = "whether it was booted since it was looked at is not known: it does not tell its uptime"
            return Stale(why, advice=_TELL)
        if before and booted is not None and booted > min(before):
            return Stale(f"it was booted at {booted:%H:%M:%S} UTC, after it was looked at")
        return None


def asking(
    run: Run, look: Sequence[Step], hosts: Sequence[str], record: Record
) -> list[tuple[list[Step], list[str]]]:
    """Return the steps that ask these hosts in which boot they are, right before the first change there.

    Each is asked whenever the run goes on, and again when it was looked at again: both stand in the step's id.
    Where no evidence is kept there is nothing that its boot could be held against.
    """
    found: dict[str, list[str]] = {}
    captures = run.runbook.captures
    for host in hosts:
        kept = _kept(_last(captures, record, host))
        if any("boot" in one.facts for one in kept):
            found.setdefault(_id(run, (*look, *captures), record, host), []).append(host)
    return [([_step(name)], named) for name, named in found.items()]


def _step(name: str) -> Step:
    given: dict[str, Any] = {"id": name, "name": "Boot id before the first change", "uses": "host.boot"}
    return Step.model_construct(_fields_set=set(given), **given)


def _kept(taken: Sequence[Attempt]) -> list[Attempt]:
    return [one for one in taken if one.status is Status.OK]


def _id(run: Run, steps: Sequence[Step], record: Record, host: str) -> str:
    seen = _last(steps, record, host)
    return f"boot.{run.fence}.{max((one.number for one in seen), default=1)}"


def _last(steps: Sequence[Step], record: Record, host: str) -> list[Attempt]:
    return [one for step in steps if (one := record.last(step.id, host)) is not None]


def _old(seen: Sequence[Attempt], what: str, now: datetime, fresh: timedelta) -> str:
    ends = [one.ended_at for one in seen if one.ended_at is not None]
    if not ends:
        return ""
    age = now - min(ends)
    if age < timedelta(0):
        return "the clock was set back since it was looked at"
    if age > fresh:
        return f"{what} is {round(age.total_seconds())} s old, and {write(fresh)} is the limit"
    return ""


def lasted(look: Sequence[Attempt]) -> timedelta:
    """Return how long it was looked, from the end of the first step to that of the last."""
    ends = [one.ended_at for one in look if one.ended_at is not None]
    return max(ends) - min(ends) if ends else timedelta(0)


def _booted(seen: Attempt) -> datetime | None:
    """Return when a host was booted, by what it said of itself; late rather than early, None where it is unknown."""
    up = seen.facts.get("up_s")
    if seen.ended_at is None or not isinstance(up, int | float):
        return None
    return seen.ended_at - timedelta(seconds=up)


def differs(before: Plan, now: Plan, host: str) -> str:
    """Say in what a plan for a host, made anew, is another; empty: what was agreed to still is what would be done.

    What was to be decided on the way may have been decided since, and is as it was agreed to, whatever came of it.
    """
    old, new = _deeds(before, host), _deeds(now, host)
    settled = [step for step in old if step in new and old[step].decision != "later"]
    found = [_change(old[step], new[step]) for step in settled if old[step] != new[step]]
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
