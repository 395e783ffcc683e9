"""A case written from a run goes as the run went, holds no secret, and is refused where it cannot be the run."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.alert import Alert
from bot.effect import Finished, Lost, Output, TimedOut
from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.inventory import Host, Inventory
from bot.library import Loaded, load_runbook
from bot.messages import Mask
from bot.rehearsal import rehearse
from bot.rehearsal.recording import Recorded, append, case_of
from bot.runs.approval import Person
from bot.runs.run import Run, RunState
from bot.shipped import shipped
from bot.steps import KINDS
from tests.parts.clinic import Clinic
from tests.parts.script import REFUSED, done, printed
from tests.parts.stage import BOB, Stage

BOOK = """\
version: 1
name: mend
description: Mend it
kind: mutate
triggers: [{command: true}, {alert: {match: {alertname: Broken}}}]
evidence: none
max_failures: 5
inputs:
  what: {type: string, pattern: "[a-z]+", default: disk}
steps:
  - {id: look, run: 'cat "/proc/{{ inputs.what }}"', mutates: false}
  - {id: change, when: "'broken' in steps.look.stdout", run: 'mend "{{ inputs.what }}"', timeout: 30s}
verify:
  - {id: proof, run: 'cat "/proc/{{ inputs.what }}"', mutates: false, expect: "'fine' in result.stdout", retries: 3, delay: 1s}
rescue:
  - {id: note, run: "dmesg", mutates: false}
"""


class Studio:
    """A stage with the runbook `mend` as a file."""

    def __init__(self, folder: Path) -> None:
        self.stage = Stage(folder)
        self.folder = folder
        (folder / "mend.yaml").write_text(BOOK)
        self.loaded = load_runbook(folder / "mend.yaml", kinds=KINDS, parsers=PARSERS)
        self.file = folder / "mend.test.yaml"

    def play(
        self, hosts: tuple[str, ...] = ("gpu-01",), *, approve: tuple[Person, ...] = (BOB,), **changes: Any
    ) -> Run:
        """Run it to its end."""
        fields = {"digest": self.loaded.digest, "inputs": {"what": "disk"}, "mode": "approve"} | changes
        run = self.stage.play(self.loaded.runbook, hosts, **fields)
        for person in approve if run.state is RunState.WAITING else ():
            assert self.stage.decide(run.id, person) is None
        return self.end(run)

    def end(self, run: Run) -> Run:
        """Bring a run to its end, over the waits between its tries."""
        for _ in range(30):
            if (run := self.stage.advance(run.id)).state.ended:
                return run
            self.stage.clock.on(minutes=1)
        return run

    def kept(self, run: Run) -> Recorded:
        """Return all that is kept of a run."""
        store = self.stage.store
        return Recorded(
            run,
            store.attempts.of(run.id),
            store.attempts.output,
            store.approvals.get(run.id),
            store.timeline.of(run=run.id),
        )

    def record(self, run: Run, *, loaded: Loaded | None = None, secrets: tuple[str, ...] = ()) -> str:
        """Write a case; return the whole file."""
        mask = Mask(secrets).text
        append(self.file, *case_of(self.kept(run), loaded or self.loaded, self.stage.inventory, mask))
        return self.file.read_text()

    def replayed(self) -> list[str]:
        """Return what the replay of the file has to complain about."""
        results = list(rehearse([self.file]))
        assert results
        return [problem for result in results for problem in result.problems]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """A studio of its own."""
    one = Studio(tmp_path)
    yield one
    one.stage.close()


def broken(studio: Studio) -> None:
    """Make all hosts broken until they are mended."""
    studio.stage.script.on("look", done("broken\n"))
    studio.stage.script.on("proof", done("not yet\n"), done("not yet\n"), done("fine\nand dandy\n"))


# ── what is written ──
def test_a_run_that_went_well_is_written_with_all_that_made_it_so(studio: Studio) -> None:
    broken(studio)
    run = studio.play(inputs={"what": "tape"})
    assert run.state is RunState.SUCCEEDED
    text = studio.record(run)
    assert studio.replayed() == []
    for line in (
        f"run {run.id} of 2026-03-01, gpu-01:",
        "requester: alice",
        "what: tape",
        "- bob",
        "times: 2",
        "match: ^cat",
        "      stdout: |\n        fine\n        and dandy\n",
        "- 'gpu-01 change: run'",
        "    approvals:\n    - hosts: gpu-01\n      answer: approved\n",
        "    messages:\n    - '✅ Approved: mend on gpu-01'\n    - ✅ Done · mend · gpu-01\n",
        "proof: ok",
        "note: not run",
    ):
        assert line in text, line


def test_a_case_written_from_a_run_can_fail(studio: Studio) -> None:
    broken(studio)
    text = studio.record(studio.play())
    studio.file.write_text(text.replace("and dandy", "and dandy, but").replace("fine", "bad"))
    assert any("proof" in one for one in studio.replayed())
    studio.file.write_text(text.replace("- bob", "- bob\n  - eva"))
    assert any("eva was not asked" in one for one in studio.replayed())
    studio.file.write_text(text.replace("answer: approved", "answer: denied"))
    assert any("the question to be denied, it is approved" in one for one in studio.replayed())
    studio.file.write_text(text.replace("Done", "Gone"))
    assert any("people to read '✅ Gone" in one for one in studio.replayed())


@pytest.mark.parametrize(
    ("outcome", "state", "reply"),
    [
        (done("no", exit_code=3, stderr="cannot"), RunState.FAILED, "exit: 3"),
        (REFUSED, RunState.FAILED, "unreachable: true"),
        (Lost("nobody knows", ""), RunState.NEEDS_HUMAN, "lost: true"),
        (Finished(None, printed("half"), Output(), signal="KILL"), RunState.FAILED, "exit: 137"),
    ],
)
def test_what_went_wrong_goes_wrong_again(studio: Studio, outcome: Any, state: RunState, reply: str) -> None:
    broken(studio)
    studio.stage.script.on("change", outcome)
    run = studio.play()
    assert run.state is state
    assert reply in studio.record(run)
    assert studio.replayed() == []


def test_a_command_that_was_cut_off_is_cut_off_again(studio: Studio) -> None:
    broken(studio)
    gate = threading.Event()
    rule = studio.stage.script.on("change", TimedOut(30, printed("half"), Output(), ended=True), gate=gate)
    fields: dict[str, Any] = {"digest": studio.loaded.digest, "inputs": {"what": "disk"}, "mode": "approve"}
    run_id = studio.stage.play(studio.loaded.runbook, **fields).id
    assert studio.stage.decide(run_id) is None
    thread = studio.stage.apart(run_id)
    rule.wait()
    studio.stage.clock.on(seconds=30)
    gate.set()
    thread.join()
    run = studio.stage.run(run_id)
    assert run.state is RunState.FAILED
    assert "delay: 31s" in studio.record(run)
    assert studio.replayed() == []


def test_each_host_answers_for_itself(studio: Studio) -> None:
    broken(studio)
    studio.stage.script.on("proof", done("fine"))
    studio.stage.script.on("look", done("in order"), host="gpu-02")
    studio.stage.script.on("change", done(exit_code=1), host="gpu-03")
    run = studio.play(("gpu-01", "gpu-02", "gpu-03"))
    text = studio.record(run)
    assert studio.replayed() == []
    assert "'on': gpu-[01-03]" in text
    assert "gpu-02 change: skip" in text


def test_an_alert_is_written_and_a_machine_it_calls_by_its_address_is_found_again(studio: Studio) -> None:
    broken(studio)
    labels = {"alertname": "Broken", "instance": "10.0.0.1:9400"}
    alert = Alert("a", "f", "firing", studio.stage.clock.at, labels, {"summary": "it is broken"})
    run = studio.play(alert=alert.as_seen("gpu-01"))
    text = studio.record(run)
    assert "address: 10.0.0.1" in text
    assert "requester" not in text
    assert studio.replayed() == []


def test_a_mode_that_a_route_lowered_and_a_no_are_written(studio: Studio) -> None:
    broken(studio)
    suggested = studio.play(mode="suggest")
    assert "mode: suggest" in studio.record(suggested)
    run = studio.stage.play(
        studio.loaded.runbook, digest=studio.loaded.digest, inputs={"what": "disk"}, mode="approve"
    )
    assert studio.stage.decide(run.id, BOB, "deny") is None
    text = studio.record(studio.stage.advance(run.id))
    assert "deny: bob" in text
    assert "answer: denied" in text
    assert "approvals: 0" in text, "the suggestion asked nobody"
    assert studio.replayed() == []


def test_the_machines_that_a_host_speaks_of_are_written_too(studio: Studio) -> None:
    broken(studio)
    studio.stage.inventory = Inventory(
        [
            Host("gpu-01", "10.0.0.1", vars={"haproxy": {"host": "lb-01"}}, groups=("serving",)),
            Host("lb-01", "10.0.0.9"),
        ]
    )
    studio.stage.restart()
    text = studio.record(studio.play())
    assert "lb-01: {}" in text
    assert "- serving" in text
    assert "10.0.0" not in text, "addresses are nobody's business"


def test_no_secret_is_written(studio: Studio) -> None:
    broken(studio)
    secret = "correct-horse-battery"
    studio.stage.script.on("look", done(f"broken\nPASSWORD={secret}\nuser {secret} hf_abcdefghijk\n"))
    studio.stage.script.on("note", done(stderr=f"Authorization: Bearer {secret}"))
    studio.stage.script.on("change", done(exit_code=1))
    text = studio.record(studio.play(), secrets=(secret,))
    assert secret not in text
    assert "hf_abcdefghijk" not in text
    assert studio.replayed() == []


def test_strange_output_is_written_so_that_it_is_read_again(studio: Studio) -> None:
    raw = b"broken \x00 \xff \x1b[31m\ttab  \r\n - yes\n  : no # \"quoted\" 'too' \xe2\x80\xa8 end  \n\n"
    broken(studio)
    studio.stage.script.on("look", Finished(0, Output(raw, len(raw)), Output()))
    studio.record(studio.play())
    assert studio.replayed() == []


def test_a_case_is_added_to_those_that_are_there_and_not_twice(studio: Studio) -> None:
    broken(studio)
    first, second = studio.play(), studio.play()
    before = "# by hand\n" + studio.record(first)
    studio.file.write_text(before)
    assert studio.record(second).startswith(before.rstrip())
    assert len(list(rehearse([studio.file]))) == 2
    with pytest.raises(SickbayError, match="stands there already"):
        studio.record(second)


# ── what is refused ──
def refused(studio: Studio, run: Run, words: str, **changes: Any) -> None:
    with pytest.raises(SickbayError, match=words) as caught:
        studio.record(run, **changes)
    assert caught.value.advice
    assert not studio.file.exists()


def test_a_run_that_goes_on_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.stage.play(
        studio.loaded.runbook, digest=studio.loaded.digest, inputs={"what": "disk"}, mode="approve"
    )
    refused(studio, run, "run 1 has not ended: it is waiting")


def test_a_run_that_was_cancelled_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.stage.play(
        studio.loaded.runbook, digest=studio.loaded.digest, inputs={"what": "disk"}, mode="approve"
    )
    assert studio.stage.store.runs.cancel(run.id, "alice")
    refused(studio, studio.stage.advance(run.id), "was cancelled by alice")


def test_a_run_for_which_glass_was_broken_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.stage.play(
        studio.loaded.runbook, digest=studio.loaded.digest, inputs={"what": "disk"}, mode="approve"
    )
    assert studio.stage.store.approvals.decide(run.id, BOB, "approve", glass="all is down") is None
    refused(studio, studio.end(run), "bob broke glass in run 1")


def test_a_run_of_another_text_of_the_runbook_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.play()
    (studio.folder / "mend.yaml").write_text(BOOK.replace("Mend it", "Mend it well"))
    refused(studio, run, "has changed since run 1", loaded=studio.loaded.fresh())


def test_a_run_whose_runbook_is_gone_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.play()
    with pytest.raises(SickbayError, match="there is no runbook `mend` any more"):
        case_of(studio.kept(run), None, studio.stage.inventory, str)


def test_a_run_whose_output_is_gone_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.play()
    with studio.stage.store.write() as tx:
        tx.exec_driver_sql("DELETE FROM outputs")
    refused(studio, run, "nothing is kept of what the commands of run 1 printed")


def test_a_run_of_whose_output_the_middle_is_gone_is_refused(studio: Studio) -> None:
    broken(studio)
    long = Output(b"x" * 1000 + b"broken", 3_000_000)
    studio.stage.script.on("look", Finished(0, long, Output()))
    refused(studio, studio.play(), "step look on gpu-01 printed the middle was not kept")


def test_a_run_whose_secrets_decided_it_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.play()
    refused(studio, run, "cannot be replayed as it went", secrets=("broken",))


def test_a_run_on_a_host_that_is_no_longer_there_is_refused(studio: Studio) -> None:
    broken(studio)
    run = studio.play()
    studio.stage.inventory = Inventory([Host("gpu-09", "10.0.0.9")])
    refused(studio, run, "gpu-01 is no longer in the inventory")


def test_a_file_that_is_no_test_or_cannot_be_written_is_refused(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(SickbayError, match="a test of a runbook is called"):
        append(tmp_path / "mend.yaml", "it", {})
    with pytest.raises(SickbayError, match="cannot be written"):
        append(tmp_path / "no" / "mend.test.yaml", "it", {})


# ── as people say it ──
def test_a_real_run_is_recorded_and_replays_green(clinic: Clinic) -> None:
    books = clinic.folder / "runbooks"
    (books / "gpu-check.yaml").write_bytes((shipped("runbooks") / "gpu-check.yaml").read_bytes())
    clinic.write(runbooks=["runbooks"])
    assert clinic.say("run", "gpu-check", "gpu-[01-02]").code == 0
    said = clinic.say("test", "record", "1")
    assert said.code == 0, said.err
    assert "gpu-check.test.yaml: run 1 of " in said.out
    replayed = clinic.say("test", "runbooks/gpu-check.test.yaml")
    assert (replayed.code, "1 passed, 0 failed" in replayed.out) == (0, True), replayed.out
    again = clinic.say("test", "record", "1", "--output", "runbooks/other.test.yaml")
    assert again.code == 0, again.err
    assert (books / "other.test.yaml").read_text() == (books / "gpu-check.test.yaml").read_text()


def test_a_secret_that_a_host_printed_is_in_no_recorded_case(clinic: Clinic) -> None:
    books = clinic.folder / "runbooks"
    (books / "fetch.yaml").write_text(
        "version: 1\nname: fetch\ndescription: Fetch it\nkind: observe\ntriggers: [{command: true}]\n"
        """steps: [{id: get, run: 'KEY="{{ secrets.hub }}"; echo "with $KEY"; echo "$KEY" >&2'}]\n"""
    )
    clinic.write(secrets={"hub": {"env": "HUB_KEY"}})
    key = {"HUB_KEY": "horse-battery-staple"}
    assert clinic.say("run", "fetch", "gpu-01", **key).code == 0
    said = clinic.say("test", "record", "1", **key)
    assert said.code == 0, said.err
    text = (books / "fetch.test.yaml").read_text()
    assert "horse-battery" not in text
    assert "with •••" in text
    replayed = clinic.say("test", "runbooks/fetch.test.yaml")
    assert (replayed.code, "1 passed, 0 failed" in replayed.out) == (0, True), replayed.out


def test_the_main_job_as_it_went_on_real_connections_is_recorded_and_replays_green(clinic: Clinic) -> None:
    books = clinic.folder / "runbooks"
    (books / "restart-container.yaml").write_bytes(
        (shipped("runbooks") / "restart-container.yaml").read_bytes()
    )
    clinic.write(runbooks=["runbooks"], check=[])
    clinic.fleet.stall("gpu-02", ago=120)
    begun = ("run", "restart-container", "gpu-02", "window=1s", "drain_wait=1s", "--as", "alice")
    try:
        with clinic.talk(*begun) as talk:
            talk.until("sickbay approve 1", seconds=60)
            assert clinic.say("approve", "1", "--as", "bob").code == 0
            assert talk.end(seconds=90) == 0, talk.text
    finally:
        clinic.fleet.restore("gpu-02")
    said = clinic.say("test", "record", "1")
    assert said.code == 0, said.err
    text = (books / "restart-container.test.yaml").read_text()
    for part in ("restart: ok", "undrain: ok", "- bob", "server: be_vllm/gpu-02", "lb-01:"):
        assert part in text, part
    replayed = clinic.say("test", "runbooks/restart-container.test.yaml")
    assert (replayed.code, "1 passed, 0 failed" in replayed.out) == (0, True), replayed.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("record",), "it takes the number of one run"),
        (("record", "x"), "it takes the number of one run"),
        (("record", "7"), "there is no run 7"),
        (("--output", "a.test.yaml"), "--output belongs to record"),
    ],
)
def test_a_wrong_word_is_told(clinic: Clinic, words: tuple[str, ...], told: str) -> None:
    said = clinic.say("test", *words)
    assert said.code == 2
    assert told in said.err
