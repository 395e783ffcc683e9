"""Reading Alertmanager's webhook body: one bad alert sinks no other, and nothing raises what it should not."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.alert import Alert
from bot.intake import Unreadable, alertmanager
from bot.store.tables import Moment

TEXT = st.text(st.characters(exclude_categories=()))  # halves of characters too, which JSON can spell
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
FIELDS = ("status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint", "else")


def item(**changes: Any) -> dict[str, Any]:
    """Return one alert as Alertmanager 0.28 writes it."""
    return {
        "status": "firing",
        "labels": {"alertname": "VLLMDown", "instance": "gpu-03:8000"},
        "annotations": {"summary": "vLLM is down"},
        "startsAt": "2026-03-01T03:04:05.678901234Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": "5ef77f1f8a3ecf8d",
    } | changes


def body(*alerts: Any, **changes: Any) -> dict[str, Any]:
    """Return a whole body."""
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "status": "firing",
        "receiver": "x",
        "alerts": list(alerts),
    } | changes


def read_one(**changes: Any) -> Alert:
    """Read a body of one alert that is valid."""
    (alert,), rejected = alertmanager(body(item(**changes)))
    assert rejected == []
    return alert


def test_an_alert_is_read_as_it_is_meant() -> None:
    alert = read_one()
    assert (alert.source, alert.fingerprint, alert.status) == ("alertmanager", "5ef77f1f8a3ecf8d", "firing")
    assert alert.starts_at == datetime(2026, 3, 1, 3, 4, 5, 678901, tzinfo=UTC)
    assert alert.ends_at is None
    assert alert.labels["instance"] == "gpu-03:8000"
    assert alert.url.startswith("http://prometheus")


def test_the_end_counts_when_it_is_resolved_only() -> None:
    ended = {"endsAt": "2026-03-01T04:00:00Z"}
    assert read_one(**ended).ends_at is None
    assert read_one(status="resolved", **ended).ends_at == datetime(2026, 3, 1, 4, tzinfo=UTC)


def test_one_moment_in_two_time_zones_is_one_alert() -> None:
    there = read_one(startsAt="2026-03-01T03:00:00Z")
    here = read_one(startsAt="2026-03-01T11:00:00+08:00")
    assert there.key == here.key
    assert there.key != read_one(startsAt="2026-03-01T03:00:00Z", status="resolved").key
    assert there.episode == read_one(startsAt="2026-03-01T03:00:00Z", status="resolved").episode


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "suppressed"}, "status: "),
        ({"labels": {"gpu": 3}}, "labels.gpu: "),
        ({"labels": {str(number): "x" for number in range(200)}}, "labels: "),
        ({"startsAt": "yesterday"}, "startsAt: "),
        ({"startsAt": "2026-03-01T03:00:00"}, "startsAt: "),
        ({"startsAt": "0001-01-01T00:00:00+14:00"}, "startsAt or endsAt: "),
        ({"status": "resolved", "endsAt": "9999-12-31T23:59:59-12:00"}, "startsAt or endsAt: "),
        ({"fingerprint": ""}, "fingerprint: "),
        ({"fingerprint": "a b"}, "fingerprint: "),
        ({"labels": {"x" * 9000: 1}}, "labels.xxx"),
        ({"labels": {"a": "\ud800"}}, "labels.a: "),
        ({"labels": {"\ud800": "a"}}, "labels.\ufffd"),
    ],
)
def test_an_alert_that_is_wrong_is_reported_by_its_place_and_sinks_no_other(change: Any, reason: str) -> None:
    taken, (rejection,) = alertmanager(body(item(), item(**change), item(fingerprint="other")))
    assert [alert.fingerprint for alert in taken] == ["5ef77f1f8a3ecf8d", "other"]
    assert rejection.index == 1
    assert rejection.reason.startswith(reason)
    assert len(rejection.reason) < 300


@pytest.mark.parametrize("wrong", [None, [], "x", 4, {}, {"alerts": {}}, {"version": "4"}])
def test_what_is_no_such_body_is_said_to_be_none(wrong: Any) -> None:
    with pytest.raises(Unreadable, match="expected Alertmanager's webhook body"):
        alertmanager(wrong)


def test_another_version_is_refused_without_echoing_all_of_it() -> None:
    with pytest.raises(Unreadable, match='expected version "4"') as error:
        alertmanager(body(item(), version="3" * 100_000))
    assert len(str(error.value)) < 200


@given(JSON | st.builds(body, JSON, st.dictionaries(st.sampled_from(FIELDS), JSON)))
def test_any_json_is_read_or_refused(data: Any) -> None:
    try:
        taken, rejected = alertmanager(data)
    except Unreadable:
        return
    assert len(taken) + len(rejected) == len(data["alerts"])
    "".join(rejection.reason for rejection in rejected).encode()


@given(st.dictionaries(st.sampled_from(FIELDS), JSON | st.datetimes(timezones=st.timezones()).map(str)))
def test_whatever_is_taken_can_be_stored(changes: dict[str, Any]) -> None:
    taken, _ = alertmanager(body(item(**changes)))
    for alert in taken:
        json.dumps([dict(alert.labels), dict(alert.annotations)], ensure_ascii=False).encode()
        (alert.key + alert.url).encode()
        assert Moment().process_bind_param(alert.starts_at, None)  # type: ignore[arg-type]
