"""Paramiko's transport, tuned; the private names of it that are used here are held by `tests/test_ssh_wire.py`.

What is changed, and why:
- reads of up to 64 kB with TCP_QUICKACK, TCP_NODELAY on: a warm command costs 5 ms instead of 48;
- no timers and no polling: whoever waits has an absolute deadline and shuts the socket when it passes, which also
  ends the thread (paramiko leaves both behind);
- keepalives that want an answer, and a clock of when the host was last heard: a dead link is noticed;
- sessions of our own kind (`session.py`), and no algorithm that is slow or broken.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_GLOBAL_REQUEST
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer

from bot.ssh.patience import Interrupted, Late, Patience
from bot.ssh.session import Session, Sink

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
LONGEST_PACKET = 256 * 1024
WINDOW = 2 * 1024 * 1024

# Whatever happens to a connection becomes an outcome; paramiko's own tracebacks would only say it twice.
_LOG = "bot.ssh.paramiko"
logging.getLogger(_LOG).addHandler(logging.NullHandler())
logging.getLogger(_LOG).propagate = False


class Wire(Packetizer):
    """Packets over a socket, with its own buffer and a clock of the last byte heard."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._socket = sock
        self._held = bytearray()
        self.heard = time.monotonic()
        self.silent: Callable[[], None] = lambda: None
        """Called in the reading thread each time a read timed out; raises EOFError to end the link."""
        self.stuck_after = 15.0
        """Seconds without a byte accepted after which a write is given up."""

    def start_handshake(self, timeout: float) -> None:
        """Start no timer thread: the handshake has an absolute deadline from outside."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Return exactly `n` bytes."""
        if n > LONGEST_PACKET:
            raise paramiko.SSHException(f"the server announced a packet of {n} bytes")
        while len(self._held) < n:
            if not self._read() and check_rekey and not self._held and self.need_rekey():
                raise NeedRekeyException
        out = bytes(self._held[:n])
        del self._held[:n]
        return out

    def readline(self, timeout: float) -> str:  # noqa: ARG002 - the deadline comes from outside
        """Return one line of the banner."""
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > 8192:
                raise paramiko.SSHException("a line of the banner is longer than 8 kB")
            self._read()
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line.rstrip(b"\r").decode("utf-8", "backslashreplace")

    def _read(self) -> bool:
        """Take what is there; false when nothing came for a while."""
        if hasattr(socket, "TCP_QUICKACK"):
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            chunk = self._socket.recv(65536)
        except TimeoutError:
            if self.closed:
                raise EOFError from None
            self.silent()
            return False
        except OSError:
            if self.closed:
                raise EOFError from None
            raise
        if not chunk:
            raise EOFError
        self.heard = time.monotonic()
        self._held += chunk
        return True

    def write_all(self, out: Any) -> None:
        """Send all of it, or end the link: half a packet can never be mended."""
        rest = memoryview(out)
        stuck = time.monotonic() + self.stuck_after
        while rest:
            try:
                sent = self._socket.send(rest)
            except TimeoutError:
                if self.closed or time.monotonic() >= stuck:
                    self._shut()
                    raise EOFError from None
                continue
            except OSError:
                raise EOFError from None
            rest = rest[sent:]
            stuck = time.monotonic() + self.stuck_after

    def _shut(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


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
    packetizer: Wire

    def __init__(self, sock: socket.socket, *, keepalive: float, dead_after: float) -> None:
        super().__init__(sock, default_window_size=WINDOW, packetizer_class=Wire)
        self.set_log_channel(_LOG)
        sock.settimeout(keepalive)
        self.host_key_order: tuple[str, ...] = HOST_KEYS
        self.shown = b""
        """The host key, or the certificate about it, that signed the key exchange; empty before that."""
        self.farewell = ""
        """What the server said when it hung up."""
        self.idle: Callable[[], bool] = lambda: False
        """Asked in quiet moments; true ends the link."""
        self.needs_setsid = False
        """Does this server start commands without a session of their own?"""
        self.answered = 0
        """How many of our questions for a sign of life were answered."""
        self._asked = 0
        self._unwanted: dict[int, Session] = {}
        self._after_keys: list[Message] = []
        self._keepalive = keepalive
        self._dead_after = dead_after
        self.packetizer.silent = self._silence
        self.packetizer.stuck_after = dead_after

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

    def open(self, stdout: Sink, stderr: Sink, patience: Patience) -> Session | None:
        """Open a session, or return None when the server refused it or the link died.

        Raises:
            Late: when the deadline passed first.
            Interrupted: when somebody cancelled first.

        """
        with self.lock:
            number = self._next_channel()
            session = Session(number, stdout, stderr, self)
            self._channels.put(number, session)
            self.channel_events[number] = session.news
            self.channels_seen[number] = True
            session._set_transport(self)  # type: ignore[attr-defined]  # noqa: SLF001
            session._set_window(WINDOW, self.default_max_packet_size)  # type: ignore[attr-defined]  # noqa: SLF001
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string("session")
        message.add_int(number)
        message.add_int(WINDOW)
        message.add_int(self.default_max_packet_size)
        try:
            self._send_user_message(message)
            session.wait(patience, lambda: session.active or session.closed or self._refused(number))
        except (EOFError, OSError, paramiko.SSHException):
            return None
        except (Late, Interrupted):
            self._unwanted[number] = session  # the server may still open it: then it is closed at once
            raise
        return session if session.active and not session.closed else None

    def _refused(self, number: int) -> bool:
        return not self.is_active() or self._channels.get(number) is None

    @property
    def quiet(self) -> bool:
        """Is no session open?"""
        return not self._channels.values()

    def end(self) -> None:
        """End the connection and its thread; safe to call twice and from anywhere."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        if self.ident is None:
            self.sock.close()
        elif threading.current_thread() is not self:
            self.join(5.0)

    def close(self) -> None:
        """Do the same as `end`."""
        self.end()

    def _silence(self) -> None:
        if not self.is_authenticated():
            return  # until then the login has its own deadline
        quiet = time.monotonic() - self.packetizer.heard
        if quiet >= self._dead_after:
            self.farewell = f"no sign of life for {quiet:.0f} s"
            raise EOFError
        if self.idle():
            raise EOFError
        if quiet >= self._keepalive * 0.9 and self.clear_to_send.is_set():
            self.ping()

    def ping(self) -> int:
        """Ask the host for a sign of life; it answers after all that it sent before."""
        message = Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        with self.lock:
            self._asked += 1
            number = self._asked
        with suppress(EOFError, OSError, paramiko.SSHException):  # a dead link ends by itself
            self._send_user_message(message)
        return number

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
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            self._after_keys.append(data)  # this thread makes the new keys: it must not wait for them
        else:
            super()._send_user_message(data)  # type: ignore[misc]

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        super()._verify_key(host_key, sig)  # type: ignore[misc]
        self.shown = host_key

    def _parse_newkeys(self, m: Any) -> None:
        super()._parse_newkeys(m)  # type: ignore[misc]
        held, self._after_keys = self._after_keys, []
        for message in held:
            self._send_message(message)

    def _parse_channel_open_success(self, m: Any) -> None:
        super()._parse_channel_open_success(m)  # type: ignore[misc]
        for number, session in list(self._unwanted.items()):
            if session.active:
                del self._unwanted[number]
                session.close()

    def _parse_disconnect(self, m: Any) -> None:
        m.get_int()
        self.farewell = m.get_text()
