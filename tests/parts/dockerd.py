"""A Docker daemon of the test's own: its own socket, data, containerd and cgroup; no network, no firewall rules.

Restarting a container is proved on a real container, because that is where the interesting things are: `StartedAt`
changes, signals reach PID 1, the restart takes time. The image comes from Debian's static busybox, so nothing is
downloaded. Containers share the machine's network (`--network=host`), as many serving hosts run vLLM.
"""

import contextlib
import http.client
import io
import json
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.programs import (
    Child,
    Part,
    ProgramFailedError,
    leave_out,
    require,
    require_root,
    short_directory,
    socket_path,
    wait_until,
)

IMAGE = "sickbay-test/vllm"
APPLETS = ("cat", "date", "echo", "sh", "sleep", "true", "wget")
COMMAND_SECONDS = 60

# PID 1 gets no default signal handlers from the kernel: without this trap every stop would last its whole grace time.
SERVE = """
trap 'echo "INFO: Shutting down"; exit 0' TERM INT
echo "INFO: Started server process [$$]"
while :; do sleep 3600 & wait $!; done
"""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Dockerd(Part):
    """A `dockerd` on a socket below `directory`; `env` points Docker's command line at it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.exec_root = directory / "exec"
        socket_path(self.exec_root / "containerd" / "containerd-debug.sock")
        self.cgroup = f"sickbay-test-{directory.name}"
        self.program = require("dockerd", package="docker.io")
        self.client = require("docker", package="docker.io docker-cli")
        self.env = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(directory / "config")}
        configuration = directory / "daemon.json"
        configuration.write_text("{}")  # never the machine's own /etc/docker/daemon.json
        self._child = Child(
            [
                self.program,
                *("--config-file", configuration),
                *("--host", f"unix://{self.socket}"),
                *("--data-root", directory / "data"),
                *("--exec-root", self.exec_root),
                *("--pidfile", directory / "pid"),
                *("--storage-driver", "vfs"),  # works on every file system, also on an overlay
                *("--exec-opt", "native.cgroupdriver=cgroupfs"),  # works without systemd
                *("--cgroup-parent", f"/{self.cgroup}"),
                *("--bridge", "none"),
                *("--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            ],
            directory / "dockerd.log",
        )

    def start(self) -> None:
        """Start the daemon and its containerd; returns when it answers a ping."""
        self._child.start(self._answers)

    def stop(self) -> None:
        """Remove the containers, end the daemon, and clear what it leaves behind: shims, a mount, cgroups."""
        try:
            if self._child.running:
                containers = self.docker("ps", "--all", "--quiet").split()
                if containers:
                    self.docker("rm", "--force", *containers)
        finally:
            self._child.stop(grace=20)
            wait_until(
                lambda: not list(self.descendants()), "the end of containerd and its shims", seconds=20
            )
            for mount in self.mounts():
                subprocess.run(["umount", mount], check=True, timeout=COMMAND_SECONDS)
            for cgroup in sorted(Path("/sys/fs/cgroup").glob(f"**/{self.cgroup}"), reverse=True):
                _remove_cgroup(cgroup)

    def docker(self, *arguments: str, data: bytes | None = None) -> str:
        """Run Docker's command line against this daemon and return its output."""
        done = subprocess.run(
            [self.client, *arguments],
            input=data,
            capture_output=True,
            env={**os.environ, **self.env},
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            complaint = done.stderr.decode(errors="replace").strip()
            raise ProgramFailedError(
                f"docker {' '.join(arguments)} ended with code {done.returncode}: {complaint}"
            )
        return done.stdout.decode().strip()

    def import_busybox(self) -> str:
        """Make the image `IMAGE` from Debian's static busybox and return its name."""
        busybox = _static_busybox()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(busybox, "bin/busybox")
            for applet in APPLETS:
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
                tar.addfile(link)
        self.docker("import", "--change", "ENV PATH=/bin", "-", IMAGE, data=archive.getvalue())
        return IMAGE

    def run(self, name: str, *arguments: str, command: tuple[str, ...] = ("sh", "-c", SERVE)) -> str:
        """Start a container of that name, `arguments` going to `docker run`; returns its id."""
        if not self.docker("images", "--quiet", IMAGE):
            self.import_busybox()
        return self.docker("run", "--detach", "--name", name, "--network=host", *arguments, IMAGE, *command)

    def restart(self, name: str) -> None:
        """Restart a container, as a person would."""
        self.docker("restart", name)

    def started_at(self, name: str) -> str | None:
        """When the container's process was started, as Docker writes it; None while it does not run."""
        status, answer = self._get(f"/containers/{name}/json")
        if status != http.client.OK:
            raise ProgramFailedError(f"docker inspect {name}: {answer}")
        state = json.loads(answer)["State"]
        return str(state["StartedAt"]) if state["Running"] else None

    def descendants(self) -> Iterator[int]:
        """Process ids that name this daemon's socket directory: its containerd and the containers' shims."""
        own = os.fsencode(self.exec_root)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):  # it ended while we looked
                    if own in (entry / "cmdline").read_bytes():
                        yield int(entry.name)

    def mounts(self) -> list[str]:
        """Mount points below this daemon's directory, innermost first."""
        own = f"{self.directory}/"
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return sorted((point for point in points if point.startswith(own)), reverse=True)

    def _answers(self) -> bool:
        return self.socket.exists() and self._get("/_ping")[0] == http.client.OK

    def _get(self, path: str) -> tuple[int, str]:
        with contextlib.closing(_UnixConnection(self.socket)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()


def _static_busybox() -> str:
    """Debian's package `busybox` needs shared libraries, which the otherwise empty image does not have."""
    path = require("busybox", package="busybox-static")
    if subprocess.run(["ldd", path], capture_output=True, timeout=10, check=False).returncode == 0:
        leave_out(f"{path} is not static: apt-get install busybox-static")
    return path


def _remove_cgroup(cgroup: Path) -> None:
    """Remove an empty cgroup with the empty ones below it."""
    for below in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
        below.rmdir()
    cgroup.rmdir()


@pytest.fixture
def dockerd() -> Iterator[Dockerd]:
    """A running Docker daemon of this test's own."""
    require_root("dockerd")
    with short_directory("docker") as directory, Dockerd(directory) as daemon:
        yield daemon
