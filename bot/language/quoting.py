"""Where a value stands in shell text: inside which quotes, at the start of a word, behind which words.

A value reaches the shell as a variable, so no text in it is ever read as shell syntax. What can still go wrong is what
the author wrote around it: no quotes (it would be split), single quotes (it would not be expanded), a word that begins
with the value (an option could be smuggled in), a command that reads its arguments as code. This follows the shell's
quoting only as far as needed to see that, and says so where it cannot be sure, instead of guessing.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
RESERVED = frozenset(
    ("!", "{", "}", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select",
     "then", "time", "until", "while"),
)  # fmt: skip
"""Words that the shell keeps for itself at the start of a command."""
_BEFORE_A_COMMAND = frozenset(
    {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "}", "fi", "done", "esac"}
)
_PREFIXES = frozenset(
    {"sudo", "doas", "env", "exec", "nohup", "command", "builtin", "time", "xargs", "setsid"}
)
_READ_CODE = frozenset(
    {"eval", "let", "source", ".", "trap", "alias", "[[", "ssh", "watch", "unset", "declare"}
)
_SCRIPT_FIRST = frozenset({"awk", "gawk", "mawk", "sed"})
_INTERPRETERS = re.compile(r"(ba|da|a|z|k)?sh|busybox|su|python[0-9.]*|perl|ruby|node|php|lua|psql|mysql")

_Kind = Literal["top", "(", "$(", "double", "single", "comment"]


@dataclass(slots=True)
class _Frame:
    """One level of quoting or nesting; a level that holds commands also keeps the words of the current one."""

    kind: _Kind
    words: list[str] = field(default_factory=list)
    word: str = ""
    in_word: bool = False


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

    def literal(self, text: str) -> None:
        """Go on over text of the author."""
        self._bare = ""
        at = 0
        while at < len(text):
            at += self._step(text, at)

    def value(self, text: str) -> Place:
        """Say where the value stands, and go on behind it."""
        place = self._place()
        if self._frames[-1].kind != "comment":
            self._add(text)
        return place

    @property
    def _command(self) -> _Frame:
        return next(frame for frame in reversed(self._frames) if frame.kind in ("top", "(", "$("))

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
                'write v="{{ … }}" on a line before it, and "$v" here',
            )
        if kind == "single":
            return Place("$ is not expanded inside single quotes", 'use double quotes around it: "{{ … }}"')
        if kind != "double":
            return Place(
                "a value without quotes would be split at its blanks", 'write quotes around it: "{{ … }}"'
            )
        words = command.words
        while words and (words[0] in _PREFIXES or _ASSIGNMENT.match(words[0])):
            words = words[1:]
        if not words and not _ASSIGNMENT.match(command.word):
            return Place("a value cannot name the command", "write the command out, one step for each")
        if words and _reads_code(words):
            return Place(
                f"`{words[0]}` reads this argument as code, so a value in it could become a command",
                'hand the value over as an argument, like: sh -c \'echo "$1"\' sh "{{ … }}"',
            )
        return Place(opens_word=not command.word and "--" not in words)

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
        elif char in "\n;&|":
            self._end_command()
        elif char in "<>":
            self._end_word()
            if text.startswith("<<", at):
                self._unsure = self._unsure or "a here-document"
        elif char == "(":
            if text.startswith("((", at):
                self._unsure = self._unsure or "arithmetic"
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
        if frame.in_word and (frame.words or frame.word not in _BEFORE_A_COMMAND):
            frame.words.append(frame.word)
        if frame.word == "case" and frame.kind == "$(":
            self._unsure = self._unsure or "`case` inside $(…)"
        frame.word, frame.in_word = "", False

    def _end_command(self) -> int:
        self._end_word()
        self._command.words.clear()
        return 1


def _reads_code(words: list[str]) -> bool:
    """Is the word that follows these read as a program by the command?"""
    name, last = words[0].rpartition("/")[2], words[-1]
    if name in _READ_CODE:
        return True
    if name in _SCRIPT_FIRST:
        operands = [word for word in words[1:] if not word.startswith("-")]
        return last in ("-e", "--expression") or (not operands and last not in ("-v", "-f"))
    return bool(re.fullmatch(r"-\w*[ce]|--eval|--command", last)) and any(
        _INTERPRETERS.fullmatch(word.rpartition("/")[2]) for word in words
    )
