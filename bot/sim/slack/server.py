"""The pretend Slack as one object: start it, point the real slack-bolt app at it, drive it as its users.

It listens on loopback only and on one port: the Web API under /api/, Socket Mode, uploads, response URLs and the page.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar

from aiohttp import web

from bot.sim.slack.journal import Journal
from bot.sim.slack.people import People, Value
from bot.sim.slack.refusals import Fault, Refusals
from bot.sim.slack.socket_mode import Delivery, SocketMode
from bot.sim.slack.web_api import DEFAULT_SCOPES, WebApi
from bot.sim.slack.web_page import Page
from bot.sim.slack.workspace import DEFAULT_USERS, File, Json, Message, User, View, Workspace
from bot.sim.slack.world import World
from bot.slack import limits

T = TypeVar("T")

_COMMANDS: Mapping[str, Sequence[str]] = {
    "/sickbay": ("help", "hosts", "incidents", "check HOST", "run RUNBOOK HOSTS", "plan RUNBOOK HOSTS")
}
_LARGEST_BODY = 64 * 2**20


class PretendSlack:
    """A Slack workspace on loopback with one app installed."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Sequence[User] | None = None,
        channels: Sequence[str] = ("oncall",),
        bot_token: str = "xoxb-demo",  # noqa: S107 - opens nothing but this pretend workspace
        app_token: str = "xapp-demo",  # noqa: S107
        clock: Callable[[], float] = time.time,
        rate_limits: Literal["off", "real", "hostile"] = "off",
        page_token: str | None = None,
        scopes: Sequence[str] = DEFAULT_SCOPES,
        events: Sequence[str] = ("app_mention",),
        commands: Mapping[str, Sequence[str]] = _COMMANDS,
        usergroups: Mapping[str, Sequence[str]] | None = None,
        ack_timeout: float = limits.ACK_SECONDS,
        redeliver_after: Sequence[float] = (1.0, 60.0, 300.0),
        chance: random.Random | None = None,
    ) -> None:
        if host not in {"127.0.0.1", "localhost"}:
            raise ValueError(f"the pretend Slack listens on loopback only, not on {host!r}; leave out `host`")
        self.bot_token = bot_token
        self.app_token = app_token
        self._port = port
        self._page_token = page_token or secrets.token_urlsafe(24)
        self._workspace = Workspace(users or DEFAULT_USERS, channels, clock)
        self.journal = Journal(clock, noted=lambda: self._workspace.publish({"kind": "journal"}))
        self._world = World(
            self._workspace,
            "",
            dict(
                usergroups
                or {"S0ONCALL": [one.id for one in self._workspace.users.values() if "on call" in one.role]}
            ),
            self._new_socket_url,
        )
        self._refusals = Refusals(rate_limits, clock)
        self._sockets = SocketMode(
            self._workspace,
            self.journal,
            ack_timeout=ack_timeout,
            redeliver_after=redeliver_after,
            chance=chance or random.Random(),  # noqa: S311 - which socket gets a payload is no secret
        )
        self._people = People(self._world, self._sockets, commands=commands, events=events)
        self._api = WebApi(
            self._world, self.journal, self._refusals, bot_token=bot_token, app_token=app_token, scopes=scopes
        )
        self._page = Page(
            self._workspace,
            self._people,
            token=self._page_token,
            commands=commands,
            online=lambda: self.connections > 0,
        )
        self._runner: web.AppRunner | None = None

    # ── life ──
    async def start(self) -> None:
        """Listen; the addresses are known from here on."""
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.add_routes([*self._api.routes(), *self._page.routes(), web.get("/link", self._sockets.handle)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self._world.http_url = f"http://127.0.0.1:{self._port}"
        self._page.open_at(self._port)

    async def stop(self) -> None:
        """End every connection and stop listening."""
        self._page.close()
        await self._sockets.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def base_url(self) -> str:
        """Where AsyncWebClient(base_url=…) has to point."""
        return f"http://127.0.0.1:{self._port}/api/"

    @property
    def page_url(self) -> str:
        """The address of the page, with its token."""
        return f"http://127.0.0.1:{self._port}/?token={self._page_token}"

    def _new_socket_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/link?ticket={self._sockets.new_ticket()}"

    # ── what people do ──
    async def slash(self, user: str, command: str, text: str = "", channel: str = "oncall") -> Delivery:
        """Type a slash command."""
        return await self._people.slash(user, command, text, channel)

    async def say(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> Delivery:
        """Write a message; `@sickbay` and other names in it become mentions."""
        return await self._people.say(user, channel, text, thread_ts)

    async def mention(self, user: str, channel: str, text: str, thread_ts: str | None = None) -> Delivery:
        """Write a message to the bot."""
        return await self._people.mention(user, channel, text, thread_ts)

    async def click(self, user: str, channel: str, ts: str, action_id: str, value: Value = None) -> Delivery:
        """Click a button (its value tells equal ids apart) or choose an option by its value."""
        return await self._people.click(user, channel, ts, action_id, value)

    async def click_in_view(self, user: str, action_id: str, value: Value = None) -> Delivery:
        """Click or choose in the modal a person sees."""
        return await self._people.click_in_view(user, action_id, value)

    async def submit_view(
        self, user: str, values: Mapping[str, Value] | None = None, *, view_id: str | None = None
    ) -> Delivery:
        """Submit a modal; values are keyed by action id or block id."""
        return await self._people.submit_view(user, values, view_id=view_id)

    async def close_view(self, user: str) -> Delivery:
        """Close the modal a person sees."""
        return await self._people.close_view(user)

    async def resend(self, delivery: Delivery) -> Delivery:
        """Deliver the payload of an earlier envelope once more, as Slack sometimes does with events."""
        if delivery.envelope is None:
            raise ValueError("nothing was delivered that could be delivered again")
        return await self._sockets.send(delivery.envelope["type"], delivery.envelope["payload"])

    async def deliver(self, kind: str, payload: Json) -> Delivery:
        """Deliver a payload that nobody made by a deed, such as a forged one."""
        return await self._sockets.send(kind, payload)

    # ── who there is ──
    def deactivate(self, user: str) -> None:
        """Close somebody's account; what they have clicked may still be under way."""
        self._world.deactivated.add(self._workspace.user(user).id)

    def reactivate(self, user: str) -> None:
        """Open somebody's account again."""
        self._world.deactivated.discard(self._workspace.user(user).id)

    def set_usergroup(self, group: str, users: Sequence[str] | None) -> None:
        """Say who is in a user group; None: there is no such group any more."""
        if users is None:
            del self._world.usergroups[group]
        else:
            self._world.usergroups[group] = [self._workspace.user(one).id for one in users]

    # ── what can be seen ──
    def messages(self, channel: str = "oncall") -> list[Message]:
        """Return the messages of a channel without the replies, oldest first."""
        return self._workspace.roots(self._workspace.channel(channel))

    def thread(self, channel: str, ts: str) -> list[Message]:
        """Return the replies under a message, oldest first."""
        return self._workspace.replies(self._workspace.channel(channel), ts)

    def message(self, channel: str, ts: str) -> Message | None:
        """Return one message as it is now."""
        return self._workspace.find(self._workspace.channel(channel), ts)

    def ephemerals(self, user: str) -> list[Message]:
        """Return what only this person sees, notices of Slack itself included."""
        return self._workspace.whispers(self._workspace.user(user).id)

    def view(self, user: str) -> View | None:
        """Return the modal a person sees."""
        stack = self._workspace.views.get(self._workspace.user(user).id, [])
        return stack[-1] if stack else None

    @property
    def files(self) -> list[File]:
        """The files that were uploaded and shared."""
        return [one for one in self._workspace.files.values() if one.shared]

    @property
    def connections(self) -> int:
        """How many Socket Mode connections the app holds."""
        return self._sockets.connections

    def calls(self, method: str | None = None) -> list[Json]:
        """Return the Web API calls from the journal."""
        return self.journal.calls(method)

    def write_journal(self, path: Path) -> None:
        """Write the journal, one JSON object a line."""
        self.journal.write(path)

    async def wait_for(self, predicate: Callable[[], T], timeout: float = 10) -> T:  # noqa: ASYNC109
        """Wait until the predicate is true, asked again at every change; return what it returned."""
        changes = self._workspace.subscribe()
        try:
            async with asyncio.timeout(timeout):
                while not (found := predicate()):
                    await changes.get()
        except TimeoutError:
            seen = [
                one.words for channel in self._workspace.channels for one in self._workspace.roots(channel)
            ]
            raise TimeoutError(f"not seen in the pretend Slack after {timeout} s; messages: {seen}") from None
        finally:
            self._workspace.unsubscribe(changes)
        return found

    async def wait_for_connection(self, count: int = 1, timeout: float = 10) -> None:  # noqa: ASYNC109
        """Wait until the app holds this many Socket Mode connections."""
        await self.wait_for(lambda: self.connections >= count, timeout)

    # ── what goes wrong ──
    def kick(self, channel: str = "oncall") -> None:
        """Put the bot out of a channel."""
        self._workspace.joined.discard(self._workspace.channel(channel))

    def fail_next(
        self,
        method: str,
        *,
        error: str = "internal_error",
        status: int = 200,
        retry_after: int | None = None,
        times: int = 1,
    ) -> None:
        """Refuse the next calls of a method, with an error or an HTTP status."""
        self._refusals.fail_next(method, Fault(status, error, retry_after), times)

    async def disconnect(self) -> None:
        """Ask the app to open a new connection, as Slack does every few hours."""
        await self._sockets.disconnect()

    def drop_connections(self) -> None:
        """Cut every Socket Mode connection with a TCP reset."""
        self._sockets.drop()

    def freeze_connections(self, *, frozen: bool = True) -> None:
        """Leave connections open but answer nothing on them, pings included."""
        self._sockets.freeze(frozen=frozen)
