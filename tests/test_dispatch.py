"""Alerts become incidents and runs: once, on hosts that the inventory knows, whatever the labels say."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from bot.alert import Alert
from bot.dispatch import Dispatch
from bot.guard.maintenance import Window, Windows
from bot.incident import Incident, IncidentState
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from bot.library import Loaded
from bot.route import Route
from bot.runs.plan import Plan
from bot.runs.run import Run
from bot.store import Store
from tests.parts.books import book
from tests.parts.stage import BOB

INVENTORY = Inventory(
    [
        Host("gpu-01", "10.0.0.1", groups=("serving",)),
        Host("gpu-02", "10.0.0.2", groups=("serving",)),
        Host("lb", "10.0.0.9"),
    ]
)
Routed = Callable[..., "Desk"]


def loaded(runbook: Runbook) -> Loaded:
    """Return it as the library has it."""
    return Loaded(runbook, "", "d", f"{runbook.name}.yaml")


class Desk:
    """A store, and a dispatch with these routes."""

    def __init__(self, store: Store, *routes: dict[str, Any], **runbook: Any) -> None:
        self.store = store
        self.dispatch = Dispatch(
            store,
            INVENTORY,
            {"mend": loaded(book(**runbook))},
            [Route.model_validate(route) for route in routes],
            "oncall",
        )

    def tell(self, *alerts: Alert) -> None:
        """Take alerts in and dispatch them."""
        self.store.alerts.add(alerts)
        assert self.dispatch.turn() >= 0
        assert self.store.alerts.waiting() == []

    @property
    def incidents(self) -> list[Incident]:
        """All incidents, oldest first."""
        return self.store.incidents.newest()[::-1]

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return self.store.runs.newest()[::-1]


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[Routed]:
    """Give a desk with routes."""
    store = Store(tmp_path / "sickbay.db")
    yield lambda *routes, **runbook: Desk(store, *routes, **runbook)
    store.close()


def down(status: str = "firing", *, fingerprint: str = "f1", hour: int = 3, **labels: str) -> Alert:
    """Return VLLMDown on gpu-01."""
    starts = datetime(2026, 3, 1, hour, tzinfo=UTC)
    all_labels = {"alertname": "VLLMDown", "host": "gpu-01", **labels}
    return Alert("alertmanager", fingerprint, status, starts, all_labels, {"summary": "vLLM is down"})  # type: ignore[arg-type]


MEND = {"match": {"alertname": "VLLMDown"}, "runbook": "mend"}


def test_an_alert_becomes_an_incident_and_the_run_that_its_route_names(routed: Routed) -> None:
    desk = routed(MEND)
    desk.tell(down(severity="page"))
    (incident,) = desk.incidents
    assert (incident.title, incident.severity, incident.channel) == ("vLLM is down", "page", "oncall")
    assert (incident.host, incident.state, incident.note) == ("gpu-01", IncidentState.OPEN, "")
    (run,) = desk.runs
    assert (run.incident_id, run.hosts, run.mode) == (incident.id, ("gpu-01",), "approve")
    assert run.requester.name == "alert VLLMDown"
    assert run.alert is not None
    assert run.alert["host"] == "gpu-01"
    kinds = [event.kind for event in desk.store.timeline.of(incident=incident.id)]
    assert kinds == ["incident.opened", "alert.firing", "run.queued"]


def test_the_first_route_that_matches_is_taken_and_may_only_lower_the_mode(routed: Routed) -> None:
    desk = routed(
        {"match": {"alertname": "Other"}, "runbook": "mend", "channel": "wrong"},
        {**MEND, "channel": "serving", "mode": "suggest"},
        {**MEND, "channel": "late"},
        mode="auto",
    )
    desk.tell(down())
    assert [(run.channel, run.mode) for run in desk.runs] == [("serving", "suggest")]
    bold = routed({**MEND, "mode": "auto"}, mode="approve")
    bold.tell(down(fingerprint="f2", host="gpu-02"))
    assert [run.mode for run in bold.runs] == ["suggest", "approve"]


def test_no_route_or_no_runbook_shows_the_alert_and_does_nothing(routed: Routed) -> None:
    desk = routed({"match": {"alertname": "Disk"}})
    desk.tell(down(), down(alertname="Disk", fingerprint="f2"))
    assert ["No route" in desk.incidents[0].note, "no runbook" in desk.incidents[1].note] == [True, True]
    assert desk.runs == []


def test_a_runbook_that_answers_the_alert_is_found_by_its_trigger(routed: Routed) -> None:
    triggers = [{"alert": {"match": {"alertname": "VLLMDown"}}}]
    desk = routed({"match": {}}, triggers=triggers)
    desk.tell(down(), down(alertname="Disk", fingerprint="f2"))
    assert [run.runbook.name for run in desk.runs] == ["mend"]


def test_an_alert_told_again_starts_nothing(routed: Routed) -> None:
    desk = routed(MEND)
    desk.tell(down())
    desk.tell(down())
    desk.tell(down(), down(fingerprint="f2"), down(hour=4))
    assert len(desk.incidents) == len(desk.runs) == 1
    assert len(desk.incidents[0].alerts) == 3


def test_two_alerts_of_one_key_at_once_are_one_incident_and_one_run(routed: Routed) -> None:
    desk = routed(MEND)
    desk.tell(down(gpu="0"), down(gpu="1", fingerprint="f2"), down(host="gpu-02", fingerprint="f3"))
    assert [(incident.host, len(incident.alerts)) for incident in desk.incidents] == [
        ("gpu-01", 2),
        ("gpu-02", 1),
    ]
    assert [run.hosts for run in desk.runs] == [("gpu-01",), ("gpu-02",)]


def test_alerts_are_grouped_by_the_labels_that_the_route_says(routed: Routed) -> None:
    desk = routed({**MEND, "group_by": ["alertname", "gpu"]})
    desk.tell(down(gpu="0"), down(gpu="1", fingerprint="f2"), down(gpu="0", fingerprint="f3"))
    assert [len(incident.alerts) for incident in desk.incidents] == [2, 1]


def test_no_label_can_forge_the_key_of_another_incident(routed: Routed) -> None:
    desk = routed({**MEND, "match": {}, "group_by": ["alertname", "team"]})
    desk.tell(
        down(alertname='A", "team=', team="b", host="x"),
        down(alertname="A", team='", "team=b', host="x", fingerprint="f2"),
        down(alertname="A|team=b", team="", host="x", fingerprint="f3"),
        down(alertname="A", team="b|", host="x", fingerprint="f4"),
    )
    assert len(desk.incidents) == 4


def test_resolved_closes_the_incident_when_its_last_alert_is_over(routed: Routed) -> None:
    desk = routed(MEND)
    desk.tell(down(), down(fingerprint="f2"))
    desk.tell(down("resolved"))
    assert desk.incidents[0].state is IncidentState.OPEN
    desk.tell(down("resolved", fingerprint="f2"))
    (incident,) = desk.incidents
    assert incident.state is IncidentState.RESOLVED
    kinds = [event.kind for event in desk.store.timeline.of(incident=incident.id)]
    assert kinds.count("incident.resolved") == 1
    assert desk.runs[0].cancelled_by == "the alert, which has cleared"


def test_resolved_voids_the_question_that_is_open(routed: Routed) -> None:
    desk = routed(MEND)
    desk.tell(down())
    run = desk.store.runs.claim(desk.runs[0].id)
    assert run is not None
    desk.store.approvals.plan(run, Plan("mend", "d", (("gpu-01",),), ()), ask=True)
    desk.tell(down("resolved"))
    assert "the alert has cleared" in (desk.store.approvals.decide(run.id, BOB, "approve") or "")
    assert run.id in desk.store.runs.due()


def test_resolved_that_overtakes_its_firing_leaves_nothing_open(routed: Routed) -> None:
    desk = routed(MEND)
    desk.tell(down("resolved"))
    desk.tell(down())
    assert desk.incidents == []
    assert desk.runs == []
    desk.tell(down(hour=4))
    assert len(desk.incidents) == len(desk.runs) == 1


def test_it_fires_again_after_it_was_resolved_as_a_new_incident(routed: Routed) -> None:
    desk = routed(MEND)
    for alert in (down(), down("resolved"), down(hour=5)):
        desk.tell(alert)
    assert [one.state for one in desk.incidents] == [IncidentState.RESOLVED, IncidentState.OPEN]
    assert len(desk.runs) == 2


@pytest.mark.parametrize("label", ["host", "instance", "node"])
@pytest.mark.parametrize("value", ["gpu-01", "10.0.0.1", "gpu-01:9400", "10.0.0.1:8000"])
def test_a_host_is_known_by_name_and_address(routed: Routed, label: str, value: str) -> None:
    desk = routed(MEND)
    desk.tell(
        Alert("a", "f", "firing", datetime(2026, 3, 1, tzinfo=UTC), {"alertname": "VLLMDown", label: value})
    )
    assert [run.hosts for run in desk.runs] == [("gpu-01",)]


def test_an_unknown_host_is_shown_by_what_it_was_called(routed: Routed) -> None:
    desk = routed(MEND)
    desk.tell(down(host="gpu-77"))
    (incident,) = desk.incidents
    assert incident.host is None
    assert "gpu-77" in incident.note
    assert desk.runs == []


HOSTILE = ["@all", "@serving", "*", "gpu-[01-99]", "gpu-01,gpu-02", "gpu-0?", "gpu-01 gpu-02", "!lb", "@*", "",
           "$(touch x)", "`id`", "-o", "gpu-01\nlb", "gpu-01\x00", "{{ 7 * 7 }}", "../gpu-01", "gpu-[1-999999999]"]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "hosts", ["", "{{ alert.host }}", "{{ alert.labels.host }}", "{{ alert.labels.cluster }}"]
)
def test_a_hostile_label_never_selects_a_host(routed: Routed, value: str, hosts: str) -> None:
    desk = routed({**MEND, "hosts": hosts})
    desk.tell(down(host=value, cluster=value))
    assert desk.runs == []
    assert len(desk.incidents) == 1
    assert desk.incidents[0].note


def test_a_label_may_complete_a_set_that_the_author_began(routed: Routed) -> None:
    desk = routed({**MEND, "hosts": "@{{ alert.labels.cluster }}!{{ alert.host }}"})
    desk.tell(down(cluster="serving"), down(cluster="serving,lb", fingerprint="f2", host="gpu-02"))
    assert [run.hosts for run in desk.runs] == [("gpu-02",)]
    assert "no host name" in desk.incidents[1].note


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.text(max_size=30) | st.sampled_from(["gpu-01", "lb", "@serving"]),
    name=st.sampled_from(["host", "cluster", "alertname", "severity"]),
)
def test_whatever_a_label_says_no_host_is_chosen_that_it_does_not_name(
    routed: Routed, value: str, name: str
) -> None:
    desk = routed({**MEND, "match": {}, "hosts": "{{ alert.labels.cluster }}"})
    told = len(desk.store.incidents.newest(limit=10_000))
    labels: dict[str, Any] = {name: value}
    alert = down(fingerprint=f"f{told}", **labels)
    before = len(desk.runs)
    desk.tell(alert)
    for run in desk.runs[before:]:
        assert run.hosts == (value,)


def test_inputs_that_do_not_fit_are_shown_and_nothing_is_started(routed: Routed) -> None:
    desk = routed({**MEND, "inputs": {"port": "http"}}, inputs={"port": {"type": "integer"}})
    desk.tell(down())
    assert "mend was not started" in desk.incidents[0].note


def test_an_alert_that_cannot_be_routed_is_shown_and_holds_up_no_other(
    routed: Routed, caplog: pytest.LogCaptureFixture
) -> None:
    desk = routed(MEND)
    routing, desk.dispatch._routing = desk.dispatch._routing, None  # type: ignore[assignment]
    desk.store.alerts.add([down()])
    desk.dispatch.turn()
    desk.dispatch._routing = routing
    desk.tell(down(fingerprint="f2"))
    broken, fine = desk.incidents
    assert "Sickbay itself failed" in broken.note
    assert "cannot route alert" in caplog.text
    assert [run.incident_id for run in desk.runs] == [fine.id]


def test_with_nothing_to_dispatch_nothing_is_committed(routed: Routed) -> None:
    """Else each look would wake the next one."""
    desk, commits = routed(MEND), list[str]()
    desk.store.database.listen(lambda: commits.append("x"))
    assert desk.dispatch.turn() == 0
    assert commits == []


def test_a_database_that_refuses_keeps_the_alert_for_later(routed: Routed) -> None:
    desk = routed(MEND)
    desk.store.alerts.add([down()])
    with desk.store.write() as tx:
        tx.exec_driver_sql("ALTER TABLE incidents RENAME TO away")
    with pytest.raises(OperationalError):
        desk.dispatch.turn()
    with desk.store.write() as tx:
        tx.exec_driver_sql("ALTER TABLE away RENAME TO incidents")
    desk.tell()
    assert len(desk.runs) == 1


def test_inside_a_maintenance_window_an_alert_starts_nothing_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "sickbay.db")
    now = store.now()
    window = Window(hosts="gpu-01", start=now, end=now + timedelta(hours=1), reason="new fans")
    desk = Desk(store, MEND, hosts="{{ alert.host }}")
    desk.dispatch = Dispatch(
        store,
        INVENTORY,
        {"mend": loaded(book())},
        [Route.model_validate(MEND)],
        "oncall",
        Windows((window,), lambda hosts: frozenset({hosts})),
    )
    desk.tell(down(), down(fingerprint="f2", host="gpu-02"))
    assert [run.hosts for run in desk.runs] == [("gpu-02",)]
    quiet, _ = desk.incidents
    assert quiet.note.startswith("mend was not started: gpu-01 is in maintenance until ")
    assert quiet.note.endswith(": new fans. To run it all the same: run mend gpu-01")
    store.close()
