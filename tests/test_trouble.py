"""What is wrong with the database file, told by its cause; and a full disk, where looking goes on."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bot.errors import SickbayError
from bot.store import Store
from bot.store.timeline import verify
from tests.parts.clinic import Clinic
from tests.parts.states import Scene
from tests.stories.faults import small_disk


def refused(path: Path) -> SickbayError:
    with pytest.raises(SickbayError) as raised:
        Store(path, patience=0.01)
    assert "sqlalche" not in str(raised.value).lower()
    assert "[SQL" not in str(raised.value)
    return raised.value


def test_a_locked_file_is_told_as_locked_and_who_may_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.db"
    Store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = refused(path)
    assert error.what == "cannot open the database: database is locked"
    assert error.advice.startswith("another program holds it")


def test_what_is_no_database_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.db"
    path.write_text("a letter to somebody, and no database at all" * 100)
    error = refused(path)
    assert error.what == "cannot open the database: file is not a database"
    assert "store: {path:" in error.advice


def test_a_folder_and_a_missing_folder_are_told(tmp_path: Path) -> None:
    assert refused(tmp_path).what == "cannot open the database: it is a folder"
    assert (
        refused(tmp_path / "no" / "sickbay.db").what == "cannot open the database: No such file or directory"
    )
    with pytest.raises(SickbayError, match="it is a folder, and no database") as raised:
        verify(tmp_path)
    assert "sickbay.db" in raised.value.advice


def test_a_command_that_meets_a_locked_database_later_says_so_in_a_line(clinic: Clinic) -> None:
    path = clinic.folder / "sickbay.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        Store(path).close()
        file.execute("CREATE TRIGGER held BEFORE INSERT ON runs BEGIN SELECT RAISE(FAIL, 'no more'); END")
    said = clinic.say("run", "gpu-check", "gpu-01")
    assert said.code == 2
    assert said.err == (
        "sickbay: the database refused: no more\n  → see what it says with `sickbay doctor`\n"
    )


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A database with an incident, on a disk that has nothing left."""
    with small_disk(tmp_path / "disk", "2m") as disk:
        path = disk / "sickbay.db"
        scene = Scene.at(disk)
        scene.incident()
        scene.store.timeline.note("x.y", host="gpu-03")
        scene.store.close()
        fill(disk)
        yield path


def fill(disk: Path) -> None:
    """Write until there is no room for a byte more."""
    with (disk / "fill").open("wb", buffering=0) as rest:
        try:
            while rest.write(b"x" * 1024):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017


def test_on_a_full_disk_one_can_look_and_whoever_writes_hears_of_the_disk(full: Path) -> None:
    with closing(Store(full)) as store:
        events = len(store.timeline.after(0))
        assert store.timeline.after(0)[-1].kind == "x.y"
        with pytest.raises(
            SickbayError, match=r"nothing can be written: its disk is full, [0-9]+ KiB are left"
        ):
            store.timeline.note("x.z")
    assert verify(full).events == events
    (full.parent / "fill").unlink()
    with closing(Store(full)) as store:
        store.timeline.note("x.z")
        assert len(store.timeline.after(0)) == events + 1


def test_on_a_full_disk_nothing_old_is_shown_as_new_where_the_rest_is_in_the_wal(full: Path) -> None:
    (full.parent / "fill").unlink()
    with closing(sqlite3.connect(full)) as other:
        other.execute("UPDATE meta SET schema = schema")
        other.commit()
        for one in ("sickbay.db", "sickbay.db-wal"):  # as after a kill
            (full.parent / f"copy-{one}").write_bytes((full.parent / one).read_bytes())
    for one in ("sickbay.db", "sickbay.db-wal"):
        (full.parent / f"copy-{one}").rename(full.parent / one)
    fill(full.parent)
    assert refused(full).what.startswith("cannot open the database: its disk is full")
    with pytest.raises(SickbayError, match="the timeline cannot be read: its disk is full"):
        verify(full)


def test_the_terminal_looks_on_a_full_disk_and_serve_does_not_begin(clinic: Clinic, full: Path) -> None:
    clinic.write(store={"path": str(full)})
    looking = "runs", "hosts gpu-03", "incidents 1", "incidents show 1", "incidents export 1", "audit verify"
    for words in looking:
        said = clinic.say(*words.split())
        assert said.code == 0, said.err
    assert f"✗ {full}: nothing can be written: its disk is full" in clinic.say("doctor").out
    said = clinic.say("serve")
    assert said.code == 2
    assert f"{full}: nothing can be written: its disk is full" in said.err
