"""asyncssh used well: keys and known hosts parsed once, one event loop, as many hosts at once as the others."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import asyncssh

from bench.ssh.task import Client, Task, drive


class Asyncssh(Client):
    """One event loop for all passes."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._loop = asyncio.new_event_loop()
        self._known_hosts = asyncssh.read_known_hosts(task.known_hosts)
        self._keys = [asyncssh.read_private_key(task.identity)]
        self._connections: dict[str, Any] = {}
        self._answers: dict[str, bytes] = {}

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        self._answers = {}
        self._loop.run_until_complete(self._all())

    async def _all(self) -> None:
        turn = asyncio.Semaphore(self.task.parallel)
        await asyncio.gather(*(self._one(host, turn) for host in self.task.hosts))

    async def _one(self, host: str, turn: asyncio.Semaphore) -> None:
        async with turn:
            try:
                connection = self._connections.get(host) or await self._connect(host)
                done = await connection.run(self.task.command, encoding=None)
            except (OSError, asyncssh.Error) as error:
                print(host, error, file=sys.stderr)
                return
        self._answers[host] = done.stdout

    async def _connect(self, host: str) -> Any:
        connection = self._connections[host] = await asyncssh.connect(
            host,
            self.task.port,
            username=self.task.user,
            client_keys=self._keys,
            known_hosts=self._known_hosts,
            config=None,
            agent_path=None,
            preferred_auth="publickey",
        )
        return connection

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        return self._answers

    def rest(self, seconds: float) -> None:
        """Do nothing, with the event loop running."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """End all connections."""
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection in self._connections.values()))


if __name__ == "__main__":
    drive(Asyncssh)
