"""The real processes that commands on pretend hosts start, and their end.

As under sshd, a process outlives the channel that started it. It does not outlive the fleet: what is still there when
the fleet stops is found by a mark in its environment, also where it made itself a session of its own.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

from bot.sim.fleet.sandbox import MARK, Sandbox

_PASSES = 50
"""Looks for leftovers; one that forks all the time is outrun after a few."""


class Processes:
    """All processes of one fleet."""

    def __init__(self, user: str) -> None:
        self._user = user
        self._waits: dict[int, asyncio.Task[int]] = {}

    def start(self, sandbox: Sandbox, command: str) -> tuple[subprocess.Popen[bytes], asyncio.Task[int]]:
        """Start a command as sshd does: the user's shell, a session of its own, pipes; returns it and its end."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=sandbox.home,
            env=sandbox.environment(self._user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            umask=0o077,
        )
        wait = asyncio.get_running_loop().create_task(_exit(process))
        self._waits[process.pid] = wait
        wait.add_done_callback(lambda _: self._waits.pop(process.pid, None))
        return process, wait

    async def end(self, root: Path) -> None:
        """Kill what runs under a directory of the fleet: one host's, or all."""
        for _ in range(_PASSES):
            found = await asyncio.to_thread(_marked, root)
            if not found:
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)

    async def end_all(self, root: Path) -> None:
        """Kill everything and wait for it."""
        for pid in list(self._waits):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        await self.end(root)
        await asyncio.gather(*self._waits.values())


async def _exit(process: subprocess.Popen[bytes]) -> int:
    """Wait without a thread: by the kernel's word where it gives one, else by looking."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while process.poll() is None:  # noqa: ASYNC110 - nothing tells of it on this system
            await asyncio.sleep(0.02)
        return process.wait()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def _marked(root: Path) -> list[int]:
    mark = f"{MARK}={root}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (directory / "environ").read_bytes().split(b"\0")
            if any(word == mark or word.startswith(mark + b"/") for word in words):
                found.append(int(directory.name))
    return found
