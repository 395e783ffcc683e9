"""What is behind the verbs of the command line; each returns the exit code.

Without a configuration `lint`, `test` and `schema` work on what they are given, or on the shipped runbooks.
"""

import asyncio
import getpass
import json
import logging
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from bot.app import App, Assembly
from bot.commands import Asker
from bot.config import find_config, load
from bot.doctor import examine
from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.follow import Follower
from bot.library import lint_files
from bot.logs import configure
from bot.rehearsal import rehearse
from bot.runbook import Runbook
from bot.schema import json_schema
from bot.shipped import shipped
from bot.slack.manifest import manifest_yaml
from bot.steps import KINDS
from bot.terminal import render

OK, UNWELL, REFUSED = 0, 1, 2
"""Exit codes: all is well; something is not; the command itself was wrong."""

out = Console(highlight=False)


def _assembly(config: Path | None) -> Assembly:
    path = find_config(config, os.environ, Path.cwd())
    return Assembly.of(*load(path, os.environ), os.environ)


def _folders(paths: Sequence[Path], config: Path | None, environ: Mapping[str, str]) -> list[Path]:
    """Return the files and folders that were named, else those of the configuration, else the shipped ones."""
    if paths:
        return list(paths)
    try:
        path = find_config(config, environ, Path.cwd())
    except SickbayError:
        if config is not None or environ.get("SICKBAY_CONFIG"):
            raise
        return [shipped("runbooks")]
    return list(load(path, environ)[0].runbook_folders)


def serve(config: Path | None, *, log_json: bool) -> int:
    """Run until a signal."""
    assembly = _assembly(config)
    configure(assembly.mask, json=log_json)
    asyncio.run(_serve(assembly))
    return OK


async def _serve(assembly: Assembly) -> None:
    stop = stop_event()
    async with App(assembly) as app:
        logging.getLogger("sickbay").info(
            "ready on %s: %s hosts, %s runbooks", app.address, len(assembly.inventory), len(assembly.library)
        )
        await stop.wait()


def stop_event() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def doctor(config: Path | None) -> int:
    """Look at everything."""
    return (
        OK if asyncio.run(examine(find_config(config, os.environ, Path.cwd()), os.environ, out)) else UNWELL
    )


def lint(paths: Sequence[Path], config: Path | None) -> int:
    """Print every mistake."""
    count, mistakes = lint_files(_folders(paths, config, os.environ), kinds=KINDS, parsers=PARSERS)
    for mistake in mistakes:
        out.print(str(mistake), markup=False, soft_wrap=True)
    out.print(f"{count} runbooks, {len(mistakes)} mistakes")
    return UNWELL if mistakes else OK


def schema() -> int:
    """Print the schema of runbooks."""
    print(json.dumps(json_schema(Runbook), indent=2))  # noqa: T201
    return OK


def manifest() -> int:
    """Print Slack's manifest."""
    print(manifest_yaml())  # noqa: T201
    return OK


def test(paths: Sequence[Path], config: Path | None) -> int:
    """Replay the cases and print what differed."""
    results = list(rehearse(_folders(paths, config, os.environ)))
    failed = sum(not result.passed for result in results)
    for result in results:
        out.print(f"{'ok    ' if result.passed else 'FAILED'} {result.name}", markup=False, soft_wrap=True)
        for problem in result.problems:
            out.print(f"       {problem}", markup=False, soft_wrap=True)
    out.print(f"{len(results) - failed} passed, {failed} failed")
    return UNWELL if failed or not results else OK


def desk(words: Sequence[str], config: Path | None, name: str | None, *, follow: bool = True) -> int:
    """Say it at the desk, as anybody would in Slack, and follow what was started."""
    assembly = _assembly(config)
    login = name or getpass.getuser()
    asker = Asker(name=login, person=assembly.config.persons.get(login), via="cli")
    reply = assembly.commands.do(shlex.join(words), asker)
    if not (reply.runs and follow):
        out.print(render(assembly.mask.over(reply.card)))
    if not reply.ok:
        return REFUSED
    if reply.runs and follow:
        return Follower(assembly, asker, out, assembly.mask).follow(reply.runs)
    return OK
