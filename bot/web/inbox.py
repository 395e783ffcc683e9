"""Bodies of alerts, read and stored; those that come while a commit is going share the next one.

A commit waits for the disk, and in a storm many callers come at once: together they cost hardly more than one of them,
and each still hears of success only when its alerts are in the database. All of it happens in a thread, because a large
body takes a while to read.
"""

import asyncio
import json
from dataclasses import dataclass, field

from bot.alert import Alert
from bot.intake import Rejection, Unreadable, alertmanager
from bot.store import Store


@dataclass(slots=True, eq=False)
class _Call:
    """What one caller brought."""

    body: bytes
    taken: "asyncio.Future[None]"
    alerts: list[Alert] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    new: int = 0
    error: Exception | None = None


class Inbox:
    """Takes bodies on one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._calls: list[_Call] = []
        self._storing: asyncio.Task[None] | None = None

    async def take(self, body: bytes) -> tuple[list[Alert], list[Rejection], int]:
        """Store a body's alerts; return them, those refused, and how many were new.

        Raises:
            Unreadable: when it is no such body at all.
            Exception: when they could not be stored.

        """
        call = _Call(body, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        await call.taken
        if call.error is not None:
            raise call.error
        return call.alerts, call.rejected, call.new

    async def _store_all(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            await asyncio.to_thread(self._work, calls)
            for call in calls:
                if not call.taken.done():  # its caller has hung up
                    call.taken.set_result(None)
        self._storing = None

    def _work(self, calls: list[_Call]) -> None:
        for call in calls:
            _read(call)
        readable = [call for call in calls if call.error is None]
        try:
            self._add(readable)
        except Exception:  # noqa: BLE001 - what is wrong with one is not to sink the others
            for call in readable:
                try:
                    self._add([call])
                except Exception as error:  # noqa: BLE001 - told to its caller
                    call.error = error

    def _add(self, calls: list[_Call]) -> None:
        counts = self._store.alerts.add_each([call.alerts for call in calls])
        for call, count in zip(calls, counts, strict=True):
            call.new = count


def _read(call: _Call) -> None:
    try:
        call.alerts, call.rejected = alertmanager(json.loads(call.body))
    except Unreadable as error:
        call.error = error
    except (ValueError, RecursionError):
        call.error = Unreadable("the body is not JSON")
