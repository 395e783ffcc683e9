"""Warm connections: one per host and account, shared by many commands, closed when idle, replaced when broken.

Who comes while somebody connects waits for that attempt and shares its end: a host that does not answer is asked
once, not once per command. What lies behind a jump host rides on the one connection to that. All of it lives in the
loop's thread.
"""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.effect import Unreachable
from bot.inventory import Hop, Host
from bot.ssh.account import Account, Purpose, account
from bot.ssh.carrier import Carrier, Tunnel
from bot.ssh.identity import Identities, Trust
from bot.ssh.link import Link
from bot.ssh.login import Greeting, Login, dial
from bot.ssh.public_key import Key
from bot.ssh.settings import SshSettings
from bot.ssh.slots import Slots
from bot.ssh.unreached import Unreached

STALLED = 2.0
"""Seconds after which a login or a command that is still going lets others have its turn."""
BUSY = Unreachable("channel", "all sessions to this host were busy", "ask again later")
CALM = 16
"""Commands under way at most while connections prepare for their next one."""
THROUGH = 5
"""Logins at once through one jump host, from whose one address the hosts behind it see all of them come."""
CLOSED = Unreachable("link", "the bot is shutting down", "ask again when it runs")


@dataclass(frozen=True, slots=True)
class Lease:
    """A connection lent for one command."""

    link: Link
    fresh: bool
    """Was it made for this lease? An older one may be dead without anybody knowing yet."""


@dataclass(slots=True)
class _Place:
    """What is kept for one account on one host."""

    turns: asyncio.Semaphore
    half_open: asyncio.Semaphore
    """For a jump host: logins through it that have not ended."""
    link: Link | None = None
    attempt: asyncio.Task[Link] | None = None
    waiting: int = 0
    """How many wait for the attempt; when the last has gone, it is given up."""
    busy: int = 0
    used: float = field(default_factory=time.monotonic)


_Key = tuple[str, int, tuple[Hop, ...], tuple[str, int], tuple[Path, ...], Account]
"""Where a connection goes, by which way, who is expected there, and who we are."""


class Pool:
    """All connections of the room."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self.trust = Trust(settings)
        self._identities = Identities()
        self._connecting = Slots(settings.max_connecting, STALLED)
        self._places: dict[_Key, _Place] = {}
        self._busy = 0
        self._links: set[Link] = set()
        """Every link that has not ended, those that are lent no more too."""
        self.closed = False
        """Is no connection lent any more?"""
        _lift_the_limit_of_descriptors()

    @asynccontextmanager
    async def lease(self, host: Host, deadline: float, purpose: Purpose) -> AsyncIterator[Lease]:
        """Lend a connection to `host`, waiting for one until `deadline` at the latest; at most `max_channels` at once.

        Raises:
            Unreached: when there is none to be had.
            TimeoutError: when all were busy for too long.

        """
        place = self._place(host, purpose)
        async with asyncio.timeout_at(deadline):
            await place.turns.acquire()
        place.busy += 1
        self._busy += 1
        try:
            yield await self._get(place, host, deadline, purpose)
        finally:
            place.busy -= 1
            self._busy -= 1
            place.used = time.monotonic()
            place.turns.release()

    def discard(self, host: Host, link: Link, purpose: Purpose, *, keep_sessions: bool = False) -> None:
        """Lend a connection no more; it ends now, or when the sessions that it still has are over."""
        place = self._place(host, purpose)
        if place.link is link:
            place.link = None
        if keep_sessions:
            link.idle = lambda: link.quiet
        else:
            link.end()

    def close(self) -> None:
        """End all connections; whoever still uses one sees its link end."""
        self.closed = True
        for place in self._places.values():
            if place.attempt:
                place.attempt.cancel()
        for link in list(self._links):
            link.farewell = link.farewell or CLOSED.reason
            link.end()

    def _place(self, host: Host, purpose: Purpose) -> _Place:
        who = account(host, self._settings, purpose)
        key = (host.address, host.port, host.jump, host.known_as, host.access.known_hosts, who)
        if key not in self._places:
            turns = asyncio.Semaphore(self._settings.max_channels)
            self._places[key] = _Place(turns, asyncio.Semaphore(THROUGH))
        return self._places[key]

    async def _get(self, place: _Place, host: Host, deadline: float, purpose: Purpose) -> Lease:
        if place.link and place.link.is_active():
            return Lease(place.link, fresh=False)
        if self.closed:
            raise Unreached(CLOSED)
        if place.attempt is None:
            place.attempt = asyncio.create_task(self._connect(place, host, purpose))
            place.attempt.add_done_callback(lambda task: task.cancelled() or task.exception())
        attempt = place.attempt
        place.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                return Lease(await asyncio.shield(attempt), fresh=True)
        except asyncio.CancelledError:
            if attempt.cancelled():
                raise Unreached(CLOSED) from None
            raise
        finally:
            place.waiting -= 1
            if not place.waiting:
                place.attempt = None
                attempt.cancel()

    async def _connect(self, place: _Place, host: Host, purpose: Purpose) -> Link:
        self._make_room()
        who, known_hosts = account(host, self._settings, purpose), self.trust.of(host)
        login = Login(host, who, self._settings, known_hosts, self._identities)
        link = await self._by_way(login, host)
        place.link, place.used = link, time.monotonic()
        link.idle = lambda: self._retire(place, link)
        link.calm = lambda: self._busy <= CALM
        link.gone = lambda: self._links.discard(link)
        self._links.add(link)
        return link

    async def greet(self, host: Host, algorithms: Iterable[str]) -> list[Key]:
        """Return the host keys that a host shows, each over a connection of its own; nobody logs in.

        Raises:
            Unreached: when it cannot be asked.

        """
        found: dict[str, Key] = {}
        for algorithm in algorithms:
            kind = "ssh-rsa" if algorithm.startswith("rsa-") else algorithm
            if kind not in found:
                link = await self._by_way(Greeting(host, self._settings, algorithm), host)
                if link.shown:
                    found[kind] = Key.of(link.shown)
        return list(found.values())

    async def _by_way(self, login: Login | Greeting, host: Host) -> Link:
        if host.jump:
            return await self._through(login, host)
        return await self._in_turn(login, await dial(host, self._settings))

    async def _in_turn(self, login: Login | Greeting, carrier: Carrier) -> Link:
        try:
            async with self._connecting.turn():
                return await login.over(carrier)
        except BaseException:
            carrier.close()
            raise

    async def _through(self, login: Login | Greeting, host: Host) -> Link:
        """Log in by way of the last of the jump hosts, which is reached by way of those before it."""
        *before, last = host.jump
        jump = replace(last.host, jump=tuple(before))
        connect_timeout = host.access.connect_timeout or self._settings.connect_timeout
        deadline = asyncio.get_running_loop().time() + self._settings.login_timeout + connect_timeout
        try:
            async with self.lease(jump, deadline, "look") as lease, self._place(jump, "look").half_open:
                async with asyncio.timeout(connect_timeout):
                    tunnel = await _tunnel(lease.link, host, last)
                return await self._in_turn(login, tunnel)
        except Unreached as refused:
            reason = f"by way of the jump host {last.name}: {refused.outcome.reason}"
            raise Unreached(replace(refused.outcome, reason=reason)) from None
        except TimeoutError:
            where = f"{host.address} port {host.port}"
            why = f"no answer within {connect_timeout:g} s by way of the jump host {last.name}"
            raise Unreached(Unreachable("tcp", f"{where}: {why}", "is the host up?")) from None

    def _make_room(self) -> None:
        """End the connection that has been idle for longest when there are too many."""
        if len(self._links) < self._settings.max_connections:
            return
        idle = [
            place for place in self._places.values() if place.link and not place.busy and place.link.quiet
        ]
        if idle:
            oldest = min(idle, key=lambda place: place.used)
            link, oldest.link = oldest.link, None
            if link:
                link.end()

    def _retire(self, place: _Place, link: Link) -> bool:
        """Say whether a quiet connection has been idle for too long, and forget it if so."""
        if place.busy or time.monotonic() - place.used < self._settings.idle_close:
            return False
        if place.link is link:
            place.link = None
        return True


def _lift_the_limit_of_descriptors() -> None:
    """A thousand connections are a thousand descriptors; many systems give a process 1,024 until it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _tunnel(jump: Link, host: Host, hop: Hop) -> Tunnel:
    tunnel = await jump.through(host.address, host.port)
    if tunnel is None:
        where = f"{host.address} port {host.port}"
        why = jump.farewell or "nothing answers there, or the jump host leads nobody on"
        advice = f"is {host.name} up, and may {hop.name} connect there (AllowTcpForwarding)?"
        raise Unreached(Unreachable("tcp", f"{where}: {why}", advice))
    return tunnel
