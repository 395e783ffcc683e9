"""Packets over a carrier: Paramiko's packetizer, which neither waits nor polls.

A reader that needs more than came gives way; what is written goes out in one piece when the loop comes round, so that a
host that does not read holds up nobody else.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.packet import NeedRekeyException, Packetizer

from bot.ssh.carrier import Carrier

LONGEST_PACKET = 256 * 1024


class Wire(Packetizer):
    """Packets over a carrier: what came and was not read yet, what was written and has not gone yet."""

    def __init__(self, carrier: Carrier) -> None:
        super().__init__(carrier)  # type: ignore[arg-type]
        self._carrier = carrier
        self._held = bytearray()
        self._unsent: deque[bytes] = deque()
        self._flushing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.heard = time.monotonic()
        """When the last byte came, on the monotonic clock."""
        self.blocked_since: float | None = None
        """Since when has the host taken nothing of what was written?"""
        self.over = False
        """Comes nothing any more?"""
        self.patient = False
        """May what is written now wait for what is written next?"""
        self.give_way: Callable[[], None]
        """Called by a reader that needs more than came; returns when something happened."""
        self.broken: Callable[[], None]
        """Called when what was written cannot go."""
        self.wake: Callable[[], None]
        """Called to let the reader look up."""
        self._rekey_asked = False

    def start_handshake(self, timeout: float) -> None:
        """Start no timer thread: the handshake has an absolute deadline from outside."""

    def feed(self, data: bytes) -> None:
        """Take what came; nothing means that nothing more will."""
        self.heard = time.monotonic()
        self._held += data
        self.over = self.over or not data

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Return exactly `n` bytes."""
        if n > LONGEST_PACKET:
            raise paramiko.SSHException(f"the server announced a packet of {n} bytes")
        while len(self._held) < n:
            if self.over:
                raise EOFError
            if check_rekey and not self._held and self._rekey_asked:
                self._rekey_asked = False
                raise NeedRekeyException  # the reader begins the exchange, and comes back here
            self.give_way()
        out = bytes(self._held[:n])
        del self._held[:n]
        return out

    def readline(self, timeout: float) -> str:  # noqa: ARG002 - the deadline comes from outside
        """Return one line of the banner."""
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > 8192:
                raise paramiko.SSHException("a line of the banner is longer than 8 kB")
            if self.over:
                raise EOFError
            self.give_way()
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line.rstrip(b"\r").decode("utf-8", "backslashreplace")

    def write_all(self, out: Any) -> None:
        """Have it sent when the loop comes round; from any thread."""
        self._unsent.append(bytes(out))
        if not self._flushing and not self.patient:
            self._flushing = True
            self._soon(self.flush)

    def _soon(self, call: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(call)
        else:
            self._loop.call_soon_threadsafe(call)  # wakes the loop by a system call

    def flush(self) -> None:
        """Send what has room."""
        self._flushing = False
        while self._unsent and not self.closed:
            out = self._unsent.popleft() if len(self._unsent) == 1 else self._gather()
            try:
                sent = self._carrier.send(out)
            except OSError:
                self.broken()
                return
            if sent < len(out):
                self._unsent.appendleft(out[sent:])
                if sent or self.blocked_since is None:
                    self.blocked_since = time.monotonic()
                return
            self.blocked_since = None

    def _trigger_rekey(self) -> None:
        super()._trigger_rekey()  # type: ignore[misc]
        self._rekey_asked = True
        self._soon(self.wake)

    def _gather(self) -> bytes:
        pieces = [self._unsent.popleft() for _ in range(len(self._unsent))]
        return b"".join(pieces)
