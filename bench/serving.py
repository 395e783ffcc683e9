"""`sickbay serve` as its own process, for the benchmarks: started, asked, measured, stopped."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

SECRET = "bench"


class Serving:
    """A server with its own folder and database; `ready` is how many seconds it took to answer."""

    def __init__(
        self, folder: Path, config: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        whole = {"store": {"path": "sickbay.db"}, "web": {"listen": f"127.0.0.1:{self.port}"}, **config}
        self._config = folder / "sickbay.yaml"
        self._config.write_text(yaml.safe_dump(whole), encoding="utf-8")
        self.log = folder / "log"
        secrets = {"SICKBAY_ALERTMANAGER_SECRET": SECRET, **(environ or {})}
        self._environ = {name: value for name, value in os.environ.items() if "SLACK" not in name} | secrets
        self._process: subprocess.Popen[bytes] | None = None
        self.ready = 0.0

    def __enter__(self) -> Self:
        words = [sys.executable, "-m", "bot", "serve", "--config", str(self._config)]
        began = time.perf_counter()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(words, env=self._environ, stdout=log, stderr=log)
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - began > 60:
                self._process.kill()
                raise SystemExit(self.log.read_text())
            time.sleep(0.005)
        self.ready = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                print("! it did not stop within 30 s", file=sys.stderr)

    def _answers(self) -> bool:
        with suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                pass
            connection = self.connection()
            connection.request("GET", "/healthz")
            ready = connection.getresponse().status == 200
            connection.close()
            return ready
        return False

    def connection(self) -> HTTPConnection:
        """Return a connection to the web door."""
        return HTTPConnection("127.0.0.1", self.port, timeout=60)

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    @property
    def processor(self) -> float:
        """Seconds of processor time used so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alert(fingerprint: str, **labels: str) -> dict[str, Any]:
    """Return one alert as Alertmanager sends it."""
    return {
        "status": "firing",
        "labels": {"alertname": "VLLMStalled", "severity": "critical", **labels},
        "annotations": {"summary": "vLLM stopped answering", "description": "no token for two minutes"},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=vllm",
        "fingerprint": fingerprint,
    }


def body(alerts: Iterable[dict[str, Any]]) -> bytes:
    """Return a webhook body."""
    return json.dumps({"version": "4", "status": "firing", "receiver": "x", "alerts": list(alerts)}).encode()


def post(connection: HTTPConnection, data: bytes) -> int:
    """Send a body; return how many alerts were stored."""
    connection.request("POST", "/alerts/alertmanager", data, {"Authorization": f"Bearer {SECRET}"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {answer.decode()}")
    return int(json.loads(answer)["stored"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a small table."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for number, line in enumerate(lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("─" * width for width in widths))


def middle(numbers: Sequence[float], unit: str = "", digits: int = 0) -> str:
    """Return median and range."""
    low, high = min(numbers), max(numbers)
    return f"{statistics.median(numbers):.{digits}f}{unit} ({low:.{digits}f}–{high:.{digits}f})"


def command() -> None:
    """Print how to do it again, and on what it was done."""
    file = Path(sys.argv[0])
    name = file.parent.name if file.stem == "__main__" else file.stem
    words = " ".join(["-m", f"bench.{name}", *sys.argv[1:]])
    print(f"\n.venv/bin/python {words}")
    print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
