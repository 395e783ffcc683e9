"""Evidence before action: taken once per host, before any change, with its hash; and what happens where it is missing."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from bot import evidence
from bot.effect import Cancelled, Output, TimedOut
from bot.language.runbook import Runbook
from bot.language.schema import json_schema
from bot.messages import approval_card, plan_text
from bot.runs.run import RunState, Status
from bot.views import run_view
from tests.parts.books import book
from tests.parts.script import BOOT, REFUSED, done, printed
from tests.parts.stage import ALICE, BOB, Stage, ended

KEPT = done(f"capture m\nm begin boot\n{BOOT}\nm end boot 0\nm begin gpus\n\nm end gpus 127\n")
NOTHING = done("This account is not available.\n", exit_code=1)
LATE = TimedOut(60.0, Output(), Output(), ended=True)
BOTH = ("gpu-01", "gpu-02")


def taking(rule: Any = "default", **changes: Any) -> Runbook:
    """Return a mutate runbook with this rule of evidence."""
    return book(**{"evidence": rule, "serial": [2], **changes})


@pytest.fixture
def kept(stage: Stage) -> Stage:
    """Return a stage whose hosts have something to show."""
    stage.script.on("evidence.*", KEPT)
    return stage


def test_it_is_taken_of_each_host_after_the_approval_and_before_the_first_change(kept: Stage) -> None:
    run = kept.play(taking(), BOTH, mode="approve")
    assert set(kept.script.steps()) == {"look"}
    assert kept.decide(run.id) is None
    run = kept.advance(run.id)
    assert ended(run) == (RunState.SUCCEEDED, "")
    steps = kept.script.steps()
    assert steps[:4] == ["look", "look", "evidence", "evidence"]
    assert steps.count("evidence") == 2
    assert not any(sent.command.mutating for sent in kept.script.sent if sent.step == "evidence")


def test_no_host_of_a_batch_is_changed_before_the_evidence_of_all_of_them_is_there(kept: Stage) -> None:
    import threading

    gate = threading.Event()
    rule = kept.script.on("evidence", KEPT, host="gpu-02", gate=gate)
    run_id = kept.queue(taking(), BOTH)
    thread = kept.apart(run_id)
    rule.wait()
    while kept.statuses(run_id).get("evidence") is not Status.OK:
        thread.join(0.01)
    assert "stop" not in kept.script.steps()
    gate.set()
    thread.join(30)
    assert kept.run(run_id).state is RunState.SUCCEEDED


def test_what_is_kept_has_a_hash_that_can_be_made_again_from_the_record_and_stands_in_the_timeline(
    kept: Stage,
) -> None:
    run = kept.play(taking())
    (attempt,) = (one for one in kept.attempts(run.id) if one.step == "evidence")
    assert run.plan is not None
    entry = run.plan.entry("evidence", "gpu-01")
    assert entry is not None
    sha256 = evidence.seal(
        host="gpu-01",
        command=entry.text,
        env=entry.env,
        exit_code=attempt.exit_code,
        stdout=attempt.stdout.encode(),
        stderr=attempt.stderr.encode(),
        at=attempt.begun_at,
    )
    assert attempt.facts["sha256"] == sha256
    assert attempt.summary == f"1 of 2 parts kept; not there: gpus; sha256 {sha256[:12]}"
    (told,) = (event for event in kept.events(run.id) if "sha256" in event.data)
    assert (told.kind, told.host, told.step, told.data["sha256"]) == (
        "step.ended",
        "gpu-01",
        "evidence",
        sha256,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"host": "gpu-02"},
        {"command": "true"},
        {"env": {"NAME": "other"}},
        {"exit_code": 1},
        {"stdout": b"up 4 days"},
        {"stderr": b"x"},
        {"later": True},
    ],
)
def test_whatever_is_altered_afterwards_does_not_fit_the_hash(change: dict[str, Any]) -> None:
    from tests.parts.books import START

    given: dict[str, Any] = {
        "host": "gpu-01",
        "command": "uptime",
        "env": {},
        "exit_code": 0,
        "stdout": b"up 3 days",
        "stderr": b"",
        "at": START,
    }
    if change.pop("later", False):
        change = {"at": START + timedelta(microseconds=1)}
    assert evidence.seal(**given) == evidence.seal(**given)
    assert evidence.seal(**given | change) != evidence.seal(**given)


def test_a_host_on_which_nothing_is_changed_is_not_captured(kept: Stage) -> None:
    kept.script.on("look", done("ill"), host="gpu-02")
    ill = "'ill' in steps.look.stdout"
    steps = [
        {"id": "look", "run": "true", "mutates": False},
        {"id": "stop", "run": "stop it", "when": ill},
    ]
    run = kept.play(taking(steps=steps), BOTH)
    assert run.state is RunState.SUCCEEDED
    assert [sent.host for sent in kept.script.sent if sent.step == "evidence"] == ["gpu-02"]
    (skipped,) = (one for one in kept.attempts(run.id) if (one.step, one.host) == ("evidence", "gpu-01"))
    assert (skipped.status, skipped.summary) == (Status.SKIPPED, "not needed: nothing is changed there")


def test_what_came_before_the_time_was_over_is_evidence(kept: Stage) -> None:
    half = TimedOut(
        60.0, printed(f"capture m\nm begin boot\n{BOOT}\nm end boot 0\nm begin gpus\n"), Output(), ended=True
    )
    kept.script.on("evidence", half)
    run = kept.play(taking())
    assert run.state is RunState.SUCCEEDED
    (attempt,) = (one for one in kept.attempts(run.id) if one.step == "evidence")
    assert attempt.summary.startswith("1 of 2 parts kept; late: gpus; sha256 ")


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (REFUSED, "unreachable (tcp): connection refused"),
        (NOTHING, "nothing could be captured: exit code 1: This account is not available."),
        (LATE, "nothing could be captured: no answer in time"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "approve"])
def test_without_it_people_are_asked_before_anything_is_changed(
    kept: Stage, outcome: Any, why: str, mode: str
) -> None:
    kept.script.on("evidence", outcome, host="gpu-02")
    run = kept.play(taking(), BOTH, mode=mode)
    if mode == "approve":
        first = run.plan.digest if run.plan else ""
        assert kept.decide(run.id) is None
        run = kept.advance(run.id)
        stale = kept.store.approvals.decide(run.id, BOB, "approve", first)
        assert stale == "The plan has changed since this message was shown. Look at the newest one."
    assert run.state is RunState.WAITING
    assert "stop" not in kept.script.steps()
    assert run.plan is not None
    assert [host for host, _ in run.plan.without] == ["gpu-02"]
    assert why in run.plan.without[0][1]
    assert f"without evidence of gpu-02: {why}" in plan_text(run.plan)
    card = str(approval_card(run_view(kept.store, run)))
    assert "No evidence" in card
    assert why in card
    assert "Approve to change it all the same; what it shows now may be lost." in card
    assert kept.decide(run.id) is None
    run = kept.advance(run.id)
    assert ended(run) == (RunState.SUCCEEDED, "")
    assert kept.script.steps().count("evidence") == 2, "it was taken again"


def test_a_no_leaves_the_host_as_it_was_and_says_so(kept: Stage) -> None:
    kept.script.on("evidence", REFUSED)
    run = kept.play(taking())
    assert kept.decide(run.id, ALICE, "deny") is None
    run = kept.advance(run.id)
    why = "Going on without the evidence of gpu-01 was denied; nothing was changed there."
    assert ended(run) == (RunState.CANCELLED, why)
    assert kept.script.steps() == ["look", "evidence"]
    card = str(approval_card(run_view(kept.store, run)))
    assert "What has no evidence was not changed." in card


def test_no_answer_is_a_no(kept: Stage) -> None:
    kept.script.on("evidence", REFUSED)
    run = kept.play(taking())
    kept.clock.on(minutes=16)
    run = kept.advance(run.id)
    why = "Going on without the evidence of gpu-01 was not approved in time; nothing was changed there."
    assert ended(run) == (RunState.CANCELLED, why)
    assert "Nobody decided" in str(approval_card(run_view(kept.store, run)))


def test_a_second_question_is_answered_anew_by_whoever_answered_the_first(kept: Stage) -> None:
    kept.script.on("evidence", REFUSED)
    run = kept.play(taking(), mode="approve")
    assert kept.decide(run.id, BOB) is None
    assert kept.advance(run.id).state is RunState.WAITING
    assert kept.decide(run.id, BOB) is None
    assert kept.advance(run.id).state is RunState.SUCCEEDED
    decided = [event.data["by"] for event in kept.events(run.id) if event.kind == "approval.decided"]
    assert decided == ["bob", "bob"]


def test_a_cancel_while_people_are_asked_changes_nothing(kept: Stage) -> None:
    kept.script.on("evidence", REFUSED)
    run = kept.play(taking())
    assert kept.store.runs.cancel(run.id, "alice")
    assert ended(kept.advance(run.id)) == (RunState.CANCELLED, "Cancelled by alice.")
    assert kept.script.steps() == ["look", "evidence"]


def test_a_batch_that_came_through_before_the_question_stays_and_each_batch_asks_for_itself(
    kept: Stage,
) -> None:
    kept.script.on("evidence", REFUSED, host="gpu-02")
    run = kept.play(taking(serial=[1]), BOTH)
    assert run.state is RunState.WAITING
    assert kept.script.steps("gpu-01")[-1] == "undo"
    assert kept.decide(run.id, BOB, "deny") is None
    run = kept.advance(run.id)
    assert run.state is RunState.CANCELLED
    assert kept.script.steps("gpu-02") == ["look", "evidence"]


def test_refuse_leaves_the_host_unchanged_and_the_run_failed(kept: Stage) -> None:
    kept.script.on("evidence", NOTHING, host="gpu-02")
    run = kept.play(taking({"missing": "refuse"}, max_failures=1), BOTH)
    assert run.state is RunState.FAILED
    assert "Failed on gpu-02." in run.reason
    assert kept.script.steps("gpu-02") == ["look", "evidence", "note"], "more than a look"
    (undo,) = (one for one in kept.attempts(run.id) if (one.step, one.host) == ("undo", "gpu-02"))
    assert (undo.status, undo.summary) == (Status.SKIPPED, "left out, since nothing was changed there")
    assert kept.script.steps("gpu-01")[-1] == "undo"


def test_go_says_it_and_goes_on(kept: Stage) -> None:
    kept.script.on("evidence", NOTHING)
    run = kept.play(taking({"missing": "go"}))
    assert ended(run) == (RunState.SUCCEEDED, "")
    assert kept.statuses(run.id)["evidence"] is Status.FAILED


def test_a_run_that_is_resumed_does_not_take_it_twice(kept: Stage) -> None:
    import threading

    gate = threading.Event()
    rule = kept.script.on("stop", gate=gate)
    run_id = kept.queue(taking())
    thread = kept.apart(run_id)
    rule.wait()
    kept.restart().close()
    thread.join(30)
    gate.set()
    assert kept.advance(run_id).state is RunState.SUCCEEDED
    assert kept.script.steps().count("evidence") == 1


def test_steps_of_ones_own_are_all_tried_share_the_time_and_are_hashed(stage: Stage) -> None:
    stage.script.on("evidence_1", done(exit_code=1))
    rule = {
        "pack": [{"run": "dmesg"}, {"id": "who", "run": "w", "timeout": "5s"}],
        "missing": "go",
        "timeout": "20s",
    }
    run = stage.play(taking(rule))
    assert run.state is RunState.SUCCEEDED
    sent = {one.step: one.command for one in stage.script.sent}
    assert (sent["evidence_1"].timeout, sent["who"].timeout) == (10.0, 5.0)
    assert not sent["who"].mutating
    assert all("sha256" in one.facts for one in stage.attempts(run.id) if one.step in ("evidence_1", "who"))


def test_none_takes_none(stage: Stage) -> None:
    assert stage.play(taking("none")).state is RunState.SUCCEEDED
    assert "evidence" not in stage.script.steps()


def test_a_capture_in_the_rescue_is_hashed_too(kept: Stage) -> None:
    kept.script.on("stop", done(exit_code=1))
    kept.script.on("note", KEPT)
    run = kept.play(taking("none", rescue=[{"id": "note", "uses": "host.capture"}]))
    assert run.state is RunState.FAILED
    (note,) = (one for one in kept.attempts(run.id) if one.step == "note")
    assert note.status is Status.OK
    assert len(note.facts["sha256"]) == 64


def test_a_capture_that_is_cancelled_is_none(kept: Stage) -> None:
    kept.script.on("evidence", Cancelled(Output(), Output(), ended=True))
    run = kept.play(taking())
    assert run.state is RunState.WAITING
    assert run.plan is not None
    assert "cancelled" in run.plan.without[0][1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evidence": []}, "name what is to be captured, or write `none`"),
        ({"evidence": [{"run": "rm x", "mutates": True}]}, "evidence is taken before anything is changed"),
        ({"evidence": [{"run": "w", "retries": 2}]}, "evidence is taken once"),
        ({"evidence": {"timeout": "5m"}}, "less than or equal"),
        ({"evidence": {"missing": "maybe"}}, "'ask', 'refuse' or 'go'"),
        ({"evidence": "some"}, "default"),
        (
            {"steps": [{"id": "evidence", "run": "x"}], "evidence": "default"},
            "step id `evidence` is used twice",
        ),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        book(**changes)


def test_editors_know_the_short_forms_and_the_long_one() -> None:
    schema = json_schema(Runbook)
    forms = schema["$defs"]["EvidenceRule"]["anyOf"]
    assert forms[0] == {"enum": ["default", "none"], "type": "string"}
    assert forms[1]["type"] == "array"
    assert set(forms[2]["properties"]) == {"pack", "missing", "timeout"}


def test_the_serving_container_is_known_where_it_is_an_input() -> None:
    (step,) = taking(inputs={"container": {"default": "vllm", "pattern": "[a-z]+"}}).captures
    assert step.with_ == {"within": "55s", "container": "{{ inputs.container }}"}
    (step,) = taking({"timeout": "30s"}).captures
    assert step.with_ == {"within": "25s"}
