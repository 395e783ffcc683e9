"""What is true on each pretend host at this moment; actions change it, tools report it, the clock moves it.

A replica of vLLM lives as the real one does: after a start it refuses connections until the model is loaded, then takes
requests and produces tokens; stalled, it still answers `/health` with 200 while its counters stand still. Counters are
brought up to date when somebody looks (`World.settle`), so that no task has to tick.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Clock = Callable[[], float]
"""Seconds since 1970."""

MODEL = "meta-llama/Llama-3.3-70B-Instruct"
IMAGE = "vllm/vllm-openai:v0.11.0"
CONTAINER = "vllm"
PORT = 8000
BACKEND = "be_vllm"
TOKENS_PER_REQUEST = 38.0
"""A second."""
ITERATIONS_PER_SECOND = 11.0
BUSES = ("19", "3B", "4C", "5D", "9B", "AB", "BA", "DB")
"""Where the eight boards of an HGX machine sit."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take, in seconds."""

    stop: float = 0.8
    start: float = 3.0
    """From the start of the container until the model is loaded."""
    drain: float = 3.0
    """Until the last request in flight has ended."""
    boot: float = 6.0
    answer: float = 0.25
    """One short completion."""


@dataclass(slots=True)
class Gpu:
    """One H100."""

    index: int
    bus: str
    uuid: str
    serial: str
    lost: bool = False


@dataclass(slots=True)
class Replica:
    """The vLLM container of a host."""

    id: str
    timing: Timing
    share: int
    """Requests the balancer keeps in flight here."""
    status: Literal["running", "exited"]
    started_at: float
    ready_at: float
    finished_at: float | None = None
    exit_code: int = 0
    stalled_at: float | None = None
    stalled_with: int = 0
    """Requests that were in the batch when it stalled."""
    generated: float = 0.0
    prompted: float = 0.0
    iterations: float = 0.0
    finished: float = 0.0
    settled_at: float = 0.0

    def serving(self, now: float) -> bool:
        """Tell whether it answers HTTP."""
        return self.status == "running" and now >= self.ready_at

    def settle(self, now: float, requests: int) -> None:
        """Count what was produced since the last look."""
        since = max(self.settled_at, self.ready_at)
        self.settled_at = now
        if not self.serving(now) or self.stalled_at is not None or requests == 0:
            return
        seconds = max(0.0, now - since)
        self.generated += seconds * TOKENS_PER_REQUEST * requests
        self.prompted += seconds * TOKENS_PER_REQUEST * requests * 3.2
        self.iterations += seconds * ITERATIONS_PER_SECOND
        self.finished += seconds * requests / 8

    def stop(self, now: float) -> None:
        """End the container's process; what was in flight is gone."""
        self.status, self.finished_at, self.exit_code, self.stalled_at = "exited", now, 0, None

    def start(self, now: float) -> None:
        """Begin a new life: a hang and all counters belong to the old one."""
        self.status, self.started_at, self.ready_at = "running", now, now + self.timing.start
        self.stalled_at, self.stalled_with = None, 0
        self.generated = self.prompted = self.iterations = self.finished = 0.0
        self.settled_at = now


ServerMode = Literal["ready", "drain", "maint"]


@dataclass(slots=True)
class Server:
    """A host as the load balancer sees it."""

    mode: ServerMode = "ready"
    since: float = 0.0
    held: int = 0
    """Requests in flight when the mode changed."""
    weight: int = 100


@dataclass(slots=True)
class State:
    """One host."""

    name: str
    address: str
    number: int
    booted_at: float
    gpus: list[Gpu] = field(default_factory=list)
    replica: Replica | None = None
    log: list[tuple[float, str]] = field(default_factory=list)
    """The kernel's log: when and what."""
    up: bool = True


class World:
    """All hosts and the load balancer before them."""

    def __init__(self, hosts: int, base: str, timing: Timing, clock: Clock) -> None:
        self.timing = timing
        self.clock = clock
        now = clock()
        self.hosts = {f"gpu-{n:02d}": _gpu_host(n, f"{base}{n}", timing, now) for n in range(1, hosts + 1)}
        self.servers = {name: Server(since=now - 3600) for name in self.hosts}
        self.balancer = State(name="lb-01", address=f"{base}100", number=100, booted_at=now - 41 * 86400)

    def state(self, name: str) -> State:
        """Return a host's state by its name."""
        return self.balancer if name == self.balancer.name else self.hosts[name]

    def settle(self) -> float:
        """Bring all counters up to date and return the time."""
        now = self.clock()
        for name, host in self.hosts.items():
            if host.replica is not None:
                host.replica.settle(now, self.running(name, now))
        return now

    def in_flight(self, name: str, now: float) -> int:
        """Return how many sessions the balancer holds to a server."""
        host, server = self.hosts[name], self.servers[name]
        replica = host.replica
        if replica is None or not host.up or not replica.serving(now):
            return 0
        held, since = (
            (0, replica.ready_at) if replica.ready_at > server.since else (server.held, server.since)
        )
        passed = (now - since) / self.timing.drain
        if server.mode != "ready":
            return math.ceil(held * max(0.0, 1.0 - passed))
        joined = round(replica.share * min(1.0, passed))
        return max(joined, 1) + self.waiting(name, now)

    def running(self, name: str, now: float) -> int:
        """Return how many requests are in the engine's batch."""
        replica = self.hosts[name].replica
        if replica is None or not replica.serving(now):
            return 0
        if replica.stalled_at is not None:
            return replica.stalled_with
        return self.in_flight(name, now)

    def waiting(self, name: str, now: float) -> int:
        """Return how many requests queue before the engine: a stalled one collects them."""
        replica = self.hosts[name].replica
        if replica is None or replica.stalled_at is None or self.servers[name].mode != "ready":
            return 0
        return min(96, int((now - replica.stalled_at) * 2))

    def set_mode(self, name: str, mode: ServerMode) -> None:
        """Do what `set server … state …` does."""
        now = self.settle()
        server = self.servers[name]
        if server.mode != mode:
            server.held = self.in_flight(name, now)
            server.mode, server.since = mode, now

    def stall(self, name: str, ago: float = 0.0) -> None:
        """Let the engine hang, since some seconds, with what it has in its batch."""
        now = self.settle()
        replica = self.hosts[name].replica
        if replica is not None and replica.stalled_at is None:
            replica.stalled_with = max(4, self.running(name, now))
            replica.stalled_at = now - ago

    def lose_gpu(self, name: str, index: int) -> None:
        """Let a GPU fall off the bus; the engine, which spans all of them, hangs."""
        self.stall(name)
        host = self.hosts[name]
        gpu = host.gpus[index]
        if not gpu.lost:
            gpu.lost = True
            at = f"(PCI:0000:{gpu.bus.lower()}:00)"
            now = self.clock()
            host.log += [
                (now, f"NVRM: GPU at PCI:0000:{gpu.bus.lower()}:00: {gpu.uuid}"),
                (now, f"NVRM: GPU Board Serial Number: {gpu.serial}"),
                (now, f"NVRM: Xid {at}: 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
                (now, f"NVRM: GPU 0000:{gpu.bus.lower()}:00.0: GPU has fallen off the bus."),
                (
                    now,
                    f"NVRM: Xid {at}: 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
                ),
            ]

    def boot(self, name: str) -> None:
        """Come up anew: GPUs are back, the log is fresh, the container starts by its restart policy."""
        now = self.settle()
        host = self.state(name)
        host.up, host.booted_at, host.log = True, now, _boot_log(now, host.gpus)
        for gpu in host.gpus:
            gpu.lost = False
        if host.replica is not None:
            host.replica.start(now)

    def mend(self, name: str) -> None:
        """Undo every fault of a host as if it had never been."""
        self.settle()
        host = self.hosts[name]
        host.up = True
        host.log = [
            entry for entry in host.log if "NVRM: Xid" not in entry[1] and "fallen off" not in entry[1]
        ]
        for gpu in host.gpus:
            gpu.lost = False
        if host.replica is not None:
            host.replica.stalled_at = None
            if host.replica.status != "running":
                host.replica.start(self.clock())


def _gpu_host(number: int, address: str, timing: Timing, now: float) -> State:
    started = now - 6 * 3600 - number * 611
    gpus = [
        Gpu(
            index=index,
            bus=bus,
            uuid=f"GPU-5c4d{number:02d}{index:02d}-71a2-4b8e-9d10-{number:04d}{index:08d}",
            serial=f"13229230{number:02d}{index:03d}",
        )
        for index, bus in enumerate(BUSES)
    ]
    replica = Replica(
        id=f"{number:02d}f3a9c1d7e5b2048a6c4e1d9b7f5a3c",
        timing=timing,
        share=6 + number * 5 % 7,
        status="running",
        started_at=started,
        ready_at=started + 95,
        generated=3_100_000.0 + number * 10_007,
        prompted=9_800_000.0 + number * 31_013,
        iterations=210_000.0 + number * 1_009,
        finished=12_000.0 + number * 101,
        settled_at=now,
    )
    booted = now - 12 * 86400 - number * 977
    return State(
        name=f"gpu-{number:02d}",
        address=address,
        number=number,
        booted_at=booted,
        gpus=gpus,
        replica=replica,
        log=_boot_log(booted, gpus),
    )


def _boot_log(at: float, gpus: list[Gpu]) -> list[tuple[float, str]]:
    return [
        (at, "Linux version 6.8.0-60-generic (buildd@lcy02) #63-Ubuntu SMP PREEMPT_DYNAMIC"),
        (at + 9.1, "nvidia: loading out-of-tree module taints kernel."),
        (at + 9.8, "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build"),
        *((at + 10.2, f"nvidia 0000:{gpu.bus.lower()}:00.0: enabling device (0140 -> 0142)") for gpu in gpus),
        (at + 14.0, "nvidia-uvm: Loaded the UVM driver, major device number 509."),
        (at + 31.5, "docker0: port 1(veth5ad01f2) entered forwarding state"),
    ]
