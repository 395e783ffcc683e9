"""A run on a thousand hosts: no thread waits for a host, no host for another, and nothing is held that can be read again."""

import threading
from pathlib import Path
from typing import Any

import pytest

from bot.effect import Output
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from bot.runs.run import RunState, Status
from tests.parts.books import book
from tests.parts.programs import wait_until
from tests.parts.script import REFUSED, World, done
from tests.parts.stage import Stage

MANY = Inventory(Host(f"gpu-{number:04}", "192.0.2.1") for number in range(1, 1001))
HOSTS = tuple(MANY.hosts)
DEAD = HOSTS[::16][:64]
THREADS = 80


def looking(*steps: dict[str, Any], **changes: Any) -> Runbook:
    """Return an observe runbook that bears with some failures."""
    rest = {"kind": "observe", "verify": [], "rescue": [], "always": [], "max_failures": "50%"}
    return book(**{**rest, "steps": list(steps), **changes})


LOOK = {"id": "look", "run": "nvidia-smi -L"}
TELL = {"id": "tell", "run": 'logger -- "{{ steps.look.stdout | trim }}"'}


@pytest.fixture
def many(stage: Stage) -> Stage:
    """Set up a stage with a thousand hosts."""
    stage.inventory = MANY
    stage.restart()
    return stage


def test_dead_hosts_delay_none_of_the_others(many: Stage) -> None:
    gate = threading.Event()
    many.script.on("look", REFUSED, host="|".join(DEAD), gate=gate)
    run_id = many.queue(looking(LOOK, TELL), HOSTS)
    before = threading.active_count()
    thread = many.apart(run_id)
    alive = len(HOSTS) - len(DEAD)
    wait_until(
        lambda: many.script.steps().count("tell") == alive, "the second step of all others", seconds=60
    )
    assert threading.active_count() - before <= 3, "the run, the hosts of the test, and who writes outputs"
    assert threading.active_count() <= THREADS
    assert len(many.script.steps()) == len(HOSTS) + alive
    gate.set()
    thread.join(30)
    run = many.run(run_id)
    assert (run.state, len(run.reason) < 700) == (RunState.FAILED, True)
    tally = {(step, status): hosts for step, status, _, hosts in many.store.attempts.tally(run_id)}
    assert tally == {
        ("look", Status.OK): alive, ("look", Status.UNREACHABLE): len(DEAD), ("tell", Status.OK): alive,
    }  # fmt: skip


def test_a_thousand_hosts_share_commits_and_each_is_begun_and_ended_once(many: Stage) -> None:
    commits: list[None] = []
    many.store.database.listen(lambda: commits.append(None))
    run = many.play(looking(LOOK, TELL), HOSTS)
    assert run.state is RunState.SUCCEEDED
    assert len(commits) < 200, "four thousand rows were written in as many commits as there were moments"
    for kind in ("step.begun", "step.ended"):
        places = [(event.step, event.host) for event in many.events(run.id) if event.kind == kind]
        assert len(places) == len(set(places)) == 2 * len(HOSTS)
    sent = [one.step for one in many.script.sent]
    assert sent.index("tell") >= 64, "many hosts begin before the first goes on"


def test_no_output_is_held_and_each_host_sees_its_own(many: Stage) -> None:
    for at, host in enumerate(HOSTS[:100]):
        many.script.on("look", done(f"{at}\n"), host=host)
    many.play(looking(LOOK, TELL), HOSTS[:100])
    assert {
        one.host: dict(one.command.env)["sickbay_1"] for one in many.script.sent if one.step == "tell"
    } == {host: str(at) for at, host in enumerate(HOSTS[:100])}


def test_a_cancel_ends_what_goes_on_all_hosts(many: Stage) -> None:
    held = many.script.on("look", gate=threading.Event())
    run_id = many.queue(looking(LOOK, TELL), HOSTS)
    thread = many.apart(run_id)
    held.wait()
    wait_until(lambda: len(many.script.sent) > 500, "many commands")
    many.store.runs.cancel(run_id, "bob")
    many.engine.cancel(run_id)
    thread.join(30)
    assert many.run(run_id).state is RunState.CANCELLED
    assert {(step, status) for step, status, _, _ in many.store.attempts.tally(run_id)} == {
        ("look", Status.FAILED)
    }
    sent = len(many.script.sent)
    assert sum(hosts for *_, hosts in many.store.attempts.tally(run_id)) == sent


def test_hosts_that_take_their_time_all_take_it_at_once(many: Stage, tmp_path: Path) -> None:
    many.script.close()
    many.script = World(tmp_path / "world", seconds=0.3)  # type: ignore[assignment]
    many.restart()
    run_id = many.queue(looking(LOOK), HOSTS)
    many.apart(run_id)
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, threading.active_count())
        return many.run(run_id).state.ended

    wait_until(ended, "its end", seconds=60)
    assert many.run(run_id).state is RunState.SUCCEEDED
    assert most <= THREADS
    (one, *_) = many.store.attempts.of(run_id)
    assert many.store.attempts.output(one)[0] == Output(b"look/gpu-0001/1 on gpu-0001", 27)
