"""The front door: `sickbay …`.

Verbs of the desk (run, check, hosts, …) are the same words as in Slack and go through the same grammar; the others are
for whoever keeps Sickbay itself. Only the declarations stand here, so that `--help` answers at once; what is behind them
is `verbs`, which brings in everything else.
"""

import gc
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from bot.errors import SickbayError

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Alerts in, runbooks over SSH, a human asked where it must, the result in Slack.",
)
slack = typer.Typer(no_args_is_help=True, help="What Slack needs to know of Sickbay.")
cli.add_typer(slack, name="slack")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="sickbay.yaml; else $SICKBAY_CONFIG, ./sickbay.yaml, ~/.config"),
]
AsOption = Annotated[
    str | None, typer.Option("--as", help="who you are under `people:`; else your login name")
]

HostsArgument = Annotated[str, typer.Argument(help="a host set: gpu-03, gpu-[01-08], @serving, @a!@b")]
Numbered = Annotated[str, typer.Argument(metavar="RUN", help="its number")]
Paths = Annotated[list[Path] | None, typer.Argument(help="files or folders; else those of the configuration")]


def main() -> None:
    """Run the command line; errors a person can mend are told without a traceback."""
    try:
        cli()
    except SickbayError as error:
        print(f"sickbay: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _verbs() -> ModuleType:
    """Bring in everything; nothing of it is garbage, so the collector need not look at it, now or later."""
    gc.disable()
    from bot import verbs

    gc.freeze()
    gc.enable()
    return verbs


def _exit(code: int) -> None:
    raise typer.Exit(code)


@cli.command()
def serve(
    config: ConfigOption = None,
    *,
    log_json: Annotated[bool, typer.Option(help="write logs as JSON lines")] = False,
) -> None:
    """Take alerts and commands, run runbooks, until SIGTERM or Ctrl-C."""
    _exit(_verbs().serve(config, log_json=log_json))


@cli.command()
def demo() -> None:
    """Show the main job with a pretend Slack and eight pretend GPU machines."""
    from bot.demo import demo as show

    _exit(show(lambda url: print(f"\n  Sickbay demo: {url}\n\n  Ctrl-C ends it.\n", flush=True)))  # noqa: T201


@cli.command()
def doctor(config: ConfigOption = None) -> None:
    """Say in plain words what is missing or wrong: tokens, scopes, channel, host keys, hosts, runbooks."""
    _exit(_verbs().doctor(config))


@cli.command()
def lint(paths: Paths = None, config: ConfigOption = None) -> None:
    """Report every mistake of runbooks as file:line."""
    _exit(_verbs().lint(paths or [], config))


@cli.command()
def schema() -> None:
    """Print the JSON Schema of runbooks, for editors."""
    _exit(_verbs().schema())


@cli.command()
def test(paths: Paths = None, config: ConfigOption = None) -> None:
    """Replay the tests beside the runbooks, without any host."""
    _exit(_verbs().test(paths or [], config))


@slack.command("manifest")
def manifest() -> None:
    """Print the app manifest to paste at api.slack.com/apps."""
    _exit(_verbs().manifest())


def _desk(words: list[str], config: Path | None, name: str | None, *, follow: bool = True) -> None:
    _exit(_verbs().desk(words, config, name, follow=follow))


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
