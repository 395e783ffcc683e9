"""Turns: not too many at once, and nobody who hangs keeps the others waiting.

A thousand logins at the same moment would only be slower than thirty-two at a time. But a host that accepts a
connection and then says nothing needs no processor: whoever holds a turn for longer than it should take gives it up,
and goes on without one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """At most `count` at a time, of those that began less than `patience` seconds ago."""

    def __init__(self, count: int, patience: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience = patience

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        await self._free.acquire()
        held = [True]

        def give_up() -> None:
            if held:
                held.clear()
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._patience, give_up)
        try:
            yield
        finally:
            timer.cancel()
            give_up()
