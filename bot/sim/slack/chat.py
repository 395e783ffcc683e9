"""`chat.*`, `reactions.add` and answers to response URLs: the messages an app writes."""

from dataclasses import replace
from typing import Any

from bot.sim.slack.blocks import faults_of_attachments, faults_of_blocks, length_of
from bot.sim.slack.refusals import Refused
from bot.sim.slack.workspace import BOT_USER, Json, Message
from bot.sim.slack.world import Method, ResponseUrl, World, echo
from bot.slack import limits


def content_of(args: Json) -> dict[str, Any]:
    """Return the fields of a message that a call gives, or refuse what Slack would refuse."""
    found: dict[str, Any] = {}
    if args.get("text") is not None:
        found["text"] = str(args["text"])[: limits.POST_TEXT]
    blocks, attachments = args.get("blocks"), args.get("attachments")
    if blocks is not None:
        if faults := faults_of_blocks(blocks):
            raise Refused("invalid_blocks", response_metadata={"messages": faults})
        found["blocks"] = blocks
    if attachments is not None:
        if faults := faults_of_attachments(attachments):
            raise Refused("invalid_attachments", response_metadata={"messages": faults})
        found["attachments"] = attachments
    if length_of([blocks, attachments]) > limits.TEXT_PER_MESSAGE:
        raise Refused("msg_blocks_too_long")
    metadata = args.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, dict) or set(metadata) != {"event_type", "event_payload"}:
            raise Refused("invalid_metadata_format")
        found["metadata"] = metadata
    return found


def require_content(found: dict[str, Any]) -> None:
    """Refuse a message with nothing in it."""
    if not any(found.get(name) for name in ("text", "blocks", "attachments")):
        raise Refused("no_text")


def thread_of(world: World, args: Json, channel: str) -> str | None:
    """Return the root a call wants to reply under, or refuse one that is none."""
    thread_ts = args.get("thread_ts")
    if not thread_ts:
        return None
    root = world.workspace.find(channel, str(thread_ts))
    if root is None:
        raise Refused("thread_not_found")
    if root.is_reply:
        raise Refused("cannot_reply_to_message")
    return root.ts


def _post(world: World, args: Json) -> Json:
    channel = world.channel(args)
    if channel not in world.workspace.joined:
        raise Refused("not_in_channel")
    found = content_of(args)
    require_content(found)
    thread_ts = thread_of(world, args, channel)
    ts = world.workspace.new_ts()
    message = world.workspace.add(Message(channel, ts, BOT_USER, thread_ts=thread_ts, **found))
    return {"channel": channel, "ts": ts, "message": echo(message.to_json())}


def _post_ephemeral(world: World, args: Json) -> Json:
    channel = world.channel(args)
    if args.get("user") not in world.workspace.users:
        raise Refused("user_not_in_channel")
    found = content_of(args)
    require_content(found)
    thread_ts = thread_of(world, args, channel)
    ts = world.workspace.new_ts()
    world.workspace.add(
        Message(channel, ts, BOT_USER, thread_ts=thread_ts, ephemeral_to=args["user"], **found)
    )
    return {"message_ts": ts}


def _own_message(world: World, args: Json, refusal: str) -> Message:
    message = world.workspace.find(world.channel(args), str(args.get("ts")))
    if message is None:
        raise Refused("message_not_found")
    if not message.is_bot:
        raise Refused(refusal)
    return message


def _update(world: World, args: Json) -> Json:
    message = _own_message(world, args, "cant_update_message")
    if len(str(args.get("text") or "")) > limits.UPDATE_TEXT:
        raise Refused("msg_too_long")
    found = content_of(args)
    if not found:
        raise Refused("no_text")
    edited_ts = world.workspace.new_ts()
    message = world.workspace.add(replace(message, edited_ts=edited_ts, **found))
    return {
        "channel": message.channel,
        "ts": message.ts,
        "text": message.text,
        "message": echo(message.to_json()),
    }


def _delete(world: World, args: Json) -> Json:
    message = _own_message(world, args, "cant_delete_message")
    world.workspace.remove(message)
    return {"channel": message.channel, "ts": message.ts}


def _permalink(world: World, args: Json) -> Json:
    channel, ts = world.channel(args), str(args.get("message_ts"))
    if world.workspace.find(channel, ts) is None:
        raise Refused("message_not_found")
    return {"channel": channel, "permalink": f"{world.http_url}/archives/{channel}/p{ts.replace('.', '')}"}


def _react(world: World, args: Json) -> Json:
    message = world.workspace.find(world.channel(args), str(args.get("timestamp")))
    if message is None:
        raise Refused("message_not_found")
    reaction = (str(args.get("name")).strip(":"), BOT_USER)
    if reaction in message.reactions:
        raise Refused("already_reacted")
    world.workspace.add(replace(message, reactions=(*message.reactions, reaction)))
    return {}


def respond(world: World, url: ResponseUrl, args: Json) -> None:
    """Do what an app posted to a response URL: answer, replace or delete the message it came from."""
    workspace = world.workspace
    source = None
    if url.source_ts:
        source = workspace.find(url.channel, url.source_ts) or workspace.whisper(url.source_ts)
    if args.get("delete_original") and source is not None:
        workspace.remove(source)
        return
    found = content_of(args)
    require_content(found)
    if args.get("replace_original") and source is not None:
        whole: dict[str, Any] = {"text": "", "blocks": [], "attachments": [], **found}
        workspace.add(replace(source, edited_ts=workspace.new_ts(), **whole))
        return
    to_all = args.get("response_type") == "in_channel"
    thread_ts = args.get("thread_ts") or url.thread_ts
    workspace.add(
        Message(
            url.channel,
            workspace.new_ts(),
            BOT_USER,
            thread_ts=thread_ts,
            ephemeral_to=None if to_all else url.user,
            **found,
        )
    )


METHODS = {
    "chat.postMessage": Method(_post, "chat:write"),
    "chat.postEphemeral": Method(_post_ephemeral, "chat:write", tier=4),
    "chat.update": Method(_update, "chat:write"),
    "chat.delete": Method(_delete, "chat:write"),
    "chat.getPermalink": Method(_permalink, None, tier=4),
    "reactions.add": Method(_react, "reactions:write"),
}
