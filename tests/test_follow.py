"""Runs followed in a terminal: what is asked, who answers, and who takes a run further."""

import copy
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml
from rich.console import Console

from bot.assembly import Assembly
from bot.cli.follow import Follower
from bot.commands.verbs import Asker
from bot.config.config import load
from bot.runs.run import RunState
from tests.parts.clinic import BOOKS, Clinic
from tests.parts.programs import wait_until
from tests.parts.states import ALICE, BOB

UNNAMED = "a-secret-that-nobody-named"


class Seat:
    """Alice at a terminal, in this process."""

    def __init__(self, clinic: Clinic) -> None:
        self.parts = Assembly.of(*load(clinic.config, clinic.environ), clinic.environ)
        self.alice = Asker("alice", ALICE)
        self.screen = io.StringIO()
        console = Console(file=self.screen, force_terminal=True, width=100, color_system=None)
        self.follower = Follower(self.parts, self.alice, console)

    def start(self, words: str) -> tuple[int, ...]:
        """Say it; return the runs."""
        reply = self.parts.commands.do(words, self.alice)
        assert reply.ok, reply.card
        return reply.runs

    def state(self, run_id: int) -> RunState:
        """Where a run stands."""
        run = self.parts.store.runs.get(run_id)
        assert run is not None
        return run.state

    @contextmanager
    def once(self, words: str, deed: str) -> Iterator[None]:
        """As soon as the screen shows these words, let bob say yes or no."""

        def watch() -> None:
            wait_until(lambda: words in self.screen.getvalue(), f"{words!r} on the screen")
            assert self.parts.commands.do(deed, Asker("bob", BOB)).ok

        other = threading.Thread(target=watch)
        other.start()
        yield
        other.join()


@pytest.fixture
def seat(clinic: Clinic) -> Iterator[Seat]:
    book = {"version": 1, "name": "mend", **copy.deepcopy(BOOKS["mend"])}
    book["approval"]["allow_requester"] = True
    book["steps"][1]["run"] += f"; export TOKEN={UNNAMED}"
    (clinic.folder / "runbooks/mend.yaml").write_text(yaml.safe_dump(book))
    one = Seat(clinic)
    yield one
    one.parts.store.close()


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_no_at_the_prompt_denies(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, "no\n")
    assert not seat.follower.follow(seat.start("run mend gpu-01"))
    shown = seat.screen.getvalue()
    assert shown.index("Approve mend on gpu-01?") < shown.index("$ echo glued") < shown.index("[yes/no/wait]")
    assert "nothing was changed" in shown


@pytest.mark.parametrize("typed", ["wait\n", "\n", ""])
def test_who_waits_or_closes_the_keyboard_sees_what_others_decide(
    seat: Seat, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    type_in(monkeypatch, typed)
    runs = seat.start("run mend gpu-01")
    with seat.once("or in Slack", f"approve {runs[0]}"):
        assert seat.follower.follow(runs)
    assert seat.screen.getvalue().count("[yes/no/wait]") == 1, "asked once"


def test_the_plan_on_the_screen_shows_no_secret(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, "no\n")
    seat.follower.follow(seat.start("run mend gpu-01"))
    assert "export TOKEN=•••" in seat.screen.getvalue()
    assert UNNAMED not in seat.screen.getvalue()


def test_a_decision_is_left_to_whoever_advances_the_runs(seat: Seat) -> None:
    delivery = seat.parts.delivery(seat.parts.remote())
    delivery.start()
    try:
        (run_id,) = seat.start("run nap gpu-01 long=2")
        assert seat.follower.finish(run_id)
        assert not seat.state(run_id).ended, "it did not wait"
    finally:
        delivery.stop()
    assert seat.screen.getvalue() == ""
    assert seat.follower.finish(run_id), "now it is up to us"
    assert seat.state(run_id) is RunState.SUCCEEDED


def test_a_second_ctrl_c_leaves_at_once(clinic: Clinic) -> None:
    stubborn = {**BOOKS["nap"], "steps": [{"id": "nap", "run": "trap '' TERM HUP INT; sleep 20; sleep 20"}]}
    book = {"version": 1, "name": "nap", **stubborn, "inputs": {}}
    (clinic.folder / "runbooks/nap.yaml").write_text(yaml.safe_dump(book))
    with clinic.talk("run", "nap", "gpu-01", tty=True) as talk:
        talk.until("Running")
        talk.interrupt()
        talk.until("Ctrl-C again leaves at once")
        talk.interrupt()
        began = time.monotonic()
        code = talk.end()
        assert time.monotonic() - began < 5
    assert code == 130
    assert "Traceback" not in talk.text
