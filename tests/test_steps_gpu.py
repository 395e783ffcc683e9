"""`gpu.check`: what nvidia-smi says, or how it ends, is a finding and never a failure of the step."""

from typing import Any

import pytest

from bot.steps.kind import CannotPlan
from bot.verdict import Verdict
from tests.parts.posix import answered
from tests.parts.step import host, judge, plan
from tests.test_facts_nvidia_smi import xml

LOST = "Unable to determine the device handle for GPU1: 0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU"
PENDING = ("<remapped_row_pending>No</", "<remapped_row_pending>Yes</")


def test_all_gpus_there_and_sound_is_healthy_and_says_how_many_of_what() -> None:
    seen = judge("gpu.check", {}, answered(xml(8)), host(gpus=8))
    assert seen.ok
    assert seen.verdict is Verdict.HEALTHY
    assert seen.summary == "8 × H100 80GB HBM3, all healthy"
    assert seen.facts["count"] == seen.facts["expected"] == 8
    assert [gpu["index"] for gpu in seen.facts["gpus"]] == list(range(8))


def test_the_step_may_say_how_many_gpus_there_should_be() -> None:
    assert judge("gpu.check", {"expected": 2}, answered(xml(2)), host(gpus=8)).verdict is Verdict.HEALTHY
    fewer = judge("gpu.check", {"expected": 8}, answered(xml(7)), host())
    assert fewer.verdict is Verdict.UNHEALTHY
    assert fewer.summary.startswith("7 of 8 GPUs answer → reboot")


def test_what_can_wait_is_told_and_leaves_the_host_healthy() -> None:
    seen = judge("gpu.check", {}, answered(xml(2, change=PENDING)), host(gpus=2))
    assert seen.verdict is Verdict.HEALTHY
    assert (
        "; GPU 0 (GPU-aaaaaaaa-bbbb-cccc-dddd-000000000019): a remapped row waits for the next reset"
        in seen.summary
    )
    assert "→ schedule a reset" in seen.summary


def test_the_gravest_reason_comes_first_and_the_rest_is_counted() -> None:
    seen = judge("gpu.check", {}, answered(xml(2, change=PENDING), LOST, 15), host(gpus=3))
    assert seen.ok
    assert seen.verdict is Verdict.UNHEALTHY
    assert "GPU is lost" in seen.summary
    assert "→ reboot; and 2 more (2 × H100 80GB HBM3)" in seen.summary
    assert "schedule a reset" in seen.advice


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (answered("", "sh: 1: nvidia-smi: not found", 127), Verdict.UNKNOWN, "nvidia-smi is not installed"),
        (answered("No devices were found\n", "", 6), Verdict.UNHEALTHY, "No devices were found"),
        (
            answered(
                "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure …\n",
                "",
                9,
            ),
            Verdict.UNHEALTHY,
            "couldn't communicate",
        ),
        (answered("", "", 9), Verdict.UNHEALTHY, "the NVIDIA driver is not loaded → reboot"),
        (answered("", "what?", 3), Verdict.UNKNOWN, "exit code 3: what?"),
        (answered("", "", None), Verdict.UNKNOWN, "killed by KILL"),
        (answered(""), Verdict.UNKNOWN, "there is no text"),
        (answered(xml(2)[:900]), Verdict.UNKNOWN, "ends in the middle"),
        (answered(xml(2), "", 14), Verdict.UNHEALTHY, "an infoROM is corrupted"),
        (answered(xml(2), "", 3), Verdict.UNKNOWN, "ended with exit code 3"),
    ],
)
def test_however_nvidia_smi_ends_is_a_finding(answer: Any, verdict: Verdict, words: str) -> None:
    seen = judge("gpu.check", {}, answer, host(gpus=2))
    assert seen.ok
    assert seen.verdict is verdict
    assert words in seen.summary


def test_a_number_of_gpus_that_is_no_number_is_told_before_anything_runs() -> None:
    with pytest.raises(CannotPlan, match=r"`vars\.gpus` of gpu-03 is not a whole number: 'eight'"):
        plan("gpu.check", {}, host(gpus="eight"))
    assert plan("gpu.check", {}, host(gpus=8)).text == "nvidia-smi -q -x"
