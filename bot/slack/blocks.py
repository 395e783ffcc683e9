"""Cards as Block Kit.

Everything is rich text and plain text, never mrkdwn that holds somebody's words: what a host prints can neither call a
channel nor break out of a fence. Slack refuses a whole message for one character too many, so every text is cut here,
visibly, and the message as a whole stays well under the limit that Slack does not document.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.messages.card import (
    MARKS,
    Button,
    Buttons,
    Card,
    Checklist,
    Facts,
    Link,
    Mention,
    Note,
    Output,
    Plain,
    Span,
    Table,
    Text,
    Time,
    Title,
    Tone,
    Words,
)
from bot.messages.short import cut
from bot.printable import clean
from bot.slack import limits

Json = dict[str, Any]

WHOLE = 10_000
"""Characters of a whole message; Slack begins to refuse somewhere above 13,000."""
CUT = "… cut, see the file"
_NODE = 2_800
_SPANS = 400
_BLOCKS = 40
_TABLE = 4_000
_CELL = 300
_FALLBACK = 300
_BUTTONS = 5
_ROWS = 3
_COLOURS: dict[Tone, str] = {
    "good": "#2EB67D",
    "bad": "#E01E5A",
    "unknown": "#868686",
    "busy": "#ECB22E",
    "plain": "#868686",
}
_URL = re.compile(r"https?://[^\s<>|]{1,2000}")
_USER = re.compile(r"[UW][A-Z0-9]{2,20}")
_GROUP = re.compile(r"S[A-Z0-9]{2,20}")


@dataclass(frozen=True, slots=True)
class Content:
    """What a message is made of, as chat.postMessage and chat.update take it."""

    text: str
    blocks: list[Json] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)

    def arguments(self) -> Json:
        """Return the arguments of a call; empty lists too, so that an update takes old parts away."""
        return {"text": self.text, "blocks": self.blocks, "attachments": self.attachments}


def content(card: Card) -> Content:
    """Turn a card into a message that Slack takes, whatever the card holds."""
    budget = _Budget(WHOLE)
    tables = rows = 0
    blocks: list[Json] = []
    buttons = [node for node in card.nodes if isinstance(node, Buttons)][:_ROWS]
    budget.take(sum(len(one.label[: limits.BUTTON_TEXT]) for node in buttons for one in node.buttons))
    for node in card.nodes:
        if isinstance(node, Buttons):
            blocks += _actions(node, len(blocks)) if rows < _ROWS else []
            rows += 1
            continue
        if len(blocks) >= _BLOCKS or budget.left < 2 * len(CUT):
            continue
        table = isinstance(node, Table) and not tables and not card.tinted
        tables += table
        blocks += _blocks(node, budget, table=table)
    if budget.short:
        blocks.append(_context([_plain_text(CUT)]))
    text = escape(cut(clean(card.summary).strip() or "Sickbay", _FALLBACK))
    if not card.tinted or len(blocks) < 2:
        return Content(text, blocks)
    colour = _COLOURS[card.tone]
    return Content(text, blocks[:1], [{"color": colour, "fallback": text, "blocks": blocks[1:]}])


def plain_content(card: Card) -> Content:
    """Return the card as bare text: the twin that is sent when Slack refuses the blocks."""
    lines = [line for node in card.nodes for line in _lines(node)]
    return Content(escape(cut(clean("\n".join(lines)).strip() or "Sickbay", 3_000)))


def escape(text: str) -> str:
    """Write text so that Slack reads no mention, link or command in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _Budget:
    """Characters left for the message."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.short = False

    def take(self, wanted: int) -> int:
        """Take up to `wanted` characters; return how many."""
        given = max(0, min(wanted, self.left))
        self.left -= given
        return given

    def cut(self, text: str, most: int = _NODE) -> str:
        """Return the text as far as the budget goes, without characters that Slack refuses."""
        text = clean(text)
        given = self.take(min(len(text), most))
        if given == len(text):
            return text
        self.short = True
        return cut(text, given)


def _blocks(node: Any, budget: _Budget, *, table: bool) -> list[Json]:
    match node:
        case Title(words) | Text(words):
            return _rich([_section(words, budget)])
        case Note(words):
            elements = _context_elements(words, budget)
            return [_context(elements)] if elements else []
        case Facts(pairs):
            lines = [
                (Plain(f"{name}  ", bold=True), *words, Plain("\n")) for name, words in pairs if name or words
            ]
            return _rich([_section(_flat(lines), budget)])
        case Checklist(items):
            return _rich([_section(_flat([*_item_lines(items)]), budget)])
        case Output(text, caption):
            printed = budget.cut(text).strip("\n")
            parts = [_section(caption, budget)]
            if printed.strip():
                parts.append(
                    {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": printed}]}
                )
            return _rich(parts)
        case Table():
            return [_table(node, budget)] if table else _rich([_drawn(node, budget)])
    return []


def _item_lines(items: Iterable[Any]) -> Iterable[Words]:
    for item in items:
        yield (Plain(f"{MARKS[item.mark]} "), *item.words, Plain("\n"))
        for words in item.under:
            yield (Plain("        "), *words, Plain("\n"))


def _flat(lines: Sequence[Words]) -> Words:
    spans = [span for line in lines for span in line]
    return tuple(spans[:-1] if spans and spans[-1] == Plain("\n") else spans)


# ── rich text ──
def _rich(parts: list[Json]) -> list[Json]:
    parts = [part for part in parts if part["elements"]]
    return [{"type": "rich_text", "elements": parts}] if parts else []


def _section(words: Words, budget: _Budget) -> Json:
    elements: list[Json] = []
    room = _NODE
    for span in words[:_SPANS]:
        before = budget.left
        element = _element(span, budget, room)
        room -= before - budget.left
        if element is not None:
            elements.append(element)
        if room <= 0:
            break
    if len(words) > _SPANS or room <= 0:
        budget.short = True
    if not any(str(one.get("text", "x")).strip() for one in elements):
        elements = []
    return {"type": "rich_text_section", "elements": elements}


def _element(span: Span, budget: _Budget, room: int) -> Json | None:
    match span:
        case Time() if span.at.timestamp() > 0:
            budget.take(20)
            form = "{date_short_pretty} {time}" if span.date else "{time}"
            stamp = int(span.at.timestamp())
            return {"type": "date", "timestamp": stamp, "format": form, "fallback": span.text}
        case Mention(_, slack) if _USER.fullmatch(slack):
            budget.take(10)
            return {"type": "user", "user_id": slack}
        case Mention(_, slack) if _GROUP.fullmatch(slack):
            budget.take(10)
            return {"type": "usergroup", "usergroup_id": slack}
        case Mention(_, "!channel"):
            budget.take(10)
            return {"type": "broadcast", "range": "channel"}
        case Link(url) if _URL.fullmatch(url):
            shown = budget.cut(span.text, room)
            return {"type": "link", "url": url, "text": shown} if shown else {"type": "link", "url": url}
    shown = budget.cut(span.text, room)
    if not shown:
        return None
    element: Json = {"type": "text", "text": shown}
    if isinstance(span, Plain) and (span.bold or span.code):
        style = {"bold": span.bold, "code": span.code}
        element["style"] = {name: True for name, wanted in style.items() if wanted}
    return element


# ── small grey lines ──
def _context(elements: list[Json]) -> Json:
    return {"type": "context", "elements": elements}


def _plain_text(text: str) -> Json:
    return {"type": "plain_text", "text": text, "emoji": False}


def _context_elements(words: Words, budget: _Budget) -> list[Json]:
    """Write spans as elements of their own: texts as plain text, which nothing in it can format."""
    merged: list[Span] = []
    for span in words:
        small = (
            isinstance(span, Time)
            or (isinstance(span, Link) and _URL.fullmatch(span.url))
            or (isinstance(span, Mention) and _USER.fullmatch(span.slack))
        )
        if not small and merged and isinstance(merged[-1], Plain):
            merged[-1] = Plain(merged[-1].text + span.text)
        else:
            merged.append(span if small else Plain(span.text))
    if len(merged) > limits.CONTEXT_ELEMENTS:
        merged = [Plain("".join(span.text for span in words))]
    elements = []
    for span in merged:
        shown = budget.cut(span.text, limits.CONTEXT_TEXT).strip()
        if not shown:
            continue
        if isinstance(span, Time) and span.at.timestamp() > 0:
            form = "{date_short_pretty} {time}" if span.date else "{time}"
            stamp = int(span.at.timestamp())
            budget.take(60)
            elements.append({"type": "mrkdwn", "text": f"<!date^{stamp}^{form}|{span.text}>"})
        elif isinstance(span, Mention):
            budget.take(10)
            elements.append({"type": "mrkdwn", "text": f"<@{span.slack}>"})
        elif isinstance(span, Link):
            shown = escape(cut(shown.replace("|", "/"), 80))
            budget.take(len(span.url) + len(shown))
            elements.append({"type": "mrkdwn", "text": f"<{span.url.replace('&', '&amp;')}|{shown}>"})
        else:
            elements.append(_plain_text(shown))
    return elements


# ── tables ──
def _table(node: Table, budget: _Budget) -> Json:
    """Write a table block: every row as wide as the head, no cell empty."""
    columns = node.columns[: limits.TABLE_COLUMNS]
    rows: list[list[Json]] = []
    used = 0
    for row in (columns, *node.rows):
        cells = [cut(clean(cell).strip(), _CELL) or "–" for cell in row[: len(columns)]]
        cells += ["–"] * (len(columns) - len(cells))
        size = sum(len(cell) for cell in cells)
        if rows and (used + size > min(_TABLE, budget.left) or len(rows) == limits.TABLE_ROWS):
            budget.short = True
            break
        used += size
        rows.append([{"type": "raw_text", "text": cell} for cell in cells])
    budget.take(used)
    return {"type": "table", "rows": rows}


def _drawn(node: Table, budget: _Budget) -> Json:
    drawn = budget.cut(drawn_table(node)).strip("\n")
    elements = [{"type": "text", "text": drawn}] if drawn.strip() else []
    return {"type": "rich_text_preformatted", "elements": elements}


def drawn_table(node: Table) -> str:
    """Draw a table with letters."""
    rows = [[clean(cell) for cell in row] for row in (node.columns, *node.rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=False)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)


# ── buttons ──
def _actions(node: Buttons, number: int) -> list[Json]:
    seen: set[str] = set()
    elements = []
    for button in node.buttons[:_BUTTONS]:
        name: str = button.action
        while name in seen:
            name = f"{button.action}:{len(seen)}"
        seen.add(name)
        elements.append(_button(button, name))
    return [{"type": "actions", "block_id": f"actions-{number}", "elements": elements}] if elements else []


def _button(button: Button, action_id: str) -> Json:
    element: Json = {
        "type": "button",
        "action_id": action_id,
        "text": _label(button.label, limits.BUTTON_TEXT),
        "value": clean(button.value)[: limits.BUTTON_VALUE] or "-",
    }
    if button.style != "plain":
        element["style"] = button.style
    if button.confirm is not None:
        asked = button.confirm
        element["confirm"] = {
            "title": _label(asked.title, limits.CONFIRM_TITLE),
            "text": _label(asked.text, limits.CONFIRM_TEXT),
            "confirm": _label(asked.yes, limits.CONFIRM_BUTTON),
            "deny": _label(asked.no, limits.CONFIRM_BUTTON),
        }
    return element


def _label(text: str, most: int) -> Json:
    return {"type": "plain_text", "text": cut(clean(text).strip() or "–", most)}


# ── bare text ──
def _lines(node: Any) -> list[str]:
    match node:
        case Title(words) | Text(words) | Note(words):
            return ["".join(span.text for span in words)]
        case Facts(pairs):
            return [f"{name}  {''.join(span.text for span in words)}" for name, words in pairs]
        case Checklist(items):
            return ["".join(span.text for span in line).rstrip("\n") for line in _item_lines(items)]
        case Output(text, caption):
            return ["".join(span.text for span in caption), text]
        case Table():
            return [drawn_table(node)]
    return []
