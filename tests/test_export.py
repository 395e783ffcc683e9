"""`sickbay incidents show` and `export`: what is written where, and what is refused."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.cli.main import cli
from bot.commands.grammar import Misunderstood, Report, parse
from bot.errors import SickbayError
from bot.report import Report as Told
from tests.parts.clinic import Talk
from tests.parts.states import Scene


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sickbay.yaml, and a database with one incident."""
    (tmp_path / "sickbay.yaml").write_text("hosts:\n  gpu-03: {address: 10.0.0.3}\n")
    scene = Scene.at(tmp_path)
    incident = scene.incident()
    run_id = scene.run(incident=incident)
    run = scene.claim(run_id)
    scene.look(run)
    scene.store.close()
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("SICKBAY_", "SLACK_")):
            monkeypatch.delenv(name)
    return tmp_path


def say(*words: str) -> tuple[int, str, str]:
    said = CliRunner().invoke(cli, ["incidents", *words])
    if isinstance(said.exception, SickbayError):
        raise said.exception
    return said.exit_code, said.stdout, said.stderr


def test_show_prints_it_and_export_prints_the_same_or_json(folder: Path) -> None:
    code, shown, _ = say("show", "1")
    assert code == 0
    assert shown.startswith("# Incident 1: vLLM on gpu-03 stopped answering\n")
    _, exported, _ = say("export", "1", "--format", "markdown")

    def undated(text: str) -> str:
        return "\n".join(line for line in text.splitlines() if "Written " not in line)

    assert undated(exported) == undated(shown)
    code, text, _ = say("export", "1", "--format", "json")
    found = Told.model_validate_json(text)
    assert (code, found.id, found.runs[0].runbook) == (0, 1, "restart-container")


def test_in_a_terminal_it_is_laid_out_for_the_eye(folder: Path) -> None:
    with Talk(["incidents", "show", "1"], folder, dict(os.environ), tty=True) as talk:
        assert talk.end() == 0
    assert "Incident 1: vLLM on gpu-03 stopped answering" in talk.text
    assert "# Incident 1" not in talk.text


def test_a_file_is_written_whole_for_its_owner_only_and_the_head_is_said(folder: Path) -> None:
    target = folder / "incident-1.json"
    target.write_text("old")
    code, out, err = say("export", "1", "--format", "json", "--output", str(target))
    assert (code, out) == (0, "")
    data = json.loads(target.read_text())
    assert err == f"Written to {target}. Head of the timeline: {data['chain']['head']}\n"
    assert target.stat().st_mode & 0o077 == 0
    assert not [one for one in folder.iterdir() if one.name.startswith(".incident")]


def test_a_timeline_that_does_not_hold_ends_with_1_and_is_exported_all_the_same(folder: Path) -> None:
    import sqlite3

    file = sqlite3.connect(folder / "sickbay.db")
    file.executescript("DROP TRIGGER events_are_not_edited; UPDATE events SET kind = 'x' WHERE id = 2")
    file.close()
    code, out, err = say("export", "1")
    assert code == 1
    assert out.startswith("# Incident 1")
    assert "The timeline does not hold: event 2 (" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show"], "incidents show: it takes one number"),
        (["show", "x"], "`x` is not a number"),
        (["export", "1", "2"], "incidents export: it takes one number"),
        (["show", "7"], "there is no incident 7"),
        (["export", "1", "--output", "no/such/folder/x"], "cannot be written: No such file or directory"),
        (["show", "1", "--format", "json"], "--format and --output belong to export"),
        (["--output", "x"], "--format and --output belong to export"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(folder: Path, words: list[str], told: str) -> None:
    with pytest.raises(SickbayError, match=told) as refused:
        say(*words)
    assert refused.value.advice


def test_in_slack_it_is_told_in_short_and_written_nowhere() -> None:
    assert parse("incidents show 7") == Report(7)
    with pytest.raises(Misunderstood) as refused:
        parse("incidents export 7")
    assert "sickbay incidents export NUMBER" in refused.value.advice
