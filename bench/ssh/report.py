"""Tables of medians and of ratios to ours, and the aims that Sickbay's SSH is judged by.

A ratio is taken round by round, between runs that stood next to each other, and its median is printed.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.serving import table
from bench.ssh.measure import Round
from bench.ssh.peers import OURS
from bench.ssh.task import Pass

Rounds = Mapping[str, Sequence[Round]]
"""The rounds of each client, by its name."""


@dataclass(frozen=True, slots=True)
class Number:
    """One column: which pass it is of, and what of it."""

    title: str
    warm: bool
    of: Callable[[Pass, int], float]
    digits: int

    def values(self, rounds: Sequence[Round], hosts: int) -> list[float | None]:
        """Return it for each round; None where the client did no such pass."""
        passes = (one.warm if self.warm else one.cold for one in rounds)
        return [None if one is None else self.of(one, hosts) for one in passes]


def _wall(one: Pass, _: int) -> float:
    return one.wall


def _processor(one: Pass, hosts: int) -> float:
    return one.processor / hosts * 1000


def _memory(one: Pass, _: int) -> float:
    return one.memory


COLD_WALL = Number("cold s", warm=False, of=_wall, digits=2)
COLD_PROCESSOR = Number("cold CPU ms/host", warm=False, of=_processor, digits=2)
COLD_MEMORY = Number("cold MB", warm=False, of=_memory, digits=0)
WARM_WALL = Number("warm s", warm=True, of=_wall, digits=3)
WARM_PROCESSOR = Number("warm CPU ms/host", warm=True, of=_processor, digits=2)
WARM_MEMORY = Number("warm MB", warm=True, of=_memory, digits=0)
NUMBERS = (COLD_WALL, COLD_PROCESSOR, COLD_MEMORY, WARM_WALL, WARM_PROCESSOR, WARM_MEMORY)


def ratio(number: Number, rounds: Rounds, hosts: int, to: str, of: str = OURS) -> float | None:
    """Return how many times `to` the number of `of` is, as the median of the rounds that have both."""
    pairs = zip(
        number.values(rounds.get(of, ()), hosts), number.values(rounds.get(to, ()), hosts), strict=False
    )
    ratios = [one / other for one, other in pairs if one is not None and other]
    return statistics.median(ratios) if ratios else None


def median(number: Number, rounds: Sequence[Round], hosts: int) -> float | None:
    """Return the median over the rounds."""
    found = [value for value in number.values(rounds, hosts) if value is not None]
    return statistics.median(found) if found else None


def lost(rounds: Sequence[Round]) -> int:
    """Count the hosts lost in any round; the warm passes of a round count once, by their worst."""
    return sum(one.lost for turn in rounds for one in (turn.cold, turn.warm) if one is not None)


def show(rounds: Rounds, hosts: int, size: int, count: int, rest: float) -> None:
    """Print the table of one number of hosts and one size of output."""
    print(f"\n{hosts} hosts, {size} bytes of output each, {count} rounds: median (times ours)")
    print(f"warm: every client rested {rest:g} s before; the processor time of that rest is counted")
    rows = [_row(name, rounds, hosts) for name in rounds]
    table(("client", *(number.title for number in NUMBERS), "threads", "lost", "idle % of a core"), rows)
    for name, turns in rounds.items():
        for reason in sorted({turn.failed for turn in turns if turn.failed}):
            print(f"{name}: {reason}")


def _row(name: str, rounds: Rounds, hosts: int) -> list[str]:
    turns = rounds[name]
    cells = []
    for number in NUMBERS:
        value, times = median(number, turns, hosts), ratio(number, rounds, hosts, OURS, of=name)
        cell = "–" if value is None else f"{value:.{number.digits}f}"
        cells.append(cell if value is None or times is None or name == OURS else f"{cell} ({times:.2f})")
    passes = [one for turn in turns for one in (turn.cold, turn.warm) if one is not None]
    rests = [turn.idle for turn in turns if turn.idle is not None]
    idle = f"{statistics.median(rests) * 100:.1f}" if rests else "–"
    return [name, *cells, str(max((one.threads for one in passes), default=0)), str(lost(turns)), idle]


def aims(rounds: Rounds, hosts: int) -> None:
    """Print the aims for one number of hosts with yes or no; what was not measured is said."""
    peak = median(WARM_MEMORY, rounds.get(OURS, ()), hosts)
    rests = [turn.idle for turn in rounds.get(OURS, ()) if turn.idle is not None]
    slower = ratio(WARM_WALL, rounds, hosts, OURS, of="ansible")
    rows = [
        _at_most("cold wall, times asyncssh", ratio(COLD_WALL, rounds, hosts, "asyncssh"), 1.05),
        _at_most("cold wall, times Ansible raw", ratio(COLD_WALL, rounds, hosts, "ansible"), 0.25),
        _at_most("cold CPU, times asyncssh", ratio(COLD_PROCESSOR, rounds, hosts, "asyncssh"), 1.0),
        _at_most("warm wall, times asyncssh", ratio(WARM_WALL, rounds, hosts, "asyncssh"), 0.8),
        _at_most("warm CPU, times asyncssh", ratio(WARM_PROCESSOR, rounds, hosts, "asyncssh"), 0.8),
        _judged("warm, times faster than Ansible with ControlPersist", slower, "≥ 20", lambda it: it >= 20),
        _at_most("warm memory, MB", peak, 160),
        _at_most("idle, % of a core", statistics.median(rests) * 100 if rests else None, 2),
    ]
    print(f"\nAims (set for 1,000 hosts and 20 kB), here with {hosts} hosts:")
    table(("what", "ours", "aim", "reached"), rows)


def _at_most(what: str, value: float | None, most: float) -> list[str]:
    return _judged(what, value, f"≤ {most:g}", lambda it: it <= most)


def _judged(what: str, value: float | None, aim: str, reached: Callable[[float], bool]) -> list[str]:
    if value is None:
        return [what, "not measured", aim, "–"]
    return [what, f"{value:.2f}", aim, "yes" if reached(value) else "NO"]
