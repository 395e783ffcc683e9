"""An alert has one key for each thing it says, and names its machine as monitors write it."""

from datetime import UTC, datetime

import pytest

from bot.alert import Alert


def alert(status: str = "firing", **labels: str) -> Alert:
    return Alert(
        "alertmanager",
        "abc",
        "resolved" if status == "resolved" else "firing",
        datetime(2026, 1, 1, tzinfo=UTC),
        labels,
    )


@pytest.mark.parametrize(
    ("labels", "machines"),
    [
        ({"instance": "gpu-03:9400"}, ["gpu-03"]),
        ({"instance": "10.0.0.3:9400"}, ["10.0.0.3"]),
        ({"instance": "[fd00::3]:9400"}, ["fd00::3"]),
        ({"instance": "fd00::3"}, ["fd00::3"]),
        ({"instance": "http://gpu-03:8000/health"}, ["gpu-03"]),
        ({"instance": "exporter:9100", "host": "gpu-03"}, ["gpu-03", "exporter"]),
        ({"hostname": "gpu-03.example", "node": ""}, ["gpu-03.example"]),
        ({"instance": ":9400"}, []),
        ({}, []),
    ],
)
def test_the_machine_is_found_in_the_labels(labels: dict[str, str], machines: list[str]) -> None:
    assert alert(**labels).machines == machines


def test_firing_and_resolved_are_one_episode_with_two_keys() -> None:
    assert alert().episode == alert("resolved").episode
    assert alert().key != alert("resolved").key


def test_an_alert_without_a_name_is_still_called_something() -> None:
    assert alert().name == "alert"
    assert alert(alertname="VLLMDown").name == "VLLMDown"
