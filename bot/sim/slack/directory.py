"""`auth.*`, `conversations.*`, `users.*`, `usergroups.*`: who and what there is, and what was said."""

from collections.abc import Sequence
from typing import Any

from bot.sim.slack.refusals import Refused
from bot.sim.slack.workspace import BOT_ID, BOT_NAME, BOT_USER, TEAM_ID, Json, Message, User
from bot.sim.slack.world import Method, World, echo

_PAGE = 100


def _auth_test(world: World, _args: Json) -> Json:
    return {
        "url": f"{world.http_url}/",
        "team": "Pretend",
        "user": BOT_NAME,
        "team_id": TEAM_ID,
        "user_id": BOT_USER,
        "bot_id": BOT_ID,
        "is_enterprise_install": False,
    }


def _open_connection(world: World, _args: Json) -> Json:
    return {"url": world.new_socket_url()}


def _channel_json(world: World, channel: str) -> Json:
    return {
        "id": channel,
        "name": world.workspace.channels[channel],
        "is_channel": True,
        "is_private": False,
        "is_archived": False,
        "is_member": channel in world.workspace.joined,
        "num_members": len(world.workspace.users) + 1,
    }


def _page(args: Json, items: Sequence[Any]) -> tuple[list[Any], Json]:
    """Cut one page out of a list; the cursor is the index it begins at."""
    try:
        start, size = int(args.get("cursor") or 0), int(args.get("limit") or _PAGE)
    except ValueError:
        raise Refused("invalid_cursor") from None
    rest = len(items) > start + size
    cursor = str(start + size) if rest else ""
    return list(items[start : start + size]), {"has_more": rest, "response_metadata": {"next_cursor": cursor}}


def _conversations_list(world: World, args: Json) -> Json:
    found, more = _page(args, [_channel_json(world, one) for one in world.workspace.channels])
    return {"channels": found, **more}


def _conversations_info(world: World, args: Json) -> Json:
    return {"channel": _channel_json(world, world.channel(args))}


def _members(world: World, args: Json) -> Json:
    world.channel(args)
    found, more = _page(args, [*world.workspace.users, BOT_USER])
    return {"members": found, **more}


def _shown(world: World, args: Json, messages: Sequence[Message]) -> tuple[list[Json], Json]:
    within = [
        one
        for one in messages
        if float(args.get("oldest") or 0) <= float(one.ts) <= float(args.get("latest") or "inf")
    ]
    found, more = _page(args, within)
    shown = [echo(world.workspace.show(one)) for one in found]
    if not args.get("include_all_metadata"):
        for one in shown:
            one.pop("metadata", None)
    return shown, more


def _history(world: World, args: Json) -> Json:
    newest_first = world.workspace.roots(world.channel(args))[::-1]
    shown, more = _shown(world, args, newest_first)
    return {"messages": shown, **more}


def _replies(world: World, args: Json) -> Json:
    channel, ts = world.channel(args), str(args.get("ts"))
    root = world.workspace.find(channel, ts)
    if root is None:
        raise Refused("thread_not_found")
    shown, more = _shown(world, args, [root, *world.workspace.replies(channel, root.thread_ts or ts)])
    return {"messages": shown, **more}


def _user_json(world: World, user: User) -> Json:
    profile = {
        "display_name": user.name,
        "real_name": user.name.title(),
        "email": user.email,
        "title": user.role,
    }
    return {
        "id": user.id,
        "team_id": user.team,
        "name": user.name,
        "real_name": user.name.title(),
        "profile": profile,
        "is_bot": False,
        "is_stranger": user.team != TEAM_ID,
        "deleted": user.id in world.deactivated,
    }


def _users_info(world: World, args: Json) -> Json:
    found = world.workspace.users.get(str(args.get("user")))
    if found is None:
        raise Refused("user_not_found")
    return {"user": _user_json(world, found)}


def _users_list(world: World, args: Json) -> Json:
    found, more = _page(args, [_user_json(world, one) for one in world.workspace.users.values()])
    return {"members": found, **more}


def _by_email(world: World, args: Json) -> Json:
    for one in world.workspace.users.values():
        if one.email == args.get("email"):
            return {"user": _user_json(world, one)}
    raise Refused("users_not_found")


def _usergroup_users(world: World, args: Json) -> Json:
    found = world.usergroups.get(str(args.get("usergroup")))
    if found is None:
        raise Refused("no_such_subteam")
    return {"users": list(found)}


def _usergroups(world: World, _args: Json) -> Json:
    return {
        "usergroups": [
            {"id": one, "handle": one.removeprefix("S0").lower(), "name": one.removeprefix("S0").title()}
            for one in world.usergroups
        ]
    }


METHODS = {
    "auth.test": Method(_auth_test, None, tier=4),
    "apps.connections.open": Method(_open_connection, None, tier=1),
    "conversations.list": Method(_conversations_list, "channels:read", tier=2),
    "conversations.info": Method(_conversations_info, "channels:read"),
    "conversations.members": Method(_members, "channels:read", tier=4),
    "conversations.join": Method(_conversations_info, "channels:join"),
    "conversations.history": Method(_history, "channels:history"),
    "conversations.replies": Method(_replies, "channels:history"),
    "users.info": Method(_users_info, "users:read", tier=4),
    "users.list": Method(_users_list, "users:read", tier=2),
    "users.lookupByEmail": Method(_by_email, "users:read.email"),
    "usergroups.list": Method(_usergroups, "usergroups:read", tier=2),
    "usergroups.users.list": Method(_usergroup_users, "usergroups:read", tier=2),
}
