"""The page of the pretend Slack: who may see it, and what a person sees and does on it in a real browser."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from playwright.sync_api import Page, expect
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.sim.slack import PretendSlack, PretendSlackThread
from tests.parts.chromium import Chromium, chromium

__all__ = ["chromium"]

Json = dict[str, Any]


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def section(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


# ── who may ──
async def test_the_page_wants_its_token_and_posts_want_its_origin() -> None:
    async with PretendSlack(page_token="secret") as slack, aiohttp.ClientSession() as browser:
        home = slack.page_url.split("/?")[0]

        async def status(method: str, path: str, **more: Any) -> int:
            async with browser.request(method, home + path, **more) as answer:
                return answer.status

        deed = {"json": {"user": "alice", "channel": "oncall", "text": "hi"}}
        assert await status("GET", "/") == 403
        assert await status("GET", "/?token=wrong") == 403
        assert await status("GET", "/stream") == 403
        assert await status("GET", "/?token=secret", headers={"Host": "evil.example"}) == 403
        assert await status("POST", "/do/say?token=secret", **deed) == 403
        assert (
            await status("POST", "/do/say?token=secret", headers={"Origin": "http://evil.example"}, **deed)
            == 403
        )
        assert await status("POST", "/do/say?token=secret", headers={"Origin": home}, data="{}") == 403
        assert slack.messages() == []
        assert await status("GET", "/?token=secret") == 200
        assert [
            one.key for one in browser.cookie_jar
        ] == []  # an IP address: the jar keeps none unless told to
        assert await status("GET", "/page/..%2Fserver.py?token=secret") == 404
        assert await status("POST", "/do/say?token=secret", headers={"Origin": home}, **deed) == 200
        assert [one.text for one in slack.messages()] == ["hi"]


async def test_a_stream_shows_a_person_nothing_meant_for_another() -> None:
    async with PretendSlack(page_token="secret") as slack, aiohttp.ClientSession() as browser:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.base_url)
        home = slack.page_url.split("/?")[0]
        async with browser.get(f"{home}/stream?as=U0BOB&token=secret") as stream:
            await client.chat_postEphemeral(channel="oncall", user="U0ALICE", text="for alice")
            await client.chat_postMessage(channel="oncall", text="for all")
            seen: list[str] = []
            while "for all" not in "".join(seen):
                seen.append((await asyncio.wait_for(stream.content.readline(), 5)).decode())
        assert "for alice" not in "".join(seen)
        assert json.loads(seen[0].removeprefix("data: "))["me"] == "U0BOB"


async def test_an_uploaded_picture_is_shown_as_one_and_anything_else_as_text() -> None:
    async with PretendSlack(page_token="secret") as slack, aiohttp.ClientSession() as browser:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.base_url)
        for name, content in (
            ("chart.png", b"\x89PNG\r\n\x1a\n"),
            ("page.html", b"<script>alert(1)</script>"),
        ):
            await client.files_upload_v2(channel="C0ONCALL", filename=name, content=content)
        kinds = []
        for file in slack.files:
            url = slack.page_url.replace("/?", f"/files/{file.id}?")
            async with browser.get(url) as answer:
                kinds.append((answer.content_type, answer.headers["X-Content-Type-Options"]))
        assert kinds == [("image/png", "nosniff"), ("text/plain", "nosniff")]


# ── in a browser ──
class Bot:
    """A small slack-bolt app in a thread of its own, as the demo has it."""

    def __init__(self, slack: PretendSlack) -> None:
        self._slack = slack
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.client = AsyncWebClient(token=slack.bot_token, base_url=slack.base_url)
        self.app = AsyncApp(client=self.client)

    def start(self) -> None:
        self._thread.start()
        self.call(self._connect())

    async def _connect(self) -> None:
        self.handler = AsyncSocketModeHandler(self.app, self._slack.app_token)
        await self.handler.connect_async()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        self.call(self.handler.close_async())  # type: ignore[no-untyped-call]
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def post(self, **message: Any) -> str:
        return str(self.call(self.client.chat_postMessage(channel="oncall", **message))["ts"])


@pytest.fixture
def outside() -> Iterator[PretendSlackThread]:
    with PretendSlackThread(ack_timeout=2) as running:
        yield running


@pytest.fixture
def bot(outside: PretendSlackThread) -> Iterator[Bot]:
    bot = Bot(outside.slack)

    @bot.app.command("/sickbay")
    async def command(ack: AsyncAck, command: Json, client: AsyncWebClient) -> None:
        if command["text"] == "slow":
            return
        await ack()
        view = {
            "type": "modal",
            "callback_id": "run",
            "title": plain("Run a runbook"),
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
        await client.views_open(trigger_id=command["trigger_id"], view=view)

    @bot.app.view("run")
    async def run(ack: AsyncAck, view: Json, client: AsyncWebClient) -> None:
        hosts = view["state"]["values"]["hosts"]["hosts"]["value"]
        if hosts == "gpu-99":
            await ack(response_action="errors", errors={"hosts": "there is no gpu-99"})
            return
        await ack()
        await client.chat_postMessage(channel="oncall", text=f"running on {hosts}")

    @bot.app.action("approve")
    async def approve(ack: AsyncAck, body: Json, client: AsyncWebClient) -> None:
        await ack()
        text = f":white_check_mark: *Approved* by <@{body['user']['id']}>"
        await client.chat_update(
            channel=body["channel"]["id"], ts=body["message"]["ts"], text=text, blocks=[section(text)]
        )

    bot.start()
    yield bot
    bot.stop()


@pytest.fixture
def page(chromium: Chromium, outside: PretendSlackThread) -> Page:
    page = chromium.page(outside.slack.page_url, size={"width": 1440, "height": 900})
    page.set_default_timeout(10_000)
    expect.set_options(timeout=10_000)
    return page


def test_a_person_approves_in_a_thread_and_sees_the_message_change(bot: Bot, page: Page) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    root = bot.post(
        text="gpu-03 is down", blocks=[section(":red_circle: *gpu-03* <b>is</b> `down` &amp; out")]
    )
    message = page.locator(f"[data-test=channel] [data-ts='{root}']")
    expect(message).to_contain_text("🔴 gpu-03 <b>is</b> down & out")
    expect(message.locator("strong")).to_have_text("gpu-03")
    expect(message.locator(".badge")).to_have_text("APP")

    confirm = {
        "title": plain("Sure?"),
        "text": plain("It restarts."),
        "confirm": plain("Do it"),
        "deny": plain("No"),
    }
    element = {
        "type": "button",
        "action_id": "approve",
        "text": plain("Approve"),
        "style": "primary",
        "confirm": confirm,
    }
    bot.post(text="may I?", thread_ts=root, blocks=[{"type": "actions", "elements": [element]}])
    expect(message.locator("[data-test=unseen]")).to_have_text("1 new")
    message.locator("[data-test=replies]").click()
    thread = page.locator("[data-test=thread]")
    thread.locator("[data-action-id=approve]").click()
    page.locator("[data-test=confirm-no]").click()
    expect(thread.locator("[data-action-id=approve]")).to_be_visible()
    thread.locator("[data-action-id=approve]").click()
    page.locator("[data-test=confirm-yes]").click()
    expect(thread).to_contain_text("✅ Approved by @alice")
    expect(thread.locator(".edited")).to_have_count(1)
    expect(thread.locator("[data-action-id=approve]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(thread).to_be_hidden()
    expect(message.locator("[data-test=unseen]")).to_have_count(0)
    assert errors == []


def test_a_command_opens_a_modal_whose_errors_are_shown_at_the_field(bot: Bot, page: Page) -> None:
    composer = page.locator("main [data-test=composer]")
    composer.press_sequentially("/sick")
    expect(page.locator("main [data-test=suggestions] li").first).to_contain_text("/sickbay help")
    composer.press("Escape")
    composer.fill("/sickbay run")
    composer.press("Enter")
    modal = page.locator("[data-test=modal]")
    expect(modal).to_contain_text("Run a runbook")
    expect(modal.locator("[data-action-id=hosts]")).to_be_focused()
    modal.locator("[data-action-id=hosts]").fill("gpu-99")
    modal.locator("[data-test=submit]").click()
    expect(modal.locator("[data-block-id=hosts] .wrong")).to_have_text("there is no gpu-99")
    modal.locator("[data-action-id=hosts]").fill("gpu-03")
    modal.locator("[data-action-id=hosts]").press("Enter")
    expect(modal).to_be_hidden()
    expect(page.locator("[data-test=channel]")).to_contain_text("running on gpu-03")


def test_a_command_without_ack_is_told_to_the_one_who_typed_it(bot: Bot, page: Page) -> None:
    composer = page.locator("main [data-test=composer]")
    composer.fill("/sickbay slow")
    composer.press("Enter")
    notice = page.locator("[data-test=ephemeral]")
    expect(notice).to_contain_text('/sickbay failed with the error "operation_timeout"')
    expect(notice).to_contain_text("Only visible to you")
    page.locator("[data-test=be-bob]").click()
    expect(page.locator("[data-test=be-bob]")).to_have_attribute("aria-pressed", "true")
    expect(notice).to_have_count(0)
    expect(page.locator("[data-test=presence]")).not_to_have_class("presence away")


def test_who_reads_old_messages_is_not_moved_by_new_ones(bot: Bot, page: Page) -> None:
    for number in range(40):
        bot.post(text=f"message {number}\nsecond line")
    scroll = page.locator("#channel-scroll")
    expect(page.locator("[data-test=message]")).to_have_count(40)
    page.wait_for_function("() => document.getElementById('channel-scroll').scrollTop > 500")
    scroll.evaluate("node => { node.scrollTop = 200; }")
    bot.post(text="a new one")
    expect(page.locator("#channel-new")).to_be_visible()
    assert scroll.evaluate("node => node.scrollTop") == 200
    page.locator("#channel-new").click()
    expect(page.locator("#channel-new")).to_be_hidden()
    expect(page.get_by_text("a new one")).to_be_in_viewport()
