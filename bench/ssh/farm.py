"""Up to 1,000 hosts: one real OpenSSH server on loopback addresses only, one address a host, the same port for all.

OpenSSH listens on 16 addresses at most, so there is one sshd for each 16 hosts, all with one configuration and one
host key. Commands get an empty home directory, so that the shell reads no start-up file of the person who measures.
"""

import getpass
import os
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.ssh.processes import below

PER_SSHD = 16
LINE = b"x" * 79 + b"\n"
KEX = "curve25519-sha256,curve25519-sha256@libssh.org"
"""The same for all: left to itself OpenSSH 9.2 takes sntrup761 with its own clients only, 65 ms of each side's time."""


class Farm:
    """The hosts, and the files that a client needs to reach them."""

    def __init__(self, folder: Path, count: int) -> None:
        program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if program is None:
            raise SystemExit("there is no sshd: apt-get install openssh-server")
        self._sshd = program
        self.folder = folder
        self.user = getpass.getuser()
        self.addresses = [f"127.7.{number // 250}.{number % 250 + 1}" for number in range(count)]
        with socket.socket() as free:
            free.bind((self.addresses[0], 0))
            self.port = int(free.getsockname()[1])
        self.identity = _new_key(folder / "identity")
        self._host_key = _new_key(folder / "host_key")
        self.known_hosts = folder / "known_hosts"
        kind, blob = Path(f"{self._host_key}.pub").read_text("ascii").split()[:2]
        self.known_hosts.write_text(
            "".join(f"[{address}]:{self.port} {kind} {blob}\n" for address in self.addresses), "ascii"
        )
        self.home = folder / "home"
        self.home.mkdir()
        self._children: list[subprocess.Popen[bytes]] = []
        self._log = folder / "sshd.log"

    def output(self, size: int) -> Path:
        """Return a file of this many bytes, in lines; `cat` of it is the command that everybody runs."""
        path = self.folder / f"output-{size}"
        if not path.exists():
            path.write_bytes((LINE * (size // len(LINE) + 1))[: size - 1] + b"\n")
        return path

    def __enter__(self) -> Self:
        _raise_limit()
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        groups = [self.addresses[at : at + PER_SSHD] for at in range(0, len(self.addresses), PER_SSHD)]
        try:
            for number, group in enumerate(groups):
                self._start(number, group)
            for child, group in zip(self._children, groups, strict=True):
                self._await(child, group[-1])
            self.rest()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def rest(self, seconds: float = 60.0) -> None:
        """Wait until the server has ended every session, so that none costs the next client anything."""
        deadline = time.monotonic() + seconds
        while any(below(child.pid) for child in self._children):
            if time.monotonic() > deadline:
                raise SystemExit(f"the server still has sessions after {seconds:g} s: who keeps them?")
            time.sleep(0.05)
        time.sleep(0.2)

    def _start(self, number: int, group: list[str]) -> None:
        config = self.folder / f"sshd_config-{number}"
        listen = "".join(f"ListenAddress {address}\n" for address in group)
        config.write_text(
            f"{listen}Port {self.port}\nHostKey {self._host_key}\nAuthorizedKeysFile {self.identity}.pub\n"
            "PidFile none\nStrictModes no\nUsePAM no\nUseDNS no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\nPrintMotd no\nPrintLastLog no\n"
            f"KexAlgorithms {KEX}\nMaxStartups 2000\nLoginGraceTime 120\nLogLevel ERROR\n"
            f"SetEnv PATH=/usr/local/bin:/usr/bin:/bin HOME={self.home}\n",
            "utf-8",
        )
        with self._log.open("ab") as log:
            words = [self._sshd, "-D", "-e", "-f", str(config)]
            self._children.append(
                subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
            )

    def _await(self, child: subprocess.Popen[bytes], address: str) -> None:
        for _ in range(600):
            with socket.socket() as sock:
                if sock.connect_ex((address, self.port)) == 0:
                    return
            if child.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"sshd did not start:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")

    def _stop(self) -> None:
        for child in self._children:
            for pid in [*below(child.pid), child.pid]:
                _end(pid)
        for child in self._children:
            child.wait(30)


def _new_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", path], check=True)
    return path


def _raise_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end(pid: int) -> None:
    try:
        os.kill(pid, 15)
    except ProcessLookupError:
        return
