"""One command on a host, as a channel of the connection.

Paramiko's channel cannot tell an exit code from a signal from a lost link, copies each stream through a buffer, and
waits without a deadline. This one hands its bytes straight to a `Sink` and has one event for whoever waits. The
private names of Paramiko that it uses are held by `tests/test_ssh_wire.py`.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import paramiko
from paramiko.common import cMSG_CHANNEL_FAILURE, cMSG_CHANNEL_REQUEST, cMSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message

from bot.ssh.patience import Late, Patience


class Sink(Protocol):
    """Whoever takes the bytes of one stream; called by the reading thread."""

    def add(self, data: bytes) -> None:
        """Take the next bytes."""


class Life(Protocol):
    """The connection, asked whether its host is there."""

    answered: int
    """How many of these questions were answered."""

    def ping(self) -> int:
        """Ask, and return how many times that makes."""


class Session(paramiko.Channel):
    """One command on a host; whoever waits for it waits for `news`."""

    _check_add_window: Callable[[int], int]

    def __init__(self, chanid: int, stdout: Sink, stderr: Sink, life: Life) -> None:
        super().__init__(chanid)
        self.life = life
        self.stdout = stdout
        self.stderr = stderr
        self.news = threading.Event()
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.refused = False
        self.whole = False
        """Did the host say that no more output comes? A link that breaks closes a session without that."""
        self.received = 0
        self._eaten = 0

    def __del__(self) -> None:
        """Say nothing: paramiko would send messages from the garbage collector."""

    @property
    def ended(self) -> bool:
        """Did the host say how the command ended?"""
        return self.exit_code is not None or self.signal is not None

    def wait(self, patience: Patience, done: Callable[[], bool]) -> None:
        """Wait for `done`, and meanwhile let the host send on."""

        def look(seconds: float) -> bool:
            if not done():
                self.news.wait(seconds)
                self.news.clear()
                self._let_on()
            return done()

        patience.until(look)

    def wait_while_it_flows(
        self, patience: Patience, done: Callable[[], bool], *, quiet: float, most: int
    ) -> None:
        """Wait for `done`, but only while bytes come: `quiet` seconds for the next ones, and for `most` in all.

        A silence may also be a slow network: the host is asked for a sign of life, and what it had sent before that
        comes before it.

        Raises:
            Late, Interrupted: as `wait`.

        """
        start = self.received
        while not done() and self.received - start < most:
            seen = self.received
            try:
                self.wait(patience.at_most(quiet), lambda seen=seen: done() or self.received != seen)  # type: ignore[misc]
            except Late:
                patience.check()
                number = self.life.ping()
                self.wait(patience, lambda number=number: done() or self.life.answered >= number)  # type: ignore[misc]
                if self.received == seen:
                    return

    def begin(self, command: str, script: bytes, patience: Patience) -> None:
        """Start `command` and hand it `script` on stdin, in one flight: no answer is waited for."""
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(self.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(command)
        self._send_user_message(message)
        self.settimeout(max(0.1, patience.left))
        with suppress(OSError, paramiko.SSHException):  # what went wrong shows when the answer is waited for
            self.sendall(script)

    def _let_on(self) -> None:
        with self.lock:
            eaten, self._eaten = self._eaten, 0
        room = self._check_add_window(eaten)
        if room > 0:
            message = Message()
            message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
            message.add_int(self.remote_chanid)
            message.add_int(room)
            self._send_user_message(message)

    def _send_user_message(self, message: Message) -> None:
        with suppress(EOFError, OSError, paramiko.SSHException):  # a dead link closes the session by itself
            self.transport._send_user_message(message)  # type: ignore[union-attr]  # noqa: SLF001

    # Called by the transport's thread, which must never wait: not for a lock held long, not for a window.

    def _feed(self, m: Any) -> None:
        self._take(self.stdout, m.get_binary())

    def _feed_extended(self, m: Any) -> None:
        if m.get_int() == 1:
            self._take(self.stderr, m.get_binary())

    def _take(self, sink: Sink, data: bytes) -> None:
        sink.add(data)
        with self.lock:
            self._eaten += len(data)
            self.received += len(data)
        self.news.set()

    def _handle_request(self, m: Any) -> None:
        kind = m.get_text()
        wants_reply = m.get_boolean()
        if kind == "exit-status":
            self.exit_code = m.get_int()
        elif kind == "exit-signal":
            self.signal = m.get_text()
        elif wants_reply:  # such as sshd's own keepalive
            message = Message()
            message.add_byte(cMSG_CHANNEL_FAILURE)
            message.add_int(self.remote_chanid)
            self._send_user_message(message)
        self.news.set()

    def _request_failed(self, m: Any) -> None:
        self.refused = True
        super()._request_failed(m)  # type: ignore[misc]

    def _handle_eof(self, m: Any) -> None:
        self.whole = True
        super()._handle_eof(m)  # type: ignore[misc]
        self.news.set()

    def _handle_close(self, m: Any) -> None:
        self.whole = True
        super()._handle_close(m)  # type: ignore[misc]

    def _set_closed(self) -> None:
        super()._set_closed()  # type: ignore[misc]
        self.news.set()
