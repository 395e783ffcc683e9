"""The room's face: one object that runs commands on hosts, whatever the network does."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bot.effect import Command, Finished, Keep, Outcome, Pending, Unreachable
from bot.errors import SickbayError
from bot.inventory import Host
from bot.ssh.account import Purpose, account, apart
from bot.ssh.become import as_root, becomes_root
from bot.ssh.enrolment import Shown, by_authority, enroll, shown
from bot.ssh.known_hosts import spelled
from bot.ssh.link import HOST_KEYS, Link
from bot.ssh.loop import Loop
from bot.ssh.mutate import Errand
from bot.ssh.once import Places
from bot.ssh.output import Keeper
from bot.ssh.plain import Broken, Glimpse
from bot.ssh.pool import BUSY, CLOSED, Pool
from bot.ssh.public_key import Key
from bot.ssh.settings import SshSettings
from bot.ssh.unreached import Unreached


class Ssh:
    """Runs commands over SSH; safe to share between threads.

    A command that changes something goes through the once-only wrapper, so that whatever breaks it is either known
    how it ended, or said that nobody knows.
    """

    def __init__(self, settings: SshSettings, places: Places | None = None) -> None:
        self._settings = settings
        self._places = places or Places()
        self._pool = Pool(settings)
        self._loop = Loop()

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
        """Send `command` to `host` and return at once; see `bot.effect.Remote`.

        Raises:
            SickbayError: when the command cannot be written as shell text at all.

        """
        keeps = stdout or Keeper(), stderr or Keeper()
        if becomes_root(host, self._settings, mutating=command.mutating):
            command = as_root(command, self._settings)
        if command.mutating:
            errand = Errand(
                self._pool,
                self._settings,
                self._places,
                host,
                command,
                key,
                first_sent,
                *keeps,
                barred=barred,
            )
            return self._loop.pending(errand.run(), CLOSED)
        glimpse = Glimpse(command, self._settings, *keeps)
        return self._loop.pending(self._look(host, command, glimpse, "look"), CLOSED)

    def run(self, host: Host, command: Command, *, key: str, first_sent: datetime | None) -> Outcome:
        """Do the same and wait for the outcome."""
        return self.start(host, command, key=key, first_sent=first_sent).outcome.result()

    def probe(self, host: Host, purpose: Purpose = "look") -> Finished | Unreachable:
        """Log in and run `true`: says which layer is at fault when a host cannot be used."""
        command = Command("true", timeout=self._settings.login_timeout)
        if becomes_root(host, self._settings, mutating=purpose == "act"):
            command = as_root(command, self._settings)
        glimpse = Glimpse(command, self._settings, Keeper(), Keeper())
        outcome = self._loop.pending(self._look(host, command, glimpse, purpose), CLOSED).outcome.result()
        if isinstance(outcome, Finished | Unreachable):
            return outcome
        return Unreachable(
            "channel",
            f"logged in, but `true` did not end within {self._settings.login_timeout:g} s",
            "can a person log in there and get a prompt? a hung disk or home directory looks like this",
        )

    def purposes(self, host: Host) -> tuple[Purpose, ...]:
        """Return what there are accounts for: to look, and also to act where that is another one, or root."""
        look, act = (becomes_root(host, self._settings, mutating=mutating) for mutating in (False, True))
        return ("look", "act") if look != act or apart(host, self._settings) else ("look",)

    @contextmanager
    def connection(self, host: Host, purpose: Purpose = "look") -> Iterator[Any]:
        """Lend a `fabric.Connection` for files (`put`, `get`), over the same checked login as everything else.

        Raises:
            SickbayError: when the host cannot be reached.

        """
        from bot.ssh.files import (  # Fabric takes a while to load, and few need it
            close_files,
            fabric_connection,
        )

        lent: Future[Link] = Future()
        over = asyncio.Event()

        async def lend() -> None:
            within = self._settings.connect_timeout + self._settings.login_timeout
            deadline = asyncio.get_running_loop().time() + within
            try:
                async with self._pool.lease(host, deadline, purpose) as lease:
                    lent.set_result(lease.link)
                    await over.wait()
            except Unreached as refused:
                lent.set_exception(_error(host, refused.outcome))
            except TimeoutError:
                lent.set_exception(_error(host, BUSY))
            except asyncio.CancelledError:  # the room is being closed
                if not lent.done():
                    lent.set_exception(_error(host, CLOSED))
                raise

        if not self._loop.call(lambda: self._loop.begin(lend())):
            raise _error(host, CLOSED)
        files = fabric_connection(lent.result(), host, account(host, self._settings, purpose).user)
        try:
            yield files
        finally:
            close_files(files)
            self._loop.call(over.set)

    def host_keys(self, host: Host) -> tuple[Shown, ...] | Unreachable:
        """Have a host show its keys, without a login, and say what is known of each.

        Raises:
            SickbayError: when it is known in another way than by a key of its own.

        """
        known_hosts = self._pool.trust.of(host)
        if line := known_hosts.authority(*host.known_as):
            raise by_authority(line)
        try:
            keys = self._loop.wait_for(self._pool.greet(host, HOST_KEYS))
        except Unreached as refused:
            return refused.outcome
        return tuple(shown(key, known_hosts.judge(*host.known_as, key)) for key in keys)

    def enroll(self, host: Host, key: Key) -> Path:
        """Make a host known by this key and no other; return the file where that stands.

        Raises:
            SickbayError: when it cannot be written.

        """
        path = self._pool.trust.of(host).path
        enroll(path, spelled(*host.known_as), key)
        return path

    def close(self) -> None:
        """End all connections."""
        self._loop.close(self._pool.close)

    async def _look(self, host: Host, command: Command, glimpse: Glimpse, purpose: Purpose) -> Outcome:
        # a command waits for its turn as long as it may run: its own time begins when it is sent
        settings = self._settings
        within = command.timeout + settings.connect_timeout + settings.login_timeout
        deadline = asyncio.get_running_loop().time() + within
        try:
            for last in (False, True):
                async with self._pool.lease(host, deadline, purpose) as lease:
                    outcome = await glimpse.run(lease.link)
                    if not isinstance(outcome, Broken):
                        return outcome
                    self._pool.discard(host, lease.link, purpose, keep_sessions=outcome.full)
                    if lease.fresh or last:
                        return outcome.outcome
        except Unreached as refused:
            return refused.outcome
        except TimeoutError:
            return BUSY
        except asyncio.CancelledError:
            return glimpse.cancelled
        raise AssertionError("unreachable")


def _error(host: Host, outcome: Unreachable) -> SickbayError:
    return SickbayError(outcome.reason, where=host.name, advice=outcome.advice)
