"""Starts the whole and stops it.

`serve`, `demo`, the command line and the stories all come through here, so that what is tested is what runs.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Self

import uvicorn

from bot.assembly import Assembly
from bot.effect import Remote
from bot.engine.balancers import Balancers
from bot.errors import SickbayError
from bot.slack.door import SlackDoor
from bot.web import Web

log = logging.getLogger(__name__)

_GRACE = 3
"""Seconds that a request which is going gets when Sickbay ends."""


class App:
    """A running Sickbay: delivery in threads; web and Slack on the event loop that starts it."""

    def __init__(self, assembly: Assembly, remote: Remote | None = None) -> None:
        self.assembly = assembly
        self.store = assembly.store
        way = remote or assembly.remote()
        self.delivery = assembly.delivery(way)
        assembly.commands.balancers = Balancers(assembly.inventory, way)
        self.address = ""
        """Where the web door listens, such as `http://127.0.0.1:8300`."""
        self._started = False
        self._slack = self._slack_door()
        self._open = AsyncExitStack()
        """How to stop what was started, newest first."""

    async def start(self) -> None:
        """Bring everything up; what was begun is stopped again when a part fails.

        Raises:
            SickbayError: saying which part, and what to do.

        """
        async with AsyncExitStack() as opening:
            opening.callback(self.store.close)
            opening.push_async_callback(asyncio.to_thread, self._tell_stop)
            opening.push_async_callback(asyncio.to_thread, self.delivery.stop)
            interrupted = await asyncio.to_thread(self.delivery.start, self._tell_start)
            if interrupted:
                log.info("going on with %s interrupted runs", interrupted)
            await self._open_web(opening)  # before Slack, because an alert need not wait for it
            if self._slack is not None:
                await self._slack.start()
                opening.push_async_callback(self._slack.stop)
            self._open = opening.pop_all()

    def _tell_start(self) -> None:
        """Write that this process is the one that works now, and by which configuration."""
        assembly, note = self.assembly, self.store.timeline.note
        number, head = self.store.timeline.head()
        log.info("the timeline goes on after event %s, %s", number, head)  # a witness outside of the database
        note("service.started", version=_version(), pid=os.getpid(), machine=socket.gethostname())
        note(
            "config.read",
            sha256=assembly.config_sha256,
            hosts=len(assembly.inventory),
            runbooks=len(assembly.library),
            people=sorted(assembly.config.persons),
        )
        self._started = True

    def _tell_stop(self) -> None:
        if not self._started:
            return
        try:
            self.store.timeline.note("service.stopped", pid=os.getpid())
            log.info("the timeline ends with event %s, %s", *self.store.timeline.head())
        except Exception:
            log.exception("the timeline does not know that Sickbay was stopped")

    def _slack_door(self) -> SlackDoor | None:
        secrets, config = self.assembly.secrets, self.assembly.config
        if secrets.slack_bot_token is None:
            log.warning("nothing is shown in Slack: SLACK_BOT_TOKEN is not set")
            return None
        return SlackDoor(config.slack, secrets, self.store, self.assembly.commands)

    async def _open_web(self, opening: AsyncExitStack) -> None:
        config, secrets = self.assembly.config, self.assembly.secrets
        web = Web(
            self.store,
            alert_secret=secrets.alertmanager,
            max_body=config.alerts.alertmanager.max_body,
            health=self._health,
            more=self._slack.routes if self._slack else (),
        )
        settings = uvicorn.Config(
            web.app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
        listener = _listen(config.web.host, config.web.port)
        host = config.web.listen.rpartition(":")[0]
        self.address = f"http://{host}:{listener.getsockname()[1]}"
        server = _Server(settings)
        serving = asyncio.create_task(server.serve(sockets=[listener]))

        async def stop() -> None:
            server.should_exit = True
            await serving

        opening.push_async_callback(stop)
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.005)

    def _health(self) -> dict[str, str]:
        return self.assembly.mask.over(self._wrong())

    def _wrong(self) -> dict[str, str]:
        wrong = {} if self.delivery.alive else {"delivery": "the loop that advances runs has ended"}
        if self._slack is not None and not self._slack.connected:
            wrong["slack"] = self._slack.trouble or "not connected to Slack"
        return wrong

    async def stop(self) -> None:
        """End everything; commands going on hosts go on and are asked for at the next start."""
        await self._open.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _version() -> str:
    try:
        return version("sickbay")
    except PackageNotFoundError:  # run from the source, not installed
        return "unknown"


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever runs the App decides when it ends."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise SickbayError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            where="web: listen",
            advice="is another Sickbay running? Else choose another port",
        ) from error
    # connections inherit it; without it each answer waits 40 ms for the caller's kernel to acknowledge its head
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
