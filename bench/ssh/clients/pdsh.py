"""Debian's pdsh with its `ssh` module."""

from bench.ssh.program import Program
from bench.ssh.task import drive


class Pdsh(Program):
    """One `pdsh` a pass."""

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        words = ["pdsh", "-R", "ssh", "-f", str(self.task.parallel), "-w", f"^{self.hosts}"]
        self.run([*words, self.task.command], PDSH_SSH_ARGS_APPEND=f"-F {self.config}")


if __name__ == "__main__":
    drive(Pdsh)
