"""What is undone on a host that did not come through, and how that ended.

Steps that had succeeded are undone, the last one first, each once; the first rollback that fails ends the undoing,
because what stands before it was done under other circumstances. Where nobody knows how a command ended nothing is
undone: putting a host back into traffic beside a restart that may still be going makes two problems of one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bot.fleet import named
from bot.language.runbook import Step
from bot.runs.run import Attempt, Status

Last = Callable[[str, str], Attempt | None]
"""The newest attempt of a step on a host."""
_LONG = 300


def undoing(act: Sequence[Step], verify: Iterable[Step], host: str, last: Last) -> list[Step]:
    """Return what is to be undone on a host, in that order."""
    ran = [attempt for step in (*act, *verify) if (attempt := last(step.id, host)) is not None]
    if any(attempt.status is Status.UNKNOWN for attempt in ran):
        return []
    done = {attempt.step for attempt in ran if attempt.status is Status.OK}
    return [step.undo for step in reversed(act) if step.id in done and step.undo is not None]


@dataclass(frozen=True, slots=True)
class Undone:
    """How the undoing of a whole run ended."""

    failed: bool
    words: str
    """To be put behind the reason of the run's end; empty where nothing was undone."""


def undone(steps: Iterable[Step], hosts: Sequence[str], last: Last) -> Undone:
    """Say where steps were undone, and where that failed."""
    undos = [step.undo.id for step in steps if step.undo is not None]
    ran = {host: [one for undo in undos if (one := last(undo, host)) is not None] for host in hosts}
    bad = [host for host, attempts in ran.items() if any(not one.good for one in attempts)]
    good = [host for host, attempts in ran.items() if attempts and host not in bad]
    words = f" Rolled back on {named(good, _LONG)}." if good else ""
    words += f" Rolling back failed on {named(bad, _LONG)}." if bad else ""
    return Undone(bool(bad), words)
