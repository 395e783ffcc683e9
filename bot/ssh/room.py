"""The room's face: one object that runs commands on hosts, whatever the network does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bot.effect import Cancelled, Command, Finished, Outcome, Output, Unreachable
from bot.errors import SickbayError
from bot.inventory import Host
from bot.ssh.account import Purpose, account, apart
from bot.ssh.mutate import Errand
from bot.ssh.once import Places
from bot.ssh.patience import Interrupted, Late, Patience, Unreached
from bot.ssh.plain import Broken, run_plain
from bot.ssh.pool import Pool
from bot.ssh.settings import SshSettings


class Ssh:
    """Runs commands over SSH; safe to share between threads.

    A command that changes something goes through the once-only wrapper, so that whatever breaks it is either known
    how it ended, or said that nobody knows.
    """

    def __init__(self, settings: SshSettings, places: Places | None = None) -> None:
        self._settings = settings
        self._places = places or Places()
        self._pool = Pool(settings)

    def run(
        self, host: Host, command: Command, *, key: str, first_sent: datetime | None, cancel: threading.Event
    ) -> Outcome:
        """Run `command` on `host` and wait for its outcome; never raises for what a host or a network does.

        Raises:
            SickbayError: when the command cannot be written as shell text at all.

        """
        if not command.mutating:
            return self._look(host, command, cancel, "look")
        errand = Errand(self._pool, self._settings, self._places, host, command, key, first_sent, cancel)
        return errand.run()

    def probe(self, host: Host, purpose: Purpose = "look") -> Finished | Unreachable:
        """Log in and run `true`: says which layer is at fault when a host cannot be used."""
        command = Command("true", timeout=self._settings.login_timeout)
        outcome = self._look(host, command, threading.Event(), purpose)
        if isinstance(outcome, Finished | Unreachable):
            return outcome
        return Unreachable(
            "channel",
            f"logged in, but `true` did not end within {self._settings.login_timeout:g} s",
            "can a person log in there and get a prompt? a hung disk or home directory looks like this",
        )

    def purposes(self, host: Host) -> tuple[Purpose, ...]:
        """Return what there are accounts for: to look, and also to act where that is another one."""
        return ("look", "act") if apart(host, self._settings) else ("look",)

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

        patience = Patience.of(
            self._settings.connect_timeout + self._settings.login_timeout, threading.Event()
        )
        try:
            with self._pool.lease(host, patience, purpose) as lease:
                files = fabric_connection(lease.link, host, account(host, self._settings, purpose).user)
                try:
                    yield files
                finally:
                    close_files(files)
        except Unreached as refused:
            raise SickbayError(
                refused.outcome.reason, where=host.name, advice=refused.outcome.advice
            ) from None
        except Late:
            raise SickbayError(
                "all sessions to this host were busy", where=host.name, advice="ask again later"
            ) from None

    def close(self) -> None:
        """End all connections."""
        self._pool.close()

    def _look(self, host: Host, command: Command, cancel: threading.Event, purpose: Purpose) -> Outcome:
        # a command waits for its turn as long as it may run: its own time begins when it is sent
        patience = Patience.of(
            command.timeout + self._settings.connect_timeout + self._settings.login_timeout, cancel
        )
        for last in (False, True):
            try:
                patience.check()
                with self._pool.lease(host, patience, purpose) as lease:
                    outcome = run_plain(lease.link, command, self._settings, cancel)
                    if not isinstance(outcome, Broken):
                        return outcome
                    self._pool.discard(host, lease.link, purpose, keep_sessions=outcome.full)
                    if lease.fresh or last:
                        return outcome.outcome
            except Unreached as refused:
                return refused.outcome
            except Late:
                return Unreachable("channel", "all sessions to this host were busy", "ask again later")
            except Interrupted:
                return Cancelled(Output(), Output(), ended=True)
        raise AssertionError("unreachable")
