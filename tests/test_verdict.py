"""Which of several verdicts counts."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from bot.verdict import Verdict, worst


def test_nothing_is_unknown_not_healthy() -> None:
    assert worst([]) is Verdict.UNKNOWN


def test_unhealthy_outweighs_unknown_outweighs_healthy_in_any_order() -> None:
    for order in permutations(Verdict):
        assert worst(order) is Verdict.UNHEALTHY
    assert worst([Verdict.HEALTHY, Verdict.UNKNOWN]) is Verdict.UNKNOWN
    assert worst([Verdict.HEALTHY]) is Verdict.HEALTHY


@given(st.lists(st.sampled_from(Verdict), min_size=1), st.lists(st.sampled_from(Verdict), min_size=1))
def test_judging_in_parts_is_judging_the_whole(some: list[Verdict], others: list[Verdict]) -> None:
    assert worst([worst(some), worst(others)]) is worst([*some, *others])
