"""`views.*`: modals, opened with a trigger, at most three on top of each other."""

from dataclasses import replace

from bot.sim.slack.blocks import faults_of_view
from bot.sim.slack.refusals import Refused
from bot.sim.slack.workspace import Json, View, new_id, view_content
from bot.sim.slack.world import Method, World
from bot.slack import limits


def content_of_view(view: object) -> Json:
    """Return a modal with ids on everything, or refuse what Slack would refuse."""
    if not isinstance(view, dict):
        raise Refused(
            "invalid_arguments", response_metadata={"messages": ["[ERROR] missing required field: view"]}
        )
    if faults := faults_of_view(view):
        raise Refused("invalid_arguments", response_metadata={"messages": faults})
    return view_content(view)


def push_view(world: World, user: str, content: Json, *, on_top: bool) -> View:
    """Show a modal to a person, alone or on top of the one that is open."""
    stack = world.workspace.views.get(user, []) if on_top else []
    if len(stack) >= limits.VIEW_STACK:
        raise Refused("push_limit_reached")
    name = new_id("V")
    below = stack[-1] if stack else None
    view = View(
        name, user, below.root_id if below else name, content, new_id("h"), below.id if below else None
    )
    world.workspace.views[user] = [*stack, view]
    world.workspace.publish_views(user)
    return view


def replace_view(world: World, old: View, content: Json) -> View:
    """Show other content in a modal that is open."""
    new = replace(old, content=content, hash=new_id("h"))
    stack = world.workspace.views[old.user]
    world.workspace.views[old.user] = [new if one.id == old.id else one for one in stack]
    world.workspace.publish_views(old.user)
    return new


def find_view(world: World, view_id: str, external_id: str = "") -> View:
    """Find an open modal by its id or by the app's own id."""
    for stack in world.workspace.views.values():
        for one in stack:
            if one.id == view_id or (external_id and one.content.get("external_id") == external_id):
                return one
    raise Refused("not_found")


def _open(world: World, args: Json) -> Json:
    content = content_of_view(args.get("view"))
    trigger = world.use_trigger(str(args.get("trigger_id")))
    return {"view": push_view(world, trigger.user, content, on_top=False).to_json()}


def _push(world: World, args: Json) -> Json:
    content = content_of_view(args.get("view"))
    trigger = world.use_trigger(str(args.get("trigger_id")))
    return {"view": push_view(world, trigger.user, content, on_top=True).to_json()}


def _update(world: World, args: Json) -> Json:
    content = content_of_view(args.get("view"))
    old = find_view(world, str(args.get("view_id")), str(args.get("external_id") or ""))
    if args.get("hash") and args["hash"] != old.hash:
        raise Refused("hash_conflict")
    return {"view": replace_view(world, old, content).to_json()}


METHODS = {
    "views.open": Method(_open, None, tier=4),
    "views.push": Method(_push, None, tier=4),
    "views.update": Method(_update, None, tier=4),
}
