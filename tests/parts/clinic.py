"""`sickbay` as people start it: a child process with a sickbay.yaml of its own, beside a pretend fleet.

What it writes goes into a pipe or into a pseudo-terminal, because the two are told different things.
"""

import fcntl
import os
import pty
import pwd
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from bot.shipped import shipped
from bot.sim.fleet import PretendFleet
from tests.parts.programs import wait_until

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SECRET = "a-long-and-random-text"
ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
"""Who the operating system says the tests are."""

BOOKS: dict[str, dict[str, Any]] = {
    "mend": {
        "description": "Mend a host",
        "kind": "mutate",
        "triggers": [{"command": True}],
        "approval": {"required": 1, "from": ["oncall"], "timeout": "10m"},
        "steps": [
            {"id": "look", "run": "echo a crack", "mutates": False},
            {"id": "glue", "name": "glue it", "run": "echo glued >> $HOME/glue; cat $HOME/glue"},
        ],
        "verify": [{"id": "proof", "run": "test -s $HOME/glue", "mutates": False}],
    },
    "slow": {
        "description": "Change a host, and take a while",
        "kind": "mutate",
        "mode": "auto",
        "triggers": [{"command": True}],
        "steps": [{"id": "slow", "run": "echo begun >> $HOME/slow; sleep 3; echo done >> $HOME/slow"}],
        "verify": [{"id": "proof", "run": "cat $HOME/slow", "mutates": False}],
    },
    "nap": {
        "description": "Sleep on a host",
        "kind": "observe",
        "triggers": [{"command": True}],
        "inputs": {"long": {"type": "string", "default": "60"}},
        "steps": [{"id": "nap", "name": "sleeping", "run": 'sleep "{{ inputs.long }}"', "timeout": "90s"}],
    },
}
"""Runbooks of the tests: one that asks, and two that take their time."""


@dataclass(frozen=True)
class Said:
    """What a command that ended wrote."""

    code: int
    out: str
    err: str


class Talk:
    """A command that is going."""

    def __init__(self, words: list[str], folder: Path, environ: Mapping[str, str], *, tty: bool) -> None:
        self._seen = bytearray()
        reader, writer = pty.openpty() if tty else os.pipe()
        self._reader = reader
        if tty:
            fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bot", *words],
            cwd=folder,
            env=dict(environ),
            stdin=writer if tty else subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
        )
        os.close(writer)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._listener.join()
        os.close(self._reader)

    def _listen(self) -> None:
        while True:
            try:
                data = os.read(self._reader, 65536)
            except OSError:  # how a pseudo-terminal says that nobody writes any more
                return
            if not data:
                return
            self._seen += data

    @property
    def raw(self) -> str:
        """All that was written until now."""
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        """The same without what moves the cursor."""
        return CONTROL.sub("", self.raw)

    def until(self, words: str, *, seconds: float = 20) -> None:
        """Wait until it writes these words."""

        def found() -> bool:
            if words in self.text:
                return True
            assert self.process.poll() is None, f"it ended without {words!r}: {self.text}"
            return False

        try:
            wait_until(found, f"{words!r}", seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"{words!r} was not written: {self.text}") from None

    def type(self, words: str) -> None:
        """Write on its keyboard; only in a terminal."""
        os.write(self._reader, words.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, *, seconds: float = 20) -> int:
        """Wait for its end; return the exit code."""
        code = self.process.wait(seconds)
        self._listener.join()
        return code


class Clinic:
    """A folder with a sickbay.yaml, and what one says there."""

    def __init__(self, folder: Path, fleet: PretendFleet, **sections: Any) -> None:
        self.folder = folder
        self.fleet = fleet
        self.config = folder / "sickbay.yaml"
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLACK_", "SICKBAY_", "XDG_", "FORCE_COLOR", "COLUMNS"))
            and name
            != "PYTHONDONTWRITEBYTECODE"  # a program that is started often should not be compiled often
        } | {
            "HOME": str(folder),
            "LOGNAME": "alice",  # which is no proof of being her
            "TERM": "xterm",
            "SICKBAY_ALERTMANAGER_SECRET": SECRET,
        }
        books = folder / "runbooks"
        books.mkdir(exist_ok=True)
        for name, book in BOOKS.items():
            (books / f"{name}.yaml").write_text(yaml.safe_dump({"version": 1, "name": name, **book}))
        self.write(**sections)

    def write(self, **sections: Any) -> None:
        """Write sickbay.yaml, with these sections instead of the usual ones."""
        files = self.fleet.write_files(self.folder)
        usual = {
            "web": {"listen": "127.0.0.1:0"},
            "ssh": {
                "user": "sickbay",
                "known_hosts": str(files["known_hosts"]),
                "identity_files": [str(files["identity_file"])],
                "connect_timeout": 2.0,
            },
            "hosts": {
                host["name"]: {key: host[key] for key in ("address", "port", "groups", "vars")}
                for host in self.fleet.inventory()
            },
            "autonomy": {"successes": 0},
            "people": {
                "alice": {"slack": "U0ALICE", "roles": ["oncall"]},
                "bob": {"slack": "U0BOB", "roles": ["oncall"]},
            },
            "runbooks": [str(shipped("runbooks")), "runbooks"],
            "check": ["gpu-check"],
        }
        self.config.write_text(yaml.safe_dump(usual | sections, sort_keys=False))

    def say(self, *words: str, **environ: str) -> Said:
        """Say something into a pipe and wait for the end."""
        child = subprocess.run(
            [sys.executable, "-m", "bot", *words],
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        return Said(child.returncode, child.stdout.decode(), child.stderr.decode())

    def talk(self, *words: str, tty: bool = False, **environ: str) -> Talk:
        """Begin to say something."""
        return Talk(list(words), self.folder, self.environ | environ, tty=tty)

    @contextmanager
    def serving(self, **environ: str) -> Iterator[Talk]:
        """Run `sickbay serve` until the block ends."""
        with self.talk("serve", tty=False, **environ) as server:
            server.until("ready on http://")
            yield server
            if server.process.poll() is None:
                server.process.terminate()
                assert server.end() == 0, server.text


@pytest.fixture(scope="session")
def fleet() -> Iterator[PretendFleet]:
    """Three GPU hosts and their load balancer; whoever breaks one mends it again."""
    with PretendFleet(hosts=3) as one:
        yield one


@pytest.fixture
def clinic(tmp_path: Path, fleet: PretendFleet) -> Clinic:
    """A folder of its own beside the fleet."""
    return Clinic(tmp_path, fleet)
