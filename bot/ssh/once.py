"""The once-only wrapper as the bot sees it: the script for one exchange, and the answer read from its bytes.

A mutating command is known on its host by its key. Whoever sends it again with the same key is told what became of
it, instead of starting it twice; `once.sh` says how.
"""

import hashlib
import math
import secrets
from dataclasses import dataclass, field
from typing import Literal

from bot.effect import Command, Keep, Output
from bot.ssh.output import HEAD, Keeper
from bot.ssh.script import quoted, script, text_of

Mode = Literal["run", "resume", "kill"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the wrapper finds things on a host; only tests have reason to change it."""

    state: tuple[str, ...] = ("/var/tmp", "/tmp", "~")  # noqa: S108 - each is checked before it is used
    """Directories for state, best first. Not /run/user or /dev/shm: logind empties them when a user logs out."""
    boot_id: str = "/proc/sys/kernel/random/boot_id"
    uptime: str = "/proc/uptime"
    init: str = "/proc/1/stat"
    """A container has its host's uptime, but a first process of its own."""

    @property
    def words(self) -> str:
        """The state directories as words of sh."""
        return " ".join('"$HOME"' if place == "~" else quoted(place) for place in self.state)


@dataclass(frozen=True, slots=True)
class Request:
    """One exchange with a host about one command."""

    mode: Mode
    key: str
    command: Command
    user: str
    age: float
    """Seconds since the command was first sent."""
    grace: float
    places: Places = field(default_factory=Places)
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def script(self) -> bytes:
        """What a `/bin/sh` on the host is given to read."""
        return script(
            "once.sh",
            mode=self.mode,
            id=hashlib.sha256(self.key.encode("utf-8", "surrogateescape")).hexdigest()[:40],
            user="".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in self.user),
            nonce=self.nonce,
            age=math.ceil(max(0.0, self.age)),
            limit=math.ceil(self.command.timeout),
            grace=math.ceil(self.grace),
            places=self.places.words,
            boot_id=self.places.boot_id,
            uptime=self.places.uptime,
            init=self.places.init,
            keep=HEAD,
            command=text_of(self.command),
        )


class Answer:
    """What a host says about a command, read as it comes; a cut answer is never `complete`."""

    full = False
    """As a sink it always takes more: what it is told must not wait behind what the command wrote."""

    def __init__(self, nonce: str, stdout: Keep | None = None, stderr: Keep | None = None) -> None:
        self.started = False
        """Did this exchange start the command?"""
        self.exit_code = ""
        """Exit code, `KILL`, or empty while it is not known."""
        self.word = ""
        """The final word, such as `DONE`; see `once.sh`."""
        self.lack = "whole"
        """`whole`, or why an output is not: `full` disk, `gone` after a day."""
        self.complete = False
        self._stdout = stdout or Keeper()
        self._stderr = stderr or Keeper()
        self._into: Keep | None = None
        self._mark = f"\n{nonce} ".encode()
        self._held = b""

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._held += data
        while not self.complete:
            before, found, rest = self._held.partition(self._mark)
            line, newline, after = rest.partition(b"\n")
            if found and newline:
                self._pass(before)
                self._read(line.decode("ascii", "replace").split())
                # the newline also opens the next mark, should one follow at once
                self._held = newline + after if after.startswith(self._mark[1:]) else after
                continue
            if not found:
                keep = len(self._mark) - 1
                self._pass(self._held[:-keep])
                self._held = self._held[-keep:]
            return

    @property
    def noise(self) -> bytes:
        """What came and is no answer."""
        return self._held

    @property
    def stdout(self) -> Output:
        """What the command wrote, as far as the host still has it."""
        return self._stdout.output

    @property
    def stderr(self) -> Output:
        """What the command wrote to stderr, and a word of ours when the outputs are not whole."""
        if self.lack == "whole":
            return self._stderr.output
        why = "the disk of the host was full" if self.lack == "full" else "the host keeps it for a day only"
        self._stderr.add(f"\n[sickbay: the output is not whole: {why}]\n".encode())
        self.lack = "whole"
        return self._stderr.output

    def _pass(self, data: bytes) -> None:
        if self._into is not None:
            self._into.add(data)

    def _read(self, words: list[str]) -> None:
        match words:
            case ["STARTED"]:
                self.started = True
            case ["ENDED", code]:
                self.exit_code = code
            case ["err"]:
                self._into = self._stderr
            case ["end"]:
                self.complete = bool(self.word)
            case [word, code, cut_out, cut_err, lack]:
                self.word = word
                self.exit_code = "" if code == "-" else code
                self._stdout.skip(int(cut_out))
                self._stderr.skip(int(cut_err))
                self.lack = lack
                self._into = self._stdout
            case [word]:
                self.word = word
            case _:
                self.word = ""
