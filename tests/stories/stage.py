"""The stage of the stories: real machines as far as one machine can have them, and `sickbay serve` as a child.

gpu-03 and gpu-04 are real sshds on 127.0.1.x; gpu-03's container is a real one, and its replica lives and dies with it;
both stand behind a real HAProxy on lb-01. nvidia-smi replays what a real machine printed.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.sim.slack import PretendSlackThread
from bot.store import Store
from tests.parts.dockerd import Dockerd
from tests.parts.haproxy import HAProxy
from tests.parts.programs import require, short_directory, wait_until
from tests.parts.sshd import Sshd
from tests.parts.vllm import Vllm

CAPTURE = (
    Path(__file__).parents[3]
    / "shared/data/gpu/influxdata__telegraf/plugins/inputs/nvidia_smi/testdata/rtx-4000-sff-ada-v13.xml"
)
SECRET = "a-secret-of-the-story"
LABELS = {"alertname": "VLLMStalled", "severity": "critical", "host": "gpu-03"}
ANNOTATIONS = {"summary": "vLLM on gpu-03 stopped answering"}


class Serve:
    """`sickbay serve` as a child process."""

    def __init__(self, config: Path, environ: Mapping[str, str]) -> None:
        self.config = config
        self.environ = {**os.environ, **environ}
        self.log = config.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "bot", "serve", "--config", str(self.config)]
            self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log)

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            found = re.search(rb"ready on (http://\S+):", self.log.read_bytes()[before:])
            self.address = found[1].decode() if found else ""
            return bool(found)

        wait_until(ready, "`sickbay serve` to be ready", seconds=20)

    def kill(self) -> None:
        """End it as the kernel does when memory is out: no word, no clean-up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as a person does; returns its exit code."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


class Stage:
    """All parts, running."""

    def __init__(
        self,
        folder: Path,
        docker: Dockerd,
        slack: PretendSlackThread,
        sick: Vllm,
        well: Vllm,
        balancer: HAProxy,
    ) -> None:
        self.folder = folder
        self.docker = docker
        self.slack = slack
        self.sick = sick
        self.well = well
        self.balancer = balancer
        self.hosts = {
            name: Sshd(folder / name, address=address)
            for name, address in (("gpu-03", "127.0.1.3"), ("gpu-04", "127.0.1.4"), ("lb-01", "127.0.1.100"))
        }
        self._tools()
        self.serve = Serve(self._configuration(), self._environ())

    def _tools(self) -> None:
        """Give the GPU hosts what a GPU host has: a driver's nvidia-smi, and docker on its own socket."""
        for name in ("gpu-03", "gpu-04"):
            self.hosts[name].program("nvidia-smi", f"#!/bin/sh\nexec cat {CAPTURE}\n")
            docker = require("docker", package="docker.io")
            self.hosts[name].program(
                "docker", f'#!/bin/sh\nDOCKER_HOST={self.docker.env["DOCKER_HOST"]} exec {docker} "$@"\n'
            )

    def _configuration(self) -> Path:
        known = self.folder / "known_hosts"
        known.write_text("".join(host.known_hosts_line() for host in self.hosts.values()))
        keys = [str(host.identity) for host in self.hosts.values()]
        balancer = {"host": "lb-01", "socket": str(self.balancer.socket)}

        def machine(name: str, **values: Any) -> dict[str, Any]:
            host = self.hosts[name]
            return {"address": host.address, "port": host.port, "user": host.user, **values}

        text = {
            "slack": {"channel": "oncall", "base_url": self.slack.slack.base_url},
            "web": {"listen": "127.0.0.1:0"},
            "ssh": {"known_hosts": str(known), "identity_files": keys},
            "hosts": {
                name: machine(
                    name,
                    groups=["serving"],
                    vars={"gpus": 1, "haproxy": {**balancer, "server": f"be_vllm/{name}"}},
                )
                for name in ("gpu-03", "gpu-04")
            }
            | {"lb-01": machine("lb-01")},
            "people": {
                "alice": {"slack": "U0ALICE", "roles": ["oncall"]},
                "bob": {"slack": "U0BOB", "roles": ["oncall"]},
            },
            "routes": [
                {
                    "match": {"alertname": "VLLMStalled"},
                    "runbook": "restart-container",
                    "inputs": {
                        "port": int(self.sick.address.rpartition(":")[2]),
                        "window": "1s",
                        "grace": "5s",
                        "drain_wait": "4s",
                    },
                }
            ],
        }
        path = self.folder / "sickbay.yaml"
        path.write_text(yaml.safe_dump(text))
        return path

    def _environ(self) -> dict[str, str]:
        return {
            "SLACK_BOT_TOKEN": self.slack.slack.bot_token,
            "SLACK_APP_TOKEN": self.slack.slack.app_token,
            "SICKBAY_ALERTMANAGER_SECRET": SECRET,
        }

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Read the database as another process would."""
        store = Store(self.folder / "sickbay.db")
        try:
            yield store
        finally:
            store.close()

    def texts(self) -> list[str]:
        """Return what the channel's messages and their threads say now, as plain text."""
        slack = self.slack.slack
        roots = slack.messages("oncall")
        return [repr(message) for root in roots for message in [root, *slack.thread("oncall", root.ts)]]


@pytest.fixture
def stage(dockerd: Dockerd) -> Iterator[Stage]:
    """Set the stage: everything runs but Sickbay itself."""
    if not CAPTURE.exists():
        pytest.skip("the captures of real machines are missing: ../shared/data/gpu")
    dockerd.run("vllm")
    with ExitStack() as stack:
        folder = stack.enter_context(short_directory("story"))
        slack = stack.enter_context(PretendSlackThread())
        sick = stack.enter_context(Vllm(started_at=lambda: dockerd.started_at("vllm")))
        well = stack.enter_context(Vllm())
        servers = {"gpu-03": sick.address, "gpu-04": well.address}
        balancer = stack.enter_context(HAProxy(folder, servers))
        one = Stage(folder, dockerd, slack, sick, well, balancer)
        for host in one.hosts.values():
            stack.enter_context(host)
        stack.callback(one.serve.stop)
        yield one
