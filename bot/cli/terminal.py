"""Cards in the terminal, with rich: the same words as in Slack, times in this machine's zone.

Everything is put in as rich `Text`, never as markup: square brackets in an output stay square brackets. What goes into a
file or another program is plain text, and no line of it is cut or wrapped.
"""

from collections.abc import Mapping
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text as Line

from bot.messages.card import (
    MARKS,
    Buttons,
    Card,
    Checklist,
    Facts,
    Node,
    Note,
    Output,
    Plain,
    Span,
    Table,
    Text,
    Time,
    Title,
    Words,
)
from bot.printable import clean

OK, UNWELL, REFUSED = 0, 1, 2
"""Exit codes: all is well; something is not; the command itself was wrong."""

_STYLES = {
    "busy": "bold",
    "failed": "red",
    "unhealthy": "red",
    "unknown": "yellow",
    "todo": "dim",
    "skipped": "dim",
}


_BOUNDLESS = 100_000
"""Columns where nobody looks."""


def console(stream: TextIO) -> Console:
    """Return what writes to a terminal, or to a pipe or file: without colours, and as wide as it takes."""
    seen = stream.isatty()
    width = None if seen else _BOUNDLESS
    return Console(file=stream, highlight=False, emoji=False, force_terminal=seen, width=width)


def render(card: Card) -> RenderableType:
    """Return a card as something rich prints."""
    return Group(*(part for node in card.nodes for part in _node(node)))


_CELLS = 20
_WEIGHTS = {"failed": "red", "unreachable": "red", "unhealthy": "red", "unknown": "yellow"}


def bar(label: str, ended: Mapping[str, int], hosts: int, rate: float, *, seen: bool) -> Line:
    """Return one line of how many hosts are through: with a bar and a pace, or bare for a file."""
    done = sum(ended.values())
    line = Line(label, "bold" if seen else "")
    if seen:
        full = _CELLS * done // max(hosts, 1)
        line.append("  ").append("█" * full, "green").append("░" * (_CELLS - full), "dim").append(" ")
    line.append(f" {done}/{hosts}", "")
    for word, count in ended.items():
        if count:
            line.append(f" {word} {count}", _WEIGHTS.get(word, ""))
    if seen and rate:
        line.append(f" · {rate:.0f}/s" if rate >= 10 else f" · {rate:.1f}/s", "dim")
    return line


def _node(node: Node) -> list[RenderableType]:
    match node:
        case Title(words) | Text(words):
            return [_line(words)]
        case Note(words):
            return [_line(words, "dim")]
        case Facts(pairs):
            grid = Grid.grid(padding=(0, 2))
            for name, words in pairs:
                grid.add_row(Line(name, "bold"), _line(words))
            return [grid]
        case Table(columns, rows):
            table = Grid(box=None, pad_edge=False, header_style="dim")
            for column in columns:
                table.add_column(Line(column), overflow="fold")
            for row in rows:
                table.add_row(*(Line(clean(cell)) for cell in row))
            return [table]
        case Checklist(items):
            lines: list[RenderableType] = []
            for item in items:
                lines.append(_line((Plain(f"{MARKS[item.mark]} "), *item.words), _STYLES.get(item.mark, "")))
                lines += [_line((Plain("     "), *words)) for words in item.under]
            return lines
        case Output(text, caption):
            head = [_line(caption)] if caption else []
            return [*head, *(Line(f"    {line}", "dim") for line in clean(text).splitlines())]
        case Buttons():
            return []


def _line(words: Words, style: str = "") -> Line:
    line = Line(style=style)
    for span in words:
        line.append(_written(span), _style(span))
    return line


def _written(span: Span) -> str:
    if isinstance(span, Time):
        local = span.at.astimezone()
        return f"{local:%Y-%m-%d %H:%M}" if span.date else f"{local:%H:%M}"
    return clean(span.text)


def _style(span: Span) -> str:
    if isinstance(span, Plain):
        return " ".join(name for name, wanted in (("bold", span.bold), ("cyan", span.code)) if wanted)
    return ""
