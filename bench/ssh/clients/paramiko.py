"""Paramiko as it comes: one SSHClient a host, in a pool of threads; the key is loaded once."""

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import paramiko

from bench.ssh.task import Client, Task, drive


class Paramiko(Client):
    """One SSHClient a host, kept for all passes."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._key = paramiko.Ed25519Key.from_private_key_file(task.identity)
        self._known = paramiko.HostKeys(task.known_hosts)
        self._clients: dict[str, paramiko.SSHClient] = {}
        self._answers: dict[str, bytes] = {}

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        self._answers = {}
        with ThreadPoolExecutor(self.task.parallel) as pool:
            list(pool.map(self._one, self.task.hosts))

    def _one(self, host: str) -> None:
        try:
            client = self._clients.get(host) or self._connect(host)
            _, stdout, _ = client.exec_command(self.task.command)
            answer = stdout.read()
            stdout.channel.recv_exit_status()
            stdout.channel.close()
        except (OSError, EOFError, paramiko.SSHException) as error:
            print(host, error, file=sys.stderr)
            return
        self._answers[host] = answer

    def _connect(self, host: str) -> paramiko.SSHClient:
        client = self._clients[host] = paramiko.SSHClient()
        name = f"[{host}]:{self.task.port}"
        for kind, key in (self._known.lookup(name) or {}).items():
            client.get_host_keys().add(name, kind, key)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(
            host, self.task.port, self.task.user, pkey=self._key, allow_agent=False, look_for_keys=False
        )
        return client

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        return self._answers

    def close(self) -> None:
        """End all connections."""
        for client in self._clients.values():
            client.close()


if __name__ == "__main__":
    drive(Paramiko)
