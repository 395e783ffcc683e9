"""Runbook tests are replayed by the real engine, and fail for everything that is not as they say."""

import re
import time
from pathlib import Path
from textwrap import dedent, indent

import pytest

from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.library import load_runbook, runbook_files
from bot.rehearsal import Result, rehearse
from bot.shipped import shipped
from bot.steps import KINDS

BOOK = """\
version: 1
name: mend
description: Mend it
kind: mutate
triggers: [{command: true}]
inputs:
  what: {type: string, pattern: "[a-z]+", default: disk}
approval: {required: 2, from: [oncall]}
steps:
  - {id: look, run: 'cat "/proc/{{ inputs.what }}"', mutates: false}
  - {id: change, when: "'broken' in steps.look.stdout", run: 'mend "{{ inputs.what }}"', timeout: 30s}
verify:
  - {id: proof, run: 'cat "/proc/{{ inputs.what }}"', mutates: false, expect: "'fine' in result.stdout", retries: 3, delay: 10m}
rescue:
  - {id: note, run: "dmesg", mutates: false}
timeout: 2h
"""

GOOD = """\
given:
  hosts: {gpu-01: {}}
  replies:
    - {step: look, stdout: broken}
    - {match: "^mend ", delay: 20s}
    - {step: proof, times: 2, stdout: not yet}
    - {step: proof, stdout: fine}
approve: [ana, ben]
expect:
  state: succeeded
  plan: ["gpu-01 change: run mend", "sickbay_1=disk"]
  approvals: [{hosts: gpu-01, answer: approved}]
  messages: [Approve mend on gpu-01?, "Does: mend", "1 of 2 approvals: ana", Done · mend · gpu-01]
  steps: {gpu-01: {look: ok, change: ok, proof: ok, note: not run}}
"""


def replay(folder: Path, case: str = GOOD, *, book: str = BOOK) -> Result:
    """Replay one case of the runbook `mend`."""
    (folder / "mend.yaml").write_text(book)
    (folder / "mend.test.yaml").write_text(f"it is mended:\n{indent(dedent(case), '  ')}")
    (result,) = rehearse([folder])
    return result


def test_a_secret_is_known_by_its_name_in_a_test_too(tmp_path: Path) -> None:
    book = BOOK.replace('mend "{{ inputs.what }}"', 'mend "{{ secrets.hf_token }}"')
    told = replay(tmp_path, GOOD.replace("sickbay_1=disk", "sickbay_1=‹secret hf_token›"), book=book)
    assert told.passed, told.problems


def changed(*changes: tuple[str, str]) -> str:
    case = GOOD
    for old, new in changes:
        assert old in case
        case = case.replace(old, new)
    return case


def test_every_shipped_runbook_has_tests_and_passes_them() -> None:
    folder = shipped("runbooks")
    results = list(rehearse([folder]))
    assert [result for result in results if not result.passed] == []
    for book in runbook_files(folder):
        assert any(result.name.startswith(f"{book.stem}: ") for result in results), book


def test_a_case_that_goes_as_it_says_passes_and_waits_for_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    result = replay(tmp_path)
    assert result.problems == ()
    assert result.passed
    assert result.name == "mend: it is mended"
    assert time.monotonic() - began < 20, "twenty minutes of retries are jumped over"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([("state: succeeded", "state: failed")], "expected the run to be failed, it is succeeded"),
        ([("change: ok", "change: skipped")], "expected step change on gpu-01 to be skipped, it is ok"),
        ([("note: not run", "note: ok")], "expected step note on gpu-01 to be ok, it is not run"),
        ([("note: not run", "notes: not run")], "names the step notes, which the runbook does not have"),
        ([("{gpu-01: {look", "{gpu-1: {look")], "names the host gpu-1, which is not given"),
        (
            [("sickbay_1=disk", "sickbay_1=tape")],
            "expected 'sickbay_1=tape' in the plan, which is:\n  gpu-01 evidence:",
        ),
        (
            [("state: succeeded", "state: succeeded\n  verdict: healthy")],
            "expected the verdict healthy, it is null",
        ),
        ([("state: succeeded", "state: succeeded\n  reason: because")], "expected 'because' in the reason"),
        ([("    - {step: look, stdout: broken}\n", "")], 'no reply for step look on gpu-01: cat "/proc/'),
        (
            [("{step: proof, stdout: fine}", "{step: proof, stdout: fine}\n    - {step: note}")],
            "reply 5 (step: note) was never used",
        ),
        ([("times: 2", "times: 9")], "reply 3 (step: proof) was 4 of 9 times used"),
        ([("approve: [ana, ben]", "approve: [ana, ben, eva]")], "eva was not asked for approval"),
        (
            [("approve: [ana, ben]", "approve: [ana, ana, ben]")],
            "ana could not approve: You have answered already",
        ),
        ([("approve: [ana, ben]", "approve: [ana]")], "Nobody approved in time"),
        ([("stdout: broken", "stdout: in order")], "ana was not asked for approval"),
        ([("gpu-01: {}", "gpu-01: {}}\n  inputs: {what: NO")], "'NO' does not match [a-z]+"),
        ([("gpu-01: {}", 'gpu-01: {}}\n  on: "@none"\n  inputs: {')], "@none"),
        ([("step: look, stdout", "stdout")], "a reply names its `step`, or a `match` for the command"),
        ([("^mend ", "(mend")], "not a regular expression"),
        ([("expect:", "expects:")], "unknown key `expects`"),
        ([("state: succeeded", "state: running")], "`state`: expected `succeeded`"),
        (
            [("[{hosts: gpu-01, answer: approved}]", "0")],
            "expected 0 questions to people, asked were: gpu-01 (approved)",
        ),
        ([("answer: approved", "answer: denied")], "expected the question to be denied, it is approved"),
        (
            [("{hosts: gpu-01, answer: approved}", "{}, {}")],
            "expected 2 questions to people, asked were: gpu-01 (approved)",
        ),
        (
            [("gpu-01: {}", "gpu-01: {}, gpu-02: {}"), ("[{hosts: gpu-01, ", "[{hosts: gpu-02, ")],
            "expected a question about gpu-02, it was about gpu-01",
        ),
        ([("hosts: gpu-01, answer", "hosts: gpu-9, answer")], "gpu-9"),
        ([("answer: approved", "answer: yes")], "`answer`: expected `pending`, `approved`, `denied`"),
        (
            [("[{hosts: gpu-01, answer: approved}]", "many")],
            '`approvals`: expected a whole number or a list, not "many"',
        ),
        (
            [("Done · mend · gpu-01", "Done · mend · gpu-10")],
            "expected people to read 'Done · mend · gpu-10'; nearest is '✅ Done · mend · gpu-01'",
        ),
        ([("Does: mend", "Does: mend tape")], "people to read 'Does: mend tape'; nearest is 'Does: mend"),
        (
            [("[Approve mend on gpu-01?", "['', Approve mend on gpu-01?")],
            "`messages` item 1: must not be empty",
        ),
    ],
)
def test_whatever_is_not_as_the_case_says_fails_it(
    tmp_path: Path, changes: list[tuple[str, str]], problem: str
) -> None:
    result = replay(tmp_path, changed(*changes))
    assert not result.passed
    assert any(problem in line for line in result.problems), result.problems


def test_every_problem_names_file_and_line(tmp_path: Path) -> None:
    result = replay(
        tmp_path, changed(("state: succeeded", "state: failed"), ("change: ok", "change: skipped"))
    )
    assert len(result.problems) == 2
    assert all(re.match(rf"{tmp_path}/mend\.test\.yaml:1: ", line) for line in result.problems)
    mistyped = replay(tmp_path, changed(("stdout: fine", "stout: fine")))
    assert [line for line in mistyped.problems if "mend.test.yaml:8: " in line]


def test_a_message_and_a_question_that_are_missed_are_told_at_their_own_lines(tmp_path: Path) -> None:
    expected = """\
  approvals:
    - {answer: denied}
  messages:
    - Done
    - •••, and more
"""
    a, b = GOOD.index("  approvals:"), GOOD.index("  steps:")
    told = replay(tmp_path, GOOD[:a] + expected + GOOD[b:]).problems
    lines = (tmp_path / "mend.test.yaml").read_text().splitlines()
    at = [int(one.split(":")[1]) for one in told]
    assert [lines[number - 1].strip() for number in at] == ["- {answer: denied}", "- •••, and more"]


def test_people_are_expected_to_read_no_secret(tmp_path: Path) -> None:
    leak = (("stdout: broken", 'stdout: "broken; password=hunter22x"'),)
    told = 'messages: ["· 0.0 s · broken; password=•••", '
    assert replay(tmp_path, changed(*leak, ("messages: [", told))).problems == ()
    (problem,) = replay(tmp_path, changed(*leak, ("messages: [", told.replace("•••", "hunter22x")))).problems
    assert problem.endswith("broken; password=•••'"), problem


def test_each_question_is_one_of_its_own_and_says_what_it_is_about(tmp_path: Path) -> None:
    lacking = (
        "given:\n  hosts: {gpu-01: {}, gpu-02: {}}\n  on: gpu-[01-02]\n  replies:\n"
        "    - {step: look, stdout: broken}\n    - {step: evidence, host: gpu-01, unreachable: true}\n"
        "    - {match: '^mend '}\n    - {step: proof, stdout: fine}\n"
    )
    asked = "  approvals: [{hosts: 'gpu-[01-02]', answer: approved}, {hosts: gpu-01, answer: approved}]\n"
    case = f"{lacking}approve: [ana, ben, ana, ben]\nexpect:\n  state: succeeded\n{asked}  messages: [No evidence of gpu-01]\n"
    assert replay(tmp_path, case).problems == ()
    silent = case.replace("approve: [ana, ben, ana, ben]", "approve: [ana, ben]")
    assert any(
        "expected the question to be approved, it is expired" in one
        for one in replay(tmp_path, silent).problems
    )


def test_that_automation_stopped_itself_can_be_read_in_a_test_too(tmp_path: Path) -> None:
    triggers = "triggers: [{alert: {match: {alertname: Broken}}}]\nmode: auto\nevidence: none\nserial: 4"
    book = BOOK.replace("triggers: [{command: true}]", triggers)
    case = """\
        given:
          alert: {labels: {alertname: Broken}}
          hosts: {gpu-01: {}, gpu-02: {}, gpu-03: {}, gpu-04: {}}
          on: gpu-[01-04]
          replies: [{step: look, stdout: broken}]
        expect:
          state: needs_human
          approvals: 0
          messages: ["Automation stopped itself: 4 hosts", breaker reset REASON]
        """
    assert replay(tmp_path, case, book=book).problems == ()


def test_who_is_not_asked_at_all_is_no_question(tmp_path: Path) -> None:
    case = "given:\n  hosts: {gpu-01: {}}\n  replies: [{step: look, stdout: in order}]\nexpect: {state: succeeded, approvals: 0}\n"
    assert replay(tmp_path, case).problems == ()
    told = replay(tmp_path, case.replace("approvals: 0", "approvals: [{answer: approved}]")).problems
    assert [one.partition(": ")[2] for one in told] == ["expected 1 question to people, asked were: none"]


def test_a_denial_an_unreachable_host_and_a_lost_command_end_as_in_production(tmp_path: Path) -> None:
    given = "given:\n  hosts: {gpu-01: {}}\n  replies:\n    - {step: look, stdout: broken}\n"
    denied = f"{given}deny: ana\nexpect: {{state: cancelled, reason: denied, steps: {{gpu-01: {{change: not run}}}}}}\n"
    assert replay(tmp_path, denied).problems == ()
    gone = f"{given}    - {{step: change, unreachable: true}}\n    - {{step: note}}\napprove: [a, b]\n"
    gone += "expect: {state: failed, steps: {gpu-01: {change: unreachable, proof: not run, note: ok}}}\n"
    assert replay(tmp_path, gone).problems == ()
    lost = f"{given}    - {{step: change, lost: true}}\n    - {{step: note}}\napprove: [a, b]\n"
    lost += "expect: {state: needs_human, steps: {gpu-01: {change: unknown}}}\n"
    assert replay(tmp_path, lost).problems == ()


def test_a_command_that_takes_longer_than_its_timeout_is_cut_off(tmp_path: Path) -> None:
    late = changed(
        ("delay: 20s}", "delay: 40s}\n    - {step: note}"),
        ("    - {step: proof, times: 2, stdout: not yet}\n    - {step: proof, stdout: fine}\n", ""),
        ("state: succeeded", "state: failed"),
        ("change: ok, proof: ok, note: not run", "change: failed, proof: not run, note: ok"),
        ("Done · mend", "Failed · mend"),
    )
    assert replay(tmp_path, late).problems == ()


def test_an_alert_runs_on_its_own_host_and_is_seen_by_the_runbook(tmp_path: Path) -> None:
    book = BOOK.replace('cat "/proc/{{ inputs.what }}"', 'echo "{{ alert.labels.model }}"', 1)
    case = """\
        given:
          alert: {labels: {alertname: Down, instance: "gpu-02:8000", model: llama}}
          hosts: {gpu-01: {}, gpu-02: {}}
          replies: [{step: look, host: gpu-02, stdout: in order}]
        expect: {state: succeeded, reason: Nothing needed doing., steps: {gpu-02: {look: ok}, gpu-01: {look: not run}}}
        """
    assert replay(tmp_path, case, book=book).problems == ()


def test_a_test_without_its_runbook_or_with_a_broken_one_fails_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "alone.test.yaml").write_text(f"it:\n{indent(GOOD, '  ')}")
    (alone,) = rehearse([tmp_path / "alone.test.yaml"])
    assert "alone.yaml" in alone.problems[0]
    (tmp_path / "alone.test.yaml").unlink()
    broken = replay(tmp_path, book=BOOK.replace("verify:", "verfy:"))
    assert any("mend.yaml:" in line and "did you mean `verify`?" in line for line in broken.problems)


def test_what_is_no_test_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SickbayError, match="no such file or folder"):
        list(rehearse([tmp_path / "nothing"]))
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(SickbayError, match="no test of a runbook"):
        list(rehearse([tmp_path / "a.yaml"]))
    (tmp_path / "a.test.yaml").write_text("- a list\n")
    (tmp_path / "a.yaml").write_text(BOOK.replace("name: mend", "name: a"))
    (result,) = rehearse([tmp_path])
    assert "expected a mapping" in result.problems[0]


def test_the_readme_names_every_runbook_and_every_input_with_its_default() -> None:
    folder = shipped("runbooks")
    if not (folder / "README.md").exists():
        pytest.skip("an installed package carries no README of the runbooks")
    sections = re.split(r"^## ", (folder / "README.md").read_text(), flags=re.MULTILINE)
    for file in runbook_files(folder):
        book = load_runbook(file, kinds=KINDS, parsers=PARSERS).runbook
        assert f"[{book.name}]({file.name}) | {book.kind} |" in sections[0]
        (section,) = (text for text in sections if text.startswith(f"{book.name}\n"))
        for name, wanted in book.inputs.items():
            default = str(wanted.default).lower() if isinstance(wanted.default, bool) else wanted.default
            assert f"| `{name}` | `{default}` |" in section
