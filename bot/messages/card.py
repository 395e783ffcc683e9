"""Cards: what is shown to people, before anybody knows where it will be shown.

About ten kinds of node and no markup: text is a row of spans, so that nothing a host or an alert says can become
formatting or a mention. Slack, the terminal and the web page each turn cards into their own form.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Plain:
    """Text as it is."""

    text: str
    bold: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True)
class Time:
    """A moment, shown in the reader's own time zone."""

    at: datetime
    date: bool = False
    """With its day, for what may be long ago."""

    @property
    def text(self) -> str:
        """UTC, for readers that cannot do better."""
        return f"{self.at:%Y-%m-%d %H:%M} UTC" if self.date else f"{self.at:%H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Link:
    """An address under a text."""

    url: str
    text: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A person to be called."""

    name: str
    slack: str = ""
    """Id of a Slack user or user group, or `!channel` for everybody there; empty: named, not called."""

    @property
    def text(self) -> str:
        """The name, for readers that cannot call people."""
        return f"@{self.name}"


Span = Plain | Time | Link | Mention
Words = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Title:
    """The line read first: the verdict and what it is about."""

    words: Words


@dataclass(frozen=True, slots=True)
class Text:
    """A line or a paragraph."""

    words: Words


@dataclass(frozen=True, slots=True)
class Note:
    """A small grey line: since when, by whom, which run."""

    words: Words


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    pairs: tuple[tuple[str, Words], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column names; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Mark = Literal["done", "unhealthy", "failed", "unknown", "busy", "todo", "skipped"]
MARKS: dict[Mark, str] = {
    "done": "✅",
    "unhealthy": "🔴",
    "failed": "❌",
    "unknown": "❔",
    "busy": "⏳",
    "todo": "⬜",
    "skipped": "➖",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a checklist, and lines under it where hosts differ."""

    mark: Mark
    words: Words
    under: tuple[Words, ...] = ()


@dataclass(frozen=True, slots=True)
class Checklist:
    """Steps and how far they are."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed, or a plan: shown letter by letter."""

    text: str
    caption: Words = ()


Action = Literal["approve", "deny", "cancel", "check"]


@dataclass(frozen=True, slots=True)
class Confirm:
    """A second question before a button counts."""

    title: str
    text: str
    yes: str
    no: str = "Not yet"


@dataclass(frozen=True, slots=True)
class Button:
    """Something the reader may do; `value` says to what, with ids only."""

    action: Action
    label: str
    value: str
    style: Literal["primary", "danger", "plain"] = "plain"
    confirm: Confirm | None = None


@dataclass(frozen=True, slots=True)
class Buttons:
    """A row of buttons."""

    buttons: tuple[Button, ...]


Node = Title | Text | Note | Facts | Table | Checklist | Output | Buttons
Tone = Literal["good", "bad", "unknown", "busy", "plain"]


@dataclass(frozen=True, slots=True)
class Card:
    """One message."""

    summary: str
    """The message in one line, for notifications and screen readers."""
    nodes: tuple[Node, ...]
    tone: Tone = "plain"
    tinted: bool = False
    """Show the tone as a colour too."""

    def without_buttons(self) -> "Card":
        """Return the card to be looked at only."""
        nodes = tuple(node for node in self.nodes if not isinstance(node, Buttons))
        return Card(self.summary, nodes, self.tone, self.tinted)


def plain(words: Words) -> str:
    """Write words without any form."""
    return "".join(span.text for span in words)
