"""Counting the replicas of a group before a batch is changed: the steps that ask, and what their answers come to."""

from collections.abc import Sequence
from typing import Any

from bot.guard.decision import Floor, Seen
from bot.language.runbook import Step
from bot.runs.record import COUNT, Record
from bot.runs.run import Attempt, Run
from bot.verdict import Verdict


def counting(
    run: Run, number: int, hosts: Sequence[str], changed: frozenset[str]
) -> tuple[list[Step], tuple[str, ...]]:
    """Return the step that counts before a batch (they count from 1), and the hosts it is done for; nothing without a floor.

    `changed` are the hosts of the plan on which something may be changed.
    """
    rule, plan = run.runbook.guard, run.plan
    if rule is None or plan is None or changed.isdisjoint(hosts):
        return [], ()
    given: dict[str, Any] = {
        "id": f"{COUNT}{number}",
        "name": f"Ready replicas before batch {number}",
        "uses": "serving.ready",
        "with_": {"port": rule.min_ready.port},
    }
    return [Step.model_construct(_fields_set=set(given), **given)], plan.members


def floor(run: Run, record: Record, hosts: Sequence[str]) -> Floor | None:
    """Return what was counted before the batch of these hosts; None where the runbook wants no floor."""
    rule, plan = run.runbook.guard, run.plan
    if rule is None or plan is None:
        return None
    at = next((at for at, batch in enumerate(plan.batches) if set(hosts) & set(batch)), 0)
    seen = {host: _seen(record.last(f"{COUNT}{at + 1}", host)) for host in plan.members}
    return Floor(rule.min_ready.group, rule.min_ready.replicas, plan.batches[at], seen)


def _seen(attempt: Attempt | None) -> Seen:
    """Say whether a replica was ready; what was not heard is not known."""
    if attempt is None or not attempt.done:
        return Seen(None, None, "it was not counted")
    if not attempt.good or attempt.verdict is Verdict.UNKNOWN:
        return Seen(None, attempt.begun_at, attempt.summary or "no answer")
    return Seen(attempt.verdict is Verdict.HEALTHY, attempt.begun_at, attempt.summary)
