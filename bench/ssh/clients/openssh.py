"""OpenSSH's own `ssh`, 64 at once by xargs: a new connection each, or with ControlMaster the kept ones."""

from collections.abc import Mapping

from bench.ssh.program import Program
from bench.ssh.task import Task, drive


class OpenSsh(Program):
    """One `ssh` a host and pass."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._answers = self.folder / "answers"
        self._answers.mkdir()
        self._script = self.folder / "one"
        self._script.write_text(
            f'exec ssh -n -F {self.config} "$1" \'{task.command}\' >{self._answers}/"$1"\n', "utf-8"
        )

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        self.run(["xargs", "-a", self.hosts, "-P", str(self.task.parallel), "-n", "1", "sh", self._script])

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        return {path.name: path.read_bytes() for path in self._answers.iterdir()}


if __name__ == "__main__":
    drive(OpenSsh)
