"""Autonomy is earned: `mode: auto` counts once the runbook has proved itself on this fleet.

A verified success is a run that changed something, passed its verify on every host it changed, and ended well. After a
failed verify the runbook starts from nothing again. What is counted is this text of the runbook: an edited file is
another runbook, and has to earn its own trust.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.language.runbook import Mode, Step
from bot.runs.run import Attempt, Status

SUCCESSES = 5
"""Verified successes that `auto` takes, where the configuration says nothing else."""


@dataclass(frozen=True, slots=True)
class Earned:
    """What a runbook has proved since its verify last failed."""

    successes: int = 0
    relapsed: bool = False
    """Has its verify ever failed?"""


def settled(mode: Mode, earned: Earned, needed: int) -> tuple[Mode, str]:
    """Return the mode that counts, and why it was lowered; empty where it was not."""
    if mode != "auto" or earned.successes >= needed:
        return mode, ""
    since = " since its verify last failed" if earned.relapsed else ""
    return "approve", (
        f"The runbook's mode is auto, but it has {earned.successes} of the {needed} verified successes that this "
        f"takes{since}: somebody has to approve."
    )


def standing(mode: Mode, earned: Earned, needed: int) -> str:
    """Write a runbook's mode short, with what it has earned."""
    if mode != "auto":
        return mode
    if earned.successes >= needed:
        return f"auto (earned {min(earned.successes, needed)}/{needed})"
    return f"auto → approve ({earned.successes} of {needed})"


def verified(
    verify: Sequence[Step], hosts: Iterable[str], last: Callable[[str, str], Attempt | None]
) -> dict[str, datetime]:
    """Return the hosts that came through verify, and when, whatever became of the others."""
    found: dict[str, datetime] = {}
    for host in hosts:
        ends = [one.ended_at for step in verify if (one := last(step.id, host)) is not None]
        if proved(verify, [host], last):
            found[host] = max(at for at in ends if at is not None)
    return found


def proved(
    verify: Sequence[Step], hosts: Iterable[str], last: Callable[[str, str], Attempt | None]
) -> bool | None:
    """Say whether verify passed on all hosts where it began; None where it proved nothing, one way or the other."""
    ran = [
        attempts
        for host in hosts
        if (attempts := [one for step in verify if (one := last(step.id, host)) is not None])
    ]
    if any(not attempt.good for attempts in ran for attempt in attempts):
        return False
    through = all(
        len(attempts) == len(verify) and any(one.status is Status.OK for one in attempts) for attempts in ran
    )
    return True if ran and through else None
