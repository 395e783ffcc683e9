"""How many alerts a second are in the database before their 200 is sent, over HTTP, by the whole `sickbay serve`.

Every alert is new. Dispatch runs beside it, as always, and opens an incident for each host.
"""

import argparse
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from bench.serving import Serving, alert, body, command, middle, post, table


def measure(
    serving: Serving, name: str, *, connections: int, each: int, seconds: float
) -> tuple[float, float]:
    """Send for a while; return alerts stored per second, and the middle time of a call in ms."""
    stored = [0] * connections
    times: list[float] = []
    start = threading.Barrier(connections + 1)

    def send(number: int) -> None:
        connection = serving.connection()
        connection.connect()
        start.wait()
        ends, turn = time.perf_counter() + seconds, 0
        while (began := time.perf_counter()) < ends:
            turn += 1
            alerts = (alert(f"{name}-{number}-{turn}-{at}", host=f"gpu-{at % 8:02}") for at in range(each))
            stored[number] += post(connection, body(alerts))
            times.append(time.perf_counter() - began)
        connection.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(stored) / (time.perf_counter() - began), sorted(times)[len(times) // 2] * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for each in (1, 50):
            for connections in (1, 8, 32):
                rates, times = [], []
                for turn in range(arguments.rounds):
                    with Serving(Path(folder) / f"{each}-{connections}-{turn}", {}) as serving:
                        rate, call = measure(
                            serving, "x", connections=connections, each=each, seconds=arguments.seconds
                        )
                    rates.append(rate)
                    times.append(call)
                rows.append((str(connections), str(each), middle(rates), middle(times, digits=1)))
    table(("connections", "alerts a call", "alerts stored a second", "ms a call"), rows)
    print(f"SQLite {sqlite3.sqlite_version}, synchronous=FULL")
    command()


if __name__ == "__main__":
    main()
