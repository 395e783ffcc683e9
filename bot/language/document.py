"""YAML text to plain data that remembers where everything stood, with every mistake at once.

Why a reader of our own on top of libyaml's events: what `yaml.safe_load` does with `on:`, `12:30`, `0755`, `1.10` and a
key given twice is known to hurt people. Here only `true` and `false` are booleans and only plain decimals are numbers;
`yes`, `12:30`, `0755`, `0x1F` and `.inf` stay the text that was written, so a model that wants a number refuses them and
one that wants text gets exactly what stands in the file. Size, depth and aliases are capped before anything is built.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isinf
from typing import Any

import yaml

from bot.errors import Path, SickbayError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_ALIASES = 100
MAX_NODES = 30_000
"""Counted with aliases written out; each 64 characters of a text count as one more."""
MAX_DIGITS = 18
MAX_MISTAKES = 200

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.?)([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NOTHING = ("", "~", "null", "Null", "NULL")

_SYNTAX_HINTS = (
    (r"'\\t'|tab character", "indent with spaces, not with tabs"),
    (
        r"cannot start any token|alphabetic or numeric character",
        'a text that begins so needs quotes, like "@serving"',
    ),
    (r"mapping values are not allowed", "a text with `: ` in it needs quotes; else look at the indentation"),
    (r"expected ':'|expected key", "look at the indentation, and at the quotes of the lines above"),
    (r"end of stream|unexpected end", "a quote or a bracket is never closed"),
    (r"expected ',' or", "a bracket is never closed, or a comma is missing"),
    (r"special characters|control characters", "remove the control character"),
)


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to mend in a file."""

    file: str
    line: int
    column: int
    what: str
    hint: str = ""
    """What to do or what was probably meant; shown in parentheses."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" + (f" ({self.hint})" if self.hint else "")


class Invalid(SickbayError):
    """A file with mistakes; the text lists them all."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(slots=True)
class Node:
    """One value of the file, where it stands and how it was written."""

    line: int
    column: int
    data: Any = None
    source: str = ""
    """A scalar as written, without quotes."""
    block: bool = False
    """Is it a `|` or `>` text, which begins on the next line?"""
    children: dict[str | int, "Node"] = field(default_factory=dict)
    places: dict[str | int, tuple[int, int]] = field(default_factory=dict)
    """Where each key or list item stands."""
    weight: int = 1
    height: int = 1


class Document:
    """A file as plain data that remembers where everything stood."""

    def __init__(self, root: Node, file: str, sha256: str = "") -> None:
        """`sha256` is over the bytes of the file."""
        self.root = root
        self.file = file
        self.sha256 = sha256

    @property
    def data(self) -> Any:
        """The whole content: dicts, lists, text, numbers, booleans and None."""
        return self.root.data

    def find(self, path: Path) -> tuple[Node, tuple[int, int], Path]:
        """Go down `path` as far as it exists: the node there, the place of its key, and what of the path was found."""
        node, place = self.root, (self.root.line, self.root.column)
        for depth, key in enumerate(path):
            if key not in node.children:
                return node, place, path[:depth]
            node, place = node.children[key], node.places[key]
        return node, place, path

    def line(self, path: Path, *, within: int | None = None) -> int:
        """Line of the key or list item at `path`, or of its nearest ancestor that exists.

        `within` counts lines down inside a text: of a `|` block that line of the file is given.
        """
        node, (line, _), _ = self.find(path)
        return line + 1 + within if node.block and within is not None else line

    def mistake(self, path: Path, what: str, hint: str = "", *, within: int | None = None) -> Mistake:
        """A mistake at this place."""
        _, (_, column), _ = self.find(path)
        return Mistake(self.file, self.line(path, within=within), column, what, hint)


def read(text: str | bytes, *, file: str) -> Document:
    """Read YAML.

    Raises:
        Invalid: with every mistake that was found before reading had to end.

    """
    document, mistakes = attempt(text, file=file)
    if document is None or mistakes:
        raise Invalid(mistakes)
    return document


def attempt(text: str | bytes, *, file: str) -> tuple[Document | None, list[Mistake]]:
    """Read as much as makes sense, so that mistakes of the model can be told together with those of the text."""
    reader = _Reader(file)
    root = reader.read(text)
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    sha256 = hashlib.sha256(raw).hexdigest()
    return (Document(root, file, sha256) if root else None), reader.mistakes


class _Reader:
    """Builds nodes from YAML events; notes each mistake and goes on wherever that makes sense."""

    def __init__(self, file: str) -> None:
        self.mistakes: list[Mistake] = []
        self._file = file
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0
        self._nodes = 0
        self._events: Iterator[Any] = iter(())

    def read(self, text: str | bytes) -> Node | None:
        """Return the root, or None where no sense can be made of the text."""
        try:
            raw = text.encode() if isinstance(text, str) else text
            if len(raw) > MAX_BYTES:
                self._note(1, 0, f"the file is larger than {MAX_BYTES // 1024} KiB", "split it")
                return None
            text = raw.decode("utf-8-sig")
        except UnicodeError:
            self._note(raw_line(text), 0, "the text is not UTF-8", "save the file as UTF-8")
            return None
        if "\0" in text:
            self._note(text.count("\n", 0, text.index("\0")) + 1, 0, "there is a NUL character", "remove it")
            return None
        try:
            self._events = iter(yaml.parse(text, Loader=_LOADER))
            return self._document()
        except yaml.YAMLError as error:
            self._syntax(error, text)
        except (ValueError, OverflowError) as error:  # PyYAML without libyaml, at an impossible escape
            self._note(1, 0, f"not YAML: {error}")
        except _Stop:
            pass
        return None

    def _note(self, line: int, column: int, what: str, hint: str = "") -> None:
        self.mistakes.append(Mistake(self._file, line, column, what, hint))
        if len(self.mistakes) > MAX_MISTAKES:
            raise _Stop

    def _at(self, event: Any, what: str, hint: str = "") -> None:
        self._note(event.start_mark.line + 1, event.start_mark.column, what, hint)

    def _syntax(self, error: yaml.YAMLError, text: str) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
        if mark is not None:
            line, column = mark.line + 1, mark.column
        else:
            position = getattr(error, "position", 0)
            line, column = text.count("\n", 0, position if isinstance(position, int) else 0) + 1, 0
        lines = text.split("\n")
        if line <= len(lines) and re.match(r" *\t", lines[line - 1]):
            problem = "found a tab '\\t' in the indentation"
        hint = next((hint for pattern, hint in _SYNTAX_HINTS if re.search(pattern, problem)), "")
        self._note(line, column, f"not YAML: {problem}", hint)

    def _document(self) -> Node | None:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                continue
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._at(
                        event,
                        "a second document begins here",
                        "one file holds one document: remove the `---`",
                    )
                    return root
                root = self._node(next(self._events), 1)
        if root is None or (root.data is None and not root.children):
            self._note(1, 0, "the file is empty")
            return None
        return root

    def _node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self._at(event, f"nested deeper than {MAX_DEPTH}", "make it flatter")
            raise _Stop
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None and event.tag != "!":
            self._at(event, f"a tag is not accepted: {event.tag}", "remove it")
        node = Node(event.start_mark.line + 1, event.start_mark.column)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, node)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._sequence(node, depth)
        else:
            self._mapping(node, depth)
        for child in node.children.values():
            node.weight += child.weight
            node.height = max(node.height, child.height + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._at(event, f"more than {MAX_NODES:,} values, aliases written out", "split the file")
            raise _Stop

    def _alias(self, event: Any, depth: int) -> Node:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._at(event, f"more than {MAX_ALIASES} aliases", "write the values out")
            raise _Stop
        node = self._anchors.get(event.anchor)
        if node is None:
            why = "stands inside itself" if event.anchor in self._anchors else "has no anchor before it"
            self._at(event, f"the alias *{event.anchor} {why}", "quote it if it is meant as text")
            return Node(event.start_mark.line + 1, event.start_mark.column)
        if depth + node.height - 1 > MAX_DEPTH:
            self._at(event, f"nested deeper than {MAX_DEPTH}, aliases written out", "make it flatter")
            raise _Stop
        self._count(event, node.weight)
        return node

    def _scalar(self, event: Any, node: Node) -> None:
        node.source = node.data = event.value
        node.block = event.style in ("|", ">")
        node.weight += len(event.value) // 64
        self._count(event, node.weight - 1)
        if re.search("[\0\ud800-\udfff]", event.value):
            self._at(event, "the text holds a NUL or half a character", "remove the escape")
        if event.implicit[0] and event.tag is None:
            node.data = self._plain(event)

    def _plain(self, event: Any) -> Any:
        text: str = event.value
        if text in _NOTHING:
            return None
        if text in _WORDS:
            return _WORDS[text]
        if (integer := _INTEGER.fullmatch(text)) or _FLOAT.fullmatch(text):
            if len(text) > MAX_DIGITS or isinf(float(text)):
                self._at(event, f"the number {text[:40]} is too long", "quote it if it is meant as text")
                return 0
            return int(text) if integer else float(text)
        return text

    def _sequence(self, node: Node, depth: int) -> None:
        for index, event in enumerate(self._events):
            if isinstance(event, yaml.SequenceEndEvent):
                break
            node.children[index] = self._node(event, depth + 1)
            node.places[index] = (event.start_mark.line + 1, event.start_mark.column)
        node.data = [child.data for child in node.children.values()]

    def _mapping(self, node: Node, depth: int) -> None:
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, depth)
            value = self._node(next(self._events), depth + 1)
            if key is None:
                continue
            if key in node.children:
                first = node.places[key][0]
                self._at(
                    event, f"the key `{key}` is given twice", f"first on line {first}: keep one of the two"
                )
                continue
            node.children[key] = value
            node.places[key] = (event.start_mark.line + 1, event.start_mark.column)
        node.data = {key: child.data for key, child in node.children.items()}

    def _key(self, event: Any, depth: int) -> str | None:
        key = self._node(event, depth + 1)
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._at(event, "a key must be text", 'a template needs quotes: "{{ … }}"')
        elif not isinstance(key.data, str):
            self._at(event, f"a key must be text, not {key.source or 'nothing'}", "quote it")
        elif key.data == "<<" and event.implicit[0]:
            self._at(event, "merge keys (<<) are not read", "write the keys out")
        else:
            return key.data
        return None


class _Stop(Exception):
    """Reading cannot sensibly go on; the mistake is noted."""


def raw_line(text: str | bytes) -> int:
    """Line of the first character that is not UTF-8."""
    try:
        if isinstance(text, str):
            text.encode()
        else:
            text.decode()
    except UnicodeEncodeError as error:
        return error.object.count("\n", 0, error.start) + 1
    except UnicodeDecodeError as error:
        return error.object.count(b"\n", 0, error.start) + 1
    return 1
