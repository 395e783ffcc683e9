"""`sickbay serve`: everything at once, until it is told to end."""

import asyncio
import logging
import os
import signal
from pathlib import Path

from bot.app import App
from bot.assembly import Assembly
from bot.cli.logs import configure
from bot.config.config import find_config, load

log = logging.getLogger(__name__)


def serve(config: Path | None, *, log_json: bool) -> None:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        SickbayError: saying which part could not start, and what to do.

    """
    path = find_config(config, os.environ, Path.cwd())
    assembly = Assembly.of(*load(path, os.environ), os.environ)
    configure(assembly.mask, json=log_json)
    asyncio.run(_serve(assembly))


async def _serve(assembly: Assembly) -> None:
    stop = stop_event()
    async with App(assembly) as app:
        hosts, runbooks = len(assembly.inventory), len(assembly.library)
        log.info("ready on %s: %s hosts, %s runbooks", app.address, hosts, runbooks)
        await stop.wait()


def stop_event() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
