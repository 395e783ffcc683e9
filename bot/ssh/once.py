"""The once-only wrapper as the bot sees it: the script for one exchange, and the answer read from its bytes.

A mutating command is known on its host by its key. Whoever sends it again with the same key is told what became of
it, instead of starting it twice; `once.sh` says how, `output.sh` how what it writes gets here, and `state.sh` what a
host remembers of it and how long.
"""

import hashlib
import math
import secrets
from dataclasses import dataclass, field
from typing import Literal

from bot.effect import HEAD, TAIL, Command, Keep, Output
from bot.ssh.output import NOISE, Keeper
from bot.ssh.script import quoted, script, text_of

Mode = Literal["run", "resume", "ask", "kill"]

UNKNOWN_AGE = 10**9
"""Seconds: older than anything a host remembers, so that it starts nothing it does not know."""
CLOCKS = 5.0
"""Seconds by which the clocks of two bots may differ."""
LACKS = {
    "full": "the disk of the host was full",
    "gone": "the host keeps long ones for a day, and only so many",
    "late": "the host was still storing it",
    "killed": "what stored it was killed",
}


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
    seen_out: int = 0
    """Bytes of its output that came in earlier exchanges, see `Answer.seen_out`: they are not sent again."""
    seen_err: int = 0

    @property
    def script(self) -> bytes:
        """What a `/bin/sh` on the host is given to read."""
        name = hashlib.sha256(self.key.encode("utf-8", "surrogateescape")).hexdigest()[:40]
        return script(
            "state.sh",
            "output.sh",
            "once.sh",
            mode=self.mode,
            id=f"{name[0]}/{name[1:]}",
            user="".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in self.user),
            nonce=self.nonce,
            age=self._age,
            limit=math.ceil(self.command.timeout),
            grace=math.ceil(self.grace),
            places=self.places.words,
            boot_id=self.places.boot_id,
            uptime=self.places.uptime,
            init=self.places.init,
            head=HEAD,
            tail=TAIL,
            at_out=self.seen_out,
            at_err=self.seen_err,
            command=text_of(self.command),
        )

    @property
    def _age(self) -> int:
        """Return the age; what was sent in the future was sent by a clock that was set back since, nobody knows when."""
        return UNKNOWN_AGE if self.age < -CLOCKS else math.ceil(max(0.0, self.age))


class Answer:
    """What a host says about a command, read as it comes; a cut answer is never `complete`.

    Output comes while the command runs. When the link breaks, the next exchange goes on where this one ended, into
    the same `stdout` and `stderr`: nothing is missing and nothing comes twice.
    """

    full = False
    """As a sink it always takes more: what it is told must not wait behind what the command wrote."""

    def __init__(
        self,
        nonce: str,
        stdout: Keep | None = None,
        stderr: Keep | None = None,
        *,
        seen_out: int = 0,
        seen_err: int = 0,
    ) -> None:
        self.started = False
        """Did this exchange start the command?"""
        self.exit_code = ""
        """Exit code, `KILL`, or empty while it is not known."""
        self.word = ""
        """The final word, such as `DONE`; see `once.sh`."""
        self.lack = "whole"
        """`whole`, or why an output is not, see `LACKS`."""
        self.complete = False
        self.noise = b""
        """What came and is no answer, the last of it."""
        self._out = _Stream(stdout or Keeper(), seen_out)
        self._err = _Stream(stderr or Keeper(), seen_err)
        self._into: _Stream | None = None
        self._left = False
        self._marked = False
        self._mark = f"\n{nonce} ".encode()
        self._held = b""

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._left:
            return
        self._held += data
        while not self.complete:
            before, found, rest = self._held.partition(self._mark)
            line, newline, after = rest.partition(b"\n")
            if found and newline:
                self._pass(before)
                self._read(line.decode("ascii", "replace").split())
                self._held = after
                continue
            if not found:
                at = self._held.rfind(b"\n")
                if at < 0 or not self._mark.startswith(self._held[at:]):
                    at = len(self._held)
                self._pass(self._held[:at])
                self._held = self._held[at:]
            return

    def leave(self) -> tuple[int, int]:
        """Take no more, whatever still comes; returns `seen_out` and `seen_err`, from where the next one goes on."""
        self._left = True
        return self.seen_out, self.seen_err

    @property
    def seen_out(self) -> int:
        """The byte of stdout that comes next: how many came, or were left out by the host."""
        return self._out.seen

    @property
    def seen_err(self) -> int:
        """The byte of stderr that comes next."""
        return self._err.seen

    @property
    def stdout(self) -> Output:
        """What the command wrote, as far as it came."""
        return self._out.keep.output

    @property
    def stderr(self) -> Output:
        """What the command wrote to stderr, and a word of ours when the outputs are not whole."""
        return self._err.keep.output

    def _pass(self, data: bytes) -> None:
        if self._into is not None:
            self._into.add(data)
        elif not self._marked:
            self.noise = (self.noise + data)[-NOISE:]

    def _read(self, words: list[str]) -> None:
        self._into, self._marked = None, True
        match words:
            case ["STARTED"]:
                self.started = True
            case ["ENDED", code]:
                self.exit_code = code
            case ["out", at] if at.isdigit():
                self._into = self._out
                self._out.go(int(at))
            case ["err", at] if at.isdigit():
                self._into = self._err
                self._err.go(int(at))
            case ["more"]:
                pass
            case ["end"]:
                self.complete = bool(self.word)
                if self.lack in LACKS:
                    self._err.keep.add(f"\n[sickbay: the output is not whole: {LACKS[self.lack]}]\n".encode())
            case [word, code, lack]:
                self.word = word
                self.exit_code = "" if code == "-" else code
                self.lack = lack
            case [word]:
                self.word = word
            case _:
                self.word = ""


class _Stream:
    """One output: knows which byte comes next, so that what comes twice is taken once."""

    def __init__(self, keep: Keep, seen: int) -> None:
        self.keep = keep
        self.seen = seen
        self._again = 0

    def go(self, at: int) -> None:
        """Expect the bytes from number `at` on."""
        if at > self.seen:
            self.keep.skip(at - self.seen)
            self.seen = at
        self._again = self.seen - at

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        new = data[self._again :]
        self._again -= len(data) - len(new)
        if new:
            self.seen += len(new)
            self.keep.add(new)
