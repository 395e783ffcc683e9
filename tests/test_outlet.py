"""What a process writes to its terminal goes through outlets, whoever writes it."""

import io
import logging
import subprocess
import sys

import pytest

from bot.secrets.mask import HIDDEN, Mask
from bot.secrets.outlet import Outlet, guard, know

SECRET = "the-canary-of-the-terminal"

PROGRAM = f"""
import logging, sys, threading, warnings
from bot.secrets.mask import Mask
from bot.secrets.outlet import guard, know
guard()
know(Mask(["{SECRET}"]))
print("printed {SECRET}")
print("{SECRET}", file=sys.stderr)
sys.stdout.writelines(["lines {SECRET}\\n"])
warnings.warn("warned of {SECRET}")
logging.getLogger("x").error("logged %s", "{SECRET}")
thread = threading.Thread(target=lambda: int("thread {SECRET}"))
thread.start()
thread.join()
raise RuntimeError("nobody expected {SECRET}")
"""


def test_prints_warnings_logs_and_tracebacks_of_every_thread_are_masked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, cwd=sys.path[0] or None
    )
    said = done.stdout + done.stderr
    for words in (
        "printed",
        "lines",
        "warned of",
        "logged",
        "ValueError",
        "thread",
        "RuntimeError: nobody expected",
    ):
        assert words in said
    assert SECRET not in said.replace(f'"{SECRET}"', ""), "only the source lines of this program may show it"
    assert HIDDEN in done.stdout
    assert HIDDEN in done.stderr


def test_an_outlet_is_otherwise_the_stream_behind_it() -> None:
    stream = io.StringIO()
    outlet = Outlet(stream)
    assert outlet.write("hello") == 5
    assert not outlet.isatty()
    outlet.flush()
    assert stream.getvalue() == "hello"


def test_before_anything_is_known_what_looks_like_a_secret_is_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    guard()
    guard()
    assert isinstance(sys.stdout, Outlet)
    assert not isinstance(sys.stdout._stream, Outlet), "one is enough"
    print(f"password=hunter22 {SECRET}")  # noqa: T201
    know(Mask([SECRET]))
    print(SECRET)  # noqa: T201
    logging.getLogger("outlet").propagate = False
    assert capsys.readouterr().out == f"password={HIDDEN} {SECRET}\n{HIDDEN}\n"
