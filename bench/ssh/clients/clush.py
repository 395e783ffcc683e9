"""ClusterShell's clush, which starts one `ssh` a host."""

from bench.ssh.program import Program
from bench.ssh.task import drive


class Clush(Program):
    """One `clush` a pass."""

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        words = ["clush", "-q", "-f", str(self.task.parallel), "--hostfile"]
        self.run([*words, self.hosts, "-o", f"-F {self.config}", self.task.command])


if __name__ == "__main__":
    drive(Clush)
