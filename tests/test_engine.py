"""What the engine does with a run, on a real store, with hosts that answer from a script."""

import hashlib
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.effect import Lost, Output, TimedOut
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from bot.runs.run import Requester, Run, RunState, Status
from bot.verdict import Verdict
from tests.parts.books import book
from tests.parts.script import REFUSED, done
from tests.parts.stage import ALICE, BOB, Stage, ended

LOST = Lost("the host was rebooted while it ran", "look there")


def observing(*steps: dict[str, Any], **changes: Any) -> Runbook:
    """Return an observe runbook."""
    rest: dict[str, Any] = {"kind": "observe", "verify": [], "rescue": [], "always": []}
    return book(**{**rest, "steps": list(steps) or [{"id": "look", "run": "uptime"}], **changes})


def test_an_observe_run_looks_at_all_hosts_and_ends(stage: Stage) -> None:
    stage.script.on("look", done("up 3 days\n"), host="gpu-02")
    run = stage.play(observing(), ("gpu-01", "gpu-02"))
    assert ended(run) == (RunState.SUCCEEDED, "")
    assert {one.host: one.stdout for one in stage.attempts(run.id)} == {"gpu-01": "", "gpu-02": "up 3 days\n"}
    kinds = stage.kinds(run.id)
    assert kinds[:2] == ["run.queued", "run.started"]
    assert sorted(kinds[2:-1]) == ["step.begun"] * 2 + ["step.ended"] * 2
    assert kinds[-1] == "run.ended"
    assert not any(sent.command.mutating for sent in stage.script.sent)


def test_a_run_looks_asks_and_once_approved_acts_and_proves_it(stage: Stage) -> None:
    run = stage.play(mode="approve")
    assert run.state is RunState.WAITING
    assert stage.script.steps() == ["look"]
    approval = stage.store.approvals.get(run.id)
    assert approval is not None
    assert run.plan is not None
    assert approval.digest == run.plan.digest
    assert run.wake_at == approval.expires_at
    assert stage.decide(run.id) is None
    run = stage.advance(run.id)
    assert ended(run) == (RunState.SUCCEEDED, "")
    assert stage.script.steps() == ["look", "stop", "start", "proof", "undo"]
    assert [one.command.mutating for one in stage.script.sent] == [False, True, True, False, True]
    assert "note" not in stage.statuses(run.id)


def test_a_plan_made_before_another_run_changed_the_host_is_no_longer_asked_about(stage: Stage) -> None:
    first, second, elsewhere = (
        stage.queue(hosts=(host,), mode="approve") for host in ("gpu-01", "gpu-01", "gpu-02")
    )
    for run_id in (first, second, elsewhere):
        assert stage.advance(run_id).state is RunState.WAITING
    assert stage.decide(first) is None
    assert stage.advance(first).state is RunState.SUCCEEDED
    refused = stage.decide(second)
    assert refused is not None
    assert f"run {first} has changed gpu-01 since it was looked at" in refused
    assert second in stage.store.runs.due()
    assert stage.advance(second).state is RunState.CANCELLED
    assert stage.decide(elsewhere) is None


def test_the_time_that_people_take_is_not_the_runs_time(stage: Stage) -> None:
    run = stage.play(book(timeout="5m"), mode="approve")
    stage.clock.on(minutes=10)
    assert stage.decide(run.id) is None
    assert stage.advance(run.id).state is RunState.SUCCEEDED


def test_a_denied_plan_changes_nothing(stage: Stage) -> None:
    run = stage.play(mode="approve")
    assert stage.decide(run.id, BOB, "deny") is None
    run = stage.advance(run.id)
    assert ended(run) == (RunState.CANCELLED, "The plan was denied; nothing was changed.")
    assert stage.script.steps() == ["look"]


def test_a_question_that_nobody_answers_ends_by_the_clock(stage: Stage) -> None:
    run = stage.play(mode="approve")
    stage.clock.on(minutes=15)
    assert "closed at" in (stage.decide(run.id) or "")
    run = stage.advance(run.id)
    assert ended(run) == (RunState.CANCELLED, "Nobody approved in time; nothing was changed.")
    approval = stage.store.approvals.get(run.id)
    assert approval is not None
    assert approval.state == "expired"
    assert stage.kinds(run.id).count("approval.expired") == 1


def test_two_people_have_to_agree_where_the_rule_says_so(stage: Stage) -> None:
    run = stage.play(book(approval={"required": 2, "allow_requester": True}), mode="approve")
    assert stage.decide(run.id, ALICE) is None
    assert stage.advance(run.id).state is RunState.WAITING
    assert "already" in (stage.decide(run.id, ALICE) or "")
    assert stage.decide(run.id, BOB) is None
    assert stage.advance(run.id).state is RunState.SUCCEEDED


def test_a_retry_is_a_moment_in_the_row_and_not_a_waiting_thread(stage: Stage) -> None:
    stage.script.on("look", done(exit_code=1, stderr="not yet"), done())
    steps = {"id": "look", "run": "x", "retries": 2, "delay": "30s"}
    run = stage.play(observing(steps))
    assert run.state is RunState.RUNNING
    assert run.wake_at == stage.clock() + timedelta(seconds=30)
    assert stage.store.runs.due() == []
    stage.clock.on(seconds=30)
    assert stage.store.runs.due() == [run.id]
    assert stage.advance(run.id).state is RunState.SUCCEEDED
    assert [(one.number, one.status) for one in stage.attempts(run.id)] == [
        (1, Status.FAILED),
        (2, Status.OK),
    ]


def test_a_host_that_waits_for_its_retry_does_not_hold_up_the_others(stage: Stage) -> None:
    gate = threading.Event()
    stage.script.on("look", done(exit_code=1), done(), host="gpu-01")
    slow = stage.script.on("look", done(), host="gpu-02", gate=gate)
    run_id = stage.queue(
        observing({"id": "look", "run": "x", "retries": 1, "delay": "0s"}), ("gpu-01", "gpu-02")
    )
    again = stage.script.on("look", done(), host="gpu-01")
    again.answers = [done(exit_code=1), done()]
    thread = stage.apart(run_id)
    slow.wait()
    for _ in range(500):
        if [one.number for one in stage.script.sent if one.host == "gpu-01"] == [1, 2]:
            break
        thread.join(0.01)
    else:
        pytest.fail("gpu-01 was not tried again while gpu-02 was slow")
    gate.set()
    thread.join(5)
    assert stage.run(run_id).state is RunState.SUCCEEDED


def test_until_is_tried_until_it_holds_and_the_last_miss_is_a_failure(stage: Stage) -> None:
    stage.script.on("look", done("1"), done("2"), done("3"))
    step = {"id": "look", "run": "x", "until": "result.stdout == '3'", "retries": 2, "delay": "1s"}
    run = stage.play(observing(step))
    while not run.state.ended:
        stage.clock.on(seconds=1)
        run = stage.advance(run.id)
    assert run.state is RunState.SUCCEEDED
    assert len(stage.attempts(run.id)) == 3
    run = stage.play(observing({**step, "until": "result.stdout == '4'", "retries": 0}))
    assert run.state is RunState.FAILED
    assert "not yet result.stdout == '4'" in stage.attempts(run.id)[0].summary


def test_a_step_whose_expectation_is_not_met_fails_and_says_which(stage: Stage) -> None:
    stage.script.on("look", done("7\n"))
    run = stage.play(observing({"id": "look", "run": "x", "expect": "result.stdout | trim == '8'"}))
    assert run.state is RunState.FAILED
    assert "expected result.stdout | trim == '8'" in stage.attempts(run.id)[0].summary


def test_what_a_step_found_is_what_later_steps_see(stage: Stage) -> None:
    stage.script.on("look", done("vllm-7\n"))
    steps = (
        {"id": "look", "run": "docker ps"},
        {"id": "tell", "run": 'logger -- "{{ steps.look.stdout | trim }}"', "when": "steps.look.ok"},
        {"id": "skip", "run": "true", "when": "steps.look.failed"},
    )
    run = stage.play(observing(*steps))
    sent = stage.script.sent[-1].command
    assert (sent.text, dict(sent.env)) == ('logger -- "${sickbay_1}"', {"sickbay_1": "vllm-7"})
    assert stage.statuses(run.id)["skip"] is Status.SKIPPED


def test_unreachable_is_told_apart_from_failed(stage: Stage) -> None:
    stage.script.on("look", REFUSED, host="gpu-01")
    stage.script.on("look", done(exit_code=1), host="gpu-02")
    run = stage.play(observing(), ("gpu-01", "gpu-02"))
    assert run.state is RunState.FAILED
    one, two = sorted(stage.attempts(run.id), key=lambda attempt: attempt.host)
    assert (one.status, one.advice) == (Status.UNREACHABLE, "is sshd running there?")
    assert "tcp" in one.summary
    assert two.status is Status.FAILED


def test_an_end_that_nobody_knows_needs_a_human_and_is_never_repeated(stage: Stage) -> None:
    stage.script.on("stop", LOST)
    steps = [{"id": "stop", "run": "stop it", "retries": 5, "delay": "0s"}]
    run = stage.play(book(steps=steps))
    assert run.state is RunState.NEEDS_HUMAN
    assert "gpu-01" in run.reason
    assert stage.script.steps().count("stop") == 1
    assert stage.statuses(run.id)["stop"] is Status.UNKNOWN
    assert stage.statuses(run.id)["undo"] is Status.OK


def test_a_change_that_may_still_be_going_after_its_time_is_unknown(stage: Stage) -> None:
    stage.script.on("stop", TimedOut(60, Output(), Output(), ended=False))
    run = stage.play()
    assert run.state is RunState.NEEDS_HUMAN
    assert stage.statuses(run.id)["stop"] is Status.UNKNOWN


def test_a_failure_is_rescued_and_cleaned_up(stage: Stage) -> None:
    stage.script.on("start", done(exit_code=1, stderr="no such container"))
    run = stage.play()
    assert run.state is RunState.FAILED
    assert stage.script.steps() == ["look", "stop", "start", "note", "undo"]


def test_a_cancel_ends_what_is_going_and_cleans_up(stage: Stage) -> None:
    held = stage.script.on("stop", gate=threading.Event())
    run_id = stage.queue(hosts=("gpu-01", "gpu-02"))
    thread = stage.apart(run_id)
    held.wait()
    assert stage.store.runs.cancel(run_id, "bob")
    assert not stage.store.runs.cancel(run_id, "alice")
    stage.engine.cancel(run_id)
    thread.join(5)
    run = stage.run(run_id)
    assert ended(run) == (RunState.CANCELLED, "Cancelled by bob.")
    assert stage.script.steps("gpu-01") == ["look", "stop", "undo"]
    assert stage.script.steps("gpu-02") == ["look"]
    stop = next(one for one in stage.attempts(run_id) if one.step == "stop")
    assert (stop.status, stop.stdout, stop.again) == (Status.FAILED, "half", False)


def test_the_clean_up_is_not_cancelled(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("undo", gate=gate)
    run_id = stage.queue()
    thread = stage.apart(run_id)
    held.wait()
    stage.store.runs.cancel(run_id, "bob")
    stage.engine.cancel(run_id)
    thread.join(0.05)
    assert thread.is_alive()
    gate.set()
    thread.join(5)
    assert stage.statuses(run_id)["undo"] is Status.OK
    assert stage.run(run_id).state is RunState.CANCELLED


def test_a_waiting_run_that_is_cancelled_takes_no_more_answers(stage: Stage) -> None:
    run = stage.play(mode="approve")
    assert stage.store.runs.cancel(run.id, "alice")
    assert "alice" in (stage.decide(run.id) or "")
    run = stage.advance(run.id)
    assert ended(run) == (RunState.CANCELLED, "Cancelled by alice.")
    assert stage.script.steps() == ["look"]
    assert stage.kinds(run.id).count("run.ended") == 1


def test_a_run_that_waits_for_its_retry_ends_at_once_when_cancelled(stage: Stage) -> None:
    stage.script.on("look", done(exit_code=1))
    run = stage.play(observing({"id": "look", "run": "x", "retries": 20, "delay": "1h"}, timeout="3h"))
    assert stage.store.runs.due() == []
    stage.store.runs.cancel(run.id, "alice")
    assert stage.store.runs.due() == [run.id]
    assert stage.advance(run.id).state is RunState.CANCELLED
    assert stage.script.steps() == ["look"]


def test_a_cancelled_run_rests_while_its_clean_up_waits_for_a_retry(stage: Stage) -> None:
    stage.script.on("undo", done(exit_code=1), done())
    always = [{"id": "undo", "run": "x", "retries": 1, "delay": "30s"}]
    held = stage.script.on("stop", gate=threading.Event())
    run_id = stage.queue(book(always=always))
    thread = stage.apart(run_id)
    held.wait()
    stage.store.runs.cancel(run_id, "bob")
    stage.engine.cancel(run_id)
    thread.join(5)
    assert not stage.run(run_id).state.ended
    assert stage.store.runs.due() == []
    stage.clock.on(seconds=30)
    assert stage.advance(run_id).state is RunState.CANCELLED
    assert stage.statuses(run_id)["undo"] is Status.OK


def test_the_timeout_ends_the_work_even_between_two_tries(stage: Stage) -> None:
    stage.script.on("stop", done(exit_code=1))
    steps = [{"id": "stop", "run": "x", "retries": 5, "delay": "1h"}]
    run = stage.play(book(steps=steps, timeout="10m"))
    assert run.wake_at == run.deadline
    stage.clock.on(minutes=10)
    run = stage.advance(run.id)
    assert ended(run) == (RunState.FAILED, "The runbook's timeout passed.")
    assert stage.script.steps() == ["stop", "undo"]


def test_no_command_gets_more_time_than_the_run_has_left(stage: Stage) -> None:
    stage.play(book(timeout="10s"))
    assert {one.step: one.command.timeout for one in stage.script.sent} == {
        "look": 10.0, "stop": 10.0, "start": 10.0, "proof": 10.0, "undo": 60.0,
    }  # fmt: skip


def test_two_runs_never_change_one_host_at_once(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate)
    first = stage.queue()
    thread = stage.apart(first)
    held.wait()
    second = stage.play(book(on_conflict="fail"))
    assert second.state is RunState.FAILED
    stop = next(one for one in stage.attempts(second.id) if one.step == "stop")
    assert stop.summary == f"gpu-01 is being changed by run {first} (mend, started by alice)"
    assert str(first) in stop.advice
    assert [sent.key.split("/")[1] for sent in stage.script.sent if sent.step in ("stop", "undo")] == [
        str(first)
    ]
    gate.set()
    thread.join(5)
    assert stage.play().state is RunState.SUCCEEDED


def test_an_engine_that_was_frozen_and_comes_back_writes_nothing(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("stop", gate=gate, deaf=True)
    run_id = stage.queue()
    frozen = stage.apart(run_id)
    held.wait()
    before = stage.restart()
    stage.script.on("stop")
    run = stage.advance(run_id)
    assert run.state is RunState.SUCCEEDED
    events = stage.kinds(run_id)
    gate.set()
    frozen.join(5)
    before.close()
    assert stage.kinds(run_id) == events
    assert [one.first_sent is None for one in stage.script.sent if one.step == "stop"] == [True, False]
    assert stage.script.steps().count("start") == 1


def test_a_frozen_engine_takes_no_host_of_a_run_that_is_over(stage: Stage) -> None:
    gate = threading.Event()
    held = stage.script.on("look", gate=gate)
    run_id = stage.queue()
    frozen = stage.apart(run_id)
    held.wait()
    before = stage.restart()
    stage.script.on("look")
    run = stage.advance(run_id)
    gate.set()
    frozen.join(5)
    before.close()
    assert run.state is RunState.SUCCEEDED
    assert stage.play().state is RunState.SUCCEEDED


def test_a_run_is_resumed_by_asking_the_host_under_the_same_key(stage: Stage) -> None:
    held = stage.script.on("start", gate=threading.Event())
    run_id = stage.queue()
    thread = stage.apart(run_id)
    held.wait()
    stage.clock.on(minutes=1)
    stage.engine.close()
    stage.script.close()
    thread.join(5)
    assert stage.statuses(run_id)["start"] is Status.BEGUN
    stage.script.on("start", done("it was done while nobody looked"))
    stage.restart()
    assert stage.advance(run_id).state is RunState.SUCCEEDED
    first, again = (one for one in stage.script.sent if one.step == "start")
    assert first.key == again.key
    assert again.first_sent == stage.clock() - timedelta(minutes=1)
    assert stage.script.steps() == ["look", "stop", "start", "start", "proof", "undo"]
    told = [(event.kind, event.step) for event in stage.events(run_id) if event.kind.endswith(".resumed")]
    assert told == [("run.resumed", None), ("step.resumed", "start")]


def test_the_timeline_has_each_command_that_left_by_its_hash_with_where_it_went_and_its_values(
    stage: Stage,
) -> None:
    steps = [
        {"id": "look", "run": 'see "{{ host.name }}"', "mutates": False},
        {"id": "stop", "run": "stop it"},
    ]
    run = stage.play(book(steps=steps, always=[], rescue=[]), ("gpu-01", "gpu-02"))
    begun = [event for event in stage.events(run.id) if event.kind == "step.begun"]
    texts = stage.store.attempts.texts([event.data["command"] for event in begun])
    assert len(texts) == 3, "a text is kept once, whatever the number of hosts"
    for event in begun:
        (sent,) = (one for one in stage.script.sent if (one.step, one.host) == (event.step, event.host))
        assert texts[event.data["command"]] == sent.command.text
        assert hashlib.sha256(sent.command.text.encode()).hexdigest() == event.data["command"]
        assert event.data["env"] == sent.command.env
        assert event.data.get("changes", False) == sent.command.mutating
        assert "on" not in event.data
    assert [event.data["env"] for event in begun if event.step == "look"] == [
        {"sickbay_1": "gpu-01"},
        {"sickbay_1": "gpu-02"},
    ]


def test_closing_ends_at_once_whatever_hosts_still_owe(stage: Stage) -> None:
    held = stage.script.on("look", gate=threading.Event(), deaf=True, host="gpu-01")
    engine = stage.another()
    first, second = stage.queue(observing(), ("gpu-01", "gpu-02")), stage.queue(observing())
    threads = [stage.apart(run_id, engine) for run_id in (first, second)]
    held.wait()
    engine.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert {stage.run(run_id).state for run_id in (first, second)} == {RunState.RUNNING}


def test_sickbays_own_mistake_needs_a_human(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.script.on("stop", RuntimeError("a mistake of ours"))
    run = stage.play()
    assert run.state is RunState.NEEDS_HUMAN
    assert "a mistake of ours" in run.reason
    assert "a mistake of ours" in caplog.text
    assert stage.kinds(run.id)[-1] == "run.ended"


def test_a_step_kind_that_is_gone_after_an_upgrade_needs_a_human(stage: Stage) -> None:
    run = stage.play(observing({"id": "look", "uses": "gpu.vanished"}))
    assert run.state is RunState.NEEDS_HUMAN
    assert "gpu.vanished" in run.reason


def test_what_was_planned_is_sent_even_when_it_would_now_be_another(stage: Stage) -> None:
    steps = [
        {"id": "first", "run": "begin it", "retries": 1, "delay": "30s"},
        {"id": "stop", "run": 'stop "{{ host.vars.container }}"'},
        {"id": "flush", "run": "flush caches", "when": "host.vars.flush"},
    ]
    stage.inventory = Inventory([Host("gpu-01", "10.0.0.1", vars={"container": "vllm", "flush": False})])
    stage.restart()
    stage.script.on("first", done(exit_code=1), done())
    run = stage.play(book(steps=steps), mode="approve")
    stage.decide(run.id)
    run = stage.advance(run.id)
    assert run.state is RunState.RUNNING
    stage.inventory = Inventory([Host("gpu-01", "10.0.0.1", vars={"container": "postgres", "flush": True})])
    stage.restart()
    stage.clock.on(seconds=30)
    run = stage.advance(run.id)
    assert run.state is RunState.SUCCEEDED
    assert [dict(one.command.env) for one in stage.script.sent if one.step == "stop"] == [
        {"sickbay_1": "vllm"}
    ]
    assert stage.statuses(run.id)["flush"] is Status.SKIPPED


def test_a_host_that_left_the_inventory_fails_and_says_so(stage: Stage) -> None:
    steps = [{"id": "look", "run": "x", "mutates": False}, {"id": "stop", "run": "x", "retries": 1}]
    steps.append({"id": "start", "run": "x"})
    stage.script.on("stop", done(exit_code=1), done(), host="gpu-01")
    run = stage.play(hosts=("gpu-01", "gpu-02"), runbook=book(max_failures=1, steps=steps))
    stage.inventory = Inventory([Host("gpu-02", "10.0.0.2")])
    stage.restart()
    stage.clock.on(seconds=5)
    run = stage.advance(run.id)
    assert ended(run) == (
        RunState.FAILED,
        "Failed on gpu-01. First: stop on gpu-01. Clean-up failed on gpu-01.",
    )
    stop = stage.attempts(run.id)[3]
    assert (stop.host, stop.step, stop.number) == ("gpu-01", "stop", 2)
    assert "no longer in the inventory" in stop.summary
    assert stage.script.steps("gpu-02") == ["look", "stop", "start", "proof", "undo"]


def test_a_change_that_had_begun_on_a_host_that_then_left_the_inventory_is_unknown(stage: Stage) -> None:
    held = stage.script.on("stop", gate=threading.Event())
    run_id = stage.queue()
    thread = stage.apart(run_id)
    held.wait()
    stage.engine.close()
    stage.script.close()
    thread.join(5)
    stage.inventory = Inventory([Host("gpu-02", "10.0.0.2")])
    stage.restart()
    assert stage.advance(run_id).state is RunState.NEEDS_HUMAN
    assert stage.statuses(run_id)["stop"] is Status.UNKNOWN


def test_a_plan_that_changes_nothing_asks_nobody(stage: Stage) -> None:
    stage.script.on("look", done("fine"))
    steps = [
        {"id": "look", "run": "x", "mutates": False},
        {"id": "stop", "run": "stop it", "when": "steps.look.stdout != 'fine'"},
    ]
    run = stage.play(book(steps=steps), mode="approve")
    assert ended(run) == (RunState.SUCCEEDED, "Nothing needed doing.")
    assert stage.store.approvals.get(run.id) is None
    assert stage.script.steps() == ["look"]


def test_a_suggestion_is_shown_and_not_done(stage: Stage) -> None:
    run = stage.play(mode="suggest")
    assert run.state is RunState.SUCCEEDED
    assert run.plan is not None
    assert run.plan.changes
    assert stage.script.steps() == ["look"]


def test_what_verify_doubts_is_not_a_success(stage: Stage) -> None:
    verify = [{"id": "proof", "uses": "http.check", "with": {"url": "http://127.0.0.1:8000/health"}}]
    stage.script.on("proof", done("", exit_code=7))
    run = stage.play(book(verify=verify, steps=[{"id": "stop", "run": "stop it"}]))
    assert run.state is RunState.FAILED
    assert run.verdict is not Verdict.HEALTHY


def test_a_run_by_an_alert_tells_its_incident_when_recovery_was_proven(stage: Stage) -> None:
    with stage.store.write() as tx:
        incident = stage.store.incidents.open(
            tx, key="k", title="t", severity="", channel="oncall", host="gpu-01", note=""
        )
    run = stage.play(incident=incident, requester=Requester("alert X", via="alert"))
    found = stage.store.incidents.get(incident)
    assert found is not None
    assert found.recovered_by == run.id
    assert [event.kind for event in stage.store.timeline.of(incident=incident)][-1] == "incident.recovered"


def test_every_attempt_has_one_begin_and_one_end_in_the_timeline(stage: Stage) -> None:
    stage.script.on("stop", done(exit_code=1), done(), host="gpu-02")
    steps = [{"id": "stop", "run": "stop it", "retries": 1, "delay": "0s"}]
    run = stage.play(book(steps=steps, serial=[3]), ("gpu-01", "gpu-02", "gpu-03"))
    assert run.state is RunState.SUCCEEDED
    for kind in ("step.begun", "step.ended"):
        told = [
            (event.step, event.host, event.data["number"])
            for event in stage.events(run.id)
            if event.kind == kind
        ]
        assert sorted(told) == sorted((one.step, one.host, one.number) for one in stage.attempts(run.id))


def test_a_hostile_value_reaches_the_host_as_a_variable_only(stage: Stage) -> None:
    evil = "$(touch x)`id`'\"\n; rm -rf /"
    step = {"id": "look", "run": 'grep -e "{{ alert.labels.container }}" log'}
    stage.play(observing(step), alert={"labels": {"container": evil}, "host": "gpu-01"})
    (sent,) = stage.script.sent
    assert sent.command.text == 'grep -e "${sickbay_1}" log'
    assert sent.command.env == {"sickbay_1": evil}


def test_a_run_keeps_the_runbook_it_began_with(stage: Stage) -> None:
    original = book(timeout="90s", approval={"from": ["admins"], "timeout": "1500ms"})
    run = stage.run(stage.queue(original))
    assert run.runbook == original
    assert replace(run, runbook=original) == run


# ── a clock that is set by hand ──
TRIED = {"id": "proof", "run": "prove it", "mutates": False, "retries": 3, "delay": "5s"}


def turn(stage: Stage, run_id: int, *, back: bool = False) -> Run:
    """Advance a run if it is due, as the loop does; which also tells of a clock that was set back."""
    if back:
        stage.store.runs.rouse()
    return stage.advance(run_id) if run_id in stage.store.runs.due() else stage.run(run_id)


def test_a_clock_set_back_keeps_no_run_from_its_next_try(stage: Stage) -> None:
    stage.script.on("proof", done(exit_code=1), done())
    run = stage.play(book(verify=[TRIED]))
    assert run.state is RunState.RUNNING
    stage.clock.on(hours=-1)
    assert turn(stage, run.id, back=True).state is RunState.SUCCEEDED
    assert stage.script.steps()[-1] == "undo"


def test_a_clock_set_back_moves_no_deadline(stage: Stage) -> None:
    stage.script.on("proof", done(exit_code=1))
    run = stage.play(book(verify=[TRIED | {"retries": 1000}], timeout="60s"))
    stage.clock.on(seconds=30)
    assert turn(stage, run.id).state is RunState.RUNNING
    stage.clock.on(hours=-5)
    turn(stage, run.id, back=True)
    for _ in range(13):
        stage.clock.on(seconds=5)
        turn(stage, run.id)
    assert ended(stage.run(run.id)) == (RunState.FAILED, "The runbook's timeout passed.")
    assert stage.script.steps()[-1] == "undo"


@settings(max_examples=25, deadline=None)
@given(jumps=st.lists(st.tuples(st.integers(-7200, 7200), st.integers(0, 12)), max_size=5))
def test_however_a_clock_jumps_a_run_comes_to_its_end(jumps: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        try:
            stage.script.on("proof", done(exit_code=1))
            run = stage.play(book(verify=[TRIED]))
            for by, then in jumps:
                stage.clock.on(seconds=by)
                turn(stage, run.id, back=by < 0)
                for _ in range(then):
                    stage.clock.on(seconds=1)
                    turn(stage, run.id)
            for _ in range(2 * 5 * 4):
                stage.clock.on(seconds=1)
                turn(stage, run.id)
            assert stage.run(run.id).state is RunState.FAILED
            assert stage.script.steps().count("proof") <= 4
            assert stage.script.steps()[-1] == "undo"
        finally:
            stage.close()
