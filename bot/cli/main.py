"""The front door: `sickbay …`.

Words of the desk (run, check, hosts, …) are the same as in Slack and go through the same grammar; the others are for
whoever keeps Sickbay itself. Only the declarations stand here, so that `--help` answers at once; each command brings in
no more than it needs, because a server that restarts should be back soon.
"""

import gc
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from bot.cli.mishap import telling
from bot.cli.options import (
    AsOption,
    ConfigOption,
    Form,
    Found,
    Hosts,
    Paths,
    RunNumber,
    SomeNumber,
    Where,
    before,
)
from bot.errors import SickbayError

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Alerts in, runbooks over SSH, a human asked where it must, the result in Slack.",
)
slack = typer.Typer(no_args_is_help=True, help="What Slack needs to know of Sickbay.")
cli.add_typer(slack, name="slack")
audit = typer.Typer(no_args_is_help=True, help="Is the timeline still what was written into it?")
cli.add_typer(audit, name="audit")
cli.callback()(before)


def main() -> None:
    """Run the command line; errors a person can mend are told without a traceback."""
    from bot.secrets.outlet import guard

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show is no reason to fail
    guard()
    with telling():
        cli()


@contextmanager
def _bringing_in() -> Iterator[None]:
    """Import much: nothing of it is garbage, so the collector need not look at it, now or later."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def _desk(verb: str, words: list[str] | None, config: Path | None, name: str | None) -> None:
    with _bringing_in():
        from bot.cli.desk import desk
    raise typer.Exit(desk(verb, words or [], config, name))


# ── for whoever keeps Sickbay ──
@cli.command()
def init(
    file: Annotated[Path, typer.Argument(help="where to")] = Path("sickbay.yaml"),
) -> None:
    """Write a sickbay.yaml to begin with, every section explained; never over one that is there."""
    from bot.cli.starter import init

    raise typer.Exit(init(file))


@cli.command()
def serve(
    config: ConfigOption = None,
    *,
    log_json: Annotated[bool, typer.Option("--log-json", help="write logs as JSON lines")] = False,
) -> None:
    """Take alerts and commands, run runbooks, until SIGTERM or Ctrl-C."""
    with _bringing_in():
        from bot.cli.serve import serve
    serve(config, log_json=log_json)


@cli.command()
def demo() -> None:
    """Show the main job with a pretend Slack and eight pretend GPU machines."""
    with _bringing_in():
        from bot.cli.demo import demo

    def tell(url: str) -> None:
        """Show the address with its token: it is for whoever sits here."""
        print(f"\n  Sickbay demo: {url}\n\n  Ctrl-C ends it.\n", file=sys.__stdout__, flush=True)

    demo(tell)


@cli.command()
def doctor(config: ConfigOption = None) -> None:
    """Say in plain words what is missing or wrong: tokens, scopes, channel, host keys, hosts, runbooks."""
    with _bringing_in():
        from bot.cli.doctor import doctor
    raise typer.Exit(doctor(config))


@cli.command()
def lint(paths: Paths = None, config: ConfigOption = None) -> None:
    """Report every mistake of runbooks as file:line."""
    from bot.cli.workshop import lint

    raise typer.Exit(lint(paths or [], config))


@cli.command()
def explain(
    runbook: str,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[HOSTS] [NAME=VALUE]...", help="where, and its inputs")
    ] = None,
    alert: Annotated[
        Path | None,
        typer.Option("--alert", help="JSON of an alert: its labels, or Alertmanager's webhook body"),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Say what leads to a runbook, who has to agree, and what each of its steps sees; touches nothing."""
    from bot.cli.explain import explain

    raise typer.Exit(explain(runbook, words or [], alert, config))


@cli.command()
def schema(
    of: Annotated[
        Literal["runbook", "test", "config", "report"], typer.Argument(help="what is to be described")
    ] = "runbook",
) -> None:
    """Print the JSON Schema, for editors: of runbooks, of the tests beside them, of sickbay.yaml, of reports."""
    from bot.cli.workshop import schema

    raise typer.Exit(schema(of))


@cli.command()
def test(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATHS | record RUN", help="files or folders; else all")
    ] = None,
    config: ConfigOption = None,
    *,
    faults: Annotated[
        bool, typer.Option("--faults", help="play each good case with each step broken in each way, instead")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="with record: NAME.test.yaml; else beside the runbook"),
    ] = None,
) -> None:
    """Replay the tests beside the runbooks, without any host; `test record RUN` writes one from a run that was."""
    from bot.cli import workshop

    if paths and paths[0] == Path("record"):
        raise typer.Exit(workshop.record([str(path) for path in paths[1:]], output, config))
    if output is not None:
        raise SickbayError(
            "--output belongs to record", advice="write: sickbay test record RUN --output NAME.test.yaml"
        )
    play = workshop.faults if faults else workshop.test
    raise typer.Exit(play(paths or [], config))


@audit.command("verify")
def verify(
    file: Annotated[Path | None, typer.Argument(help="a database; else that of the configuration")] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="a head that was noted before: is it still there?")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Walk the chain of all events; say which is the first that does not fit, and exit with 1 then."""
    from bot.cli.audit import audit

    raise typer.Exit(audit(file, head, config))


@slack.command("manifest")
def manifest(
    url: Annotated[
        str | None,
        typer.Option("--url", help="with `slack: {transport: http}`: https://…, where Slack reaches Sickbay"),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the app manifest to paste at api.slack.com/apps."""
    from bot.cli.starter import manifest

    raise typer.Exit(manifest(url, config))


# ── the desk ──
@cli.command("help")
def help_(context: typer.Context) -> None:
    """Show what can be said; `sickbay COMMAND --help` tells more of one."""
    assert context.parent is not None
    print(context.parent.get_help())  # noqa: T201


@cli.command()
def check(hosts: Hosts, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Check hosts: GPUs and serving."""
    _desk("check", hosts, config, as_)


@cli.command()
def run(
    runbook: str,
    words: Where = None,
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """Run a runbook on hosts and follow it."""
    _desk("run", [runbook, *(words or [])], config, as_)


@cli.command()
def plan(
    runbook: str,
    words: Where = None,
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """Show what a run would do, host by host and batch by batch; touches nothing."""
    _desk("plan", [runbook, *(words or [])], config, as_)


@cli.command()
def hosts(
    select: Annotated[
        list[str] | None, typer.Argument(metavar="[HOSTS] | enroll HOST", help="else all")
    ] = None,
    config: ConfigOption = None,
    as_: AsOption = None,
    *,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            "--fingerprint", help="with enroll: the one you compared, SHA256:…; then nothing is asked"
        ),
    ] = None,
) -> None:
    """List the hosts; `hosts enroll HOST` shows a host's keys and makes the one you compared known."""
    if select and select[0] == "enroll":
        from bot.cli.enroll import enroll

        raise typer.Exit(enroll(select[1:], fingerprint, config, as_))
    if fingerprint is not None:
        raise SickbayError(
            "--fingerprint belongs to enroll", advice="write: sickbay hosts enroll HOST --fingerprint …"
        )
    _desk("hosts", select, config, as_)


@cli.command()
def runbooks(config: ConfigOption = None, as_: AsOption = None) -> None:
    """List the runbooks."""
    _desk("runbooks", [], config, as_)


@cli.command()
def drains(config: ConfigOption = None, as_: AsOption = None) -> None:
    """List what Sickbay keeps out of traffic, whose it is, and what HAProxy says of it now."""
    _desk("drains", [], config, as_)


@cli.command()
def schedules(config: ConfigOption = None, as_: AsOption = None) -> None:
    """List what is run by the clock: when next, and what came of it."""
    _desk("schedules", [], config, as_)


@cli.command()
def incidents(
    number: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NUMBER] | show NUMBER | export NUMBER", help="else the newest"),
    ] = None,
    config: ConfigOption = None,
    as_: AsOption = None,
    *,
    form: Annotated[Form | None, typer.Option("--format", help="with export; markdown if not said")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="with export: into this file")] = None,
) -> None:
    """List incidents, or one; `incidents show N` tells it whole, `incidents export N` writes that down."""
    verb = number[0] if number else ""
    if verb != "export" and (form is not None or output is not None):
        raise SickbayError(
            "--format and --output belong to export", advice="write: sickbay incidents export NUMBER …"
        )
    if number and verb in ("show", "export"):
        with _bringing_in():
            from bot.cli.export import export
        raise typer.Exit(export(number, form or "markdown", output, config))
    _desk("incidents", number, config, as_)


@cli.command()
def runs(number: SomeNumber = None, config: ConfigOption = None, as_: AsOption = None) -> None:
    """List runs, or show one and what it asks."""
    _desk("runs", number, config, as_)


@cli.command()
def freeze(
    reason: Annotated[list[str], typer.Argument(metavar="REASON [on HOSTS]", help="why, and where")],
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """Let nothing change these hosts, or any; looking goes on."""
    _desk("freeze", reason, config, as_)


@cli.command()
def thaw(
    select: Annotated[list[str] | None, typer.Argument(metavar="[HOSTS]", help="as they were frozen")] = None,
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """Lift the freeze of a host set, or the one of everything."""
    _desk("thaw", select, config, as_)


@cli.command()
def breaker(
    words: Annotated[list[str], typer.Argument(metavar="reset REASON", help="why it may go on")],
    config: ConfigOption = None,
    as_: AsOption = None,
) -> None:
    """Let automation go on after it stopped itself."""
    _desk("breaker", words, config, as_)


@cli.command()
def approve(
    number: RunNumber,
    config: ConfigOption = None,
    as_: AsOption = None,
    *,
    break_glass: Annotated[
        str | None,
        typer.Option(
            "--break-glass", metavar="REASON", help="say yes alone, in an emergency; everybody is told"
        ),
    ] = None,
) -> None:
    """Approve a run's plan; for when Slack is down."""
    glass = [] if break_glass is None else ["break-glass", break_glass]
    _desk("approve", [number, *glass], config, as_)


@cli.command()
def deny(number: RunNumber, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Deny a run's plan."""
    _desk("deny", [number], config, as_)


@cli.command()
def cancel(number: RunNumber, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Cancel a run; what has begun on hosts is told to end."""
    _desk("cancel", [number], config, as_)


@cli.command()
def release(number: RunNumber, reason: Found, config: ConfigOption = None, as_: AsOption = None) -> None:
    """Let go the hosts of a run that ended in doubt, once you have looked there."""
    _desk("release", [number, *reason], config, as_)
