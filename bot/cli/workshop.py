"""For whoever writes runbooks: `sickbay lint`, `test` and `schema`; each returns the exit code.

Without a configuration they work on what they are given, or on the shipped runbooks.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from bot.cli.terminal import OK, UNWELL, console
from bot.config.config import Config, find_config, load
from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.language.runbook import Runbook
from bot.language.schema import json_schema
from bot.library import lint_files
from bot.shipped import shipped
from bot.steps import KINDS
from bot.wording import count


def lint(paths: Sequence[Path], config: Path | None) -> int:
    """Print every mistake."""
    found = configured(config, os.environ) if not paths or config else None
    files, mistakes = lint_files(
        paths or _folders(found),
        kinds=KINDS,
        parsers=PARSERS,
        secrets=None if found is None else found.secrets,
    )
    out = console(sys.stdout)
    for mistake in mistakes:
        out.print(str(mistake), markup=False, soft_wrap=True)
    out.print(f"{count(files, 'runbook')}, {count(len(mistakes), 'mistake')}")
    return UNWELL if mistakes else OK


def test(paths: Sequence[Path], config: Path | None) -> int:
    """Replay the cases, and print what differed."""
    from bot.rehearsal import rehearse  # whoever lints waits for no engine and no store

    out = console(sys.stdout)
    ended = {True: 0, False: 0}
    places = paths or _folders(configured(config, os.environ))
    for result in rehearse(places):
        ended[result.passed] += 1
        out.print(f"{'ok    ' if result.passed else 'FAILED'} {result.name}", markup=False, soft_wrap=True)
        for problem in result.problems:
            out.print(f"       {problem}", markup=False, soft_wrap=True)
    if not any(ended.values()):
        out.print(_untested(places), markup=False)
    out.print(f"{ended[True]} passed, {ended[False]} failed")
    return OK if ended[True] and not ended[False] else UNWELL


def faults(paths: Sequence[Path], config: Path | None) -> int:
    """Break each step of the good cases in turn; print how many ways, and the first that broke a rule."""
    from bot.rehearsal import break_steps

    out = console(sys.stdout)
    well = []
    places = paths or _folders(configured(config, os.environ))
    for result in break_steps(places):
        well.append(result.passed)
        word = "ok    " if result.passed else "FAILED"
        out.print(f"{word} {result.name}: {count(result.cases, 'fault')}", markup=False, soft_wrap=True)
        if result.problems:
            out.print(f"       {result.problems[0]}", markup=False, soft_wrap=True)
        if len(result.problems) > 1:
            more = count(len(result.problems) - 1, "more rule")
            out.print(f"       and {more} broken", markup=False, soft_wrap=True)
    if not well:
        out.print(_untested(places), markup=False)
    return OK if well and all(well) else UNWELL


def _untested(places: Sequence[Path]) -> str:
    where = ", ".join(map(str, places))
    return f"no test of a runbook was found in {where}: one is NAME.test.yaml, beside NAME.yaml"


def record(words: Sequence[str], output: Path | None, config: Path | None) -> int:
    """Write a case from a run that was.

    Raises:
        SickbayError: when the run cannot be a test, saying why.

    """
    if len(words) != 1 or not (words[0].isascii() and words[0].isdigit() and len(words[0]) < 10):
        raise SickbayError("record: it takes the number of one run", advice="write: sickbay test record RUN")
    from bot.assembly import Assembly
    from bot.rehearsal import SUFFIX
    from bot.rehearsal.recording import Recorded, append, case_of

    path = find_config(config, os.environ, Path.cwd())
    assembly = Assembly.of(*load(path, os.environ), os.environ)
    with closing(assembly.store) as store:
        run = store.runs.get(int(words[0]))
        if run is None:
            raise SickbayError(f"there is no run {words[0]}", advice="`sickbay runs` lists the newest")
        attempts, events = store.attempts.of(run.id), store.timeline.of(run=run.id)
        kept = Recorded(run, attempts, store.attempts.output, store.approvals.get(run.id), events)
        loaded = assembly.library.get(run.runbook.name)
        name, data = case_of(kept, loaded, assembly.inventory, assembly.mask.text)
    file = output or Path(loaded.file if loaded else "").with_name(f"{run.runbook.name}{SUFFIX}")
    append(file, name, data)
    console(sys.stdout).print(f"{file}: {name}", markup=False, soft_wrap=True)
    return OK


def schema(of: Literal["runbook", "test", "config", "report"] = "runbook") -> int:
    """Print the schema of runbooks, of the tests beside them, of sickbay.yaml, or of reports."""
    from bot.rehearsal.case import Cases
    from bot.report import Report

    models: dict[str, type[BaseModel]] = {
        "runbook": Runbook,
        "test": Cases,
        "config": Config,
        "report": Report,
    }
    print(json.dumps(json_schema(models[of]), indent=2))  # noqa: T201
    return OK


def configured(config: Path | None, environ: Mapping[str, str]) -> Config | None:
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
