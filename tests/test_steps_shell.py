"""The plain step: a command of the runbook's own, judged by its exit code and read by the parser it names."""

from pathlib import Path
from typing import Any

import pytest

from bot.effect import Finished, Output
from bot.language.runbook import Step
from bot.language.template import TemplateError
from bot.steps import shell
from tests.parts.posix import SHELLS, answered, run
from tests.parts.step import host
from tests.test_facts_nvidia_smi import xml


def step(**fields: Any) -> Step:
    return Step.model_validate({"id": "it", **fields})


def test_a_command_that_ends_well_is_summed_up_by_its_last_line() -> None:
    seen = shell.judge(step(run="x"), answered("one\n\ntwo\n\n"), host())
    assert seen.ok
    assert seen.summary == "two"
    assert shell.judge(step(run="x"), answered(), host()).summary == "done, and printed nothing"
    assert seen.verdict is None


def test_a_command_that_ends_badly_failed_and_says_its_last_words() -> None:
    seen = shell.judge(step(run="x"), answered("out\n", "first\nno space left on device\n", 2), host())
    assert not seen.ok
    assert seen.summary == "exit code 2: no space left on device"
    assert shell.judge(step(run="x"), answered("", "", None), host()).summary == "killed by KILL"
    assert "full path" in shell.judge(step(run="x"), answered("", "", 127), host()).advice


def test_what_a_host_prints_cannot_paint_the_summary_or_flood_it() -> None:
    seen = shell.judge(step(run="x"), answered("\x1b[31mred\x07" + "x" * 5000), host())
    assert "\x1b" not in seen.summary
    assert len(seen.summary) <= 300


def test_a_parser_gives_facts() -> None:
    seen = shell.judge(step(run="x", parse="nvidia_smi"), answered(xml(2)), host())
    assert seen.ok
    assert len(seen.facts["gpus"]) == 2


def test_what_the_parser_cannot_read_is_a_failure_that_says_so() -> None:
    seen = shell.judge(step(run="x", parse="nvidia_smi"), answered("hello"), host())
    assert not seen.ok
    assert "expected the XML of `nvidia-smi -q -x`" in seen.summary
    assert "'hello'" in seen.summary


def test_a_failed_command_still_gives_the_facts_there_are() -> None:
    seen = shell.judge(step(run="x", parse="nvidia_smi"), answered(xml(2), "boom", 1), host())
    assert not seen.ok
    assert len(seen.facts["gpus"]) == 2
    assert (
        shell.judge(step(run="x", parse="nvidia_smi"), answered("", "boom", 1), host()).summary
        == "exit code 1: boom"
    )


def test_output_that_was_cut_is_not_read_as_whole() -> None:
    cut = Finished(0, Output(xml(2).encode(), 5_000_000), Output())
    seen = shell.judge(step(run="x", parse="nvidia_smi"), cut, host())
    assert not seen.ok
    assert "of 5000000 bytes were kept" in seen.summary


@pytest.mark.parametrize("which", SHELLS)
@pytest.mark.parametrize("form", ["text", "list"])
def test_hostile_values_reach_the_command_as_they_are(which: str, form: str, tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/x) `touch {tmp_path}/x` '\"\n; touch {tmp_path}/x -o \\"
    context = {**host(), "alert": {"labels": {"model": hostile}}}
    text: Any = 'printf %s "{{ alert.labels.model }}"'
    given = step(run=text if form == "text" else ["printf", "%s", "{{ alert.labels.model }}"])
    effect = shell.plan(given, context)
    assert hostile not in effect.command.text
    assert run(effect.command, which).stdout.data.decode() == hostile
    assert not (tmp_path / "x").exists()


def test_a_value_nobody_knows_is_an_error_before_anything_is_sent() -> None:
    with pytest.raises(TemplateError, match="not known"):
        shell.plan(step(run='echo "{{ inputs.nobody }}"'), host())


def test_the_steps_timeout_is_the_commands() -> None:
    assert shell.plan(step(run="true", timeout="5m"), host()).command.timeout == 300
