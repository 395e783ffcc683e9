"""May this run act on this host now? Pure: what is known goes in, an answer with its words comes out.

The store asks within the transaction that takes the host, so that what was answered still holds when it is taken.
Clean-up is never held up by these rails, only by another run's lock. What is not known counts against acting.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from bot.duration import write
from bot.runs.run import Run

Rail = Literal["lock", "freeze", "maintenance", "breaker", "cooldown", "limits", "capacity", "evidence"]
TRIPPED = "breaker.tripped"
"""The event that automation stopped itself."""
Reaction = Literal["go", "queue", "skip", "refuse", "escalate"]

PEOPLE = ("slack", "cli")
"""Ways in on which a person stands behind what is asked; whatever comes another way is automation."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The numbers of the rails."""

    hosts: int = 3
    within: timedelta = timedelta(minutes=10)
    level: int = 2
    """The breaker trips when so many hosts want a change of at least this level within its window."""
    fresh: timedelta = timedelta(seconds=120)
    """How old what was seen may be when it justifies a change."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one rail, or all of them, say about one host."""

    host: str
    rail: Rail | None
    """None: no rail objects."""
    reaction: Reaction
    words: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """A host that a run wants to change."""

    keys: tuple[str, ...] = ()
    """What must be locked besides the host."""
    gpus: tuple[str, ...] = ()
    """UUIDs of its GPUs; empty: unknown."""
    level: int = 1
    """How deep the change goes: 1 restarts a replica, 2 resets or is not known, 3 reboots."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The run that has a lock."""

    run: int
    runbook: str
    by: str
    what: str
    """The host, or what else is locked, as people read it."""
    key: str = ""
    """The lock."""
    step: str = ""
    """The run has ended, and of this step nobody knows how it ended; empty: the run goes on."""
    why: str = ""
    """What is known of it."""

    def __str__(self) -> str:
        return f"run {self.run} ({self.runbook}, started by {self.by})"


@dataclass(frozen=True, slots=True)
class Freeze:
    """A stop that a person ordered."""

    by: str
    at: datetime
    reason: str
    hosts: str = ""
    """The host set as it was written; empty: everything."""


@dataclass(frozen=True, slots=True)
class Tripped:
    """The breaker is open: automation stands still."""

    at: datetime
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """A host was taken for a change."""

    run: int
    runbook: str
    host: str
    at: datetime
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether a replica was ready when it was counted."""

    ready: bool | None
    """None: nobody knows."""
    at: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Floor:
    """How many replicas must stay ready, and what was counted before the batch."""

    group: str
    replicas: int
    batch: tuple[str, ...]
    """The hosts that leave together."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """All hosts of the group."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a floor comes to for one host, with what others have taken since the count."""

    group: str
    replicas: int
    others: tuple[str, ...]
    """Ready ones that stay when the host is taken."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Those that do not count because nobody knows, and why."""
    taken: Mapping[str, Holder] = field(default_factory=dict)
    """Those that do not count because another run has them."""
    outdated: tuple[str, ...] = ()
    """Those of the unknown that another run has changed since they were counted."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one host at one moment."""

    host: str
    now: datetime
    holder: Holder | None = None
    freezes: tuple[Freeze, ...] = ()
    """Those that cover the host."""
    window: str = ""
    """The maintenance that goes on there, in words."""
    tripped: Tripped | None = None
    verified: datetime | None = None
    """When this runbook last succeeded on the host, proved by its verify."""
    uses: tuple[Use, ...] = ()
    gpus: tuple[str, ...] = ()
    capacity: Capacity | None = None
    """None: the runbook wants no floor, or the host is not ready, so taking it takes nothing away."""


Covers = Callable[[str], frozenset[str]]
"""Which hosts a host set means now.

Raises SickbayError when it means none any more; a freeze of such a set covers everything, since nobody knows what it meant.
"""


def _no_window(host: str, now: datetime) -> str:  # noqa: ARG001 - whoever has windows says more
    return ""


@dataclass(frozen=True, slots=True)
class World:
    """What the rails go by besides what is recorded."""

    covers: Covers
    settings: Settings = Settings()
    window: Callable[[str, datetime], str] = _no_window
    """Says which maintenance goes on at a host; empty: none."""


def automated(run: Run) -> bool:
    """Does the run go without a person behind it, who asked for it or approved its plan?"""
    return run.mode == "auto" and run.requester.via not in PEOPLE


def answers(run: Run, facts: Facts) -> list[Answer]:
    """Return every rail's objection, the strictest first; empty: the run may act on the host."""
    found = [
        _freeze(facts),
        _window(run, facts),
        _breaker(run, facts),
        _cooldown(run, facts),
        _limits(run, facts),
        _lock(run, facts),
        _capacity(run, facts),
    ]
    return [one for one in found if one is not None]


def answer(run: Run, facts: Facts) -> Answer:
    """Return the answer that counts."""
    return next(iter(answers(run, facts)), Answer(facts.host, None, "go"))


def clean_up(run: Run, facts: Facts) -> Answer:
    """Return the answer for what is done in any case: only another run's lock stops it."""
    held = _lock(run, facts)
    return (
        Answer(facts.host, None, "go")
        if held is None
        else Answer(facts.host, "lock", "refuse", held.words, held.advice)
    )


def halt(run: Run, facts: Facts) -> Answer | None:
    """Return what stops also a run that has the host already, before its next change: a freeze, or the open breaker."""
    return _freeze(facts) or _breaker(run, facts)


def frozen(freeze: Freeze) -> str:
    """Say who froze what, when and why."""
    what = freeze.hosts or "everything"
    return f"{what} is frozen by {freeze.by} since {freeze.at:%Y-%m-%d %H:%M} UTC: {freeze.reason}"


def thaw_advice(freeze: Freeze) -> str:
    """Say how a freeze ends."""
    return f"ask {freeze.by}; to lift it: thaw {freeze.hosts}".rstrip()


def in_doubt(holder: Holder) -> str:
    """Say which run that has ended holds what, and why."""
    doubt = f"nobody knows how its step {holder.step} ended: {holder.why}"
    return f"{holder.what} is held by {holder}, which has ended, and {doubt}"


def release_advice(holder: Holder) -> str:
    """Say how such a hold ends."""
    return f"look there what became of {holder.step}; then: release {holder.run} REASON"


def stopped(tripped: Tripped) -> str:
    """Say why automation stands still."""
    hosts = ", ".join(tripped.hosts)
    at = f"{tripped.at:%Y-%m-%d %H:%M} UTC"
    return f"automation stopped itself at {at}: too many hosts wanted a change at once ({hosts})"


def _freeze(facts: Facts) -> Answer | None:
    if not facts.freezes:
        return None
    first = facts.freezes[0]
    return Answer(facts.host, "freeze", "refuse", frozen(first), thaw_advice(first))


def _window(run: Run, facts: Facts) -> Answer | None:
    if not facts.window or not automated(run):
        return None
    words = f"{facts.window}, and nothing is started there automatically"
    return Answer(facts.host, "maintenance", "refuse", words, "a person may run it all the same")


def _breaker(run: Run, facts: Facts) -> Answer | None:
    if facts.tripped is None or not automated(run):
        return None
    advice = "look for one cause behind them; then: breaker reset REASON"
    return Answer(facts.host, "breaker", "escalate", stopped(facts.tripped), advice)


def _cooldown(run: Run, facts: Facts) -> Answer | None:
    wait = run.runbook.cooldown
    if wait is None or facts.verified is None:
        return None
    until = facts.verified + wait
    if facts.now >= until:
        return None
    words = (
        f"{run.runbook.name} mended {facts.host} at {facts.verified:%Y-%m-%d %H:%M:%S} UTC and rests there for "
        f"{write(wait)}, until {until:%Y-%m-%d %H:%M:%S} UTC"
    )
    return Answer(facts.host, "cooldown", "refuse", words, "if it is broken again, look for the cause")


def _limits(run: Run, facts: Facts) -> Answer | None:
    limits = run.runbook.limits
    if limits is None:
        return None
    name, since = run.runbook.name, facts.now - limits.per
    # A use from after now is counted: a clock that was set back must not make room.
    recent = [one for one in facts.uses if one.runbook == name and one.at > since and one.run != run.id]
    on_host = [one for one in recent if one.host == facts.host]
    note = ""
    used: Sequence[Use]
    if limits.by == "runbook":
        used, what = recent, ""
    elif limits.by == "gpu" and facts.gpus:
        blind = [one for one in on_host if not one.gpus]  # whichever it was, it may have been this one
        by_gpu = {gpu: [one for one in recent if gpu in one.gpus] for gpu in facts.gpus}
        worst = max(by_gpu, key=lambda gpu: len(by_gpu[gpu]))
        used, what = by_gpu[worst] + blind, f" on GPU {worst} ({facts.host})"
        note = " (where the UUIDs of its GPUs were unknown, each of them is counted)" if blind else ""
    else:
        used, what = on_host, f" on {facts.host}"
        note = " (its GPUs' UUIDs are unknown, so the host is counted)" if limits.by == "gpu" else ""
    times = len({one.run for one in used})
    if times < limits.runs:
        return None
    words = (
        f"{name} has acted{what} {times} time{'s' if times > 1 else ''} within {write(limits.per)}, "
        f"and {limits.runs} is the limit{note}"
    )
    reaction: Reaction = "escalate" if limits.then == "escalate" else "refuse"
    return Answer(facts.host, "limits", reaction, words, "it does not help for long: look for the cause")


def _lock(run: Run, facts: Facts) -> Answer | None:
    holder = facts.holder
    if holder is None:
        return None
    if holder.step:
        return Answer(facts.host, "lock", "refuse", in_doubt(holder), release_advice(holder))
    words = f"{holder.what} is being changed by {holder}"
    advice = f"wait for run {holder.run}, or `sickbay cancel {holder.run}`, then start again"
    return Answer(facts.host, "lock", _in_conflict(run), words, advice)


def _capacity(run: Run, facts: Facts) -> Answer | None:
    one = facts.capacity
    if one is None or len(one.others) >= one.replicas:
        return None
    stay = f"{len(one.others)} of {one.group} would stay ready without {facts.host}"
    notes = [f"{host} is being changed by {holder}" for host, holder in one.taken.items()]
    notes += [
        f"whether {host} is ready is unknown ({why}), so it is not counted"
        for host, why in one.unknown.items()
    ]
    words = "; ".join([f"{stay}, and {one.replicas} must", *notes])
    advice = "bring another replica back first"
    if one.outdated:
        return Answer(facts.host, "capacity", "queue", words, advice)
    if len(one.others) + len(one.taken) >= one.replicas:
        return Answer(
            facts.host, "capacity", _in_conflict(run), words, f"wait for the other runs, or {advice}"
        )
    return Answer(facts.host, "capacity", "refuse", words, advice)


def _in_conflict(run: Run) -> Reaction:
    reactions: Mapping[str, Reaction] = {"queue": "queue", "skip": "skip", "fail": "refuse"}
    return reactions[run.runbook.on_conflict]


def trips(wishes: Sequence[tuple[str, datetime]], now: datetime, settings: Settings) -> tuple[str, ...]:
    """Return the hosts that trip the breaker: so many different ones wanted a change within its window."""
    hosts = sorted({host for host, at in wishes if at > now - settings.within})
    return tuple(hosts) if len(hosts) >= settings.hosts else ()
