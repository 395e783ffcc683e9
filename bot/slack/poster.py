"""Brings one message up to date: posts it, edits it, or finds that nothing changed.

Before a first post its key is written down as `posting`, and the key travels in the message's metadata. After a crash
or a broken connection between the post and its note, the channel's history tells whether it arrived, so that nothing
is posted twice.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.messages import say
from bot.messages.card import Note
from bot.slack.blocks import Content, content, plain_content
from bot.slack.client import error_of
from bot.slack.drafts import Draft, Drafts, File
from bot.store import Store

log = logging.getLogger(__name__)

METADATA = "sickbay_message"
GONE = {"message_not_found", "cant_update_message", "edit_window_closed"}
REFUSED_BLOCKS = {
    "invalid_blocks",
    "invalid_attachments",
    "msg_blocks_too_long",
    "msg_too_long",
    "invalid_blocks_format",
}
NO_ENTRY = {
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "restricted_action",
    "restricted_action_thread_only_channel",
    "method_not_supported_for_channel_type",
}
UNCERTAIN = {
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
    "",
}
"""Answers after which nobody knows whether the message was posted."""
_MARGIN = 120.0
"""Seconds by which this machine's clock and Slack's may differ."""
_PAGES = 5

Place = Mapping[str, Any]
Spent = Callable[[str, str], None]


class Poster:
    """Speaks to Slack about one message at a time; raises what Slack says, for the outbox to judge."""

    def __init__(
        self,
        store: Store,
        drafts: Drafts,
        client: AsyncWebClient,
        *,
        channel: str,
        spent: Spent = lambda _key, _method: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`channel` is where messages go whose own channel takes none; `spent` hears of every call."""
        self._timeline = store.timeline
        self._drafts = drafts
        self._client = client
        self._channel = channel
        self._spent = spent
        self._clock = clock

    async def bring(self, key: str) -> None:
        """Make the message say what it should say now."""
        draft = await asyncio.to_thread(self._drafts.of, key)
        if draft is None:
            return
        place = await self.place(key)
        if place.get("state") == "posted" and await self._edited(key, place, draft):
            return
        await self._posted(key, place, draft)

    async def place(self, key: str) -> Place:
        """Return where a message is, or how far its posting came."""
        return await asyncio.to_thread(self._timeline.place, key) or {}

    async def _put(self, key: str, **place: Any) -> None:
        await asyncio.to_thread(self._timeline.put, key, place)

    # ── editing ──
    async def _edited(self, key: str, place: Place, draft: Draft) -> bool:
        """Edit a message; false when it is no longer there to be edited."""
        if draft.card is None:
            return True  # files are uploaded once
        card = replace(draft.card, nodes=(*draft.card.nodes, *_moved(place.get("meant", ""))))
        wanted = content(card)
        digest = _digest(wanted)
        if place.get("digest") == digest:
            return True

        async def update(sent: Content) -> AsyncSlackResponse:
            self._spent(key, "chat.update")
            return await self._client.chat_update(
                channel=place["channel"], ts=place["ts"], **sent.arguments()
            )

        try:
            await _with_twin(key, update, wanted, plain_content(card))
        except SlackApiError as error:
            if error_of(error) not in GONE:
                raise
            return False
        await self._put(key, **{**place, "digest": digest})
        return True

    # ── posting ──
    async def _posted(self, key: str, place: Place, draft: Draft) -> None:
        if place.get("state") == "posting" and (found := await self._find(key, place, draft)) is not None:
            await self._put(key, state="posted", **found)
            await self.bring(key)
            return
        channel, thread = await self._where(draft)
        try:
            await self._post(key, draft, channel, thread)
        except SlackApiError as error:
            word = error_of(error)
            if word == "thread_not_found" and draft.parent is not None:
                await self._put(draft.parent, state="gone")
                await self._post(key, draft, *await self._where(draft))
            elif word in NO_ENTRY and channel != self._channel:
                log.warning(
                    "%s cannot be posted in %s (%s): it goes to %s", key, channel, word, self._channel
                )
                await self._post(key, draft, self._channel, None, meant=f"{channel}: {word}")
            else:
                raise

    async def _where(self, draft: Draft) -> tuple[str, str | None]:
        """Return channel and thread, posting the message above first when it is missing."""
        if draft.parent is None:
            return draft.channel, draft.thread
        above = await self.place(draft.parent)
        if above.get("state") != "posted":
            await self.bring(draft.parent)
            above = await self.place(draft.parent)
        if above.get("state") != "posted":
            return draft.channel, draft.thread
        return str(above["channel"]), str(above["ts"])

    async def _post(self, key: str, draft: Draft, channel: str, thread: str | None, meant: str = "") -> None:
        await self._put(key, state="posting", channel=channel, thread=thread, since=self._clock())
        try:
            if draft.file is not None:
                place = await self._upload(key, draft.file, channel, thread)
            else:
                place = await self._send(key, draft, channel, thread, meant)
        except SlackApiError as error:
            if error_of(error) not in UNCERTAIN:
                await self._put(key, state="refused", error=error_of(error))
            raise
        await self._put(key, state="posted", **place)

    async def _send(self, key: str, draft: Draft, channel: str, thread: str | None, meant: str) -> Place:
        assert draft.card is not None
        card = replace(draft.card, nodes=(*draft.card.nodes, *_moved(meant)))
        metadata = {"event_type": METADATA, "event_payload": {"key": key}}
        wanted = content(card)

        async def post(sent: Content) -> AsyncSlackResponse:
            self._spent(key, "chat.postMessage")
            return await self._client.chat_postMessage(
                channel=channel,
                thread_ts=thread,
                metadata=metadata,
                unfurl_links=False,
                unfurl_media=False,
                **sent.arguments(),
            )

        answer = await _with_twin(key, post, wanted, plain_content(card))
        await self._remember_channel(channel, str(answer["channel"]))
        place = {"channel": str(answer["channel"]), "ts": str(answer["ts"]), "digest": _digest(wanted)}
        return {**place, "meant": meant} if meant else place

    async def _upload(self, key: str, file: File, channel: str, thread: str | None) -> Place:
        self._spent(key, "files")
        channel = await self._channel_id(channel)
        await self._client.files_upload_v2(
            channel=channel, thread_ts=thread, filename=file.name, title=file.title, content=file.text or "\n"
        )
        return {"channel": channel, "file": file.name}

    # ── after a crash ──
    async def _find(self, key: str, place: Place, draft: Draft) -> Place | None:
        """Look whether a post whose end nobody noted has arrived."""
        channel = await self._channel_id(str(place["channel"]))
        since = f"{float(place['since']) - _MARGIN:.6f}"
        cursor = None
        for _ in range(_PAGES):
            more: dict[str, Any] = {
                "oldest": since,
                "include_all_metadata": True,
                "limit": 100,
                "cursor": cursor,
            }
            try:
                if place.get("thread"):
                    thread = str(place["thread"])
                    answer = await self._client.conversations_replies(channel=channel, ts=thread, **more)
                else:
                    answer = await self._client.conversations_history(channel=channel, **more)
            except SlackApiError as error:
                if error_of(error) in {"missing_scope", "thread_not_found", *NO_ENTRY}:
                    log.warning("cannot look whether %s was posted: %s", key, error_of(error))
                    return None
                raise
            for message in answer.get("messages") or []:
                if _is(message, key, draft):
                    return {"channel": channel, "ts": message["ts"], "digest": ""}
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return None
        return None

    async def _remember_channel(self, called: str, channel_id: str) -> None:
        key = f"channel:{called}"
        if called != channel_id and not await self.place(key):
            await self._put(key, id=channel_id)

    async def _channel_id(self, called: str) -> str:
        """Return the id of a channel that the configuration calls by its name."""
        if called[:1] in "CGD" and called.isalnum() and called.isupper():
            return called
        if known := await self.place(f"channel:{called}"):
            return str(known["id"])
        cursor = None
        for _ in range(_PAGES):
            answer = await self._client.conversations_list(
                exclude_archived=True, types="public_channel,private_channel", limit=1000, cursor=cursor
            )
            for channel in answer.get("channels") or []:
                if channel["name"] == called.removeprefix("#"):
                    await self._remember_channel(called, channel["id"])
                    return str(channel["id"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                break
        return called


async def _with_twin(
    key: str, send: Callable[[Content], Awaitable[AsyncSlackResponse]], wanted: Content, twin: Content
) -> AsyncSlackResponse:
    """Send the blocks, or the bare text when Slack refuses them: a plain message beats none."""
    try:
        return await send(wanted)
    except SlackApiError as error:
        if error_of(error) not in REFUSED_BLOCKS:
            raise
        log.exception("Slack refused the blocks of %s, sending bare text: %s", key, error.response.data)
        return await send(twin)


def _moved(meant: str) -> tuple[Note, ...]:
    return (Note(say("slack.meant", where=meant)),) if meant else ()


def _is(message: Mapping[str, Any], key: str, draft: Draft) -> bool:
    if draft.file is not None:
        return any(file.get("name") == draft.file.name for file in message.get("files") or [])
    payload = (message.get("metadata") or {}).get("event_payload") or {}
    return bool(payload.get("key") == key)


def _digest(sent: Content) -> str:
    text = json.dumps(sent.arguments(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
