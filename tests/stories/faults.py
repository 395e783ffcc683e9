"""What the stories of faults need: runbooks that take a moment, a Sickbay that runs, a small disk, a look at processes."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.sim.fleet import PretendFleet
from tests.parts.programs import require, require_root, short_directory
from tests.stories.ward import Ward, pretend_ward

BRIEF_BOOK = """
version: 1
name: brief
description: Ask for two seconds
kind: mutate
triggers: [{alert: {match: {alertname: Brief}}}]
mode: approve
approval: {timeout: 2s}
steps:
  - {id: look, run: "true", mutates: false}
  - {id: act, run: "true"}
verify: [{run: "true", mutates: false}]
"""
BRIEF = {"match": {"alertname": "Brief"}, "runbook": "brief"}
STEADY_BOOK = """
version: 1
name: steady
description: Look for a moment, act for a moment
kind: mutate
triggers: [{alert: {match: {alertname: Steady}}}, {command: true}]
mode: approve
steps:
  - {id: look, name: Look, run: sleep 0.4, mutates: false}
  - {id: act, name: Act, run: sleep 2}
verify: [{id: proof, run: "true", mutates: false}]
"""
STEADY = {"match": {"alertname": "Steady"}, "runbook": "steady"}
PUT_BACK_BOOK = """
version: 1
name: put-back
description: Take a host out, restart what takes its time, put it back whatever happened
kind: mutate
triggers: [{alert: {match: {alertname: Dies}}}]
mode: approve
steps:
  - {id: out, name: Out of traffic, uses: haproxy.drain}
  - {id: restart, name: Restart, run: sleep 31.0317, timeout: 3s}
verify: [{run: "true", mutates: false}]
always:
  - {id: back, name: Back into traffic, uses: haproxy.undrain}
"""
PUT_BACK = {"match": {"alertname": "Dies"}, "runbook": "put-back"}
SLOW_BOOK = """
version: 1
name: slow
description: Restart a container that takes its time
kind: mutate
triggers: [{alert: {match: {alertname: Slow}}}]
mode: approve
steps:
  - {id: restart, uses: docker.restart, with: {name: vllm, grace: 60s}}
verify: [{run: "true", mutates: false}]
always:
  - {id: clean, run: touch "$HOME/cleaned"}
"""
SLOW = {"match": {"alertname": "Slow"}, "runbook": "slow"}
SLOW_DOCKER = """#!/bin/sh
[ "$1" = restart ] || { echo "2026-01-01T00:00:00Z running"; exit; }
trap 'touch "$HOME/termed"; kill $child; exit 143' TERM
touch "$HOME/restarting"
sleep 60 & child=$!
wait $child
touch "$HOME/restarted"
"""


@pytest.fixture
def opened_ward() -> Iterator[tuple[Ward, PretendFleet]]:
    """A stalled replica among three, and a Sickbay that runs."""
    with short_directory("faults") as folder, pretend_ward(folder, 3) as (ward, fleet):
        fleet.stall("gpu-03", ago=120)
        ward.serve.start()
        yield ward, fleet


@pytest.fixture
def steady() -> Iterator[Ward]:
    """Two hosts, a runbook that takes a moment for everything, and a Sickbay that runs."""
    with (
        short_directory("steady") as folder,
        pretend_ward(folder, 2, routes=[STEADY], books={"steady": STEADY_BOOK}) as (ward, _),
    ):
        ward.serve.start()
        yield ward


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


def running(*command: str) -> list[Path]:
    """Return the processes of this machine that have this command line."""
    wanted = "\0".join(command).encode() + b"\0"
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.joinpath("cmdline").read_bytes() == wanted:
                found.append(place)
        except OSError:
            continue
    return found
