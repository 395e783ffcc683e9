"""Warm connections: one per host and account, shared by many commands, closed when idle, replaced when broken.

Who comes while somebody connects waits for that attempt and shares its end: a host that does not answer is asked
once, not once per command.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass, field

from bot.effect import Unreachable
from bot.inventory import Hop, Host
from bot.ssh.account import Account, Purpose, account
from bot.ssh.identity import Identities, Trust
from bot.ssh.login import connect
from bot.ssh.patience import Patience, Unreached
from bot.ssh.settings import SshSettings
from bot.ssh.wire import Link


@dataclass(frozen=True, slots=True)
class Lease:
    """A connection lent for one command."""

    link: Link
    fresh: bool
    """Was it made for this lease? An older one may be dead without anybody knowing yet."""


@dataclass(slots=True)
class _Place:
    """What is kept for one account on one host."""

    change: threading.Condition = field(default_factory=threading.Condition)
    link: Link | None = None
    attempt: "Future[Link | Unreachable | None] | None" = None
    busy: int = 0
    used: float = 0.0


class Pool:
    """All connections of the room."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._trust = Trust(settings)
        self._identities = Identities()
        self._connecting = threading.BoundedSemaphore(settings.max_connecting)
        self._lock = threading.Lock()
        self._places: dict[tuple[str, int, tuple[Hop, ...], Account], _Place] = {}
        self._discarded: list[Link] = []
        self._closed = False

    @contextmanager
    def lease(self, host: Host, patience: Patience, purpose: Purpose) -> Iterator[Lease]:
        """Lend a connection to `host`; at most `max_channels` are lent at once.

        Raises:
            Unreached: when there is none to be had.
            Late, Interrupted: when the waiting ended first.

        """
        place = self._place(host, purpose)
        with place.change:
            patience.until(lambda seconds: self._enter(place, seconds))
        try:
            yield self._get(place, host, patience, purpose)
        finally:
            with place.change:
                place.busy -= 1
                place.used = time.monotonic()
                place.change.notify()

    def discard(self, host: Host, link: Link, purpose: Purpose, *, keep_sessions: bool = False) -> None:
        """Lend a connection no more; it ends now, or when the sessions that it still has are over."""
        place = self._place(host, purpose)
        with place.change:
            if place.link is link:
                place.link = None
        if keep_sessions:
            with self._lock:
                self._discarded = [one for one in self._discarded if one.is_active()] + [link]
        else:
            link.end()

    @property
    def closed(self) -> bool:
        """Is no connection lent any more?"""
        return self._closed

    def close(self) -> None:
        """End all connections; whoever still uses one sees its link end."""
        with self._lock:
            self._closed = True
            places = list(self._places.values())
        for place in places:
            with place.change:
                link, place.link = place.link, None
            if link:
                link.end()
        for link in self._discarded:
            link.end()

    def __len__(self) -> int:
        """Count the living connections."""
        with self._lock:
            return sum(1 for place in self._places.values() if place.link and place.link.is_active())

    def _place(self, host: Host, purpose: Purpose) -> _Place:
        with self._lock:
            key = (host.address, host.port, host.jump, account(host, self._settings, purpose))
            return self._places.setdefault(key, _Place())

    def _enter(self, place: _Place, seconds: float) -> bool:
        if place.busy >= self._settings.max_channels and not place.change.wait(seconds):
            return False
        if place.busy >= self._settings.max_channels:
            return False
        place.busy += 1
        return True

    def _get(self, place: _Place, host: Host, patience: Patience, purpose: Purpose) -> Lease:
        while True:
            with place.change:
                if place.link and place.link.is_active():
                    return Lease(place.link, fresh=False)
                place.link = None
                attempt, mine = place.attempt, place.attempt is None
                if attempt is None:
                    attempt = place.attempt = Future()
            if mine:
                return self._connect(place, attempt, host, patience, purpose)
            patience.until(lambda seconds, attempt=attempt: _over(attempt, seconds))  # type: ignore[misc]
            outcome = attempt.result()
            if isinstance(outcome, Link):
                return Lease(outcome, fresh=True)
            if isinstance(outcome, Unreachable):
                raise Unreached(outcome)
            # who tried was called away: it is our turn

    def _connect(
        self,
        place: _Place,
        attempt: "Future[Link | Unreachable | None]",
        host: Host,
        patience: Patience,
        purpose: Purpose,
    ) -> Lease:
        outcome: Link | Unreachable | None = None
        try:
            patience.until(lambda seconds: self._connecting.acquire(timeout=seconds))
            try:
                self._refuse_when_closed()
                who, known_hosts = account(host, self._settings, purpose), self._trust.of(host)
                link = connect(host, who, self._settings, known_hosts, self._identities, patience.cancel)
            finally:
                self._connecting.release()
            link.idle = lambda: self._retire(place, link)
            outcome = link
        except Unreached as refused:
            outcome = refused.outcome
            raise
        finally:
            with place.change:
                place.attempt = None
                if isinstance(outcome, Link):
                    place.link = outcome
                    place.used = time.monotonic()
            attempt.set_result(outcome)
        if self._closed:
            link.end()
            self._refuse_when_closed()
        return Lease(link, fresh=True)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Unreached(Unreachable("link", "the bot is shutting down", "ask again when it runs"))

    def _retire(self, place: _Place, link: Link) -> bool:
        """Say whether a quiet connection has been idle for too long, and forget it if so."""
        with place.change:
            if place.link is not link:
                return link.quiet
            if place.busy or time.monotonic() - place.used < self._settings.idle_close:
                return False
            place.link = None
            return True


def _over(attempt: "Future[Link | Unreachable | None]", seconds: float) -> bool:
    try:
        attempt.result(seconds)
    except NotYet:
        return False
    return True
