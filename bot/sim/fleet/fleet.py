"""The pretend fleet as a whole: a thread with an event loop, one SSH listener per host, faults to inject."""

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncssh

from bot.sim.fleet.balancer import SOCKET
from bot.sim.fleet.processes import Processes
from bot.sim.fleet.sandbox import Sandbox
from bot.sim.fleet.shell import Door
from bot.sim.fleet.state import BACKEND, CONTAINER, MODEL, PORT, Clock, State, Timing, World
from bot.sim.fleet.tools import ToolServer

T = TypeVar("T")
USER = "sickbay"
_TRIES = 20
"""Ports tried before hosts get different ones."""


class PretendFleet:
    """`hosts` GPU hosts named gpu-01 …, and lb-01 before them."""

    def __init__(
        self,
        hosts: int = 8,
        *,
        base: str = "127.0.1.",
        timing: Timing | None = None,
        clock: Clock = time.time,
    ) -> None:
        if not 1 <= hosts <= 99:
            raise ValueError(f"a pretend fleet has 1 to 99 hosts, not {hosts}")
        self.user = USER
        self._world = World(hosts, base, timing or Timing(), clock)
        self._places = [*self._world.hosts.values(), self._world.balancer]
        self._host_keys = {place.name: asyncssh.generate_private_key("ssh-ed25519") for place in self._places}
        self._client_key = asyncssh.generate_private_key("ssh-ed25519", comment="sickbay-demo")
        self._ports: dict[str, int] = {}
        self._listeners: dict[str, asyncssh.SSHAcceptor] = {}
        self._connections: dict[str, set[asyncssh.SSHServerConnection]] = {
            place.name: set() for place in self._places
        }
        self._sandboxes: dict[str, Sandbox] = {}
        self._root = Path()
        self._processes = Processes(USER)
        self._tools = ToolServer(self._world, self._reboot)
        self._background: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; returns when every host takes connections."""
        self._root = Path(tempfile.mkdtemp(prefix="sickbay-fleet-"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pretend-fleet", daemon=True)
        self._thread.start()
        try:
            self._call(self._open())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every connection, process and thread, and remove the files."""
        if self._loop is None or self._thread is None:
            return
        try:
            self._call(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None
            shutil.rmtree(self._root, ignore_errors=True)

    def write_files(self, directory: Path) -> dict[str, Path]:
        """Write what a client needs into a directory; returns the paths as `known_hosts` and `identity_file`."""
        known_hosts, identity = directory / "known_hosts", directory / "id_ed25519"
        lines = []
        for place in self._places:
            port = self._ports[place.name]
            names = ",".join(
                f"[{name}]:{port}" if port != 22 else name for name in (place.name, place.address)
            )
            public = self._host_keys[place.name].export_public_key().decode().strip()
            lines.append(f"{names} {public}\n")
        directory.mkdir(parents=True, exist_ok=True)
        known_hosts.write_text("".join(lines))
        identity.touch(mode=0o600)
        identity.write_bytes(self._client_key.export_private_key("openssh"))
        return {"known_hosts": known_hosts, "identity_file": identity}

    def inventory(self) -> list[dict[str, Any]]:
        """Return the hosts as an inventory lists them."""
        balancer = self._world.balancer.name

        def of(place: State) -> dict[str, Any]:
            at = {"host": balancer, "socket": SOCKET, "server": f"{BACKEND}/{place.name}"}
            return {
                "gpus": len(place.gpus),
                "container": CONTAINER,
                "port": PORT,
                "model": MODEL,
                "haproxy": at,
            }

        return [
            {
                "name": place.name,
                "address": place.address,
                "port": self._ports[place.name],
                "user": USER,
                "groups": ["serving"] if place.gpus else ["balancer"],
                "vars": of(place) if place.gpus else {},
            }
            for place in self._places
        ]

    def stall(self, name: str, ago: float = 0.0) -> None:
        """Let vLLM on a host hang since some seconds: `/health` says 200, requests run, no token comes out."""
        self._do(lambda: self._world.stall(name, ago))

    def stalled(self, name: str) -> bool:
        """Tell whether no token can come out of a host's vLLM: it hangs, is stopped, or still loads its model."""

        def look() -> bool:
            replica = self._world.hosts[name].replica
            return (
                replica is None or replica.stalled_at is not None or not replica.serving(self._world.clock())
            )

        return self._do(look)

    def lose_gpu(self, name: str, index: int = 4) -> None:
        """Let a GPU fall off the bus (Xid 79); vLLM, which spans all eight, hangs with it."""
        self._do(lambda: self._world.lose_gpu(name, index))

    def down(self, name: str) -> None:
        """Switch a host off: it refuses connections, and those it had are cut."""
        self._do(lambda: self._world.state(name))
        self._call(self._down(name))

    def restore(self, name: str) -> None:
        """Undo all faults of a host."""
        self._do(lambda: self._world.mend(name))
        self._call(self._listen(name))

    def requests(self, name: str) -> tuple[int, float]:
        """Return how many requests a host's vLLM is working on, and the tokens it produced so far."""

        def look() -> tuple[int, float]:
            now = self._world.settle()
            replica = self._world.hosts[name].replica
            return self._world.running(name, now), replica.generated if replica is not None else 0.0

        return self._do(look)

    def _do(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return self._call(act())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the pretend fleet is not running: call start() first")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _open(self) -> None:
        socket = self._root / "tools"
        await self._tools.start(socket)
        self._sandboxes = {place.name: Sandbox(self._root, place.name, socket) for place in self._places}
        for _ in range(_TRIES):
            try:
                await self._listen_all()
            except OSError:
                await self._unlisten_all()
            else:
                return
        for place in self._places:
            self._ports[place.name] = 0
            await self._listen(place.name)

    async def _listen_all(self) -> None:
        """Listen at one port on every address; the first host picks it."""
        port = 0
        for place in self._places:
            self._ports[place.name] = port
            await self._listen(place.name)
            port = self._ports[place.name]

    async def _unlisten_all(self) -> None:
        for name in list(self._listeners):
            self._listeners.pop(name).close()

    async def _listen(self, name: str) -> None:
        if name in self._listeners:
            return
        place = self._world.state(name)

        def door() -> Door:
            return Door(
                self._sandboxes[name], USER, self._client_key, self._processes, self._connections[name]
            )

        listener = await asyncssh.listen(
            place.address,
            self._ports[name],
            config=[],
            server_factory=door,
            server_host_keys=[self._host_keys[name]],
            server_version="pretend_host",
            allow_pty=False,
            allow_scp=False,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
            encoding=None,
            login_timeout=30,
        )
        self._listeners[name] = listener
        self._ports[name] = listener.get_port()

    async def _down(self, name: str) -> None:
        self._world.settle()
        self._world.state(name).up = False
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.close()
        for connection in list(self._connections[name]):
            connection.abort()
        await self._processes.end(self._sandboxes[name].root)

    def _reboot(self, name: str) -> None:
        """Go down and come up again, as `reboot` on the host asks."""

        async def cycle() -> None:
            await self._down(name)
            await asyncio.sleep(self._world.timing.boot)
            self._world.boot(name)
            await self._listen(name)

        task = asyncio.get_running_loop().create_task(cycle())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _close(self) -> None:
        await self._unlisten_all()
        for connections in self._connections.values():
            for connection in list(connections):
                connection.abort()
        await self._processes.end_all(self._root)
        await self._tools.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        loop = asyncio.get_running_loop()
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()
