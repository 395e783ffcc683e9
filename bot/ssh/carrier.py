"""What carries the bytes of a connection: a TCP socket, or a channel of the connection to a jump host.

Neither waits: bytes that come are handed on as they come, and of bytes that go as many are taken as have room.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import paramiko
from paramiko.common import cMSG_CHANNEL_DATA, cMSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message

MOST = 65536
"""Bytes taken at once; more would only lie in a second buffer."""


def about(channel: int, kind: bytes, *words: str | bytes | bool | int) -> Message:
    """Write a message about one channel, under the number that the other end gave it."""
    message = Message()
    message.add_byte(kind)
    message.add_int(channel)
    for word in words:
        if isinstance(word, bool):
            message.add_boolean(word)
        elif isinstance(word, int):
            message.add_int(word)
        else:
            message.add_string(word)
    return message


class Carrier(Protocol):
    """One end of a way to a host."""

    came: Callable[[bytes], None]
    """Called with what came; with nothing, when the other end hung up."""
    room: Callable[[], None]
    """Called when there is room again for bytes that were not taken."""

    def begin(self) -> None:
        """Begin to hand on what comes."""

    def send(self, data: bytes) -> int:
        """Take bytes; return how many were taken.

        Raises:
            OSError: when the way is broken.

        """

    def close(self) -> None:
        """End it; safe to call twice."""

    def settimeout(self, seconds: float) -> None:
        """Do nothing: who waits here has a deadline from outside (Paramiko asks for this)."""


class Tcp:
    """A connected, non-blocking socket on the running loop."""

    def __init__(self, sock: socket.socket) -> None:
        self.came: Callable[[bytes], None] = lambda _: None
        self.room: Callable[[], None] = lambda: None
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._waiting = False

    def begin(self) -> None:
        """Begin to hand on what comes."""
        self._loop.add_reader(self._sock, self._readable)

    def send(self, data: bytes) -> int:
        """Take bytes; return how many were taken."""
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(data) and not self._waiting:
            self._waiting = True
            self._loop.add_writer(self._sock, self._writable)
        return sent

    def close(self) -> None:
        """End it: the loop forgets the descriptor before the system may give its number to somebody else."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def settimeout(self, seconds: float) -> None:
        """Do nothing."""

    def _readable(self) -> None:
        if hasattr(socket, "TCP_QUICKACK"):
            # the server's own Nagle waits for our acknowledgement before it sends the rest of an answer
            with suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            data = self._sock.recv(MOST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._sock)
        self.came(data)

    def _writable(self) -> None:
        self._waiting = False
        self._loop.remove_writer(self._sock)
        self.room()


class Tunnel(paramiko.Channel):
    """A way through a jump host: a channel of that connection which leads to a port behind it."""

    _check_add_window: Callable[[int], int]

    def __init__(self) -> None:
        super().__init__(0)
        self.came: Callable[[bytes], None] = lambda _: None
        self.room: Callable[[], None] = lambda: None
        self.news = asyncio.Event()
        self._early: list[bytes] | None = []
        self._over = False

    def __del__(self) -> None:
        """Say nothing: paramiko would send messages from the garbage collector."""

    def begin(self) -> None:
        """Begin to hand on what comes, and what came already."""
        early, self._early = self._early or [], None
        for data in early:
            self._hand_on(data)

    def send(self, data: bytes | bytearray) -> int:
        """Take as many bytes as the jump host has room for."""
        if self.closed:
            raise ConnectionResetError("the jump host closed the way")
        sent = 0
        while sent < len(data):
            size = min(len(data) - sent, self.out_window_size, self.out_max_packet_size - 64)
            if size <= 0:
                break
            message = about(self.remote_chanid, cMSG_CHANNEL_DATA, bytes(data[sent : sent + size]))
            self.out_window_size -= size
            sent += size
            self.transport._send_user_message(message)  # type: ignore[union-attr]  # noqa: SLF001
        return sent

    def _feed(self, m: Any) -> None:
        data = m.get_binary()
        if self._early is None:
            self._hand_on(data)
        else:
            self._early.append(data)

    def _hand_on(self, data: bytes) -> None:
        self.came(data)
        room = self._check_add_window(len(data))
        if room > 0:
            message = about(self.remote_chanid, cMSG_CHANNEL_WINDOW_ADJUST, room)
            self.transport._send_user_message(message)  # type: ignore[union-attr]  # noqa: SLF001

    def _window_adjust(self, m: Any) -> None:
        self.out_window_size += m.get_int()
        self.room()

    def _handle_eof(self, m: Any) -> None:
        super()._handle_eof(m)  # type: ignore[misc]
        self._hung_up()

    def _set_closed(self) -> None:
        super()._set_closed()  # type: ignore[misc]
        self.news.set()
        self._hung_up()

    def _hung_up(self) -> None:
        if not self._over:
            self._over = True
            # not at once: this may be called while the connection inside it is being ended
            asyncio.get_running_loop().call_soon(self.came, b"")
