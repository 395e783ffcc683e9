"""The pretend Slack, spoken to by the real slack-bolt app over its real Web API and Socket Mode."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncRespond
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot.sim.slack import BOT_USER, PretendSlack, PretendSlackThread
from bot.sim.slack.refusals import Profile, Refusals
from bot.slack import limits

Json = dict[str, Any]


def mrkdwn(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def button(action_id: str, value: str = "run-1") -> Json:
    return {"type": "button", "action_id": action_id, "value": value, "text": plain(action_id.title())}


MODAL = {
    "type": "modal",
    "title": plain("Run"),
    "submit": plain("Run"),
    "blocks": [
        {
            "type": "input",
            "block_id": "hosts",
            "label": plain("Hosts"),
            "element": {"type": "plain_text_input", "action_id": "hosts"},
        }
    ],
}


@pytest.fixture
async def slack() -> AsyncIterator[PretendSlack]:
    async with PretendSlack() as running:
        yield running


@pytest.fixture
def client(slack: PretendSlack) -> AsyncWebClient:
    return AsyncWebClient(token=slack.bot_token, base_url=slack.base_url)


@pytest.fixture
def app(client: AsyncWebClient) -> AsyncApp:
    return AsyncApp(client=client)


@asynccontextmanager
async def connected(app: AsyncApp, slack: PretendSlack, ping_interval: float = 5) -> AsyncIterator[None]:
    handler = AsyncSocketModeHandler(app, slack.app_token, ping_interval=ping_interval)
    await handler.connect_async()  # type: ignore[no-untyped-call]
    try:
        await slack.wait_for_connection()
        yield
    finally:
        await handler.close_async()  # type: ignore[no-untyped-call]


def entries(slack: PretendSlack, kind: str) -> list[Json]:
    return [one for one in slack.journal if one["kind"] == kind]


async def refusal(call: Any) -> Json:
    """What the Web API answers to a call that it refuses."""
    with pytest.raises(SlackApiError) as caught:
        await call
    data = caught.value.response.data
    assert isinstance(data, dict)
    return data


# ── commands, messages, buttons ──
async def test_a_slash_command_is_acked_and_answered_in_a_thread(slack: PretendSlack, app: AsyncApp) -> None:
    @app.command("/sickbay")
    async def command(ack: AsyncAck, command: Json, client: AsyncWebClient) -> None:
        await ack()
        root = await client.chat_postMessage(channel=command["channel_id"], text=f"run {command['text']}")
        await client.chat_postMessage(
            channel=command["channel_id"], thread_ts=root["ts"], text="step 1 of 2", metadata=None
        )

    async with connected(app, slack):
        delivery = await slack.slash("alice", "/sickbay", "check gpu-03")
        assert delivery.acked
        assert delivery.after is not None
        assert delivery.after < limits.ACK_SECONDS
        await slack.wait_for(lambda: slack.messages() and slack.thread("oncall", slack.messages()[0].ts))
    (root,) = slack.messages()
    assert root.text == "run check gpu-03"
    assert [one.text for one in slack.thread("oncall", root.ts)] == ["step 1 of 2"]


async def test_a_click_carries_the_message_and_updates_it(
    slack: PretendSlack, app: AsyncApp, client: AsyncWebClient
) -> None:
    clicks: list[Json] = []

    @app.action("approve")
    async def approve(ack: AsyncAck, body: Json, client: AsyncWebClient) -> None:
        await ack()
        clicks.append(body)
        await client.chat_update(
            channel=body["channel"]["id"], ts=body["message"]["ts"], text="approved", blocks=[]
        )

    async with connected(app, slack):
        blocks = [mrkdwn("a < b & c"), {"type": "actions", "elements": [button("approve"), button("deny")]}]
        posted = await client.chat_postMessage(channel="oncall", text="?", blocks=blocks)
        assert (await slack.click("bob", "oncall", posted["ts"], "approve")).acked
        message = await slack.wait_for(lambda: next((m for m in slack.messages() if m.edited_ts), None))
    assert message is not None
    assert message.words == "approved"
    (body,) = clicks
    assert body["user"]["id"] == "U0BOB"
    assert body["actions"][0]["value"] == "run-1"
    assert body["container"]["message_ts"] == posted["ts"]
    assert body["message"]["blocks"][0]["text"]["text"] == "a &lt; b &amp; c"


async def test_a_click_in_an_attachment_tells_equal_action_ids_apart_by_value(
    slack: PretendSlack, app: AsyncApp, client: AsyncWebClient
) -> None:
    values: list[str] = []

    @app.action("check")
    async def check(ack: AsyncAck, action: Json) -> None:
        await ack()
        values.append(action["value"])

    rows = [{**mrkdwn(host), "accessory": button("check", host)} for host in ("gpu-01", "gpu-02")]
    async with connected(app, slack):
        posted = await client.chat_postMessage(
            channel="oncall", text="hosts", attachments=[{"color": "#e01e5a", "blocks": rows}]
        )
        await slack.click("alice", "oncall", posted["ts"], "check", "gpu-02")
    assert values == ["gpu-02"]


async def test_a_click_on_an_action_that_is_not_there_says_which_are(
    slack: PretendSlack, client: AsyncWebClient
) -> None:
    actions = [{"type": "actions", "elements": [button("approve")]}]
    posted = await client.chat_postMessage(channel="oncall", text="?", blocks=actions)
    with pytest.raises(KeyError, match="its actions are: approve"):
        await slack.click("alice", "oncall", posted["ts"], "deny")


async def test_a_mention_reaches_the_app_and_can_be_answered_in_its_thread(
    slack: PretendSlack, app: AsyncApp
) -> None:
    @app.event("app_mention")
    async def mention(event: Json, client: AsyncWebClient) -> None:
        await client.chat_postMessage(channel=event["channel"], thread_ts=event["ts"], text=event["text"])

    async with connected(app, slack):
        said = await slack.mention("bob", "oncall", "check gpu-03")
        assert said.ts is not None
        ts = said.ts
        await slack.wait_for(lambda: slack.thread("oncall", ts))
        assert slack.thread("oncall", ts)[0].text == f"<@{BOT_USER}> check gpu-03"
        typed = await slack.say("bob", "oncall", "@sickbay hosts")
    assert typed.envelope is not None
    assert typed.envelope["payload"]["event"]["type"] == "app_mention"


async def test_an_uploaded_file_lies_in_the_thread(slack: PretendSlack, client: AsyncWebClient) -> None:
    root = await client.chat_postMessage(channel="oncall", text="run")
    await client.files_upload_v2(
        channel=str(root["channel"]),
        thread_ts=root["ts"],
        filename="out.txt",
        content="line 1\nline 2",
        title="Output",
    )
    (file,) = slack.files
    assert (file.name, file.title, file.text) == ("out.txt", "Output", "line 1\nline 2")
    (reply,) = slack.thread("oncall", root["ts"])
    assert reply.files == (file,)


async def test_a_modal_is_opened_refused_with_errors_and_closed(slack: PretendSlack, app: AsyncApp) -> None:
    seen: list[str] = []

    @app.command("/sickbay")
    async def command(ack: AsyncAck, body: Json, client: AsyncWebClient) -> None:
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view={**MODAL, "callback_id": "run"})

    @app.view("run")
    async def submitted(ack: AsyncAck, view: Json) -> None:
        hosts = view["state"]["values"]["hosts"]["hosts"]["value"]
        seen.append(hosts)
        if hosts == "gpu-99":
            await ack(response_action="errors", errors={"hosts": "there is no gpu-99"})
        else:
            await ack()

    async with connected(app, slack):
        await slack.slash("alice", "/sickbay", "run")
        await slack.wait_for(lambda: slack.view("alice"))
        assert slack.view("bob") is None
        assert (await slack.submit_view("alice", {})).error == "missing_input"
        refused = await slack.submit_view("alice", {"hosts": "gpu-99"})
        assert refused.shown == "there is no gpu-99"
        assert slack.view("alice") is not None
        await slack.submit_view("alice", {"hosts": "gpu-03"})
    assert slack.view("alice") is None
    assert seen == ["gpu-99", "gpu-03"]


async def test_a_trigger_opens_one_modal_and_only_for_three_seconds() -> None:
    now = 1_000.0
    async with PretendSlack(clock=lambda: now) as slack:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.base_url)
        app = AsyncApp(client=client)
        triggers: list[str] = []

        @app.command("/sickbay")
        async def command(ack: AsyncAck, body: Json) -> None:
            triggers.append(body["trigger_id"])
            await ack()

        async with connected(app, slack):
            await slack.slash("alice", "/sickbay")
            await client.views_open(trigger_id=triggers[0], view=MODAL)
            again = await refusal(client.views_open(trigger_id=triggers[0], view=MODAL))
            assert again["error"] == "exchanged_trigger_id"
            await slack.slash("alice", "/sickbay")
            now += 3.1
            late = await refusal(client.views_open(trigger_id=triggers[1], view=MODAL))
            assert late["error"] == "expired_trigger_id"


async def test_a_response_url_is_good_for_five_answers_and_half_an_hour() -> None:
    now = 1_000.0
    async with PretendSlack(clock=lambda: now) as slack:
        app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.base_url))
        urls: list[str] = []

        @app.command("/sickbay")
        async def command(ack: AsyncAck, respond: AsyncRespond, body: Json) -> None:
            await ack()
            urls.append(body["response_url"])
            await respond("only you")

        async with connected(app, slack):
            await slack.slash("alice", "/sickbay")
            await slack.wait_for(lambda: slack.ephemerals("alice"))
            webhook = AsyncWebhookClient(urls[0])
            codes = [(await webhook.send(text=f"answer {n}")).status_code for n in range(5)]
            assert codes == [200, 200, 200, 200, 404]
            assert slack.ephemerals("bob") == []
            assert slack.messages() == []
            await slack.slash("alice", "/sickbay")
            await slack.wait_for(lambda: len(urls) == 2)
            now += 1_801
            late = await AsyncWebhookClient(urls[1]).send(text="too late")
            assert (late.status_code, late.body) == (404, "expired_url")


async def test_an_ephemeral_button_can_be_clicked_and_replaced(slack: PretendSlack, app: AsyncApp) -> None:
    @app.action("ok")
    async def ok(ack: AsyncAck, respond: AsyncRespond) -> None:
        await ack()
        await respond(text="gone", blocks=[], replace_original=True)

    async with connected(app, slack):
        actions = [{"type": "actions", "elements": [button("ok")]}]
        await app.client.chat_postEphemeral(channel="oncall", user="U0ALICE", text="?", blocks=actions)
        (whisper,) = slack.ephemerals("alice")
        await slack.click("alice", "oncall", whisper.ts, "ok")
        await slack.wait_for(lambda: [one.words for one in slack.ephemerals("alice")] == ["gone"])


# ── what goes wrong on the way ──
def test_a_blocked_bot_misses_the_deadline_and_the_person_is_told() -> None:
    with PretendSlackThread(ack_timeout=0.2) as outside:
        slack = outside.slack

        async def blocked_bot() -> None:
            app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.base_url))

            @app.command("/sickbay")
            async def command(ack: AsyncAck) -> None:
                await ack()
                time.sleep(0.5)  # noqa: ASYNC251 - the mistake under test

            handler = AsyncSocketModeHandler(app, slack.app_token)
            await handler.connect_async()  # type: ignore[no-untyped-call]
            await outside.acall(slack.wait_for_connection())
            delivery = await outside.acall(slack.slash("alice", "/sickbay", "help"))
            await handler.close_async()  # type: ignore[no-untyped-call]
            assert not delivery.acked
            assert delivery.error == "operation_timeout"

        asyncio.run(blocked_bot())
        (notice,) = slack.ephemerals("alice")
        assert notice.text == '/sickbay failed with the error "operation_timeout"'
        assert [one["late"] for one in slack.journal if one["kind"] == "ack"] in ([], [True])


async def test_a_command_nobody_listens_to_fails_at_once(slack: PretendSlack) -> None:
    assert (await slack.slash("alice", "/sickbay", "help")).error == "dispatch_failed"
    assert (await slack.slash("alice", "/other", "")).error == "unknown_command"


async def test_an_event_without_ack_is_delivered_again_with_its_attempt_and_the_same_id() -> None:
    async with PretendSlack(ack_timeout=0.2, redeliver_after=(0.05, 0.1)) as slack:
        app = AsyncApp(client=AsyncWebClient(token=slack.bot_token, base_url=slack.base_url))
        async with connected(app, slack):  # no listener: bolt does not ack
            assert not (await slack.mention("alice", "oncall", "hello")).acked
            await slack.wait_for(lambda: len(entries(slack, "envelope")) == 3)
        sent = [one["envelope"] for one in entries(slack, "envelope")]
    assert [one["retry_attempt"] for one in sent] == [0, 1, 2]
    assert len({one["payload"]["event_id"] for one in sent}) == 1


async def test_a_delivery_can_be_made_twice(slack: PretendSlack, app: AsyncApp) -> None:
    events: list[str] = []

    @app.event("app_mention")
    async def mention(body: Json) -> None:
        events.append(body["event_id"])

    async with connected(app, slack):
        await slack.resend(await slack.mention("alice", "oncall", "hello"))
        await slack.wait_for(lambda: len(events) == 2, timeout=2)
    assert events[0] == events[1]


@pytest.mark.parametrize("how", ["disconnect", "drop_connections"])
async def test_the_app_comes_back_after_a_lost_connection(
    slack: PretendSlack, app: AsyncApp, how: str
) -> None:
    @app.command("/sickbay")
    async def command(ack: AsyncAck) -> None:
        await ack()

    async with connected(app, slack, ping_interval=0.3):
        if how == "disconnect":
            await slack.disconnect()
        else:
            slack.drop_connections()
        await slack.wait_for(lambda: len(entries(slack, "connected")) >= 2 and slack.connections)
        assert (await slack.slash("alice", "/sickbay")).acked


async def test_a_half_open_connection_is_noticed_by_its_missing_pongs(
    slack: PretendSlack, app: AsyncApp
) -> None:
    async with connected(app, slack, ping_interval=0.2):
        slack.freeze_connections()
        await slack.wait_for(lambda: len(slack.calls("apps.connections.open")) >= 2)


async def test_of_several_connections_one_gets_the_payload(
    slack: PretendSlack, client: AsyncWebClient
) -> None:
    heard: list[int] = []

    def replica(number: int) -> AsyncApp:
        app = AsyncApp(client=client)

        @app.command("/sickbay")
        async def command(ack: AsyncAck) -> None:
            heard.append(number)
            await ack()

        return app

    async with connected(replica(1), slack), connected(replica(2), slack):
        await slack.wait_for_connection(2)
        for _ in range(30):
            assert (await slack.slash("alice", "/sickbay")).acked
    assert len(heard) == 30
    assert set(heard) == {1, 2}


# ── what the Web API refuses ──
async def test_a_bad_block_is_refused_with_a_pointer_and_nothing_is_posted(
    slack: PretendSlack, client: AsyncWebClient
) -> None:
    answer = await refusal(client.chat_postMessage(channel="oncall", text="x", blocks=[mrkdwn("x" * 3001)]))
    assert answer["error"] == "invalid_blocks"
    assert answer["response_metadata"]["messages"] == [
        "[ERROR] must be less than 3001 characters [json-pointer:/blocks/0/text/text]"
    ]
    assert slack.messages() == []


async def test_tokens_methods_channels_and_scopes_are_checked(slack: PretendSlack) -> None:
    def client(token: str) -> AsyncWebClient:
        return AsyncWebClient(token=token, base_url=slack.base_url)

    assert (await refusal(client("xoxb-wrong").auth_test()))["error"] == "invalid_auth"
    bot = client(slack.bot_token)
    assert (await refusal(bot.api_call("chat.unheardOf")))["error"] == "unknown_method"
    assert (await refusal(bot.chat_postMessage(channel="nowhere", text="x")))["error"] == "channel_not_found"
    assert (await refusal(bot.apps_connections_open(app_token=slack.bot_token)))[
        "error"
    ] == "not_allowed_token_type"
    assert (await bot.auth_test()).headers["x-oauth-scopes"].startswith("app_mentions:read,")

    async with PretendSlack(scopes=["chat:write"]) as narrow:
        few = AsyncWebClient(token=narrow.bot_token, base_url=narrow.base_url)
        answer = await refusal(few.users_info(user="U0ALICE"))
    assert (answer["error"], answer["needed"], answer["provided"]) == (
        "missing_scope",
        "users:read",
        "chat:write",
    )


async def test_only_own_messages_can_be_changed_and_a_long_update_is_refused(
    slack: PretendSlack, client: AsyncWebClient
) -> None:
    said = await slack.say("alice", "oncall", "hello")
    other = await refusal(client.chat_update(channel="oncall", ts=str(said.ts), text="mine now"))
    assert other["error"] == "cant_update_message"
    own = await client.chat_postMessage(channel="oncall", text="x" * 5_000)
    long = await refusal(client.chat_update(channel="oncall", ts=own["ts"], text="x" * 4_001))
    assert long["error"] == "msg_too_long"
    gone = await refusal(client.chat_update(channel="oncall", ts="1.000001", text="x"))
    assert gone["error"] == "message_not_found"
    await client.chat_delete(channel="oncall", ts=own["ts"])
    assert [one.text for one in slack.messages()] == ["hello"]


async def test_a_reply_needs_a_root(slack: PretendSlack, client: AsyncWebClient) -> None:
    root = await client.chat_postMessage(channel="oncall", text="root")
    reply = await client.chat_postMessage(channel="oncall", text="reply", thread_ts=root["ts"])
    nested = client.chat_postMessage(channel="oncall", text="x", thread_ts=reply["ts"])
    assert (await refusal(nested))["error"] == "cannot_reply_to_message"
    orphan = client.chat_postMessage(channel="oncall", text="x", thread_ts="1.000001")
    assert (await refusal(orphan))["error"] == "thread_not_found"


async def test_metadata_comes_back_only_when_asked_for(client: AsyncWebClient) -> None:
    metadata = {"event_type": "incident", "event_payload": {"id": "7"}}
    root = await client.chat_postMessage(channel="oncall", text="root", metadata=metadata)
    channel = str(root["channel"])
    plain_history = await client.conversations_history(channel=channel)
    assert "metadata" not in plain_history["messages"][0]
    full = await client.conversations_replies(channel=channel, ts=root["ts"], include_all_metadata=True)
    assert full["messages"][0]["metadata"] == metadata


async def test_an_account_can_be_closed_and_a_user_group_changed(
    slack: PretendSlack, client: AsyncWebClient
) -> None:
    slack.deactivate("bob")
    assert (await client.users_info(user="U0BOB"))["user"]["deleted"]
    assert [one["deleted"] for one in (await client.users_list())["members"]] == [False, True, False]
    slack.reactivate("bob")
    assert not (await client.users_info(user="U0BOB"))["user"]["deleted"]
    slack.set_usergroup("S0ONCALL", ["mallory"])
    assert (await client.usergroups_users_list(usergroup="S0ONCALL"))["users"] == ["U0MALLORY"]
    slack.set_usergroup("S0ONCALL", None)
    assert (await refusal(client.usergroups_users_list(usergroup="S0ONCALL")))["error"] == "no_such_subteam"


async def test_people_groups_and_permalinks_can_be_looked_up(
    slack: PretendSlack, client: AsyncWebClient
) -> None:
    by_mail = await client.users_lookupByEmail(email="bob@example.com")
    assert by_mail["user"]["id"] == "U0BOB"
    assert (await client.usergroups_users_list(usergroup="S0ONCALL"))["users"] == ["U0ALICE", "U0BOB"]
    assert (await client.conversations_list())["channels"][0]["name"] == "oncall"
    first = await client.users_list(limit=2)
    rest = await client.users_list(limit=2, cursor=first["response_metadata"]["next_cursor"])
    assert [one["name"] for one in [*first["members"], *rest["members"]]] == ["alice", "bob", "mallory"]
    posted = await client.chat_postMessage(channel="oncall", text="x")
    link = await client.chat_getPermalink(channel=str(posted["channel"]), message_ts=posted["ts"])
    assert str(link["permalink"]).endswith(f"/archives/C0ONCALL/p{posted['ts'].replace('.', '')}")


# ── rate limits and faults ──
async def test_edits_beyond_the_tier_get_429_with_a_retry_after() -> None:
    now = 1_000.0
    async with PretendSlack(rate_limits="real", clock=lambda: now) as slack:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.base_url)
        posted = await client.chat_postMessage(channel="oncall", text="0")
        for number in range(50):
            await client.chat_update(channel="oncall", ts=posted["ts"], text=str(number))
        with pytest.raises(SlackApiError) as caught:
            await client.chat_update(channel="oncall", ts=posted["ts"], text="too many")
        assert caught.value.response.status_code == 429
        assert caught.value.response.headers["Retry-After"] == "2"
        now += 2
        await client.chat_update(channel="oncall", ts=posted["ts"], text="later")
        assert slack.messages()[0].text == "later"


@pytest.mark.parametrize(("profile", "taken", "wait"), [("off", 8, None), ("real", 5, 1), ("hostile", 1, 10)])
def test_the_profiles_let_so_many_posts_through_at_once(
    profile: Profile, taken: int, wait: int | None
) -> None:
    refusals = Refusals(profile, lambda: 1_000.0)
    answers = [refusals.of("chat.postMessage", 3, "C0ONCALL") for _ in range(8)]
    assert [one is None for one in answers] == [True] * taken + [False] * (8 - taken)
    assert {one.retry_after for one in answers if one} == ({wait} if wait else set())
    assert refusals.of("chat.postMessage", 3, "C0OTHER") is None


async def test_a_fault_that_was_asked_for_hits_the_next_call_only(slack: PretendSlack) -> None:
    client = AsyncWebClient(
        token=slack.bot_token, base_url=slack.base_url, retry_handlers=[AsyncRateLimitErrorRetryHandler()]
    )
    slack.fail_next("chat.postMessage", error="internal_error")
    assert (await refusal(client.chat_postMessage(channel="oncall", text="1")))["error"] == "internal_error"
    slack.fail_next("chat.postMessage", status=429, error="ratelimited", retry_after=0)
    await client.chat_postMessage(channel="oncall", text="2")
    assert [one.text for one in slack.messages()] == ["2"]


async def test_the_journal_has_every_call_and_no_token(
    slack: PretendSlack, client: AsyncWebClient, tmp_path: Path
) -> None:
    await client.api_call(
        "chat.postMessage", json={"channel": "oncall", "text": "[not json", "token": slack.bot_token}
    )
    slack.write_journal(tmp_path / "journal.jsonl")
    text = (tmp_path / "journal.jsonl").read_text()
    assert slack.bot_token not in text
    (call,) = [json.loads(line) for line in text.splitlines()]
    assert (call["method"], call["args"]["text"]) == ("chat.postMessage", "[not json")


async def test_waiting_in_vain_says_what_was_there(slack: PretendSlack, client: AsyncWebClient) -> None:
    await client.chat_postMessage(channel="oncall", text="something else")
    with pytest.raises(TimeoutError, match="something else"):
        await slack.wait_for(lambda: slack.files, timeout=0.05)


def test_it_refuses_to_listen_beyond_loopback() -> None:
    with pytest.raises(ValueError, match="loopback only"):
        PretendSlack(host="0.0.0.0")
