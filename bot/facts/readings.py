"""The XML of nvidia-smi, read safely, and its readings: a value, nothing, or an error in a value's place."""

import re
from xml.etree import ElementTree as ET

from bot.facts import FactsError, first_number

DEEPEST = 64

_BROKEN = re.compile(
    r"err!|requires reset|reset required|unknown error|gpu is lost|^\[?error\]?$", re.IGNORECASE
)
_NOT_SAID = {
    "",
    "n/a",
    "not supported",
    "not available",
    "not found",
    "function not found",
    "insufficient permissions",
    "requested functionality has been deprecated",
}


def root(text: str, expected: str) -> ET.Element:
    """Return the document's root; entities are refused, so nothing can be fetched or blown up.

    Raises:
        FactsError: when the document is not there, not whole or not well-formed.

    """
    start = text.find("<nvidia_smi_log")
    end = text.find("</nvidia_smi_log>", start)
    if start < 0:
        raise FactsError(expected, text)
    if end < 0:
        seen = text.count("</gpu>", start)
        raise FactsError(expected, text, why=f"it ends in the middle, after {seen} whole GPUs")
    if "<!" in text[start:end]:
        raise FactsError(expected, text, why="it holds a declaration, which nvidia-smi never writes there")
    parser = ET.XMLParser(target=_Bounded(expected))  # noqa: S314 - without a DOCTYPE there is no entity to define
    try:
        parser.feed(text[start : end + len("</nvidia_smi_log>")])
        root = parser.close()
    except ET.ParseError as error:
        raise FactsError(expected, text, why=f"it is not well-formed: {error}") from error
    assert isinstance(root, ET.Element)
    return root


class _Bounded(ET.TreeBuilder):
    """A tree of bounded depth."""

    def __init__(self, expected: str) -> None:
        super().__init__()
        self._expected = expected
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        self._depth += 1
        if self._depth > DEEPEST:
            raise FactsError(self._expected, "", why=f"it is nested deeper than {DEEPEST}")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self._depth -= 1
        return super().end(tag)


class Readings:
    """The readings of one element, and a note of those that are errors."""

    def __init__(self, element: ET.Element) -> None:
        self._element = element
        self.broken: dict[str, str] = {}

    def text(self, *paths: str) -> str | None:
        """Return the first reading there is under these paths."""
        for path in paths:
            found = (self._element.findtext(path) or "").strip()
            if _BROKEN.search(found):
                self.broken[path.rpartition("/")[2]] = found[:200]
            elif found.strip("[]").lower() not in _NOT_SAID and not found.startswith("Deprecated"):
                return found[:500]
        return None

    def number(self, *paths: str) -> float | None:
        """Return the first number there is under these paths."""
        for path in paths:
            number = first_number(self.text(path) or "")
            if number is not None:
                return number
        return None

    def count(self, *paths: str) -> int | None:
        """Return the first whole number there is under these paths."""
        number = self.number(*paths)
        return None if number is None else int(number)

    def total(self, *paths: str) -> int | None:
        """Return the sum of what is known of these."""
        known = [number for path in paths if (number := self.count(path)) is not None]
        return sum(known) if known else None

    def flag(self, *paths: str) -> bool | None:
        """Return whether a reading says yes."""
        return {"yes": True, "enabled": True, "active": True, "no": False, "disabled": False}.get(
            (self.text(*paths) or "").lower()
        )

    def all(self, path: str) -> list[ET.Element]:
        """Return the children of a path."""
        return self._element.findall(f"{path}/*")
