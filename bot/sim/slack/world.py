"""What the methods of the Web API work on, and the handles that expire: triggers and response URLs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.sim.slack.refusals import Refused
from bot.sim.slack.workspace import Json, Workspace, new_id
from bot.slack import limits


@dataclass(slots=True)
class Trigger:
    """Permission to open one modal, for three seconds, because a person did something."""

    user: str
    at: float
    used: bool = False


@dataclass(slots=True)
class ResponseUrl:
    """A place to answer one interaction: five times, for half an hour."""

    channel: str
    user: str
    at: float
    thread_ts: str | None = None
    source_ts: str | None = None
    uses: int = 0


@dataclass(slots=True)
class World:
    """The workspace with everything around it that a call may touch."""

    workspace: Workspace
    http_url: str
    usergroups: dict[str, Sequence[str]]
    new_socket_url: Callable[[], str]
    deactivated: set[str] = field(default_factory=set)
    triggers: dict[str, Trigger] = field(default_factory=dict)
    response_urls: dict[str, ResponseUrl] = field(default_factory=dict)

    def new_trigger(self, user: str) -> str:
        """Return a trigger id for something a person just did."""
        name = new_id("TR")
        self.triggers[name] = Trigger(user, self.workspace.clock())
        return name

    def use_trigger(self, name: str) -> Trigger:
        """Use a trigger up, or refuse with the reason Slack gives."""
        found = self.triggers.get(name)
        if found is None:
            raise Refused("invalid_trigger_id")
        if found.used:
            raise Refused("exchanged_trigger_id")
        if self.workspace.clock() - found.at > limits.TRIGGER_SECONDS:
            raise Refused("expired_trigger_id")
        found.used = True
        return found

    def new_response_url(self, url: ResponseUrl) -> str:
        """Return an address at which the app may answer an interaction."""
        name = new_id("R")
        self.response_urls[name] = url
        return f"{self.http_url}/response/{name}"

    def use_response_url(self, name: str) -> ResponseUrl:
        """Count one use of a response URL, or refuse it as Slack does."""
        found = self.response_urls.get(name)
        if found is None:
            raise Refused("invalid_url")
        too_late = self.workspace.clock() - found.at > limits.RESPONSE_URL_SECONDS
        if too_late or found.uses >= limits.RESPONSE_URL_USES:
            raise Refused("expired_url")
        found.uses += 1
        return found

    def channel(self, args: Json) -> str:
        """Return the id of the channel a call names, by id or name."""
        try:
            return self.workspace.channel(str(args.get("channel") or args.get("channel_id") or ""))
        except KeyError:
            raise Refused("channel_not_found") from None


Handler = Callable[[World, Json], Json]
"""One method of the Web API: from arguments to what is in the answer beside `ok`."""


@dataclass(frozen=True, slots=True)
class Method:
    """A handler, the scope it needs and its rate tier."""

    handle: Handler
    scope: str | None
    tier: int = 3


def echo(value: Any) -> Any:
    """Escape `&`, `<` and `>` in texts as Slack does in what it sends back, so that echoes may grow too long."""
    if isinstance(value, list):
        return [echo(one) for one in value]
    if isinstance(value, dict):
        return {
            name: _escape(inner) if name == "text" and isinstance(inner, str) else echo(inner)
            for name, inner in value.items()
        }
    return value


def _escape(text: str) -> str:
    text = re.sub(r"&(?!(?:amp|lt|gt);)", "&amp;", text)
    text = re.sub(r"<(?![@#!]|https?://|mailto:)", "&lt;", text)
    return re.sub(r"(<[^<>\n]*>)|>", lambda found: found[1] or "&gt;", text)
