"""The timeline in its file: append-only, chained, and told apart from one that somebody worked on."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError

from bot.chain import BEGIN, COLUMNS, link
from bot.errors import SickbayError
from bot.incident import Event
from bot.secrets.mask import Mask
from bot.store import Store
from bot.store.tables import APPEND_ONLY
from bot.store.timeline import tell, tell_each, verify
from tests.parts.stage import BOB, Stage

Work = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the timeline of a run that was approved, and some of nobody's."""
    folder = tmp_path_factory.mktemp("written")
    stage = Stage(folder)
    stage.store.timeline.note("service.started", version="0.1.0")
    run = stage.play(mode="approve")
    stage.decide(run.id, BOB)
    stage.advance(run.id)
    stage.store.timeline.note("message.undeliverable", run=run.id, why='no "channel" \ud800 ünï')
    stage.close()
    return folder / "sickbay.db"


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.db"))


def worked_on(path: Path, work: Work) -> None:
    """Do something to a database that the triggers forbid, and leave no trace of how."""
    with closing(sqlite3.connect(path)) as file:
        for name in APPEND_ONLY:
            file.execute(f"DROP TRIGGER {name}")
        work(file)
        for trigger in APPEND_ONLY.values():
            file.execute(trigger)
        file.commit()


def rows(file: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return file.execute(f"SELECT {', '.join(COLUMNS)}, hash FROM events ORDER BY id").fetchall()


def chain_anew(file: sqlite3.Connection) -> None:
    """Compute all hashes anew, as somebody would who knows how."""
    before = BEGIN
    for row in rows(file):
        before = link(before, row[:-1])
        file.execute("UPDATE events SET hash = ? WHERE id = ?", (before, row[0]))


def test_the_timeline_of_a_real_run_fits_and_its_head_is_the_newest_hash(written: Path) -> None:
    found = verify(written)
    with closing(sqlite3.connect(written)) as file:
        every = rows(file)
    assert (found.fault, found.events, found.head) == ("", len(every), every[-1][-1])
    assert len(every) > 15
    for row in every:
        assert verify(written, row[-1]).noted == row[0]


def test_half_a_letter_is_no_reason_to_lose_an_event(written: Path) -> None:
    with closing(Store(written)) as store:
        *_, last = store.timeline.of(run=1)
        assert last.data["why"] == 'no "channel" \ud800 ünï'
        assert last.hash == store.timeline.head()[1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_byte_of_whatever_event_is_changed_it_is_the_first_that_does_not_fit(
    written: Path, tmp_path: Path, data: Any
) -> None:
    copy = Path(shutil.copy(written, tmp_path / "changed.db"))
    with closing(sqlite3.connect(copy)) as file:
        every = rows(file)
    at = data.draw(st.integers(0, len(every) - 1), "event")
    column = data.draw(st.sampled_from([*COLUMNS[1:], "hash"]), "column")
    value = every[at][[*COLUMNS, "hash"].index(column)]
    new: Any
    if isinstance(value, str):
        raw = bytearray(value.encode())
        place = data.draw(st.integers(0, len(raw) - 1), "place")
        raw[place] ^= data.draw(st.integers(1, 255), "bits")
        new = bytes(raw)
    else:
        new = data.draw(st.integers(-(2**63), 2**63 - 1).filter(lambda one: one != value), "number")

    def change(file: sqlite3.Connection) -> None:
        cast = "CAST(? AS TEXT)" if isinstance(new, bytes) else "?"
        file.execute(f"UPDATE events SET {column} = {cast} WHERE id = ?", (new, every[at][0]))

    worked_on(copy, change)
    found = verify(copy)
    assert found.events == at, found.fault
    assert f"event {at + 1} (" in found.fault


SWAP = """
UPDATE events SET id = -1 WHERE id = 5;
UPDATE events SET id = 5 WHERE id = 6;
UPDATE events SET id = 6 WHERE id = -1;
"""


@pytest.mark.parametrize(
    ("work", "fits", "fault"),
    [
        ("DELETE FROM events WHERE id = 5", 4, "event 5 is missing, between event 4 ("),
        ("DELETE FROM events WHERE id BETWEEN 5 AND 7", 4, "events 5 to 7 are missing, between event 4 ("),
        ("DELETE FROM events WHERE id = 1", 0, "event 1 is missing, between the beginning and event 2 ("),
        ("UPDATE events SET id = -id WHERE id = 5", 0, "has a number that no event can have"),
        (
            SWAP,
            4,
            "event 5 (",
        ),
        ("UPDATE events SET data = CAST(data AS BLOB) WHERE id = 3", 2, "its `data` holds what is never"),
        ("UPDATE events SET hash = CAST(hash AS BLOB) WHERE id = 3", 2, "its `hash` holds what is never"),
        ("UPDATE events SET hash = upper(hash) WHERE id = 3", 2, "its hash does not fit"),
    ],
)
def test_what_was_removed_moved_or_turned_into_something_else_is_found(
    copy: Path, work: str, fits: int, fault: str
) -> None:
    worked_on(copy, lambda file: file.executescript(work))
    found = verify(copy)
    assert found.events == fits
    assert fault in found.fault


def test_an_event_that_was_put_in_is_found_although_it_fits_the_one_before_it(copy: Path) -> None:
    def put_in(file: sqlite3.Connection) -> None:
        for row in reversed(rows(file)[4:]):
            file.execute("UPDATE events SET id = id + 1 WHERE id = ?", (row[0],))
        before = rows(file)[3][-1]
        new = (5, rows(file)[3][1], "approval.decided", None, 1, None, None, '{"by": "mallory"}')
        marks = ", ".join("?" * 9)
        file.execute(f"INSERT INTO events VALUES ({marks})", (*new, link(before, new)))

    worked_on(copy, put_in)
    found = verify(copy)
    assert found.events == 5
    assert "event 6 (" in found.fault
    assert "or the one before it (event 5 (" in found.fault


def test_a_timeline_that_was_cut_off_is_found_also_after_it_went_on(copy: Path) -> None:
    head = verify(copy).head
    last = verify(copy).events
    worked_on(copy, lambda file: file.execute(f"DELETE FROM events WHERE id > {last - 3}"))
    assert (
        f"events {last - 2} to {last} are missing at the end, after event {last - 3} (" in verify(copy).fault
    )
    with closing(Store(copy)) as store:
        store.timeline.note("service.started")
    found = verify(copy, head)
    assert f"events {last - 2} to {last} are missing, between event {last - 3} (" in found.fault
    assert found.noted is None


@pytest.mark.parametrize("cut", [True, False])
def test_a_timeline_that_was_written_anew_fits_and_only_a_head_that_was_noted_tells(
    copy: Path, cut: bool
) -> None:
    before = verify(copy)

    def anew(file: sqlite3.Connection) -> None:
        if cut:
            file.execute(f"DELETE FROM events WHERE id > {before.events - 3}")
            file.execute("UPDATE sqlite_sequence SET seq = (SELECT max(id) FROM events)")
        else:
            file.execute("UPDATE events SET data = replace(data, 'bob', 'eve')")
            chain_anew(file)

    worked_on(copy, anew)
    found = verify(copy, before.head)
    assert (found.fault, found.noted) == ("", None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET kind = 'x' WHERE id = 3",
        "UPDATE events SET hash = hash",
        "DELETE FROM events WHERE id = 3",
        "DELETE FROM events",
        "INSERT INTO events SELECT * FROM events WHERE id = 3",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE id = 3",
        "INSERT INTO events SELECT -5, at, kind, incident_id, run_id, host, step, data, hash FROM events WHERE id = 3",
        "INSERT INTO events (at, kind, data, hash) VALUES ('', '', '', '')",
    ],
)
def test_nothing_but_a_new_event_at_the_end_is_taken(copy: Path, statement: str) -> None:
    with closing(Store(copy)) as store:
        with pytest.raises(IntegrityError, match="the timeline is append-only"), store.write() as tx:
            tx.execute(text(statement))
        assert verify(copy).fault == ""


def test_a_database_without_what_keeps_its_events_is_told(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as file:
        file.execute("DROP TRIGGER events_are_not_removed")
    found = verify(copy)
    assert found.fault == (
        "all events fit, but what keeps them from being changed is gone from the database: events_are_not_removed"
    )


# ── writing ──
def test_events_of_one_transaction_are_chained_and_one_that_fails_leaves_no_gap(stage: Stage) -> None:
    store, path = stage.store, Path(stage.store.database.path)
    with store.write() as tx:
        told = [{"host": f"gpu-{n:02}", "step": "look", "data": {"number": n}} for n in range(300)]
        tell_each(tx, stage.clock(), "step.begun", told, incident=1, run=2)
        tell(tx, stage.clock(), "run.ended", run=2, state="failed")
    with pytest.raises(ZeroDivisionError), store.write() as tx:  # noqa: PT012
        tell(tx, stage.clock(), "run.ended")
        raise ZeroDivisionError
    store.timeline.note("service.stopped")
    events = store.timeline.after(0)
    assert [event.id for event in events] == list(range(1, 303))
    assert events[7] == Event(
        8, stage.clock(), "step.begun", 1, 2, "gpu-07", "look", {"number": 7}, events[7].hash
    )
    assert verify(path).fault == ""
    assert verify(path).events == 302


def test_what_is_taken_out_of_a_text_on_its_way_into_the_file_is_not_in_the_hash_either(stage: Stage) -> None:
    def without(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        rows = parameters if isinstance(parameters, list) else [parameters]
        hidden = [
            tuple(one.replace("hush", "•••") if isinstance(one, str) else one for one in row) for row in rows
        ]
        return statement, hidden if isinstance(parameters, list) else hidden[0]

    listen(stage.store.database._engine, "before_cursor_execute", without, retval=True)
    stage.store.timeline.note("x.y", said="hush now")
    (told,) = stage.store.timeline.after(0)
    assert told.data == {"said": "••• now"}
    assert verify(stage.store.database.path).fault == ""


def test_a_secret_is_neither_in_an_event_nor_in_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.db"
    with closing(Store(path, mask=Mask(['my "own" secret']))) as store:
        store.timeline.note(
            "x.y", said='it is my "own" secret', host="gpu-03", hf_token="HF_TOKEN=hf_abcdefghijklmnop"
        )
        (told,) = store.timeline.after(0)
    assert told.data["said"] == "it is •••"
    assert "hf_abc" not in told.data["hf_token"]
    assert verify(path).fault == ""


def test_many_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.db"
    stores = [Store(path) for _ in range(3)]
    start = threading.Barrier(6)

    def write(store: Store, name: str) -> None:
        start.wait()
        for number in range(25):
            store.timeline.note("x.y", name=name, number=number)

    code = (
        "import sys; from bot.store import Store; s = Store(sys.argv[1]); "
        "[s.timeline.note('x.y', name='another process', number=n) for n in range(25)]"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path)])
    threads = [threading.Thread(target=write, args=(stores[at % 3], f"thread {at}")) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    found = verify(path)
    assert (found.fault, found.events) == ("", 7 * 25)
    for name in ("another process", *(f"thread {at}" for at in range(6))):
        mine = [one.data["number"] for one in stores[0].timeline.after(0) if one.data["name"] == name]
        assert mine == list(range(25)), "each writer's own events keep their order"
    for store in stores:
        store.close()


def test_it_is_walked_while_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.db"
    with closing(Store(path)) as store:
        store.timeline.note("x.y")
        over = threading.Event()

        def write() -> None:
            while not over.is_set():
                store.timeline.note("x.y")

        thread = threading.Thread(target=write)
        thread.start()
        try:
            seen = [verify(path) for _ in range(20)]
        finally:
            over.set()
            thread.join()
    assert {one.fault for one in seen} == {""}
    assert [one.events for one in seen] == sorted(one.events for one in seen)


# ── what is no timeline ──
@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.write_bytes(b"not a database" * 100), "the timeline cannot be read"),
        (
            lambda path: sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close(),
            "cannot be read",
        ),
    ],
)
def test_what_is_no_database_of_ours_is_refused_and_nothing_is_made(
    tmp_path: Path, made: Callable[[Path], object], told: str
) -> None:
    path = tmp_path / "what.db"
    made(path)
    before = list(tmp_path.iterdir())
    with pytest.raises(SickbayError, match=told) as refused:
        verify(path)
    assert refused.value.where == str(path)
    assert list(tmp_path.iterdir()) == before


@pytest.fixture(autouse=True)
def _kept(written: Path) -> Iterator[None]:
    before = written.read_bytes()
    yield
    assert written.read_bytes() == before, "looking changes nothing"
