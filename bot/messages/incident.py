"""An incident as a message: what is wrong, where, since when, and what is being done about it."""

import re
from collections.abc import Sequence

from bot.incident import Event, Incident, IncidentState
from bot.language.runbook import Step
from bot.messages.card import Button, Buttons, Card, Link, Node, Note, Plain, Text, Title, Tone, Words, plain
from bot.messages.drains import standing
from bot.messages.holds import holds
from bot.messages.progress import RunView, asks, blamed, ending, position
from bot.messages.run import diagnosis_words, target
from bot.messages.short import cut, line
from bot.messages.words import join, say, text
from bot.program import ordered
from bot.runs.run import RunState, Status
from bot.verdict import Verdict
from bot.wording import count

_FIRST = re.compile(r" First: \S+ on \S+\.(?= |$)")
"""Said again by what follows, with the step's own words."""
_LOUD = ("critical", "page", "error", "emergency", "disaster")


def incident_card(incident: Incident, runs: Sequence[RunView]) -> Card:
    """Show an incident as it is now; `runs` are its runs, oldest first."""
    headline = _headline(incident, runs)
    name = incident.alerts[0].name if incident.alerts else incident.title
    nodes: list[Node] = [Title(headline)]
    if incident.title != name:
        nodes.append(Text(text(line(incident.title, 300))))
    nodes.append(Note(_context(incident, runs)))
    status = _status(incident, runs)
    nodes += [Text(words) for words in status]
    buttons = _buttons(incident, runs)
    if buttons:
        nodes.append(Buttons(buttons))
    summary = join([headline, *status[-1:]])
    return Card(cut(plain(summary), 300), tuple(nodes), _tone(incident), tinted=True)


def again_card(event: Event) -> Card:
    """Say that what a resolved incident was about has come back; below it, because an edited message calls nobody."""
    words = say("incident.came_back", times=event.data["times"], title=line(str(event.data["title"]), 300))
    return Card(plain(words), (Text(words),), "bad")


def _headline(incident: Incident, runs: Sequence[RunView]) -> Words:
    resolved = incident.state is IncidentState.RESOLVED
    loud = incident.severity.lower() in _LOUD
    undone = bool(runs) and runs[-1].run.state.ended and _unsettled(runs[-1])
    sign = (
        "🟠"
        if resolved and undone
        else "✅"
        if resolved
        else "🟡"
        if incident.recovered_by
        else "🔴"
        if loud
        else "🟠"
    )
    name = incident.alerts[0].name if incident.alerts else incident.title
    parts = [text("RESOLVED" if resolved else (incident.severity or "alert").upper(), bold=True)]
    parts.append(text(line(name, 80), bold=True))
    if incident.host:
        parts.append(text(incident.host, code=True))
    else:
        parts.append(text(line(_machines(incident), 80)))
    return (Plain(f"{sign} "), *join(parts))


def _machines(incident: Incident) -> str:
    named = dict.fromkeys(machine for alert in incident.alerts for machine in alert.machines[:1])
    return ", ".join(named)


def _context(incident: Incident, runs: Sequence[RunView]) -> Words:
    firing = sum(alert.status == "firing" for alert in incident.alerts)
    parts = [
        say("incident.number", id=incident.id),
        say("incident.since", at=incident.opened_at),
        say("incident.alerts", alerts=count(len(incident.alerts), "alert"), firing=firing),
        say("incident.route", runbook=runs[-1].run.runbook.name) if runs else say("incident.no_route"),
    ]
    if incident.times > 1:
        parts.append(say("incident.again", times=incident.times))
    if incident.found > 1 and incident.found_at is not None:
        parts.append(say("incident.found", times=count(incident.found, "time"), at=incident.found_at))
    urls = [alert.url for alert in incident.alerts if alert.url]
    if urls:
        parts.append((Link(urls[0], "source"),))
    return join(parts)


def _status(incident: Incident, runs: Sequence[RunView]) -> list[Words]:
    """One line of what was found, one of what is being done."""
    lines: list[Words] = []
    current = runs[-1] if runs else None
    if current is not None and (found := diagnosis_words(current)):
        lines.append(say("incident.diagnosed", found=found))
    if incident.state is IncidentState.RESOLVED:
        lines.append(_resolved(incident, runs))
        if current is not None and _unsettled(current):
            lines.append(_doing(current))
    elif incident.recovered_by is not None:
        proof = next((_proof(view) for view in runs if view.run.id == incident.recovered_by), "")
        lines.append(say("incident.recovered", proof=proof))
    elif current is None:
        lines.append(text(incident.note) if incident.note else say("incident.nothing"))
    else:
        lines.append(_doing(current))
    kept = [standing(one) for view in runs for one in view.drains if not one.closed]
    kept += [words for view in runs if view.held for words in holds(view)]
    return [*kept, *lines]


def _unsettled(view: RunView) -> bool:
    """Does a run still do something, or did it leave something undone, although its alert has cleared?"""
    if not view.run.state.ended:
        agreed = view.approval is None or view.approval.state == "approved"
        return view.run.cancelled_by is None and agreed
    planned = {entry.step for entry in view.run.plan.entries if entry.mutating} if view.run.plan else set()
    begun = any(one.step in planned and one.status is not Status.SKIPPED for one in view.record.all())
    return begun and view.run.state is not RunState.SUCCEEDED


def _resolved(incident: Incident, runs: Sequence[RunView]) -> Words:
    duration = (incident.resolved_at or incident.opened_at) - incident.opened_at
    by = next((view.run for view in runs if view.run.id == incident.recovered_by), None)
    if by is not None:
        return say("incident.resolved_by", duration=duration, runbook=by.runbook.name)
    return say("incident.resolved", duration=duration)


def _proof(view: RunView) -> str:
    """Return what verified the recovery: the last check's own words."""
    verify = {step.id for step in view.run.runbook.verify}
    said = [
        attempt.summary
        for _, step in ordered(view.run.runbook)
        for host in view.run.hosts
        if step.id in verify
        and (attempt := view.record.last(step.id, host)) is not None
        and attempt.summary
        and attempt.verdict is not Verdict.UNKNOWN
    ]
    return line(said[-1], 120).rstrip(".") if said else "its own checks"


def _doing(view: RunView) -> Words:
    run = view.run
    names = {"runbook": run.runbook.name, "hosts": target(view), "id": run.id}
    match run.state:
        case RunState.QUEUED:
            return say("incident.queued", **names)
        case RunState.RUNNING | RunState.WAITING if asks(view) and view.approval is not None:
            return say("incident.waiting", until=view.approval.expires_at, **names)
        case RunState.RUNNING | RunState.WAITING:
            if run.waits:
                return say("incident.held", why=line(run.waits, 300), **names)
            number, total, step = position(view)
            title = _title(step)
            if run.plan is None and run.runbook.kind == "mutate":
                return say("incident.looking", title=title, **names)
            return say("incident.running", number=number, total=total, title=title, **names)
        case RunState.SUCCEEDED if run.runbook.kind == "observe":
            return say("incident.observed", verdict=str(run.verdict or "unknown"), **names)
        case _:
            return say(f"incident.{run.state}", reason=line(_reason(view), 400), **names)


def _reason(view: RunView) -> str:
    """Say why a run ended as it did, and at which step; one host is not named twice."""
    run = view.run
    found = blamed(view) if run.state in (RunState.FAILED, RunState.NEEDS_HUMAN) else ""
    said = _FIRST.sub("", ending(view), count=1) if found else ending(view)
    if found and len(run.hosts) == 1:
        said = said.removeprefix(f"Failed on {run.hosts[0]}.").strip()
    return " ".join(part for part in (said, found) if part)


def _title(step: Step | None) -> str:
    return line(step.title, 80) if step is not None else "finishing"


def _buttons(incident: Incident, runs: Sequence[RunView]) -> tuple[Button, ...]:
    """Offer a check while nothing is under way; what is under way has its buttons in the thread."""
    over = incident.state is IncidentState.RESOLVED or incident.recovered_by is not None
    busy = any(not view.run.state.ended for view in runs)
    if over or busy or incident.host is None:
        return ()
    return (Button("check", f"Check {incident.host}", str(incident.id), "plain"),)


def _tone(incident: Incident) -> Tone:
    if incident.state is IncidentState.RESOLVED:
        return "good"
    if incident.recovered_by is not None:
        return "busy"
    return "bad"
