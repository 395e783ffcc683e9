"""The chain: whatever is done to it, the first event that does not fit is found, and named."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.chain import BEGIN, Stored, Value, link, stored, walk

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
WHENS = st.datetimes().map(lambda at: f"{at.isoformat(timespec='microseconds')}+00:00")
SAID = st.tuples(
    WHENS, TEXTS, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | TEXTS, st.none() | TEXTS, TEXTS
)
CHAINS = st.lists(SAID, min_size=1, max_size=6)


def chained(said: Sequence[Sequence[Value]]) -> list[Stored]:
    """Return events that fit."""
    before, events = BEGIN, []
    for number, values in enumerate(said, 1):
        whole = (number, *(value.encode() if isinstance(value, str) else value for value in values))
        before = link(before, whole)
        events.append(Stored(whole, before.encode()))
    return events


@given(CHAINS)
def test_what_was_written_fits_and_the_head_stands_for_all_of_it(said: list[Any]) -> None:
    events = chained(said)
    found = walk(events, len(events))
    assert (found.events, found.fault, found.noted) == (len(said), "", None)
    assert found.head == events[-1].hash.decode()
    for at, event in enumerate(events, 1):
        assert walk(events, len(events), event.hash.decode()[:16]).noted == at


def test_nothing_has_been_written_yet() -> None:
    assert walk([], 0).head == BEGIN
    assert walk([], 0).fault == ""


@given(CHAINS, st.data())
def test_an_event_that_says_anything_else_is_the_first_that_does_not_fit(said: list[Any], data: Any) -> None:
    events = chained(said)
    at = data.draw(st.integers(0, len(events) - 1))
    column = data.draw(st.integers(1, 7))
    values = list(events[at].values)
    values[column] = data.draw(st.none() | NUMBERS | TEXTS.map(str.encode))
    assume(values[column] != events[at].values[column])
    events[at] = Stored(tuple(values), events[at].hash)
    found = walk(events, len(events))
    assert found.events == at
    assert f"event {at + 1} (" in found.fault


@given(CHAINS, st.data())
def test_an_event_whose_hash_was_made_to_fit_gives_away_the_next(said: list[Any], data: Any) -> None:
    events = chained(said)
    at = data.draw(st.integers(0, len(events) - 1))
    values = (at + 1, *chained([data.draw(SAID)])[0].values[1:])
    assume(values != events[at].values)
    before = events[at - 1].hash.decode() if at else BEGIN
    old, events[at] = events[at], Stored(values, link(before, values).encode())
    found = walk(events, len(events), old.hash.decode())
    if at + 1 < len(events):
        assert found.events == at + 1
        assert f"event {at + 2} (" in found.fault
    else:
        assert found.fault == "", "the newest fits by itself; a head that was noted tells"
    assert found.noted is None


@given(CHAINS, st.data())
def test_what_is_removed_moved_or_put_in_is_found_where_it_was(said: list[Any], data: Any) -> None:
    events = chained(said)
    at = data.draw(st.integers(0, len(events) - 1))
    without = events[:at] + events[at + 1 :]
    assert f"event {at + 1} is missing" in walk(without, len(events)).fault
    again = events[: at + 1] + events[at:]
    assert walk(again, len(events)).events == at + 1
    moved = [*events[:at], *reversed(events[at:])]
    assert len(events) - at < 2 or walk(moved, len(events)).events == at
    renumbered = [Stored((number, *one.values[1:]), one.hash) for number, one in enumerate(without, 1)]
    found = walk(renumbered, len(renumbered))
    assert found.events == at
    assert bool(found.fault) == (at < len(renumbered))


def test_what_is_missing_at_the_end_is_found_by_the_databases_own_count() -> None:
    events = chained([("2026-03-01T03:00:00.000000+00:00", "run.started", 7, 12, "gpu-03", None, "{}")] * 4)
    assert walk(events[:2], 4).fault == (
        "events 3 to 4 are missing at the end, "
        "after event 2 (at 2026-03-01 03:00:00 UTC, run.started, run 12, gpu-03)"
    )
    assert walk([], 1).fault == "event 1 is missing at the end, and there is no other"


def test_an_event_is_named_by_when_what_and_where_whatever_became_of_it() -> None:
    (event,) = chained([("2026-03-01T03:00:00.000000+00:00", "step.ended", 7, 12, "gpu-03", "look", "{}")])
    assert event.words == "event 1 (at 2026-03-01 03:00:00 UTC, step.ended, run 12, gpu-03)"
    hostile = Stored((1, b"\xff", b"\x1b[2Jx\n", None, None, None, None, b""), b"")
    assert hostile.words == "event 1 (at \\xff, ?[2Jx?)"


TYPES = ["integer", "text", "text", "null", "null", "null", "null", "text", "text"]


@pytest.mark.parametrize(
    ("at", "kind", "column"),
    [(1, "blob", "at"), (3, "text", "incident_id"), (4, "real", "run_id"), (5, "integer", "host"), (8, "blob", "hash")],
)  # fmt: skip
def test_the_same_bytes_as_another_type_do_not_fit(at: int, kind: str, column: str) -> None:
    (event,) = chained([("2026-03-01T03:00:00.000000+00:00", "run.started", None, None, None, None, "{}")])
    raw = [b"1", *event.values[1:], event.hash]
    row = [part for pair in zip(TYPES, raw, strict=True) for part in pair]
    assert walk([stored(row)], 1).fault == ""
    row[2 * at] = kind
    row[2 * at + 1] = row[2 * at + 1] or b"1"
    assert f"its `{column}` holds what is never written there" in walk([stored(row)], 1).fault


@given(st.lists(st.none() | NUMBERS | TEXTS, max_size=4), st.lists(st.none() | NUMBERS | TEXTS, max_size=4))
def test_no_two_events_are_hashed_alike(one: list[Value], other: list[Value]) -> None:
    assume(one != other)
    assert link(BEGIN, one) != link(BEGIN, other)
