"""Builds the whole from a configuration, starts it and stops it.

`serve`, `demo`, the command line and the stories all come through here, so that what is tested is what runs.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import uvicorn

from bot.commands import Commands
from bot.config import Config, Secrets, check_routes
from bot.delivery import Delivery
from bot.dispatch import Dispatch
from bot.effect import Remote
from bot.engine import Engine
from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.inventory import Inventory
from bot.library import Loaded, load_library
from bot.messages import Mask
from bot.planner import Planner
from bot.schema import Document, Invalid
from bot.slack.door import SlackDoor
from bot.ssh import Ssh
from bot.ssh.settings import SshSettings
from bot.steps import KINDS
from bot.store import Store
from bot.store.database import Clock, utc_now
from bot.web import Web

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything that is read before anything is started: no thread, no connection yet but the database."""

    config: Config
    secrets: Secrets
    inventory: Inventory
    library: Mapping[str, Loaded]
    store: Store
    planner: Planner
    commands: Commands

    @classmethod
    def of(
        cls, config: Config, document: Document, environ: Mapping[str, str], clock: Clock = utc_now
    ) -> Self:
        """Read runbooks and open the store.

        Raises:
            SickbayError: with every mistake in the configuration and in the runbooks.

        """
        inventory = config.inventory
        library = load_library(config.runbook_folders, kinds=KINDS, parsers=PARSERS, inventory=inventory)
        if mistakes := check_routes(config, document, library):
            raise Invalid(mistakes)
        store = Store(config.store_path, clock)
        commands = Commands(
            store, inventory, library, config.persons, check=config.check, channel=config.slack.channel
        )
        return cls(
            config=config,
            secrets=Secrets.read(config, environ),
            inventory=inventory,
            library=library,
            store=store,
            planner=Planner(KINDS, inventory),
            commands=commands,
        )

    def remote(self) -> Ssh:
        """Return the way to the hosts."""
        return Ssh(SshSettings(**self.config.ssh.model_dump()))

    @property
    def mask(self) -> Mask:
        """Return what takes the secrets out of everything that leaves."""
        return Mask(self.secrets.values())

    def delivery(self, remote: Remote, *, dispatching: bool = True) -> Delivery:
        """Return what advances runs and, for a server, turns alerts into them."""
        dispatch = Dispatch(
            self.store, self.inventory, self.library, self.config.routes, self.config.slack.channel
        )
        return Delivery(
            self.store, Engine(self.store, self.planner, remote), dispatch.turn if dispatching else None
        )


class App:
    """A running Sickbay: delivery in threads; web and Slack on the event loop that starts it."""

    def __init__(self, assembly: Assembly, remote: Remote | None = None) -> None:
        self.assembly = assembly
        self.store = assembly.store
        self.delivery = assembly.delivery(remote or assembly.remote())
        self._slack: SlackDoor | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.address = ""
        """Where the web door listens, such as `http://127.0.0.1:8300`."""

    async def start(self) -> None:
        """Bring everything up; what was begun is stopped again when a part fails.

        Raises:
            SickbayError: saying which part, and what to do.

        """
        try:
            interrupted = await asyncio.to_thread(self.delivery.start)
            if interrupted:
                log.info("going on with %s interrupted runs", interrupted)
            await self._open_slack()
            await self._open_web()
        except BaseException:
            await self.stop()
            raise

    async def _open_slack(self) -> None:
        secrets, config = self.assembly.secrets, self.assembly.config
        if secrets.slack_bot_token is None:
            log.warning("no SLACK_BOT_TOKEN: nothing is shown in Slack")
            return
        self._slack = SlackDoor(config.slack, secrets, self.store, self.assembly.commands)
        await self._slack.start()

    async def _open_web(self) -> None:
        config, secrets = self.assembly.config, self.assembly.secrets
        more = self._slack.routes if self._slack else []
        web = Web(
            self.store,
            alert_secret=secrets.alertmanager,
            max_body=config.alerts.alertmanager.max_body,
            health=self._health,
            more=more,
        )
        listener = _listen(config.web.host, config.web.port)
        self.address = f"http://{config.web.host}:{listener.getsockname()[1]}"
        settings = uvicorn.Config(
            web.app, log_config=None, access_log=False, lifespan="off", server_header=False
        )
        self._server = _Server(settings)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not (self._server.started or self._serving.done()):  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.005)

    def _health(self) -> dict[str, str]:
        wrong = {} if self.delivery.alive else {"delivery": "the loop that advances runs has ended"}
        if self._slack is not None and not self._slack.connected:
            wrong["slack"] = self._slack.trouble or "not connected to Slack"
        return wrong

    async def stop(self) -> None:
        """End everything; commands going on hosts go on and are asked for at the next start."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        if self._slack is not None:
            await self._slack.stop()
        await asyncio.to_thread(self.delivery.stop)
        self.store.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever runs the App decides when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise SickbayError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            where="web: listen",
            advice="is another Sickbay running? Else choose another port",
        ) from error
    # connections inherit it; without it each answer waits 40 ms for the caller's kernel to acknowledge its head
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
