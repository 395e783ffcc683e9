"""What our wrappers around a command cost on one warm host: the watcher of a look, the bookkeeping of a change.

- bare: the command as peers send it, over asyncssh: the login shell takes its place
- look: ours, as every command that only looks is sent
- once: ours, as every command that changes something is sent

The three take turns in blocks, because the processor time of living processes is told in hundredths of a second. Before
each command there is a moment of rest, as on a host that has something else to do than to be changed.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import asyncssh

from bench.serving import table
from bench.ssh.clients.ours import run
from bench.ssh.farm import Farm
from bench.ssh.processes import become_reaper, processor_below
from bot.effect import Command, Finished
from bot.inventory import Host
from bot.ssh import Ssh, SshSettings
from bot.ssh.once import Places

BLOCK = 10
REST = 0.1
"""Seconds before each command."""
SIZE = 20
MOST = 5.0
"""Milliseconds that a command may take longer for being run at most once."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the command, and what it took each time."""

    name: str
    run: Callable[[], bytes]
    walls: list[float] = field(default_factory=list)
    """Milliseconds of each run."""
    client: list[float] = field(default_factory=list)
    """Milliseconds of processor time, of each block."""
    server: list[float] = field(default_factory=list)

    def block(self, expected: bytes) -> None:
        """Run it some times."""
        client, server = time.process_time(), processor_below()
        for _ in range(BLOCK):
            time.sleep(REST)
            began = time.perf_counter()
            answer = self.run()
            self.walls.append((time.perf_counter() - began) * 1000)
            if answer != expected:
                raise SystemExit(f"{self.name}: a wrong answer: {answer!r}")
        self.client.append((time.process_time() - client) * 1000)
        self.server.append((processor_below() - server) * 1000)


def compare(farm: Farm, runs: int = 200) -> None:
    """Print what each way takes, and what it takes more than the bare command."""
    become_reaper()
    output = farm.output(SIZE)
    with _ways(farm, f"cat {output}") as ways:
        for _ in range(-(-runs // BLOCK) + 1):
            for way in ways:
                way.block(output.read_bytes())
    for way in ways:  # the first block made the connections
        del way.walls[:BLOCK], way.client[:1], way.server[:1]
    base = statistics.median(ways[0].walls)
    server = sum(ways[0].server)
    rows = [
        (
            way.name,
            f"{statistics.median(way.walls):.1f}",
            f"{statistics.median(way.walls) - base:+.1f}",
            f"{sum(way.client) / len(way.walls):.1f}",
            f"{sum(way.server) / len(way.walls):.1f}",
            f"{(sum(way.server) - server) / len(way.walls):+.1f}",
        )
        for way in ways
    ]
    print(f"\nOne warm host, {len(ways[0].walls)} runs each, ms a run: median wall, mean processor time")
    table(("way", "wall", "more", "client CPU", "server CPU", "more"), rows)
    more = statistics.median(ways[-1].walls) - base
    print(f"once, more than bare: {more:.1f} ms (aim ≤ {MOST:g} ms: {'yes' if more <= MOST else 'NO'})")


@contextmanager
def _ways(farm: Farm, text: str) -> Iterator[list[Way]]:
    state = farm.folder / "state"
    state.mkdir(mode=0o700)
    host = Host(name="one", address=farm.addresses[0], port=farm.port)
    settings = SshSettings(user=farm.user, known_hosts=farm.known_hosts, identity_files=(farm.identity,))
    ssh = Ssh(settings, Places(state=(str(state),)))
    numbers = count()

    def ours(command: Command) -> bytes:
        outcome = run(ssh, host, command, key=f"bench/{next(numbers)}")
        if not isinstance(outcome, Finished):
            print(outcome, file=sys.stderr)
            return b""
        return outcome.stdout.data

    try:
        with _bare(farm, text) as bare:
            yield [
                Way("bare", bare),
                Way("look", lambda: ours(Command(text))),
                Way("once", lambda: ours(Command(text, mutating=True))),
            ]
    finally:
        ssh.close()


@contextmanager
def _bare(farm: Farm, text: str) -> Iterator[Callable[[], bytes]]:
    with asyncio.Runner() as runner:

        async def connect() -> asyncssh.SSHClientConnection:
            return await asyncssh.connect(
                farm.addresses[0],
                farm.port,
                username=farm.user,
                client_keys=[str(farm.identity)],
                known_hosts=str(farm.known_hosts),
                config=None,
                agent_path=None,
            )

        async def one() -> bytes:
            done = await connection.run(text, encoding=None)
            return done.stdout if isinstance(done.stdout, bytes) else b""

        async def close() -> None:
            connection.close()
            await connection.wait_closed()

        connection = runner.run(connect())
        try:
            yield lambda: runner.run(one())
        finally:
            runner.run(close())
