"""`sickbay incidents show` and `export`: an incident, told to somebody who was not there."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from rich.markdown import Markdown

from bot.atomic import replace
from bot.cli.terminal import OK, UNWELL, console
from bot.commands.grammar import one_number
from bot.commands.reporting import report
from bot.config.config import find_config, load
from bot.engine.vault import read_secrets
from bot.errors import SickbayError
from bot.messages.report import markdown
from bot.store import Store

Form = Literal["markdown", "json"]


def export(words: Sequence[str], form: Form, output: Path | None, config: Path | None) -> int:
    """Print an incident's report, laid out where a person looks at it, or write it into a file; return 1 where the timeline behind it does not hold.

    Raises:
        SickbayError: when there is no such incident, or the file cannot be written.

    """
    verb, *numbers = words
    number = one_number(f"incidents {verb}", numbers)
    settings, _ = load(find_config(config, os.environ, Path.cwd()), os.environ)
    _, _, mask = read_secrets(settings, os.environ)
    with closing(Store(settings.store_path, mask=mask)) as store:
        found = report(store, number, mask)
    text = found.model_dump_json(indent=2) + "\n" if form == "json" else markdown(found)
    if output is None and verb == "show" and sys.stdout.isatty():
        console(sys.stdout).print(Markdown(text, hyperlinks=False))
    elif output is None:
        sys.stdout.write(text)
    else:
        _write(output, text)
        print(f"Written to {output}. Head of the timeline: {found.chain.head}", file=sys.stderr)  # noqa: T201
    if found.chain.fault:
        print(f"The timeline does not hold: {found.chain.fault}.", file=sys.stderr)  # noqa: T201
        return UNWELL
    return OK


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, for its owner only: it holds what hosts printed."""
    try:
        replace(path, text.encode(), None)
    except OSError as error:
        raise SickbayError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            advice="name a file in a folder that is yours, or leave --output out and use the shell's `>`",
        ) from error
