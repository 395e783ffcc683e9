"""Fixtures shared by all rooms: only re-exports from tests/parts."""

import signal

from tests.parts.chromium import chromium
from tests.parts.clinic import clinic, fleet
from tests.parts.dockerd import dockerd
from tests.parts.noskip import pytest_make_collect_report, pytest_runtest_makereport, pytest_terminal_summary
from tests.parts.sshd import shared_sshd, sshd
from tests.parts.stage import stage

# Who runs the tests in the background of a shell has Ctrl-C ignored, and so would every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = [
    "chromium",
    "clinic",
    "dockerd",
    "fleet",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_terminal_summary",
    "shared_sshd",
    "sshd",
    "stage",
]
