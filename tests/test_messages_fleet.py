"""Messages about many hosts: one message says how many, how far, and which are odd."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.fleet import named
from bot.messages import run_card
from bot.messages.progress import counted
from bot.runs.run import Attempt, Run, RunState, Status
from bot.slack.blocks import CUT, content
from bot.store import Streams
from bot.verdict import Verdict
from bot.views import run_view
from tests.parts.states import CHECK, Scene
from tests.test_messages import lines

HOSTS = [f"gpu-{number:04}" for number in range(1, 1001)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.at(tmp_path)


def ended(
    scene: Scene, run: Run, step: str, hosts: list[str], said: Callable[[int], tuple[str, Status, Verdict]]
) -> None:
    """Do a step on many hosts at once."""
    begun, _ = scene.store.attempts.begin(run, [(step, host, 1) for host in hosts])
    scene.clock.on(seconds=12)
    told: list[tuple[Attempt, Streams | None]] = []
    for at, one in enumerate(begun):
        summary, status, verdict = said(at)
        end = replace(one, status=status, summary=summary, verdict=verdict, ended_at=scene.clock())
        told.append((end, None))
    scene.store.attempts.end(run, told)


def shown(scene: Scene, run_id: int) -> list[str]:
    run = scene.store.runs.get(run_id)
    assert run is not None
    card = run_card(run_view(scene.store, run))
    message = content(card)
    assert CUT not in str(message.blocks), "it fits"
    return lines(card)


def fine(at: int) -> tuple[str, Status, Verdict]:
    return f"8 GPUs fine, hottest {54 + at % 18} °C", Status.OK, Verdict.HEALTHY


def test_while_it_goes_on_counts_are_shown_and_what_went_wrong(scene: Scene) -> None:
    run_id = scene.run(CHECK, HOSTS)
    run = scene.claim(run_id)
    ended(scene, run, "driver", HOSTS, lambda _: ("driver 580.82", Status.OK, Verdict.HEALTHY))
    ended(scene, run, "gpus", HOSTS[:610], fine)
    ended(
        scene,
        run,
        "gpus",
        HOSTS[700:702],
        lambda _: ("unreachable (tcp): timed out", Status.UNREACHABLE, Verdict.UNKNOWN),
    )
    assert shown(scene, run_id)[:4] == [
        "⏳ Running · gpu-check · gpu-[0001-1000]",
        "[done] 1. driver answers · 12 s · 1000 ok · driver 580.82",
        "[busy] 2. GPUs · 612/1000, 2 unreachable",
        "  gpu-[0701-0702] unreachable (tcp): timed out",
    ]


def test_the_result_is_counts_folded_sets_and_the_odd_ones(scene: Scene) -> None:
    run_id = scene.run(CHECK, HOSTS)
    run = scene.claim(run_id)
    ended(scene, run, "driver", HOSTS, lambda _: ("driver 580.82", Status.OK, Verdict.HEALTHY))
    ended(scene, run, "gpus", HOSTS[:990], fine)
    lost = ("GPU 5 fell off the bus (Xid 79)", Status.OK, Verdict.UNHEALTHY)
    ended(scene, run, "gpus", HOSTS[990:], lambda _: lost)
    scene.store.runs.finish(run, RunState.SUCCEEDED, "", Verdict.UNHEALTHY)
    assert shown(scene, run_id)[:7] == [
        "🔴 10 of 1000 unhealthy · gpu-check · gpu-[0001-1000]",
        "🔴 gpu-[0991-1000] unhealthy: GPU 5 fell off the bus (Xid 79)",
        "🟢 gpu-[0001-0990] healthy: driver 580.82; 8 GPUs fine, hottest 54–71 °C",
        "[done] 1. driver answers · 12 s · 1000 ok · driver 580.82",
        "[unhealthy] 2. GPUs · 24 s · 990 ok, 10 unhealthy",
        "  gpu-[0991-1000] GPU 5 fell off the bus (Xid 79)",
        "  gpu-[0001-0990] 8 GPUs fine, hottest 54–71 °C",
    ]


def test_a_thousand_different_failures_still_fit_one_message(scene: Scene) -> None:
    run_id = scene.run(CHECK, HOSTS)
    run = scene.claim(run_id)
    words = ["".join(chr(97 + int(digit)) for digit in f"{at:04}") * 9 for at in range(1000)]
    ended(scene, run, "driver", HOSTS, lambda at: (words[at], Status.FAILED, Verdict.UNKNOWN))
    scene.store.runs.finish(run, RunState.FAILED, f"Failed on {named(HOSTS, 300)}.", Verdict.UNKNOWN)
    began = time.process_time()
    said = shown(scene, run_id)
    assert time.process_time() - began < 2
    assert "and 988 other answers on gpu-[0013-1000], see the file" in said
    assert "  and 994 other answers on gpu-[0007-1000]" in said


def test_counts_leave_out_what_nobody_asks() -> None:
    assert counted({}, 1000) == "0/1000"
    assert counted({"ok": 5, "": 9}, 20) == "5/20"
    assert counted({"ok": 601, "failed": 9, "unreachable": 2}, 1000) == "612/1000, 9 failed, 2 unreachable"
    assert counted({"ok": 18, "skipped": 1, "unhealthy": 1}, 20) == "18 ok, 1 unhealthy, 1 skipped"
