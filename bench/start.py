"""How long `sickbay serve` takes until it answers, and how much memory it holds: idle, and after 1,000 alerts."""

import argparse
import sqlite3
import tempfile
import time
from pathlib import Path

from bench.serving import Serving, alert, body, command, middle, post, table

ALERTS = 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ready, idle, after, quiet = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            place = Path(folder) / str(turn)
            with Serving(place, {}) as serving:
                ready.append(serving.ready)
                time.sleep(0.5)
                idle.append(serving.memory)
                used = serving.processor
                time.sleep(2)
                quiet.append((serving.processor - used) / 2 * 100)
                connection = serving.connection()
                for number in range(ALERTS):
                    labels = {"host": f"gpu-{number % 100:03}", "model": f"model-{number}"}
                    post(connection, body([alert(f"a{number}", **labels)]))
                _dispatched(place / "sickbay.db")
                after.append(serving.memory)
    table(
        ("what", "median (range)", "aim"),
        [
            ("start to ready", middle(ready, " s", 2), "≤ 2 s"),
            ("resident memory, idle", middle(idle, " MiB"), "≤ 150 MB"),
            (f"resident memory after {ALERTS} alerts, 100 incidents", middle(after, " MiB"), "≤ 150 MB"),
            ("processor, idle", middle(quiet, " %", 1), ""),
        ],
    )
    command()


def _dispatched(database: Path) -> None:
    """Wait until every alert has its incident."""
    connection = sqlite3.connect(database)
    for _ in range(1000):
        (left,) = connection.execute("SELECT count(*) FROM alerts WHERE dispatched = 0").fetchone()
        if not left:
            break
        time.sleep(0.05)
    else:
        raise SystemExit("the alerts were not dispatched")
    connection.close()


if __name__ == "__main__":
    main()
