"""Durations carry their unit, in and out."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("250ms", 0.25), ("1.5h", 5400), ("0s", 0)],
)
def test_a_number_with_its_unit_is_read(text: str, seconds: float) -> None:
    assert duration.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", [30, 30.0, "30", "", "s", "-3s", "3 s", "30s\n", "1w", "3S", "٣s", None, "1e3s", True]
)
def test_anything_else_is_refused_with_the_form_wanted(text: object) -> None:
    with pytest.raises(ValueError, match="a duration needs its unit, like 30s"):
        duration.parse(text)


def test_a_duration_no_clock_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="no duration is that long"):
        duration.parse("99999999999999999d")


@given(st.integers(0, 10**11))
def test_what_is_written_reads_back_the_same(milliseconds: int) -> None:
    span = timedelta(milliseconds=milliseconds)
    assert duration.parse(duration.write(span)) == span


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "90s"), (600, "10m"), (86_400, "1d"), (0.25, "250ms"), (0, "0ms")]
)
def test_the_largest_exact_unit_is_written(seconds: float, text: str) -> None:
    assert duration.write(timedelta(seconds=seconds)) == text
