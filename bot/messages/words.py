"""The words of the messages, from `templates/`: one file per card, one block per phrase.

A phrase is rendered to spans, not to text: a filter such as `host|code` leaves a mark in the text, which becomes a
span afterwards. Values never carry marks of their own, so no label or output can format anything.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from bot.messages.card import Link, Mention, Plain, Span, Time, Words
from bot.messages.short import took
from bot.runs.approval import Person
from bot.shipped import shipped
from bot.wording import nth

_MARK = re.compile("\x02(\\d+)\x03")


def say(phrase: str, **values: Any) -> Words:
    """Render a phrase such as `run.queued`: block `queued` of `templates/run.j2`."""
    name, block = phrase.split(".")
    template = _environment().get_template(f"{name}.j2")
    spans: list[Span] = []
    text = "".join(template.blocks[block](template.new_context({**values, "_spans": spans}))).strip()
    return tuple(_split(text, spans))


def phrases() -> Iterator[str]:
    """Yield every phrase there is."""
    environment = _environment()
    for name in environment.list_templates(extensions=["j2"]):
        for block in environment.get_template(name).blocks:
            yield f"{name.removesuffix('.j2')}.{block}"


def join(parts: list[Words], between: str = " · ") -> Words:
    """Put phrases behind each other."""
    spans: list[Span] = []
    for part in parts:
        if part:
            spans += [Plain(between), *part] if spans else part
    return tuple(spans)


def text(words: str, *, bold: bool = False, code: bool = False) -> Words:
    """Return one plain span."""
    return (Plain(words, bold, code),) if words else ()


def name_words(name: str, *, bold: bool = False) -> Words:
    """Name a person; who is known by their Slack id alone is mentioned, so that Slack shows what they are called."""
    if name.startswith("@"):
        return (Mention(name[1:], name[1:]),)
    return text(name, bold=bold)


def _split(rendered: str, spans: list[Span]) -> Iterator[Span]:
    pieces = _MARK.split(rendered)
    for index, piece in enumerate(pieces):
        if index % 2:
            yield spans[int(piece)]
        elif piece:
            yield Plain(piece)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(shipped("templates")),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - spans, not HTML; every door escapes in its own way
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {
        "bold": lambda value: Plain(_clean(value), bold=True),
        "code": lambda value: Plain(_clean(value), code=True),
        "time": _time,
        "date": lambda value: Time(value, date=True),
        "link": lambda value, url: Link(url, _clean(value)) if url else Plain(_clean(value)),
        "call": _call,
        "took": took,
        "nth": nth,
    }
    return environment


def _time(value: datetime) -> Time:
    return Time(value)


def _call(value: Person) -> Mention:
    return Mention(value.name, value.slack)


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    if isinstance(value, tuple):
        return "".join(_finalize(context, span) for span in value)
    if isinstance(value, Plain | Time | Link | Mention):
        spans = context["_spans"]
        spans.append(value)
        return f"\x02{len(spans) - 1}\x03"
    return _clean(value)


def _clean(value: Any) -> str:
    return str(value).replace("\x02", "").replace("\x03", "")
