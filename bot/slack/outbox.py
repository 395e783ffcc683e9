"""Follows the timeline and keeps Slack's messages as they should be.

It reads events only to learn which messages may have changed, and renders those from the state; so it does not matter
how many events passed, or whether one is seen twice. Its cursor moves when what the events touched is shown in Slack:
while Slack is down messages wait, and after a crash the rest is done again, which changes nothing that is right.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.slack.client import error_of, wait_of
from bot.slack.drafts import subject, touched
from bot.slack.pace import Clock, Pace
from bot.slack.poster import GONE, UNCERTAIN, Poster
from bot.store import Store

log = logging.getLogger(__name__)

READER = "slack"
_RANK = ("broadcast", "alarm", "incident", "again", "run", "glass", "approval", "plan", "output")
_LOOK = 10.0
"""Seconds after which the timeline is looked at even when nobody rang."""
_LONGEST_REST = 30.0
_PARKED = 60.0
_TRIES = 5
"""After so many failures that are ours, not Slack's, a message is given up."""
_AWAY = 3
"""Failures in a row after which the timeline is told that Slack cannot be reached: a hiccup is no event."""


@dataclass(slots=True)
class _Dirty:
    """A message that may have to change."""

    since: int
    """The first event that touched it."""
    urgency: int
    method: str
    not_before: float = 0.0
    tries: int = 0


class Outbox:
    """One task on the event loop."""

    def __init__(self, store: Store, poster: Poster, pace: Pace, clock: Clock = time.monotonic) -> None:
        self._store = store
        self._poster = poster
        self._pace = pace
        self._clock = clock
        self._dirty: dict[str, _Dirty] = {}
        self._read_to = 0
        self._cursor = 0
        self._failures = 0
        self._undelivered: set[str] = set()
        """Messages of which the timeline knows that they cannot be shown."""
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.trouble = ""
        """Why messages are waiting; empty when none has to."""

    async def start(self) -> None:
        """Begin where the last process stopped."""
        loop = asyncio.get_running_loop()
        self._cursor = self._read_to = await asyncio.to_thread(self._store.timeline.cursor, READER)

        def ring() -> None:
            loop.call_soon_threadsafe(self._bell.set)

        self._unlisten = self._store.database.listen(ring)
        self._task = asyncio.create_task(self._follow(), name="slack-outbox")

    async def stop(self) -> None:
        """End; what was not shown yet is shown at the next start."""
        if self._task is None:
            return
        self._unlisten()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    @property
    def waiting(self) -> int:
        """How many messages are not yet as they should be."""
        return len(self._dirty)

    @property
    def alive(self) -> bool:
        """Is it following?"""
        return self._task is not None and not self._task.done()

    async def _follow(self) -> None:
        while True:
            self._bell.clear()
            try:
                await self._read()
                wait = await self._turn()
            except Exception:
                log.exception("the Slack outbox stumbled; it goes on in a second")
                wait = 1.0
            if wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._bell.wait()
                except TimeoutError:
                    pass

    async def _read(self) -> None:
        """Note what the new events touched."""
        while events := await asyncio.to_thread(self._store.timeline.after, self._read_to):
            for event in events:
                for key, urgency in touched(event).items():
                    await self._touch(key, event.id, urgency)
                self._read_to = event.id

    async def _touch(self, key: str, event_id: int, urgency: int) -> None:
        known = self._dirty.get(key)
        if known is not None:
            known.urgency = min(known.urgency, urgency)
            return
        posted = (await self._poster.place(key)).get("state") == "posted"
        method = "files" if key.startswith("output:") else "chat.update" if posted else "chat.postMessage"
        self._dirty[key] = _Dirty(event_id, urgency, method)

    async def _turn(self) -> float:
        """Bring the most urgent message up to date; return how long to wait for the next."""
        now = self._clock()
        due = {
            key: max(one.not_before, self._pace.ready(key, one.method, one.urgency))
            for key, one in self._dirty.items()
        }
        ready = [key for key, at in due.items() if at <= now]
        if not ready:
            await self._advance()
            return min([_LOOK, *(at - now for at in due.values())])
        key = min(ready, key=self._order)
        await self._deliver(key, self._dirty[key])
        await self._advance()
        return 0.0

    def _order(self, key: str) -> tuple[int, int, int]:
        one = self._dirty[key]
        return one.urgency, one.since, _RANK.index(key.partition(":")[0])

    async def _advance(self) -> None:
        """Move the cursor up to the first event that still has something to show."""
        target = min((one.since - 1 for one in self._dirty.values()), default=self._read_to)
        if target > self._cursor:
            await asyncio.to_thread(self._store.timeline.advance, READER, target)
            self._cursor = target

    async def _deliver(self, key: str, one: _Dirty) -> None:
        try:
            await self._poster.bring(key)
        except SlackApiError as error:
            if why := await self._refused(key, one, error):
                await self._undeliverable(key, why)
        except (aiohttp.ClientError, TimeoutError, OSError, SlackClientError) as error:
            await self._rest(f"Slack cannot be reached: {error or type(error).__name__}")
        except Exception as error:
            one.tries += 1
            log.exception("%s cannot be shown in Slack (try %s)", key, one.tries)
            one.not_before = self._clock() + 2.0**one.tries
            if one.tries >= _TRIES:
                del self._dirty[key]
                await self._undeliverable(
                    key, f"Sickbay itself failed on it ({type(error).__name__}): given up"
                )
        else:
            if self._failures >= _AWAY:
                await self._tell("slack.reached")
            self._failures = 0
            self.trouble = ""
            del self._dirty[key]
            if key in self._undelivered:
                self._undelivered.discard(key)
                await self._tell("message.delivered", key)

    async def _undeliverable(self, key: str, why: str) -> None:
        if key not in self._undelivered:
            self._undelivered.add(key)
            await self._tell("message.undeliverable", key, why=why)

    async def _tell(self, kind: str, key: str = "", **data: Any) -> None:
        """Write into the timeline what people were not shown; messages go on where even that cannot be written."""
        try:
            if key:
                data |= {"message": key, **await asyncio.to_thread(subject, self._store, key)}
            await asyncio.to_thread(self._store.timeline.note, kind, **data)
        except Exception:
            log.exception("the timeline could not note %s %s", kind, key)

    async def _refused(self, key: str, one: _Dirty, error: SlackApiError) -> str:
        """Judge a refusal; return why the message cannot be shown, where that is for people to mend."""
        word = error_of(error)
        wait = wait_of(error)
        if wait is not None:
            log.info("Slack wants %s left alone for %s s", one.method, wait)
            self._pace.block(one.method, wait)
        elif word in UNCERTAIN:
            await self._rest(f"Slack answered {word or 'no JSON'}")
        elif word == "missing_scope" and one.method == "files":
            log.error("%s cannot be uploaded: the app lacks the scope files:write", key)
            del self._dirty[key]
            return "the app lacks the scope files:write"
        else:
            # A channel without the bot, a revoked token: somebody has to mend it, and then nothing is lost.
            self.trouble = f"Slack refuses {key}: {word}"
            log.error("%s; trying again every minute. `sickbay doctor` says what is missing", self.trouble)
            one.not_before = self._clock() + (1.0 if word in GONE else _PARKED)
            return "" if word in GONE else f"Slack refuses it: {word}"
        return ""

    async def _rest(self, why: str) -> None:
        self._failures += 1
        if self._failures == _AWAY:
            await self._tell("slack.unreachable", why=why, waiting=self.waiting)
        rest = min(_LONGEST_REST, 0.25 * 2.0**self._failures)
        if not self.trouble:
            log.warning("%s; %s messages wait", why, self.waiting)
        self.trouble = why
        self._pace.rest(rest)
