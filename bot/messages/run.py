"""A run as a message: the verdict, the steps as they go, what went wrong and what to do next."""

from collections.abc import Sequence

from bot.fleet import folded, named
from bot.inventory import fold
from bot.messages.card import (
    Button,
    Buttons,
    Card,
    Checklist,
    Confirm,
    Node,
    Note,
    Output,
    Text,
    Title,
    Tone,
    Words,
    plain,
)
from bot.messages.drains import standing
from bot.messages.glass import glass_line
from bot.messages.holds import holds
from bot.messages.progress import RunView, asks, checklist, diagnosis, ending, wrong
from bot.messages.short import TAIL, line, tail
from bot.messages.words import join, say, text
from bot.program import ordered
from bot.runs.result import host_result, host_verdict
from bot.runs.run import Attempt, RunState, Status
from bot.verdict import Verdict
from bot.wording import count

OUTPUTS = 2
"""Outputs shown in the message itself; all are in the file."""
HOST_LINES = 12


def run_card(view: RunView) -> Card:
    """Show a run as it is now."""
    run = view.run
    headline = _headline(view)
    nodes: list[Node] = [Title(headline)]
    nodes += [Text(words) for words in _state_lines(view)]
    items = checklist(view)
    if items:
        nodes.append(Checklist(items))
    if run.state.ended:
        nodes += _advice(view)
        nodes += _outputs(view)
    nodes.append(Note(_footer(view)))
    if not run.state.ended and run.cancelled_by is None:
        nodes.append(Buttons((_cancel(view),)))
    return Card(plain(headline), tuple(nodes), _tone(view))


def target(view: RunView) -> str:
    """Return where the run acts, short."""
    return named(view.run.hosts)


def _headline(view: RunView) -> Words:
    run = view.run
    names = {"runbook": run.runbook.name, "hosts": target(view)}
    if run.state is RunState.SUCCEEDED and run.verdict is not None and run.runbook.kind == "observe":
        bad = [host for host in run.hosts if host_verdict(run, view.record, host) is run.verdict]
        some = f"{len(bad)} of {len(run.hosts)} " if len(bad) < len(run.hosts) else ""
        return say(f"run.title_{run.verdict}", some=some, **names)
    return say(f"run.title_{run.state}", **names)


def _state_lines(view: RunView) -> list[Words]:
    run = view.run
    lines: list[Words] = []
    if run.lowered and not run.state.ended:
        lines.append(text(run.lowered))
    lines += [glass_line(event) for event in view.broken]
    if asks(view) and view.approval is not None and not run.state.ended:
        lines.append(say("run.asks", until=view.approval.expires_at))
    elif run.state is RunState.WAITING and run.wake_at is not None:
        lines.append(say("run.sleeps", until=run.wake_at))
    if run.waits and not run.state.ended:
        lines.append(say("run.waits", why=run.waits))
    if run.cancelled_by and not run.state.ended:
        lines.append(say("run.cancelling", by=run.cancelled_by))
    if run.state.ended and run.reason:
        lines.append(text(ending(view)))
    lines += [standing(one) for one in view.drains]
    lines += holds(view)
    if run.state.ended and len(run.hosts) > 1:
        lines += _host_lines(view)
    return lines


def _host_lines(view: RunView) -> list[Words]:
    """Verdict by host, hosts alike together, the worst first."""
    order = ["unhealthy", "failed", "unknown", "healthy", ""]
    said = folded(
        (_host(view, host) for host in view.run.hosts),
        most=HOST_LINES,
        rank=order.index,
    )
    lines = [
        say(f"run.host_{group.kind or 'ok'}", hosts=named(group.hosts), finding=line(group.text, 160))
        for group in said.groups
    ]
    if not said.rest:
        return lines
    return [*lines, text(f"and {count(said.others, 'other answer')} on {named(said.rest)}, see the file")]


def _host(view: RunView, host: str) -> tuple[str, str, str]:
    """Return a host, the word for it, and what was found."""
    verdict = host_verdict(view.run, view.record, host)
    result = host_result(view.run, view.record, host)
    word = "unknown" if result == "not begun" else str(verdict or "")
    if result not in ("ok", "not begun") and verdict is not Verdict.UNHEALTHY:
        word = "failed"
    return host, word, _finding(view, host) or result


def _finding(view: RunView, host: str) -> str:
    """Return the summary that decided a host's verdict: of the worst step, else of the last judged one."""
    attempts = [a for _, step in ordered(view.run.runbook) if (a := view.record.last(step.id, host))]
    bad = [a for a in attempts if not a.good or a.verdict is Verdict.UNHEALTHY]
    doubtful = [a for a in attempts if a.verdict is Verdict.UNKNOWN]
    judged = [a for a in attempts if a.verdict is not None]
    return "; ".join(a.summary for a in (bad or doubtful or judged)[:3] if a.summary)


def _advice(view: RunView) -> list[Node]:
    said: dict[str, list[str]] = {}
    for attempt in wrong(view):
        if attempt.advice:
            said.setdefault(attempt.advice, []).append(attempt.host)
    lines = [
        Text(say("run.advice", hosts=named(hosts), advice=line(advice, 400)))
        for advice, hosts in list(said.items())[:4]
    ]
    if view.run.state is RunState.NEEDS_HUMAN and not view.released:
        lines.append(Text(say("run.by_hand")))
    return list(lines)


def output_wanted(attempt: Attempt) -> bool:
    """Is it worth a look in the message what this attempt's command printed?"""
    return attempt.status in (Status.FAILED, Status.UNKNOWN) or attempt.verdict is Verdict.UNHEALTHY


def _outputs(view: RunView) -> list[Node]:
    nodes: list[Node] = []
    for attempt in wrong(view):
        printed = view.outputs.get(attempt.key, "").strip()
        long = len(printed.splitlines()) > TAIL
        if not printed or (long and attempt.status is Status.OK):
            continue  # the end of a long report that was understood says less than its summary
        step = next(step for _, step in ordered(view.run.runbook) if step.id == attempt.step)
        caption = say("run.output", step=line(step.title, 60), host=attempt.host)
        nodes.append(Output(tail(printed), caption))
        if len(nodes) == OUTPUTS:
            break
    return nodes


def _footer(view: RunView) -> Words:
    run = view.run
    parts = [say("run.number", id=run.id), say("run.by", name=run.requester.name)]
    if run.started_at is not None:
        parts.append(say("run.started", at=run.started_at))
    if run.ended_at is not None:
        parts.append(say("run.took", duration=run.ended_at - (run.started_at or run.created_at)))
    return join(parts)


def _cancel(view: RunView) -> Button:
    title = f"Cancel run {view.run.id}?"
    question = "What has begun on a host is told to end; nothing else is started."
    confirm = Confirm(title, question, "Cancel the run", "Let it go on")
    return Button("cancel", "Cancel run", str(view.run.id), "plain", confirm)


def _tone(view: RunView) -> Tone:
    match view.run.state:
        case RunState.SUCCEEDED:
            tones: dict[Verdict | None, Tone] = {
                Verdict.UNHEALTHY: "bad",
                Verdict.UNKNOWN: "unknown",
            }
            return tones.get(view.run.verdict, "good")
        case RunState.FAILED | RunState.NEEDS_HUMAN:
            return "bad"
        case RunState.CANCELLED:
            return "unknown"
        case _:
            return "busy"


def diagnosis_words(view: RunView, most: int = 3) -> Words:
    """Say what the checks found, in one line."""
    found = diagnosis(view, most)
    if len(found.groups) == 1 and not found.rest:
        return text(line(found.groups[0].text, 300))
    parts = [text(f"{named(group.hosts)}: {line(group.text, 120)}") for group in found.groups]
    return join([*parts, text(f"{count(found.others, 'more finding')}")] if found.rest else parts)


def output_text(view: RunView, attempts: Sequence[tuple[Attempt, str, str]]) -> str:
    """Write all outputs of a run as one text file."""
    run = view.run
    titles = {step.id: step.title for _, step in ordered(run.runbook)}
    lines = [f"Sickbay run {run.id}: {run.runbook.name} on {fold(run.hosts)}", ""]
    for attempt, stdout, stderr in attempts:
        exit_code = "" if attempt.exit_code is None else f", exit code {attempt.exit_code}"
        lines += [
            f"──── {titles.get(attempt.step, attempt.step)} · {attempt.host} · try {attempt.number}",
            f"{attempt.begun_at:%Y-%m-%d %H:%M:%S} UTC, {attempt.status}{exit_code}: {attempt.summary}",
        ]
        for name, content in (("stdout", stdout), ("stderr", stderr)):
            if content:
                lines += [f"── {name}", content.rstrip("\n")]
        lines.append("")
    return "\n".join(lines)
