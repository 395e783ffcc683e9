"""What a step on a host costs in engine and store alone: many hosts that answer at once, nothing of any network.

Each step on a host is a row before it, a row after it, two events and its output; with a real disk, every commit waits
for it.
"""

import argparse
import resource
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from bench.serving import command, middle, table
from bot.effect import Command, Finished, Keep, Output, Pending, answered
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from bot.runs.run import Requester, RunState
from bot.steps import KINDS
from bot.store import Store


class Instant:
    """A Remote whose hosts have answered before anybody waits."""

    def __init__(self, size: int) -> None:
        self._answer = (b"gpu is fine\n" * (size // 12 + 1))[:size]
        self.threads = 0
        """The most threads there were when a command was sent."""

    def start(
        self,
        host: Host,  # noqa: ARG002
        command: Command,  # noqa: ARG002
        *,
        key: str,  # noqa: ARG002
        first_sent: datetime | None,  # noqa: ARG002
        stdout: Keep | None = None,
        stderr: Keep | None = None,  # noqa: ARG002
        barred: bool = False,  # noqa: ARG002
    ) -> Pending:
        """Answer."""
        self.threads = max(self.threads, threading.active_count())
        kept = Output(self._answer, len(self._answer))
        if stdout is not None:
            stdout.add(self._answer)
            kept = Output()
        return answered(Finished(0, kept, Output()))

    def close(self) -> None:
        """Nothing is open."""


def book(steps: int) -> Runbook:
    """Return a runbook that looks as often as this."""
    return Runbook.model_validate(
        {
            "version": 1,
            "name": "look",
            "description": "Look",
            "kind": "observe",
            "triggers": [{"command": True}],
            "steps": [{"id": f"look_{number}", "run": "nvidia-smi -L"} for number in range(1, steps + 1)],
        }
    )


def play(folder: Path, hosts: int, steps: int, size: int) -> tuple[float, float, int]:
    """Play one run; return seconds, seconds of processor time, and the most threads."""
    inventory = Inventory(Host(f"gpu-{number:04}", "192.0.2.1") for number in range(1, hosts + 1))
    store, remote = Store(folder / "sickbay.db"), Instant(size)
    engine = Engine(store, Planner(KINDS, inventory), remote, successes=0)
    with store.write() as tx:
        run_id = store.runs.create(
            tx,
            runbook=book(steps),
            digest="d",
            hosts=tuple(inventory.hosts),
            inputs={},
            mode="auto",
            requester=Requester("bench"),
            channel="",
        )
    began, used = time.perf_counter(), time.process_time()
    engine.advance(run_id)
    took, used = time.perf_counter() - began, time.process_time() - used
    run = store.runs.get(run_id)
    if run is None or run.state is not RunState.SUCCEEDED:
        raise SystemExit(f"the run did not succeed: {run and (run.state, run.reason)}")
    engine.close()
    store.close()
    return took, used, remote.threads


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--output", type=int, default=200, help="bytes that each command prints")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(play(Path(folder), given.hosts, given.steps, given.output))
    acts = given.hosts * given.steps
    rows = [
        ("whole run", middle([took for took, _, _ in rounds], " s", 2)),
        ("steps on hosts a second", middle([acts / took for took, _, _ in rounds])),
        ("processor time a step on a host", middle([used / acts * 1000 for _, used, _ in rounds], " ms", 2)),
        ("threads at most", middle([threads for _, _, threads in rounds])),
        ("memory at most", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"),
    ]
    table((f"{given.hosts} hosts × {given.steps} steps, {given.output} bytes each", "median (range)"), rows)
    command()


if __name__ == "__main__":
    main()
