"""What is in the pretend workspace: people, channels, messages, files and open modals.

Pure state with no network. Messages are frozen values that are replaced on edit, so that a test in another thread
may keep one. Every change is published to whoever subscribed: the page's event streams and `wait_for`.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bot.sim.slack.blocks import elements_of, texts_of

Json = dict[str, Any]

BOT_USER = "U0SICKBAY"
BOT_ID = "B0SICKBAY"
BOT_NAME = "sickbay"
APP_ID = "A0SICKBAY"
SLACKBOT = "USLACKBOT"
TEAM_ID = "T0PRETEND"
TEAM_DOMAIN = "pretend"


@dataclass(frozen=True, slots=True)
class User:
    """A person who can be played on the page; the role is only for show."""

    id: str
    name: str
    role: str = ""
    team: str = TEAM_ID
    """Another one: they come in through a channel that is shared between workspaces."""

    @property
    def email(self) -> str:
        """Address for users.lookupByEmail."""
        return f"{self.name}@example.com"


DEFAULT_USERS = (
    User("U0ALICE", "alice", "on call"),
    User("U0BOB", "bob", "on call"),
    User("U0MALLORY", "mallory", "visitor"),
)


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file; shown in a message once its upload is completed."""

    id: str
    name: str
    title: str
    content: bytes
    shared: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether it is a PNG, the only picture that charts are uploaded as."""
        return self.content.startswith(b"\x89PNG\r\n")

    @property
    def text(self) -> str:
        """The content as a reader sees it."""
        return self.content.decode("utf-8", "replace")

    def to_json(self) -> Json:
        """Return the file as the Web API and the page show it."""
        preview = "" if self.is_picture else "\n".join(self.text.splitlines()[:5])[:600]
        return {
            "id": self.id,
            "name": self.name,
            "title": self.title,
            "mimetype": "image/png" if self.is_picture else "text/plain",
            "filetype": "png" if self.is_picture else "text",
            "size": len(self.content),
            "url_private": f"/files/{self.id}",
            "preview": preview,
        }


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was sent; an ephemeral one names the only user who sees it."""

    channel: str
    ts: str
    user: str
    text: str = ""
    blocks: list[Json] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)
    thread_ts: str | None = None
    metadata: Json | None = None
    files: tuple[File, ...] = ()
    reactions: tuple[tuple[str, str], ...] = ()
    edited_ts: str | None = None
    ephemeral_to: str | None = None

    @property
    def is_bot(self) -> bool:
        """Whether the app wrote it."""
        return self.user == BOT_USER

    @property
    def is_reply(self) -> bool:
        """Whether it belongs under another message."""
        return self.thread_ts is not None and self.thread_ts != self.ts

    @property
    def all_blocks(self) -> list[Json]:
        """Blocks of the message and of its attachments."""
        return [
            *self.blocks,
            *itertools.chain.from_iterable(one.get("blocks", []) for one in self.attachments),
        ]

    @property
    def words(self) -> str:
        """Everything a reader sees, one text a line; Slack shows `text` only when there are no blocks."""
        own = texts_of(self.blocks) if self.blocks else [self.text]
        return "\n".join([*own, *texts_of([one.get("blocks") for one in self.attachments])])

    @property
    def actions(self) -> list[str]:
        """Ids of the buttons and menus on it."""
        return [one["action_id"] for block in self.all_blocks for one in elements_of(block)]

    def element(self, action_id: str, value: str | None = None) -> tuple[Json, Json] | None:
        """Find the block and element of an action; a button's value tells equal action ids apart."""
        for block in self.all_blocks:
            for one in elements_of(block):
                matches = one["type"] != "button" or value is None or one.get("value") == value
                if one["action_id"] == action_id and matches:
                    return block, one
        return None

    def to_json(self) -> Json:
        """Return the message as the Web API and the page show it."""
        found: Json = {"type": "message", "user": self.user, "ts": self.ts, "text": self.text}
        if self.is_bot:
            found |= {"bot_id": BOT_ID, "app_id": APP_ID, "team": TEAM_ID}
            found["bot_profile"] = {"id": BOT_ID, "app_id": APP_ID, "name": BOT_NAME, "team_id": TEAM_ID}
        for name in ("blocks", "attachments", "thread_ts", "metadata"):
            if value := getattr(self, name):
                found[name] = value
        if self.files:
            found["files"] = [one.to_json() for one in self.files]
        if self.edited_ts:
            found["edited"] = {"user": self.user, "ts": self.edited_ts}
        if self.reactions:
            names = dict.fromkeys(name for name, _ in self.reactions)
            found["reactions"] = [
                {"name": name, "users": [who for one, who in self.reactions if one == name]} for name in names
            ]
        return found


@dataclass(frozen=True, slots=True)
class View:
    """An open modal of one person; the last of a stack is the one seen."""

    id: str
    user: str
    root_id: str
    content: Json
    hash: str
    previous_id: str | None = None

    def to_json(self) -> Json:
        """Return the view as payloads and the page show it."""
        return {
            "id": self.id,
            "team_id": TEAM_ID,
            "app_id": APP_ID,
            "bot_id": BOT_ID,
            "hash": self.hash,
            "root_view_id": self.root_id,
            "previous_view_id": self.previous_id,
            "private_metadata": "",
            "callback_id": "",
            "external_id": "",
            "state": {"values": {}},
            **self.content,
        }


class Workspace:
    """The state, the ids it hands out and the changes it publishes."""

    def __init__(self, users: Sequence[User], channels: Sequence[str], clock: Callable[[], float]) -> None:
        self.clock = clock
        self.users = {one.id: one for one in users}
        self.channels = {f"C0{name.upper().replace('-', '')}": name for name in channels}
        self.joined = set(self.channels)
        """Channels that the bot is in."""
        self.files: dict[str, File] = {}
        self.views: dict[str, list[View]] = {}
        self._messages: dict[str, dict[str, Message]] = {channel: {} for channel in self.channels}
        self._whispers: list[Message] = []
        self._last_ts = 0.0
        self._subscribers: set[asyncio.Queue[Json]] = set()

    # ── names ──
    def user(self, name: str) -> User:
        """Find a person by id or name; the caller is test or page code, so a wrong name is a KeyError."""
        for one in self.users.values():
            if name in {one.id, one.name}:
                return one
        raise KeyError(
            f"no user {name!r} in the pretend Slack; there are {[u.name for u in self.users.values()]}"
        )

    def channel(self, name: str) -> str:
        """Find a channel's id by id or name."""
        for channel, known in self.channels.items():
            if name.removeprefix("#") in {channel, known}:
                return channel
        raise KeyError(f"no channel {name!r} in the pretend Slack; there are {list(self.channels.values())}")

    def new_ts(self) -> str:
        """Return the next message id: the time in microseconds, never the same twice."""
        self._last_ts = max(round(self.clock(), 6), round(self._last_ts + 0.000001, 6))
        return f"{self._last_ts:.6f}"

    # ── messages ──
    def add(self, message: Message) -> Message:
        """Store a message with ids on every block and element, as Slack assigns them, and publish it."""
        message = replace(
            message, blocks=_with_ids(message.blocks), attachments=_attachments_with_ids(message.attachments)
        )
        if message.ephemeral_to:
            known = [i for i, one in enumerate(self._whispers) if one.ts == message.ts]
            if known:
                self._whispers[known[0]] = message
            else:
                self._whispers.append(message)
        else:
            self._messages[message.channel][message.ts] = message
        self._publish_message(message)
        return message

    def find(self, channel: str, ts: str) -> Message | None:
        """Find a message everybody sees."""
        return self._messages.get(channel, {}).get(ts)

    def whisper(self, ts: str) -> Message | None:
        """Find an ephemeral message."""
        return next((one for one in self._whispers if one.ts == ts), None)

    def remove(self, message: Message) -> None:
        """Take a message away."""
        if message.ephemeral_to:
            self._whispers = [one for one in self._whispers if one.ts != message.ts]
        else:
            del self._messages[message.channel][message.ts]
        self.publish(
            {
                "kind": "deleted",
                "channel": message.channel,
                "ts": message.ts,
                "for": message.ephemeral_to,
            }
        )
        self._publish_parent(message)

    def roots(self, channel: str) -> list[Message]:
        """Return the messages of a channel that are not replies, oldest first."""
        return [one for one in self._messages[channel].values() if not one.is_reply]

    def replies(self, channel: str, ts: str) -> list[Message]:
        """Return the replies under a message, oldest first."""
        return [one for one in self._messages[channel].values() if one.thread_ts == ts and one.ts != ts]

    def whispers(self, user: str) -> list[Message]:
        """Return the ephemeral messages of a person, oldest first."""
        return [one for one in self._whispers if one.ephemeral_to == user]

    def show(self, message: Message) -> Json:
        """Return a message with what is known about its thread, for the page and the Web API."""
        found = {**message.to_json(), "channel": message.channel}
        if message.ephemeral_to:
            found["ephemeral_to"] = message.ephemeral_to
        elif not message.is_reply and (replies := self.replies(message.channel, message.ts)):
            found |= {
                "thread_ts": message.ts,
                "reply_count": len(replies),
                "reply_users": list(dict.fromkeys(one.user for one in replies)),
                "latest_reply": replies[-1].ts,
            }
        return found

    # ── changes ──
    def subscribe(self) -> asyncio.Queue[Json]:
        """Open a queue that gets every change from now on; close it with `unsubscribe`."""
        queue: asyncio.Queue[Json] = asyncio.Queue()
        self._subscribers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Json]) -> None:
        """Close a queue of changes."""
        self._subscribers.discard(queue)

    def publish(self, change: Mapping[str, Any]) -> None:
        """Tell every subscriber about a change."""
        for queue in self._subscribers:
            queue.put_nowait(dict(change))

    def publish_views(self, user: str) -> None:
        """Tell the page which modal a person sees now."""
        stack = self.views.get(user, [])
        self.publish({"kind": "view", "for": user, "view": stack[-1].to_json() if stack else None})

    def _publish_message(self, message: Message) -> None:
        self.publish({"kind": "message", "for": message.ephemeral_to, "message": self.show(message)})
        self._publish_parent(message)

    def _publish_parent(self, message: Message) -> None:
        if message.is_reply and not message.ephemeral_to and message.thread_ts:
            parent = self.find(message.channel, message.thread_ts)
            if parent:
                self.publish({"kind": "message", "for": None, "message": self.show(parent)})


def new_id(prefix: str) -> str:
    """Return an id that looks like Slack's."""
    return prefix + secrets.token_hex(5).upper()


def _with_ids(blocks: Iterable[Json]) -> list[Json]:
    named = []
    for block in blocks:
        new = {"block_id": secrets.token_urlsafe(4), **block}
        for slot in ("elements", "accessory", "element"):
            if slot in new and block["type"] in {"actions", "section", "input"}:
                inner = new[slot]
                new[slot] = [_named(one) for one in inner] if isinstance(inner, list) else _named(inner)
        named.append(new)
    return named


def _named(element: Json) -> Json:
    return element if element["type"] == "image" else {"action_id": secrets.token_urlsafe(4), **element}


def _attachments_with_ids(attachments: Iterable[Json]) -> list[Json]:
    return [
        {"id": index, **one, "blocks": _with_ids(one.get("blocks", []))}
        for index, one in enumerate(attachments, start=1)
    ]


def view_content(content: Json) -> Json:
    """Return a modal with ids on every block and element."""
    return {**content, "blocks": _with_ids(content["blocks"])}
