"""A real HAProxy in front of the test's backends, with its runtime socket at level admin.

One frontend on loopback, one backend `be_vllm`; every answer carries the name of the server that gave it, so that a test
knows which replica holds its request.
"""

import csv
import socket
from collections.abc import Mapping
from pathlib import Path

from tests.parts.programs import Child, Part, free_port, require, socket_path, wait_until

BACKEND = "be_vllm"
SERVED_BY = "x-served-by"
PID_SUFFIX = len(".4194304.tmp")
"""HAProxy binds its socket under a temporary name first."""

CONFIGURATION = """\
global
    stats socket {socket} mode 600 level admin
    stats timeout 1m
    maxconn 256

defaults
    mode http
    timeout connect 2s
    timeout client 2m
    timeout server 2m
    timeout check 2s

frontend fe_vllm
    bind {address}:{port}
    default_backend {backend}

backend {backend}
    balance roundrobin
    option httpchk GET /health
    http-response set-header {served_by} %s
    default-server check inter 200ms fall 2 rise 1
{servers}
"""


class HAProxy(Part):
    """HAProxy with one backend whose servers are given as name → `address:port`."""

    def __init__(self, directory: Path, servers: Mapping[str, str], *, address: str = "127.0.0.1") -> None:
        self.directory = directory
        self.servers = dict(servers)
        self.socket = socket_path(directory / "admin.sock", spare=PID_SUFFIX)
        self.address = address
        self.port = free_port(address)
        self.program = require("haproxy", package="haproxy")
        self._configuration = directory / "haproxy.cfg"
        self._child = Child([self.program, "-db", "-f", self._configuration], directory / "haproxy.log")

    @property
    def frontend(self) -> str:
        """Base URL of the service behind the balancer."""
        return f"http://{self.address}:{self.port}"

    def start(self) -> None:
        """Start HAProxy; returns when every server has passed or failed its first health check."""
        servers = "\n".join(f"    server {name} {target}" for name, target in self.servers.items())
        self._configuration.write_text(
            CONFIGURATION.format(
                socket=self.socket,
                address=self.address,
                port=self.port,
                backend=BACKEND,
                served_by=SERVED_BY,
                servers=servers,
            )
        )
        self._child.start(self._checked)

    def stop(self) -> None:
        """End HAProxy at once, with the connections it still holds."""
        self._child.stop()
        self.socket.unlink(missing_ok=True)

    def command(self, text: str) -> str:
        """Say one line to the runtime socket and return the answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(f"{text}\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        return answer.decode().strip()

    def stat(self, name: str) -> dict[str, str]:
        """The server's row of `show stat`, by column name."""
        rows = csv.DictReader(self.command("show stat").removeprefix("# ").splitlines())
        return next(row for row in rows if (row["pxname"], row["svname"]) == (BACKEND, name))

    def server_state(self, name: str) -> str:
        """What `show stat` says of a server: UP, DOWN, DRAIN, MAINT, …"""
        return self.stat(name)["status"]

    def sessions(self, name: str) -> int:
        """How many requests a server holds now."""
        return int(self.stat(name)["scur"])

    def wait_for(self, name: str, state: str, *, seconds: float = 10.0) -> None:
        """Return when the server is in that state."""
        wait_until(
            lambda: self.server_state(name) == state, f"{BACKEND}/{name} being {state}", seconds=seconds
        )

    def _checked(self) -> bool:
        if not self.socket.exists():
            return False
        return all(self.stat(name)["check_status"] not in {"", "INI"} for name in self.servers)
