"""The room's one thread: an asyncio loop that carries every connection and every command.

A thread for each of a thousand connections costs more than the connections: they wake each other up and wait for one
another. Outside this room nothing is async: a command is started from any thread, and its outcome is a future.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from bot.effect import Outcome, Pending

T = TypeVar("T")

PARTING = 2.0
"""Seconds in which commands whose connections were ended may say so, before they are dropped."""


class Loop:
    """An asyncio loop in a thread of its own, which begins with the first thing to do."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: list[Callable[[], object]] = []
        self._closed = False

    def call(self, function: Callable[[], object]) -> bool:
        """Have `function` called in the loop's thread; false when the loop has ended."""
        with self._guard:
            if self._closed:
                return False
            if self._thread is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._live, name="ssh", daemon=True)
                self._thread.start()
            self._calls.append(function)
            if len(self._calls) == 1:
                self._loop.call_soon_threadsafe(self._answer_calls)
            return True

    def pending(self, work: Coroutine[Any, Any, Outcome], closed: Outcome) -> Pending:
        """Begin a command; its outcome is `closed` when the loop has ended already.

        It is cancelled at most once: what follows, such as ending the command on its host, is not cut short.
        """
        outcome: Future[Outcome] = Future()
        outcome.set_running_or_notify_cancel()
        tasks: list[asyncio.Task[Outcome]] = []

        def begin() -> None:
            task = self.begin(work)
            task.add_done_callback(lambda task: _settle(outcome, task))
            tasks.append(task)

        def cancel() -> None:
            self.call(cancel_here)

        def cancel_here() -> None:
            if tasks:
                # a task that is cancelled before its first step would never take that step
                self._loop.call_soon(tasks.pop().cancel)

        if not self.call(begin):
            work.close()
            outcome.set_result(closed)
        return Pending(outcome, cancel)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop's thread, and return or raise what comes of it.

        Raises:
            CancelledError: when the loop has ended already.

        """
        answer: Future[T] = Future()
        if not self.call(lambda: self.begin(work).add_done_callback(lambda task: _settle(answer, task))):
            work.close()
            raise CancelledError
        return answer.result()

    def close(self, hang_up: Callable[[], None]) -> None:
        """End every connection by `hang_up`, let the commands say what that means for them, and end the thread."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        if thread is None:
            return
        self._loop.call_soon_threadsafe(hang_up)
        asyncio.run_coroutine_threadsafe(self._part(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join()
        self._loop.close()

    def _answer_calls(self) -> None:
        with self._guard:
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something in the loop's thread, where alone this may be called."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _part(self) -> None:
        for seconds in (PARTING, None):
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=seconds)
                for task in late:
                    task.cancel()


def _settle(future: Future[T], task: asyncio.Task[T]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        future.set_result(task.result())
    else:
        future.set_exception(error)


async def aside(function: Callable[[], T]) -> T:
    """Do what may block for ever (a name server, an agent) in a thread of its own, which nobody has to wait for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)  # type: ignore[arg-type]
        else:
            answer.set_exception(error)

    def work() -> None:
        try:
            told = (function(), None)
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for it
            told = (None, error)  # type: ignore[assignment]
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, *told)

    threading.Thread(target=work, name="ssh aside", daemon=True).start()
    return await answer
