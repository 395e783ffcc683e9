"""Where a value stands in shell text: inside which quotes, at the start of a word, behind which words.

A value reaches the shell as a variable, so no text in it is ever read as shell syntax. What can still go wrong is what
the author wrote around it: no quotes (it would be split), single quotes (it would not be expanded), a word that begins
with the value (an option could be smuggled in), a command that reads its arguments, or what is piped into it, as code. This
follows the shell's quoting only as far as needed to see that, and says so where it cannot be sure, instead of guessing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from bot.language.argument import ASSIGNMENT, BARE, Danger, danger
from bot.language.piped import reads_stdin

RESERVED = frozenset(
    ("!", "{", "}", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select",
     "then", "time", "until", "while"),
)  # fmt: skip
"""Words that the shell keeps for itself at the start of a command."""
_BEFORE_A_COMMAND = frozenset(
    {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "}", "fi", "done", "esac"}
)
_NAME = re.compile(r"\$\{?([A-Za-z_]\w*)")
_Kind = Literal["top", "(", "$(", "double", "single", "comment"]


@dataclass(slots=True)
class _Frame:
    """One level of quoting or nesting; a level that holds commands also keeps the words of the current one."""

    kind: _Kind
    words: list[str] = field(default_factory=list)
    word: str = ""
    in_word: bool = False
    target: bool = False
    """Is the next word the file of a redirection?"""
    values: set[int] = field(default_factory=set)
    """Those that stand in this pipeline."""
    fed: set[int] = field(default_factory=set)
    """Those that are piped into this command."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one value stands."""

    problem: str = ""
    """Why no value may stand here, and what to write instead."""
    advice: str = ""
    opens_word: bool = False
    """Would an option smuggled in as the value be read as one?"""


class Shell:
    """Follows shell text piece by piece: `literal` for what the author wrote, `value` for what comes from outside."""

    def __init__(self) -> None:
        self._frames = [_Frame("top")]
        self._unsure = ""
        self._bare = ""
        """A `$` or a backslash with which the last literal ended."""
        self._found: list[Place] = []
        self._holds: dict[str, int] = {}
        """Shell variables that hold a value."""
        self._fed: set[int] = set()
        """Values that are piped into a group of commands."""

    def literal(self, text: str) -> None:
        """Go on over text of the author."""
        self._bare = ""
        at = 0
        while at < len(text):
            at += self._step(text, at)

    def value(self, text: str) -> None:
        """Note where the value stands, and go on behind it."""
        number = len(self._found)
        self._found.append(self._place())
        if self._frames[-1].kind != "comment":
            self._stands(number)
            self._add(text)

    def places(self) -> list[Place]:
        """Say where each value stands, now that nothing more comes: what follows a value may read it as code."""
        for frame in self._commands():
            self._fed_into(frame)
        return self._found

    @property
    def _command(self) -> _Frame:
        return next(self._commands())

    def _commands(self) -> Iterator[_Frame]:
        """Yield the command here, and those around it that get its output in their own words."""
        for frame in reversed(self._frames):
            if frame.kind in ("top", "(", "$("):
                yield frame
                if frame.kind != "$(":
                    return

    def _place(self) -> Place:
        kind, command = self._frames[-1].kind, self._command
        if kind == "comment":
            return Place()
        if self._bare:
            return Place(
                f"a {self._bare} stands directly before a value and changes what the shell reads", "remove it"
            )
        if self._unsure:
            return Place(
                f"behind {self._unsure} nobody can be sure how the shell reads a value",
                'write v="{{ … }}" on a line before it, and "$v" here (in a here-document $v, without quotes)',
            )
        if kind == "single":
            return Place("$ is not expanded inside single quotes", 'use double quotes around it: "{{ … }}"')
        if kind != "double":
            return Place(
                "a value without quotes would be split at its blanks", 'write quotes around it: "{{ … }}"'
            )
        if found := self._danger():
            return Place(*found)
        return Place(opens_word=not command.word and "--" not in command.words)

    def _danger(self) -> Danger | None:
        """Would a value here be more than a value, for this command or for one around it?"""
        return next(
            (
                found
                for frame in self._commands()
                if not frame.target and (found := danger(frame.words, frame.word))
            ),
            None,
        )

    def _stands(self, number: int) -> None:
        """Remember in which pipelines and variables a value is."""
        for frame in self._commands():
            frame.values.add(number)
            behind = frame.words[:1] in ([], ["export"], ["local"], ["readonly"])
            if behind and ASSIGNMENT.match(frame.word):
                self._holds[re.split(r"\+?=", frame.word)[0]] = number
            elif frame.words[:1] == ["for"] and len(frame.words) > 2:
                self._holds[frame.words[1]] = number

    def _refuse(self, number: int, problem: str, advice: str) -> None:
        if not self._found[number].problem:
            self._found[number] = Place(problem, advice)

    def _fed_into(self, frame: _Frame) -> None:
        """Refuse what is piped into a command that runs it."""
        words = [*frame.words, frame.word] if frame.in_word and not frame.target else frame.words
        if (fed := frame.fed | self._fed) and (name := reads_stdin(words)):
            for number in fed:
                self._refuse(
                    number,
                    f"`{name}` runs what is piped into it, so this value could become a command",
                    'hand the value over as an argument, like: sh -c \'echo "$1"\' sh "{{ … }}"',
                )

    def _step(self, text: str, at: int) -> int:
        """Read the next character, or the few that belong together; return how many."""
        frame, char = self._frames[-1], text[at]
        if frame.kind == "single":
            return self._close() if char == "'" else self._add(char)
        if frame.kind == "comment":
            return self._close() and self._end_command() if char == "\n" else 1
        if char == "\\":
            if at + 1 == len(text):
                self._bare = "backslash"
            elif text[at + 1] != "\n":
                self._add(text[at + 1])
            return 2
        if char == "$":
            return self._dollar(text, at)
        if char == "`":
            self._unsure = self._unsure or "a command in backticks"
            return self._add(char)
        if frame.kind == "double":
            return self._close() if char == '"' else self._add(char)
        return self._plain(text, at, frame)

    def _plain(self, text: str, at: int, frame: _Frame) -> int:
        char = text[at]
        if char in "'\"":
            self._add("")
            self._frames.append(_Frame("single" if char == "'" else "double"))
        elif char == "#" and not frame.in_word:
            self._frames.append(_Frame("comment"))
        elif char in " \t":
            self._end_word()
        elif char == "&" and at and text[at - 1] in "<>":
            self._add(char)
        elif (char == "&" and text[at - 1 : at] == "|") or (char == "|" and text[at - 1 : at] == ">"):
            pass
        elif char in "\n;&|":
            pipe = char == "|" and "|" not in (text[at + 1 : at + 2], text[at - 1 : at])
            self._end_command(pipe=pipe, line=char == "\n")
        elif char in "<>":
            if frame.word.isdigit():
                frame.word, frame.in_word = "", False
            self._end_word()
            frame.target = True
            if text.startswith("<<", at):
                self._unsure = self._unsure or "a here-document"
        elif char == "(":
            if text.startswith("((", at):
                self._unsure = self._unsure or "arithmetic"
            if text[at - 1 : at] in ("<", ">"):
                self._unsure = self._unsure or "a process substitution"
                for number in range(len(self._found)):
                    self._refuse(
                        number,
                        f"`{text[at - 1]}(…)` is not read by every sh",
                        "write it with a pipe or a file",
                    )
            self._fed |= frame.fed
            self._end_command()
            self._frames.append(_Frame("("))
        elif char == ")":
            self._end_command()
            if frame.kind in ("(", "$("):
                self._close()
        else:
            self._add(char)
        return 1

    def _dollar(self, text: str, at: int) -> int:
        if at + 1 == len(text):
            self._bare = "$"
            return 1
        following = text[at + 1]
        if (name := _NAME.match(text, at)) and (number := self._holds.get(name[1])) is not None:
            if found := self._danger():
                self._refuse(number, f"`${name[1]}` holds it, and there {found[0]}", found[1])
            self._stands(number)
        if self._frames[-1].kind != "double":
            self._add(BARE)
        if following == "(":
            if text.startswith("$((", at):
                self._unsure = self._unsure or "arithmetic"
            self._add("$")
            self._frames.append(_Frame("$("))
            return 2
        if following == "{":
            if simple := re.compile(r"\$\{[^}'\"`\\{$]*\}").match(text, at):
                self._add(simple[0])
                return len(simple[0])
            self._unsure = self._unsure or "${…} with quotes or values in it"
        elif following == "'" and self._frames[-1].kind != "double":
            self._unsure = self._unsure or "$'…'"
        return self._add("$")

    def _add(self, text: str) -> int:
        """Put text into the current word."""
        command = self._command
        command.word += text
        command.in_word = True
        return 1

    def _close(self) -> int:
        self._frames.pop()
        return 1

    def _end_word(self) -> None:
        frame = self._command
        if frame.in_word and frame.target:
            frame.target = False
        elif frame.in_word and not frame.words and frame.word in _BEFORE_A_COMMAND:
            self._fed |= frame.fed
        elif frame.in_word:
            frame.words.append(frame.word)
        if frame.word == "case" and frame.kind == "$(":
            self._unsure = self._unsure or "`case` inside $(…)"
        frame.word, frame.in_word = "", False

    def _end_command(self, *, pipe: bool = False, line: bool = False) -> int:
        self._end_word()
        frame = self._command
        self._fed_into(frame)
        if frame.words[:1] in (["for"], ["case"], ["select"]):
            self._fed |= frame.fed
        if pipe:  # behind a group all that came before it may be in its output
            frame.fed = {*frame.values} if frame.words else {*range(len(self._found))}
            frame.values |= frame.fed
        elif frame.words or not line:
            frame.values, frame.fed = set(), set()
        frame.words.clear()
        frame.target = False
        return 1
