"""For whoever writes runbooks: `sickbay lint`, `test` and `schema`; each returns the exit code.

Without a configuration they work on what they are given, or on the shipped runbooks.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bot.config import Config, find_config, load
from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.library import lint_files
from bot.rehearsal import rehearse
from bot.report import Report
from bot.runbook import Runbook
from bot.schema import json_schema
from bot.shipped import shipped
from bot.steps import KINDS
from bot.terminal import OK, UNWELL, console


def lint(paths: Sequence[Path], config: Path | None) -> int:
    """Print every mistake."""
    found = _configured(config, os.environ) if not paths or config else None
    count, mistakes = lint_files(
        paths or _folders(found),
        kinds=KINDS,
        parsers=PARSERS,
        secrets=None if found is None else found.secrets,
    )
    out = console(sys.stdout)
    for mistake in mistakes:
        out.print(str(mistake), markup=False, soft_wrap=True)
    out.print(f"{_number(count, 'runbook')}, {_number(len(mistakes), 'mistake')}")
    return UNWELL if mistakes else OK


def test(paths: Sequence[Path], config: Path | None) -> int:
    """Replay the cases, and print what differed."""
    out = console(sys.stdout)
    count = {True: 0, False: 0}
    for result in rehearse(paths or _folders(_configured(config, os.environ))):
        count[result.passed] += 1
        out.print(f"{'ok    ' if result.passed else 'FAILED'} {result.name}", markup=False, soft_wrap=True)
        for problem in result.problems:
            out.print(f"       {problem}", markup=False, soft_wrap=True)
    out.print(f"{count[True]} passed, {count[False]} failed")
    return OK if count[True] and not count[False] else UNWELL


def schema(of: Literal["runbook", "report"] = "runbook") -> int:
    """Print the schema of runbooks, or of reports."""
    print(json.dumps(json_schema(Report if of == "report" else Runbook), indent=2))  # noqa: T201
    return OK


def _configured(config: Path | None, environ: Mapping[str, str]) -> Config | None:
    """Return the configuration, if there is one."""
    try:
        path = find_config(config, environ, Path.cwd())
    except SickbayError:
        if config is not None or environ.get("SICKBAY_CONFIG"):
            raise
        return None
    return load(path, environ)[0]


def _folders(config: Config | None) -> list[Path]:
    """Return the runbook folders of the configuration, else the shipped ones."""
    return list(config.runbook_folders) if config is not None else [shipped("runbooks")]


def _number(count: int, of: str) -> str:
    return f"{count} {of}" if count == 1 else f"{count} {of}s"
