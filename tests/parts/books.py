"""Small runbooks and runs for tests of what moves them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bot.language.runbook import Runbook
from bot.program import Parts, batches_of, ordered
from bot.runs.plan import Entry, Plan
from bot.runs.record import Record
from bot.runs.run import Attempt, Requester, Run, RunState, Status

START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def book(**changes: Any) -> Runbook:
    """Return a mutate runbook: look, change, change again, verify, rescue, always."""
    data: dict[str, Any] = {
        "version": 1,
        "name": "mend",
        "description": "Mend it",
        "kind": "mutate",
        "triggers": [{"command": True}],
        "evidence": "none",
        "steps": [
            {"id": "look", "run": "true", "mutates": False},
            {"id": "stop", "run": "stop it"},
            {"id": "start", "run": "start it"},
        ],
        "verify": [{"id": "proof", "run": "prove it", "mutates": False}],
        "rescue": [{"id": "note", "run": "note it", "mutates": False}],
        "always": [{"id": "undo", "run": "undo it"}],
    }
    data |= changes
    if data["kind"] == "observe":
        del data["evidence"]
    return Runbook.model_validate(data)


def mutates(runbook: Runbook) -> frozenset[str]:
    """Return the ids of the steps that change hosts."""
    changing = runbook.kind == "mutate"
    return frozenset(
        step.id
        for section, step in ordered(runbook)
        if section != "evidence" and (step.mutates if step.mutates is not None else changing)
    )


def run(runbook: Runbook, hosts: tuple[str, ...], **changes: Any) -> Run:
    """Return a run of it that has just begun."""
    fields: dict[str, Any] = {
        "id": 1,
        "incident_id": None,
        "runbook": runbook,
        "runbook_digest": "d",
        "hosts": hosts,
        "inputs": {},
        "alert": None,
        "mode": "auto",
        "requester": Requester("alice", "alice"),
        "state": RunState.RUNNING,
        "channel": "oncall",
        "created_at": START,
        "started_at": START,
        "deadline": START + timedelta(days=1),
    }
    return Run(**(fields | changes))


def attempt(step: str, host: str, status: Status = Status.OK, number: int = 1, **changes: Any) -> Attempt:
    """Return an attempt that began at START and, unless it is going, ended then."""
    ended = None if status is Status.BEGUN else START
    again = status in (Status.FAILED, Status.UNREACHABLE)
    return Attempt(1, step, host, number, status, START, **({"ended_at": ended, "again": again} | changes))


def plan_for(run: Run, record: Record) -> Plan:
    """Return a plan over the hosts that came through the look, without commands."""
    runbook = run.runbook
    look = {step.id for step in Parts.of(runbook, mutates(runbook)).look}
    hosts = [host for host in run.hosts if all(one.good for one in record.of(host))]
    batches = batches_of(runbook, hosts)
    entries = tuple(
        Entry(section, step.id, step.title, host, "run", mutating=step.id in mutates(runbook))
        for batch in batches
        for section, step in ordered(runbook)
        if step.id not in look
        for host in batch
    )
    return Plan(runbook.name, run.runbook_digest, batches, entries)
