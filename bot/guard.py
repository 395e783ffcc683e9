"""May this run act on this host now? Pure: what is known goes in, an answer with its words comes out.

The store asks within the transaction that takes the host, so that what was answered still holds when it is taken.
Clean-up is never held up by these rails, only by another run's lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bot.duration import write
from bot.run import Run

Rail = Literal["lock", "freeze", "breaker", "cooldown", "limits"]
Reaction = Literal["go", "queue", "skip", "refuse", "escalate"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The numbers of the breaker."""

    hosts: int = 3
    within: timedelta = timedelta(minutes=10)


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
class Holder:
    """The run that has a lock."""

    run: int
    runbook: str
    by: str
    what: str
    """The host, or what else is locked, as people read it."""


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
class Facts:
    """What is known about one host at one moment."""

    host: str
    now: datetime
    holder: Holder | None = None
    freezes: tuple[Freeze, ...] = ()
    """Those that cover the host."""
    tripped: Tripped | None = None
    verified: datetime | None = None
    """When this runbook last succeeded on the host, proved by its verify."""
    uses: tuple[Use, ...] = ()
    gpus: tuple[str, ...] = ()


def automated(run: Run) -> bool:
    """Does the run go without a person behind each of its starts?"""
    return run.mode == "auto" or run.requester.via == "alert"


def answers(run: Run, facts: Facts) -> list[Answer]:
    """Return every rail's objection, the strictest first; empty: the run may act on the host."""
    found = [
        _freeze(facts),
        _breaker(run, facts),
        _cooldown(run, facts),
        _limits(run, facts),
        _lock(run, facts),
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


def frozen(freeze: Freeze) -> str:
    """Say who froze what, when and why."""
    what = freeze.hosts or "everything"
    return f"{what} is frozen by {freeze.by} since {freeze.at:%Y-%m-%d %H:%M} UTC: {freeze.reason}"


def thaw_advice(freeze: Freeze) -> str:
    """Say how a freeze ends."""
    return f"ask {freeze.by}; to lift it: thaw {freeze.hosts}".rstrip()


def _freeze(facts: Facts) -> Answer | None:
    if not facts.freezes:
        return None
    first = facts.freezes[0]
    return Answer(facts.host, "freeze", "refuse", frozen(first), thaw_advice(first))


def _breaker(run: Run, facts: Facts) -> Answer | None:
    if facts.tripped is None or not automated(run):
        return None
    hosts = ", ".join(facts.tripped.hosts)
    words = f"automation stopped itself at {facts.tripped.at:%Y-%m-%d %H:%M} UTC: too many hosts wanted a change at once ({hosts})"
    return Answer(
        facts.host, "breaker", "escalate", words, "look for one cause behind them; then: breaker reset REASON"
    )


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
    counted: Sequence[Use]
    if limits.by == "runbook":
        counted, what = recent, name
    elif limits.by == "gpu" and facts.gpus:
        by_gpu = {gpu: [one for one in recent if gpu in one.gpus] for gpu in facts.gpus}
        worst = max(by_gpu, key=lambda gpu: len(by_gpu[gpu]))
        counted, what = by_gpu[worst], f"GPU {worst} ({facts.host})"
    else:
        counted, what = on_host, facts.host
        note = " (its GPUs' UUIDs are unknown, so the host is counted)" if limits.by == "gpu" else ""
    if len({one.run for one in counted}) < limits.runs:
        return None
    times = len({one.run for one in counted})
    words = f"{name} has acted on {what} {times} times within {write(limits.per)}, and {limits.runs} is the limit{note}"
    if limits.by == "runbook":
        words = f"{name} has acted {times} times within {write(limits.per)}, and {limits.runs} is the limit"
    reaction: Reaction = "escalate" if limits.then == "escalate" else "refuse"
    return Answer(facts.host, "limits", reaction, words, "it does not help for long: look for the cause")


def _lock(run: Run, facts: Facts) -> Answer | None:
    holder = facts.holder
    if holder is None:
        return None
    words = f"{holder.what} is being changed by run {holder.run} ({holder.runbook}, started by {holder.by})"
    reaction: Reaction = {"queue": "queue", "skip": "skip", "fail": "refuse"}[run.runbook.on_conflict]  # type: ignore[assignment]
    advice = f"wait for run {holder.run}, or `sickbay cancel {holder.run}`, then start again"
    return Answer(facts.host, "lock", reaction, words, advice)


def trips(wishes: Sequence[tuple[str, datetime]], now: datetime, settings: Settings) -> tuple[str, ...]:
    """Return the hosts that trip the breaker: so many different ones wanted a change within its window."""
    hosts = sorted({host for host, at in wishes if at > now - settings.within})
    return tuple(hosts) if len(hosts) >= settings.hosts else ()
