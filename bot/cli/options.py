"""The options and arguments that several commands share, and what stands before every command."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="sickbay.yaml; else $SICKBAY_CONFIG, ./sickbay.yaml, ~/.config/sickbay"
    ),
]
AsOption = Annotated[
    str | None,
    typer.Option("--as", help="who you are under `people:`, from an account that is nobody's own"),
]
Hosts = Annotated[list[str], typer.Argument(metavar="HOSTS", help="gpu-03, gpu-[01-08], @serving, @a!@b")]
Where = Annotated[
    list[str] | None, typer.Argument(metavar="HOSTS [NAME=VALUE]...", help="where, and its inputs")
]
Found = Annotated[list[str], typer.Argument(metavar="REASON", help="what you found there")]
RunNumber = Annotated[str, typer.Argument(metavar="RUN", help="its number")]
SomeNumber = Annotated[list[str] | None, typer.Argument(metavar="[NUMBER]", help="one of them")]
Form = Literal["markdown", "json"]
Paths = Annotated[list[Path] | None, typer.Argument(help="files or folders; else those of the configuration")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"sickbay {version('sickbay')}")  # noqa: T201
        raise typer.Exit


def before(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    _: Annotated[
        bool, typer.Option("--version", help="print which Sickbay this is", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take what stands before the command: `-c FILE` there is the same as behind it."""
    if config is not None:
        behind = {"config": config}
        context.default_map = dict.fromkeys(getattr(context.command, "commands", ()), behind) | {
            "audit": {"verify": behind},
            "slack": {"manifest": behind},
        }
