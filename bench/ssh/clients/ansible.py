"""Ansible's `raw`, which needs nothing on the host: without kept connections, or with ControlPersist."""

import json
from collections.abc import Mapping

from bench.ssh.program import Program
from bench.ssh.task import Task, drive


class Ansible(Program):
    """One `ansible` a pass."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._answers = self.folder / "answers"
        inventory = self.folder / "inventory"
        inventory.write_text(
            "".join(f"{host}\n" for host in task.hosts)
            + f"[all:vars]\nansible_port={task.port}\nansible_user={task.user}\n",
            "ascii",
        )
        (self.folder / "ansible.cfg").write_text("")
        self._words = ["ansible", "all", "-i", str(inventory), "-f", str(task.parallel)]
        self._words += ["-t", str(self._answers), "-m", "raw", "-a", task.command]
        kept = "auto -o ControlPersist=600" if task.keep else "no -o ControlPersist=no"
        self._environ = {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "ansible/tmp"),
            "ANSIBLE_SSH_ARGS": f"-F {self.config} -o ControlMaster={kept}",
            "ANSIBLE_SSH_CONTROL_PATH": f"{self.folder}/%%h",
            "ANSIBLE_SSH_USETTY": "false",  # a terminal would turn each end of line into two bytes
            "ANSIBLE_DEPRECATION_WARNINGS": "false",
        }

    def fan_out(self) -> None:
        """Run the command on every host and take the answers."""
        self.run(self._words, **self._environ)

    def answers(self) -> Mapping[str, bytes]:
        """Return what each host wrote in the last pass."""
        found: dict[str, bytes] = {}
        for path in self._answers.iterdir() if self._answers.exists() else ():
            found[path.name] = str(json.loads(path.read_text("utf-8")).get("stdout", "")).encode()
            path.unlink()
        return found


if __name__ == "__main__":
    drive(Ansible)
