"""A stalled replica: from Alertmanager's first word to the resolved incident, and the same with the bot killed in the middle."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from bot.report import Report
from bot.runs.run import RunState, Status
from bot.sim.slack import Message
from tests.parts.alertmanager import Alertmanager
from tests.parts.programs import wait_until
from tests.stories.stage import ANNOTATIONS, LABELS, SECRET, Stage

pytestmark = pytest.mark.timeout(180)


@contextmanager
def alertmanager(stage: Stage) -> Iterator[Alertmanager]:
    """A real Alertmanager that posts to the Sickbay that runs now."""
    folder = stage.folder / "alertmanager"
    folder.mkdir()
    with Alertmanager(folder, f"{stage.serve.address}/alerts/alertmanager", SECRET) as one:
        yield one


def ask(url: str, tokens: int) -> str:
    """A client of the service: one streamed completion through the load balancer; raises when it is broken off."""
    body = json.dumps({"prompt": "How are you?", "max_tokens": tokens, "stream": True}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as answer:
        text: str = answer.read().decode()
    assert text.rstrip().endswith("data: [DONE]")
    return text


def hang_with_a_request_in_flight(stage: Stage, clients: ThreadPoolExecutor) -> list[Future[str]]:
    """Stall gpu-03's engine, with a client's request in it."""
    stage.sick.stall()
    requests = [clients.submit(ask, stage.balancer.frontend, 5) for _ in range(2)]
    stage.sick.wait_running(1)
    return requests


def approval(stage: Stage) -> tuple[Message, Message]:
    """Wait for the question in the incident's thread; return the incident and the question."""
    slack = stage.slack.slack

    def asked() -> tuple[Message, Message] | None:
        for root in slack.messages("oncall"):
            for reply in slack.thread("oncall", root.ts):
                if "'action_id': 'approve'" in repr(reply):
                    return root, reply
        return None

    found = stage.slack.call(slack.wait_for(asked, 40), 45)
    assert found is not None
    return found


def approve(stage: Stage, user: str = "alice") -> None:
    _, question = approval(stage)
    delivery = stage.slack.call(stage.slack.slack.click(user, "oncall", question.ts, "approve"))
    assert delivery.acked


def run_state(stage: Stage) -> RunState:
    with stage.store() as store:
        run = store.runs.get(1)
        assert run is not None
        return run.state


def shown(stage: Stage, text: str, seconds: float = 40) -> None:
    """Wait until the incident's message says this."""
    slack = stage.slack.slack
    seen = slack.wait_for(lambda: any(text in repr(root) for root in slack.messages("oncall")), seconds)
    stage.slack.call(seen, seconds + 5)


def attempts(stage: Stage) -> dict[tuple[str, int], Status]:
    with stage.store() as store:
        return {(one.step, one.number): one.status for one in store.attempts.of(1)}


def test_a_stalled_replica_is_diagnosed_recovered_after_approval_and_the_incident_resolved(
    stage: Stage,
) -> None:
    before = stage.docker.started_at("vllm")
    with ThreadPoolExecutor() as clients:
        requests = hang_with_a_request_in_flight(stage, clients)
        stage.serve.start()
        with alertmanager(stage) as monitor:
            monitor.fire(LABELS, ANNOTATIONS)
            root, question = approval(stage)
            assert "gpu-03" in repr(root)
            assert "no token in 1 s" in repr(root)
            assert "set server be_vllm/gpu-03 state drain" in repr(question)
            assert stage.docker.started_at("vllm") == before, "something was changed before anybody approved"
            assert stage.balancer.server_state("gpu-03") == "UP"

            stranger = stage.slack.call(stage.slack.slack.click("mallory", "oncall", question.ts, "approve"))
            assert stranger.acked
            told = stage.slack.slack.wait_for(lambda: stage.slack.slack.ephemerals("mallory"))
            assert "mallory" in repr(stage.slack.call(told))

            approve(stage)
            stage.balancer.wait_for("gpu-03", "DRAIN", seconds=20)
            stage.sick.finish_in_flight()
            assert all("[DONE]" in request.result(60) for request in requests), "the drain broke a request"

            wait_until(lambda: run_state(stage).ended, "the end of the run", seconds=60)
            assert run_state(stage) is RunState.SUCCEEDED, attempts(stage)
            after = stage.docker.started_at("vllm")
            assert before is not None
            assert after is not None
            assert after > before
            stage.balancer.wait_for("gpu-03", "UP")
            assert "[DONE]" in ask(stage.balancer.frontend, 1)

            monitor.resolve(LABELS)
            shown(stage, "RESOLVED")
    assert len(stage.slack.slack.messages("oncall")) == 1, "one incident is one root message"
    assert stage.serve.stop() == 0
    the_report_tells_it_to_who_was_not_there(stage)


def sickbay(stage: Stage, *words: str) -> str:
    """Say something in a terminal there."""
    command = [sys.executable, "-m", "bot", *words, "--config", str(stage.serve.config)]
    said = subprocess.run(command, env=stage.serve.environ, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def the_report_tells_it_to_who_was_not_there(stage: Stage) -> None:
    found = Report.model_validate_json(sickbay(stage, "incidents", "export", "1", "--format", "json"))
    (run,) = found.runs
    assert (found.state, found.recovered_by, run.state, run.verdict) == (
        "resolved",
        1,
        "succeeded",
        "healthy",
    )
    assert [(one.by, one.via, one.answer) for one in run.decisions if one.counted] == [
        ("alice", "slack", "approve")
    ]
    assert run.plan is not None
    assert run.plan.fits
    (evidence,) = run.evidence
    assert (evidence.host, evidence.holds) == ("gpu-03", True)
    (clock,) = found.clocks
    assert clock.offset is not None
    assert clock.within is not None
    assert abs(clock.offset) <= clock.within < 10, "it is this machine's own clock"
    tries = {one.step: one for one in run.tries}
    assert (tries["restart"].changes, tries["restart"].exit_code) == (True, 0)
    assert "docker restart" in tries["restart"].command
    assert tries["drain"].on == "lb-01"
    assert {one.about for one in found.messages if one.state == "posted"} >= {"incident:1", "run:1", "plan:1"}
    text = sickbay(stage, "incidents", "show", "1")
    for part in ("Recovery was verified by run 1", "**alice** (slack): approve", found.chain.head):
        assert part in text
    assert f"Head: {found.chain.head}" in sickbay(stage, "audit", "verify", "--head", found.chain.head)


@pytest.mark.parametrize("step", ["drain", "restart", "serves"])
def test_a_bot_killed_in_the_middle_goes_on_and_restarts_the_container_once(stage: Stage, step: str) -> None:
    """SIGKILL while this step is going, then a new start: the run ends, and Docker saw one restart."""
    before = stage.docker.started_at("vllm")
    stage.hosts["gpu-03"].program(
        "docker",
        stage.hosts["gpu-03"]
        .bin.joinpath("docker")
        .read_text()
        .replace("#!/bin/sh\n", f'#!/bin/sh\necho "$*" >>{stage.folder}/docker.calls\n'),
    )
    with ThreadPoolExecutor() as clients:
        hang_with_a_request_in_flight(stage, clients)
        stage.serve.start()
        with alertmanager(stage) as monitor:
            monitor.fire(LABELS, ANNOTATIONS)
            approve(stage)
            wait_until(lambda: (step, 1) in attempts(stage), f"step {step} to begin", seconds=60, every=0.005)
            stage.serve.kill()
        done = {place for place, status in attempts(stage).items() if status is Status.OK}
        stage.serve.start()
        wait_until(lambda: run_state(stage).ended, "the end of the run", seconds=60)

        assert run_state(stage) is RunState.SUCCEEDED, attempts(stage)
        calls = stage.folder.joinpath("docker.calls").read_text().splitlines()
        assert len([call for call in calls if call.startswith("restart")]) == 1
        after = stage.docker.started_at("vllm")
        assert before is not None
        assert after is not None
        assert after > before
        with stage.store() as store:
            assert store.drains.open() == [], "a drain was left behind"
            ended = [
                (event.step, event.data["number"])
                for event in store.timeline.of(run=1)
                if event.kind == "step.ended"
            ]
        assert len(ended) == len(set(ended)), "a finished step was done again"
        assert done <= set(ended)
        stage.balancer.wait_for("gpu-03", "UP")
        assert stage.serve.stop() == 0
