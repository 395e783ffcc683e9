"""`sickbay audit verify`: what it says, and with what it ends."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.cli.main import cli
from bot.errors import SickbayError
from bot.store import Store
from tests.parts.clinic import Clinic

EVENTS = 5


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A database with five events."""
    with closing(Store(tmp_path / "sickbay.db")) as store:
        for number in range(EVENTS):
            store.timeline.note("x.y", host="gpu-03", number=number)
        yield tmp_path / "sickbay.db"


def head(path: Path) -> str:
    with closing(Store(path)) as store:
        return store.timeline.head()[1]


def say(*words: str | Path) -> tuple[int, str]:
    said = CliRunner().invoke(cli, ["audit", "verify", *map(str, words)])
    if isinstance(said.exception, SickbayError):
        raise said.exception
    return said.exit_code, said.output


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(
            f"DROP TRIGGER events_are_not_edited; DROP TRIGGER events_are_not_removed; {statement}"
        )


def test_a_timeline_that_fits_ends_with_0_and_prints_its_head(path: Path) -> None:
    assert say(path) == (0, f"All 5 events fit.\nHead: {head(path)}\n")


def test_the_head_that_was_noted_is_found_though_the_timeline_went_on(path: Path) -> None:
    noted = head(path)
    with closing(Store(path)) as store:
        store.timeline.note("x.y")
    code, out = say(path, "--head", noted[:16].upper())
    assert code == 0
    assert out.endswith("The head that was noted is event 5; 1 event came later.\n")


def test_a_timeline_that_does_not_fit_ends_with_1_and_says_where_it_breaks(path: Path) -> None:
    noted = head(path)
    spoil(path, "UPDATE events SET data = '{}' WHERE id = 3")
    code, out = say(path)
    assert code == 1
    first, second = out.splitlines()
    assert first.startswith("The timeline does not hold: event 3 (at 20")
    assert "x.y, gpu-03) was changed or put in, or the one before it (event 2 (" in first
    assert second == "Before that, 2 events fit. Keep the file as it is, and compare it with a copy."
    code, out = say(path, "--head", noted)
    assert code == 1
    assert out.endswith("The head that was noted was not met before that.\n")


def test_a_head_that_no_event_has_ends_with_1(path: Path) -> None:
    noted = head(path)
    spoil(path, "DELETE FROM events WHERE id > 3; UPDATE sqlite_sequence SET seq = 3")
    code, out = say(path, "--head", noted)
    assert code == 1
    assert "what keeps them from being changed is gone" in out
    assert "No event has the head that was noted: events that were there then are gone" in out
    other = path.with_name("other.db")
    with closing(Store(other)) as store:
        store.timeline.note("x.y")
    code, out = say(other, "--head", noted)
    assert code == 1
    assert "No event has the head that was noted" in out


@pytest.mark.parametrize("noted", ["", "abc", "x" * 64, "a" * 65, "0" * 15])
def test_what_is_no_head_is_refused(path: Path, noted: str) -> None:
    with pytest.raises(SickbayError, match="is no head of a timeline") as refused:
        say(path, "--head", noted)
    assert "at least its first 16 letters" in refused.value.advice


def test_without_a_file_it_is_the_one_of_the_configuration(clinic: Clinic) -> None:
    nothing = clinic.say("audit", "verify")
    assert (nothing.code, "there is no such file" in nothing.err) == (2, True), nothing.err
    assert clinic.say("run", "gpu-check", "gpu-01").code == 0
    said = clinic.say("audit", "verify")
    assert said.code == 0, said.err
    assert said.out.startswith("All ")
