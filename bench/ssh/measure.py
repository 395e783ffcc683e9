"""One client's process: started, watched from outside, ended at its limit, and its report read."""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.ssh.farm import Farm
from bench.ssh.peers import HERE, Peer
from bench.ssh.processes import below, proportional, threads
from bench.ssh.task import Pass, Report, Task

ROOT = HERE.parent.parent


@dataclass(frozen=True, slots=True)
class Sample:
    """What a client's processes held at one moment."""

    at: float
    memory: float
    """MB of what the client started; its own peak it tells itself."""
    threads: int


@dataclass(frozen=True, slots=True)
class Round:
    """What one client took in one round; what it does not do is None."""

    cold: Pass | None = None
    warm: Pass | None = None
    """Each number is the median of the warm passes; memory, threads and lost hosts are the highest of them."""
    idle: float | None = None
    failed: str = ""
    """Why there are no numbers."""


def measure(
    peer: Peer, farm: Farm, hosts: int, size: int, *, warm: int, rest: float = 0.0, idle: float = 0.0
) -> Round:
    """Let a client do its passes, in one process or in two."""
    if hosts > peer.most:
        return Round(failed=f"not tried with more than {peer.most} hosts")
    try:
        if peer.keeps or not warm:
            report = _run(
                peer, farm, _task(farm, hosts, size, keep=peer.keeps, warm=warm, rest=rest, idle=idle)
            )
            return Round(report.passes[0], _warm(report.passes[1:]), report.idle)
        cold = _run(peer, farm, _task(farm, hosts, size, keep=False)).passes[0]
        if not peer.warm:
            return Round(cold)
        kept = _run(peer, farm, _task(farm, hosts, size, keep=True, warm=warm, rest=rest)).passes[1:]
        return Round(cold, _warm(kept))
    except ClientFailedError as error:
        return Round(failed=str(error))


class ClientFailedError(Exception):
    """A client ended without a report, or had to be ended."""


def _task(
    farm: Farm, hosts: int, size: int, *, keep: bool, warm: int = 0, rest: float = 0.0, idle: float = 0.0
) -> Task:
    output = farm.output(size)
    return Task(
        hosts=farm.addresses[:hosts],
        port=farm.port,
        user=farm.user,
        identity=str(farm.identity),
        known_hosts=str(farm.known_hosts),
        folder="",
        command=f"cat {output}",
        output=str(output),
        keep=keep,
        warm=warm,
        rest=rest,
        idle=idle,
    )


def _warm(passes: list[Pass]) -> Pass | None:
    if not passes:
        return None
    return Pass(
        began=passes[0].began,
        wall=statistics.median(one.wall for one in passes),
        processor=statistics.median(one.processor for one in passes),
        memory=max(one.memory for one in passes),
        threads=max(one.threads for one in passes),
        lost=max(one.lost for one in passes),
    )


def _run(peer: Peer, farm: Farm, task: Task) -> Report:
    farm.rest()
    folder = Path(tempfile.mkdtemp(prefix="sb-"))
    try:
        return _watched(peer, replace(task, folder=str(folder)), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watched(peer: Peer, task: Task, folder: Path) -> Report:
    where, to, log = (folder / name for name in ("task.json", "report.json", "log"))
    where.write_text(json.dumps(asdict(task)), "utf-8")
    words = [peer.python, "-m", f"bench.ssh.clients.{peer.module}", str(where), str(to)]
    environ = {"PATH": peer.path, "HOME": str(folder), "LANG": "C.UTF-8", "TMPDIR": str(folder)}
    with log.open("wb") as said:
        child = subprocess.Popen(
            words, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    limit = 60 + task.idle + (1 + task.warm) * (10 + task.rest + 0.2 * len(task.hosts))
    try:
        samples = _sampled(child, to, limit)
        late = child.poll() is None
    finally:
        _end(child)
    if not to.exists():
        last = (log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        why = f"not done after {limit:.0f} s" if late else f"ended with {child.returncode}"
        raise ClientFailedError(f"{why}: {last[:200]}")
    read = json.loads(to.read_text("utf-8"))
    return Report([_with(Pass(**one), samples) for one in read["passes"]], read["idle"])


def _sampled(child: subprocess.Popen[bytes], report: Path, limit: float) -> list[Sample]:
    """Look at the client's processes until it is done; looking takes at most a few hundredths of a core."""
    samples: list[Sample] = []
    end = time.monotonic() + limit
    while child.poll() is None and time.monotonic() < end:
        if report.exists():
            with suppress(subprocess.TimeoutExpired):
                child.wait(60)
            break
        began, used = time.monotonic(), time.process_time()
        pids = below(child.pid)
        count = sum(map(threads, [child.pid, *pids]))
        samples.append(Sample(began, memory=sum(map(proportional, pids)), threads=count))
        time.sleep(max(0.05, 40 * (time.process_time() - used)))
    return samples


def _with(one: Pass, samples: list[Sample]) -> Pass:
    """Add what was seen from outside: the processes that the client started, and threads that came and went."""
    seen = [sample for sample in samples if one.began <= sample.at <= one.began + one.wall]
    return replace(
        one,
        memory=max([one.memory, *(sample.memory for sample in seen)]),
        threads=max([one.threads, *(sample.threads for sample in seen)]),
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        for pid in [*below(child.pid), child.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
    child.wait()
