"""What scheduled runs find, cannot tell, and are kept from: one incident for each, however often it comes and goes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.alert import Alert
from bot.dispatch import AGAIN, Dispatch
from bot.effect import Finished, Unreachable
from bot.errors import SickbayError
from bot.finding import Place
from bot.guard.maintenance import Window, Windows
from bot.incident import Incident, IncidentState
from bot.inventory import Host, Inventory
from bot.language.schedule import Cron, Schedule
from bot.library import Loaded, load_runbook
from bot.messages import again_card, incident_card
from bot.messages.card import Card, Note, plain
from bot.messages.timeline import sentence
from bot.route import Route
from bot.runs.record import Record
from bot.runs.run import RunState, Status
from bot.steps import KINDS
from bot.store import Store
from bot.timetable import Timetable
from bot.timetable.harvest import Harvest
from bot.timetable.sight import HALF, LEAST, MANY, QUARTER, How, Sight, sights, together
from bot.verdict import Verdict
from bot.wording import nth
from tests.parts.books import attempt, book, run
from tests.parts.office import CHECK, EVERY_TEN, PROMPT, Office
from tests.parts.script import PATIENCE, REFUSED, done
from tests.parts.stage import machines
from tests.parts.states import Hands

HTTP = [{"id": "api", "name": "API", "uses": "http.check", "with": {"port": 8000}}]
WELL, WRONG, UNTOLD = done("\n200 0.010 \n"), done("\n503 0.010 \n"), done(exit_code=127)
OPEN, OVER = IncidentState.OPEN, IncidentState.RESOLVED


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """An office at three o'clock."""
    one = Office(tmp_path)
    yield one
    one.stage.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Office]:
    """An office whose check can be well, wrong, or tell nothing."""
    one = Office(tmp_path, steps=HTTP)
    one.stage.script.on("api", WELL)
    yield one
    one.stage.close()


def ticks(office: Office, *answers: Finished | Unreachable, host: str = "gpu-01") -> None:
    """Let a tick come for each answer of the hosts."""
    for answer in answers:
        office.stage.script.on("api", answer, host=host)
        office.round()


def told(office: Office) -> list[tuple[str, str, IncidentState]]:
    """Return name, host and state of each incident."""
    return [(one.alerts[0].name, one.host or "", one.state) for one in office.incidents]


def notes(incident: Incident) -> str:
    """Return the small print of an incident's card."""
    card: Card = incident_card(incident, [])
    return " ".join(plain(node.words) for node in card.nodes if isinstance(node, Note))


# ── what is certain ──
def test_a_finding_opens_one_incident_is_counted_and_resolved_when_it_is_gone(office: Office) -> None:
    office.stage.script.on("disk", done("full", exit_code=1), host="gpu-02")
    for _ in range(3):
        office.round()
    (incident,) = office.incidents
    assert (incident.host, incident.title) == ("gpu-02", "Disk: exit code 1: full")
    assert incident.alerts[0].labels == {
        "alertname": "watch/disk", "host": "gpu-02", "runbook": "watch", "step": "disk",
    }  # fmt: skip
    assert (incident.found, incident.found_at) == (3, office.stage.clock.at)
    kinds = [event.kind for event in office.store.timeline.of(incident=incident.id)]
    assert kinds == ["incident.opened", "alert.firing", "finding.repeated", "finding.repeated"]
    notes = [plain(node.words) for node in incident_card(incident, []).nodes if isinstance(node, Note)]
    assert any("found 3 times by its schedule" in note for note in notes)
    office.stage.script.on("disk", done("well"), host="gpu-02")
    office.round()
    (incident,) = office.incidents
    assert incident.state is IncidentState.RESOLVED
    office.stage.script.on("disk", done("full", exit_code=1), host="gpu-02")
    office.round()
    (incident,) = office.incidents
    assert (incident.state, incident.times, incident.found) == (IncidentState.OPEN, 2, 4)


def test_each_host_and_step_is_a_finding_of_its_own(office: Office) -> None:
    office.stage.script.on("disk", done(exit_code=1), host="gpu-01")
    office.stage.script.on("load", done(exit_code=1), host="gpu-0[23]")
    office.round()
    found = {(one.host, one.alerts[0].labels["step"]) for one in office.incidents}
    assert found == {("gpu-01", "disk"), ("gpu-02", "load"), ("gpu-03", "load")}


def test_what_could_not_be_looked_at_stays_as_it_is(office: Office) -> None:
    office.stage.script.on("load", done(exit_code=1), host="gpu-01")
    office.round()
    office.stage.script.on("disk", REFUSED, host="gpu-01")
    office.round()
    office.round()
    names = {one.alerts[0].name: one for one in office.incidents}
    assert {name: one.state for name, one in names.items()} == {
        "watch/load": IncidentState.OPEN, "watch/host/unknown": IncidentState.OPEN,
    }  # fmt: skip
    assert names["watch/load"].found == 1, "it was not looked at again"
    assert names["watch/host/unknown"].title == (
        "gpu-01: cannot be told for 10 min: unreachable (tcp): connection refused"
    )


def test_a_run_that_somebody_cancelled_says_nothing(office: Office) -> None:
    office.stage.script.on("disk", done(exit_code=1), host="gpu-01")
    office.round()
    office.pass_by(minutes=10)
    assert office.store.runs.cancel(2, "alice")
    office.stage.advance(2)
    office.timetable.turn()
    office.dispatch.turn()
    (incident,) = office.incidents
    assert (incident.state, incident.found) == (IncidentState.OPEN, 1)


def test_what_a_run_found_is_taken_in_after_a_restart_and_once(office: Office) -> None:
    office.stage.script.on("disk", done(exit_code=1), host="gpu-01")
    office.pass_by(minutes=10)
    assert office.stage.advance(1).state is RunState.FAILED
    first, second = office.another(), office.another()
    first.turn()
    second.turn()
    office.dispatch.turn()
    (incident,) = office.incidents
    assert incident.found == 1


def test_findings_of_what_is_no_longer_looked_at_are_over(office: Office) -> None:
    office.stage.script.on("disk", done(exit_code=1), host="gpu-0[12]")
    office.stage.script.on("load", done(exit_code=1), host="gpu-03")
    office.round()
    office.stage.inventory = Inventory([Host("gpu-02", "10.0.0.2"), Host("gpu-03", "10.0.0.3")])
    office.stage.restart()
    office.book = office.book.model_copy(update={"steps": office.book.steps[:1]})
    office.timetable = office.another()
    office.round()
    states = {one.host: one.state for one in office.incidents}
    assert states == {
        "gpu-01": IncidentState.RESOLVED, "gpu-02": IncidentState.OPEN, "gpu-03": IncidentState.RESOLVED,
    }  # fmt: skip
    office.timetable = office.another(schedules=[])
    office.timetable.turn()
    office.dispatch.turn()
    assert {one.state for one in office.incidents} == {IncidentState.RESOLVED}


def test_a_finding_takes_the_route_of_any_alert(office: Office) -> None:
    mend = Loaded(book(), "", "d", "mend.yaml")
    route = Route.model_validate(
        {"match": {"alertname": "watch/disk"}, "runbook": "mend", "channel": "disks"}
    )
    office.dispatch = Dispatch(office.store, office.stage.inventory, {"mend": mend}, [route], "oncall")
    office.stage.script.on("disk", done(exit_code=1), host="gpu-02")
    office.round()
    office.timetable.turn()
    assert [(run.runbook.name, run.hosts, run.channel) for run in office.runs] == [
        ("watch", ("gpu-01", "gpu-02", "gpu-03", "gpu-04"), ""),
        ("mend", ("gpu-02",), "disks"),
    ]


# ── what nobody can tell ──
def test_what_cannot_be_told_twice_in_a_row_is_found_and_a_hiccup_is_not(fleet: Office) -> None:
    ticks(fleet, UNTOLD, WELL, UNTOLD)
    assert fleet.incidents == []
    ticks(fleet, UNTOLD)
    (incident,) = fleet.incidents
    assert incident.title == (
        "API: cannot be told for 10 min: curl is not installed here, or not on the PATH of an SSH command"
    )
    assert incident.alerts[0].labels == {
        "alertname": "watch/api/unknown", "host": "gpu-01", "runbook": "watch", "step": "api",
    }  # fmt: skip
    ticks(fleet, UNTOLD, UNTOLD)
    assert [(one.state, one.found) for one in fleet.incidents] == [(OPEN, 3)]
    ticks(fleet, WELL)
    assert told(fleet) == [("watch/api/unknown", "gpu-01", OVER)]


def test_what_cannot_be_told_ends_nothing_that_is_wrong_and_opens_nothing_beside_it(fleet: Office) -> None:
    ticks(fleet, WRONG, UNTOLD, UNTOLD, REFUSED)
    assert told(fleet) == [("watch/api", "gpu-01", OPEN)]
    assert fleet.incidents[0].found == 1
    ticks(fleet, WELL)
    assert told(fleet) == [("watch/api", "gpu-01", OVER)]


def test_what_is_wrong_takes_the_place_of_what_could_not_be_told_at_once(fleet: Office) -> None:
    ticks(fleet, UNTOLD, UNTOLD, WRONG)
    assert told(fleet) == [("watch/api/unknown", "gpu-01", OVER), ("watch/api", "gpu-01", OPEN)]
    said = [sentence(event) for event in fleet.store.timeline.of(incident=1)]
    assert said[-1] == "Incident resolved: it can be told again, and is wrong"


def test_a_route_that_mends_what_is_wrong_is_not_taken_for_what_nobody_can_tell(fleet: Office) -> None:
    route = Route.model_validate({"match": {"alertname": "watch/api"}, "runbook": "mend"})
    mend = {"mend": Loaded(book(), "", "d", "mend.yaml")}
    fleet.dispatch = Dispatch(fleet.store, fleet.stage.inventory, mend, [route], "oncall")
    ticks(fleet, UNTOLD, UNTOLD)
    assert {one.runbook.name for one in fleet.runs} == {"watch"}
    ticks(fleet, WRONG)
    assert [one.hosts for one in fleet.runs if one.runbook.name == "mend"] == [("gpu-01",)]


def test_a_host_out_of_reach_is_found_the_second_time_at_whichever_step(office: Office) -> None:
    office.stage.script.on("disk", REFUSED, done(), REFUSED, done(), host="gpu-01")
    office.stage.script.on("load", REFUSED, done(), host="gpu-01")
    office.round()
    assert office.incidents == []
    office.round()
    assert told(office) == [("watch/host/unknown", "gpu-01", OPEN)]
    office.round()
    assert office.incidents[0].found == 2
    office.round()
    assert told(office) == [("watch/host/unknown", "gpu-01", OVER)]


def test_of_a_host_that_no_command_went_to_nothing_is_known() -> None:
    watch = book(name="watch", kind="observe", steps=CHECK, verify=[], rescue=[], always=[])
    one = run(watch, ("a", "b", "c"), state=RunState.FAILED, reason="More than 1 failed.")
    record = Record(
        [attempt("disk", "a"), attempt("disk", "b", Status.FAILED, sent=False, summary="no secret")]
    )
    seen = {(one.place.host, one.place.step): (one.how, one.said) for one in sights(one, record)}
    assert seen == {
        ("a", ""): (How.WELL, ""),
        ("a", "disk"): (How.WELL, ""),
        ("b", "disk"): (How.UNTOLD, "no secret"),
        ("c", ""): (How.UNTOLD, "it was not looked at. More than 1 failed."),
    }


def test_a_check_that_was_left_out_says_nothing() -> None:
    watch = book(name="watch", kind="observe", steps=CHECK, verify=[], rescue=[], always=[])
    record = Record([attempt("disk", "a", Status.SKIPPED), attempt("load", "a", Status.SKIPPED)])
    assert sights(run(watch, ("a",), state=RunState.SUCCEEDED), record) == []


def test_a_time_that_two_processes_take_in_at_once_counts_once(fleet: Office, tmp_path: Path) -> None:
    fleet.stage.script.on("api", UNTOLD, host="gpu-01")
    stores = [Store(tmp_path / "sickbay.db", fleet.stage.clock) for _ in range(3)]
    tables = []
    for store in stores:
        fleet.store, kept = store, fleet.store
        tables.append(fleet.another())
        tables[-1].turn()
        fleet.store = kept
    barrier = threading.Barrier(len(tables))

    def look(table: Timetable) -> None:
        barrier.wait(PATIENCE)
        table.turn()

    for times, found in ((1, []), (2, [1])):
        fleet.pass_by(minutes=10)
        assert fleet.stage.advance(times).state is RunState.SUCCEEDED
        with ThreadPoolExecutor(len(tables)) as pool:
            list(pool.map(look, tables))
        fleet.dispatch.turn()
        assert [one.found for one in fleet.incidents] == found
    for store in stores:
        store.close()


# ── what comes back ──
def test_what_comes_and_goes_is_one_incident_that_says_how_often(fleet: Office) -> None:
    answers: list[Finished | Unreachable] = [WRONG, WELL]
    ticks(fleet, *answers * 30)
    (incident,) = fleet.incidents
    assert (incident.state, incident.times, incident.found) == (OVER, 30, 30)
    ticks(fleet, WRONG)
    (incident,) = fleet.incidents
    assert (incident.state, incident.resolved_at, incident.times) == (OPEN, None, 31)
    assert "again, 31st time" in notes(incident)
    (event,) = [one for one in fleet.store.timeline.of(incident=1) if one.data.get("times") == 31]
    title = "API: :8000/health says 503 in 10 ms, not 200"
    assert sentence(event).startswith(f"Incident opened again, 31st time: {title}. No route")
    assert plain(again_card(event).nodes[0].words) == f"🟠 Again, 31st time: {title}"  # type: ignore[union-attr]


def test_what_flickers_between_reachable_and_not_is_no_incident_and_what_stays_away_is_one(
    fleet: Office,
) -> None:
    away: list[Finished | Unreachable] = [REFUSED, WELL]
    ticks(fleet, *away * 10)
    assert fleet.incidents == []
    ticks(fleet, *[REFUSED, *away] * 10)
    assert [(one.state, one.times) for one in fleet.incidents] == [(OVER, 10)]


def test_what_comes_back_late_is_a_new_incident(fleet: Office) -> None:
    ticks(fleet, WRONG, WELL)
    fleet.stage.script.on("api", WRONG, host="gpu-01")
    fleet.stage.clock.on(minutes=AGAIN / timedelta(minutes=1) - 10)
    fleet.timetable = fleet.another()
    fleet.timetable.turn()
    fleet.round()
    assert [(one.state, one.times) for one in fleet.incidents] == [(OPEN, 2)]
    ticks(fleet, WELL)
    fleet.stage.script.on("api", WRONG, host="gpu-01")
    fleet.stage.clock.on(minutes=AGAIN / timedelta(minutes=1))
    fleet.timetable = fleet.another()
    fleet.timetable.turn()
    fleet.round()
    assert [(one.state, one.times) for one in fleet.incidents] == [(OVER, 2), (OPEN, 1)]


def test_what_comes_back_asks_for_its_runbook_again_unless_that_still_goes(fleet: Office) -> None:
    route = Route.model_validate({"match": {"alertname": "watch/api"}, "runbook": "mend"})
    mend = {"mend": Loaded(book(), "", "d", "mend.yaml")}
    fleet.dispatch = Dispatch(fleet.store, fleet.stage.inventory, mend, [route], "oncall")
    ticks(fleet, WRONG)
    (first,) = fleet.store.incidents.runs(1)
    fleet.stage.advance(first)
    fleet.stage.decide(first)
    fleet.store.runs.claim(first)
    fleet.pass_by(minutes=10)
    fleet.stage.script.on("api", WELL)
    watching = max(one.id for one in fleet.runs if one.runbook.name == "watch")
    fleet.stage.advance(watching)
    fleet.timetable.turn()
    fleet.dispatch.turn()
    assert fleet.incidents[0].state is OVER
    fleet.stage.script.on("api", WRONG, host="gpu-01")
    fleet.pass_by(minutes=10)
    fleet.stage.advance(max(one.id for one in fleet.runs if one.runbook.name == "watch"))
    fleet.timetable.turn()
    fleet.dispatch.turn()
    assert fleet.incidents[0].times == 2
    assert fleet.store.incidents.runs(1) == [first], "it still goes"


def test_a_runbook_is_asked_for_each_time(fleet: Office) -> None:
    route = Route.model_validate({"match": {"alertname": "watch/api"}, "runbook": "mend"})
    mend = {"mend": Loaded(book(), "", "d", "mend.yaml")}
    fleet.dispatch = Dispatch(fleet.store, fleet.stage.inventory, mend, [route], "oncall")
    for answer in (WRONG, WELL, WRONG):
        fleet.stage.script.on("api", answer, host="gpu-01")
        fleet.pass_by(minutes=10)
        fleet.stage.advance(max(one.id for one in fleet.runs if one.runbook.name == "watch"))
        fleet.timetable.turn()
        fleet.dispatch.turn()
        for run_id in fleet.store.incidents.runs(1):
            fleet.stage.advance(run_id)
    assert [fleet.stage.run(one).state.ended for one in fleet.store.incidents.runs(1)] == [True, False]


def test_an_alert_of_a_monitor_that_comes_back_is_a_new_incident(fleet: Office) -> None:
    for minutes in (0, 10):
        at = fleet.stage.clock.at + timedelta(minutes=minutes)
        alert = Alert("alertmanager", "f", "firing", at, {"alertname": "Down", "host": "gpu-01"})
        over = Alert("alertmanager", "f", "resolved", at, alert.labels, ends_at=at)
        for one in (alert, over):
            fleet.store.alerts.add([one])
            fleet.dispatch.turn()
    assert [(one.state, one.times) for one in fleet.incidents] == [(OVER, 1), (OVER, 1)]


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (23, "23rd")],
)
def test_numbers_are_counted_as_people_do(number: int, word: str) -> None:
    assert nth(number) == word


# ── most hosts at once ──
def test_while_most_hosts_cannot_be_told_there_is_one_incident_about_them_all(fleet: Office) -> None:
    ticks(fleet, REFUSED, host="gpu-0[123]")
    assert fleet.incidents == [], "once may be a hiccup"
    ticks(fleet, WRONG, host="gpu-04")
    (wrong, away) = sorted(fleet.incidents, key=lambda one: one.host is None)
    assert (wrong.host, wrong.alerts[0].name) == ("gpu-04", "watch/api")
    assert (away.host, away.alerts[0].labels) == (
        None, {"alertname": "watch/hosts/unknown", "hosts": "gpu-[01-03]", "runbook": "watch"},
    )  # fmt: skip
    assert away.title == (
        "3 of 4 hosts, gpu-[01-03]: cannot be told for 10 min: Sickbay's own network or login is likelier than as "
        "many. gpu-01 says: unreachable (tcp): connection refused"
    )
    fleet.round()
    assert len(fleet.incidents) == 2
    last = fleet.store.timeline.of(incident=away.id)[-1]
    assert sentence(last) == "Found again, 2 times until now (run 3): 3 of 4 hosts, gpu-[01-03]"
    ticks(fleet, WELL, host="gpu-0[1-4]")
    assert {one.state for one in fleet.incidents} == {OVER}


def test_what_is_left_when_most_are_well_again_is_told_host_by_host(fleet: Office) -> None:
    ticks(fleet, UNTOLD, UNTOLD, host="gpu-0[1-4]")
    assert [one.title[:60] for one in fleet.incidents] == [
        "4 of 4 hosts, gpu-[01-04]: cannot be told for 10 min: one ca"
    ]
    ticks(fleet, WELL, host="gpu-0[1-3]")
    assert told(fleet) == [("watch/hosts/unknown", "", OVER), ("watch/api/unknown", "gpu-04", OPEN)]


def test_a_run_of_two_hosts_has_no_most(tmp_path: Path) -> None:
    fleet = Office(tmp_path, steps=HTTP, hosts="gpu-[01-02]")
    ticks(fleet, REFUSED, REFUSED, host=".*")
    assert {one.host for one in fleet.incidents} == {"gpu-01", "gpu-02"}
    fleet.stage.close()


@given(total=st.integers(1, 400), away=st.integers(0, 400), already=st.booleans())
def test_hosts_told_of_one_by_one_are_never_most_nor_many(total: int, away: int, already: bool) -> None:
    away = min(away, total)
    seen = [
        Sight(Place("watch", f"gpu-{n:03}"), How.UNTOLD if n < away else How.WELL, "", "")
        for n in range(total)
    ]
    one = together("watch", seen, total, already=already)
    if one.how is How.WELL:
        assert away < LEAST or (away * HALF <= total and away < MANY)
    else:
        assert away >= LEAST
        assert away * (QUARTER if already else HALF) > total or away >= MANY


# ── what is no longer looked at ──
def test_what_was_found_on_a_host_that_left_the_schedule_is_over_and_a_later_outage_is_told(
    tmp_path: Path,
) -> None:
    fleet = Office(tmp_path, steps=HTTP, hosts="gpu-[01-02]")
    fleet.stage.script.on("api", WELL)
    ticks(fleet, WRONG)
    fleet.timetable = fleet.another(schedules=[Schedule("watch", Cron(EVERY_TEN), "gpu-02")])
    fleet.timetable.turn()
    fleet.dispatch.turn()
    assert told(fleet) == [("watch/api", "gpu-01", OVER)]
    said = [sentence(event) for event in fleet.store.timeline.of(incident=1)]
    assert said[-1] == "Incident resolved: no longer looked at"
    fleet.timetable = fleet.another(schedules=[Schedule("watch", Cron(EVERY_TEN), "gpu-01")])
    fleet.timetable.turn()
    fleet.round(days=30)
    assert [(one.state, one.found) for one in fleet.incidents] == [(OVER, 1), (OPEN, 1)]
    fleet.stage.close()


def test_a_doubt_about_a_host_that_left_is_forgotten(tmp_path: Path) -> None:
    fleet = Office(tmp_path, steps=HTTP, hosts="gpu-[01-02]")
    ticks(fleet, REFUSED, host="gpu-0[12]")
    for hosts in ("gpu-02", "gpu-[01-02]"):
        fleet.timetable = fleet.another(schedules=[Schedule("watch", Cron(EVERY_TEN), hosts)])
        fleet.timetable.turn()
    fleet.round()
    assert [one.host for one in fleet.incidents] == ["gpu-02"]
    fleet.stage.close()


def test_what_was_found_stays_while_its_host_is_in_maintenance(fleet: Office) -> None:
    ticks(fleet, WRONG)
    hours = {"start": "2026-03-01T03:15:00Z", "end": "2026-03-01T03:35:00Z", "reason": "new disks"}
    window = Window.model_validate({"hosts": "gpu-01", **hours})
    fleet.timetable = fleet.another(windows=Windows([window], lambda _: frozenset({"gpu-01"})))
    fleet.timetable.turn()
    fleet.round()
    assert [(one.state, one.found) for one in fleet.incidents] == [(OPEN, 1)]


# ── schedules that cannot start ──
class Shelf:
    """A library whose runbook can be broken and mended."""

    def __init__(self, office: Office) -> None:
        self.why = ""
        self.book = Loaded(office.book, "", "d", "watch.yaml")
        library = {"watch": Loaded(office.book, "", "other", "nowhere/watch.yaml", self.again)}
        due = [Schedule("watch", Cron(EVERY_TEN))]
        office.timetable = Timetable(office.store, office.stage.inventory, library, due, PROMPT)
        office.timetable.turn()

    def again(self) -> Loaded:
        """Read it."""
        if self.why:
            raise SickbayError(self.why, where="watch.yaml:3", advice="mend it")
        return self.book


def test_a_schedule_that_cannot_start_is_one_finding_until_it_starts_again(fleet: Office) -> None:
    shelf = Shelf(fleet)
    shelf.why = "no such step kind"
    for _ in range(6):
        fleet.pass_by(minutes=10)
        fleet.dispatch.turn()
    assert fleet.runs == []
    (incident,) = fleet.incidents
    assert (incident.state, incident.host, incident.found, incident.alerts[0].labels) == (
        OPEN, None, 6, {"alertname": "watch/schedule", "runbook": "watch", "schedule": EVERY_TEN},
    )  # fmt: skip
    assert incident.title == (
        "Its schedule, */10 * * * *, cannot start it: watch.yaml:3: no such step kind. mend it"
    )
    shelf.why = ""
    fleet.round()
    assert told(fleet) == [("watch/schedule", "", OVER)]


def test_a_file_that_is_gone_or_has_a_mistake_is_told_until_it_is_mended(
    fleet: Office, tmp_path: Path
) -> None:
    path = tmp_path / "watch.yaml"
    text = (
        "version: 1\nname: watch\ndescription: Look\nkind: observe\n"
        f'triggers: [{{schedule: "{EVERY_TEN}"}}]\nsteps: [{{id: disk, run: df /}}]\n'
    )
    path.write_text(text)
    loaded = {"watch": load_runbook(path, kinds=KINDS, parsers=())}
    due = [Schedule("watch", Cron(EVERY_TEN))]
    fleet.timetable = Timetable(fleet.store, fleet.stage.inventory, loaded, due, PROMPT)
    fleet.timetable.turn()
    for broken in (None, text.replace("df /", "df {{ nonsense }}")):
        path.unlink() if broken is None else path.write_text(broken)
        fleet.pass_by(minutes=10)
        fleet.dispatch.turn()
    (incident,) = fleet.incidents
    assert (incident.state, incident.found) == (OPEN, 2)
    assert "cannot be read: No such file" in incident.title
    path.write_text(text)
    fleet.round()
    assert told(fleet) == [("watch/schedule", "", OVER)]


def test_a_schedule_without_hosts_cannot_start_and_ends_nothing_that_was_found(fleet: Office) -> None:
    ticks(fleet, WRONG)
    fleet.stage.inventory = Inventory([Host("gpu-01", "10.0.0.1")])
    fleet.timetable = fleet.another(schedules=[Schedule("watch", Cron(EVERY_TEN), "@serving")])
    fleet.timetable.turn()
    fleet.pass_by(minutes=10)
    fleet.dispatch.turn()
    assert told(fleet) == [("watch/api", "gpu-01", OPEN), ("watch/schedule", "", OPEN)]


def test_a_schedule_that_rests_in_maintenance_is_no_finding(fleet: Office) -> None:
    hours = {"start": "2026-03-01T03:00:00Z", "end": "2026-03-01T05:00:00Z", "reason": "new disks"}
    window = Window.model_validate({"hosts": "@serving", **hours})
    every = frozenset(fleet.stage.inventory.hosts)
    fleet.timetable = fleet.another(windows=Windows([window], lambda _: every))
    fleet.timetable.turn()
    fleet.pass_by(minutes=10)
    fleet.dispatch.turn()
    assert (fleet.runs, fleet.incidents) == ([], [])


def test_what_a_schedule_was_kept_by_is_over_when_the_schedule_is_gone(fleet: Office) -> None:
    Shelf(fleet).why = "gone"
    fleet.pass_by(minutes=10)
    fleet.dispatch.turn()
    fleet.timetable = fleet.another(schedules=[Schedule("watch", Cron("*/20 * * * *"))])
    fleet.timetable.turn()
    fleet.dispatch.turn()
    assert told(fleet) == [("watch/schedule", "", OVER)]


# ── whatever the order ──
HOSTS = ("gpu-01", "gpu-02", "gpu-03", "gpu-04")
ATTEMPTS: dict[str, dict[str, Any]] = {
    "well": {"verdict": Verdict.HEALTHY},
    "wrong": {"verdict": Verdict.UNHEALTHY},
    "untold": {"verdict": Verdict.UNKNOWN},
    "away": {"status": Status.UNREACHABLE},
}
DAYS = st.lists(st.tuples(*[st.sampled_from(sorted(ATTEMPTS))] * 4), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(days=DAYS)
def test_whatever_comes_nothing_certain_is_lost_nothing_doubtful_ends_and_incidents_are_few(
    days: list[tuple[str, ...]],
) -> None:
    watch = book(name="watch", kind="observe", steps=CHECK[:1], verify=[], rescue=[], always=[])
    clock = Hands()
    with TemporaryDirectory() as folder:
        store = Store(Path(folder) / "sickbay.db", clock)
        dispatch = Dispatch(store, machines(), {}, [], "oncall")
        before: tuple[str, ...] = ("well",) * 4
        known: set[Place] = set()
        for number, answers in enumerate(days):
            clock.on(minutes=10)
            one = run(watch, HOSTS, id=number, state=RunState.SUCCEEDED)
            by_host = zip(HOSTS, answers, strict=True)
            record = Record([attempt("disk", host, **ATTEMPTS[answer]) for host, answer in by_host])
            with store.write() as tx:
                Harvest(store).take(tx, one, sights(one, record), frozenset(HOSTS))
                found = store.findings.open(tx)
                (rows,) = tx.exec_driver_sql("SELECT count(*) FROM findings WHERE ended_at IS NULL").one()
            assert rows == len(found), "one is open at a place"
            dispatch.turn()
            incidents = store.incidents.newest(limit=1000, open_only=True)
            assert len(incidents) == len(found), "each is shown, once"
            for host, was, now in zip(HOSTS, before, answers, strict=True):
                check, whole = Place("watch", host, "disk"), Place("watch", host)
                if now == "wrong":
                    assert found[check].sure
                if now == was and now in ("untold", "away"):
                    assert {check, whole, Place("watch")} & set(found)
                if now in ("untold", "away"):
                    assert (check in known) <= (check in found)
                if now == "away":
                    assert (whole in known) <= (whole in found)
                if now == "well":
                    assert not {check, whole} & set(found)
            if Place("watch") in found:
                assert sum(answer in ("untold", "away") for answer in answers) >= LEAST
            before, known = answers, set(found)
        kinds = 3 * len(HOSTS) + 1
        assert len(store.incidents.newest(limit=1000)) <= kinds * (
            1 + len(days) * timedelta(minutes=10) // AGAIN
        )
        store.close()
