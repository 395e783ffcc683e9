"""From an address to a connection that is logged in: name, TCP, banner, key exchange, host key, login.

Each phase has its own layer in the outcome, so that a person knows where to look; the host key is judged before
anything about us is sent. A failed phase leaves no socket and no thread.
"""

import errno
import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import paramiko

from bot.effect import Layer, Unreachable
from bot.inventory import Host
from bot.ssh.account import Account
from bot.ssh.identity import Identities, host_key_order, refusal
from bot.ssh.known_hosts import KnownHosts
from bot.ssh.patience import Late, Patience, Unreached
from bot.ssh.public_key import Key
from bot.ssh.settings import SshSettings
from bot.ssh.wire import HOST_KEYS, Link

_REFUSED = {
    errno.ECONNREFUSED: ("nothing listens there", "is sshd running, and is the port right?"),
    errno.EHOSTUNREACH: ("no route to the host", "is the host up, and is the network or VPN?"),
    errno.ENETUNREACH: ("no route to its network", "is the network or VPN up?"),
    errno.ETIMEDOUT: ("no answer", "is the host up? does a firewall drop the packets?"),
    errno.ECONNRESET: ("the connection was reset", "does a firewall or sshd's connection limit refuse us?"),
}


def connect(
    host: Host,
    account: Account,
    settings: SshSettings,
    known_hosts: KnownHosts,
    identities: Identities,
    cancel: threading.Event,
) -> Link:
    """Connect and log in.

    Raises:
        Unreached: with the layer that failed.
        Interrupted: when somebody cancelled.

    """
    if host.jump:  # never past a jump host that was asked for
        way = " → ".join(hop.name for hop in host.jump)
        raise Unreached(Unreachable("tcp", f"jump hosts are not used yet: {way}", "reach it directly"))
    sock = _dial(host, settings, cancel)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    for name, value in {**options, "TCP_USER_TIMEOUT": int(settings.dead_after * 1000)}.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    try:
        link = Link(sock, keepalive=settings.keepalive, dead_after=settings.dead_after)
    except BaseException:
        sock.close()
        raise
    try:
        patience = Patience.of(settings.login_timeout, cancel)
        _exchange_keys(link, host, known_hosts, patience, settings)
        _log_in(link, host, account, settings, identities, patience)
    except BaseException:
        link.end()
        raise
    return link


def _dial(host: Host, settings: SshSettings, cancel: threading.Event) -> socket.socket:
    timeout = host.access.connect_timeout or settings.connect_timeout
    addresses = _resolve(host, Patience.of(timeout, cancel))
    deadline = time.monotonic() + timeout
    problem = errno.ETIMEDOUT
    for number, (family, address) in enumerate(addresses):
        share = (deadline - time.monotonic()) / (len(addresses) - number)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            problem = _connect(sock, address, Patience.of(share, cancel))
            if problem == 0:
                return sock
        except BaseException:
            sock.close()
            raise
        sock.close()
    where = f"{host.address} port {host.port}"
    what, advice = _REFUSED.get(problem, (os.strerror(problem), "check the address and the network"))
    if problem == errno.ETIMEDOUT:
        what = f"{what} within {timeout:g} s"
    raise Unreached(Unreachable("tcp", f"{where}: {what}", advice))


def _connect(sock: socket.socket, address: Any, patience: Patience) -> int:
    """Return 0 or the errno."""
    sock.setblocking(False)
    try:
        problem = sock.connect_ex(address)
        if problem == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            patience.until(lambda seconds: bool(poll.poll(seconds * 1000)))
            problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except Late:
        return errno.ETIMEDOUT
    except OSError as error:
        return error.errno or errno.EIO
    sock.setblocking(True)
    return problem


def _resolve(host: Host, patience: Patience) -> list[tuple[int, Any]]:
    """Look the address up; the system's resolver cannot be stopped, so it works in a thread of its own."""
    answer: list[tuple[int, Any]] = []
    problem: list[Exception] = []

    def look_up(flags: int = 0) -> None:
        try:
            found = socket.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM, flags=flags)
            answer.extend((family, address) for family, _, _, _, address in found)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name at all, such as `a..b`
            problem.append(error)

    look_up(socket.AI_NUMERICHOST)
    if answer:
        return answer
    problem.clear()
    thread = threading.Thread(target=look_up, name=f"resolve {host.address}", daemon=True)
    thread.start()

    def resolved(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    try:
        patience.until(resolved)
    except Late:
        raise Unreached(
            Unreachable(
                "dns",
                f"no answer for the name {host.address}",
                "is the name server of this machine reachable?",
            )
        ) from None
    if problem:
        raise Unreached(
            Unreachable(
                "dns",
                f"the name {host.address} cannot be resolved: {getattr(problem[0], 'strerror', None) or problem[0]}",
                "check the address in the inventory and the name server",
            )
        )
    return answer


def _exchange_keys(
    link: Link, host: Host, known_hosts: KnownHosts, patience: Patience, settings: SshSettings
) -> None:
    link.host_key_order = host_key_order(known_hosts, host, HOST_KEYS)
    done = threading.Event()
    link.start_client(event=done)
    try:
        patience.until(done.wait)
    except Late:
        raise Unreached(_stalled(link, settings)) from None
    if not link.initial_kex_done or not link.is_active():
        raise Unreached(_broken_handshake(link))
    if not link.shown:
        raise Unreached(
            Unreachable("key exchange", "the server proved no host key", "is this an SSH server?")
        )
    key = Key.of(link.shown)
    refused = refusal(known_hosts.judge(*host.known_as, key), host, key, known_hosts.path)
    if refused:
        raise Unreached(refused)


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


def _broken_handshake(link: Link) -> Unreachable:
    error = link.get_exception()
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


def _log_in(
    link: Link,
    host: Host,
    account: Account,
    settings: SshSettings,
    identities: Identities,
    patience: Patience,
) -> None:
    user = account.user
    with identities.keys(account) as offers:
        tried = []
        for name, key in offers:
            tried.append(name)
            if key is not None and _offer(link, user, key, patience, settings):
                return
            if not link.is_active():
                break
    said = f" ({link.farewell})" if link.farewell else ""
    raise Unreached(
        Unreachable(
            "login",
            f"{host.address} does not let {user} in with {', '.join(tried)}{said}",
            f"put the public key into ~{user}/.ssh/authorized_keys there, or correct {account.setting} and its user",
        )
    )


def _offer(link: Link, user: str, key: paramiko.PKey, patience: Patience, settings: SshSettings) -> bool:
    answered = threading.Event()
    with suppress(EOFError, OSError, paramiko.SSHException):
        link.auth_publickey(user, key, answered)
        try:
            patience.until(lambda seconds: answered.wait(seconds) or not link.is_active())
        except Late:
            raise Unreached(
                Unreachable(
                    "login",
                    f"the login did not end within {settings.login_timeout:g} s",
                    "sshd answers but cannot log anybody in: PAM, a directory server, or a hung disk?",
                )
            ) from None
    return bool(link.is_authenticated())
