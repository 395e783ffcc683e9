"""Counting the replicas of a group before a batch is changed: the steps that ask, and what their answers come to."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bot.duration import write
from bot.guard.decision import Floor, Seen
from bot.language.runbook import Step
from bot.runs.looks import count
from bot.runs.plan import Plan
from bot.runs.record import Record
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
        "id": count(number),
        "name": f"Ready replicas before batch {number}",
        "uses": "serving.ready",
        "with_": {"port": rule.min_ready.port},
    }
    return [Step.model_construct(_fields_set=set(given), **given)], plan.members


def floor(run: Run, record: Record, hosts: Sequence[str], now: datetime, fresh: timedelta) -> Floor | None:
    """Return what was counted before the batch of these hosts; None where the runbook wants no floor.

    What was counted too long ago is not known.
    """
    rule, plan = run.runbook.guard, run.plan
    if rule is None or plan is None:
        return None
    at = _batch(plan, hosts)
    seen = {
        host: _aged(_seen(record.last(count(at), host)), now, fresh, rule.min_ready.group)
        for host in plan.members
    }
    return Floor(rule.min_ready.group, rule.min_ready.replicas, plan.batches[at - 1], seen)


def outdated(
    run: Run, record: Record, hosts: Sequence[str], since: datetime, now: datetime, fresh: timedelta
) -> str:
    """Say why the replicas have to be counted again before the batch of these hosts; empty: as it was counted it holds.

    What was counted before `since`, when the run went on after a rest or a restart, does not count. Where counting takes
    longer than what it finds may be old, it is not done again: what is too old then is unknown.
    """
    if run.runbook.guard is None or run.plan is None:
        return ""
    at = _batch(run.plan, hosts)
    counted = [one for host in run.plan.members if (one := record.last(count(at), host)) is not None]
    if not counted:
        return ""
    first = min(one.begun_at for one in counted)
    if first < since or max(one.begun_at for one in counted) > now:
        return "the run has rested since the replicas were counted"
    last = max(one.ended_at or now for one in counted)
    others = [one for host in run.plan.batches[at - 1] for one in record.of(host)]
    if now - first > fresh and any(one.ended_at is not None and one.ended_at > last for one in others):
        return f"the replicas were counted {round((now - first).total_seconds())} s ago, and {write(fresh)} is the limit"
    return ""


def _batch(plan: Plan, hosts: Sequence[str]) -> int:
    """Return the number of the batch that these hosts are of."""
    return next((at for at, batch in enumerate(plan.batches, 1) if set(hosts) & set(batch)), 1)


def _aged(seen: Seen, now: datetime, fresh: timedelta, group: str) -> Seen:
    if seen.ready is None or seen.at is None or now - seen.at <= fresh:
        return seen
    return Seen(None, seen.at, f"counting {group} took so long that this is older than {write(fresh)}")


def _seen(attempt: Attempt | None) -> Seen:
    """Say whether a replica was ready; what was not heard is not known."""
    if attempt is None or not attempt.done:
        return Seen(None, None, "it was not counted")
    if not attempt.good or attempt.verdict is Verdict.UNKNOWN:
        return Seen(None, attempt.begun_at, attempt.summary or "no answer")
    return Seen(attempt.verdict is Verdict.HEALTHY, attempt.begun_at, attempt.summary)
