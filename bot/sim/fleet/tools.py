"""Which pretend tools there are, and the socket on which their processes ask for answers."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bot.sim.fleet import balancer, docker, machine, nvidia, web
from bot.sim.fleet.reply import Reply, UsageError
from bot.sim.fleet.state import State, World

Answer = Callable[[World, State, list[str]], Reply]

_PLAIN: Mapping[str, Answer] = MappingProxyType(
    {
        "nvidia-smi": nvidia.nvidia_smi,
        "dmesg": machine.dmesg,
        "journalctl": machine.journalctl,
        "hostname": machine.hostname,
        "uptime": machine.uptime,
        "systemctl": machine.systemctl,
        "lspci": machine.lspci,
    }
)
_REBOOTING = frozenset({"reboot", "shutdown"})
_REFUSED = frozenset({"modprobe", "rmmod", "poweroff", "halt", "ipmitool", "kubectl", "scontrol"})

NAMES = frozenset({*_PLAIN, "docker", "curl", "socat", *_REBOOTING, *_REFUSED})
"""Programs that are put before the real ones on a pretend host's PATH."""

LARGEST_QUESTION = 16 * 1024 * 1024


class ToolServer:
    """Answers the tools' processes on one Unix socket."""

    def __init__(self, world: World, reboot: Callable[[str], None]) -> None:
        self._world = world
        self._reboot = reboot
        self._server: asyncio.Server | None = None
        self._changes: set[asyncio.Task[Reply]] = set()
        """Container restarts in progress; a daemon finishes them even when nobody waits any more."""

    async def start(self, path: Path) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, path, limit=LARGEST_QUESTION)

    async def stop(self) -> None:
        """Stop listening and drop what is in progress."""
        if self._server is not None:
            self._server.close()
        for change in self._changes:
            change.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = json.loads(await reader.readline())
            work = asyncio.create_task(self._answer(question))
            self._changes.add(work)
            work.add_done_callback(self._changes.discard)
            left = asyncio.create_task(reader.read(1))
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            if work.done():
                writer.write(json.dumps(asdict(work.result())).encode())
                await writer.drain()
            elif question["tool"] != "docker":
                work.cancel()
        except (ConnectionError, ValueError, KeyError):
            pass  # the tool's process was killed in the middle of its question
        finally:
            writer.close()

    async def _answer(self, question: dict[str, Any]) -> Reply:
        tool, argv = question["tool"], question["argv"]
        host = self._world.state(question["host"])
        try:
            match tool:
                case "docker" if host.replica is not None:
                    return await docker.docker(self._world, host, argv)
                case "curl":
                    return await web.curl(self._world, host, argv, question["stdin"])
                case "socat":
                    return balancer.socat(self._world, host, argv, question["stdin"])
                case _ if tool in _REBOOTING or (tool == "systemctl" and "reboot" in argv):
                    self._reboot(host.name)
                    return Reply()
                case _ if tool in _PLAIN:
                    return _PLAIN[tool](self._world, host, argv)
        except UsageError as error:
            return Reply(stderr=f"{tool}: {error}\n", exit=2)
        return Reply(stderr=f"{tool} is not part of this pretend host.\n", exit=127)
