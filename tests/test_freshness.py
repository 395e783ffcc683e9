"""What was seen of a host: how old, of which boot, and whether a plan made anew is another."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.guard.freshness import differs, stale
from bot.runs.plan import Entry, Plan, Precondition
from bot.runs.run import Status
from tests.parts.books import START, attempt

FRESH = timedelta(minutes=2)


@pytest.mark.parametrize(
    ("seconds", "why"),
    [
        (0, ""),
        (120, ""),
        (121, "what was seen is 121 s old, and 2m is the limit"),
        (-1, "the clock was set back since it was looked at"),
    ],
)
def test_a_look_is_fresh_for_two_minutes(seconds: int, why: str) -> None:
    look = [attempt("look", "a"), attempt("more", "a", ended_at=START + timedelta(seconds=1))]
    assert stale(look, [], START + timedelta(seconds=seconds), FRESH) == why


def test_who_looks_at_nothing_rests_on_nothing() -> None:
    assert stale([], [], START + timedelta(days=1), FRESH) == ""


@pytest.mark.parametrize(
    ("facts", "stale_now"),
    [
        ({"up_s": 59.0}, True),
        ({"up_s": 60.0}, False),
        ({"up_s": 90000.5}, False),
        ({"up_s": None}, False),
        ({}, False),
    ],
)
def test_a_look_before_a_boot_is_worth_nothing(facts: dict[str, Any], stale_now: bool) -> None:
    at = START + timedelta(seconds=60)
    evidence = replace(attempt("evidence", "a", ended_at=at, facts=facts), begun_at=at)
    assert bool(stale([attempt("look", "a")], [evidence], at, FRESH)) is stale_now


@given(st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_time_makes_nothing_fresher(seconds: int, more: int) -> None:
    look = [attempt("look", "a")]
    now, later = (START + timedelta(seconds=one) for one in sorted((abs(seconds), abs(seconds) + abs(more))))
    if stale(look, [], now, FRESH):
        assert stale(look, [], later, FRESH)


def plan(**changes: Any) -> Plan:
    """Return a plan of one step that rests on one look."""
    entry = Entry("steps", "stop", "stop it", "a", "run", mutating=True, text="stop it")
    seen = {"status": Status.OK, "verdict": "unhealthy", "facts": "1"}
    told = Precondition("look", "probe on a", seen | changes.pop("seen", {}))
    return Plan("mend", "d", (("a",),), (replace(entry, **changes),), (told,))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"seen": {"facts": "2"}}, ""),
        ({"decision": "skip"}, "stop it was to be done and is not needed"),
        ({"text": "stop that"}, "stop it would be another command"),
        ({"seen": {"verdict": "healthy"}}, "probe was unhealthy and is healthy"),
        ({"seen": {"status": Status.FAILED}}, "probe was unhealthy and is failed"),
    ],
)
def test_a_plan_made_anew_is_the_same_or_says_in_what_it_is_another(
    changes: dict[str, Any], said: str
) -> None:
    assert differs(plan(), plan(**changes), "a") == said
    assert (plan().essence == plan(**changes).essence) is (said == "")
