"""An incident's report for people: in Markdown, whole; as a card, the chronology in short.

What hosts and alerts say stands among our own words, so every value is escaped when it is put in: none of them can
make a heading, a link or an end of a block of code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bot.fleet import named
from bot.messages.card import Card, Node, Note, Output, Title, plain
from bot.messages.short import cut, line, tail, took
from bot.messages.words import join, say
from bot.printable import clean
from bot.report import Report, Run, Seen, Told, Try
from bot.shipped import shipped
from bot.wording import count

LINES = 30
"""Lines of the chronology that a card shows."""
_QUIET = ("step.begun", "run.running", "run.waiting", "run.started", "config.read")
"""Events that a short chronology does without."""
_OUTPUT = 40
"""Last lines of what a command printed; all of it is in the JSON."""
_LONG = 6
"""Lines of a command that is not written twice."""
_LEADING = re.compile(r"^(\d{0,9})([-+=.)])(?=[-=\s]|$)")
"""What would begin a list, or underline a heading."""
_WIDE = 300
"""Letters of one line of it."""
_MARKED = re.compile(r"([\\`*_\[\]<>|#~])")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the chronology: what Sickbay did, or what a host wrote down."""

    at: datetime
    where: str
    text: str
    kind: str = ""
    raw: str = ""
    within: float | None = None
    after: timedelta | None = None
    """Since the line before."""


class _Safe(str):
    """Markdown of ours, with its values escaped."""

    __slots__ = ()


def markdown(report: Report) -> str:
    """Write the whole report."""
    lines = chronology(report)
    timeless = [one for one in _seen(report) if one.at is None]
    template = _environment().get_template("report.md.jinja")
    whole = template.render(report=report, chronology=lines, timeless=timeless)
    return re.sub(r"\n{3,}", "\n\n", whole).strip() + "\n"


def chronology(report: Report) -> list[Line]:
    """Return everything that has a time by our clock, in its order; looks are told by how they ended."""
    lines = [
        Line(one.at, _where(one.host, one.run), one.text, one.kind) for one in report.timeline if _worth(one)
    ]
    lines += [
        Line(one.at, one.host, one.text, one.source, one.raw, one.within)
        for one in _seen(report)
        if one.at is not None
    ]
    lines.sort(key=lambda one: one.at)  # events of one moment stay as they were told
    return [
        Line(
            one.at, one.where, one.text, one.kind, one.raw, one.within, one.at - before.at if before else None
        )
        for before, one in zip([None, *lines], lines, strict=False)
    ]


def report_card(report: Report) -> Card:
    """Show the chronology in short."""
    headline = say("incident.report", id=report.id, title=line(report.title, 120))
    lines = [one for one in chronology(report) if one.kind not in _QUIET]
    shown = "\n".join(f"{one.at:%H:%M:%S} {_short(one)}" for one in lines[:LINES])
    nodes: list[Node] = [Title(headline), Output(shown, say("incident.report_times"))]
    parts = []
    if len(lines) > LINES:
        parts.append(say("incident.report_more", lines=count(len(lines) - LINES, "more line")))
    parts.append(say("incident.report_whole", id=report.id))
    fault = say("incident.report_fault", fault=line(report.chain.fault, 300))
    parts.append(fault if report.chain.fault else say("incident.report_head", head=report.chain.head))
    nodes.append(Note(join(parts)))
    return Card(plain(headline), tuple(nodes))


def _worth(one: Told) -> bool:
    return one.kind != "step.begun" or bool(one.data.get("changes"))


def _short(one: Line) -> str:
    sure = f" (± {_seconds(one.within)}, by its own clock {one.raw})" if one.within is not None else ""
    return f"{one.where + ': ' if one.where else ''}{line(one.text, 200)}{sure}"


def _where(host: str | None, run: int | None) -> str:
    return " ".join(part for part in (host or "", f"(run {run})" if run else "") if part)


def _seen(report: Report) -> list[Seen]:
    """Return what hosts wrote, once each: two captures of a host hold the same lines."""
    every = [one for run in report.runs for evidence in run.evidence for one in evidence.seen]
    return list({(one.host, one.source, one.raw, one.text): one for one in every}.values())


# ── Markdown ──
@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(shipped("templates")),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, not HTML; every value is escaped below
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escaped,
    )
    environment.filters |= {
        "code": _code,
        "fence": _fence,
        "clock": lambda at: _Safe(f"{at:%H:%M:%S.%f}"[:-3]),
        "day": lambda at: _Safe(f"{at:%Y-%m-%d %H:%M:%S} UTC"),
        "after": _after,
        "took": took,
        "seconds": _seconds,
        "ahead": _ahead,
        "short": lambda sha256: sha256[:12],
        "hosts": named,
        "pairs": lambda labels: " ".join(f"{name}={value}" for name, value in labels.items()),
        "states": _states,
        "tail": lambda printed: "\n".join(cut(one, _WIDE) for one in tail(printed, _OUTPUT).splitlines()),
        "command": _command,
    }
    return environment


def _escaped(value: Any) -> str:
    """Put a value in as text on one line, whatever it holds."""
    if isinstance(value, _Safe):
        return value
    return _LEADING.sub(r"\1\\\2", _MARKED.sub(r"\\\1", " ".join(clean(str(value)).split())))


def _code(value: Any) -> _Safe:
    """Put a value in as code on one line, between more backticks than it has in a row."""
    shown = " ".join(clean(str(value)).split()).replace("|", "¦")
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", shown)), default=0) + 1)
    space = " " if shown[:1] == "`" or shown[-1:] == "`" or not shown else ""
    return _Safe(f"{ticks}{space}{shown}{space}{ticks}")


def _fence(value: str) -> _Safe:
    shown = clean(value).rstrip("\n")
    ticks = "`" * max(3, max((len(run) for run in re.findall(r"`+", shown)), default=0) + 1)
    return _Safe(f"{ticks}text\n{shown}\n{ticks}")


def _command(sent: Try, run: Run) -> str:
    """Write a command with its values; a long one that the plan has letter by letter as it is called there."""
    steps = run.plan.steps if run.plan else ()
    said = next((one.says for one in steps if (one.step, one.command) == (sent.step, sent.command)), "")
    long = sent.command.count("\n") >= _LONG
    command = f"{said}  (letter by letter in the plan)" if said and long else sent.command
    return "\n".join([f"$ {command}", *(f"{name}={value!r}" for name, value in sent.env.items())])


def _states(parts: Mapping[str, str]) -> str:
    by_state: dict[str, list[str]] = {}
    for name, state in parts.items():
        by_state.setdefault(state, []).append(name)
    return " ".join(f"{state.capitalize()}: {', '.join(names)}." for state, names in by_state.items())


def _after(gap: timedelta | None) -> _Safe:
    if not gap:
        return _Safe("")
    short = gap < timedelta(seconds=1)
    return _Safe(f"+{_seconds(gap.total_seconds())}" if short else f"+{took(gap)}")


def _seconds(value: float) -> str:
    if value < 0.001:
        return "1 ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _ahead(offset: float) -> str:
    word = "ahead" if offset > 0 else "behind"
    return f"{abs(offset) * 1000:.0f} ms {word}" if abs(offset) < 1 else f"{abs(offset):,.3f} s {word}"
