"""What clients share that are programs and speak through OpenSSH's `ssh`: its configuration, and how they are run."""

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from bench.ssh.processes import below
from bench.ssh.task import Client, Task


class Program(Client):
    """A program started for each pass; with `keep` OpenSSH's ControlMaster keeps the connections between two."""

    inside: ClassVar[bool] = False

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.folder = Path(task.folder)
        self.config = self.folder / "ssh_config"
        self.hosts = self.folder / "hosts"
        self.said = self.folder / "said"
        self.hosts.write_text("".join(f"{host}\n" for host in task.hosts), "ascii")
        control = (
            f"ControlMaster auto\nControlPath {self.folder}/%h\nControlPersist 600\n" if task.keep else ""
        )
        self.config.write_text(
            f"Port {task.port}\nUser {task.user}\nIdentityFile {task.identity}\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {task.known_hosts}\nGlobalKnownHostsFile /dev/null\n"
            "StrictHostKeyChecking yes\nBatchMode yes\nPreferredAuthentications publickey\n"
            f"UpdateHostKeys no\nLogLevel ERROR\n{control}",
            "utf-8",
        )

    def run(self, words: Sequence[str | Path], **environ: str) -> None:
        """Run a program to its end; what it says goes to a file, its complaints to the log."""
        with self.said.open("wb") as said:
            subprocess.run(
                list(map(str, words)),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=sys.stderr,
                env=os.environ | environ,
                check=False,
            )

    def answers(self) -> Mapping[str, bytes]:
        """Return what was said, by the `host: ` in front of each line."""
        lines: defaultdict[str, list[bytes]] = defaultdict(list)
        for line in self.said.read_bytes().splitlines(keepends=True):
            host, _, rest = line.partition(b": ")
            lines[host.decode("ascii", "replace")].append(rest)
        return {host: b"".join(parts) for host, parts in lines.items()}

    def close(self) -> None:
        """End what keeps the connections."""
        for pid in below(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
