"""A host whose login user is not root, with a real sudo: an sshd in a mount namespace with files of its own in /etc.

The system's own users and sudoers stay as they are; only what runs in the namespace sees the others.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.parts.programs import Child, leave_out, require, require_root
from tests.parts.sshd import Sshd

USER, UID = "sbops", 47110


class Foreign(Sshd):
    """An sshd with one ordinary user, and the sudoers that a test wants."""

    def __init__(self, directory: Path, sudoers: str, *, address: str = "127.0.1.7") -> None:
        require_root("another user")
        require("sudo", package="sudo")
        unshare = require("unshare", package="util-linux")
        if subprocess.run([unshare, "-m", "true"], check=False, capture_output=True).returncode:
            leave_out("mount namespaces are not allowed here")
        super().__init__(directory, address=address)
        self.user = USER
        for path in (directory.parent, directory):
            path.chmod(0o755)  # the user reads authorized_keys
        for path in (self.home, self.state):
            os.chown(path, UID, UID)
        etc = directory / "etc"
        etc.mkdir()
        for name, mode, line in (
            ("passwd", 0o644, f"{USER}:x:{UID}:{UID}::{self.home}:/bin/sh\n"),
            ("group", 0o644, f"{USER}:x:{UID}:\n"),
            ("shadow", 0o600, f"{USER}:*:19000:0:99999:7:::\n"),
        ):
            shutil.copy(f"/etc/{name}", etc / name)
            with (etc / name).open("a") as file:
                file.write(line)
            (etc / name).chmod(mode)
        (etc / "sudoers").write_text(f"Defaults env_reset, !lecture\nroot ALL=(ALL) ALL\n{sudoers}\n")
        (etc / "sudoers").chmod(0o440)
        mounts = "".join(
            f"mount --bind {shlex.quote(str(path))} /etc/{path.name}\n" for path in etc.iterdir()
        )
        sshd = require("sshd", package="openssh-server")
        serve = f"{mounts}exec {sshd} -D -e -f {shlex.quote(str(directory / 'sshd_config'))}"
        self._child = Child([unshare, "-m", "sh", "-ec", serve], directory / "sshd.log")
