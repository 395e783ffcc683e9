"""The docker kinds: judged on docker's words, and on a real container that is really restarted."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.effect import Finished
from bot.steps.docker import InspectArguments
from bot.verdict import Verdict
from tests.parts.dockerd import Dockerd
from tests.parts.posix import SHELLS, answered, only
from tests.parts.programs import SYSTEM_PATH
from tests.parts.step import do, judge, plan

NOW = 1_767_236_400  # 2026-01-01 03:00 UTC
STARTED = "2025-12-31T21:00:00.123456789Z"


def inspected(restarts: int = 0, **state: Any) -> Finished:
    entry = {
        "Id": "0f3a",
        "Name": "/vllm",
        "RestartCount": restarts,
        "State": {"Status": "running", "Running": True, "ExitCode": 0, "StartedAt": STARTED} | state,
    }
    return answered(f"{NOW}\n{json.dumps([entry])}\n")


def test_a_container_that_docker_shows_and_then_fails_over_is_not_called_healthy() -> None:
    found = judge("docker.inspect", {"name": "vllm"}, replace(inspected(), exit_code=1))
    assert found.verdict is Verdict.UNKNOWN
    assert found.summary == "running for 6 h; but the command ended with exit code 1"
    gone = judge("docker.inspect", {"name": "vllm"}, replace(inspected(Status="exited"), exit_code=1))
    assert gone.verdict is Verdict.UNHEALTHY, "what is bad stays bad"


@pytest.mark.parametrize(
    ("answer", "verdict", "summary"),
    [
        (inspected(), Verdict.HEALTHY, "running for 6 h"),
        (inspected(restarts=2), Verdict.HEALTHY, "running for 6 h, restarted 2 times by docker"),
        (
            inspected(OOMKilled=True),
            Verdict.HEALTHY,
            "running for 6 h, a process in it was killed for lack of memory",
        ),
        (
            inspected(restarts=12, StartedAt="2026-01-01T02:59:20Z", ExitCode=1),
            Verdict.UNHEALTHY,
            "in a crash loop: running only for 40 s, restarted 12 times by docker, exit code 1",
        ),
        (
            inspected(restarts=3, Status="restarting", ExitCode=1),
            Verdict.UNHEALTHY,
            "in a restart loop, restarted 3 times by docker, exit code 1",
        ),
        (
            inspected(Status="exited", Running=False, FinishedAt="2026-01-01T02:57:00Z"),
            Verdict.UNHEALTHY,
            "exited for 3 min, exit code 0",
        ),
        (
            inspected(Status="exited", ExitCode=137, OOMKilled=True, FinishedAt="2026-01-01T02:57:00Z"),
            Verdict.UNHEALTHY,
            "exited for 3 min, killed for lack of memory",
        ),
        (
            inspected(Health={"Status": "unhealthy"}),
            Verdict.UNHEALTHY,
            "running for 6 h, but the image's own health check fails",
        ),
        (
            inspected(Status="created", StartedAt="0001-01-01T00:00:00Z", Error="no such device"),
            Verdict.UNHEALTHY,
            "created and never started (no such device)",
        ),
        (inspected(Status="paused"), Verdict.UNHEALTHY, "paused for 6 h"),
        (inspected(Status="dreaming"), Verdict.UNKNOWN, "docker does not say what state the container is in"),
        (
            answered(f"{NOW}\n[]\n", "Error: No such container: vllm\n", 1),
            Verdict.UNHEALTHY,
            "there is no container called vllm",
        ),
        (answered("", "sh: 1: docker: not found\n", 127), Verdict.UNKNOWN, None),
        (answered(f"{NOW}\n", "permission denied while trying to connect", 1), Verdict.UNKNOWN, None),
        (answered(f"{NOW}\n[{{"), Verdict.UNKNOWN, None),
    ],
)
def test_the_state_of_a_container_is_judged(answer: Finished, verdict: Verdict, summary: str | None) -> None:
    seen = judge("docker.inspect", {"name": "vllm"}, answer)
    assert seen.ok
    assert seen.verdict is verdict
    assert summary in (None, seen.summary)


def test_a_docker_that_may_not_be_used_says_what_to_do() -> None:
    denied = answered(f"{NOW}\n", "permission denied while trying to connect to the Docker daemon socket", 1)
    assert "group `docker`" in judge("docker.inspect", {"name": "vllm"}, denied).advice
    down = answered(f"{NOW}\n", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", 1)
    assert "systemctl status docker" in judge("docker.inspect", {"name": "vllm"}, down).advice


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answered(f"before {STARTED} running\nvllm\nafter {STARTED} running\n"), "still runs since"),
        (
            answered(f"before {STARTED} running\nvllm\nafter 2026-01-01T03:00:01Z exited\n"),
            "was started again at 2026-01-01 03:00:01 UTC and is exited",
        ),
        (
            answered(f"before {STARTED} running\n", "Error: did not receive an exit event\n", 1),
            "was not restarted",
        ),
        (answered("", "Error: No such object: vllm\n", 1), "No such object"),
        (answered(""), "still runs since an unknown time"),
        (answered("", "", None), "killed by KILL"),
    ],
)
def test_a_restart_is_believed_only_when_the_start_time_has_changed(answer: Finished, words: str) -> None:
    seen = judge("docker.restart", {"name": "vllm"}, answer)
    assert not seen.ok
    assert words in seen.summary


def test_a_restart_tells_both_times() -> None:
    answer = answered(f"before {STARTED} running\nvllm\nafter 2026-01-01T03:00:01.5Z running\n")
    seen = judge("docker.restart", {"name": "vllm"}, answer)
    assert seen.ok
    assert (
        seen.summary == "vllm restarted at 2026-01-01 03:00:01 UTC; it had run since 2025-12-31 21:00:00 UTC"
    )
    assert seen.facts["started_before"] == STARTED


def test_the_restart_has_time_for_its_grace() -> None:
    command = plan("docker.restart", {"name": "vllm", "grace": "90s"})
    assert command.mutating
    assert command.env == {"NAME": "vllm", "GRACE": "90"}
    assert command.timeout > 90


@pytest.mark.parametrize("name", ["", "-f", "a b", "$(reboot)", "a;b", "../a", "a\nb", "x" * 129])
def test_a_name_that_is_no_containers_name_is_refused(name: str) -> None:
    for kind in ("docker.inspect", "docker.restart"):
        with pytest.raises(ValueError, match="validation error"):
            plan(kind, {"name": name})
    assert InspectArguments(name="vllm-0_a.b").name == "vllm-0_a.b"


def test_a_host_without_docker_is_unknown_and_nothing_is_restarted(tmp_path: Path) -> None:
    path = only(tmp_path / "bin")
    assert "docker is not installed" in do("docker.inspect", {"name": "vllm"}, path=path).summary
    assert not do("docker.restart", {"name": "vllm"}, path=path).ok


@pytest.mark.timeout(180)
def test_a_real_container_is_inspected_without_its_secrets_and_restarted(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    dockerd.run("vllm", "--env", "HF_TOKEN=hf_secret")
    path = only(tmp_path / "bin")
    (tmp_path / "bin/docker").symlink_to(os.path.realpath(shutil.which("docker", path=SYSTEM_PATH) or ""))
    how: dict[str, Any] = {"path": path, "env": dockerd.env}
    for shell in SHELLS:
        before = dockerd.started_at("vllm")
        restarted = do("docker.restart", {"name": "vllm", "grace": "5s"}, shell=shell, **how)
        assert restarted.ok, restarted.summary
        assert restarted.facts["started_before"] == before
        assert restarted.facts["started_after"] == dockerd.started_at("vllm") != before

        seen = do("docker.inspect", {"name": "vllm"}, shell=shell, **how)
        assert seen.verdict is Verdict.HEALTHY, seen.summary
        assert seen.facts["age_s"] < 60
        assert seen.facts["restart_policy"] == "no"
        assert "hf_secret" not in json.dumps(dict(seen.facts))

    dockerd.docker("stop", "--time", "5", "vllm")
    ended = do("docker.inspect", {"name": "vllm"}, **how)
    assert ended.verdict is Verdict.UNHEALTHY
    assert ended.summary.startswith("exited for ")
    missing = do("docker.inspect", {"name": "nobody"}, **how)
    assert missing.verdict is Verdict.UNHEALTHY
    assert missing.summary == "there is no container called nobody"
    assert not do("docker.restart", {"name": "nobody"}, **how).ok
