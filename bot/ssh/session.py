"""One command on a host, as a channel of the connection.

Paramiko's channel cannot tell an exit code from a signal from a lost link, copies each stream through a buffer, and
waits without a deadline. This one hands its bytes straight to a `Sink` and has one event for whoever waits. The
private names of Paramiko that it uses are held by `tests/test_ssh_wire.py`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import paramiko
from paramiko.common import (
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_FAILURE,
    cMSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.message import Message

from bot.ssh.carrier import about

PAUSE = 0.1
"""Seconds between two looks whether a sink that was full takes more."""


class Sink(Protocol):
    """Whoever takes the bytes of one stream; never waits."""

    @property
    def full(self) -> bool:
        """Must no more come for now?"""

    def add(self, data: bytes) -> None:
        """Take the next bytes."""


class Life(Protocol):
    """The connection, asked whether its host is there."""

    answered: int
    """How many of these questions were answered."""

    def ping(self) -> int:
        """Ask, and return how many times that makes."""

    def prepare(self) -> None:
        """Open the next session in advance, now that one is over."""

    def unhurried(self, say: Callable[[], None]) -> None:
        """Say something that may wait until `prepare`."""


class _Nobody:
    """Stands where Paramiko keeps buffers and events that nobody here reads; as a sink it lets everything go."""

    full = False

    def add(self, data: bytes) -> None:
        """Let it go."""

    def set(self) -> None:
        """Wake nobody."""

    def close(self) -> None:
        """Do nothing."""


NOBODY = _Nobody()


class Session(paramiko.Channel):
    """One command on a host; whoever waits for it waits for `news`."""

    _check_add_window: Callable[[int], int]

    def __init__(self, life: Life) -> None:
        super().__init__(0)
        # five kilobytes a session that would never be used
        self.in_buffer = self.in_stderr_buffer = self.event = self.status_event = NOBODY  # type: ignore[assignment]
        self.stdout: Sink = NOBODY
        self.stderr: Sink = NOBODY
        self.life = life
        self.news = asyncio.Event()
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.refused = False
        self.begun = False
        """Was its shell started?"""
        self.prepared = False
        """Was its shell started in advance? Then it may have died while it waited."""
        self.unwanted = False
        """Did whoever asked for it go away before it was open?"""
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

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for `done`."""
        while not done():
            self.news.clear()
            await self.news.wait()

    async def while_it_flows(self, done: Callable[[], bool], *, quiet: float, most: int) -> None:
        """Wait for `done`, but only while bytes come: `quiet` seconds for the next ones, and for `most` in all.

        A silence may also be a slow network: the host is asked for a sign of life, and what it had sent before that
        comes before it. Nor is it one while we hold the host back ourselves.
        """
        start = self.received
        while not done() and self.received - start < most:
            seen = self.received
            try:
                async with asyncio.timeout(quiet):
                    await self.until(lambda seen=seen: done() or self.received != seen)  # type: ignore[misc]
            except TimeoutError:
                if self.stdout.full or self.stderr.full:
                    continue
                number = self.life.ping()
                await self.until(lambda number=number: done() or self.life.answered >= number)  # type: ignore[misc]
                if self.received == seen:
                    return

    def start_shell(self, command: str) -> None:
        """Start the shell that reads what it is to do; no answer is waited for."""
        self.begun = True
        self._send_user_message(about(self.remote_chanid, cMSG_CHANNEL_REQUEST, "exec", True, command))

    async def begin(self, script: bytes) -> None:
        """Hand the shell its script; OpenSSH takes no byte for a shell before it has been started."""
        sent = 0
        while sent < len(script) and not self.closed:
            size = min(len(script) - sent, self.out_window_size, self.out_max_packet_size - 64)
            if size <= 0:
                await self.until(lambda: self.out_window_size > 0 or self.closed)
                continue
            piece = script[sent : sent + size]
            self._send_user_message(about(self.remote_chanid, cMSG_CHANNEL_DATA, piece))
            self.out_window_size -= size
            sent += size

    def _let_on(self) -> None:
        """Let the host send on, unless nobody can take it just now."""
        if self.closed or not self._eaten:
            return
        if self.stdout.full or self.stderr.full:
            asyncio.get_running_loop().call_later(PAUSE, self._let_on)
            return
        room = self._check_add_window(self._eaten)
        self._eaten = 0
        if room > 0:
            self._send_user_message(about(self.remote_chanid, cMSG_CHANNEL_WINDOW_ADJUST, room))

    def _send_user_message(self, message: Message) -> None:
        self.transport._send_user_message(message)  # type: ignore[union-attr]  # noqa: SLF001

    def _feed(self, m: Any) -> None:
        self._take(self.stdout, m.get_binary())

    def _feed_extended(self, m: Any) -> None:
        if m.get_int() == 1:
            self._take(self.stderr, m.get_binary())

    def _take(self, sink: Sink, data: bytes) -> None:
        sink.add(data)
        self.received += len(data)
        waiting = self._eaten > 0
        self._eaten += len(data)
        if not waiting:
            self._let_on()
        self.news.set()

    def _window_adjust(self, m: Any) -> None:
        super()._window_adjust(m)  # type: ignore[misc]
        self.news.set()

    def _handle_request(self, m: Any) -> None:
        kind = m.get_text()
        wants_reply = m.get_boolean()
        if kind == "exit-status":
            self.exit_code = m.get_int()
        elif kind == "exit-signal":
            self.signal = m.get_text()
        elif wants_reply:  # such as sshd's own keepalive
            self._send_user_message(about(self.remote_chanid, cMSG_CHANNEL_FAILURE))
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
        self.eof_sent = 1  # nobody waits for it
        answer = super()._handle_close  # type: ignore[misc]
        self.life.unhurried(lambda: answer(m))
        self.life.prepare()

    def close(self) -> None:
        """End it, and open the next one: both go out in one piece."""
        super().close()
        self.stdout = self.stderr = NOBODY  # what was printed must not live as long as the connection
        self.life.prepare()

    def _set_closed(self) -> None:
        super()._set_closed()  # type: ignore[misc]
        self.news.set()
