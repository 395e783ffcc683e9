"""Ours, as the bot uses it: a command that only looks, with the room's own settings."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.ssh.task import Client, Task, drive
from bot.effect import Command, Finished, Outcome
from bot.inventory import Host
from bot.ssh import Ssh, SshSettings


def run(ssh: Ssh, host: Host, command: Command, key: str = "") -> Outcome:
    """Run a command on one host and wait for it."""
    return ssh.run(host, command, key=key, first_sent=None)


def fan_out(ssh: Ssh, hosts: Iterable[Host], command: Command) -> list[Outcome]:
    """Run a command on all hosts; how many at once is the room's own business."""
    sent = [ssh.start(host, command, key="", first_sent=None) for host in hosts]
    return [pending.outcome.result() for pending in sent]


class Ours(Client):
    """One room for all passes."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        settings = SshSettings(
            user=task.user, known_hosts=Path(task.known_hosts), identity_files=(Path(task.identity),)
        )
        self._ssh = Ssh(settings)
        self._hosts = [Host(name=address, address=address, port=task.port) for address in task.hosts]
        self._outcomes: list[Outcome] = []

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        command = Command(self.task.command, timeout=600)
        self._outcomes = fan_out(self._ssh, self._hosts, command)

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        found: dict[str, bytes] = {}
        for host, outcome in zip(self._hosts, self._outcomes, strict=True):
            if isinstance(outcome, Finished):
                found[host.name] = outcome.stdout.data
            else:
                print(host.name, outcome, file=sys.stderr)
        return found

    def close(self) -> None:
        """End all connections."""
        self._ssh.close()


if __name__ == "__main__":
    drive(Ours)
