"""From an address to a connection that is logged in: name, TCP, banner, key exchange, host key, login.

Each phase has its own layer in the outcome, so that a person knows where to look; the host key is judged before
anything about us is sent. A failed phase leaves no socket and no thread.
"""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import paramiko

from bot.effect import Layer, Unreachable
from bot.inventory import Host
from bot.ssh.account import Account
from bot.ssh.carrier import Carrier, Tcp
from bot.ssh.identity import Identities, Offer, host_key_order, refusal
from bot.ssh.known_hosts import KnownHosts
from bot.ssh.link import HOST_KEYS, Link
from bot.ssh.loop import aside
from bot.ssh.public_key import Key
from bot.ssh.settings import SshSettings
from bot.ssh.unreached import Unreached

_REFUSED = {
    errno.ECONNREFUSED: ("nothing listens there", "is sshd running, and is the port right?"),
    errno.EHOSTUNREACH: ("no route to the host", "is the host up, and is the network or VPN?"),
    errno.ENETUNREACH: ("no route to its network", "is the network or VPN up?"),
    errno.ETIMEDOUT: ("no answer", "is the host up? does a firewall drop the packets?"),
    errno.ECONNRESET: ("the connection was reset", "does a firewall or sshd's connection limit refuse us?"),
}


@dataclass(frozen=True, slots=True)
class Login:
    """A login on one host: who it should be, who we are, and how long it may take."""

    host: Host
    account: Account
    settings: SshSettings
    known_hosts: KnownHosts
    identities: Identities

    async def over(self, carrier: Carrier) -> Link:
        """Make a connection over a carrier, and log in; what fails leaves nothing behind.

        Raises:
            Unreached: with the layer that failed.

        """
        settings = self.settings
        link = Link(carrier, keepalive=settings.keepalive, dead_after=settings.dead_after)
        deadline = asyncio.get_running_loop().time() + settings.login_timeout
        try:
            await self._exchange_keys(link, deadline)
            await self._prove_who_we_are(link, deadline)
        except BaseException:
            link.end()
            raise
        return link

    async def _exchange_keys(self, link: Link, deadline: float) -> None:
        link.host_key_order = host_key_order(self.known_hosts, self.host, HOST_KEYS)
        key = await _exchange_keys(link, self.settings, deadline)
        judgement = self.known_hosts.judge(*self.host.known_as, key)
        if refused := refusal(judgement, self.host, key, self.known_hosts.path):
            raise Unreached(refused)

    async def _prove_who_we_are(self, link: Link, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                tried = await self._try_keys(link)
        except TimeoutError:
            raise Unreached(
                Unreachable(
                    "login",
                    f"the login did not end within {self.settings.login_timeout:g} s",
                    "sshd answers but cannot log anybody in: PAM, a directory server, or a hung disk?",
                )
            ) from None
        if not tried:
            return
        said = f" ({link.farewell})" if link.farewell else ""
        user = self.account.user
        raise Unreached(
            Unreachable(
                "login",
                f"{self.host.address} does not let {user} in with {', '.join(tried)}{said}",
                f"put the public key into ~{user}/.ssh/authorized_keys there, "
                f"or correct {self.account.setting} and its user",
            )
        )

    async def _try_keys(self, link: Link) -> list[str]:
        """Return what was tried in vain; nothing when we are in."""
        tried = []
        with ExitStack() as stack:
            for name, key in await self._offers(stack):
                tried.append(name)
                if key is not None and await self._offer(link, key):
                    return []
                if not link.is_active():
                    break
        return tried

    async def _offers(self, stack: ExitStack) -> list[Offer]:
        def take() -> list[Offer]:
            return stack.enter_context(self.identities.keys(self.account))

        # an agent may take its time; files are read once
        return take() if self.account.agent is None else await aside(take)

    async def _offer(self, link: Link, key: paramiko.PKey) -> bool:
        answered = asyncio.Event()
        offered = _SignedAside(key, link) if isinstance(key, paramiko.AgentKey) else key
        with suppress(EOFError, OSError, paramiko.SSHException):
            link.auth_publickey(self.account.user, offered, answered)  # type: ignore[arg-type]
            await answered.wait()
        return bool(link.is_authenticated())


@dataclass(frozen=True, slots=True)
class Greeting:
    """A key exchange with one host and no login: what it shows is nobody's to trust yet."""

    host: Host
    settings: SshSettings
    algorithm: str

    async def over(self, carrier: Carrier) -> Link:
        """Have the host show its key of one kind; a link that shows none says that it has none.

        Raises:
            Unreached: with the layer that failed.

        """
        settings = self.settings
        link = Link(carrier, keepalive=settings.keepalive, dead_after=settings.dead_after)
        link.host_key_order = (self.algorithm,)
        try:
            await _exchange_keys(link, settings, asyncio.get_running_loop().time() + settings.login_timeout)
        except Unreached as refused:
            if not isinstance(refused.__cause__, paramiko.ssh_exception.IncompatiblePeer):
                raise
        finally:
            link.end()
        return link


async def _exchange_keys(link: Link, settings: SshSettings, deadline: float) -> Key:
    done = asyncio.Event()
    link.start_client(event=done)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout_at(deadline):
            await done.wait()
    except TimeoutError:
        raise Unreached(_stalled(link, settings)) from None
    if not link.initial_kex_done or not link.is_active():
        error = link.get_exception()
        raise Unreached(_broken_handshake(link, error)) from error
    if not link.shown:
        raise Unreached(
            Unreachable("key exchange", "the server proved no host key", "is this an SSH server?")
        )
    return Key.of(link.shown)


async def dial(host: Host, settings: SshSettings) -> Tcp:
    """Connect to a host's port.

    Raises:
        Unreached: when nothing answers there.

    """
    sock = await _dial(host, settings)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    for name, value in {**options, "TCP_USER_TIMEOUT": int(settings.dead_after * 1000)}.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Tcp(sock)


async def _dial(host: Host, settings: SshSettings) -> socket.socket:
    timeout = host.access.connect_timeout or settings.connect_timeout
    addresses = await _resolve(host, timeout)
    deadline = time.monotonic() + timeout
    problem = errno.ETIMEDOUT
    for number, (family, address) in enumerate(addresses):
        share = (deadline - time.monotonic()) / (len(addresses) - number)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            problem = error.errno or errno.EIO
            break
        try:
            async with asyncio.timeout(share):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except TimeoutError as late:
            problem = late.errno or errno.ETIMEDOUT
        except OSError as error:
            problem = error.errno or errno.EIO
        except BaseException:
            sock.close()
            raise
        else:
            return sock
        sock.close()
    where = f"{host.address} port {host.port}"
    what, advice = _REFUSED.get(problem, (os.strerror(problem), "check the address and the network"))
    if problem == errno.ETIMEDOUT:
        what = f"{what} within {timeout:g} s"
    raise Unreached(Unreachable("tcp", f"{where}: {what}", advice))


async def _resolve(host: Host, within: float) -> list[tuple[int, Any]]:
    """Look the address up; the system's resolver cannot be stopped, so it works aside."""

    def look_up(flags: int = 0) -> list[tuple[int, Any]]:
        found = socket.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM, flags=flags)
        return [(family, address) for family, _, _, _, address in found]

    with suppress(OSError, UnicodeError):
        return look_up(socket.AI_NUMERICHOST)
    try:
        async with asyncio.timeout(within):
            return await aside(look_up)
    except TimeoutError:
        raise Unreached(
            Unreachable(
                "dns",
                f"no answer for the name {host.address}",
                "is the name server of this machine reachable?",
            )
        ) from None
    except (OSError, UnicodeError) as error:  # UnicodeError: no name at all, such as `a..b`
        raise Unreached(
            Unreachable(
                "dns",
                f"the name {host.address} cannot be resolved: {getattr(error, 'strerror', None) or error}",
                "check the address in the inventory and the name server",
            )
        ) from None


def _stalled(link: Link, settings: SshSettings) -> Unreachable:
    layer: Layer = "key exchange" if link.remote_version else "banner"
    what = (
        "the key exchange did not end" if link.remote_version else "the server did not say that it speaks SSH"
    )
    return Unreachable(
        layer,
        f"{what} within {settings.login_timeout:g} s",
        "the host accepts connections but does not serve them: out of memory, a hung disk, or not an SSH server?",
    )


def _broken_handshake(link: Link, error: Exception | None) -> Unreachable:
    if not link.remote_version:
        if error is None or isinstance(error, EOFError) or "banner" in str(error):
            return Unreachable(
                "banner",
                "the server closed the connection before it said that it speaks SSH",
                "is it sshd? it may be limiting connections (MaxStartups, PerSourcePenalties): see its log",
            )
        return Unreachable("banner", f"this is not an SSH server: {error}", "check the port")
    said = link.farewell or str(error or "") or "the server closed the connection"
    return Unreachable("key exchange", said, "see the log of sshd on the host")


class _SignedAside:
    """A key of the agent, which may ask a person before it signs: nobody else waits for that."""

    def __init__(self, key: paramiko.AgentKey, link: Link) -> None:
        self._key = key
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._key, name)

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Any:
        sign: Callable[[], Any] = lambda: self._key.sign_ssh_data(data, algorithm)  # noqa: E731
        return self._link.wait_aside(sign)
