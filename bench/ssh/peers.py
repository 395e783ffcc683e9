"""Who takes part, and who cannot: a peer that is not installed is left out by name, with what to do about it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """One client of the comparison."""

    name: str
    module: str
    """Its file in `clients`."""
    venv: str = "peers"
    """Whose packages it needs: a file in `requirements`, or ours when empty."""
    needs: str = ""
    """What must be importable there."""
    program: str = ""
    """What it starts, from its virtual environment or from a Debian package."""
    cold: bool = True
    warm: bool = True
    most: int = 1000
    """Hosts it can take at all."""
    keeps: bool = True
    """Can one process do the cold pass and then the warm ones? A program is told to keep nothing for the cold one."""

    @property
    def python(self) -> str:
        """Return the interpreter that has its packages."""
        return str(HERE / ".venv" / self.venv / "bin/python") if self.venv else sys.executable

    @property
    def path(self) -> str:
        """Return where its programs are looked for."""
        return os.pathsep.join([str(Path(self.python).parent), os.environ.get("PATH", "")])

    @property
    def lack(self) -> str:
        """Return why it cannot take part, or nothing."""
        if not Path(self.python).exists():
            return "its packages are not installed: make bench-ssh installs them"
        if self.program and not shutil.which(self.program, path=self.path):
            return f"there is no {self.program}: on Debian, make bench-ssh installs it as root"
        if self.needs:
            words = [self.python, "-c", f"import {self.needs}"]
            tried = subprocess.run(words, capture_output=True, text=True, check=False)
            if tried.returncode:
                return (tried.stderr.strip().splitlines() or ["it cannot be imported"])[-1]
        return ""


OURS = "ours"
PEERS = (
    Peer(OURS, "ours", venv=""),
    Peer("asyncssh", "asyncssh", needs="asyncssh"),
    Peer("paramiko", "paramiko", needs="paramiko"),
    Peer("parallel-ssh", "parallel_ssh", needs="pssh"),
    # it starts a thread a host: three passes over 1,000 were not done in six minutes
    Peer("fabric", "fabric", needs="fabric", most=300),
    Peer("pyinfra", "pyinfra", venv="pyinfra", needs="pyinfra"),
    Peer("openssh", "openssh", venv="", program="ssh", keeps=False),
    Peer("pdsh", "pdsh", venv="", program="pdsh", warm=False, keeps=False),
    Peer("clush", "clush", program="clush", warm=False, keeps=False),
    Peer("ansible", "ansible", program="ansible", keeps=False),
)


def chosen(names: str) -> list[Peer]:
    """Return the peers of a comma-separated list, ours first; who cannot take part is named and left out."""
    known = {peer.name: peer for peer in PEERS}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such client; there are {', '.join(known)}")
    found = []
    for peer in PEERS:
        if peer.name not in wanted:
            continue
        if lack := peer.lack:
            print(f"left out: {peer.name}: {lack}", file=sys.stderr)
        else:
            found.append(peer)
    return found
