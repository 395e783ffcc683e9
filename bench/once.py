"""Faults of every kind around commands that must start once: how each ended, and what was started twice or lost.

Each fault is real: a bot in a process of its own is killed, a connection is reset at a byte, an sshd is killed, a disk
is full. Whatever the outcome, it is asked for again under the same key. Only the reboot is played, by another boot id.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from bench.serving import command, table
from bot.effect import Command, Finished
from bot.ssh import Ssh
from tests.parts.faults import KINDS, Site, Verdict, site

WORDS = ("finished", "cut short", "cancelled", "never started", "lost")


def faults(worker: int, workers: int, seed: int, count: int) -> list[Verdict]:
    """Inject every so manieth fault at a host of this process's own."""
    with _site(worker, seed) as place:
        return [place.inject(number) for number in range(worker, count, workers)]


def attaches(worker: int, workers: int, seed: int, count: int) -> list[tuple[int, int]]:
    """Let six bots send the same at the same instant; return starts and exact answers of each round."""
    with _site(worker, seed) as place:
        rooms = [Ssh(place.settings, place.places) for _ in range(6)]
        for room in rooms:
            assert isinstance(room.probe(place.sshd.host()), Finished)
        rounds = [place.six_at_once(number, rooms) for number in range(worker, count, workers)]
        for room in rooms:
            room.close()
        return rounds


def cost(times: int) -> tuple[float, float]:
    """Return the middle times in ms of a plain and of a once-only command on a warm connection, taken in turns."""
    with _site(0, 0) as place:
        taken: dict[bool, list[float]] = {False: [], True: []}
        for number in range(times):
            for mutating in (False, True):
                once = Command("echo hello", mutating=mutating)
                began = time.perf_counter()
                place.ssh.run(place.sshd.host(), once, key=f"cost/{number}", first_sent=None)
                taken[mutating].append((time.perf_counter() - began) * 1000)
                time.sleep(0.02)  # what a command leaves to be put away is not the next one's cost
        return statistics.median(taken[False]), statistics.median(taken[True])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--attaches", type=int, default=200)
    parser.add_argument("--cost", type=int, default=200, help="commands of each sort whose time is taken")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    arguments = parser.parse_args()
    began = time.perf_counter()
    verdicts: list[Verdict] = []
    rounds: list[tuple[int, int]] = []
    workers = arguments.workers
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        going = [pool.submit(faults, w, workers, arguments.seed, arguments.faults) for w in range(workers)]
        verdicts = [verdict for each in going for verdict in each.result()]
        runs = [pool.submit(attaches, w, workers, arguments.seed, arguments.attaches) for w in range(workers)]
        rounds = [each for run in runs for each in run.result()]
    table(("fault", "times", *WORDS, "second starts", "wrong"), rows(verdicts))
    for verdict in verdicts:
        if verdict.wrong or verdict.starts > 1:
            print(f"! {verdict.kind}: {verdict.starts} starts, {verdict.word}, {verdict.wrong}")
    print(
        f"\n{len(rounds)} times six at once: {sum(starts == 1 for starts, _ in rounds)} times one start, "
        f"{sum(exact == 6 for _, exact in rounds)} times six exact answers"
    )
    if arguments.cost:
        plain, once = cost(arguments.cost)
        print(f"warm: plain {plain:.1f} ms, once-only {once:.1f} ms, added {once - plain:.1f} ms (aim ≤ 5)")
    print(f"{time.perf_counter() - began:.0f} s")
    command()


@contextmanager
def _site(worker: int, seed: int) -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory() as folder,
        site(Path(folder) / "site", address=f"127.0.2.{worker + 1}", seed=seed) as place,
    ):
        yield place


def rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return a line for each kind, and their sum."""
    lines = []
    for kind in (*KINDS, ""):
        these = [verdict for verdict in verdicts if kind in ("", verdict.kind)]
        words = Counter(verdict.word for verdict in these)
        second = sum(max(0, verdict.starts - 1) for verdict in these)
        wrong = sum(bool(verdict.wrong) for verdict in these)
        counts = [words[word] for word in WORDS]
        lines.append(
            (kind or "all", *(f"{number or ''}" for number in (len(these), *counts)), f"{second}", f"{wrong}")
        )
    return lines


if __name__ == "__main__":
    main()
