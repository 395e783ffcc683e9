"""What a client is told, and how its passes are measured inside its own process; uses nothing but the standard library.

A pass is one command on every host. Its time runs from the call to the last answer: what a client loads and prepares
before is left out, as is the comparison of the answers with what was to come. Before a warm pass every client rests, as
a bot does between two commands; the processor time of that rest counts. Of a program that is started for each pass
its own start is part of it.
"""

import json
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import getpid
from pathlib import Path
from typing import ClassVar

from bench.ssh import processes


@dataclass(frozen=True, slots=True)
class Task:
    """What to do, the same for every client."""

    hosts: list[str]
    """Addresses; all have the same port."""
    port: int
    user: str
    identity: str
    known_hosts: str
    folder: str
    """A short path for whatever the client wants to write."""
    command: str
    output: str
    """The file that holds what each host is to answer."""
    parallel: int = 64
    """Hosts at once, where a client lets one choose."""
    keep: bool = True
    """Keep connections for the next pass."""
    warm: int = 0
    """Further passes after the first."""
    rest: float = 0.0
    """Seconds before each of them, with all connections kept."""
    idle: float = 0.0
    """Seconds to do nothing at the end, with all connections kept."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass took."""

    began: float
    """On the monotonic clock, which all processes share."""
    wall: float
    processor: float
    """Seconds, of the client and whatever it started."""
    memory: float
    """MB at the highest."""
    threads: int
    lost: int
    """Hosts that gave no answer, or not the whole."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a client's process says at its end."""

    passes: list[Pass] = field(default_factory=list)
    idle: float | None = None
    """Part of a core that was used while nothing was to be done."""


class Client(ABC):
    """One way to run one command on many hosts."""

    inside: ClassVar[bool] = True
    """Does this very process do the work? False: it only starts a program, and its own memory does not count."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def fan_out(self) -> None:
        """Run the command on every host and take the answers; this is what is measured."""

    @abstractmethod
    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""

    def rest(self, seconds: float) -> None:
        """Do nothing for a while."""
        time.sleep(seconds)

    def close(self) -> None:  # noqa: B027 - not every client keeps something
        """End what was kept."""


def drive(kind: type[Client]) -> None:
    """Do the task that the command line names, and leave the report beside it."""
    where, to = sys.argv[1:]
    task = Task(**json.loads(Path(where).read_text("utf-8")))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    processes.become_reaper()
    expected = Path(task.output).read_bytes()
    client = kind(task)
    passes = [_measure(client, expected, task.rest if number else 0.0) for number in range(1 + task.warm)]
    idle = _idle(client, task.idle) if task.idle else None
    Path(to).write_text(json.dumps(asdict(Report(passes, idle))), "utf-8")
    client.close()


def _measure(client: Client, expected: bytes, rest: float) -> Pass:
    processes.forget_peak()
    used = _used()
    if rest:
        client.rest(rest)
    began = time.monotonic()
    client.fan_out()
    wall = time.monotonic() - began
    used = _used() - used
    memory = processes.peak(getpid()) if client.inside else 0.0
    memory += sum(processes.proportional(pid) for pid in processes.below(getpid()))
    threads = processes.threads(getpid()) if client.inside else 0
    answers = client.answers()
    lost = sum(answers.get(host) != expected for host in client.task.hosts)
    return Pass(began, wall, used, memory, threads, lost)


def _idle(client: Client, seconds: float) -> float:
    client.rest(1.0)
    used, began = _used(), time.monotonic()
    client.rest(seconds)
    return (_used() - used) / (time.monotonic() - began)


def _used() -> float:
    return time.process_time() + processes.processor_below()
