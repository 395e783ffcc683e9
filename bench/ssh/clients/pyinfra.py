"""pyinfra as a library: its paramiko connector on gevent, without its operations."""

from gevent import monkey  # isort: skip

monkey.patch_all()

from collections.abc import Mapping  # noqa: E402

from pyinfra.api import Config, Inventory, State  # noqa: E402
from pyinfra.api.connect import connect_all, disconnect_all  # noqa: E402

from bench.ssh.task import Client, Task, drive  # noqa: E402


class Pyinfra(Client):
    """One state, kept for all passes."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        data = {
            "ssh_user": task.user,
            "ssh_port": task.port,
            "ssh_key": task.identity,
            "ssh_known_hosts_file": task.known_hosts,
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
        }
        inventory = Inventory((task.hosts, data))
        self._state = State(inventory, Config(PARALLEL=task.parallel, CONNECT_TIMEOUT=60))
        self._connected = False
        self._answers: dict[str, bytes] = {}

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        if not self._connected:
            connect_all(self._state)
            self._connected = True
        self._answers = {}
        hosts = list(self._state.inventory.iter_activated_hosts())
        list(self._state.pool.imap_unordered(self._one, hosts))

    def _one(self, host: object) -> None:
        well, output = host.run_shell_command(self.task.command)  # type: ignore[attr-defined]
        if well:
            self._answers[str(host)] = "".join(f"{line}\n" for line in output.stdout_lines).encode()

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        return self._answers

    def close(self) -> None:
        """End all connections."""
        disconnect_all(self._state)


if __name__ == "__main__":
    drive(Pyinfra)
