"""`host.capture`: evidence read by a real shell from a host that has much, little or nothing, within its time."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import clock, evidence
from bot.clock import Offset
from bot.effect import KEEP, Command, Finished, Output
from bot.evidence import Part
from bot.facts import FactsError, capture
from bot.steps.kind import Judgement
from tests.parts.dockerd import Dockerd
from tests.parts.posix import SHELLS, answered, run
from tests.parts.programs import SYSTEM_PATH
from tests.parts.step import judge, plan

PROGRAMS = {
    "uptime": "echo up 3 days",
    "journalctl": "echo 'NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.'",
    "nvidia-smi": 'case "$*" in *query-compute-apps=pid*) echo 4711 ;; *) echo "nvidia-smi $*" ;; esac',
    "docker": 'case $1 in logs) echo "last words of $6" ;; *) echo "docker $*" ;; esac',
}


def programs(folder: Path, given: dict[str, str]) -> str:
    """Put programs before the real ones on a PATH."""
    folder.mkdir(exist_ok=True)
    for name, text in given.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o700)
    return f"{folder}:{SYSTEM_PATH}"


def plan_of(*parts: Part, within: int = 30) -> Command:
    """Return a capture of these parts alone."""
    return Command(evidence.script(parts, within))


def captured(answer: Finished) -> dict[str, capture.Part]:
    """Return the parts by name."""
    return {part.name: part for part in capture.parse(answer.stdout.text).parts}


@pytest.mark.parametrize("shell", SHELLS)
def test_all_parts_are_read_and_what_the_host_does_not_have_is_said(shell: str, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", {name: PROGRAMS[name] for name in ("uptime", "journalctl", "docker")})
    answer = run(plan("host.capture", {"container": "vllm"}), shell, path=path)
    parts = captured(answer)
    assert set(parts) == {part.name for part in evidence.pack(container=True)}
    assert parts["uptime"].state == "kept"
    assert "Xid" in parts["kernel_log"].text
    assert parts["logs"].text == "last words of vllm\n"
    assert {parts[name].state for name in ("gpus", "nvlink", "topology")} == {"not there"}
    said = judge("host.capture", {"container": "vllm"}, answer)
    assert said.ok
    assert "not there: gpus, gpu_holders, holder_processes, nvlink, nvlink_errors, topology" in said.summary


@pytest.mark.parametrize("shell", SHELLS)
def test_a_part_that_hangs_is_cut_off_and_costs_the_others_nothing(shell: str, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", {"slow": "echo begun; exec sleep 60"})
    parts = captured(run(plan_of(Part("slow", "slow", 1), Part("quick", "echo here")), shell, path=path))
    assert parts["slow"].state == "late"
    assert parts["slow"].text.startswith("begun\n")
    assert (parts["quick"].state, parts["quick"].text) == ("kept", "here\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_once_the_box_is_used_up_the_rest_is_skipped_and_said_to_be(shell: str) -> None:
    parts = captured(run(plan_of(Part("slow", "sleep 60", 30), Part("never", "echo x"), within=1), shell))
    assert [parts[name].state for name in ("slow", "never")] == ["late", "skipped"]


@pytest.mark.parametrize("shell", SHELLS)
def test_of_a_long_part_the_wanted_end_is_kept(shell: str) -> None:
    flood = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"
    parts = captured(run(plan_of(Part("first", flood, 8, 7), Part("last", flood, 8, 10, "tail")), shell))
    assert parts["first"].text == "line 0\n"
    assert parts["last"].text == "line 4999\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_hosts_clock_is_told_before_and_after_and_no_output_can_tell_another(shell: str) -> None:
    sent = datetime.now(UTC)
    answer = run(plan_of(Part("liar", "echo 'm clock 1 1'; echo 'capture m'")), shell)
    said = judge("host.capture", {}, answer)
    first, last = (clock.reading(*one) for one in said.facts["clock"])
    assert first is not None
    assert last is not None
    assert first.uptime is not None
    found = clock.measure(sent, datetime.now(UTC), first, last)
    assert isinstance(found, Offset)
    assert abs(found.seconds) <= found.within < 5
    assert found.booted is not None
    assert found.booted < sent


def test_output_that_looks_like_a_frame_opens_none() -> None:
    fake = "x begin gpus\nall fine\nx end gpus 0\n"
    parts = captured(answered(f"capture 8f3a\n8f3a begin logs\n{fake}\n8f3a end logs 0\n"))
    assert list(parts) == ["logs"]
    assert parts["logs"].text == fake


def test_what_came_before_the_time_was_over_is_kept_and_the_rest_is_said_to_be_late() -> None:
    half = "capture m\nm begin boot\nid\n\nm end boot 0\nm begin gpus\n<?xml"
    said = judge("host.capture", {}, Finished(None, Output(half.encode(), len(half)), Output()))
    assert said.ok
    assert said.summary == "1 of 2 parts kept; late: gpus"


@pytest.mark.parametrize(
    ("printed", "summary"),
    [
        ("", "nothing could be captured: exit code 1"),
        ("This account is not available.\n", "nothing could be captured: exit code 1: This account"),
        ("capture m\nm begin gpus\n\nm end gpus 127\n", "nothing could be captured; not there: gpus"),
        ("capture m\nm begin gpus\n\nm end gpus skipped\n", "nothing could be captured; skipped: gpus"),
    ],
)
def test_a_capture_of_nothing_has_failed(printed: str, summary: str) -> None:
    said: Judgement = judge("host.capture", {}, answered(printed, exit_code=1))
    assert not said.ok
    assert said.summary.startswith(summary)


def test_of_a_containers_environment_only_the_names_are_asked_for() -> None:
    for known in (True, False):
        (inspect,) = (part for part in evidence.pack(container=known) if part.name == "inspect")
        assert 'index (split . "=") 0' in inspect.command
        assert "json .Config.Env" not in inspect.command
        assert "json .Config}" not in inspect.command
        assert "Args" not in inspect.command


CONTAINERS = next(part for part in evidence.HOST if part.name == "containers")


def test_of_all_containers_the_command_is_not_asked_for(tmp_path: Path) -> None:
    listing = 'case "$*" in *--format*) echo "$*" ;; *) echo "COMMAND serve --api-key hunter22" ;; esac'
    path = programs(tmp_path / "bin", {"docker": listing})
    text = captured(run(plan_of(CONTAINERS), path=path))["containers"].text
    assert "hunter22" not in text
    assert ".Names" in text
    assert "Command" not in text


@pytest.mark.timeout(180)
def test_of_a_real_container_the_command_is_not_kept(dockerd: Dockerd, tmp_path: Path) -> None:
    dockerd.run("vllm")
    assert "trap" in dockerd.docker("ps", "--all", "--no-trunc"), "its command stands in a plain listing"
    path = programs(tmp_path / "bin", {})
    (tmp_path / "bin/docker").symlink_to(os.path.realpath(shutil.which("docker", path=SYSTEM_PATH) or ""))
    text = captured(run(plan_of(CONTAINERS), path=path, env=dockerd.env))["containers"].text
    assert [line.split()[-1] for line in text.splitlines()] == ["NAMES", "vllm"]
    assert "trap" not in text


def test_all_parts_together_are_less_than_what_is_kept_of_a_stream() -> None:
    for known in (True, False):
        assert sum(part.size + 200 for part in evidence.pack(container=known)) < KEEP


@given(st.text(max_size=300))
def test_the_parser_reads_anything_or_refuses_it(text: str) -> None:
    for printed in (text, f"capture m\n{text}", f"capture m\nm begin a\n{text}"):
        try:
            capture.parse(printed)
        except FactsError:
            continue


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_whatever_the_parts_printed_comes_back_as_it_was(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts if "m end" not in text]
    frames = "".join(f"m begin p{at}\n{text}\nm end p{at} 0\n" for at, text in enumerate(texts))
    parts = capture.parse("capture m\n" + frames).parts
    assert [part.text for part in parts] == texts


@pytest.mark.parametrize(("exit_code", "how"), [(137, "exit code 137"), (None, "killed by KILL")])
def test_a_capture_that_something_ended_is_no_whole_one_though_each_part_of_it_is(
    exit_code: int | None, how: str
) -> None:
    found = judge(
        "host.capture", {}, answered("capture 0\n0 begin uptime\nup\n0 end uptime 0\n", "", exit_code)
    )
    assert (found.ok, found.facts["parts"]) == (False, {"uptime": "kept"})
    assert found.summary == f"the capture broke off with {how}: 1 part kept"
