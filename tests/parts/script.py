"""Hosts that answer from a script: for tests of what sends commands, without any network.

`Script` lives in the test's memory and can hold a command back until the test lets it go. `World` lives in a folder, so
that what it started goes on when the process that sent it is killed, as on real hosts.
"""

import fcntl
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bot.effect import (
    Cancelled,
    Command,
    Finished,
    Keep,
    Outcome,
    Output,
    Pending,
    Unreachable,
    answered,
    handed,
)
from bot.inventory import Host

PATIENCE = 30.0
"""Seconds after which a test that waits is broken."""


def printed(text: str) -> Output:
    """Return what a command wrote."""
    data = text.encode()
    return Output(data, len(data))


def done(stdout: str = "", exit_code: int = 0, stderr: str = "") -> Finished:
    """Return the outcome of a command that ended."""
    return Finished(exit_code, printed(stdout), printed(stderr))


BOOT = "3f1c2b9a-0d4e-4c55-9b1a-6a7e8d9c0b1f\n86400.00 100.00\n"
"""What a host says when it is asked in which boot it is."""
_ASKS_BOOT = re.compile(r"boot\.|evidence\.boot")
REFUSED = Unreachable("tcp", "connection refused", "is sshd running there?")


@dataclass(frozen=True, slots=True)
class Sent:
    """A command as the engine handed it over."""

    step: str
    host: str
    number: int
    command: Command
    first_sent: datetime | None
    key: str


@dataclass(slots=True)
class Rule:
    """What certain commands meet with."""

    step: str
    host: str
    answers: list[Outcome | Exception]
    """One after another; the last repeats."""
    gate: threading.Event | None = None
    """Nothing is answered before it opens."""
    deaf: bool = False
    """Does it not hear a cancel?"""
    arrived: threading.Event = field(default_factory=threading.Event)
    """A command has come to the gate."""

    def fits(self, sent: Sent) -> bool:
        """Is the rule for this command?"""
        return bool(re.fullmatch(self.step, sent.step) and re.fullmatch(self.host, sent.host))

    def wait(self, period: float = PATIENCE) -> None:
        """Wait until a command has come."""
        assert self.arrived.wait(period), f"no command of {self.step} came to {self.host}"


class Answers:
    """Gives outcomes as soon as they are there; one thread looks for all that are awaited."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._awaited: list[Callable[[], bool]] = []
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def when(
        self, outcome: Callable[[], Outcome | Exception | None], stdout: Keep | None, stderr: Keep | None
    ) -> Future[Outcome]:
        """Return the future of what `outcome` says once it says something."""
        future: Future[Outcome] = Future()

        def look() -> bool:
            found = outcome()
            if isinstance(found, Exception):
                future.set_exception(found)
            elif found is not None:
                future.set_result(handed(found, stdout, stderr))
            return found is not None

        if not look():
            with self._guard:
                self._awaited.append(look)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._look_on, name="answers", daemon=True)
                    self._thread.start()
        return future

    def close(self) -> None:
        """Look a last time, and no more."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _look_on(self) -> None:
        last = False
        while not last:
            last = self._closing.wait(0.002)
            with self._guard:
                awaited, self._awaited = self._awaited, []
            still = [look for look in awaited if not look()]
            with self._guard:
                self._awaited += still


class Script:
    """A Remote whose hosts do what the test says; what no rule is for succeeds."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._rules: list[Rule] = []
        self._guard = threading.Lock()
        self._closed = threading.Event()
        self._answers = Answers()

    def on(
        self,
        step: str,
        *answers: Outcome | Exception,
        host: str = ".*",
        gate: threading.Event | None = None,
        deaf: bool = False,
    ) -> Rule:
        """Say what commands of a step (and host) meet with; later rules count first."""
        rule = Rule(step, host, list(answers) or [done()], gate, deaf)
        self._rules.insert(0, rule)
        return rule

    def steps(self, host: str = ".*") -> list[str]:
        """Return the steps whose commands were sent to these hosts, in order."""
        return [sent.step for sent in self.sent if re.fullmatch(host, sent.host)]

    def start(
        self,
        host: Host,
        command: Command,
        *,
        key: str,
        first_sent: datetime | None,
        stdout: Keep | None = None,
        stderr: Keep | None = None,
        barred: bool = False,
    ) -> Pending:
        """Answer by the first rule that fits."""
        _, step, place, number = key.rsplit("/", 3)
        if barred and all(sent.key != key for sent in self.sent):
            return answered(Cancelled(Output(), Output(), ended=True))
        sent = Sent(step, place, int(number), command, first_sent, key)
        with self._guard:
            self.sent.append(sent)
            rule = next((rule for rule in self._rules if rule.fits(sent)), None)
            usual = done(BOOT) if _ASKS_BOOT.match(sent.step) else done()
            answer = usual if rule is None else rule.answers[0]
            if rule is not None and len(rule.answers) > 1:
                rule.answers.pop(0)
        cancelled = threading.Event()

        def outcome() -> Outcome | Exception | None:
            if rule is None or rule.gate is None or rule.gate.is_set():
                return answer
            if cancelled.is_set() and not rule.deaf:
                return Cancelled(printed("half"), Output(), ended=True)
            return Unreachable("link", "closed", "") if self._closed.is_set() else None

        pending = Pending(self._answers.when(outcome, stdout, stderr), cancelled.set)
        if rule is not None:
            rule.arrived.set()
        return pending

    def close(self) -> None:
        """Let go of all that waits."""
        self._closed.set()
        self._answers.close()


class World:
    """A Remote whose hosts are files: a command that changes something starts at most once, whoever asks.

    A line of `starts` is what a host did, under which key, and until when it goes on. As with the real wrapper, whoever
    comes again under a key waits for the same command, and one that never came is started under its own claim.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float = 0.02,
        failing: Sequence[str] = (),
        at: Callable[[str], object] = str,
    ) -> None:
        """`failing` are `step/host/number` that end badly; `at` is told when a command was sent and when it has ended."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._seconds = seconds
        self._failing = set(failing)
        self._at = at
        self._closed = threading.Event()
        self._answers = Answers()

    def starts(self) -> list[str]:
        """Return `step/host/number` of each command that began to change something."""
        return [line.split()[0] for line in self._lines()]

    def _lines(self) -> list[str]:
        path = self._folder / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def start(
        self,
        host: Host,
        command: Command,
        *,
        key: str,
        first_sent: datetime | None,
        stdout: Keep | None = None,
        stderr: Keep | None = None,
        barred: bool = False,
    ) -> Pending:
        """Start it or find it again; it ends in its time."""
        assert not barred, "nothing is frozen where processes are killed"
        name = "/".join(key.rsplit("/", 3)[1:])
        ends = (
            self._begin(key, name, first=first_sent is None)
            if command.mutating
            else time.time() + self._seconds
        )
        self._at("sent")

        def outcome() -> Outcome | None:
            if self._closed.is_set():
                return Unreachable("link", "closed", "")
            if time.time() < ends:
                return None
            self._at("answered")
            said = BOOT if _ASKS_BOOT.match(name) else f"{name} on {host.name}"
            return done(said, exit_code=int(name in self._failing))

        return Pending(self._answers.when(outcome, stdout, stderr), lambda: None)

    def close(self) -> None:
        """Answer nobody any more."""
        self._closed.set()
        self._answers.close()

    def _begin(self, key: str, name: str, *, first: bool) -> float:
        with self._alone():
            for line in self._lines():
                _, known, ends = line.split()
                if known == key:
                    assert not first, f"{name} was sent again as if it were new"
                    return float(ends)
            begun = time.time() + self._seconds
            with (self._folder / "starts").open("ab", buffering=0) as file:
                file.write(f"{name} {key} {begun}\n".encode())  # in one piece, whenever the process is killed
            return begun

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
