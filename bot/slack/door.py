"""Slack, opened and closed: the connection people come in by, and the outbox that keeps their messages right.

Socket Mode needs no public address and is the usual way; HTTP with a signing secret is there for those who have one.
Losing the connection loses no message of ours: the outbox speaks plain HTTPS and works from the store.
"""

import asyncio
import logging
from typing import Any

import aiohttp
from pydantic import SecretStr
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.logger.messages import warning_client_prioritized_and_token_skipped
from slack_sdk.errors import SlackApiError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot.commands.verbs import Commands
from bot.config.settings import SlackSection
from bot.config.tokens import Secrets
from bot.errors import SickbayError
from bot.people.authority import Members
from bot.slack.client import client, error_of
from bot.slack.drafts import Drafts
from bot.slack.listeners import Listeners
from bot.slack.members import members_of
from bot.slack.outbox import Outbox
from bot.slack.pace import Pace
from bot.slack.poster import Poster
from bot.store import Store

log = logging.getLogger(__name__)

PATH = "/slack/events"
_PING = 5.0
"""Seconds; a link that is half open is noticed after two of them."""
_WATCH = 15.0
_PATIENCE = 3
"""Looks that may find no connection before a new one is made from scratch."""
_FIRST_CONNECT = 5.0
_BAD_TOKEN = {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"}


class SlackDoor:
    """All of Slack in this process."""

    def __init__(
        self,
        settings: SlackSection,
        secrets: Secrets,
        store: Store,
        commands: Commands,
        pace: Pace | None = None,
        members: Members | None = None,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._store = store
        self._commands = commands
        self._mask = store.mask
        self._mask.learn(secrets.values())
        self._pace = pace
        self._members = members or members_of(settings, secrets)
        self._session: aiohttp.ClientSession | None = None
        self._outbox: Outbox | None = None
        self._app: AsyncApp | None = None
        self._socket: AsyncSocketModeHandler | None = None
        self._http: AsyncSlackRequestHandler | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._connected = False

    # ── state ──
    @property
    def connected(self) -> bool:
        """Can people reach us, and we them?"""
        return self._connected and self._outbox is not None and self._outbox.alive

    @property
    def trouble(self) -> str:
        """Why messages are waiting; empty when none has to."""
        return self._outbox.trouble if self._outbox is not None else ""

    @property
    def waiting(self) -> int:
        """How many messages are not yet as they should be."""
        return self._outbox.waiting if self._outbox is not None else 0

    @property
    def routes(self) -> list[Route]:
        """What the web server has to serve; nothing in Socket Mode."""
        return [Route(PATH, self._serve, methods=["POST"])] if self._settings.transport == "http" else []

    # ── life ──
    async def start(self) -> None:
        """Open; an unreachable Slack is waited for in the background.

        Raises:
            SickbayError: when a token is missing or refused.

        """
        token = shown(self._secrets.slack_bot_token)
        if not token:
            raise SickbayError("SLACK_BOT_TOKEN is not set", advice="set it to the app's token xoxb-…")
        self._session = aiohttp.ClientSession()
        patient = client(token, self._settings.base_url, mask=self._mask)
        patient.session = self._session
        plain = client(token, self._settings.base_url, patient=False, mask=self._mask)
        plain.session = self._session
        try:
            team = await self._check_token(patient.auth_test)
            self._app = AsyncApp(
                client=patient,
                signing_secret=shown(self._secrets.slack_signing_secret),
                logger=_bolt_log(),
            )
            desk = self._commands.asking(self._members)
            Listeners(desk, self._store, patient, self._mask, team).register(self._app)
            drafts = Drafts(
                self._store,
                self._commands.people,
                self._mask,
                self._settings.usergroups,
                channel=self._settings.channel,
            )
            loop = asyncio.get_running_loop()
            pace = self._pace or Pace(loop.time)
            poster = Poster(self._store, drafts, plain, channel=self._settings.channel, spent=pace.spent)
            self._outbox = Outbox(self._store, poster, pace, pace.clock)
            await self._outbox.start()
            await self._listen()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close; messages not yet shown are shown at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._disconnect()
        if self._outbox is not None:
            await self._outbox.stop()
        if self._session is not None:
            await self._session.close()
        self._connected = False

    async def _check_token(self, auth_test: Any) -> str:
        """Return the id of the workspace, if Slack says it."""
        try:
            return str((await auth_test()).get("team_id") or "")
        except SlackApiError as error:
            if error_of(error) in _BAD_TOKEN:
                raise SickbayError(
                    f"Slack refuses SLACK_BOT_TOKEN: {error_of(error)}",
                    advice="copy the Bot User OAuth Token of the installed app again; `sickbay doctor` checks it",
                ) from error
            log.warning("Slack answered auth.test with %s; going on", error_of(error))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("Slack cannot be reached (%s); messages wait until it can", error)
        return ""

    async def _listen(self) -> None:
        assert self._app is not None
        if self._settings.transport == "http":
            if not self._secrets.slack_signing_secret:
                raise SickbayError(
                    "SLACK_SIGNING_SECRET is not set",
                    advice="without it anybody could send clicks; see the app's page",
                )
            self._http = AsyncSlackRequestHandler(self._app)
            self._connected = True
            return
        if not self._secrets.slack_app_token:
            raise SickbayError(
                "SLACK_APP_TOKEN is not set",
                advice="Socket Mode needs an app-level token xapp-… with connections:write",
            )
        connecting = asyncio.create_task(self._connect())
        self._tasks += [connecting, asyncio.create_task(self._watch())]
        await asyncio.wait({connecting}, timeout=_FIRST_CONNECT)

    # ── Socket Mode ──
    async def _connect(self) -> None:
        assert self._app is not None
        socket = self._socket = AsyncSocketModeHandler(
            self._app,
            shown(self._secrets.slack_app_token),
            logger=logging.getLogger("bot.slack.socket"),
            ping_interval=_PING,
        )
        await socket.connect_async()  # type: ignore[no-untyped-call]
        if socket is self._socket:
            self._connected = await socket.client.is_connected()

    async def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            try:
                await socket.close_async()  # type: ignore[no-untyped-call]
            except (aiohttp.ClientError, OSError, RuntimeError) as error:
                log.debug("closing the Socket Mode connection: %s", error)

    async def _watch(self) -> None:
        """Look after the connection; make a new one when the library's own repair does not get through."""
        missed = 0
        while True:
            await asyncio.sleep(_WATCH)
            self._connected = self._socket is not None and await self._socket.client.is_connected()
            missed = 0 if self._connected else missed + 1
            if missed < _PATIENCE:
                continue
            log.warning("no Socket Mode connection for %.0f s: making a new one", missed * _WATCH)
            missed = 0
            await self._disconnect()
            try:
                async with asyncio.timeout(_WATCH):
                    await self._connect()
            except Exception as error:  # noqa: BLE001 - it is tried again, and health tells
                log.warning("still no Socket Mode connection: %s", error or type(error).__name__)

    # ── HTTP ──
    async def _serve(self, request: Request) -> Response:
        if self._http is None:
            return Response("starting", status_code=503)
        return await self._http.handle(request)


def _bolt_log() -> logging.Logger:
    """Return slack-bolt's log without its warning that SLACK_BOT_TOKEN is set: it is, and it is the client's."""
    bolt = logging.getLogger("bot.slack.bolt")
    bolt.addFilter(_worth_telling)
    return bolt


def _worth_telling(record: logging.LogRecord) -> bool:
    return record.getMessage() != warning_client_prioritized_and_token_skipped()


def shown(secret: SecretStr | None) -> str:
    """Return a secret's text; empty when it is not set."""
    return secret.get_secret_value() if secret is not None else ""
