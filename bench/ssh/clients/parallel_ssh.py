"""parallel-ssh with its native client (libssh2, gevent); it checks no host keys, there is no way to let it."""

from collections.abc import Mapping
from typing import Any

from pssh.clients import ParallelSSHClient

from bench.ssh.task import Client, Task, drive


class ParallelSsh(Client):
    """One client, kept for all passes."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._client = ParallelSSHClient(
            task.hosts,
            user=task.user,
            port=task.port,
            pkey=task.identity,
            pool_size=task.parallel,
            allow_agent=False,
            identity_auth=False,
        )
        self._answers: dict[str, bytes] = {}

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        outputs: list[Any] = self._client.run_command(self.task.command, stop_on_errors=False)
        self._client.join(outputs)
        self._answers = {
            output.host: "".join(f"{line}\n" for line in output.stdout).encode()
            for output in outputs
            if output.stdout is not None
        }

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        return self._answers


if __name__ == "__main__":
    drive(ParallelSsh)
