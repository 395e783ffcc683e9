"""Programs that tests start as children: found or left out with a reason, awaited, ended by their own process id.

A missing program skips the test and names the Debian package; `tests/parts/noskip.py` turns that skip into a failure
where nothing may be left out. Readiness is a question asked of the program itself (a connection, an answer), never a
guess about how long it takes.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import pytest

SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""Where Debian puts servers is not on an ordinary user's PATH."""

LONGEST_SOCKET_PATH = 107
"""What the kernel takes for a Unix socket, without the closing zero byte."""

LOG_TAIL = 2000


class ProgramFailedError(RuntimeError):
    """A program under test ended, refused or did not get ready; the text ends with the last of its log."""


def require(*names: str, package: str) -> str:
    """Path of the first program found under one of its names; without one the test is left out."""
    found = filter(None, (shutil.which(name, path=SYSTEM_PATH) for name in names))
    return next(found, None) or leave_out(f"{names[0]} is missing: apt-get install {package}")


def require_root(why: str) -> None:
    """Leave the test out unless it runs as root."""
    if os.geteuid() != 0:
        leave_out(f"{why} needs root: run the tests as root")


def leave_out(reason: str) -> NoReturn:
    """Skip the test that is running, with the reason a person reads in the summary."""
    pytest.skip(reason)


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def short_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory whose path leaves room for Unix sockets; pytest's own paths are too long for them."""
    with tempfile.TemporaryDirectory(prefix=f"sb-{prefix}-") as name:
        yield Path(name)


def wait_until(ready: Callable[[], bool], what: str, *, seconds: float = 10.0, every: float = 0.02) -> None:
    """Ask until the answer is yes; a question that cannot connect yet counts as no."""
    deadline = time.monotonic() + seconds
    refusal: OSError | None = None
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except OSError as error:
            refusal = error
        time.sleep(every)
    raise TimeoutError(f"{what} did not happen within {seconds:g} s" + (f" ({refusal})" if refusal else ""))


class Child:
    """One program as our child: its output in a log file, its end by its own process id."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self.env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running program."""
        if self._process is None:
            raise ProgramFailedError(f"{self.command[0]} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, ready: Callable[[], bool], *, seconds: float = 20.0) -> None:
        """Start the program and return when it is ready; one that ends early or never answers fails with its log."""
        if self.running:
            raise ProgramFailedError(f"{self.command[0]} runs already, as process {self.pid}")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=self.env
            )

        def ended_or_ready() -> bool:
            return not self.running or ready()

        try:
            wait_until(ended_or_ready, f"{self.command[0]} getting ready", seconds=seconds)
        except TimeoutError as error:
            self.stop()
            raise ProgramFailedError(f"{error}\n{self.tail()}") from None
        if not self.running:
            code = self._process.wait()
            raise ProgramFailedError(f"{self.command[0]} ended with code {code} at its start\n{self.tail()}")

    def stop(self, *, grace: float = 10.0) -> None:
        """End the program with SIGTERM, and with SIGKILL when it is still there after `grace` seconds."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def tail(self) -> str:
        """The last of what the program wrote."""
        return self.log.read_bytes()[-LOG_TAIL:].decode(errors="replace")


class Part(ABC):
    """What all parts share: usable in a `with`, which starts and stops them."""

    @abstractmethod
    def start(self) -> None:
        """Start and return when ready."""

    @abstractmethod
    def stop(self) -> None:
        """Stop and leave nothing behind."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def socket_path(path: Path, *, spare: int = 0) -> Path:
    """The path itself when the kernel takes it for a Unix socket; a clear refusal when it is too long."""
    length = len(os.fsencode(path)) + spare
    if length > LONGEST_SOCKET_PATH:
        raise ValueError(
            f"{path}: a Unix socket here would need {length} bytes, the kernel takes {LONGEST_SOCKET_PATH}; "
            "use a directory from short_directory()"
        )
    return path
