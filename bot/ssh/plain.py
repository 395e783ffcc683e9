"""A command that only looks: sent as it is, and simply sent again when a kept connection turned out to be dead."""

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass

from bot.effect import Cancelled, Command, Finished, Keep, TimedOut, Unreachable
from bot.ssh.link import Link
from bot.ssh.output import Marked
from bot.ssh.script import script, text_of
from bot.ssh.session import Session, Sink
from bot.ssh.settings import SshSettings

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


class Glimpse:
    """One observing command, ready to be sent on any connection.

    Raises:
        SickbayError: when it cannot be written as shell text at all.

    """

    def __init__(self, command: Command, settings: SshSettings, stdout: Keep, stderr: Keep) -> None:
        self._settings = settings
        self._timeout = command.timeout
        self._nonce = secrets.token_hex(16)
        self._script = script("plain.sh", nonce=self._nonce, grace=GRACE, command=text_of(command))
        self._keeps = stdout, stderr

    @property
    def cancelled(self) -> Cancelled:
        """What it is when somebody cancelled before it was sent."""
        stdout, stderr = self._keeps
        return Cancelled(stdout.output, stderr.output, ended=True)

    async def run(self, link: Link, *, fresh: bool = False) -> Result:
        """Run it once on this connection."""
        mark = f"\n{self._nonce}\n".encode()
        stdout, stderr = (Marked(mark, keep) for keep in self._keeps)
        session = await open_session(link, stdout, stderr, self._settings, fresh=fresh)
        if not isinstance(session, Session):
            return session
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                await session.begin(self._script)
                await session.until(lambda: session.closed or session.ended)
                await session.while_it_flows(lambda: session.closed, quiet=HELD, most=BACKLOG)
        except (TimeoutError, asyncio.CancelledError) as reason:
            if not session.ended:
                ended = await _stop(session)
                if isinstance(reason, asyncio.CancelledError):
                    return Cancelled(stdout.keep.output, stderr.keep.output, ended)
                return TimedOut(time.monotonic() - began, stdout.keep.output, stderr.keep.output, ended)
        finally:
            broken = session.closed and not session.whole
            session.close()
        if session.prepared and session.whole and not stdout.marked and not stdout.noise:
            return await self.run(link, fresh=True)  # the shell that waited had died
        if broken or not session.ended:
            return _lost(link, session, stdout)
        if stdout.marked:
            seconds = time.monotonic() - began
            return Finished(
                session.exit_code, stdout.keep.output, stderr.keep.output, session.signal, seconds
            )
        if f"{self._nonce} NOGROUP".encode() in stdout.noise and not link.needs_setsid:
            link.give_a_session()
            return await self.run(link)
        return no_shell(session, stdout.noise + stderr.noise)


async def open_session(
    link: Link, stdout: Sink, stderr: Sink, settings: SshSettings, *, fresh: bool = False
) -> Session | Broken:
    """Open a session on a connection, or say why there is none."""
    try:
        async with asyncio.timeout(settings.login_timeout):
            session = await link.open(stdout, stderr, fresh=fresh)
    except TimeoutError:
        return Broken("the server opened no session")
    if session is not None:
        return session
    if link.is_active():
        return Broken("the server refused one more session", full=True)
    return Broken(link.farewell or "the link broke")


def no_shell(session: Session, said: bytes) -> Unreachable:
    """Say that the login shell did not run what it was given."""
    words = said.decode("utf-8", "backslashreplace").strip()[-300:]
    end = f"signal {session.signal}" if session.signal else f"exit code {session.exit_code}"
    return Unreachable(
        "channel",
        f"the login shell ran nothing and ended with {end}" + (f": {words}" if words else ""),
        "the account needs a login shell that can run /bin/sh, and /proc must be there",
    )


async def _stop(session: Session) -> bool:
    """End the standard input: the watcher takes that as the order to end the process group. True when it is gone."""
    session.shutdown_write()
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE + HELD):
            await session.until(lambda: session.closed)
    return session.ended and session.closed


def _lost(link: Link, session: Session, stdout: Marked) -> Broken | Unreachable:
    if session.refused:
        return Unreachable(
            "channel", "the server runs no commands for this account", "is there a ForceCommand?"
        )
    why = link.farewell or "the connection was cut"
    if not stdout.marked:
        return Broken(why)
    return Unreachable("link", f"{why} while the command ran", "ask again; on the host it is ended by itself")
