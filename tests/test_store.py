"""What is remembered, and what a repeat, a race or another process may not change."""

import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from bot.alert import Alert
from bot.errors import SickbayError
from bot.guard.decision import Want, World
from bot.incident import IncidentState
from bot.runs.approval import Person
from bot.runs.plan import Plan
from bot.runs.run import Requester, Run, RunState, Status
from bot.store import Fenced, Store
from bot.store.tables import Moment
from tests.parts.books import book
from tests.parts.stage import ALICE, BOB, Stage, locked

PLAN = Plan("mend", "d", (("gpu-01",),), ())


def an_alert(status: str = "firing", fingerprint: str = "f1", hour: int = 3) -> Alert:
    """Return an alert of that hour."""
    starts = datetime(2026, 3, 1, hour, tzinfo=UTC)
    return Alert("alertmanager", fingerprint, status, starts, {"alertname": "Down"})  # type: ignore[arg-type]


def opened(store: Store, key: str = "k") -> int:
    """Open an incident."""
    with store.write() as tx:
        return store.incidents.open(tx, key=key, title="t", severity="", channel="c", host=None, note="")


def test_a_transaction_that_fails_leaves_nothing(stage: Stage) -> None:
    with pytest.raises(ZeroDivisionError), stage.store.write() as tx:  # noqa: PT012
        stage.store.incidents.open(tx, key="k", title="t", severity="", channel="c", host=None, note="")
        raise ZeroDivisionError
    assert stage.store.incidents.newest() == []
    assert stage.store.timeline.after(0) == []


def test_listeners_hear_of_commits_only_and_one_that_fails_harms_nobody(stage: Stage) -> None:
    heard: list[str] = []

    def fails() -> None:
        raise RuntimeError("my loop is closed")

    stage.store.database.listen(fails)
    unlisten = stage.store.database.listen(lambda: heard.append("x"))
    with pytest.raises(ZeroDivisionError), stage.store.write():
        raise ZeroDivisionError
    assert heard == []
    opened(stage.store)
    assert heard == ["x"]
    unlisten()
    opened(stage.store, "l")
    assert heard == ["x"]


def test_an_alert_told_again_changes_nothing(stage: Stage) -> None:
    store = stage.store
    assert store.alerts.add([an_alert(), an_alert(fingerprint="f2")]) == 2
    assert store.alerts.add([an_alert(), an_alert(), an_alert("resolved")]) == 1
    assert store.alerts.add([]) == 0
    assert [(alert.fingerprint, alert.status) for _, alert in store.alerts.waiting()] == [
        ("f1", "firing"), ("f2", "firing"), ("f1", "resolved"),
    ]  # fmt: skip


def test_an_alert_comes_back_as_it_was_stored(stage: Stage) -> None:
    alert = replace(
        an_alert(), annotations={"summary": 'ünï "code" \n'}, ends_at=an_alert().starts_at, url="http://x/"
    )
    stage.store.alerts.add([alert])
    assert [stored for _, stored in stage.store.alerts.waiting()] == [alert]


def test_one_incident_is_open_for_a_key(stage: Stage) -> None:
    first = opened(stage.store)
    with pytest.raises(IntegrityError):
        opened(stage.store)
    with stage.store.write() as tx:
        assert stage.store.incidents.open_for(tx, "k") == first
        stage.store.incidents.resolve(tx, first, "over")
        stage.store.incidents.resolve(tx, first, "over again")
        assert stage.store.incidents.open_for(tx, "k") is None
    assert opened(stage.store) != first
    assert [one.state for one in stage.store.incidents.newest()] == [
        IncidentState.OPEN,
        IncidentState.RESOLVED,
    ]
    assert [event.kind for event in stage.store.timeline.of(incident=first)] == [
        "incident.opened",
        "incident.resolved",
    ]


def test_an_incident_fires_while_one_of_its_alerts_does(stage: Stage) -> None:
    store, incident = stage.store, opened(stage.store)
    store.alerts.add(
        [an_alert(), an_alert(fingerprint="f2"), an_alert("resolved"), an_alert("firing", hour=4)]
    )
    with store.write() as tx:
        for alert_id, alert in store.alerts.waiting():
            store.incidents.join(tx, alert_id, incident, alert)
        assert store.incidents.firing(tx, incident) == 2
        assert store.incidents.of_episode(tx, an_alert().episode) == incident
        assert store.incidents.cleared(tx, an_alert().episode)
        assert not store.incidents.cleared(tx, an_alert(hour=4).episode)
    assert store.alerts.waiting() == []
    found = store.incidents.get(incident)
    assert found is not None
    assert sorted((alert.fingerprint, alert.status) for alert in found.alerts) == [
        ("f1", "firing"), ("f1", "resolved"), ("f2", "firing"),
    ]  # fmt: skip


def test_whoever_claims_a_run_fences_off_who_had_it(stage: Stage) -> None:
    store, run_id = stage.store, stage.queue()
    old, new = store.runs.claim(run_id), store.runs.claim(run_id)
    assert old is not None
    assert new is not None
    (attempt,), _ = store.attempts.begin(new, [("look", "gpu-01", 1)])
    for forbidden in (
        lambda: store.runs.refresh(old),
        lambda: store.attempts.begin(old, [("stop", "gpu-01", 1)]),
        lambda: store.attempts.end(old, [(replace(attempt, status=Status.OK), None)]),
        lambda: store.approvals.plan(old, PLAN, ask=True),
        lambda: store.approvals.expire(old),
        lambda: store.runs.sleep(old, None, waiting=False),
        lambda: store.ledger.take(old, {"gpu-01": Want()}, WORLD),
        lambda: store.runs.queue(old, 2, "it waits"),
        lambda: store.runs.relook(old, {"gpu-01": 2}, {"gpu-01": "it is old"}),
        lambda: store.runs.finish(old, RunState.FAILED, "", None),
    ):
        with pytest.raises(Fenced):
            forbidden()
    assert [one.status for one in store.attempts.of(run_id)] == [Status.BEGUN]
    assert stage.kinds(run_id) == ["run.queued", "run.started", "step.begun"]
    store.runs.finish(new, RunState.SUCCEEDED, "", None)
    assert store.runs.claim(run_id) is None
    assert store.runs.claim(99) is None


def test_no_attempt_is_begun_twice(stage: Stage) -> None:
    run = stage.store.runs.claim(stage.queue())
    assert run is not None
    stage.store.attempts.begin(run, [("stop", "gpu-01", 1)])
    with pytest.raises(IntegrityError):
        stage.store.attempts.begin(run, [("stop", "gpu-01", 1)])
    assert stage.kinds(run.id).count("step.begun") == 1


def test_a_run_that_is_refreshed_knows_of_its_cancel_and_its_new_deadline(stage: Stage) -> None:
    store = stage.store
    run = store.runs.claim(stage.queue())
    assert run is not None
    store.approvals.plan(run, PLAN, ask=True)
    stage.clock.on(minutes=3)
    assert store.approvals.decide(run.id, BOB, "approve") is None
    assert store.runs.cancel(run.id, "alice")
    fresh = store.runs.refresh(run)
    assert (fresh.cancelled_by, fresh.deadline) == ("alice", stage.clock() + run.runbook.timeout)
    assert fresh == replace(stage.run(run.id), plan=run.plan)


def test_what_was_being_advanced_at_a_crash_is_due_after_it(stage: Stage) -> None:
    store = stage.store
    ids = [stage.queue() for _ in range(4)]
    runs = [run for run_id in ids if (run := store.runs.claim(run_id)) is not None]
    store.approvals.plan(runs[1], PLAN, ask=True)
    store.runs.sleep(runs[1], stage.clock() + timedelta(minutes=15), waiting=True)
    store.runs.claim(ids[1])  # it waited, and was being looked at again
    store.runs.sleep(runs[2], stage.clock() + timedelta(hours=1), waiting=False)
    store.runs.finish(runs[3], RunState.SUCCEEDED, "", None)
    assert store.runs.due() == []
    assert store.runs.reclaim() == 2
    assert store.runs.due() == ids[:2]
    assert store.runs.next_wake() == stage.clock()


def test_whoever_decides_or_cancels_just_before_the_run_rests_is_not_slept_through(stage: Stage) -> None:
    store = stage.store
    approved, cancelled = (store.runs.claim(stage.queue()) for _ in range(2))
    assert approved is not None
    assert cancelled is not None
    store.approvals.plan(approved, PLAN, ask=True)
    assert store.approvals.decide(approved.id, BOB, "approve") is None
    store.runs.sleep(approved, stage.clock() + timedelta(minutes=15), waiting=True)
    store.runs.cancel(cancelled.id, "alice")
    store.runs.sleep(cancelled, stage.clock() + timedelta(minutes=15), waiting=False)
    assert store.runs.due() == [approved.id, cancelled.id]
    assert stage.run(approved.id).state is RunState.RUNNING


def test_an_end_takes_the_open_question_with_it(stage: Stage) -> None:
    store = stage.store
    run = store.runs.claim(stage.queue())
    assert run is not None
    store.approvals.plan(run, PLAN, ask=True)
    store.runs.finish(run, RunState.NEEDS_HUMAN, "a mistake of ours", None)
    assert "no longer asked about" in (store.approvals.decide(run.id, BOB, "approve") or "")
    assert stage.run(run.id).state is RunState.NEEDS_HUMAN


def test_an_answer_to_another_plan_is_refused(stage: Stage) -> None:
    store = stage.store
    run = store.runs.claim(stage.queue())
    assert run is not None
    assert (
        store.approvals.decide(run.id, BOB, "approve")
        == f"Run {run.id} asks nobody for approval; it is running."
    )
    store.approvals.plan(run, PLAN, ask=True)
    assert "has changed" in (store.approvals.decide(run.id, BOB, "approve", "0000000000") or "")
    assert store.approvals.decide(run.id, BOB, "approve", PLAN.digest[:16]) is None


def test_of_many_clicks_at_once_one_counts(stage: Stage) -> None:
    store = stage.store
    run = store.runs.claim(stage.queue())
    assert run is not None
    store.approvals.plan(run, PLAN, ask=True)
    store.runs.sleep(run, stage.clock() + timedelta(minutes=15), waiting=True)
    people = [Person(f"p{number}", roles=("oncall",)) for number in range(8)]
    said: list[str | None] = []
    start = threading.Barrier(len(people))

    def click(person: Person) -> None:
        start.wait()
        said.append(store.approvals.decide(run.id, person, "approve"))

    threads = [threading.Thread(target=click, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count(None) == 1
    assert stage.kinds(run.id).count("approval.decided") == 1
    assert stage.kinds(run.id).count("approval.refused") == 7


def test_who_may_not_decide_is_told_so_and_the_timeline_keeps_it(stage: Stage) -> None:
    store = stage.store
    run = store.runs.claim(stage.queue(requester=Requester("alice", "alice")))
    assert run is not None
    store.approvals.plan(run, PLAN, ask=True)
    assert store.approvals.decide(run.id, ALICE, "approve") is not None
    (refused,) = [event for event in stage.events(run.id) if event.kind == "approval.refused"]
    assert refused.data["by"] == "alice"


def test_a_cleared_alert_voids_the_question_and_withdraws_what_has_no_plan_yet(stage: Stage) -> None:
    store, incident = stage.store, opened(stage.store)
    asked, queued, looking = (stage.queue(incident=incident) for _ in range(3))
    observing = stage.queue(
        book(kind="observe", verify=[], rescue=[], always=[], steps=[{"id": "look", "run": "x"}]),
        incident=incident,
    )
    run = store.runs.claim(asked)
    assert run is not None
    assert store.runs.claim(looking) is not None
    store.approvals.plan(run, PLAN, ask=True)
    store.runs.cancel(looking, "alice")
    with store.write() as tx:
        assert store.runs.of_incident(tx, incident) == [asked, queued, looking, observing]
        assert store.approvals.void(tx, asked, "the alert has cleared")
        assert not store.approvals.void(tx, asked, "the alert has cleared")
        store.runs.withdraw(tx, store.runs.of_incident(tx, incident), "the alert")
    assert [stage.run(run_id).cancelled_by for run_id in (asked, queued, looking, observing)] == [
        None, "the alert", "alice", None,
    ]  # fmt: skip
    assert store.runs.cancel_asked() == [queued, looking]
    assert asked in store.runs.due()


WORLD = World(lambda _: frozenset())


def taken(store: Store, run: Run, *hosts: str) -> list[str]:
    """Take hosts; return those that are not given."""
    answers = store.ledger.take(run, {host: Want() for host in hosts}, WORLD)
    return [host for host, one in answers.items() if one.reaction != "go"]


def test_free_hosts_are_locked_and_freed_at_the_end(stage: Stage) -> None:
    store = stage.store
    one, two = (store.runs.claim(stage.queue(book(on_conflict="fail"))) for _ in range(2))
    assert one is not None
    assert two is not None
    assert taken(store, one, "a", "b") == []
    assert taken(store, one, "b", "c") == []
    assert taken(store, two, "c", "d") == ["c"]
    assert taken(store, one, "d") == ["d"]
    store.runs.finish(one, RunState.SUCCEEDED, "", None)
    assert taken(store, two, "a", "b", "c") == []
    assert locked(store) == {f"host {host}": two.id for host in "abcd"}
    store.runs.finish(two, RunState.NEEDS_HUMAN, "", None)
    assert locked(store) == {}


def test_readers_of_the_timeline_go_on_where_they_were(stage: Stage) -> None:
    timeline = stage.store.timeline
    assert timeline.cursor("slack") == 0
    opened(stage.store)
    opened(stage.store, "l")
    first, second = timeline.after(0)
    timeline.advance("slack", first.id)
    timeline.advance("slack", first.id)
    assert timeline.after(timeline.cursor("slack")) == [second]
    assert timeline.cursor("audit") == 0
    assert timeline.after(0, limit=1) == [first]


def test_a_delivery_is_new_once_and_a_place_is_kept(stage: Stage) -> None:
    timeline = stage.store.timeline
    assert timeline.first_time("envelope 1")
    assert not timeline.first_time("envelope 1")
    assert timeline.place("incident 1") is None
    timeline.put("incident 1", {"channel": "C1", "ts": "1.1"})
    timeline.put("incident 1", {"channel": "C1", "ts": "1.2"})
    assert timeline.place("incident 1") == {"channel": "C1", "ts": "1.2"}


def test_everything_survives_a_close(stage: Stage, tmp_path: Path) -> None:
    run = stage.play(mode="approve")
    stage.store.close()
    again = Store(tmp_path / "sickbay.db", stage.clock)
    assert again.runs.get(run.id) == run
    again.close()


def test_the_file_is_for_its_owner_only_and_commits_survive_a_power_cut(tmp_path: Path) -> None:
    store = Store(tmp_path / "sickbay.db")
    opened(store)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    with store.database.read() as tx:
        assert tx.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert tx.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()


def test_a_file_that_is_no_database_or_of_another_layout_is_refused_in_plain_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 100)
    with pytest.raises(SickbayError, match="cannot open the database"):
        Store(broken)
    with pytest.raises(SickbayError, match="cannot open the database"):
        Store(tmp_path / "no" / "folder" / "sickbay.db")
    other = tmp_path / "other.db"
    Store(other).close()
    with sqlite3.connect(other) as connection:
        connection.execute("UPDATE meta SET schema = 99")
        connection.execute("DROP TABLE doubts")
    connection.close()
    with pytest.raises(SickbayError, match="layout 99"):
        Store(other)
    with sqlite3.connect(other) as connection:
        found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'doubts'").fetchone()
    connection.close()
    assert found == (0,), "it is left as it was"


def test_commits_of_another_process_are_noticed(stage: Stage) -> None:
    foreign = stage.store.database.foreign_changes()
    assert not foreign.changed()
    code = "import sys; from bot.store import Store; Store(sys.argv[1]).timeline.first_time('x')"
    subprocess.run(
        [sys.executable, "-c", code, stage.store.database.path], check=True, cwd=Path.cwd(), env=os.environ
    )
    assert foreign.changed()
    assert not foreign.changed()
    foreign.close()


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)), st.integers(-14, 14))  # noqa: DTZ001
def test_moments_sort_as_text_as_they_pass_and_come_back_the_same(naive: datetime, hours: int) -> None:
    kind = Moment()
    moment = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    later = moment + timedelta(microseconds=1)
    first, second = kind.process_bind_param(moment, None), kind.process_bind_param(later, None)  # type: ignore[arg-type]
    assert first is not None
    assert second is not None
    assert first < second
    assert kind.process_result_value(first, None) == moment  # type: ignore[arg-type]
