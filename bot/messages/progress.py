"""How far a run is, step by step, with hosts that answered alike folded into one line."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from bot.fleet import Folded, folded, named
from bot.guard.decision import Holder
from bot.guard.drain import Drain
from bot.incident import Event
from bot.language.runbook import Step
from bot.messages.card import Item, Mark, Plain, Words
from bot.messages.short import line, took
from bot.messages.words import join, say, text
from bot.program import CLEAN_UP, ordered
from bot.runs.approval import Approval
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, Status
from bot.verdict import Verdict
from bot.wording import count, no_longer

GROUPS = 6
"""Lines under one step; the hosts beyond are counted."""
FEW = 8
"""Hosts that are shown each by what it does; of more the counts are shown, and those that went wrong."""


@dataclass(frozen=True, slots=True)
class RunView:
    """All that is read of a run to show it."""

    run: Run
    record: Record
    approval: Approval | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    """What commands printed, by attempt key, of those attempts whose output is to be shown."""
    drains: Sequence[Drain] = ()
    """What it has left out of traffic when it ended, also what takes traffic again."""
    broken: tuple[Event, ...] = ()
    """Every time that somebody broke glass."""
    held: Sequence[Holder] = ()
    """The hosts that it still holds although it has ended, each with the step that nobody knows the end of."""
    released: Sequence[Event] = ()
    """That somebody let them go."""


def asks(view: RunView) -> bool:
    """Is somebody being asked? The question is stored a moment before the run rests."""
    return view.approval is not None and view.approval.state == "pending"


def ending(view: RunView) -> str:
    """Say why a run ended as it did; of a plan that no longer held before it began, what made it so."""
    unbegun = view.run.begun_at is None and view.run.cancelled_by is None
    if view.approval is not None and view.approval.state == "void" and unbegun:
        return no_longer(view.approval.note)
    return view.run.reason


def mark_of(attempt: Attempt | None) -> Mark:
    """Return how an attempt is marked; a check that found something wrong is not `done`."""
    if attempt is None:
        return "todo"
    match attempt.status:
        case Status.BEGUN:
            return "busy"
        case Status.SKIPPED:
            return "skipped"
        case Status.UNKNOWN:
            return "unknown"
        case Status.FAILED | Status.UNREACHABLE:
            return "failed"
        case Status.OK:
            found: dict[Verdict | None, Mark] = {
                Verdict.UNHEALTHY: "unhealthy",
                Verdict.UNKNOWN: "unknown",
            }
            return found.get(attempt.verdict, "done")


_WEIGHT: tuple[Mark, ...] = ("todo", "skipped", "done", "unknown", "unhealthy", "failed", "busy")


def worst_mark(marks: Iterable[Mark]) -> Mark:
    """Return the mark of a step on many hosts."""
    return max(marks, key=_WEIGHT.index, default="todo")


def shown_steps(view: RunView) -> list[tuple[str, Step]]:
    """Return the steps worth a line: a rollback or rescue only once it began, and after the end only what was begun."""
    seen = {attempt.step for attempt in view.record.all()}
    over = view.run.state.ended
    shown = [
        (section, step)
        for section, step in ordered(view.run.runbook)
        if step.id in seen or not (over or section in ("rollback", "rescue"))
    ]
    planned = {entry.step for entry in view.run.plan.entries} if view.run.plan else set[str]()
    looked = [one for one in shown if one[1].id not in planned]
    return [*looked, *(one for one in shown if one[1].id in planned)]


def position(view: RunView) -> tuple[int, int, Step | None]:
    """Return which step of how many is being done now, and the step."""
    steps = [step for _, step in shown_steps(view)]
    for number, step in enumerate(steps, 1):
        attempts = [view.record.last(step.id, host) for host in view.run.hosts]
        if any(attempt is None or not attempt.done for attempt in attempts):
            return number, len(steps), step
    return len(steps), len(steps), None


def checklist(view: RunView) -> tuple[Item, ...]:
    """Return one item for each step."""
    return tuple(_item(view, number, step) for number, (_, step) in enumerate(shown_steps(view), 1))


def _item(view: RunView, number: int, step: Step) -> Item:
    hosts = view.run.hosts
    attempts = {host: view.record.last(step.id, host) for host in hosts}
    known = [attempt for attempt in attempts.values() if attempt is not None]
    mark = worst_mark(mark_of(attempt) for attempt in known)
    if mark in ("done", "skipped") and len(known) < len(hosts) and not view.run.state.ended:
        mark = "busy"
    head = join([text(f"{number}. {line(step.title, 80)}", bold=mark == "busy"), text(_took(known))])
    if len(hosts) > FEW and len(known) > 0:
        return _crowded(view, number, step, attempts)
    groups = _alike(attempts)
    if len(groups) == 1 and len(hosts) > 1 and known:
        return Item(mark, join([head, text(count(len(hosts), "host")), _said(groups[0][1])]))
    if len(groups) == 1:
        return Item(mark, join([head, _said(groups[0][1])]))
    under = [
        (Plain(named(names), code=True), Plain(" "), *(_said(attempt) or text("not yet")))
        for names, attempt in groups[:GROUPS]
        if attempt is not None or not view.run.state.ended
    ]
    rest = sum(len(names) for names, _ in groups[GROUPS:])
    if rest:
        under.append(text(f"and {count(rest, 'more host')}, see the file"))
    return Item(mark, head, tuple(under))


def _alike(attempts: Mapping[str, Attempt | None]) -> list[tuple[list[str], Attempt | None]]:
    """Group hosts whose attempts say the same; what is wrong comes first, then the larger groups."""
    groups: dict[tuple[object, ...], tuple[list[str], Attempt | None]] = {}
    for host, attempt in attempts.items():
        key: tuple[object, ...] = ()
        if attempt is not None:
            key = (attempt.status, attempt.verdict, attempt.summary, attempt.number)
        groups.setdefault(key, ([], attempt))[0].append(host)
    return sorted(groups.values(), key=lambda one: (-_WEIGHT.index(mark_of(one[1])), -len(one[0])))


WORDS = ("ok", "unhealthy", "failed", "unreachable", "unknown", "skipped")
"""How a step may have ended on a host, as it is counted."""


def word_of(status: Status, verdict: Verdict | None) -> str:
    """Return how a step ended on a host, in one word; empty while it goes on."""
    if status is Status.OK and verdict in (Verdict.UNHEALTHY, Verdict.UNKNOWN):
        return str(verdict)
    return "" if status is Status.BEGUN else str(status)


def counted(ended: Mapping[str, int], hosts: int) -> str:
    """Write how many hosts are through a step, and how: `612/1000, 9 failed, 2 unreachable`."""
    done = sum(ended.get(word, 0) for word in WORDS)
    worth = [word for word in WORDS if ended.get(word) and (word != "ok" or done == hosts)]
    if done == hosts:
        return ", ".join(f"{ended[word]} {word}" for word in worth)
    return ", ".join([f"{done}/{hosts}", *(f"{ended[word]} {word}" for word in worth)])


def _crowded(view: RunView, number: int, step: Step, attempts: Mapping[str, Attempt | None]) -> Item:
    """Show a step on many hosts: how many are through, and which of them went wrong how."""
    known = {host: one for host, one in attempts.items() if one is not None}
    ended = Counter(word_of(one.status, one.verdict) for one in known.values())
    over = view.run.state.ended or sum(ended[word] for word in WORDS) == len(attempts)
    mark = worst_mark(mark_of(one) for one in known.values()) if over else "busy"
    parts = [text(f"{number}. {line(step.title, 80)}", bold=not over), text(counted(ended, len(attempts)))]
    if over:
        parts.insert(1, text(_took(list(known.values()))))
    said = folded(
        (
            (host, mark_of(one), one.summary)
            for host, one in known.items()
            if mark_of(one) in ("failed", "unknown", "unhealthy") or (over and mark_of(one) == "done")
        ),
        most=GROUPS,
        rank=lambda one: -_WEIGHT.index(one),
    )
    if len(said.groups) == 1 and not said.rest and over and said.groups[0].kind == "done":
        return Item(mark, join([*parts, text(line(said.groups[0].text))]))
    under: list[Words] = [
        (Plain(named(group.hosts), code=True), Plain(" "), *text(line(group.text))) for group in said.groups
    ]
    if said.rest:
        under.append(text(f"and {count(said.others, 'other answer')} on {named(said.rest)}"))
    return Item(mark, join(parts), tuple(under))


def _said(attempt: Attempt | None) -> Words:
    if attempt is None:
        return ()
    tries = say("run.tries", number=attempt.number) if attempt.number > 1 else ()
    if attempt.status is Status.BEGUN:
        return join([tries, say("run.since", at=attempt.begun_at)])
    if attempt.status is Status.SKIPPED:  # the condition is for whoever wrote it; the plan shows it
        return text(line(attempt.summary.partition(":")[0], 60))
    return join([tries, text(line(attempt.summary))])


def _took(attempts: Sequence[Attempt]) -> str:
    if not attempts or any(attempt.ended_at is None for attempt in attempts):
        return ""
    if all(attempt.status is Status.SKIPPED for attempt in attempts):
        return ""
    first = min(attempt.begun_at for attempt in attempts)
    last = max(attempt.ended_at or attempt.begun_at for attempt in attempts)
    return took(max(last - first, timedelta()))


def diagnosis(view: RunView, most: int) -> Folded[bool]:
    """Return what the checks of the first part found, hosts alike together; what is wrong comes first."""
    planned = {entry.step for entry in view.run.plan.entries} if view.run.plan else set[str]()
    looked = [step for step in view.run.runbook.steps if step.id not in planned]
    found = ((host, *_found(view, looked, host)) for host in view.run.hosts)
    return folded((one for one in found if one[2]), most=most, rank=int)


def _found(view: RunView, steps: Sequence[Step], host: str) -> tuple[bool, str]:
    """Sum up one host: is it fine; the findings in their own words, what is fine by its name."""
    judged = [
        (step, attempt)
        for step in steps
        if (attempt := view.record.last(step.id, host)) is not None and attempt.verdict is not None
    ]
    bad = [attempt for _, attempt in judged if attempt.verdict is Verdict.UNHEALTHY]
    doubtful = [attempt for _, attempt in judged if attempt.verdict is Verdict.UNKNOWN]
    fine = [(step, attempt) for step, attempt in judged if attempt.verdict is Verdict.HEALTHY]
    said = [line(attempt.summary, 120).rstrip(".") for attempt in bad]
    said += [f"unknown: {line(attempt.summary, 120).rstrip('.')}" for attempt in doubtful]
    if not said:
        return True, "; ".join(line(attempt.summary, 120).rstrip(".") for _, attempt in fine)
    if fine:
        said.append(f"fine: {', '.join(line(step.title, 40) for step, _ in fine)}")
    return False, "; ".join(said)


def blamed(view: RunView) -> str:
    """Return what decided a run's end (a step whose end nobody knows before one that failed), and what was not undone."""
    sections = {step.id: (section, step) for section, step in ordered(view.run.runbook)}
    bad = sorted(
        (one for one in wrong(view) if not one.good), key=lambda one: one.status is not Status.UNKNOWN
    )
    left = [one for one in bad[1:] if sections[one.step][0] in CLEAN_UP]
    return " ".join(_blame(view, sections[one.step][1], one) for one in [*bad[:1], *left[:1]])


def _blame(view: RunView, step: Step, attempt: Attempt) -> str:
    where = f" on {attempt.host}" if len(view.run.hosts) > 1 else ""
    return f"{line(step.title, 60)}{where}: {line(attempt.summary, 200).rstrip('.')}."


def wrong(view: RunView) -> list[Attempt]:
    """Return the newest attempts that failed or found something wrong, in the runbook's order."""
    marks = ("failed", "unknown", "unhealthy")
    return [
        attempt
        for _, step in ordered(view.run.runbook)
        for host in view.run.hosts
        if (attempt := view.record.last(step.id, host)) is not None and mark_of(attempt) in marks
    ]
