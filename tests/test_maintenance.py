"""Maintenance windows: once, and weekly by the clock on the wall."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.errors import SickbayError
from bot.guard.maintenance import Window, Windows


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(**changes: Any) -> Window:
    return Window.model_validate({"hosts": "@rack", "reason": "new fans"} | changes)


def test_a_window_is_open_from_its_start_to_before_its_end() -> None:
    one = window(start="2026-08-01T22:00:00Z", end="2026-08-02T01:00:00+02:00")
    assert one.until(at("2026-08-01T21:59:59")) is None
    assert one.until(at("2026-08-01T22:00:00")) == at("2026-08-01T23:00:00")
    assert one.until(at("2026-08-01T23:00:00")) is None


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-01T01:59", None),
        ("2026-03-01T02:00", "2026-03-01T04:00"),
        ("2026-03-01T03:59", "2026-03-01T04:00"),
        ("2026-03-01T04:00", None),
        ("2026-03-02T03:00", None),
    ],
)
def test_a_weekly_window_is_open_on_its_day(now: str, until: str | None) -> None:
    assert window(weekly="Sun 02:00-04:00").until(at(now)) == (at(until) if until else None)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-07T22:59", None),
        ("2026-03-07T23:00", "2026-03-08T01:30"),
        ("2026-03-08T01:29", "2026-03-08T01:30"),
        ("2026-03-08T01:30", None),
        ("2026-03-08T23:30", None),
    ],
)
def test_a_weekly_window_that_ends_before_it_begins_ends_on_the_next_day(now: str, until: str | None) -> None:
    assert window(weekly="Sat 23:00-01:30").until(at(now)) == (at(until) if until else None)


def test_a_weekly_window_goes_by_the_wall_in_summer_and_in_winter() -> None:
    berlin = window(weekly="Mon 08:00-09:00", timezone="Europe/Berlin")
    assert berlin.until(at("2026-01-05T07:30")) == at("2026-01-05T08:00")
    assert berlin.until(at("2026-07-06T06:30")) == at("2026-07-06T07:00")
    assert berlin.until(at("2026-07-06T07:30")) is None


def test_a_weekly_window_over_the_change_of_clocks_ends_by_the_wall() -> None:
    berlin = window(weekly="Sun 01:00-04:00", timezone="Europe/Berlin")
    assert berlin.until(at("2026-03-29T00:30")) == at("2026-03-29T02:00")
    assert berlin.until(at("2026-10-25T02:30")) == at("2026-10-25T03:00")


@given(st.integers(0, 4 * 365 * 24 * 60))
def test_an_open_window_closes_later_and_not_after_a_day(minutes: int) -> None:
    moment = at("2026-01-01") + timedelta(minutes=minutes)
    for zone in ("UTC", "America/New_York", "Australia/Lord_Howe"):
        until = window(weekly="Wed 00:30-23:30", timezone=zone).until(moment)
        assert until is None or timedelta(0) < until - moment <= timedelta(hours=24)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "a window has either `start` and `end`, or `weekly`"),
        ({"weekly": "Sun 02:00-04:00", "start": "2026-08-01T22:00:00Z"}, "a window has either"),
        ({"start": "2026-08-01T22:00:00Z"}, "`start` and `end` are both needed"),
        ({"start": "2026-08-01T22:00:00Z", "end": "2026-08-01T21:00:00Z"}, "`end` is after `start`"),
        ({"start": "2026-08-01T22:00:00", "end": "2026-08-02T21:00:00Z"}, "timezone"),
        ({"weekly": "Sunday 02:00-04:00"}, "expected a day and two times like `Sun 02:00-04:00`"),
        ({"weekly": "Sun 02:00-02:00"}, "is no stretch of time"),
        ({"weekly": "Sun 02:00-24:30"}, "is no stretch of time"),
        (
            {"weekly": "Sun 02:00-04:00", "timezone": "Europe/Sickbay"},
            "there is no time zone 'Europe/Sickbay'",
        ),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        window(**given)
    assert said in str(raised.value)


def test_windows_say_what_goes_on_where() -> None:
    def covers(hosts: str) -> frozenset[str]:
        if hosts == "@gone":
            raise SickbayError("no such group")
        return frozenset({"a", "b"})

    weekly = window(weekly="Sun 02:00-04:00")
    windows = Windows((weekly,), covers)
    now = at("2026-03-01T03:00")
    assert windows.at("a", now) == "a is in maintenance until 2026-03-01 04:00 UTC: new fans"
    assert windows.at("c", now) == ""
    assert windows.over(["a", "c"], now) == [windows.at("a", now)]
    lost = Windows((window(hosts="@gone", weekly="Sun 02:00-04:00"),), covers)
    assert lost.at("c", now), "a set that means nothing any more is about every host"
