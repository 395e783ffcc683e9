"""Paramiko's transport, tuned; the private names of it that are used here are held by `tests/test_ssh_wire.py`.

What is changed, and why:
- no thread: Paramiko's own `run` goes on in a greenlet, which gives way when it has read all that came. A thousand
  connections share the room's one thread, and nothing wakes up that has nothing to do;
- no timers and no polling: whoever waits has an absolute deadline, and ends the link when it passes, which leaves
  nothing behind (paramiko leaves thread and socket);
- keepalives that want an answer while a command is going, and a clock of when the host was last heard: a dead link is
  noticed. With no command going the system's own TCP keepalive does that for nothing;
- sessions of our own kind (`session.py`), one begun in advance: its shell waits for what it is to do, so that a command
  takes one round trip; and no algorithm that is slow or broken.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import paramiko
from greenlet import getcurrent, greenlet
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_GLOBAL_REQUEST
from paramiko.message import Message

from bot.ssh.carrier import Carrier, Tunnel
from bot.ssh.loop import aside
from bot.ssh.script import SHELL, SHELL_OF_ITS_OWN
from bot.ssh.session import Session, Sink
from bot.ssh.wire import Wire

T = TypeVar("T")

KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "diffie-hellman-group16-sha512",
)
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
HOST_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
LATER = 0.5
"""Seconds after which it is looked again whether there is time to prepare."""
WINDOW = 256 * 1024
"""Bytes that a host may send ahead on one channel: what bounds the memory that a thousand of them can take."""

# Whatever happens to a connection becomes an outcome; paramiko's own tracebacks would only say it twice.
_LOG = "bot.ssh.paramiko"
logging.getLogger(_LOG).addHandler(logging.NullHandler())
logging.getLogger(_LOG).propagate = False
logging.getLogger(_LOG).setLevel(logging.CRITICAL)


def _by_name(name: str) -> Callable[[Any, Message], None]:
    def call(channel: Any, message: Message) -> None:
        getattr(channel, name)(message)

    return call


class Link(paramiko.Transport):
    """A connection to one host: pinned algorithms, answered keepalives, an end that leaves nothing behind."""

    # paramiko's table holds its own class's functions, past any subclass
    _channel_handler_table = {  # noqa: RUF012
        number: _by_name(function.__name__)
        for number, function in paramiko.Transport._channel_handler_table.items()  # type: ignore[attr-defined]  # noqa: SLF001
    }
    _next_channel: Callable[[], int]
    _send_message: Callable[[Message], None]
    _channels: Any
    _kex_info: dict[str, Any]
    active: bool
    packetizer: Wire

    def __init__(self, carrier: Carrier, *, keepalive: float, dead_after: float) -> None:
        super().__init__(carrier, packetizer_class=Wire)  # type: ignore[arg-type]
        self.set_log_channel(_LOG)
        self.host_key_order: tuple[str, ...] = HOST_KEYS
        self.shown = b""
        """The host key, or the certificate about it, that signed the key exchange; empty before that."""
        self.farewell = ""
        """What the server said when it hung up, or why we did."""
        self.idle: Callable[[], bool] = lambda: False
        """Asked in quiet moments; true ends the link."""
        self.gone: Callable[[], object] = lambda: None
        """Called when it has ended."""
        self.needs_setsid = False
        """Does this server start commands without a session of their own?"""
        self.answered = 0
        """How many of our questions for a sign of life were answered."""
        self.calm: Callable[[], bool] = lambda: True
        """Is there time to prepare anything?"""
        self._asked = 0
        self._resting = False
        self._preparing = False
        self._spare: Session | None = None
        self._after_keys: list[Message] = []
        self._keepalive = keepalive
        self._dead_after = dead_after
        self._loop = asyncio.get_running_loop()
        self._carrier = carrier
        self._reader = greenlet(self.run)
        self._glancing: asyncio.TimerHandle | None = None
        self.packetizer.give_way = self._give_way
        self.packetizer.broken = self.end
        self.packetizer.wake = self._resume
        carrier.came = self._came
        carrier.room = self.packetizer.flush

    @property
    def preferred_kex(self) -> Sequence[str]:
        """Key exchanges, best first."""
        return tuple(name for name in KEX if name in self._kex_info)

    @property
    def preferred_ciphers(self) -> Sequence[str]:
        """No CBC, no 3DES."""
        return CIPHERS

    @property
    def preferred_macs(self) -> Sequence[str]:
        """SHA-2 only."""
        return MACS

    @property
    def preferred_keys(self) -> Sequence[str]:
        """Host keys and certificates, as whoever judges them asks for."""
        return self.host_key_order

    def start(self) -> None:
        """Begin to speak; Paramiko would start a thread here."""
        self._carrier.begin()
        self._resume()
        self._glance()

    def _came(self, data: bytes) -> None:
        self.packetizer.feed(data)
        self._resume()

    def _resume(self) -> None:
        """Let the reader go on until it needs more than came."""
        if not self._reader.dead:
            # a link inside a tunnel is resumed by the reader of the outer one
            self._reader.parent = getcurrent()
            self._reader.switch()
            if self._reader.dead:
                self.gone()
                if self._glancing is not None:
                    self._glancing.cancel()

    def wait_aside(self, function: Callable[[], T]) -> T:
        """Do what may block in a thread of its own while this link's reader waits for it; for handlers in the reader."""
        task = self._loop.create_task(aside(function))
        task.add_done_callback(lambda _: self._resume())
        while not task.done():
            if self.packetizer.over:
                task.cancel()
                raise EOFError
            self.packetizer.give_way()
        return task.result()

    def _give_way(self) -> None:
        whoever_resumed = self._reader.parent
        assert whoever_resumed is not None
        whoever_resumed.switch()

    def end(self) -> None:
        """End the connection; safe to call twice, in the loop's thread."""
        self.packetizer.over = True
        if getcurrent() is not self._reader:
            self._resume()

    def close(self) -> None:
        """Do the same as `end`, from any thread (Paramiko's own parts call this)."""
        self._loop.call_soon_threadsafe(self.end)

    async def open(self, stdout: Sink, stderr: Sink, *, fresh: bool = False) -> Session | None:
        """Open a session whose shell waits for its script, or return None when the server refused it or the link died.

        A `fresh` one is none that was prepared.
        """
        self._look_after()
        session = None if fresh else self._spare
        if session is not None:
            self._spare = None
        if session is None or not await self._opened(session, stdout, stderr):
            session = Session(self)
            self._open(session, "session")
            if not await self._opened(session, stdout, stderr):
                return None
        if not session.begun:
            session.start_shell(self._shell)
        return session

    async def _opened(self, session: Session, stdout: Sink, stderr: Sink) -> bool:
        session.stdout, session.stderr = stdout, stderr
        try:
            await session.until(lambda: session.active or session.closed or self._refused(session))
        except BaseException:
            session.unwanted = True  # the server may still open it: then it is closed at once
            raise
        return bool(session.active) and not session.closed

    async def through(self, address: str, port: int) -> Tunnel | None:
        """Open a way through this host to a port behind it, or return None when it refuses or the link died."""
        tunnel = Tunnel()
        with_address = Message()
        with_address.add_string(address)
        with_address.add_int(port)
        with_address.add_string("127.0.0.1")
        with_address.add_int(0)
        self._open(tunnel, "direct-tcpip", with_address.asbytes())
        while not (tunnel.active or tunnel.closed or self._refused(tunnel)):
            tunnel.news.clear()
            await tunnel.news.wait()
        return tunnel if tunnel.active and not tunnel.closed else None

    def prepare(self) -> None:
        """Begin the next session, unless there are better things to do just now: answers come first."""
        if self._preparing:
            return None
        if self._spare is not None and not self._spare.closed:
            return self.packetizer.flush()
        self._preparing = not self.calm()
        if self._preparing:
            self._loop.call_later(LATER, self._prepare_later)
        elif self.is_active() and not self.packetizer.over:
            self._spare = Session(self)
            self._spare.prepared = True
            self._open(self._spare, "session")
        return None

    def unhurried(self, say: Callable[[], None]) -> None:
        """Say something that nobody waits for: it goes out with the next words, of `prepare` at the latest."""
        self.packetizer.patient = True
        try:
            say()
        finally:
            self.packetizer.patient = False

    def _prepare_later(self) -> None:
        self._preparing = False
        self.prepare()

    @property
    def _shell(self) -> str:
        return SHELL_OF_ITS_OWN if self.needs_setsid else SHELL

    def give_a_session(self) -> None:
        """From now on see that each command gets a session of its own, which this server does not do by itself."""
        self.needs_setsid = True
        if self._spare is not None:
            self._spare.close()

    def _open(self, channel: "Session | Tunnel", kind: str, more: bytes = b"") -> None:
        with self.lock:
            number = channel.chanid = self._next_channel()
            self._channels.put(number, channel)
            self.channel_events[number] = channel.news  # type: ignore[assignment]
            self.channels_seen[number] = True
            channel._set_transport(self)  # type: ignore[union-attr]  # noqa: SLF001
            channel._set_window(WINDOW, self.default_max_packet_size)  # type: ignore[union-attr]  # noqa: SLF001
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        message.add_int(number)
        message.add_int(WINDOW)
        message.add_int(self.default_max_packet_size)
        message.add_bytes(more)
        self._send_user_message(message)

    def _refused(self, channel: "Session | Tunnel") -> bool:
        return not self.is_active() or self._channels.get(channel.chanid) is None

    @property
    def quiet(self) -> bool:
        """Is no session open, but for the one opened in advance?"""
        return all(channel is self._spare for channel in self._channels.values())

    def _glance(self) -> None:
        """Look after the link, again and again while it lives."""
        if self._reader.dead:
            return None
        now = time.monotonic()
        quiet = self.quiet
        rest = self._keepalive
        blocked = self.packetizer.blocked_since
        silent = now - self.packetizer.heard
        if blocked is not None and now - blocked >= self._dead_after:
            self.farewell = f"the host took nothing for {now - blocked:.0f} s"
            return self.end()
        if self.is_authenticated():  # until then the login has its own deadline
            if self.idle():
                return self.end()
            self._resting = quiet
            if quiet:
                rest = max(self._keepalive, min(30.0, self._dead_after * 2))
            elif silent >= self._dead_after:
                self.farewell = f"no sign of life for {silent:.0f} s"
                return self.end()
            elif silent >= self._keepalive * 0.9 and self.clear_to_send.is_set():
                self.ping()
        self._glancing = self._loop.call_later(rest, self._glance)
        return None

    def _look_after(self) -> None:
        """Begin to look after a link that was at rest: its host is heard of soon, or given up."""
        if self._resting and self._glancing is not None:
            self._resting = False
            self._glancing.cancel()
            self._glancing = self._loop.call_later(self._keepalive, self._glance)
            self.packetizer.heard = max(self.packetizer.heard, time.monotonic() - self._keepalive)

    def ping(self) -> int:
        """Ask the host for a sign of life; it answers after all that it sent before."""
        message = Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._asked += 1
        self._send_user_message(message)
        return self._asked

    def _parse_request_success(self, m: Any) -> None:
        super()._parse_request_success(m)  # type: ignore[misc]
        self._answer()

    def _parse_request_failure(self, m: Any) -> None:
        super()._parse_request_failure(m)  # type: ignore[misc]
        self._answer()

    def _answer(self) -> None:
        self.answered += 1
        for channel in self._channels.values():
            if isinstance(channel, Session):
                channel.news.set()

    def _send_user_message(self, data: Message) -> None:
        with self.clear_to_send_lock:
            if not self.active:
                return  # whoever waits for an answer sees the link's end
            if self.clear_to_send.is_set():
                self._send_message(data)
            else:
                self._after_keys.append(data)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        super()._verify_key(host_key, sig)  # type: ignore[misc]
        if self.shown and host_key != self.shown:
            raise paramiko.SSHException("the host showed another key when new keys were made")
        self.shown = host_key

    def _parse_newkeys(self, m: Any) -> None:
        super()._parse_newkeys(m)  # type: ignore[misc]
        with self.clear_to_send_lock:
            held, self._after_keys = self._after_keys, []
            for message in held:
                self._send_message(message)

    def _parse_channel_open_success(self, m: Any) -> None:
        super()._parse_channel_open_success(m)  # type: ignore[misc]
        for channel in self._channels.values():
            if isinstance(channel, Session) and channel.unwanted and channel.active:
                channel.close()
        spare = self._spare
        if spare is not None and spare.active and not spare.begun:
            spare.start_shell(self._shell)

    def _parse_disconnect(self, m: Any) -> None:
        m.get_int()
        self.farewell = m.get_text()
