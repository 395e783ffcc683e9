"""An incident's report: when, where and how, for somebody who was not there; from runs that an engine really did."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.alert import Alert
from bot.commands.reporting import report
from bot.errors import SickbayError
from bot.incident import Event
from bot.messages import Mask
from bot.messages.card import Output
from bot.messages.report import LINES, chronology, markdown, report_card
from bot.messages.timeline import sentence
from bot.messages.words import phrases
from bot.report import Report, Run
from bot.runs.approval import Person
from bot.runs.run import Requester, RunState
from bot.store.timeline import tell
from tests.parts.books import book
from tests.parts.script import BOOT, done
from tests.parts.stage import BOB, Stage
from tests.parts.states import BEGIN

AHEAD = 90.5
"""Seconds by which the host's clock is ahead."""
EPOCH = int(BEGIN.timestamp())
CLOCK = f"m clock {EPOCH + 90}.500000000 5000.00\n"
LOG = """\
2026-02-20T03:01:30.500000+0000 gpu-01 kernel: NVRM: Xid (PCI:0000:1b:00): 31, pid=1, name=old
2026-03-01T03:01:15.500000+0000 gpu-01 kernel: NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.
"""
WORDS = """\
2026-03-01T03:01:20.500000000Z CUDA error: unspecified launch failure
Traceback (most recent call last):
"""


def captured(**parts: str) -> str:
    frames = "".join(f"m begin {name}\n{text}\nm end {name} 0\n" for name, text in parts.items())
    return f"capture m\n{CLOCK}{frames}{CLOCK}"


class Night:
    """An incident on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.alert = Alert(
            "alertmanager",
            "f1",
            "firing",
            BEGIN - timedelta(minutes=1),
            {"alertname": "GPUDown", "severity": "critical", "host": "gpu-01"},
            {"summary": "GPU 3 of gpu-01 is gone"},
        )
        stage.store.alerts.add([self.alert])
        ((alert_id, stored),) = stage.store.alerts.waiting()
        with stage.store.write() as tx:
            self.id = stage.store.incidents.open(
                tx,
                key="k",
                title="GPU 3 of gpu-01 is gone",
                severity="critical",
                channel="oncall",
                host="gpu-01",
                note="",
            )
            stage.store.incidents.join(tx, alert_id, self.id, stored)

    def play(self, **changes: Any) -> int:
        """Play a run to its question, let bob approve it, and take it to its end."""
        runbook = book(**{"evidence": "default", "approval": {"timeout": "10m"}, **changes})
        run = self.stage.play(
            runbook, incident=self.id, mode="approve", requester=Requester("alert GPUDown", via="alert")
        )
        self.stage.clock.on(seconds=40)
        assert self.stage.store.approvals.decide(
            run.id, Person("carol", roles=("guest",)), "approve", via="cli"
        )
        assert self.stage.store.approvals.decide(run.id, BOB, "approve", via="slack") is None
        self.stage.clock.at = BEGIN  # what hosts say is of this moment
        self.stage.advance(run.id)
        return run.id

    def told(self, mask: Mask | None = None) -> Report:
        """Return its report."""
        return report(self.stage.store, self.id, mask or Mask())


@pytest.fixture
def night(stage: Stage) -> Night:
    stage.script.on("evidence.*", done(captured(boot=BOOT, kernel_log=LOG, logs=WORDS)))
    stage.script.on("proof", done("one completion"))
    return Night(stage)


def only(found: Report) -> Run:
    (run,) = found.runs
    return run


def test_it_tells_what_was_seen_decided_and_done_with_hosts_times_put_right(night: Night) -> None:
    run_id = night.play()
    found = night.told()
    run = only(found)
    assert (run.id, run.state, run.by, run.via) == (run_id, "succeeded", "alert GPUDown", "alert")
    (alert,) = found.alerts
    assert (alert.name, alert.labels["host"]) == ("GPUDown", "gpu-01")

    refused, approved = run.decisions
    assert (refused.by, refused.via, refused.counted) == ("carol", "cli", False)
    assert "may not decide this" in refused.why
    assert (approved.by, approved.via, approved.answer, approved.counted) == ("bob", "slack", "approve", True)
    assert run.plan is not None
    assert approved.digest == run.plan.digest
    assert run.plan.fits
    assert [step.command for step in run.plan.steps if step.step == "stop"] == ["stop it"]

    (evidence,) = run.evidence
    assert (evidence.host, evidence.holds) == ("gpu-01", True)
    assert evidence.parts == {"boot": "kept", "kernel_log": "kept", "logs": "kept"}
    (clock,) = found.clocks
    assert (clock.host, clock.offset, clock.unknown) == ("gpu-01", AHEAD, "")
    assert clock.within is not None
    assert clock.within < 0.001
    assert evidence.left_out == 1, "what the driver said days before is no part of this"
    xid, *words = evidence.seen
    assert (xid.raw, xid.at) == ("2026-03-01T03:01:15.500000+0000", BEGIN - timedelta(seconds=15))
    assert xid.text.startswith("Xid 79: ")
    assert [(one.raw, one.at, one.text) for one in words] == [
        (
            "2026-03-01T03:01:20.500000000Z",
            BEGIN - timedelta(seconds=10),
            "CUDA error: unspecified launch failure",
        ),
        ("", None, "Traceback (most recent call last):"),
    ]

    tries = {one.step: one for one in run.tries}
    assert (tries["stop"].command, tries["stop"].changes, tries["stop"].exit_code) == ("stop it", True, 0)
    assert (tries["look"].changes, tries["proof"].stdout.text) == (False, "one completion")
    assert found.chain.fault == ""
    assert found.chain.head == night.stage.store.timeline.head()[1]


def test_the_chronology_has_what_the_host_wrote_before_the_alert_came(night: Night) -> None:
    night.play()
    lines = chronology(night.told())
    assert [line.kind for line in lines[:3]] == ["kernel_log", "logs", "incident.opened"]
    assert lines[0].after is None
    assert lines[1].after == timedelta(seconds=5)
    assert [line.at for line in lines] == sorted(line.at for line in lines)


def test_the_markdown_says_it_to_a_stranger(night: Night) -> None:
    night.play()
    text = markdown(night.told())
    for part in (
        "# Incident 1: GPU 3 of gpu-01 is gone",
        "| 02:59:45.000 ± 1 ms |  | gpu-01 | Xid 79: ",
        "*written there as* `2026-03-01T03:01:15.500000+0000`",
        "- `gpu-01`, run 1, 03:00:00.000: 90.500 s ahead, ± 1 ms",
        "- 03:00:40.000 **bob** (slack): approve (plan `",
        "- 03:00:40.000 **carol** (cli): approve, which did not count: carol may not decide this",
        "It is the plan whose digest stands in the timeline.",
        "made again from what is stored, it is the same.",
        "$ stop it",
        "all of them fit.",
        f"Head: `{night.told().chain.head}`",
    ):
        assert part in text, text
    assert "\n\n\n" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}, rows


def test_the_json_is_of_the_shape_that_is_documented(night: Night) -> None:
    night.play()
    found = night.told()
    data = json.loads(found.model_dump_json())
    assert data["version"] == 1
    assert Report.model_validate_json(json.dumps(data), strict=False) == found
    schema = Report.model_json_schema()
    assert set(data) == set(schema["properties"])
    assert "Seconds that it was ahead" in json.dumps(schema)
    assert data["runs"][0]["decisions"][1]["at"] == "2026-03-01T03:00:40Z"


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        (captured(boot=BOOT, kernel_log=LOG).replace(CLOCK, ""), "the host told no time"),
        (captured(boot=BOOT, kernel_log=LOG).replace(CLOCK, "m clock %s %s\n"), "the host told no time"),
        (
            captured(boot=BOOT, kernel_log=LOG).replace(CLOCK, f"m clock {EPOCH + 9} 5\n", 1),
            "was set forward",
        ),
    ],
)
def test_a_clock_that_nobody_could_measure_is_unknown_and_nothing_is_put_right_by_it(
    night: Night, printed: str, why: str
) -> None:
    night.stage.script.on("evidence.*", done(printed))
    night.play()
    found = night.told()
    (clock,) = found.clocks
    assert (clock.offset, clock.within) == (None, None)
    assert why in clock.unknown
    (evidence,) = only(found).evidence
    assert {one.at for one in evidence.seen} == {None}
    text = markdown(found)
    assert f"unknown, {clock.unknown}".replace("'", "'") in text
    assert "at `2026-03-01T03:01:15.500000+0000` of its own clock: Xid 79" in text


def test_without_evidence_it_says_that_no_clock_was_measured(night: Night) -> None:
    night.play(evidence="none")
    assert night.told().clocks == ()
    assert "Not measured: no evidence was taken." in markdown(night.told())


def test_a_host_that_is_given_up_or_a_run_that_failed_reads_as_such(night: Night) -> None:
    night.stage.script.on("stop", done("", exit_code=3, stderr="no such container\n"))
    night.play()
    text = markdown(night.told())
    assert "failed, unknown: Failed on gpu-01." in text
    assert "`gpu-01`: failed, exit code 3" in text
    assert "stderr, 18 bytes:\n\n```text\nno such container\n```" in text


def test_who_decided_alone_is_told_with_the_reason_and_who_no_longer_counts_as_such(night: Night) -> None:
    two = {"approval": {"timeout": "10m", "required": 2}}
    run = night.stage.play(book(**two), incident=night.id, mode="approve")
    carol = Person("carol", roles=("oncall",))
    decide = night.stage.store.approvals.decide
    assert decide(run.id, carol, "approve", via="slack") is None
    assert (
        decide(run.id, BOB, "approve", people={"carol": None}, glass="the fire is spreading", via="cli")
        is None
    )
    given, lapsed, alone = only(night.told()).decisions
    assert (given.by, given.counted) == ("carol", True)
    assert (lapsed.by, lapsed.answer, lapsed.counted) == ("carol", "lapsed", False)
    assert (alone.by, alone.counted, alone.why) == (
        "bob",
        True,
        "alone, by breaking glass: the fire is spreading",
    )
    assert "bob (cli) broke glass and decided alone: the fire is spreading" in markdown(night.told())


def test_what_a_guard_rail_said_is_told_with_its_host(night: Night) -> None:
    run_id = night.play()
    with night.stage.store.write() as tx:
        said = {"rail": "capacity", "reaction": "refuse", "why": "it is the last ready replica"}
        tell(tx, BEGIN, "guard.answered", incident=night.id, run=run_id, host="gpu-01", **said)
    (one,) = only(night.told()).guard
    assert (one.host, one.rail, one.reaction) == ("gpu-01", "capacity", "refuse")
    text = markdown(night.told())
    assert "- 03:00:00.000 `gpu-01`, capacity: refuse. it is the last ready replica" in text
    assert "Guard, capacity: refuse. it is the last ready replica" in text


# ── what was worked on ──
def spoil(night: Night, statement: str) -> None:
    with closing(sqlite3.connect(night.stage.store.database.path)) as file:
        file.executescript(statement)


def test_evidence_and_plans_that_are_not_what_the_timeline_has_are_told(night: Night) -> None:
    night.play()
    spoil(
        night,
        "UPDATE runs SET plan = replace(plan, 'stop it', 'halt it'); "
        "UPDATE outputs SET data = (SELECT data FROM outputs ORDER BY size LIMIT 1)",
    )
    found = night.told()
    run = only(found)
    assert run.plan is not None
    assert not run.plan.fits
    assert not run.evidence[0].holds
    text = markdown(found)
    assert "**It is not the plan whose digest stands in the timeline.**" in text
    assert "**made again from what is stored, it is another.**" in text


def test_how_a_command_ended_is_what_the_timeline_says_whatever_the_row_says_now(night: Night) -> None:
    night.play()
    spoil(night, "UPDATE attempts SET exit_code = 9, status = 'failed', summary = 'x' WHERE step = 'stop'")
    (stop,) = (one for one in only(night.told()).tries if one.step == "stop")
    assert (stop.status, stop.exit_code) == ("ok", 0)


def test_a_timeline_that_does_not_hold_is_told_in_the_report_and_on_the_card(night: Night) -> None:
    night.play()
    spoil(night, "DROP TRIGGER events_are_not_edited; UPDATE events SET data = '{}' WHERE id = 2")
    found = night.told()
    assert "event 2 (" in found.chain.fault
    assert "**It does not hold:** event 2 (at 2026" in markdown(found)
    assert "does not hold" in repr(report_card(found))


# ── what strangers say ──
HOSTILE = "x`|*[a](http://b)<img>\n# Head\n```\n| a | b |\n\x1b[31m"


def test_nothing_that_a_host_or_an_alert_says_can_form_the_report(night: Night) -> None:
    night.stage.script.on("stop", done(f"````\n{HOSTILE}", exit_code=1, stderr=HOSTILE))
    night.play()
    with night.stage.store.write() as tx:
        tell(tx, BEGIN, "incident.resolved", incident=night.id, reason=HOSTILE)
        tell(tx, BEGIN, "strange.news", incident=night.id, host="gpu-01", what=HOSTILE)
    text = markdown(night.told())
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "\x1b" not in text
    assert "<img" not in outside.replace("\\<img", "")
    assert "# Head" not in re.sub(r"\\#", "", outside)
    assert "](http" not in re.sub(r"\\\]\(http", "", outside)
    headings = re.findall(r"^#+ (.*)", outside, re.MULTILINE)
    assert headings[0].startswith("Incident 1")
    assert not any("Head" in heading for heading in headings)


def test_secrets_are_in_neither_form(night: Night) -> None:
    night.stage.script.on("stop", done("HF_TOKEN=hf_abcdefghijklmnop", exit_code=1, stderr="my-own-secret"))
    night.play()
    found = night.told(Mask(["my-own-secret"]))
    for text in (markdown(found), found.model_dump_json()):
        assert "hf_abc" not in text
        assert "my-own-secret" not in text
        assert "•••" in text


def test_evidence_with_a_secret_in_it_is_kept_sealed_and_told_without_it_and_the_chain_fits(
    night: Night,
) -> None:
    night.stage.store.mask.learn(["my-own-secret"])
    night.stage.script.on("evidence.*", done(captured(boot=f"{BOOT}my-own-secret", logs=WORDS)))
    night.stage.script.on("look", done("my-own-secret"))
    night.play()
    found = night.told()
    (evidence,) = only(found).evidence
    assert evidence.holds
    assert "my-own-secret" not in found.model_dump_json()
    assert "•••" in next(one.stdout.text for one in only(found).tries if one.step == "evidence")
    assert found.chain.fault == ""


def test_an_incident_that_is_not_there_is_told(stage: Stage) -> None:
    with pytest.raises(SickbayError, match="there is no incident 7") as told:
        report(stage.store, 7, Mask())
    assert told.value.advice == "`incidents` lists the newest"


def test_an_incident_about_which_nothing_was_done_has_a_report_too(night: Night) -> None:
    night.stage.store.timeline.note("service.started", version="0.1.0", machine="bastion")
    with night.stage.store.write() as tx:
        night.stage.store.incidents.resolve(tx, night.id, "the alert has cleared")
    found = night.told()
    assert found.runs == ()
    assert "service.started" in [one.kind for one in found.timeline], "what else happened meanwhile"
    assert "Sickbay 0\\.1\\.0 started on bastion" in markdown(found).replace("0.1.0", "0\\.1\\.0")


def test_what_printed_a_lot_is_cut_and_says_so(night: Night) -> None:
    night.stage.script.on("stop", done("x" * 400_000))
    night.play()
    (stop,) = (one for one in only(night.told()).tries if one.step == "stop")
    assert stop.stdout.cut
    assert stop.stdout.bytes == 400_000
    assert 200_000 < len(stop.stdout.text) < 300_000


def test_the_card_is_short_and_says_where_the_rest_is(night: Night) -> None:
    for _ in range(4):
        night.play()
    card = report_card(night.told())
    shown = repr(card)
    assert "sickbay incidents export 1" in shown
    assert "more line" in shown
    (output,) = (node for node in card.nodes if isinstance(node, Output))
    assert len(output.text.splitlines()) == LINES
    assert night.told().chain.head in shown


# ── sentences ──
def kinds() -> Iterator[str]:
    """Yield every kind of event that is told anywhere."""
    for path in (Path(__file__).parents[1] / "bot").rglob("*.py"):
        source = path.read_text("utf-8")
        yield from re.findall(r"""\b(?:tell|tell_each|note|_tell)\([^"']*"([a-z]+\.[a-z_]+)\"""", source)
    yield from (f"run.{state}" for state in (RunState.WAITING, RunState.RUNNING))
    yield from ("alert.firing", "alert.resolved")


def test_every_kind_of_event_has_a_sentence() -> None:
    found = set(kinds())
    assert {"run.queued", "step.ended", "host.enrolled", "slack.reached", "service.stopped"} <= found
    known = set(phrases())
    assert {kind for kind in found if f"timeline.{kind.replace('.', '_')}" not in known} == set()


def test_an_event_without_a_sentence_or_without_what_it_should_hold_is_shown_as_it_stands() -> None:
    strange = Event(1, BEGIN, "tide.turned", data={"by": "alice", "n": 3, "empty": ""})
    assert sentence(strange) == "tide.turned: by alice, n 3"
    assert sentence(Event(1, BEGIN, "tide.turned")) == "tide.turned"
    for kind in set(kinds()):
        assert sentence(Event(1, BEGIN, kind))


def test_a_sentence_is_one_line_whatever_it_holds() -> None:
    told = Event(
        1, BEGIN, "step.ended", step="look", data={"status": "ok", "summary": HOSTILE, "exit_code": 0}
    )
    said = sentence(told, "look around")
    assert said.startswith("look around: ok, exit code 0. x`|")
    assert "\n" not in said
    assert "\x1b" not in said
