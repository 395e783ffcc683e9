"""What a step asks of a host, and what the host answered: plain data.

A command is data so that the same object can be shown in a dry run, approved by its digest, sent, and kept in the
audit. An outcome is a type, not a flag: whoever reads one must say what it does with a host that never answered
and with a command whose end nobody knows.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol

from bot.inventory import Host

KEEP = 1024 * 1024
"""Bytes of each output stream that are kept; of a longer one the first three quarters and the last quarter."""
HEAD = KEEP * 3 // 4
TAIL = KEEP - HEAD


@dataclass(frozen=True, slots=True)
class Command:
    """One POSIX sh command for one host."""

    text: str
    """Shell text as the runbook's author wrote it; never holds a value from outside."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Values from outside, as shell variables by name."""
    timeout: float = 60.0
    """Seconds from the first byte sent until the command must have ended."""
    mutating: bool = False
    """True sends it through the once-only wrapper; false may simply be sent again."""


@dataclass(frozen=True, slots=True)
class Output:
    """One stream of a command: bytes as they came, at most `KEEP` of them."""

    data: bytes = b""
    total: int = 0
    """Bytes the command wrote; more than `len(data)` when the middle was left out."""

    @property
    def cut(self) -> bool:
        """Was something left out?"""
        return self.total > len(self.data)

    @property
    def text(self) -> str:
        r"""The bytes as text; what is not UTF-8 is shown as `\xNN`, not dropped."""
        return self.data.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Finished:
    """The command ended and said how."""

    exit_code: int | None
    """None when a signal ended it."""
    stdout: Output
    stderr: Output
    signal: str | None = None
    """Name without SIG, such as `KILL`."""
    seconds: float = 0.0


Layer = Literal["dns", "tcp", "banner", "key exchange", "host key", "login", "channel", "link"]


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The host could not be spoken to; nothing was started on it, or what ran there may simply be asked again."""

    layer: Layer
    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline passed; the remote process group was told to end."""

    after: float
    """Seconds."""
    stdout: Output
    stderr: Output
    ended: bool
    """Is the remote process known to be gone?"""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person cancelled it; the remote process group was told to end."""

    stdout: Output
    stderr: Output
    ended: bool
    """Is the remote process known to be gone (or to have never started)?"""


@dataclass(frozen=True, slots=True)
class Lost:
    """A mutating command may have started and nobody can say how it ended: never sent again under its key."""

    reason: str
    advice: str
    over: bool = False
    """Is it known that nothing of it goes on? Only then may one that is idempotent be done again."""


Outcome = Finished | Unreachable | TimedOut | Cancelled | Lost


class Keep(Protocol):
    """Whoever keeps one stream of a command, within bounds; called in the thread of the room that reads it."""

    @property
    def full(self) -> bool:
        """Must no more come for now? The host is held back until it says no."""

    def add(self, data: bytes) -> None:
        """Take the next bytes; never waits."""

    def skip(self, count: int) -> None:
        """Count bytes that were left out before they came here."""

    def restart(self) -> None:
        """Forget everything: the stream comes again from its beginning."""

    @property
    def output(self) -> Output:
        """What the outcome carries of it: all that was kept, or only its count where it is kept elsewhere."""


def handed(outcome: Outcome, stdout: Keep | None, stderr: Keep | None) -> Outcome:
    """Give what a whole outcome carries to those who keep it; for whoever gets outcomes in one piece."""
    if not isinstance(outcome, Finished | TimedOut | Cancelled):
        return outcome
    return replace(outcome, stdout=_given(outcome.stdout, stdout), stderr=_given(outcome.stderr, stderr))


def _given(output: Output, keep: Keep | None) -> Output:
    if keep is None:
        return output
    keep.restart()
    keep.add(output.data[:HEAD])
    keep.skip(output.total - len(output.data))
    keep.add(output.data[HEAD:])
    return keep.output


@dataclass(frozen=True, slots=True)
class Pending:
    """A command on its way to a host: its outcome comes, whatever happens."""

    outcome: Future[Outcome]
    cancel: Callable[[], None]
    """End it on the host; the outcome says whether that is known to have worked. Safe from any thread, and twice."""


def answered(outcome: Outcome) -> Pending:
    """Return a command whose outcome is there already."""
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return Pending(future, lambda: None)


class Remote(Protocol):
    """Whoever runs commands on hosts: SSH in production, a script in `sickbay test`."""

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
        """Send `command` to `host` and return at once; thousands may be on their way.

        `key` is unique by meaning (run/step/host/attempt). `first_sent` is None the first time, else when this same
        key was first sent: then the host is asked what became of it before anything is started. When it is `barred`
        nothing is started then: what never began is `Cancelled`, and never does. What the command writes goes to
        `stdout` and `stderr`, and without them is kept in memory.

        Raises:
            SickbayError: when the command cannot be written as shell text at all.

        """

    def close(self) -> None:
        """End all connections."""
