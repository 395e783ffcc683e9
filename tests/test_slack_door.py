"""Slack's door: what people do in Slack and what comes of it, over real Socket Mode."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from pydantic import SecretStr
from slack_sdk.signature import SignatureVerifier
from starlette.applications import Starlette

from bot.config.settings import SlackSection
from bot.config.tokens import Secrets
from bot.errors import SickbayError
from bot.language.runbook import ApprovalRule
from bot.runs.run import Requester
from bot.sim.slack import Message, PretendSlack
from bot.slack.doctor import checks
from bot.slack.door import PATH, SlackDoor
from bot.slack.listeners import ACTIONS, COMMAND, EVENTS
from bot.slack.manifest import SCOPES, manifest, manifest_yaml
from tests.parts.room import Room, door, room, secrets, words
from tests.parts.states import ALICE, CHECK, RESTART, Scene

TWO = RESTART.model_copy(update={"approval": ApprovalRule(required=2)})


@pytest.fixture
async def open_room(tmp_path: Path) -> AsyncIterator[Room]:
    async with room(tmp_path) as found:
        yield found


async def asked(room: Room, by: Requester | None = None) -> tuple[int, Message]:
    """Bring an incident to its question; return the run and the question."""
    incident = room.scene.incident()
    run_id = room.scene.run(incident=incident, by=by)
    run = room.scene.claim(run_id)
    room.scene.look(run)
    room.scene.ask(run)
    return run_id, await room.shows("Approve restart-container")


# ── typing ──
async def test_help_is_told_to_the_asker_only(open_room: Room) -> None:
    delivery = await open_room.slack.slash("alice", "/sickbay", "help")
    assert delivery.acked
    assert "check HOSTS" in words(await open_room.told("alice", "what you can say"))
    assert open_room.slack.messages() == []


async def test_a_word_that_is_not_known_is_answered_with_what_was_meant(open_room: Room) -> None:
    await open_room.slack.slash("mallory", "/sickbay", "chekc gpu-03")
    assert "did you mean `check`?" in words(await open_room.told("mallory", "I don't know `chekc`"))


async def test_a_check_shows_itself_in_the_channel_and_is_edited_as_it_goes(open_room: Room) -> None:
    scene = open_room.scene
    assert (await open_room.slack.slash("mallory", "/sickbay", "check gpu-03")).acked
    queued = await open_room.shows("Queued · gpu-check · gpu-03")
    scene.claim(1)
    running = await open_room.shows("Running · gpu-check · gpu-03")
    assert running.ts == queued.ts
    scene.checked(1)
    ended = await open_room.shows("🟢 healthy · gpu-check · gpu-03")
    assert ended.ts == queued.ts
    assert ended.actions == []
    assert "by mallory" in words(ended)


async def test_hosts_are_shown_as_a_table(open_room: Room) -> None:
    await open_room.slack.slash("alice", "/sickbay", "hosts @serving")
    assert "gpu-08" in words(await open_room.told("alice", "8 hosts"))


async def test_a_stranger_may_look_but_not_change(open_room: Room) -> None:
    await open_room.slack.slash("mallory", "/sickbay", "plan restart-container gpu-[03-04]")
    shown = words(await open_room.told("mallory", "What would be done"))
    assert "batch 2 of 2: gpu-04" in shown
    assert "$ docker restart vllm" in shown
    assert open_room.scene.store.runs.newest() == []
    await open_room.slack.slash("mallory", "/sickbay", "run restart-container gpu-03")
    assert "mallory" in words(await open_room.told("mallory", "changes hosts"))
    assert open_room.scene.store.runs.newest() == []


async def test_a_mention_is_answered_in_its_thread(open_room: Room) -> None:
    delivery = await open_room.slack.mention("mallory", "oncall", "runbooks")
    assert delivery.acked
    assert delivery.ts is not None
    ts = delivery.ts
    answer = await open_room.shows("2 runbooks", lambda: open_room.slack.thread("oncall", ts))
    assert "restart-container" in words(answer)


async def test_a_run_asked_for_by_mention_lives_in_that_thread_and_names_the_stranger(
    open_room: Room,
) -> None:
    delivery = await open_room.slack.mention("mallory", "oncall", "check gpu-03")
    ts = delivery.ts or ""
    found = await open_room.shows("gpu-check", lambda: open_room.slack.thread("oncall", ts))
    assert "by mallory" in words(found)
    assert len(open_room.slack.messages()) == 1


async def test_an_event_delivered_twice_starts_one_run_and_is_answered_once(open_room: Room) -> None:
    check = await open_room.slack.mention("alice", "oncall", "check gpu-03")
    listing = await open_room.slack.mention("alice", "oncall", "runbooks")
    await open_room.shows("2 runbooks")
    for delivery in (check, listing):
        assert (await open_room.slack.resend(delivery)).acked
    await open_room.slack.slash("alice", "/sickbay", "help")
    await open_room.told("alice", "what you can say")
    assert len(open_room.scene.store.runs.newest()) == 1
    assert len(open_room.slack.thread("oncall", listing.ts or "")) == 1


# ── deciding ──
async def test_approve_counts_at_once_and_the_buttons_go(open_room: Room) -> None:
    run_id, question = await asked(open_room)
    assert question.actions == ["approve", "deny"]
    delivery = await open_room.click("alice", question, "approve")
    assert delivery.acked
    answered = await open_room.shows("Approved by alice")
    assert answered.ts == question.ts
    assert answered.actions == []
    approval = open_room.scene.store.approvals.get(run_id)
    assert approval is not None
    assert approval.state == "approved"
    open_room.scene.act(run_id)
    await open_room.shows("Waiting for the alert to clear")
    open_room.scene.clear(1)
    await open_room.shows("RESOLVED")
    await open_room.settled()
    assert open_room.slack.ephemerals("alice") == [], "what counted is seen in the message itself"
    assert [m.actions for m in (open_room.root, *open_room.thread)] == [[]] * (1 + len(open_room.thread))


async def test_a_plan_stands_beside_its_question(open_room: Room) -> None:
    await asked(open_room)
    plan = await open_room.shows("$ docker restart vllm")
    assert plan in open_room.thread


async def test_a_stranger_is_refused_and_told_why(open_room: Room) -> None:
    run_id, question = await asked(open_room)
    assert (await open_room.click("mallory", question, "approve")).acked
    whisper = await open_room.told("mallory", "I don't know you, mallory")
    assert whisper.thread_ts == open_room.root.ts, "told where the click was"
    approval = open_room.scene.store.approvals.get(run_id)
    assert approval is not None
    assert approval.state == "pending"


async def test_the_requester_may_not_approve_their_own_run(open_room: Room) -> None:
    _, question = await asked(open_room, Requester("alice", "alice", "slack"))
    await open_room.click("alice", question, "approve")
    await open_room.told("alice", "somebody else has to approve it")


async def test_two_clicks_at_once_count_once_and_the_later_is_told(open_room: Room) -> None:
    run_id, question = await asked(open_room)
    clicks = await asyncio.gather(
        open_room.click("alice", question, "approve"), open_room.click("bob", question, "deny")
    )
    assert all(delivery.acked for delivery in clicks)
    approval = open_room.scene.store.approvals.get(run_id)
    assert approval is not None
    (decision,) = approval.decisions
    loser = "bob" if decision.person == "alice" else "alice"
    await open_room.told(loser, f"{decision.person} has already")


async def test_a_click_delivered_twice_is_not_told_off(open_room: Room) -> None:
    _, question = await asked(open_room)
    delivery = await open_room.click("alice", question, "approve")
    await open_room.shows("Approved by alice")
    assert (await open_room.slack.resend(delivery)).acked
    await open_room.slack.slash("alice", "/sickbay", "help")
    await open_room.told("alice", "what you can say")
    assert len(open_room.slack.ephemerals("alice")) == 1


async def test_a_click_after_the_deadline_is_refused_even_before_anybody_noticed_it(open_room: Room) -> None:
    _, question = await asked(open_room)
    open_room.scene.clock.on(minutes=11)
    await open_room.click("alice", question, "approve")
    await open_room.told("alice", "This question closed at")


async def test_a_click_on_the_question_about_an_older_plan_is_refused(open_room: Room) -> None:
    run_id, question = await asked(open_room)
    refusal = open_room.scene.store.approvals.decide(run_id, ALICE, "approve", "000000")
    assert refusal is not None
    assert "plan has changed" in refusal
    assert (await open_room.click("alice", question, "approve")).acked
    await open_room.shows("Approved by alice")


async def test_a_run_is_cancelled_by_its_button(open_room: Room) -> None:
    run_id = open_room.scene.run(CHECK)
    message = await open_room.shows("Queued")
    assert message.actions == ["cancel"]
    await open_room.click("mallory", message, "cancel")
    await open_room.told("mallory", "may not cancel runs")
    await open_room.click("alice", message, "cancel")
    cancelling = await open_room.shows("alice cancelled this")
    assert cancelling.actions == []
    run = open_room.scene.store.runs.get(run_id)
    assert run is not None
    assert run.cancelled_by == "alice"


async def test_an_incident_that_nothing_is_done_about_can_be_checked_by_its_button(open_room: Room) -> None:
    open_room.scene.incident("No route matches this alert: it is shown, nothing is done.")
    root = await open_room.shows("No route matches")
    await open_room.click("mallory", root, "check")
    check = await open_room.shows("gpu-check · gpu-03")
    assert check.thread_ts == root.ts


# ── what goes wrong ──
async def test_a_fault_of_ours_is_acknowledged_told_with_a_reference_and_logged(
    open_room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    open_room.scene.store.database.path = "gone"
    with open_room.scene.store.write() as tx:
        tx.exec_driver_sql("ALTER TABLE runs RENAME TO lost")
    delivery = await open_room.slack.slash("alice", "/sickbay", "runs")
    assert delivery.acked
    whisper = await open_room.told("alice", "Something went wrong inside Sickbay")
    (reference,) = re.findall(r"under ([0-9a-f]{8})", words(whisper))
    assert f"[{reference}]" in caplog.text
    with open_room.scene.store.write() as tx:
        tx.exec_driver_sql("ALTER TABLE lost RENAME TO runs")


async def test_the_room_is_back_after_its_connection_was_cut(open_room: Room) -> None:
    open_room.slack.drop_connections()
    await open_room.until(lambda: open_room.slack.connections == 0)
    await open_room.slack.wait_for(lambda: open_room.slack.connections == 1, timeout=30)
    assert (await open_room.slack.slash("alice", "/sickbay", "help")).acked


async def test_a_refused_token_stops_the_start_and_says_what_to_do(tmp_path: Path) -> None:
    scene = Scene.at(tmp_path)
    async with PretendSlack(bot_token="xoxb-other-token") as slack:
        with pytest.raises(SickbayError, match="invalid_auth"):
            await door(scene, slack.base_url).start()
    scene.store.close()


async def test_without_a_token_for_socket_mode_it_says_so(tmp_path: Path) -> None:
    scene = Scene.at(tmp_path)
    async with PretendSlack() as slack:
        closed = door(scene, slack.base_url)
        closed._secrets = Secrets(secrets().slack_bot_token)
        with pytest.raises(SickbayError, match="SLACK_APP_TOKEN"):
            await closed.start()
    scene.store.close()


# ── HTTP ──
async def posted(closed: SlackDoor, body: bytes, signature: str, timestamp: str) -> int:
    """Post to the door's route as a web server does; return the status."""
    headers = [
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"x-slack-signature", signature.encode()),
        (b"x-slack-request-timestamp", timestamp.encode()),
    ]
    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": headers}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await Starlette(routes=closed.routes)(scope, receive, send)
    return int(sent[0]["status"])


async def test_over_http_a_signed_command_is_done_and_any_other_refused(tmp_path: Path) -> None:
    scene = Scene.at(tmp_path)
    async with PretendSlack() as slack:
        closed = door(scene, slack.base_url)
        closed._settings = SlackSection(channel="oncall", transport="http", base_url=slack.base_url)
        closed._secrets = Secrets(secrets().slack_bot_token, None, SecretStr("signing"))
        await closed.start()
        try:
            body = urlencode(
                {
                    "command": "/sickbay",
                    "text": "check gpu-03",
                    "user_id": "U0ALICE",
                    "user_name": "alice",
                    "channel_id": "C0ONCALL",
                    "team_id": "T0PRETEND",
                    "trigger_id": "t1",
                }
            )
            now = str(int(time.time()))
            good = SignatureVerifier("signing").generate_signature(timestamp=now, body=body) or ""
            assert await posted(closed, body.encode(), "v0=bad", now) == 401
            assert scene.store.runs.newest() == []
            assert await posted(closed, body.encode(), good, now) == 200
            assert [run.runbook.name for run in scene.store.runs.newest()] == ["gpu-check"]
            assert closed.connected
        finally:
            await closed.stop()
    scene.store.close()


async def test_over_http_a_click_counts_once_and_an_old_or_a_changed_one_never(tmp_path: Path) -> None:
    scene = Scene.at(tmp_path)
    async with PretendSlack() as slack:
        closed = door(scene, slack.base_url)
        closed._settings = SlackSection(channel="oncall", transport="http", base_url=slack.base_url)
        closed._secrets = Secrets(secrets().slack_bot_token, None, SecretStr("signing"))
        await closed.start()
        try:
            run_id = scene.run(TWO)
            scene.ask(scene.claim(run_id))
            (root,) = await slack.wait_for(slack.messages)
            (shown, *_) = await slack.wait_for(
                lambda: [one for one in slack.thread("oncall", root.ts) if "approve" in one.actions]
            )

            def click(user: str, trigger: str) -> str:
                _, button = shown.element("approve") or ({}, {})
                action = {"action_id": "approve", "value": button["value"], "action_ts": "1.1"}
                place = {"message_ts": shown.ts, "channel_id": "C0ONCALL", "thread_ts": root.ts}
                payload = {
                    "type": "block_actions",
                    "user": {"id": user, "username": user, "team_id": "T0PRETEND"},
                    "team": {"id": "T0PRETEND"},
                    "trigger_id": trigger,
                    "container": {"type": "message", **place},
                    "channel": {"id": "C0ONCALL"},
                    "actions": [{"type": "button", "block_id": "b", **action}],
                }
                return urlencode({"payload": json.dumps(payload)})

            def signed(body: str, at: float) -> tuple[bytes, str, str]:
                stamp = str(int(at))
                sign = SignatureVerifier("signing").generate_signature(timestamp=stamp, body=body) or ""
                return body.encode(), sign, stamp

            def given() -> list[str]:
                question = scene.store.approvals.get(run_id)
                return [one.person for one in question.decisions] if question else []

            body, sign, stamp = signed(click("U0ALICE", "t1"), time.time())
            assert await posted(closed, *signed(click("U0ALICE", "t0"), time.time() - 600)) == 401
            assert await posted(closed, body.replace(b"U0ALICE", b"U0BOB00"), sign, stamp) == 401
            assert given() == []
            for _ in range(2):
                assert await posted(closed, body, sign, stamp) == 200
                assert given() == ["alice"]
            run = scene.store.runs.get(run_id)
            assert run is not None
            scene.store.approvals.plan(run, scene.plan(run), ask=True)
            assert await posted(closed, body, sign, stamp) == 200
            assert given() == [], "asked anew, and the old click is sent once more"
        finally:
            await closed.stop()
    scene.store.close()


# ── setting up ──
def test_the_manifest_has_every_command_event_and_scope_of_the_code() -> None:
    made = manifest()
    assert [one["command"] for one in made["features"]["slash_commands"]] == [COMMAND]
    assert made["settings"]["event_subscriptions"]["bot_events"] == list(EVENTS)
    assert made["settings"]["interactivity"]["is_enabled"]
    assert made["oauth_config"]["scopes"]["bot"] == list(SCOPES)
    assert yaml.safe_load(manifest_yaml()) == made
    assert len(set(ACTIONS)) == len(ACTIONS)


def test_the_manifest_for_http_names_the_address_everywhere() -> None:
    made = manifest_yaml("http", "https://sickbay.example/")
    assert made.count("https://sickbay.example/slack/events") == 3
    assert "socket_mode_enabled: false" in made


async def test_the_doctor_finds_nothing_wrong_with_a_good_app() -> None:
    async with PretendSlack(scopes=tuple(SCOPES)) as slack:
        found = await checks(SlackSection(channel="oncall", base_url=slack.base_url), secrets(slack))
    assert [ok for ok, _, _ in found] == [True] * 4, found


async def test_the_doctor_names_missing_scopes_channel_and_tokens() -> None:
    async with PretendSlack(scopes=tuple(scope for scope in SCOPES if scope != "files:write")) as slack:
        section = SlackSection(channel="elsewhere", base_url=slack.base_url)
        found = await checks(section, Secrets(secrets().slack_bot_token))
        wrong = {what: advice for ok, what, advice in found if not ok}
        refused = await checks(section, Secrets(secrets().slack_app_token))
    assert "files:write: to put long output into files" in wrong["scopes are missing: files:write"]
    assert "there is no channel elsewhere that the bot can see" in wrong
    assert "SLACK_APP_TOKEN is not set" in wrong
    assert not refused[0][0]
    gone = await checks(section, secrets())
    assert "cannot be reached" in gone[0][1]
