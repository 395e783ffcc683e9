"""What goes wrong at three in the morning: people who click at once, alerts that clear, hosts that die, full disks, kills."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.incident import IncidentState
from bot.run import RunState, Status
from bot.sim.fleet import PretendFleet
from tests.parts.programs import require, require_root, short_directory, wait_until
from tests.stories.ward import Json, Ward, alert, flat, pretend_ward

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def opened() -> Iterator[tuple[Ward, PretendFleet]]:
    """A stalled replica among three, and a Sickbay that runs."""
    with short_directory("faults") as folder, pretend_ward(folder, 3) as (ward, fleet):
        fleet.stall("gpu-03", ago=120)
        ward.serve.start()
        yield ward, fleet


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a disk of this size."""
    require_root("a small disk")
    mount = require("mount", package="mount")
    place.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "none", place], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run([require("umount", package="mount"), "-l", place], check=True)


# ── the database ──
def test_on_a_full_disk_alerts_are_refused_health_says_so_and_room_mends_it() -> None:
    summary = {"summary": "x" * 20_000}
    with (
        short_directory("disk") as folder,
        small_disk(folder / "small", "24m") as disk,
        pretend_ward(folder, 1, store={"path": str(disk / "sickbay.db")}) as (ward, _),
    ):
        ward.database = disk / "sickbay.db"
        ward.serve.start()
        assert ward.call("/healthz")[0] == 200
        with (disk / "fill").open("wb") as fill:
            fill.write(bytes(24 * 2**20 - 100 * 1024 - sum(one.stat().st_size for one in disk.iterdir())))
        code, health = ward.call("/healthz")
        assert (code, "KiB are left" in str(health)) == (503, True)
        codes = [200]
        while codes[-1] == 200 and len(codes) < 100:
            code, answer = ward.post(alert(f"A{len(codes)}", annotations=summary))
            codes.append(code)
        assert (codes[-1], answer) == (503, {"error": "the alerts could not be stored; send them again"})
        code, health = ward.call("/healthz")
        assert code == 503
        assert "left on its disk" in health["wrong"]["store"] or "disk is full" in health["wrong"]["store"]
        assert ward.say("alice", "help").acked
        assert ward.serve.process is not None
        assert ward.serve.process.poll() is None

        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert ward.post(alert("Late", annotations=summary))[0] == 200
        wait_until(lambda: ward.call("/healthz")[0] == 200, "health")
        wait_until(lambda: len(ward.incidents()) == codes.count(200), "every alert that got its 200")
        ward.wait(lambda: len(ward.slack.slack.messages()) == codes.count(200))
