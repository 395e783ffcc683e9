"""Clocks of hosts: the offset that is measured is right within what it says, or it is unknown."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.clock import Offset, Ours, Reading, Unmeasured, measure, ours, reading

SENT = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
NANOSECONDS = 1_000_000_000
EPOCH = int(SENT.timestamp()) * NANOSECONDS
WAYS = st.integers(0, 90_000_000)
"""Microseconds that a way or the work takes."""
OFFSETS = st.integers(-(10**12), 10**12)
"""Microseconds; a fortnight either way."""
GRAINS = st.sampled_from([1, 1000, 10_000_000, NANOSECONDS])


def told(at: int, grain: int) -> Reading:
    """Return what a clock says that knows no less than its grain."""
    return Reading(at // grain * grain, grain)


@given(OFFSETS, WAYS, WAYS, WAYS, GRAINS, st.booleans())
def test_the_true_offset_lies_within_what_is_said(
    offset: int, there: int, work: int, back: int, grain: int, cut_short: bool
) -> None:
    came = SENT + timedelta(microseconds=there + work + back)
    first = EPOCH + (offset + there) * 1000
    found = measure(SENT, came, told(first, grain), None if cut_short else told(first + work * 1000, grain))
    assert isinstance(found, Offset)
    assert abs(found.seconds - offset / 1e6) <= found.within + 2e-6
    lost = there + back + (work if cut_short else 0)
    assert found.within <= lost / 2e6 + grain / NANOSECONDS + 3e-6, "no less sure than half of the round trip"


@given(OFFSETS, WAYS, WAYS, WAYS, st.integers(100_000_000, 10**10))
def test_a_clock_that_jumps_ahead_while_it_is_read_is_unknown(
    offset: int, there: int, work: int, back: int, jump: int
) -> None:
    came = SENT + timedelta(microseconds=there + work + back)
    first = EPOCH + (offset + there) * 1000
    found = measure(SENT, came, told(first, 1), told(first + (work + there + back + jump) * 1000, 1))
    assert found == Unmeasured("the host's clock was set forward while it was measured")


@pytest.mark.parametrize(
    ("came", "last", "why"),
    [
        (1, -5, "the host's clock was set back while it was measured"),
        (-1, 0, "the clock of Sickbay was set back while it was measured"),
    ],
)
def test_clocks_that_are_set_back_meanwhile_are_unknown(came: int, last: int, why: str) -> None:
    first = Reading(EPOCH, 1)
    found = measure(SENT, SENT + timedelta(seconds=came), first, Reading(EPOCH + last * NANOSECONDS, 1))
    assert found == Unmeasured(why)


@pytest.mark.parametrize(
    ("said", "uptime", "expected"),
    [
        ("1772334000.123456789", "52.25", Reading(1772334000123456789, 1, 52.25)),
        ("1772334000", "", Reading(1772334000000000000, NANOSECONDS)),
        ("1772334000.", "x", Reading(1772334000000000000, NANOSECONDS)),
        ("1772334000.%N", "1e9", Reading(1772334000000000000, NANOSECONDS)),
        ("1772334000.5", "1.5", Reading(1772334000500000000, 100_000_000, 1.5)),
        ("date:", "", None),
        ("", "", None),
        ("17723340001772334000", "", None),
        ("１７７２３３４０００", "", None),
    ],
)
def test_what_date_prints_is_read_as_exactly_as_it_is(
    said: str, uptime: str, expected: Reading | None
) -> None:
    assert reading(said, uptime) == expected


@given(st.text(max_size=40), st.text(max_size=10))
def test_anything_else_is_no_reading_and_no_time(said: str, uptime: str) -> None:
    reading(said, uptime)
    ours(said, Offset(1.0, 0.1, SENT, 5.0))


AHEAD = Offset(90.5, 0.2, SENT - timedelta(seconds=1000), 1000.0)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("2026-03-01T03:01:30.500000+0000", Ours(SENT, 0.2)),
        ("2026-03-01T04:01:30.5+01:00", Ours(SENT, 0.2)),
        ("2026-03-01T03:01:30,500000+00:00", Ours(SENT, 0.2)),
        ("2026-03-01T03:01:30.500000000Z", Ours(SENT, 0.2)),
        ("  1000.000000", Ours(SENT, 0.2 + 0.1 + 0.05)),
        ("2026-03-01T03:01:30", None),
        ("Sun Feb 23 16:24:18 2025", None),
        ("Mar  1 03:01:30", None),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
    ],
)
def test_times_of_a_host_are_put_right_where_they_say_when(raw: str, expected: Ours | None) -> None:
    found = ours(raw, AHEAD)
    assert (found and (found.at, round(found.within, 9))) == (
        expected and (expected.at, round(expected.within, 9))
    )


def test_seconds_since_boot_say_nothing_where_the_boot_is_unknown() -> None:
    assert ours("12.5", Offset(0.0, 0.1)) is None


@given(OFFSETS, st.floats(0, 10**7), st.integers(0, 10**7))
def test_the_kernels_seconds_are_put_right_whatever_the_clock_says(
    offset: int, uptime: float, ago: int
) -> None:
    found = measure(SENT, SENT, Reading(EPOCH + offset * 1000, 1, uptime))
    assert isinstance(found, Offset)
    since = max(0.0, uptime - ago)
    at = ours(f"{since:.6f}", found)
    assert at is not None
    assert abs((at.at - SENT).total_seconds() + (uptime - since)) < 1e-4
    assert at.within > found.within
