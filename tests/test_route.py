"""Routes match labels and never make Sickbay bolder."""

import itertools

import pytest
from pydantic import ValidationError

from bot.language.runbook import MODES
from bot.route import Route, lower


@pytest.mark.parametrize(
    ("match", "labels", "taken"),
    [
        ({}, {}, True),
        ({"a": "x"}, {"a": "x", "b": "y"}, True),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": "x"}, {}, False),
        ({"a": ["x", "y"]}, {"a": "y"}, True),
        ({"a": ["x", "y"], "b": "z"}, {"a": "y"}, False),
        ({"a": ""}, {}, True),
    ],
)
def test_a_route_takes_alerts_that_carry_all_its_labels(
    match: dict[str, str | list[str]], labels: dict[str, str], taken: bool
) -> None:
    assert Route(match=match).takes(labels) is taken


def test_the_more_careful_of_two_modes_wins_in_either_order() -> None:
    for one, other in itertools.product(MODES, repeat=2):
        assert lower(one, other) == lower(other, one) == MODES[min(MODES.index(one), MODES.index(other))]


@pytest.mark.parametrize(
    ("written", "name"),
    [("#gpu-alerts", "gpu-alerts"), ("störungen", "störungen"), ("C0123456789", "C0123456789")],
)
def test_a_channel_is_a_name_or_an_id(written: str, name: str) -> None:
    assert Route(channel=written).channel == name


@pytest.mark.parametrize("written", ["", "#", "Two Words", "@alice", "OnCall", "a,b"])
def test_what_slack_would_not_take_as_a_channel_is_refused(written: str) -> None:
    with pytest.raises(ValidationError):
        Route(channel=written)
