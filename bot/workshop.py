"""For whoever writes runbooks: `sickbay lint`, `test` and `schema`; each returns the exit code.

Without a configuration they work on what they are given, or on the shipped runbooks.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bot.config import find_config, load
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
    count, mistakes = lint_files(_folders(paths, config, os.environ), kinds=KINDS, parsers=PARSERS)
    out = console(sys.stdout)
    for mistake in mistakes:
        out.print(str(mistake), markup=False, soft_wrap=True)
    out.print(f"{_number(count, 'runbook')}, {_number(len(mistakes), 'mistake')}")
    return UNWELL if mistakes else OK


def test(paths: Sequence[Path], config: Path | None) -> int:
    """Replay the cases, and print what differed."""
    out = console(sys.stdout)
    count = {True: 0, False: 0}
    for result in rehearse(_folders(paths, config, os.environ)):
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


def _number(count: int, of: str) -> str:
    return f"{count} {of}" if count == 1 else f"{count} {of}s"
