"""A real OpenSSH sshd as an ordinary child process on a loopback address, with a `bin` directory of the test's own."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bot.inventory import Host
from bot.ssh import Ssh, SshSettings
from bot.ssh.once import Places
from tests.parts.programs import Child, Part, require, wait_until


def free_port(address: str) -> int:
    """Return a port that nothing listens on just now."""
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def new_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", path], check=True)
    return path


class Sshd(Part):
    """One host: an sshd with its own host key, one user who may log in, and `bin` first in the PATH of commands.

    What its commands leave running is known by their HOME, and is gone when it is stopped.
    """

    def __init__(
        self,
        directory: Path,
        *,
        address: str = "127.0.1.1",
        host_key: Path | None = None,
        options: str = "",
    ) -> None:
        program = require("sshd", package="openssh-server")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.address = address
        self.port = free_port(address)
        self.user = getpass.getuser()
        self.bin = directory / "bin"
        self.home = directory / "home"
        self.state = directory / "state"
        for path in (self.bin, self.home, self.state):
            path.mkdir(exist_ok=True)
        self.host_key = host_key or new_key(directory / "host_key")
        self.identity = new_key(directory / "identity")
        self.known_hosts = directory / "known_hosts"
        self.known_hosts.write_text(self.known_hosts_line())
        authorized = directory / "authorized_keys"
        shutil.copy(f"{self.identity}.pub", authorized)
        config = directory / "sshd_config"
        config.write_text(
            f"ListenAddress {address}\nPort {self.port}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUseDNS no\n"
            f"PrintMotd no\nMaxStartups 100\nSubsystem sftp internal-sftp\n{options}\n"
            f"SetEnv PATH={self.bin}:{os.environ.get('PATH', '/usr/bin:/bin')} HOME={self.home}\n"
        )
        self._child = Child([program, "-D", "-e", "-f", config], directory / "sshd.log")

    @property
    def log(self) -> str:
        """What sshd wrote so far."""
        return self._child.log.read_text(errors="replace")

    @property
    def logins(self) -> int:
        """How many logins it accepted."""
        return self.log.count("Accepted publickey")

    def program(self, name: str, text: str) -> Path:
        """Put a program into `bin`, where commands on this host find it first."""
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

    def places(self, **changes: str) -> Places:
        """Return places that keep the state of commands in this host's own directory, with a long uptime."""
        uptime = self.directory / "uptime"
        uptime.write_text("10000000.00 1.00\n")
        values = {"uptime": str(uptime), "init": "/nowhere"} | changes
        return Places(state=(str(self.state),), **values)

    def ssh(self, **changes: object) -> Ssh:
        """Return a room that can log in here."""
        return Ssh(self.settings(**changes), self.places())

    def known_hosts_line(self) -> str:
        """Return the line that makes this host known."""
        kind, blob = Path(f"{self.host_key}.pub").read_text().split()[:2]
        return f"[{self.address}]:{self.port} {kind} {blob}\n"

    def start(self) -> None:
        """Start it and wait until it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._child.start(self._listens)

    def stop(self) -> None:
        """End the listener, every session it still has, and what their commands left running."""
        if self._child.running:
            self.kill_sessions()
        self._child.stop()
        for pid in self.processes():
            _kill(pid)

    def kill_sessions(self) -> int:
        """Kill the sshd processes that serve connections, as a crash would; returns how many there were."""
        sessions = self.sessions()
        for pid in sessions:
            _kill(pid)
        return len(sessions)

    def sessions(self) -> list[int]:
        """Return the sshd processes that serve connections."""
        children: dict[int, list[int]] = {}
        for pid in _pids():
            stat = _read(pid, "stat").rpartition(b")")[2].split()
            if stat:
                children.setdefault(int(stat[1]), []).append(pid)
        sessions: list[int] = []
        ahead = [self._child.pid]
        while ahead:
            below = [pid for pid in children.get(ahead.pop(), []) if _read(pid, "comm").startswith(b"sshd")]
            sessions += below
            ahead += below
        return sessions

    def processes(self, name: str = "") -> list[int]:
        """Return the living processes of commands on this host, or those of one program, or of one command line."""
        home = f"HOME={self.home}".encode()
        return [
            pid
            for pid in _pids()
            if home in _read(pid, "environ").split(b"\0")
            and (
                not name
                or name.encode()
                in {_read(pid, "comm").strip(), _read(pid, "cmdline").rstrip(b"\0").replace(b"\0", b" ")}
            )
        ]

    def names(self) -> set[str]:
        """Return the names of the living processes of commands, as `sh` or `sleep`; one `sh` alone is one that waits."""
        living = self.processes()
        names = [_read(pid, "comm").strip().decode() for pid in living]
        return {name if names.count(name) == 1 else f"{name} {names.count(name)} times" for name in names}

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((self.address, self.port)) == 0


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """Return a running sshd on 127.0.1.1; skips where sshd is not installed."""
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(scope="module")
def shared_sshd() -> Iterator[Sshd]:
    """Return one sshd for all tests of a file, for those that leave it as it was."""
    with TemporaryDirectory(prefix="sb-sshd-") as name, Sshd(Path(name), address="127.0.1.2") as server:
        yield server


__all__ = ["Sshd", "free_port", "new_key", "shared_sshd", "sshd", "wait_until"]
