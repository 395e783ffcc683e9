"""Fabric's own way for many hosts: a ThreadingGroup, which starts one thread a host."""

import sys
from collections.abc import Mapping

import fabric
import paramiko

from bench.ssh.task import Client, Task, drive


class Fabric(Client):
    """One group, kept for all passes."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        known = paramiko.HostKeys(task.known_hosts)
        config = fabric.Config(lazy=True, overrides={"load_ssh_configs": False})
        self._group = fabric.ThreadingGroup(
            *task.hosts,
            user=task.user,
            port=task.port,
            config=config,
            connect_kwargs={
                "pkey": paramiko.Ed25519Key.from_private_key_file(task.identity),
                "allow_agent": False,
                "look_for_keys": False,
            },
        )
        for connection in self._group:
            name = f"[{connection.host}]:{task.port}"
            for kind, key in (known.lookup(name) or {}).items():
                connection.client.get_host_keys().add(name, kind, key)
            connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self._answers: dict[str, bytes] = {}

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        try:
            results = self._group.run(self.task.command, hide=True, in_stream=False)
        except fabric.exceptions.GroupException as error:
            results = error.result
        self._answers = {}
        for connection, result in results.items():
            if isinstance(result, fabric.Result):
                self._answers[connection.host] = result.stdout.encode()
            else:
                print(connection.host, repr(result), file=sys.stderr)

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        return self._answers

    def close(self) -> None:
        """End all connections."""
        self._group.close()


if __name__ == "__main__":
    drive(Fabric)
