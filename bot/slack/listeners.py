"""What people do in Slack, carried to the desk: the slash command, mentions of the bot, clicks on buttons.

The effect is stored first and acknowledged after, both well within Slack's three seconds; the work itself is done by
others. No listener ever raises: slack-bolt loses the acknowledgement when one does, and the person sees nothing. What
goes wrong is told to the person with a reference that stands in the log.

A click is taken for what it says only as far as it fits: its message has to be the one that shows this button for this
run, its digest is compared below, a click that was taken once is not taken again, and who clicked has to be of our
workspace.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext, AsyncRespond
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.commands.grammar import Cancel, Check, Command, Decide
from bot.commands.verbs import Asker, Commands, Reply
from bot.messages import DIGEST, Mask, mishap_card, refusal
from bot.messages.card import Action
from bot.slack.blocks import content
from bot.store import Store

log = logging.getLogger(__name__)

COMMAND = "/sickbay"
EVENTS = ("app_mention",)
ACTIONS: tuple[Action, ...] = ("approve", "deny", "cancel", "check")
_ACK_BY = 2.5
"""Seconds after which Slack is told that we heard, even if the database is still busy."""
_SHOWN: Mapping[str, str] = {"approve": "approval", "deny": "approval", "cancel": "run", "check": "incident"}
"""The kind of message that each button stands on."""
_NUMBER = re.compile(r"[0-9]{1,9}")

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer can be given."""

    channel: str
    user: str
    thread: str | None = None


@dataclass(frozen=True, slots=True)
class _Click:
    """A button that somebody clicked, and the message it was clicked on."""

    action: str
    value: str
    channel: str
    ts: str


class Listeners:
    """Registers with a slack-bolt app; knows the desk and nothing of runs."""

    def __init__(
        self, commands: Commands, store: Store, client: AsyncWebClient, mask: Mask, team: str = ""
    ) -> None:
        """`team` is the id of our workspace, if it is known yet."""
        self._team = team
        self._commands = commands
        self._store = store
        self._client = client
        self._mask = mask
        self._names: dict[str, str] = {}

    def register(self, app: AsyncApp) -> None:
        """Listen to everything that the manifest asks Slack to send."""
        app.command(COMMAND)(self._slash)
        app.event("app_mention", middleware=[self._mentioned])(self._answer_mention)
        for action in ACTIONS:
            app.action(action)(self._click)

    # ── typing ──
    async def _slash(self, ack: AsyncAck, body: Body, respond: AsyncRespond) -> None:
        await self._safely(self._typed(ack, body, respond))

    async def _typed(self, ack: AsyncAck, body: Body, respond: AsyncRespond) -> None:
        place = _Place(body["channel_id"], body["user_id"])

        def asker() -> Asker:
            foreign = self._foreign(body.get("team_id"))
            name, delivery = body.get("user_name", ""), body.get("trigger_id", "")
            return self._asker(body["user_id"], name, place, delivery, foreign=foreign)

        reply = await self._do(lambda: self._commands.do(str(body.get("text") or ""), asker()), ack)
        if not reply.runs:  # a run shows itself in the channel
            await self._whisper(reply, place, respond)

    async def _mentioned(
        self,
        body: Body,
        context: AsyncBoltContext,
        next: Callable[[], Awaitable[Any]],  # noqa: A002
    ) -> Any:
        """Do what a mention says before slack-bolt acknowledges the event, which it does ahead of its listener."""
        await self._safely(self._heard(body, context))
        return await next()

    async def _heard(self, body: Body, context: AsyncBoltContext) -> None:
        event = body["event"]
        if "user" not in event or "bot_id" in event:
            return  # bots that talk to bots never stop
        text = str(event.get("text") or "").replace(f"<@{context.bot_user_id}>", " ", 1)
        thread = str(event.get("thread_ts") or event["ts"])
        place = _Place(event["channel"], event["user"], thread)
        name = await self._name_of(event["user"])
        teams = (body.get("team_id"), event.get("user_team"), event.get("source_team"))
        delivery = str(body.get("event_id") or "")

        def asker() -> Asker:
            return self._asker(event["user"], name, place, delivery, foreign=self._foreign(*teams))

        context["place"] = place
        context["reply"] = await self._do(lambda: self._commands.do(text, asker()))

    async def _answer_mention(self, context: AsyncBoltContext, body: Body) -> None:
        if "reply" in context:
            await self._safely(self._answered(context, body))

    async def _answered(self, context: AsyncBoltContext, body: Body) -> None:
        reply: Reply = context["reply"]
        place: _Place = context["place"]
        new = await self._first_time(f"answered/{body.get('event_id')}")
        if reply.runs or not new:
            return
        card = content(self._mask.over(reply.card))
        await self._client.chat_postMessage(channel=place.channel, thread_ts=place.thread, **card.arguments())

    # ── clicking ──
    async def _click(self, ack: AsyncAck, body: Body, respond: AsyncRespond) -> None:
        await self._safely(self._clicked(ack, body, respond))

    async def _clicked(self, ack: AsyncAck, body: Body, respond: AsyncRespond) -> None:
        action = body["actions"][0]
        container = body.get("container") or {}
        channel = str((body.get("channel") or {}).get("id") or container.get("channel_id") or "")
        thread = container.get("thread_ts") or container.get("message_ts")
        user = body["user"]
        place = _Place(channel, user["id"], thread)
        name = user.get("username") or user.get("name") or ""
        trigger, at = body.get("trigger_id"), action.get("action_ts")
        delivery = f"{trigger}/{at}"
        foreign = self._foreign((body.get("team") or {}).get("id"), user.get("team_id"))
        click = _Click(
            str(action["action_id"]).partition(":")[0] if trigger and at else "",  # a click always has both
            str(action.get("value") or ""),
            channel,
            str(container.get("message_ts") or ""),
        )

        def act() -> Reply:
            return self._act(click, self._asker(user["id"], name, place, delivery, foreign=foreign))

        reply = await self._do(act, ack)
        new = await self._first_time(f"answered/slack/{delivery}")
        if not reply.ok and new:  # what counted is seen in the message itself
            await self._whisper(reply, place, respond, thread_first=True)

    def _act(self, click: _Click, asker: Asker) -> Reply:
        command = self._command_of(click)
        if command is None:
            return Reply(
                refusal("This button no longer means anything.", "Look for a newer message."), ok=False
            )
        return self._commands.do(command, asker)

    def _command_of(self, click: _Click) -> Command | None:
        number, _, digest = click.value.partition(":")
        if not _NUMBER.fullmatch(number) or not self._stands(click, number):
            return None
        match click.action:
            case "approve" if len(digest) == DIGEST:
                return Decide(int(number), "approve", digest)
            case "deny" if len(digest) == DIGEST:
                return Decide(int(number), "deny", digest)
            case "cancel":
                return Cancel(int(number))
            case "check":
                incident = self._store.incidents.get(int(number))
                return Check(incident.host) if incident is not None and incident.host else None
        return None

    def _stands(self, click: _Click, number: str) -> bool:
        """Is the message that was clicked the one on which this button stands for this run?

        Between posting a message and noting where it is, nobody knows; the digest is compared all the same.
        """
        key = f"{_SHOWN.get(click.action)}:{int(number)}"
        known = (self._store.timeline.place(key) or {}).get("state") == "posted"
        there = self._store.timeline.posted_at(
            click.channel, click.ts
        )  # asked last: it may be noted right now
        return there == key if there is not None else not known

    # ── both ──
    def _foreign(self, *teams: str | None) -> bool:
        """Does what Slack sent name another workspace than ours, or two?"""
        named = {team for team in (self._team, *teams) if team}
        return len(named) > 1

    def _asker(self, user: str, name: str, place: _Place, delivery: str, *, foreign: bool) -> Asker:
        """Return who it is; may read the configuration anew, so it is asked in a thread."""
        person = self._commands.person_of(user)
        called = person.name if person is not None else name or user
        key = f"slack/{delivery}" if delivery else ""
        return Asker(called, person, "slack", place.channel, place.thread, key, slack=user, foreign=foreign)

    async def _safely(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            log.exception("what somebody did in Slack could not be answered")

    async def _do(self, work: Callable[[], Reply], ack: AsyncAck | None = None) -> Reply:
        """Do the work in a thread; acknowledge when it is stored, or when Slack would wait no longer."""
        task = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.wait({task}, timeout=_ACK_BY)
        try:
            if ack is not None:
                await ack()
            return await task
        except Exception:
            reference = secrets.token_hex(4)
            log.exception("[%s] what somebody asked in Slack went wrong", reference)
            return Reply(mishap_card(reference), ok=False)

    async def _whisper(
        self, reply: Reply, place: _Place, respond: AsyncRespond, *, thread_first: bool = False
    ) -> None:
        """Answer so that only this person sees it; by another way when the first is closed."""
        card = content(self._mask.over(reply.card))

        async def by_response_url() -> bool:
            answer = await respond(
                text=card.text, blocks=card.blocks, response_type="ephemeral", replace_original=False
            )
            return bool(answer.status_code == 200)

        async def in_the_thread() -> bool:
            await self._client.chat_postEphemeral(
                channel=place.channel,
                user=place.user,
                thread_ts=place.thread,
                text=card.text,
                blocks=card.blocks,
            )
            return True

        ways = [in_the_thread, by_response_url] if thread_first else [by_response_url, in_the_thread]
        for way in ways:
            try:
                if await way():
                    return
            except Exception as error:  # noqa: BLE001 - the other way may work
                log.warning("an answer to %s in %s failed: %s", place.user, place.channel, error)
        log.error("%s was not told: %s", place.user, card.text)

    async def _first_time(self, key: str) -> bool:
        try:
            return await asyncio.to_thread(self._store.timeline.first_time, key)
        except Exception:
            log.exception("the database could not note %s", key)
            return True

    async def _name_of(self, user: str) -> str:
        """Return what a stranger is called; mentions, unlike commands, do not say."""
        if self._commands.person_of(user) is not None:
            return ""
        if user not in self._names:
            try:
                answer = await self._client.users_info(user=user)
                profile = answer["user"]
                self._names[user] = str(profile.get("name") or profile.get("real_name") or user)
            except (SlackApiError, OSError, KeyError, TimeoutError):
                return user
        return self._names[user]
