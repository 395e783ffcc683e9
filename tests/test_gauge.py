"""One line of a run on many hosts: how many are through the step that is going, and how."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from bot.cli.gauge import Gauge
from bot.runs.run import Attempt, Run, Status
from bot.store import Streams
from bot.verdict import Verdict
from tests.parts.states import CHECK, Scene

HOSTS = [f"gpu-{number:04}" for number in range(1, 1001)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.at(tmp_path)


def end(scene: Scene, run: Run, step: str, hosts: list[str], status: Status, verdict: Verdict | None) -> None:
    begun, _ = scene.store.attempts.begin(run, [(step, host, 1) for host in hosts])
    ended: list[tuple[Attempt, Streams | None]] = [
        (replace(one, status=status, verdict=verdict), None) for one in begun
    ]
    scene.store.attempts.end(run, ended)


class Wall:
    """A clock on the wall, moved by hand."""

    at = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.at


def test_the_line_is_about_the_step_that_is_going(scene: Scene) -> None:
    run = scene.claim(scene.run(CHECK, HOSTS))
    wall = Wall()
    gauge = Gauge(scene.store, Console(file=io.StringIO(), force_terminal=True), wall)
    assert gauge.line(run).plain == f"gpu-check 1/2 driver answers  {'░' * 20}  0/1000"
    end(scene, run, "driver", HOSTS[:500], Status.OK, None)
    wall.at += 10
    assert (
        gauge.line(run).plain == f"gpu-check 1/2 driver answers  {'█' * 10}{'░' * 10}  500/1000 ok 500 · 50/s"
    )
    end(scene, run, "driver", HOSTS[500:510], Status.UNREACHABLE, Verdict.UNKNOWN)
    end(scene, run, "driver", HOSTS[510:], Status.OK, None)
    end(scene, run, "gpus", HOSTS[:9], Status.OK, Verdict.UNHEALTHY)
    end(scene, run, "gpus", HOSTS[9:99], Status.OK, Verdict.HEALTHY)
    assert gauge.line(run).plain == f"gpu-check 2/2 GPUs  ██{'░' * 18}  99/990 ok 90 unhealthy 9"


def test_a_retry_counts_once_and_what_goes_on_does_not_count(scene: Scene) -> None:
    run = scene.claim(scene.run(CHECK, HOSTS))
    end(scene, run, "driver", HOSTS[:3], Status.FAILED, None)
    (again, _), _ = scene.store.attempts.begin(run, [("driver", HOSTS[0], 2), ("driver", HOSTS[1], 2)])
    scene.store.attempts.end(run, [(replace(again, status=Status.OK), None)])
    gauge = Gauge(scene.store, Console(file=io.StringIO()))
    assert gauge.line(run).plain == "gpu-check 1/2 driver answers 2/1000 ok 1 failed 1"


def test_a_file_gets_a_line_now_and_then_and_none_twice(scene: Scene) -> None:
    run = scene.claim(scene.run(CHECK, HOSTS))
    wall, screen = Wall(), io.StringIO()
    console = Console(file=screen, width=200)
    gauge = Gauge(scene.store, console, wall)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for count in range(4):
            end(scene, run, "driver", HOSTS[count : count + 1], Status.OK, None)
            gauge.show(run, live)
            wall.at += 3
        wall.at += 9
        gauge.show(run, live)
        wall.at += 9
        gauge.show(run, live)
    assert [line.strip() for line in screen.getvalue().splitlines() if line.strip()] == [
        "gpu-check 1/2 driver answers 1/1000 ok 1",
        "gpu-check 1/2 driver answers 3/1000 ok 3",
        "gpu-check 1/2 driver answers 4/1000 ok 4",
    ]
