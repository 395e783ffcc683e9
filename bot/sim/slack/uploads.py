"""`files.*`: a file comes in three steps: ask for an address, send the bytes there, say where to show it."""

from dataclasses import replace

from bot.sim.slack.chat import content_of, thread_of
from bot.sim.slack.refusals import Refused
from bot.sim.slack.workspace import BOT_USER, File, Json, Message, new_id
from bot.sim.slack.world import Method, World


def _upload_url(world: World, args: Json) -> Json:
    if not args.get("filename") or not str(args.get("length", "")).isdigit():
        raise Refused("invalid_arguments")
    name = new_id("F")
    world.workspace.files[name] = File(name, str(args["filename"]), str(args["filename"]), b"")
    return {"upload_url": f"{world.http_url}/upload/{name}", "file_id": name}


def receive(world: World, file_id: str, content: bytes) -> None:
    """Keep the bytes that were sent to an upload address."""
    found = world.workspace.files.get(file_id)
    if found is None or found.shared:
        raise Refused("file_not_found")
    world.workspace.files[file_id] = replace(found, content=content)


def _complete(world: World, args: Json) -> Json:
    files = []
    for one in args.get("files") or []:
        found = world.workspace.files.get(str(one.get("id")))
        if found is None:
            raise Refused("file_not_found")
        files.append(replace(found, title=str(one.get("title") or found.name), shared=True))
    if not files:
        raise Refused("invalid_arguments")
    if args.get("channel_id") or args.get("channels"):
        channel = world.channel({"channel": args.get("channel_id") or str(args["channels"]).split(",")[0]})
        content = content_of({"text": args.get("initial_comment"), "blocks": args.get("blocks")})
        thread_ts = thread_of(world, args, channel)
        ts = world.workspace.new_ts()
        world.workspace.add(
            Message(channel, ts, BOT_USER, thread_ts=thread_ts, files=tuple(files), **content)
        )
    world.workspace.files.update({one.id: one for one in files})
    return {"files": [one.to_json() for one in files]}


def _info(world: World, args: Json) -> Json:
    found = world.workspace.files.get(str(args.get("file")))
    if found is None:
        raise Refused("file_not_found")
    return {"file": found.to_json()}


METHODS = {
    "files.getUploadURLExternal": Method(_upload_url, "files:write", tier=4),
    "files.completeUploadExternal": Method(_complete, "files:write", tier=4),
    "files.info": Method(_info, "files:read", tier=4),
}
