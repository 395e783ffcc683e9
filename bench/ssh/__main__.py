"""Run the comparison and print its tables."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.serving import command, table
from bench.ssh import report, wrapper
from bench.ssh.farm import Farm
from bench.ssh.measure import Round, measure
from bench.ssh.peers import PEERS, Peer, chosen

MOST = 1000


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(prog="bench.ssh", description=__doc__)
    names = ", ".join(peer.name for peer in PEERS)
    parser.add_argument("--hosts", default="10,100,1000", help="numbers of hosts (%(default)s)")
    parser.add_argument("--output", default="20,20000", help="bytes that each host answers (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all clients (%(default)s)")
    parser.add_argument("--only", default="", help=f"some of {names}")
    parser.add_argument(
        "--passes", type=int, default=5, help="warm passes in a round (%(default)s); 0 for none"
    )
    parser.add_argument(
        "--rest", type=float, default=5, help="seconds to rest before each warm pass (%(default)g)"
    )
    parser.add_argument(
        "--idle", type=float, default=30, help="seconds to rest with all connections (%(default)g)"
    )
    parser.add_argument(
        "--lost", type=int, default=0, metavar="N", help="count lost hosts in N cold runs instead"
    )
    parser.add_argument(
        "--wrapper", action="store_true", help="measure our wrappers around a command instead"
    )
    options = parser.parse_args()
    sizes, outputs = _numbers(options.hosts), _numbers(options.output)
    if not sizes or max(sizes) > MOST:
        raise SystemExit(f"between 1 and {MOST} hosts, please")
    peers = [] if options.wrapper else chosen(options.only)
    count = 1 if options.wrapper else max(sizes)
    with tempfile.TemporaryDirectory(prefix="sb-farm-") as folder, Farm(Path(folder), count) as farm:
        if options.wrapper:
            wrapper.compare(farm)
        elif options.lost:
            _lose(peers, farm, max(sizes), outputs[-1], options.lost)
        else:
            _compare(peers, farm, sizes, outputs, options)
    command()


def _compare(
    peers: list[Peer], farm: Farm, sizes: list[int], outputs: list[int], options: argparse.Namespace
) -> None:
    rounds: dict[str, list[Round]] = {}
    for hosts in sizes:
        for size in outputs:
            last = (hosts, size) == (sizes[-1], outputs[-1])
            idle = options.idle if last else 0.0
            rounds = _rounds(peers, farm, hosts, size, options.rounds, options.passes, options.rest, idle)
            report.show(rounds, hosts, size, options.rounds, options.rest)
    report.aims(rounds, sizes[-1])


def _rounds(
    peers: list[Peer], farm: Farm, hosts: int, size: int, count: int, passes: int, rest: float, idle: float
) -> dict[str, list[Round]]:
    """Let every client have its turn in every round, each second round the other way about."""
    found: dict[str, list[Round]] = {peer.name: [] for peer in peers}
    for turn in range(count):
        for peer in peers if turn % 2 == 0 else reversed(peers):
            began = time.monotonic()
            last = idle if turn == 0 and peer.keeps else 0.0
            one = measure(peer, farm, hosts, size, warm=passes, rest=rest, idle=last)
            found[peer.name].append(one)
            took = one.failed or f"{time.monotonic() - began:.0f} s"
            print(f"  {hosts} hosts, {size} bytes, round {turn + 1}: {peer.name}: {took}", file=sys.stderr)
    return found


def _lose(peers: list[Peer], farm: Farm, hosts: int, size: int, count: int) -> None:
    rounds = _rounds(peers, farm, hosts, size, count, 0, 0.0, 0.0)
    rows = [
        (name, str(report.lost(turns)), str(sum(bool(turn.failed) for turn in turns)))
        for name, turns in rounds.items()
    ]
    print(f"\n{count} cold runs on {hosts} hosts, {size} bytes of output each (aim for ours: none lost)")
    table(("client", "hosts lost", "runs failed"), rows)


def _numbers(text: str) -> list[int]:
    try:
        return sorted({int(word.replace("_", "")) for word in text.split(",")})
    except ValueError:
        raise SystemExit(f"{text!r} is no list of numbers, such as 10,100,1000") from None


if __name__ == "__main__":
    main()
