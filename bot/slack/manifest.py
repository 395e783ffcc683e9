"""The app manifest that fits the code: scopes, events and the command that the room really uses."""

from typing import Any, Literal

import yaml

from bot.slack.door import PATH
from bot.slack.listeners import COMMAND, EVENTS

SCOPES: dict[str, str] = {
    "app_mentions:read": "hear `@sickbay …`",
    "channels:history": "after a crash, see whether a message was posted",
    "channels:read": "find a channel by its name",
    "chat:write": "write messages",
    "commands": "hear `/sickbay …`",
    "files:write": "put long output into files",
    "groups:history": "the same in private channels",
    "groups:read": "the same for private channels",
    "usergroups:read": "see who is in the user groups that give a role",
    "users:read": "see whether who decides is still a user here, and name strangers who mention the bot",
}
"""Every bot scope, and what it is for."""


def manifest(transport: Literal["socket", "http"] = "socket", url: str = "") -> dict[str, Any]:
    """Return the manifest; `url` is Sickbay's public address, needed for HTTP only."""
    address = f"{url.rstrip('/')}{PATH}"
    socket = transport == "socket"
    command: dict[str, Any] = {
        "command": COMMAND,
        "description": "Look at hosts, run runbooks, decide about plans",
        "usage_hint": "help | check HOSTS | run RUNBOOK HOSTS | hosts | incidents | schedules",
        "should_escape": False,
    }
    events: dict[str, Any] = {"bot_events": list(EVENTS)}
    interactivity: dict[str, Any] = {"is_enabled": True}
    if not socket:
        command["url"] = address
        events["request_url"] = address
        interactivity["request_url"] = address
    return {
        "display_information": {
            "name": "Sickbay",
            "description": "Watches machines that serve language models, and heals them when you say so",
            "background_color": "#1d3b36",
        },
        "features": {
            "bot_user": {"display_name": "sickbay", "always_online": True},
            "slash_commands": [command],
        },
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {
            "event_subscriptions": events,
            "interactivity": interactivity,
            "org_deploy_enabled": False,
            "socket_mode_enabled": socket,
            "token_rotation_enabled": False,
        },
    }


def manifest_yaml(transport: Literal["socket", "http"] = "socket", url: str = "") -> str:
    """Return the manifest as YAML, to be pasted at api.slack.com/apps."""
    return yaml.safe_dump(manifest(transport, url), sort_keys=False, allow_unicode=True)
