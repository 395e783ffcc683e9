"""A directory per pretend host, in which its commands really run.

Commands run as the user who started the fleet, with a bare environment and the pretend tools first on PATH. This keeps
our own runbooks harmless; it is no wall against a command that names a real program by its path.
"""

import shlex
import sys
from pathlib import Path

from bot.sim.fleet.tools import NAMES

ASK = Path(__file__).with_name("ask.py")
MARK = "SICKBAY_PRETEND_HOST"
"""Environment variable by which every process of the fleet is found when it stops."""

_SUDO = """\
#!/bin/sh
# Everything here belongs to one user: sudo only drops its own options.
while [ $# -gt 0 ]; do
    case $1 in
        -n | -H | -E | -S | -k) shift ;;
        -u | -g) shift 2 ;;
        --) shift; break ;;
        -*) echo "sudo: unknown option $1" >&2; exit 1 ;;
        *) break ;;
    esac
done
exec "$@"
"""


class Sandbox:
    """The files of one pretend host."""

    def __init__(self, root: Path, host: str, socket: Path) -> None:
        self.host = host
        self.root = root / host
        self.home = self.root / "home"
        self._bin = self.root / "bin"
        for directory in (self.root, self.home, self._bin, self.root / "tmp", self.root / "run"):
            directory.mkdir(mode=0o700)
        for name in NAMES:
            words = [sys.executable, "-I", "-S", str(ASK), str(socket), host, name]
            self._program(name, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self._program("sudo", _SUDO)

    def environment(self, user: str) -> dict[str, str]:
        """Return what a command finds around it; nothing of the caller's own environment."""
        return {
            "PATH": f"{self._bin}:/usr/bin:/bin",
            "HOME": str(self.home),
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.root / "tmp"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            MARK: str(self.root),
        }

    def _program(self, name: str, text: str) -> None:
        path = self._bin / name
        path.write_text(text)
        path.chmod(0o700)
