"""Runs the shell text of a command as a host would: by dash and by busybox, with values as variables and nothing more."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from bot.effect import Command, Finished, Output
from tests.parts.programs import SYSTEM_PATH, require

SHELLS = ("dash", "busybox")
TOOLS = ("cat", "date", "grep", "head", "printf", "sed", "sh", "sleep", "tr")
"""What any POSIX system has."""


def run(
    command: Command, shell: str = "dash", *, path: str = SYSTEM_PATH, env: Mapping[str, str] | None = None
) -> Finished:
    """Run a command to its end."""
    program = [require(shell, package=shell), *(["sh"] if shell == "busybox" else [])]
    began = time.monotonic()
    done = subprocess.run(
        [*program, "-c", command.text],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": path, "LC_ALL": "C.UTF-8", **(env or {}), **command.env},
        timeout=command.timeout,
        check=False,
    )
    killed = signal.Signals(-done.returncode).name.removeprefix("SIG") if done.returncode < 0 else None
    return Finished(
        None if killed else done.returncode,
        Output(done.stdout, len(done.stdout)),
        Output(done.stderr, len(done.stderr)),
        killed,
        time.monotonic() - began,
    )


def answered(stdout: str = "", stderr: str = "", exit_code: int | None = 0) -> Finished:
    """An answer as a host could have given it."""
    out, err = stdout.encode(), stderr.encode()
    return Finished(
        exit_code, Output(out, len(out)), Output(err, len(err)), None if exit_code is not None else "KILL"
    )


def only(directory: Path, programs: Iterable[str] = ()) -> str:
    """A PATH with the usual tools and, of all others, these programs alone."""
    directory.mkdir(exist_ok=True)
    for name in (*TOOLS, *programs):
        # `python3` itself may be a script that looks for others
        found = sys.executable if name == "python3" else shutil.which(name, path=SYSTEM_PATH)
        if found is None:
            require(name, package=name)
        elif not (directory / name).exists():
            (directory / name).symlink_to(Path(found).resolve())
    return str(directory)
