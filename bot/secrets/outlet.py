"""What this process writes to its terminal: stdout and stderr, with the secrets masked at the writer.

Whatever writes there goes through here: tables of the desk, errors, log lines, a traceback nobody expected. Before the
configuration is read nothing is known, so until then only what looks like a secret is taken out.
"""

import sys
from typing import Any, TextIO

from bot.secrets.mask import Mask


class Outlet:
    """A text stream that writes without secrets; otherwise it is the stream behind it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.mask = Mask()

    def write(self, text: str) -> int:
        """Write; what is one piece is masked as one."""
        self._stream.write(self.mask.text(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard() -> None:
    """Let this process write to its terminal through outlets from here on."""
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), Outlet):
            setattr(sys, name, Outlet(stream))


def know(mask: Mask) -> None:
    """Tell the outlets, if there are any, which secrets there are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Outlet):
            stream.mask = mask
