"""From an outcome to the attempt that is recorded: the one place where `failed`, `unknown` and `again` are decided."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from bot import clock, evidence
from bot.effect import Cancelled, Command, Finished, Lost, Outcome, TimedOut, Unreachable
from bot.engine.planner import Planner, view
from bot.errors import SickbayError
from bot.language import template
from bot.runs.column import Call, repeatable
from bot.runs.run import Attempt, Status
from bot.verdict import Verdict


def judged(
    planner: Planner,
    call: Call,
    begun: Attempt,
    outcome: Outcome,
    context: Mapping[str, Any],
    now: datetime,
    *,
    mutating: bool,
    where: str = "",
) -> Attempt:
    """Return the attempt as it is to be recorded; never raises for anything a host answered.

    `where` names the host that was asked, when it is another than the one the step is about (a load balancer).
    """
    attempt = replace(begun, ended_at=now)
    if isinstance(outcome, TimedOut) and planner.partial(call.step):
        outcome = Finished(None, outcome.stdout, outcome.stderr, seconds=outcome.after)
    if isinstance(outcome, Finished):
        return _finished(planner, call, attempt, outcome, context)
    told = _unanswered(call, attempt, outcome, where or call.host, mutating=mutating)
    if where in ("", call.host):
        return told
    advice = f"{where}: {told.advice}" if told.advice else ""
    return replace(told, summary=f"{where}: {told.summary}", advice=advice)


def sealed(attempt: Attempt, command: Command, answer: Finished | TimedOut) -> Attempt:
    """Return the attempt of a capture with the hash of what is kept of it."""
    sha256 = evidence.seal(
        host=attempt.host,
        command=command.text,
        env=command.env,
        exit_code=attempt.exit_code,
        stdout=answer.stdout.data,
        stderr=answer.stderr.data,
        at=attempt.begun_at,
    )
    summary = f"{attempt.summary}; sha256 {sha256[:12]}"
    return replace(attempt, facts={**attempt.facts, "sha256": sha256}, summary=summary)


def clocked(attempt: Attempt, sent: datetime, came: datetime) -> Attempt:
    """Return the attempt of a capture with what the host's clock was: how far ahead of ours, or why nobody knows."""
    read = [clock.reading(said, uptime) for said, uptime in attempt.facts.get("clock", ())]
    readings = [one for one in read if one is not None]
    found = (
        clock.measure(sent, came, readings[0], readings[1] if len(readings) > 1 else None)
        if readings
        else clock.Unmeasured("the host told no time")
    )
    if isinstance(found, clock.Unmeasured):
        return replace(attempt, facts={**attempt.facts, "clock": {"unknown": found.why}})
    booted = found.booted.isoformat() if found.booted else None
    told = {"offset": found.seconds, "within": found.within, "booted": booted, "uptime": found.uptime}
    return replace(attempt, facts={**attempt.facts, "clock": told})


def _unanswered(
    call: Call,
    attempt: Attempt,
    outcome: Unreachable | TimedOut | Cancelled | Lost,
    machine: str,
    *,
    mutating: bool,
) -> Attempt:
    match outcome:
        case Unreachable(layer, reason, advice):
            return replace(
                attempt,
                status=Status.UNREACHABLE,
                summary=f"unreachable ({layer}): {reason}",
                advice=advice,
                again=True,
            )
        case TimedOut(after, stdout, stderr, ended):
            cut = replace(attempt, stdout=stdout.text, stderr=stderr.text)
            return _cut_short(cut, f"no end within {after:.0f} s", machine, sure=ended or not mutating)
        case Cancelled(stdout, stderr, ended):
            cut = replace(attempt, stdout=stdout.text, stderr=stderr.text)
            return replace(_cut_short(cut, "cancelled", machine, sure=ended or not mutating), again=False)
        case Lost(reason, advice, over):
            again = over and repeatable(call.step, call.tries)
            summary = f"{reason}; it is idempotent, so it is done once more" if again else reason
            return replace(attempt, status=Status.UNKNOWN, summary=summary, advice=advice, again=again)


def _cut_short(attempt: Attempt, what: str, machine: str, *, sure: bool) -> Attempt:
    if sure:
        return replace(attempt, status=Status.FAILED, summary=f"{what}; the command was ended", again=True)
    advice = f"Look on {machine} whether it is still going before anything else is started there."
    return replace(
        attempt, status=Status.UNKNOWN, summary=f"{what}, and it may still be going", advice=advice
    )


def _finished(
    planner: Planner, call: Call, attempt: Attempt, answer: Finished, context: Mapping[str, Any]
) -> Attempt:
    step = call.step
    attempt = replace(
        attempt, exit_code=answer.exit_code, stdout=answer.stdout.text, stderr=answer.stderr.text
    )
    try:
        judgement = planner.judge(step, answer, context)
        attempt = replace(
            attempt,
            status=Status.OK if judgement.ok else Status.FAILED,
            summary=judgement.summary,
            advice=judgement.advice,
            verdict=judgement.verdict,
            facts=dict(judgement.facts),
        )
        if attempt.status is Status.OK and step.expect is not None:
            seen = {**context, "result": view(attempt), "facts": dict(attempt.facts)}
            if not template.truth(step.expect, seen):
                attempt = replace(
                    attempt, status=Status.FAILED, summary=f"expected {step.expect}; {attempt.summary}"
                )
        return _once_more(call, attempt, context)
    except SickbayError as error:
        return replace(attempt, status=Status.FAILED, summary=error.what, advice=error.advice, again=True)


def _once_more(call: Call, attempt: Attempt, context: Mapping[str, Any]) -> Attempt:
    """Decide whether this is what was wanted; on the last try, what was not wanted becomes a failure."""
    step = call.step
    last = call.tries > step.retries
    doubtful = attempt.verdict in (Verdict.UNHEALTHY, Verdict.UNKNOWN)
    if attempt.status is not Status.OK:
        return replace(attempt, again=True)
    if step.until is not None:
        seen = {**context, "result": view(attempt), "facts": dict(attempt.facts)}
        met = template.truth(step.until, seen) and not (doubtful and call.section == "verify")
        if met:
            return attempt
        tries = f" after {call.tries} tries" if call.tries > 1 else ""
        summary = f"not yet {step.until}{tries}; {attempt.summary}" if last else attempt.summary
        return replace(attempt, status=Status.FAILED if last else Status.OK, summary=summary, again=True)
    if not doubtful:
        return attempt
    failed = last and call.section == "verify"
    return replace(attempt, status=Status.FAILED if failed else Status.OK, again=True)
