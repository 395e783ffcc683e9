"""A real OpenSSH sshd as an ordinary child process on a loopback address."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from bot.inventory import Host
from bot.ssh import SshSettings

PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")


def free_port(address: str) -> int:
    """Return a port that nothing listens on just now."""
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def new_key(path: Path, kind: str = "ed25519") -> Path:
    """Make a key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", path], check=True)
    return path


class Sshd:
    """One sshd with its own host key, one user key, and a `bin` directory first in its PATH."""

    def __init__(
        self, directory: Path, *, address: str = "127.0.1.1", host_key: Path | None = None, options: str = ""
    ) -> None:
        if PROGRAM is None:
            raise RuntimeError("sshd is not installed")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.address = address
        self.port = free_port(address)
        self.user = getpass.getuser()
        self.bin = directory / "bin"
        self.bin.mkdir(exist_ok=True)
        self.home = directory / "home"
        self.home.mkdir(exist_ok=True)
        self.host_key = host_key or new_key(directory / "host_key")
        self.identity = new_key(directory / "identity")
        self.known_hosts = directory / "known_hosts"
        self.known_hosts.write_text(self.known_hosts_line())
        self.log = directory / "sshd.log"
        authorized = directory / "authorized_keys"
        shutil.copy(f"{self.identity}.pub", authorized)
        self.config = directory / "sshd_config"
        self.config.write_text(
            f"ListenAddress {address}\nPort {self.port}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUseDNS no\n"
            f"PrintMotd no\nMaxStartups 100\nSubsystem sftp internal-sftp\n{options}\n"
            f"SetEnv PATH={self.bin}:{os.environ.get('PATH', '/usr/bin:/bin')} HOME={self.home}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def program(self, name: str, text: str) -> Path:
        """Put a program into `bin`: what commands on this host find first."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def host(self, name: str = "gpu-01") -> Host:
        """Return this sshd as a host of an inventory."""
        return Host(name=name, address=self.address, port=self.port, user=self.user)

    def settings(self, **changes: object) -> SshSettings:
        """Return settings that can log in here."""
        values: dict[str, object] = {
            "user": self.user,
            "known_hosts": self.known_hosts,
            "identity_files": (self.identity,),
        }
        return SshSettings.model_validate(values | changes)

    def known_hosts_line(self) -> str:
        """Return the line that makes this host known."""
        kind, blob = Path(f"{self.host_key}.pub").read_text().split()[:2]
        return f"[{self.address}]:{self.port} {kind} {blob}\n"

    def start(self) -> Self:
        """Start it and wait until it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM), "-D", "-e", "-f", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._listens, f"sshd does not listen: {self.log.read_text()}")
        return self

    def stop(self) -> None:
        """End the listener and every session it still has."""
        if self._process is None:
            return
        self.kill_sessions()
        self._process.terminate()
        self._process.wait(10)
        self._process = None

    def kill_sessions(self) -> int:
        """Kill the sshd processes that serve connections, as a crash would; returns how many there were."""
        if self._process is None:
            return 0
        sessions = [pid for pid in self._descendants() if _name(pid).startswith("sshd")]
        for pid in sessions:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(sessions)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"sshd ended: {self.log.read_text()}")
        with socket.socket() as sock:
            return sock.connect_ex((self.address, self.port)) == 0

    def _descendants(self) -> list[int]:
        assert self._process is not None
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                parent = int(stat.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
        found: list[int] = []
        ahead = [self._process.pid]
        while ahead:
            below = children.get(ahead.pop(), [])
            found += below
            ahead += below
        return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def wait_for(ready: Callable[[], bool], otherwise: str, seconds: float = 10.0) -> None:
    """Wait until something outside is so; there is no event to wait on in another process."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(otherwise)
        pause.wait(0.02)


@pytest.fixture(scope="session")
def sshd_program() -> str:
    """Return the path of sshd, or skip."""
    if PROGRAM is None:
        pytest.skip("sshd is not installed (Debian: apt-get install openssh-server)")
    return PROGRAM


@pytest.fixture
def sshd(tmp_path: Path, sshd_program: str) -> Iterator[Sshd]:
    """Return a running sshd on 127.0.1.1."""
    with Sshd(tmp_path / "sshd") as server:
        yield server
