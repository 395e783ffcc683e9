"""What was seen of a host: how old, of which boot, and whether a plan made anew is another."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.guard.freshness import Sight, differs
from bot.runs.plan import Entry, Plan, Precondition
from bot.runs.run import Attempt, Status
from tests.parts.books import START, attempt

FRESH = timedelta(minutes=2)


def stale(sight: Sight, seconds: float = 0) -> str:
    """Return why it justifies nothing so long after START."""
    found = sight.stale(START + timedelta(seconds=seconds), FRESH)
    return found.why if found is not None else ""


def later(one: Attempt, seconds: float) -> Attempt:
    """Return an attempt that began and ended so long after START."""
    at = START + timedelta(seconds=seconds)
    return replace(one, begun_at=at, ended_at=at)


@pytest.mark.parametrize("seconds", [0, 120, 121, -1])
@pytest.mark.parametrize("what", ["look", "evidence"])
def test_a_look_and_evidence_are_fresh_for_two_minutes(seconds: int, what: str) -> None:
    seen = (attempt("one", "a"), attempt("more", "a", ended_at=START + timedelta(seconds=1)))
    said = {"look": "what was seen", "evidence": "its evidence"}[what]
    why = {
        121: f"{said} is 121 s old, and 2m is the limit",
        -1: "the clock was set back since it was looked at",
    }
    sight = Sight(seen) if what == "look" else Sight((), seen)
    found = sight.stale(START + timedelta(seconds=seconds), FRESH)
    assert (found.why if found is not None else "") == why.get(seconds, "")
    assert found is None or found.evidence is (what == "evidence")


def test_who_looks_at_nothing_and_keeps_nothing_rests_on_nothing() -> None:
    assert stale(Sight(), 86400) == ""


LOOK = attempt("look", "a")
EVIDENCE = later(attempt("evidence", "a", facts={"boot": "A", "up_s": 1e6}, summary="kept"), 50)
NOW = later(attempt("boot.1.1", "a", facts={"boot": "A", "up_s": 1e6}, summary="asked"), 60)


def told(one: Attempt, **facts: Any) -> Attempt:
    """Return an attempt with other facts."""
    return replace(one, facts=dict(one.facts) | facts)


@pytest.mark.parametrize(
    ("evidence", "boot", "why"),
    [
        (EVIDENCE, NOW, ""),
        (EVIDENCE, told(NOW, boot="B"), "it was booted since its evidence was taken"),
        (told(EVIDENCE, boot=None), NOW, "which boot its evidence is of is not known: kept"),
        (EVIDENCE, told(NOW, boot=None), "which boot it is in is not known: asked"),
        (EVIDENCE, replace(NOW, status=Status.UNREACHABLE), "which boot it is in is not known: asked"),
        (EVIDENCE, None, "which boot it is in is not known: it was not asked"),
        (told(EVIDENCE, boot=None), told(NOW, boot=None), "which boot its evidence is of is not known: kept"),
    ],
)
def test_the_boot_before_a_change_is_the_one_of_the_evidence_or_nothing_is_changed(
    evidence: Attempt, boot: Attempt | None, why: str
) -> None:
    assert stale(Sight((LOOK,), (evidence,), boot), 60) == why


@pytest.mark.parametrize(
    ("up", "why"),
    [
        (59.0, "it was booted at 03:00:01 UTC, after it was looked at"),
        (60.0, ""),
        (90000.5, ""),
        (None, "whether it was booted since it was looked at is not known: it does not tell its uptime"),
    ],
)
def test_a_look_before_a_boot_is_worth_nothing(up: float | None, why: str) -> None:
    kept, now = told(EVIDENCE, up_s=None), told(NOW, up_s=up)
    assert stale(Sight((LOOK,), (kept,), now), 60) == why
    assert stale(Sight((later(LOOK, 55),), (kept,), now), 60) == "", (
        "it lies between two that are of one boot"
    )


@given(
    st.tuples(*[st.integers(0, 100)] * 3),
    st.lists(st.integers(0, 100), max_size=3),
)
def test_whenever_a_host_is_booted_after_its_look_or_its_evidence_it_is_looked_at_again(
    times: tuple[int, ...], boots: list[int]
) -> None:
    """Against a model: the boots that really were, between a look, evidence, a second look and the question before the change."""
    first, taken, second = (sorted(times)[0], sorted(times)[1], sorted(times)[2])

    def at(one: Attempt, seconds: int) -> Attempt:
        before = [boot for boot in boots if boot <= seconds]
        facts = {"boot": f"boot {len(before)}", "up_s": seconds - max(before, default=-1000)}
        return later(replace(one, facts=facts), seconds)

    for look in (first, second):
        sight = Sight((at(LOOK, look),), (at(EVIDENCE, taken),), at(NOW, 100))
        booted = any(min(look, taken) < boot <= 100 for boot in boots)
        assert bool(stale(sight, 100)) is booted


@given(st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_time_makes_nothing_fresher(seconds: int, more: int) -> None:
    now, then = sorted((abs(seconds), abs(seconds) + abs(more)))
    for sight in (Sight((LOOK,)), Sight((), (LOOK,))):
        if stale(sight, now):
            assert stale(sight, then)


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


@pytest.mark.parametrize("decision", ["run", "skip", "later"])
def test_what_was_to_be_decided_on_the_way_may_come_out_either_way(decision: str) -> None:
    assert differs(plan(decision="later"), plan(decision=decision), "a") == ""
