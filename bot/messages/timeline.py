"""An event of the timeline as one sentence, with the words from `templates/timeline.j2`.

Other parts may tell of things that no sentence is for yet, and an older database of things in older words: then the
event is shown as it stands. An event that is not shown is worse than one that reads badly.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from bot.fleet import named
from bot.incident import Event
from bot.messages.card import plain
from bot.messages.short import line
from bot.messages.words import phrases, say
from bot.printable import clean

_LETTERS = 12
"""Of a hash, as people carry it."""


class _Said(dict[str, Any]):
    """What an event holds; what it does not hold is empty."""

    def __missing__(self, key: str) -> str:
        return ""


def sentence(event: Event, title: str = "") -> str:
    """Return an event as a sentence; `title` is what its step is called."""
    data = _Said({key: _shown(key, value) for key, value in event.data.items()})
    data["roles"] = data.pop("from", "")
    phrase = f"timeline.{event.kind.replace('.', '_')}"
    if phrase in _known():
        words = say(phrase, data=data, step=title or event.step or "a step")
    else:
        said = ", ".join(f"{key} {line(str(value), 80)}" for key, value in data.items() if value)
        words = say("timeline.other", kind=event.kind, said=said)
    return line(clean(plain(words)), 600)


@cache
def _known() -> frozenset[str]:
    return frozenset(phrases())


def _shown(key: str, value: Any) -> Any:
    match key, value:
        case "hosts", [*hosts]:
            return named(map(str, hosts))
        case "without", [*lacking]:
            return named(str(one[0]) for one in lacking)
        case "from", [*roles]:
            return " or ".join(map(str, roles))
        case "digest" | "sha256" | "command", str(text):
            return text[:_LETTERS]
        case "until", str(text):
            return _clock(text)
        case _, Mapping():
            return ""
        case _:
            return value


def _clock(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%H:%M:%S} UTC"
    except ValueError:
        return text
