"""Evidence that could not be had: which hosts may be changed without it, which may not, and who has to be asked.

The runbook's rule says what then: `ask` people, `refuse` to change the host, or `go` on without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.fleet import named
from bot.runs.approval import ApprovalState
from bot.runs.run import Attempt, Run

Last = Callable[[str, str], Attempt | None]
"""The newest attempt of a step on a host."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Hosts without evidence."""

    refused: tuple[str, ...] = ()
    """They are not changed."""
    unasked: tuple[tuple[str, str], ...] = ()
    """Nobody has been asked about them yet; and why there is none."""


def lacking(run: Run, hosts: Sequence[str], last: Last) -> Lacking:
    """Sort the hosts that lack evidence by what is to be done about it."""
    rule = run.runbook.evidence.missing
    found = [(host, why) for host in hosts if (why := _why(run, host, last))]
    if rule == "refuse":
        return Lacking(refused=tuple(host for host, _ in found))
    known = {host for host, _ in run.plan.without} if run.plan is not None else set[str]()
    return Lacking(unasked=tuple(one for one in found if rule == "ask" and one[0] not in known))


def _why(run: Run, host: str, last: Last) -> str:
    attempts = [last(step.id, host) for step in run.runbook.captures]
    return "; ".join(one.summary or str(one.status) for one in attempts if one is not None and not one.good)


def ungranted(run: Run, approval: ApprovalState | None, most: int) -> str:
    """Say why a run ends that nobody let go on without evidence."""
    hosts = named([host for host, _ in run.plan.without] if run.plan else (), most)
    why = {"denied": "was denied", "void": "is no longer asked about"}.get(
        approval or "", "was not approved in time"
    )
    return f"Going on without the evidence of {hosts} {why}; nothing was changed there."


def spared(run: Run, host: str) -> set[str]:
    """Return the steps whose failure is no failure of the host: evidence that may be done without, or was asked about."""
    rule = run.runbook.evidence.missing
    asked = rule == "ask" and run.plan is not None and any(host == name for name, _ in run.plan.without)
    return {step.id for step in run.runbook.captures} if asked or rule == "go" else set()
