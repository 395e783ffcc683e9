"""What has become of each host of a run: how it is judged, how it ended, and whether the guard kept it from being changed."""

from typing import Literal

from bot.runs.lacking import spared
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, Status
from bot.verdict import Verdict, worst


def host_verdict(run: Run, record: Record, host: str) -> Verdict | None:
    """Judge a host by its newest checks: those of verify when it came so far, else those of the steps."""
    without = spared(run, host)
    attempts = {attempt.step: attempt for attempt in record.of(host) if attempt.step not in without}
    cut_short = [Verdict.UNKNOWN] if any(not attempt.good for attempt in attempts.values()) else []
    for section in ("verify", "steps"):
        seen = [attempts[step.id].verdict for step in getattr(run.runbook, section) if step.id in attempts]
        judged = [verdict for verdict in seen if verdict is not None]
        if judged:
            return worst(judged + cut_short)
    return worst(cut_short) if cut_short else None


def held_back(record: Record, host: str) -> Attempt | None:
    """Return the attempt that the guard refused before this run had changed anything on the host."""
    found = record.of(host)
    return next((one for one in found if "guard" in one.facts and not one.sent and one.done), None)


def halted(record: Record, host: str) -> Attempt | None:
    """Return the attempt that the guard refused after this run had changed something on the host."""
    return next((one for one in record.of(host) if "halted" in one.facts), None)


def whole_verdict(run: Run, record: Record) -> Verdict | None:
    """Judge all hosts together: as badly as the worst of them."""
    verdicts = [verdict for host in run.hosts if (verdict := host_verdict(run, record, host)) is not None]
    return worst(verdicts) if verdicts else None


HostResult = Literal["ok", "failed", "unreachable", "unknown", "not begun"]


def host_result(run: Run, record: Record, host: str) -> HostResult:
    """Sum up a host: the first thing that went wrong, or ok; evidence that people did without is not wrong."""
    without = spared(run, host)
    attempts = [attempt for attempt in record.of(host) if attempt.done and attempt.step not in without]
    if not attempts:
        return "not begun"
    for status in (Status.UNKNOWN, Status.UNREACHABLE, Status.FAILED):
        if any(attempt.status is status for attempt in attempts):
            return status.value  # type: ignore[return-value]
    return "ok"
