"""What processes use, read from /proc: a process with all its descendants, orphans too where a `reaper` took them in."""

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def become_reaper() -> None:
    """Let orphans below this process become its children: what a background process uses is counted, and it is found."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def below(pid: int) -> list[int]:
    """Return all descendants of a process."""
    found: list[int] = []
    ahead = [pid]
    while ahead:
        children = list(_children(ahead.pop()))
        found += children
        ahead += children
    return found


def processor(pid: int) -> float:
    """Return seconds of processor time of a process and of those children that it has seen end."""
    words = _read(pid, "stat").rpartition(b")")[2].split()
    return sum(map(int, words[11:15])) * _TICK if words else 0.0


def processor_below() -> float:
    """Return seconds of processor time of all that is, or was, below this process; of the living in hundredths."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(processor, below(os.getpid())))


def peak(pid: int) -> float:
    """Return MB of resident memory at its highest since `forget_peak`."""
    return _kilobytes(_read(pid, "status"), b"VmHWM:") / 1000


def forget_peak() -> None:
    """Let `peak` of this process begin anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def proportional(pid: int) -> float:
    """Return MB of memory, where what several processes share is divided among them."""
    return _kilobytes(_read(pid, "smaps_rollup"), b"Pss:") / 1000


def threads(pid: int) -> int:
    """Count the threads of a process."""
    return int(_field(_read(pid, "status"), b"Threads:"))


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, _read(pid, f"task/{thread.name}/children").split())


def _kilobytes(text: bytes, name: bytes) -> float:
    return _field(text, name) * 1.024


def _field(text: bytes, name: bytes) -> float:
    at = text.find(name)
    return float(text[at + len(name) :].split(maxsplit=1)[0]) if at >= 0 else 0.0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
