"""The front door: `sickbay …`.

Verbs of the desk (run, check, hosts, …) are the same words as in Slack and go through the same grammar; the others are
for whoever keeps Sickbay itself.
"""

import asyncio
import getpass
import json
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
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
from bot.messages import Mask
from bot.runbook import Runbook
from bot.schema import json_schema
from bot.slack.manifest import manifest_yaml
from bot.steps import KINDS
from bot.terminal import render

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Alerts in, runbooks over SSH, a human asked where it must, the result in Slack.",
)
slack = typer.Typer(no_args_is_help=True, help="What Slack needs to know of Sickbay.")
cli.add_typer(slack, name="slack")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="sickbay.yaml; else $SICKBAY_CONFIG, ./sickbay.yaml, ~/.config"),
]
AsOption = Annotated[
    str | None, typer.Option("--as", help="who you are under `people:`; else your login name")
]


def main() -> None:
    """Run the command line; errors a person can mend are told without a traceback."""
    try:
        cli()
    except SickbayError as error:
        err.print(f"sickbay: {error}", markup=False, style="red")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _assembly(config: Path | None) -> Assembly:
    path = find_config(config, os.environ, Path.cwd())
    settings, document = load(path, os.environ)
    return Assembly.of(settings, document, os.environ)


@cli.command()
def serve(
    config: ConfigOption = None,
    *,
    log_json: Annotated[bool, typer.Option(help="write logs as JSON lines")] = False,
) -> None:
    """Take alerts and commands, run runbooks, until SIGTERM or Ctrl-C."""
    assembly = _assembly(config)
    configure(assembly.mask, json=log_json)
    asyncio.run(_serve(assembly))


async def _serve(assembly: Assembly) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with App(assembly) as app:
        logging.getLogger("sickbay").info(
            "ready on %s: %s hosts, %s runbooks", app.address, len(assembly.inventory), len(assembly.library)
        )
        await stop.wait()


@cli.command()
def demo() -> None:
    """Show the main job with a pretend Slack and eight pretend GPU machines."""
    from bot.demo import show

    configure(Mask(), level=logging.WARNING)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await show(lambda url: print(f"\n  Sickbay demo: {url}\n\n  Ctrl-C ends it.\n", flush=True), stop)  # noqa: T201

    asyncio.run(run())


@cli.command()
def doctor(config: ConfigOption = None) -> None:
    """Say in plain words what is missing or wrong: tokens, scopes, channel, host keys, hosts, runbooks."""
    ok = asyncio.run(examine(find_config(config, os.environ, Path.cwd()), os.environ, out))
    raise typer.Exit(0 if ok else 1)


@cli.command()
def lint(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="files or folders; else those of the configuration")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Report every mistake of runbooks as file:line."""
    files = paths or list(load(find_config(config, os.environ, Path.cwd()), os.environ)[0].runbook_folders)
    count, mistakes = lint_files(files, kinds=KINDS, parsers=PARSERS)
    for mistake in mistakes:
        out.print(str(mistake), markup=False)
    out.print(f"{count} runbooks, {len(mistakes)} mistakes")
    raise typer.Exit(1 if mistakes else 0)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of runbooks, for editors."""
    print(json.dumps(json_schema(Runbook), indent=2))  # noqa: T201


@cli.command()
def test(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="*.test.yaml files or folders; else those of the configuration"),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Replay the tests beside the runbooks, without any host."""
    from bot.rehearsal import rehearse

    files = paths or list(load(find_config(config, os.environ, Path.cwd()), os.environ)[0].runbook_folders)
    failed = 0
    results = list(rehearse(files))
    for result in results:
        failed += not result.passed
        mark = "ok    " if result.passed else "FAILED"
        out.print(f"{mark} {result.name}", markup=False)
        for problem in result.problems:
            out.print(f"       {problem}", markup=False)
    out.print(f"{len(results) - failed} passed, {failed} failed")
    raise typer.Exit(1 if failed or not results else 0)


@slack.command("manifest")
def manifest() -> None:
    """Print the app manifest to paste at api.slack.com/apps."""
    print(manifest_yaml())  # noqa: T201


def _desk(words: list[str], config: Path | None, name: str | None, *, follow: bool = True) -> None:
    """Say it at the desk, as anybody would in Slack, and follow what was started."""
    assembly = _assembly(config)
    login = name or getpass.getuser()
    asker = Asker(name=login, person=assembly.config.persons.get(login), via="cli")
    reply = assembly.commands.do(shlex.join(words), asker)
    if reply.card is not None and not reply.runs:
        out.print(render(assembly.mask.over(reply.card)))
    if not reply.ok:
        raise typer.Exit(2)
    if reply.runs and follow:
        raise typer.Exit(Follower(assembly, asker, out, assembly.mask).follow(reply.runs))


HostsArgument = Annotated[str, typer.Argument(help="a host set: gpu-03, gpu-[01-08], @serving, @a!@b")]
Numbered = Annotated[str, typer.Argument(help="its number")]


@cli.command()
def run(
    runbook: str,
    hosts: HostsArgument,
    inputs: Annotated[list[str] | None, typer.Argument(help="name=value …")] = None,
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """Run a runbook on hosts and follow it."""
    _desk(["run", runbook, hosts, *(inputs or [])], config, as_)


@cli.command()
def check(hosts: HostsArgument, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Check hosts: GPUs and serving."""
    _desk(["check", hosts], config, as_)


@cli.command()
def hosts(
    select: Annotated[str | None, typer.Argument(metavar="HOSTS", help="a host set; else all")] = None,
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """List the hosts."""
    _desk(["hosts", *([select] if select else [])], config, as_)


@cli.command()
def runbooks(config: ConfigOption = None, as_: AsOption = None) -> None:
    """List the runbooks."""
    _desk(["runbooks"], config, as_)


@cli.command()
def incidents(
    number: Annotated[str | None, typer.Argument(help="one of them")] = None,
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """List incidents, or show one."""
    _desk(["incidents", *([number] if number else [])], config, as_)


@cli.command()
def runs(
    number: Annotated[str | None, typer.Argument(help="one of them")] = None,
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """List runs, or show one."""
    _desk(["runs", *([number] if number else [])], config, as_, follow=False)


@cli.command()
def approve(number: Numbered, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Approve a run's plan; for when Slack is down."""
    _desk(["approve", number], config, as_)


@cli.command()
def deny(number: Numbered, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Deny a run's plan."""
    _desk(["deny", number], config, as_)


@cli.command()
def cancel(number: Numbered, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Cancel a run; what has begun on hosts is told to end."""
    _desk(["cancel", number], config, as_)
