"""A command that only looks: sent as it is, and simply sent again when a kept connection turned out to be dead."""

import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from bot.effect import Cancelled, Command, Finished, Output, TimedOut, Unreachable
from bot.ssh.output import Keeper
from bot.ssh.patience import Interrupted, Late, Patience
from bot.ssh.script import SHELL, SHELL_OF_ITS_OWN, script, text_of
from bot.ssh.session import Session, Sink
from bot.ssh.settings import SshSettings
from bot.ssh.wire import Link

HELD = 1.0
"""Seconds without a byte after which output is given up, when the command has ended and something else holds it open."""
BACKLOG = 8 * 1024 * 1024
"""More bytes than can be on their way when a command ends: what comes after them is not its own."""
GRACE = 2
"""Seconds between TERM and KILL."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection turned out to be of no use, and nothing is known to have started: a new one may serve."""

    why: str
    full: bool = False
    """It lives, but the server opens no more sessions on it."""

    @property
    def outcome(self) -> Unreachable:
        """What it is when a new connection does not serve either."""
        if self.full:
            return Unreachable("channel", self.why, "is MaxSessions in its sshd_config below 10?")
        return Unreachable("link", self.why, "ask again")


Result = Finished | Unreachable | TimedOut | Cancelled | Broken


def run_plain(link: Link, command: Command, settings: SshSettings, cancel: threading.Event) -> Result:
    """Run an observing command once on this connection."""
    nonce = secrets.token_hex(16)
    mark = f"\n{nonce}\n".encode()
    text = script("plain.sh", nonce=nonce, grace=GRACE, command=text_of(command))
    stdout, stderr = Keeper(mark), Keeper(mark)
    patience = Patience.of(command.timeout, cancel)
    session = open_session(link, stdout, stderr, settings, cancel)
    if not isinstance(session, Session):
        return session
    began = time.monotonic()
    try:
        session.begin(SHELL_OF_ITS_OWN if link.needs_setsid else SHELL, text, patience)
        session.wait(patience, lambda: session.closed or session.ended)
    except (Late, Interrupted) as reason:
        ended = _stop(session)
        if isinstance(reason, Interrupted):
            return Cancelled(stdout.output, stderr.output, ended)
        return TimedOut(time.monotonic() - began, stdout.output, stderr.output, ended)
    else:
        with suppress(Late, Interrupted):
            session.wait_while_it_flows(patience, lambda: session.closed, quiet=HELD, most=BACKLOG)
        broken = session.closed and not session.whole
    finally:
        session.close()
    if broken or not session.ended:
        return _lost(link, session, stdout)
    if stdout.marked:
        seconds = time.monotonic() - began
        return Finished(session.exit_code, stdout.output, stderr.output, session.signal, seconds)
    if f"{nonce} NOGROUP".encode() in stdout.noise and not link.needs_setsid:
        link.needs_setsid = True
        return run_plain(link, command, settings, cancel)
    return no_shell(session, stdout.noise + stderr.noise)


def open_session(
    link: Link, stdout: Sink, stderr: Sink, settings: SshSettings, cancel: threading.Event
) -> Session | Broken | Cancelled:
    """Open a session on a connection, or say why there is none."""
    try:
        session = link.open(stdout, stderr, Patience.of(settings.login_timeout, cancel))
    except Late:
        return Broken("the server opened no session")
    except Interrupted:
        return Cancelled(Output(), Output(), ended=True)
    if session is not None:
        return session
    if link.is_active():
        return Broken("the server refused one more session", full=True)
    return Broken(link.farewell or "the link broke")


def wait_a_little(session: Session, seconds: float) -> None:
    """Wait until the session is closed, but not for long."""
    with suppress(Late):
        session.wait(Patience.of(seconds, threading.Event()), lambda: session.closed)


def no_shell(session: Session, said: bytes) -> Unreachable:
    """Say that the login shell did not run what it was given."""
    words = said.decode("utf-8", "backslashreplace").strip()[-300:]
    end = f"signal {session.signal}" if session.signal else f"exit code {session.exit_code}"
    return Unreachable(
        "channel",
        f"the login shell ran nothing and ended with {end}" + (f": {words}" if words else ""),
        "the account needs a login shell that can run /bin/sh, and /proc must be there",
    )


def _stop(session: Session) -> bool:
    """End the standard input: the watcher takes that as the order to end the process group. True when it is gone."""
    session.shutdown_write()
    wait_a_little(session, GRACE + HELD)
    return session.ended and session.closed


def _lost(link: Link, session: Session, stdout: Keeper) -> Broken | Unreachable:
    if session.refused:
        return Unreachable(
            "channel", "the server runs no commands for this account", "is there a ForceCommand?"
        )
    why = link.farewell or "the connection was cut"
    if not stdout.marked:
        return Broken(why)
    return Unreachable("link", f"{why} while the command ran", "ask again; on the host it is ended by itself")
