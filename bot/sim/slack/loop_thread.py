"""The pretend Slack in a thread of its own with a loop of its own.

A bot that blocks its event loop must not freeze the clock that judges it: only so is the three-second rule real.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from bot.sim.slack.server import PretendSlack

T = TypeVar("T")


class PretendSlackThread:
    """Runs a pretend Slack beside the caller; `call` runs one of its coroutines and waits for the result."""

    def __init__(self, **options: Any) -> None:
        self.slack = PretendSlack(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pretend-slack", daemon=True)

    def start(self) -> PretendSlack:
        """Start thread and server."""
        self._thread.start()
        self.call(self.slack.start())
        return self.slack

    def stop(self) -> None:
        """Stop server and thread."""
        self.call(self.slack.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run a coroutine of the pretend Slack in its loop and wait for it here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def acall(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the pretend Slack in its loop and await it in the caller's."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
