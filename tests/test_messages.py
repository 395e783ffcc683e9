"""Messages: what an on-call reads, from states in a real store."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import SickbayError
from bot.guard.drain import Said, Turn
from bot.messages import (
    Mask,
    approval_card,
    host_table,
    incident_card,
    output_text,
    plan_text,
    refusal_card,
    run_card,
)
from bot.messages.card import (
    Buttons,
    Card,
    Checklist,
    Mention,
    Note,
    Output,
    Plain,
    Table,
    Text,
    Title,
    plain,
)
from bot.messages.short import cut, tail, took
from bot.messages.words import phrases, say
from bot.runs.run import Requester, Run, RunState, Status
from bot.verdict import Verdict
from bot.views import incident_views, run_view
from tests.parts.stage import attempts
from tests.parts.states import ALICE, BOB, CHECK, PEOPLE, Scene, inventory


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.at(tmp_path)


def lines(card: Card) -> list[str]:
    """Return a card as plain lines, the way a reader goes down it."""
    found: list[str] = []
    for node in card.nodes:
        match node:
            case Title(words) | Text(words) | Note(words):
                found.append(plain(words))
            case Checklist(items):
                for item in items:
                    found += [
                        f"[{item.mark}] {plain(item.words)}",
                        *(f"  {plain(words)}" for words in item.under),
                    ]
            case Output(text, caption):
                found += [plain(caption), *text.splitlines()]
            case Table(columns, rows):
                found += [" | ".join(row) for row in (columns, *rows)]
            case Buttons(buttons):
                found.append(" ".join(f"<{button.label}>" for button in buttons))
    return found


def shown_incident(scene: Scene, incident: int) -> list[str]:
    found = scene.store.incidents.get(incident)
    assert found is not None
    return lines(incident_card(found, incident_views(scene.store, found)))


def shown_run(scene: Scene, run_id: int) -> list[str]:
    run = scene.store.runs.get(run_id)
    assert run is not None
    return lines(run_card(run_view(scene.store, run)))


def shown_approval(scene: Scene, run_id: int) -> list[str]:
    run = scene.store.runs.get(run_id)
    assert run is not None
    return lines(approval_card(run_view(scene.store, run), PEOPLE, scene.clock()))


def test_an_incident_tells_what_where_since_when_and_what_is_done_about_it(scene: Scene) -> None:
    incident = scene.incident()
    run_id = scene.run(incident=incident)
    run = scene.claim(run_id)
    scene.look(run)
    scene.ask(run)
    assert shown_incident(scene, incident) == [
        "🔴 CRITICAL · VLLMStalled · gpu-03",
        "vLLM on gpu-03 stopped answering",
        f"incident {incident} · since 2026-03-01 03:00 UTC · 1 alert · runbook restart-container · source",
        "Diagnosed: container up, no token for 120 s with 3 requests running; fine: GPUs",
        "✋ Waiting for approval of restart-container on gpu-03 until 03:10 UTC, in the thread",
    ]


def test_an_incident_goes_from_looking_through_steps_to_recovered_and_resolved(scene: Scene) -> None:
    incident = scene.incident()
    run_id = scene.run(incident=incident)
    assert shown_incident(scene, incident)[-1] == "restart-container on gpu-03 is queued."
    run = scene.claim(run_id)
    assert shown_incident(scene, incident)[-1] == "⏳ Looking: GPUs on gpu-03"
    scene.look(run)
    plan = scene.ask(run)
    assert scene.store.approvals.decide(run_id, ALICE, "approve", plan.digest[:12]) is None
    run = scene.claim(run_id)
    scene.step(run, "drain", summary="0 sessions left")
    assert (
        shown_incident(scene, incident)[-1]
        == "⏳ restart-container on gpu-03: step 4 of 6, restart the container"
    )
    scene.act(run_id)
    assert shown_incident(scene, incident)[0].startswith("🟡 CRITICAL")
    assert (
        shown_incident(scene, incident)[-1]
        == "🟡 Recovered, verified: one completion in 412 ms. Waiting for the alert to clear."
    )
    scene.clock.on(minutes=3)
    scene.clear(incident)
    assert shown_incident(scene, incident)[0] == "✅ RESOLVED · VLLMStalled · gpu-03"
    assert shown_incident(scene, incident)[-1] == "Resolved after 4 min, recovered by restart-container."


def test_an_incident_without_a_route_says_that_nothing_is_done_and_offers_a_check(scene: Scene) -> None:
    incident = scene.incident(note="No route matches this alert: it is shown, nothing is done.")
    assert shown_incident(scene, incident)[-2:] == [
        "No route matches this alert: it is shown, nothing is done.",
        "<Check gpu-03>",
    ]


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (
            RunState.FAILED,
            "Failed on gpu-03.",
            "❌ restart-container failed on gpu-03. Failed on gpu-03. A person",
        ),
        (
            RunState.NEEDS_HUMAN,
            "Nobody knows how a command ended on gpu-03.",
            "🆘 A person has to look at gpu-03.",
        ),
        (
            RunState.CANCELLED,
            "Nobody approved in time; nothing was changed.",
            "🚫 restart-container was not carried",
        ),
    ],
)
def test_an_incident_whose_run_did_not_help_says_that_a_person_has_to_go_on(
    scene: Scene, state: RunState, reason: str, said: str
) -> None:
    incident = scene.incident()
    run = scene.claim(scene.run(incident=incident))
    scene.store.runs.finish(run, state, reason, None)
    status = next(
        line for line in shown_incident(scene, incident) if line.startswith(said[:1]) and said in line
    )
    assert reason in status


def drained(scene: Scene, run: Run, *, keep: str = "new disk") -> None:
    """Let a run take its host out of traffic."""
    turn = Turn("drain", "lb-01", "/run/x.sock", "be/gpu-03", keep=keep)
    place = ("drain", "gpu-03", 1)
    ((begun,), _) = scene.store.attempts.begin(run, [place], changes={place: turn})
    done = replace(begun, status=Status.OK, summary="0 sessions", facts={"changed": True})
    scene.store.attempts.end(run, [(done, None)])


def test_a_drain_that_a_run_leaves_stands_at_its_incident_until_the_server_takes_traffic(
    scene: Scene,
) -> None:
    incident = scene.incident()
    run = scene.claim(scene.run(incident=incident))
    drained(scene, run)
    assert not [line for line in shown_incident(scene, incident) if "🚧" in line], "the run is at work"
    scene.store.runs.finish(run, RunState.FAILED, "Failed on gpu-03.", None)
    left = (
        "🚧 gpu-03 is out of traffic since 03:00 UTC, for alert VLLMStalled: new disk (be/gpu-03 at lb-01)."
    )
    assert left in shown_incident(scene, incident)
    assert left in shown_run(scene, run.id)
    assert "Left out of traffic: gpu-03 (be/gpu-03). `undrain-host` brings it back." in " ".join(
        shown_run(scene, run.id)
    )

    (drain,) = scene.store.drains.open()
    scene.store.drains.seen(drain.id, Said("maint", "be/gpu-03: maint"))
    (line,) = [line for line in shown_incident(scene, incident) if "🚧" in line]
    assert "Since then it was left drained, and somebody else has put it into maintenance since." in line

    scene.clock.on(minutes=5)
    scene.store.drains.seen(drain.id, Said("ready", "be/gpu-03: ready"))
    assert not [line for line in shown_incident(scene, incident) if "🚧" in line]
    back = (
        "↩️ gpu-03 is no longer held out of traffic since 03:05 UTC (be/gpu-03 at lb-01): it takes traffic: "
    )
    assert f"{back}somebody else has put it back" in shown_run(scene, run.id)


def test_one_of_which_nobody_knows_how_it_ended_is_told_as_that(scene: Scene) -> None:
    incident = scene.incident()
    run = scene.claim(scene.run(incident=incident))
    place = ("drain", "gpu-03", 1)
    scene.store.attempts.begin(
        run, [place], changes={place: Turn("drain", "lb-01", "/run/x.sock", "be/gpu-03")}
    )
    scene.store.runs.finish(run, RunState.NEEDS_HUMAN, "It broke.", None)
    said = "⚪ Whether gpu-03 takes traffic is not known (be/gpu-03 at lb-01): its end was not seen"
    assert said in shown_incident(scene, incident)
    assert said in shown_run(scene, run.id)


def test_the_incident_names_what_failed_once_in_its_own_words(scene: Scene) -> None:
    incident = scene.incident()
    run = scene.claim(scene.run(incident=incident))
    scene.step(run, "restart", summary="no such container", status=Status.FAILED)
    reason = "Failed on gpu-03. First: restart on gpu-03. Rolled back on gpu-03."
    scene.store.runs.finish(run, RunState.FAILED, reason, None)
    said = "Rolled back on gpu-03. restart the container: no such container. A person has to go on"
    assert any(said in line for line in shown_incident(scene, incident))
    assert not any("First:" in line for line in shown_incident(scene, incident))
    assert reason in shown_run(scene, run.id)


def test_a_check_of_one_host_puts_the_verdict_first_and_the_advice_last(scene: Scene) -> None:
    run_id = scene.run(CHECK, ["gpu-05"], by=Requester("alice", "alice", "slack"))
    scene.checked(run_id, bad="gpu-05", noise=3)
    assert shown_run(scene, run_id) == [
        "🔴 unhealthy · gpu-check · gpu-05",
        "[done] 1. driver answers · 1.2 s · driver 580.82",
        "[unhealthy] 2. GPUs · 1.2 s · GPU 5 fell off the bus (Xid 79)",
        "Next: Reboot the host; if it comes back, replace GPU 5. (gpu-05)",
        "GPUs on gpu-05 printed:",
        "line 0",
        "line 1",
        "line 2",
        f"run {run_id} · by alice · started 2026-03-01 03:00 UTC · took 2.4 s",
    ]


def test_hosts_that_answered_alike_are_folded_into_one_line(scene: Scene) -> None:
    hosts = list(inventory().hosts)
    run_id = scene.run(CHECK, hosts)
    scene.checked(run_id, bad="gpu-03", noise=60)
    shown = shown_run(scene, run_id)
    assert shown[:3] == [
        "🔴 1 of 8 unhealthy · gpu-check · gpu-[01-08]",
        "🔴 gpu-03 unhealthy: GPU 5 fell off the bus (Xid 79)",
        "🟢 gpu-[01-02,04-08] healthy: 8 GPUs fine",
    ]
    assert shown[3].endswith("8 hosts · driver 580.82")
    assert shown[5:7] == ["  gpu-03 GPU 5 fell off the bus (Xid 79)", "  gpu-[01-02,04-08] 8 GPUs fine"]
    assert "line 59" not in shown, "the tail of a long report that was understood says nothing"


def test_a_host_that_was_not_asked_is_unknown_not_healthy(scene: Scene) -> None:
    run_id = scene.run(CHECK, ["gpu-01", "gpu-02"])
    run = scene.claim(run_id)
    scene.step(run, "driver", "gpu-01", "driver 580.82")
    scene.step(run, "gpus", "gpu-01", "8 GPUs fine", verdict=Verdict.HEALTHY)
    scene.step(run, "driver", "gpu-02", "unreachable (tcp): timed out", status=Status.UNREACHABLE)
    scene.store.runs.finish(run, RunState.FAILED, "Failed on gpu-02.", Verdict.UNKNOWN)
    shown = shown_run(scene, run_id)
    assert shown[0] == "❌ Failed · gpu-check · gpu-[01-02]"
    assert shown[1:4] == [
        "Failed on gpu-02.",
        "❌ gpu-02 failed: unreachable (tcp): timed out",
        "🟢 gpu-01 healthy: 8 GPUs fine",
    ]


def test_a_running_run_shows_what_is_done_what_is_going_and_what_is_to_come(scene: Scene) -> None:
    run_id = scene.run()
    run = scene.claim(run_id)
    scene.step(run, "gpus", summary="8 GPUs fine", verdict=Verdict.HEALTHY)
    scene.store.attempts.begin(run, [("progress", "gpu-03", 1)])
    shown = shown_run(scene, run_id)
    assert shown[0] == "⏳ Running · restart-container · gpu-03"
    assert shown[1:4] == [
        "[done] 1. GPUs · 1.2 s · 8 GPUs fine",
        "[busy] 2. forward progress · since 03:00 UTC",
        "[todo] 3. drain at the load balancer",
    ]
    assert not any("capture logs" in line for line in shown), "a rescue is not promised"
    assert shown[-1] == "<Cancel run>"


def test_a_step_that_was_not_needed_says_no_more_than_that(scene: Scene) -> None:
    run_id = scene.run()
    run = scene.claim(run_id)
    scene.step(run, "gpus", summary="not needed: steps.a.ok and not steps.b.failed", status=Status.SKIPPED)
    assert shown_run(scene, run_id)[1] == "[skipped] 1. GPUs · not needed"


def test_a_failed_step_shows_the_end_of_its_output(scene: Scene) -> None:
    run_id = scene.run(CHECK, ["gpu-01"])
    run = scene.claim(run_id)
    noise = "".join(f"line {number}\n" for number in range(40))
    scene.step(run, "driver", "gpu-01", "exit code 9", status=Status.FAILED, stdout=noise)
    scene.store.runs.finish(run, RunState.FAILED, "Failed on gpu-01.", Verdict.UNKNOWN)
    shown = shown_run(scene, run_id)
    assert shown[shown.index("driver answers on gpu-01 printed:") + 1 :][:2] == [
        "… 25 lines before this, see the file",
        "line 25",
    ]


def test_the_question_names_who_what_where_why_and_until_when_in_six_lines(scene: Scene) -> None:
    incident = scene.incident()
    run_id = scene.run(incident=incident)
    run = scene.claim(run_id)
    scene.look(run)
    plan = scene.ask(run)
    assert shown_approval(scene, run_id) == [
        "✋ Approve restart-container on gpu-03?",
        "Why: container up, no token for 120 s with 3 requests running; fine: GPUs",
        "Does: drain at the load balancer on gpu-03: drain",
        "Does: restart the container on gpu-03: docker restart vllm",
        "Decides: @alice, @bob, until 03:10 UTC. After that nothing is done.",
        f"asked by alert VLLMStalled · run {run_id} · plan {plan.digest[:12]}",
        "<Approve> <Deny>",
    ]


def test_the_buttons_hold_only_the_run_and_the_beginning_of_the_digest(scene: Scene) -> None:
    run_id = scene.run(by=Requester("alice", "alice", "slack"))
    run = scene.claim(run_id)
    plan = scene.ask(run)
    found = scene.store.runs.get(run_id)
    assert found is not None
    card = approval_card(run_view(scene.store, found), PEOPLE)
    values = {button.value for node in card.nodes if isinstance(node, Buttons) for button in node.buttons}
    assert values == {f"{run_id}:{plan.digest[:12]}"}
    called = [
        span
        for node in card.nodes
        if isinstance(node, Text)
        for span in node.words
        if isinstance(span, Mention)
    ]
    assert [mention.name for mention in called] == ["bob"], (
        "the requester is not called to approve their own run"
    )


def test_an_answered_question_says_who_and_when_and_has_no_buttons(scene: Scene) -> None:
    approved, denied, void, expired = [scene.run() for _ in range(4)]
    for run_id in (approved, denied, void, expired):
        scene.ask(scene.claim(run_id))
    scene.store.approvals.decide(approved, BOB, "approve")
    scene.store.approvals.decide(denied, BOB, "deny")
    with scene.store.write() as tx:
        scene.store.approvals.void(tx, void, "the alert has cleared")
    scene.clock.on(minutes=11)
    assert shown_approval(scene, approved)[1] == "Approved by bob at 03:00 UTC."
    assert shown_approval(scene, denied)[1] == "Denied by bob at 03:00 UTC. Nothing was changed."
    assert "the alert has cleared" in shown_approval(scene, void)[1]
    assert shown_approval(scene, expired)[0].startswith("⌛ Not approved in time"), (
        "even before anybody noticed"
    )
    assert not [
        line
        for one in (approved, denied, void, expired)
        for line in shown_approval(scene, one)
        if "<" in line
    ]


def test_the_plan_shows_every_command_with_its_values(scene: Scene) -> None:
    run = scene.claim(scene.run())
    text = plan_text(scene.plan(run))
    assert "batch 1 of 1: gpu-03" in text
    assert "- restart the container (changes, at most 60 s)" in text
    assert "$ docker restart vllm" in text
    assert "NAME='vllm'" in text


def test_the_file_holds_all_outputs(scene: Scene) -> None:
    run_id = scene.run(CHECK, ["gpu-01"])
    scene.checked(run_id, noise=40)
    run = scene.store.runs.get(run_id)
    assert run is not None
    printed = [(one, one.stdout, one.stderr) for one in attempts(scene.store, run_id)]
    text = output_text(run_view(scene.store, run), printed)
    assert "──── GPUs · gpu-01 · try 1" in text
    assert "line 39" in text


def test_many_hosts_of_one_kind_are_one_row() -> None:
    shown = lines(host_table(list(inventory(64).hosts.values())))
    assert shown == [
        "64 hosts",
        "Hosts | Groups | Facts | Number",
        "gpu-[01-64] | @serving | gpus=8 | 64",
    ]


def test_a_refusal_says_what_and_what_to_do() -> None:
    card = refusal_card(SickbayError("no such host: gpu-99", advice="did you mean gpu-09?"))
    assert lines(card) == ["🚫 no such host: gpu-99", "did you mean gpu-09?"]


def test_every_phrase_is_said_somewhere_and_every_said_phrase_exists() -> None:
    root = Path(__file__).parents[1] / "bot"
    source = "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    said = set(re.findall(r'"((?:run|incident|approval|listing|slack)\.[a-z_]+)"', source))
    known = set(phrases())
    events = {one for one in said if f"timeline.{one.replace('.', '_')}" in known}
    assert not {
        one for one in said - events if one not in known and not one.startswith(("run.py", "approval."))
    }
    made = (
        "run.title_",
        "run.host_",
        "approval.title_",
        "approval.preview_",
        "incident.",
        "approval.approved",
        "approval.denied",
        "listing.",
        "timeline.",
    )
    assert not {one for one in known - said if not one.startswith(made)}


def test_values_cannot_format_or_call_anybody() -> None:
    words = say("run.by", name="*bold* <!channel> \x020\x03 {{ 1 }}")
    assert words == (Plain("by *bold* <!channel> 0 {{ 1 }}"),)


def test_known_secrets_and_what_looks_like_one_are_masked() -> None:
    mask = Mask(["s3cr3t-webhook", "x"])
    text = "a s3cr3t-webhook b xoxb-123-abc hf_abcdefghijkl Bearer abcdef123456 HF_TOKEN=hunter22 http://u:pw@h x"
    masked = mask.text(text)
    for secret in ("s3cr3t", "xoxb-", "hf_", "abcdef123456", "hunter22", "pw@"):
        assert secret not in masked
    assert masked.endswith(" x"), "a secret of one letter would blank out words"
    assert (
        mask.text("generation_tokens_total: 123456, token: 123456")
        == "generation_tokens_total: 123456, token: 123456"
    )


def test_every_text_of_a_card_is_masked(scene: Scene) -> None:
    run_id = scene.run(CHECK, ["gpu-01"], by=Requester("xoxb-name-123456"))
    run = scene.claim(run_id)
    scene.step(
        run, "driver", "gpu-01", "token=hunter22 bad", status=Status.FAILED, stdout="key hf_abcdefghijkl\n"
    )
    scene.store.runs.finish(run, RunState.FAILED, "Bearer abcdefghijkl", Verdict.UNKNOWN)
    found = scene.store.runs.get(run_id)
    assert found is not None
    text = repr(Mask().over(run_card(run_view(scene.store, found))))
    for secret in ("hunter22", "hf_abc", "abcdefghijkl", "xoxb-name"):
        assert secret not in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.42, "0.4 s"),
        (12, "12 s"),
        (59.6, "1 min"),
        (240, "4 min"),
        (3900, "1 h 5 min"),
        (300_000, "3 days"),
    ],
)
def test_durations_are_short(seconds: float, said: str) -> None:
    assert took(timedelta(seconds=seconds)) == said


def test_long_texts_are_cut_visibly() -> None:
    assert cut("abcdef", 4) == "abc…"
    assert tail("a\nb\nc", 2) == "… 1 line before this, see the file\nb\nc"
