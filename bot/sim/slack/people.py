"""What people do in Slack: type commands, click, mention the bot, fill in modals; and what they then see.

Each deed becomes the payload Slack would send. When the app does not answer in time the person is told, as at Slack.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bot.sim.slack import chat, views
from bot.sim.slack.blocks import elements_of
from bot.sim.slack.refusals import Refused
from bot.sim.slack.socket_mode import Delivery, SocketMode
from bot.sim.slack.workspace import (
    APP_ID,
    BOT_NAME,
    BOT_USER,
    SLACKBOT,
    TEAM_DOMAIN,
    TEAM_ID,
    Json,
    Message,
    User,
    View,
    new_id,
)
from bot.sim.slack.world import ResponseUrl, World, echo

Value = str | Sequence[str] | None


class People:
    """The hands of everybody in the workspace."""

    def __init__(
        self, world: World, sockets: SocketMode, *, commands: Collection[str], events: Collection[str]
    ) -> None:
        self._world = world
        self._workspace = world.workspace
        self._sockets = sockets
        self._commands = commands
        self._events = events

    # ── typing ──
    async def slash(self, user: str, command: str, text: str, channel: str) -> Delivery:
        """Type a slash command into a channel."""
        who, where = self._workspace.user(user), self._workspace.channel(channel)
        if command not in self._commands:
            shown = f"`{command}` is not a valid command."
            self._notice(who, where, shown)
            return Delivery(acked=False, error="unknown_command", shown=shown)
        payload = {
            **self._envelope(who, where),
            "command": command,
            "text": text,
            "team_domain": TEAM_DOMAIN,
            "team_id": TEAM_ID,
            "user_id": who.id,
            "user_name": who.name,
            "channel_id": where,
            "channel_name": self._workspace.channels[where],
            "is_enterprise_install": "false",
        }
        delivery = await self._sockets.send("slash_commands", payload)
        if not delivery.acked:
            shown = f'{command} failed with the error "{delivery.error}"'
            self._notice(who, where, shown)
            return replace(delivery, shown=shown)
        if delivery.response:
            url = ResponseUrl(where, who.id, self._workspace.clock())
            try:
                chat.respond(self._world, url, delivery.response)
            except Refused as refused:
                shown = f'{command} failed with the error "{refused.error}"'
                self._notice(who, where, shown)
                return replace(delivery, error=refused.error, shown=shown)
        return delivery

    async def say(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> Delivery:
        """Write a message; the app hears of it when it is mentioned or subscribed to messages."""
        who, where = self._workspace.user(user), self._workspace.channel(channel)
        text = self._with_mentions(text)
        message = Message(where, self._workspace.new_ts(), who.id, text, thread_ts=thread_ts)
        self._workspace.add(message)
        event = {
            **{name: value for name, value in echo(message.to_json()).items() if name != "type"},
            "client_msg_id": new_id("M"),
            "team": TEAM_ID,
            "channel": where,
            "event_ts": message.ts,
        }
        deliveries = []
        if "message" in self._events:
            deliveries.append(await self._event({"type": "message", "channel_type": "channel", **event}))
        if "app_mention" in self._events and f"<@{BOT_USER}>" in text:
            deliveries.append(await self._event({"type": "app_mention", **event}))
        last = deliveries[-1] if deliveries else Delivery(acked=True)
        return replace(last, ts=message.ts)

    async def mention(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> Delivery:
        """Write a message to the bot."""
        return await self.say(user, channel, f"<@{BOT_USER}> {text}", thread_ts)

    def _with_mentions(self, text: str) -> str:
        names = {one.name: one.id for one in self._workspace.users.values()} | {BOT_NAME: BOT_USER}
        text = re.sub(
            r"(?<![\w<])@(\w+)",
            lambda found: f"<@{names[found[1]]}>" if found[1] in names else found[0],
            text,
        )
        return str(echo({"text": text})["text"])

    async def _event(self, event: Json) -> Delivery:
        authorization = {"team_id": TEAM_ID, "user_id": BOT_USER, "is_bot": True, "enterprise_id": None}
        return await self._sockets.send_event(
            {
                "token": "verification",
                "team_id": TEAM_ID,
                "api_app_id": APP_ID,
                "event": event,
                "type": "event_callback",
                "event_id": new_id("Ev"),
                "event_time": int(self._workspace.clock()),
                "authorizations": [{**authorization, "is_enterprise_install": False}],
                "is_ext_shared_channel": False,
                "event_context": new_id("EC"),
            }
        )

    # ── clicking ──
    async def click(self, user: str, channel: str, ts: str, action_id: str, value: Value = None) -> Delivery:
        """Click a button or choose in a menu of a message, also of one that only this person sees."""
        who, where = self._workspace.user(user), self._workspace.channel(channel)
        message = self._workspace.find(where, ts) or self._workspace.whisper(ts)
        if message is None:
            return Delivery(acked=False, error="message_not_found", shown="This message is gone.")
        found = message.element(action_id, value if isinstance(value, str) else None)
        if found is None:
            known = ", ".join(message.actions) or "none"
            raise KeyError(
                f"no action {action_id!r} (value {value!r}) on message {ts}; its actions are: {known}"
            )
        block, element = found
        container = {
            "type": "message",
            "message_ts": ts,
            "channel_id": where,
            "is_ephemeral": message.ephemeral_to is not None,
            **({"thread_ts": message.thread_ts} if message.thread_ts else {}),
        }
        state = {
            one["block_id"]: {
                element["action_id"]: state_of(element, None)
                for element in elements_of(one)
                if element["type"] not in {"button", "overflow"}
            }
            for one in message.all_blocks
        }
        if element["type"] not in {"button", "overflow"}:
            state[block["block_id"]][element["action_id"]] = state_of(element, value)
        payload = {
            "type": "block_actions",
            **self._interaction(who, where, message),
            "container": container,
            "channel": {"id": where, "name": self._workspace.channels[where]},
            "message": echo(message.to_json()),
            "state": {"values": {name: inner for name, inner in state.items() if inner}},
            "actions": [self._action(block, element, value)],
        }
        return self._told(await self._sockets.send("interactive", payload))

    async def click_in_view(self, user: str, action_id: str, value: Value = None) -> Delivery:
        """Click or choose in the modal that a person sees."""
        who = self._workspace.user(user)
        view = self._top_view(who)
        for block in view.content["blocks"]:
            for element in elements_of(block):
                if element["action_id"] == action_id:
                    payload = {
                        "type": "block_actions",
                        **self._interaction(who),
                        "container": {"type": "view", "view_id": view.id},
                        "view": view.to_json(),
                        "actions": [self._action(block, element, value)],
                    }
                    return self._told(await self._sockets.send("interactive", payload))
        raise KeyError(f"no action {action_id!r} in the modal of {who.name}")

    def _action(self, block: Json, element: Json, value: Value) -> Json:
        more = {"value": element["value"]} if "value" in element else state_of(element, value)
        kept = {name: inner for name, inner in element.items() if name in {"type", "action_id", "text"}}
        return {**kept, **more, "block_id": block["block_id"], "action_ts": self._workspace.new_ts()}

    @staticmethod
    def _told(delivery: Delivery) -> Delivery:
        if delivery.acked:
            return delivery
        return replace(delivery, shown=f"That did not work: {BOT_NAME} did not answer ({delivery.error}).")

    # ── modals ──
    async def submit_view(
        self, user: str, values: Mapping[str, Value] | None = None, *, view_id: str | None = None
    ) -> Delivery:
        """Submit the modal a person sees; values are keyed by action id or block id, the rest is as it was."""
        who = self._workspace.user(user)
        view = views.find_view(self._world, view_id) if view_id else self._top_view(who)
        given = values or {}
        state: dict[str, Json] = {}
        for block in view.content["blocks"]:
            if block["type"] != "input":
                continue
            element, name = block["element"], block["block_id"]
            value = given.get(element["action_id"], given.get(name))
            filled = state_of(element, value)
            missing = not (
                filled.get("value") or filled.get("selected_option") or filled.get("selected_options")
            )
            if missing and not block.get("optional"):
                return Delivery(
                    acked=False, error="missing_input", shown=f"{block['label']['text']}: required"
                )
            state[name] = {element["action_id"]: filled}
        payload = {
            "type": "view_submission",
            **self._interaction(who),
            "view": {**view.to_json(), "state": {"values": state}},
            "response_urls": [],
        }
        delivery = await self._sockets.send("interactive", payload)
        if not delivery.acked:
            return replace(delivery, shown="We had some trouble connecting. Try again?")
        return self._after_submit(view, delivery)

    def _after_submit(self, view: View, delivery: Delivery) -> Delivery:
        answer = delivery.response or {}
        action = answer.get("response_action")
        try:
            if action == "errors":
                return replace(delivery, shown="\n".join(map(str, answer["errors"].values())))
            if action == "update":
                views.replace_view(self._world, view, views.content_of_view(answer.get("view")))
            elif action == "push":
                content = views.content_of_view(answer.get("view"))
                views.push_view(self._world, view.user, content, on_top=True)
            else:
                self._close(view, everything=action == "clear")
        except Refused as refused:
            return replace(delivery, error=refused.error, shown="We had some trouble connecting. Try again?")
        return delivery

    async def close_view(self, user: str) -> Delivery:
        """Close the modal a person sees."""
        who = self._workspace.user(user)
        view = self._top_view(who)
        self._close(view, everything=False)
        if not view.content.get("notify_on_close"):
            return Delivery(acked=True)
        payload = {
            "type": "view_closed",
            **self._interaction(who),
            "view": view.to_json(),
            "is_cleared": False,
        }
        return await self._sockets.send("interactive", payload)

    def _top_view(self, who: User) -> View:
        stack = self._workspace.views.get(who.id)
        if not stack:
            raise KeyError(f"{who.name} has no modal open")
        return stack[-1]

    def _close(self, view: View, *, everything: bool) -> None:
        stack = [] if everything else [one for one in self._workspace.views[view.user] if one.id != view.id]
        self._workspace.views[view.user] = stack
        self._workspace.publish_views(view.user)

    # ── payloads ──
    def _envelope(self, who: User, channel: str | None, message: Message | None = None) -> Json:
        found: Json = {
            "token": "verification",
            "api_app_id": APP_ID,
            "trigger_id": self._world.new_trigger(who.id),
        }
        if channel:
            thread_ts = message.thread_ts if message else None
            url = ResponseUrl(
                channel, who.id, self._workspace.clock(), thread_ts, message.ts if message else None
            )
            found["response_url"] = self._world.new_response_url(url)
        return found

    def _interaction(self, who: User, channel: str | None = None, message: Message | None = None) -> Json:
        return {
            **self._envelope(who, channel, message),
            "user": {"id": who.id, "username": who.name, "name": who.name, "team_id": who.team},
            "team": {"id": TEAM_ID, "domain": TEAM_DOMAIN},
            "enterprise": None,
            "is_enterprise_install": False,
        }

    def _notice(self, who: User, channel: str, text: str) -> None:
        self._workspace.add(Message(channel, self._workspace.new_ts(), SLACKBOT, text, ephemeral_to=who.id))


def state_of(element: Json, value: Value) -> Json:
    """Return what an element holds once a value was entered or chosen; without one, its initial value."""
    kind = element["type"]
    if kind == "button":
        return {"type": kind}
    if kind == "plain_text_input":
        return {"type": kind, "value": element.get("initial_value") if value is None else str(value) or None}
    groups: list[Any] = element.get("option_groups") or []
    options = [*element.get("options", []), *(one for group in groups for one in group["options"])]
    known = {one["value"]: one for one in options}
    if kind == "checkboxes":
        chosen = [value] if isinstance(value, str) else value
        initial = element.get("initial_options", [])
        return {
            "type": kind,
            "selected_options": initial if chosen is None else [known[one] for one in chosen],
        }
    option = element.get("initial_option") if value is None else known[str(value)]
    return {"type": kind, "selected_option": option}
