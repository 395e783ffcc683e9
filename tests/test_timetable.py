"""Times become runs, and what those runs find becomes one incident for each finding, until it is gone."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from bot.assembly import Assembly
from bot.config.config import load
from bot.delivery import Delivery
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.guard.maintenance import Window, Windows
from bot.language.schedule import Cron, Schedule
from bot.library import Loaded
from bot.steps import KINDS
from bot.store import Store
from bot.store.schedules import KEPT, PRINTED
from bot.timetable import Rules, Timetable
from tests.parts.books import book
from tests.parts.office import CHECK, EVERY_TEN, PROMPT, Office
from tests.parts.script import PATIENCE, Script, done
from tests.parts.states import Hands


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """An office at three o'clock."""
    one = Office(tmp_path)
    yield one
    one.stage.close()


# ── from times to runs ──
def test_a_time_that_comes_starts_one_run_on_the_whole_fleet_and_shows_it_nowhere(office: Office) -> None:
    office.pass_by(minutes=9, seconds=59)
    assert office.runs == []
    assert office.timetable.next_wake() == datetime(2026, 3, 1, 3, 10, tzinfo=UTC)
    office.pass_by(seconds=1)
    office.timetable.turn()
    (run,) = office.runs
    assert run.hosts == ("gpu-01", "gpu-02", "gpu-03", "gpu-04")
    assert (run.requester.name, run.requester.via, run.channel) == (f"schedule {EVERY_TEN}", "schedule", "")
    assert office.timetable.next_wake() == datetime(2026, 3, 1, 3, 20, tzinfo=UTC)


def test_the_hosts_are_those_that_the_configuration_says_else_the_runbook(tmp_path: Path) -> None:
    office = Office(tmp_path, hosts="gpu-[02-03]")
    office.round()
    office.timetable = office.another(schedules=[Schedule("watch", Cron(EVERY_TEN), "gpu-04")])
    office.round()
    assert [run.hosts for run in office.runs] == [("gpu-02", "gpu-03"), ("gpu-04",)]
    office.stage.close()


def test_hosts_in_maintenance_are_left_out_and_where_all_are_it_is_said(office: Office) -> None:
    hours = {"start": "2026-03-01T03:00:00Z", "end": "2026-03-01T03:25:00Z", "reason": "new disks"}
    some = Window.model_validate({"hosts": "gpu-[01-03]", **hours})
    every = Window.model_validate({"hosts": "gpu-[01-04]", **hours})
    covers = {"gpu-[01-03]": frozenset({"gpu-01", "gpu-02", "gpu-03"})}
    covers["gpu-[01-04]"] = covers["gpu-[01-03]"] | {"gpu-04"}
    office.timetable = office.another(windows=Windows([some], covers.__getitem__))
    office.round()
    office.timetable = office.another(windows=Windows([every], covers.__getitem__))
    office.pass_by(minutes=10)
    office.round(minutes=10)
    assert [run.hosts for run in office.runs] == [("gpu-04",), ("gpu-01", "gpu-02", "gpu-03", "gpu-04")]
    assert [one["why"] for one in office.told("schedule.skipped")] == [
        "not started: all of @* is in maintenance"
    ]


def test_a_schedule_begins_when_it_is_first_seen_and_goes_on_over_restarts(office: Office) -> None:
    office.round()
    office.timetable = office.another()
    office.pass_by()
    assert len(office.runs) == 1, "the time that was dealt with is not dealt with again"
    office.timetable = office.another()
    office.round(minutes=10)
    assert len(office.runs) == 2, "nor is the next one forgotten"


@pytest.mark.parametrize(("missed", "runs"), [("skip", 0), ("once", 1)])
def test_times_that_passed_while_it_was_down_are_skipped_or_made_up_for_once(
    office: Office, missed: Any, runs: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    office.stage.clock.on(hours=5, minutes=3)  # the last one came three minutes ago
    office.timetable = office.another(rules=Rules(timedelta(0), missed))
    office.timetable.turn()
    assert len(office.runs) == runs
    assert office.told("schedule.missed") == [{"runbook": "watch", "count": 30 - runs}]
    assert "scheduled times were missed" in caplog.text


def test_jitter_makes_each_late_by_its_own_part_and_no_time_is_lost(office: Office) -> None:
    office.timetable = office.another(rules=Rules(timedelta(minutes=5)))
    office.timetable.turn()
    due = office.timetable.next_wake()
    assert due is not None
    late = due - datetime(2026, 3, 1, 3, 10, tzinfo=UTC)
    assert timedelta(0) < late < timedelta(minutes=5)
    office.pass_by(seconds=600 + late.total_seconds() - 1)
    assert office.runs == []
    office.round(seconds=1)
    office.round(minutes=10)
    assert [run.created_at - due for run in office.runs] == [timedelta(0), timedelta(minutes=10)]


def test_a_time_is_skipped_with_a_word_while_the_run_before_still_goes(office: Office) -> None:
    for _ in range(3):
        office.pass_by(minutes=10)
    assert len(office.runs) == 1
    why = "run 1, started before, still goes"
    assert [(one["runbook"], one["why"]) for one in office.told("schedule.skipped")] == [("watch", why)] * 2
    office.stage.advance(1)
    office.pass_by(minutes=10)
    assert len(office.runs) == 2


def test_a_clock_that_goes_back_starts_nothing_twice_and_one_set_right_nothing_a_hundred_times(
    office: Office,
) -> None:
    for _ in range(3):
        office.round()
    office.pass_by(minutes=-25)
    for _ in range(25):
        office.pass_by(minutes=1)
    assert len(office.runs) == 3
    office.pass_by(days=300)
    office.pass_by(days=-300)
    started = len(office.runs)
    assert started <= 4
    office.stage.advance(office.runs[-1].id)
    for _ in range(10):
        office.pass_by(minutes=1)
    assert len(office.runs) == started + 1


def test_a_schedule_first_seen_by_a_clock_that_was_ahead_begins_again_when_it_is_right(
    office: Office,
) -> None:
    office.stage.clock.on(days=400)
    office.timetable = office.another(schedules=[Schedule("watch", Cron("0 4 * * *"), own=False)])
    office.timetable.turn()
    office.pass_by(days=-400)
    office.pass_by(minutes=60)
    assert len(office.runs) == 1


def test_of_two_processes_that_see_the_same_time_one_starts_it(office: Office, tmp_path: Path) -> None:
    stores = [Store(tmp_path / "sickbay.db", office.stage.clock) for _ in range(4)]
    tables = []
    for store in stores:
        office.store, kept = store, office.store
        tables.append(office.another())
        tables[-1].turn()
        office.store = kept
    barrier = threading.Barrier(len(tables))

    def look(table: Timetable) -> None:
        barrier.wait(PATIENCE)
        table.turn()

    for number in range(1, 4):
        office.stage.clock.on(minutes=10)
        with ThreadPoolExecutor(len(tables)) as pool:
            list(pool.map(look, tables))
        assert len(office.runs) == number
        office.stage.advance(number)
    for store in stores:
        store.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(moves=st.lists(st.tuples(st.integers(-90, 200), st.booleans()), max_size=15))
def test_whatever_the_clock_does_and_however_often_it_starts_again_no_time_has_two_runs(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, bool]]
) -> None:
    office = Office(tmp_path_factory.mktemp("office"))
    try:
        for minutes, again in moves:
            if again:
                office.timetable = office.another()
            office.pass_by(minutes=minutes)
            for run in office.runs:
                if not run.state.ended:
                    office.stage.advance(run.id)
        with office.store.database.read() as tx:
            rows = tx.exec_driver_sql("SELECT tick, run_id FROM ticks").all()
        assert len({row.tick for row in rows}) == len(rows)
        assert sorted(row.run_id for row in rows if row.run_id) == [run.id for run in office.runs]
        assert len(office.runs) <= len(moves)
    finally:
        office.stage.close()


def test_what_breaks_off_in_the_middle_of_a_time_leaves_it_whole_for_whoever_comes_next(
    office: Office,
) -> None:
    def die() -> Loaded:
        raise RuntimeError("killed")

    library = {"watch": Loaded(office.book, "", "d", "nowhere.yaml", die)}
    dying = Timetable(
        office.store, office.stage.inventory, library, [Schedule("watch", Cron(EVERY_TEN))], PROMPT
    )
    dying.turn()
    office.stage.clock.on(minutes=10)
    with pytest.raises(RuntimeError, match="killed"):
        dying.turn()
    assert office.runs == []
    assert office.store.schedules.last("watch") is None
    for table in (office.another(), office.another()):
        table.turn()
    assert len(office.runs) == 1


def test_the_table_itself_refuses_a_time_that_was_dealt_with(office: Office) -> None:
    at = office.stage.clock.at
    with office.store.write() as tx:
        office.store.schedules.keep(tx, "watch", at)
        office.store.schedules.keep(tx, "other", at)
    with pytest.raises(IntegrityError), office.store.write() as tx:
        office.store.schedules.keep(tx, "watch", at)


def test_a_runbook_that_was_edited_into_another_is_not_started_and_says_so(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.book = book(name="watch", triggers=[{"command": True}])
    office.timetable = office.another()
    office.pass_by(minutes=10)
    assert office.runs == []
    assert office.told("schedule.skipped")[0]["why"] == "not started: its file says so no longer"
    assert "start Sickbay again" in caplog.text
    last = office.store.schedules.last("watch")
    assert last is not None
    assert "says so no longer" in last.note


def test_with_nothing_due_nothing_is_committed(office: Office) -> None:
    commits: list[str] = []
    office.store.database.listen(lambda: commits.append("x"))
    office.timetable.turn()
    office.pass_by(minutes=1)
    assert commits == []


def test_only_so_many_times_are_remembered(office: Office) -> None:
    begin = office.stage.clock.at
    with office.store.write() as tx:
        for minutes in range(KEPT + 20):
            office.store.schedules.keep(tx, "watch", begin + timedelta(minutes=minutes), note="none")
        office.store.schedules.keep(tx, "other", begin, note="none")
        assert not office.store.schedules.ran(tx, "watch", begin + timedelta(minutes=19))
        assert office.store.schedules.ran(tx, "watch", begin + timedelta(minutes=20))
        assert office.store.schedules.ran(tx, "other", begin)


def test_what_old_runs_printed_is_let_go_but_not_where_something_was_found(tmp_path: Path) -> None:
    office = Office(tmp_path, steps=CHECK[:1], hosts="gpu-01")
    office.stage.script.on(
        "disk", done("well"), done("full", exit_code=1), done("full", exit_code=1), done("well")
    )
    for _ in range(PRINTED + 5):
        office.round()
    with office.store.database.read() as tx:
        rows = tx.exec_driver_sql(
            "SELECT DISTINCT run_id FROM attempts JOIN outputs ON attempt_id = id"
        ).all()
    assert [row.run_id for row in rows] == [2, 3, *range(6, PRINTED + 6)]
    office.stage.close()


# ── in the loop ──
def test_from_the_files_to_the_incident(tmp_path: Path) -> None:
    books = tmp_path / "runbooks"
    books.mkdir()
    (books / "watch.yaml").write_text(
        "version: 1\nname: watch\ndescription: Look\nkind: observe\n"
        'triggers: [{schedule: "*/10 * * * *"}]\nsteps: [{id: disk, run: df /}]\n'
    )
    path = tmp_path / "sickbay.yaml"
    path.write_text(
        "hosts: {gpu-01: {}, gpu-02: {}}\nrunbooks: [runbooks]\ncheck: []\n"
        "schedules: {jitter: 0s, runbooks: {watch: {hosts: gpu-02}}}\n"
    )
    clock = Hands()
    assembly = Assembly.of(*load(path, {}), {}, clock)
    script = Script()
    script.on("disk", done(exit_code=1))
    delivery = assembly.delivery(script)
    begun, found = threading.Event(), threading.Event()

    def look() -> None:
        with assembly.store.database.read() as tx:
            if tx.exec_driver_sql("SELECT 1 FROM schedules").first():
                begun.set()
        if assembly.store.incidents.newest():
            found.set()

    assembly.store.database.listen(look)
    delivery.start()
    try:
        assert begun.wait(PATIENCE)
        clock.on(minutes=10)
        assert found.wait(PATIENCE)
    finally:
        delivery.stop()
    (incident,) = assembly.store.incidents.newest()
    assert (incident.host, incident.alerts[0].name, incident.note[:8]) == ("gpu-02", "watch/disk", "No route")
    assembly.store.close()


class Failing:
    """A timetable that cannot be looked at, but the third time."""

    def __init__(self) -> None:
        self.looks = 0
        self.well = threading.Event()

    def turn(self) -> None:
        """Fail."""
        self.looks += 1
        if self.looks < 3:
            raise RuntimeError("no clock")
        self.well.set()

    def next_wake(self) -> datetime:
        """Be late, always."""
        return datetime(2026, 1, 1, tzinfo=UTC)


def test_the_loop_starts_what_is_due_by_the_real_clock(tmp_path: Path) -> None:
    office = Office(tmp_path)
    store = Store(tmp_path / "real.db")
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    library = {"watch": Loaded(office.book, "", "d", "watch.yaml")}

    class Soon(Cron):
        """A tick that comes at once, for a test that has no minute to wait."""

        def after(self, moment: datetime) -> datetime | None:
            return soon if moment < soon else None

        def latest(self, since: datetime, until: datetime) -> datetime | None:
            return soon if since < soon <= until else None

        def count(self, since: datetime, until: datetime) -> int:
            return int(since < soon <= until)

    timetable = Timetable(
        store, office.stage.inventory, library, [Schedule("watch", Soon(EVERY_TEN))], PROMPT
    )
    engine = Engine(store, Planner(KINDS, office.stage.inventory), Script())
    delivery = Delivery(store, engine, timetable=timetable)
    ended = threading.Event()
    store.database.listen(lambda: ended.set() if store.runs.newest() else None)
    delivery.start()
    try:
        assert ended.wait(PATIENCE), "the loop slept through it"
    finally:
        delivery.stop()
        store.close()
        office.stage.close()


def test_a_timetable_that_fails_holds_up_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    office = Office(tmp_path)
    failing = Failing()
    delivery = Delivery(office.store, office.stage.engine, timetable=failing, pause=0.3)
    ended = threading.Event()

    def look() -> None:
        if (run := office.store.runs.get(run_id)) is not None and run.state.ended:
            ended.set()

    run_id = office.stage.queue()
    office.store.database.listen(look)
    delivery.start()
    try:
        assert ended.wait(PATIENCE)
        assert failing.well.wait(PATIENCE), "it is looked at again"
    finally:
        delivery.stop()
        office.stage.close()
    assert caplog.text.count("cannot look at the schedules") == 2
