"""The outbox: Slack follows the store, whatever happens to Slack, to the connection or to us."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.messages import Mask
from bot.runs.approval import Person
from bot.runs.run import Requester, RunState, Status
from bot.sim.slack import PretendSlack
from bot.slack import limits
from bot.slack.client import client
from bot.slack.drafts import Drafts, subject, touched
from bot.slack.manifest import SCOPES
from bot.slack.pace import Pace
from tests.parts.room import Room, door, room, words
from tests.parts.states import BOB, CHECK, Scene, inventory


@pytest.fixture
async def open_room(tmp_path: Path) -> AsyncIterator[Room]:
    async with room(tmp_path) as found:
        yield found


def recovery(scene: Scene) -> tuple[int, int]:
    """Bring an incident to its question."""
    incident = scene.incident()
    run_id = scene.run(incident=incident)
    run = scene.claim(run_id)
    scene.look(run)
    scene.ask(run)
    return incident, run_id


# ── one message for one thing ──
async def test_an_incident_is_one_message_and_everything_about_it_is_in_its_thread(open_room: Room) -> None:
    scene = open_room.scene
    _, run_id = recovery(scene)
    await open_room.settled()
    scene.store.approvals.decide(run_id, BOB, "approve")
    scene.act(run_id)
    await open_room.settled()
    assert "Recovered" in words(open_room.root)
    scene.clear(1)
    await open_room.settled()
    assert "RESOLVED" in words(open_room.root)
    starts = (
        "✅ Done · restart-container",
        "✅ Approved: restart-container",
        "Plan of restart-container, run 1",
    )
    assert len(open_room.thread) == len(starts)
    for message, start in zip(open_room.thread, starts, strict=True):
        assert words(message).startswith(start)


async def test_what_comes_back_is_said_in_the_thread_because_an_edit_calls_nobody(open_room: Room) -> None:
    store, incident = open_room.scene.store, open_room.scene.incident()
    await open_room.settled()
    with store.write() as tx:
        store.incidents.resolve(tx, incident, "the alert has cleared")
    await open_room.settled()
    assert "RESOLVED" in words(open_room.root)
    with store.write() as tx:
        store.incidents.reopen(tx, incident, title="Disk: full", note="")
    await open_room.settled()
    assert "RESOLVED" not in words(open_room.root)
    assert "again, 2nd time" in words(open_room.root)
    assert [words(message) for message in open_room.thread] == ["🟠 Again, 2nd time: Disk: full"]
    (event,) = (one for one in store.timeline.of(incident=incident) if one.kind == "incident.reopened")
    assert subject(store, f"again:{event.id}") == {"incident": incident}


async def test_a_run_without_an_incident_is_its_own_root_with_its_question_below(open_room: Room) -> None:
    run_id = open_room.scene.run(by=Requester("alice", "alice", "slack"))
    run = open_room.scene.claim(run_id)
    open_room.scene.look(run)
    open_room.scene.ask(run)
    await open_room.settled()
    assert "Waiting · restart-container" in words(open_room.root)
    assert [message.actions for message in open_room.thread] == [["approve", "deny"], []]


async def test_what_changes_nothing_that_is_shown_costs_no_call(open_room: Room) -> None:
    recovery(open_room.scene)
    await open_room.settled()
    before = len(open_room.slack.calls("chat.update"))
    open_room.scene.store.approvals.decide(1, Person("carol", "U0CAROL", ("visitor",)), "approve")
    await open_room.settled()
    assert len(open_room.slack.calls("chat.update")) == before


async def test_a_run_that_is_shown_nowhere_is_not_shown(open_room: Room) -> None:
    run_id = open_room.scene.run(CHECK, channel="")
    open_room.scene.checked(run_id)
    await open_room.settled()
    assert open_room.slack.messages() == []


async def test_long_output_is_one_file_in_the_thread_when_the_run_has_ended(open_room: Room) -> None:
    run_id = open_room.scene.run(CHECK, list(inventory().hosts))
    open_room.scene.checked(run_id, bad="gpu-03", noise=40)
    await open_room.settled()
    (file,) = open_room.slack.files
    assert file.name == f"run-{run_id}-output.txt"
    assert file.text.count("line 39") == 8
    assert [message.files[0].name for message in open_room.thread if message.files] == [file.name]


async def test_secrets_leave_neither_in_messages_nor_in_files(open_room: Room) -> None:
    run_id = open_room.scene.run(CHECK, ["gpu-01"])
    run = open_room.scene.claim(run_id)
    noise = "HF_TOKEN=hf_abcdefghijklmnop xoxb-demo\n" * 30
    said = "Authorization: Bearer abcdefghijkl"
    open_room.scene.step(run, "driver", "gpu-01", said, status=Status.FAILED, stdout=noise)
    open_room.scene.store.runs.finish(run, RunState.FAILED, "xapp-demo", None)
    await open_room.settled()
    journal = repr([call["args"] for call in open_room.slack.calls() if "chat." in call["method"]])
    for secret in ("hf_abc", "xoxb-demo", "abcdefghijkl", "xapp-demo"):
        assert secret not in journal
        assert secret not in open_room.slack.files[0].text


# ── pace ──
async def test_progress_is_shown_at_intervals_and_the_end_at_once(tmp_path: Path) -> None:
    async with room(tmp_path, gap=30) as slow:
        run_id = slow.scene.run(CHECK, list(inventory().hosts))
        await slow.shows("Queued")
        slow.scene.checked(run_id)
        await slow.shows("🟢 healthy")
        await slow.settled()
        assert len(slow.slack.calls("chat.update")) <= 2, "16 steps, one edit for all of them"


@given(st.lists(st.tuples(st.floats(0, 4), st.sampled_from([0, 1, 2])), max_size=150))
def test_edits_of_a_minute_stay_within_the_tier_and_the_urgent_go_first(
    steps: list[tuple[float, int]],
) -> None:
    now = 0.0
    pace = Pace(lambda: now)
    made: list[float] = []
    for number, (passed, urgency) in enumerate(steps):
        now += passed
        assert pace.ready("new", "chat.update", 0) <= pace.ready("new", "chat.update", 1)
        assert pace.ready("new", "chat.update", 1) <= pace.ready("new", "chat.update", 2)
        due = pace.ready(f"run:{number}", "chat.update", urgency)
        if due <= now:
            pace.spent(f"run:{number}", "chat.update")
            made.append(now)
    for begin in made:
        assert sum(begin <= at < begin + 60 for at in made) <= limits.TIER_PER_MINUTE[3] * 0.9 + 11


def test_one_message_is_edited_at_intervals_unless_somebody_waits_for_it() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    pace.spent("run:1", "chat.update")
    assert pace.ready("run:1", "chat.update", 2) == 103.0
    assert pace.ready("run:1", "chat.update", 0) <= now
    assert pace.ready("run:2", "chat.update", 2) <= now


def test_a_method_that_slack_wants_left_alone_is_left_alone_and_others_go_on() -> None:
    pace = Pace(lambda: 0.0)
    pace.block("chat.update", 7)
    assert pace.ready("run:1", "chat.update", 0) == 7.0
    assert pace.ready("run:1", "chat.postMessage", 2) == 0.0


async def test_retry_after_is_honoured(open_room: Room) -> None:
    open_room.slack.fail_next("chat.postMessage", status=429, error="ratelimited", retry_after=1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    open_room.scene.incident()
    await open_room.shows("VLLMStalled")
    assert loop.time() - begun >= 1.0
    assert len(open_room.slack.calls("chat.postMessage")) == 2


# ── what goes wrong at Slack ──
@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"error": "internal_error"}, {"error": "fatal_error", "times": 2}]
)
async def test_a_fault_of_slack_loses_nothing_and_doubles_nothing(
    open_room: Room, fault: dict[str, int]
) -> None:
    open_room.slack.fail_next("chat.postMessage", **fault)  # type: ignore[arg-type]
    open_room.scene.incident()
    await open_room.settled()
    assert "VLLMStalled" in words(open_room.root)
    assert open_room.door.trouble == ""


async def test_while_slack_is_down_messages_wait_and_then_say_what_is_true_then(tmp_path: Path) -> None:
    async with PretendSlack() as away:
        port = int(away.base_url.rsplit(":", 1)[1].split("/")[0])
    scene = Scene.at(tmp_path)
    opened = door(scene, f"http://127.0.0.1:{port}/api/")
    start = asyncio.create_task(opened.start())
    _, run_id = recovery(scene)
    scene.store.approvals.decide(run_id, BOB, "approve")
    scene.act(run_id)
    try:
        async with asyncio.timeout(10):
            while "cannot be reached" not in opened.trouble:  # noqa: ASYNC110 - nothing happens that could ring
                await asyncio.sleep(0.01)
        async with PretendSlack(port=port, scopes=tuple(SCOPES)) as slack:
            found = Room(scene, slack, opened)
            await slack.wait_for(lambda: len(slack.messages()) == 1 and len(found.thread) == 3, 30)
            await found.settled()
            assert "Recovered" in words(found.root)
            assert "Approved by bob" in " ".join(words(message) for message in found.thread)
            await start
            await opened.stop()
    finally:
        start.cancel()
        await opened.stop()
        scene.store.close()


async def test_a_message_that_somebody_deleted_is_posted_again(open_room: Room) -> None:
    run_id = open_room.scene.run(CHECK)
    message = await open_room.shows("Queued")
    api = client(open_room.slack.bot_token, open_room.slack.base_url)
    await api.chat_delete(channel="C0ONCALL", ts=message.ts)
    open_room.scene.checked(run_id)
    again = await open_room.shows("healthy")
    await open_room.settled()
    assert again.ts != message.ts
    assert len(open_room.slack.messages()) == 1


async def test_a_root_that_somebody_deleted_is_posted_again_for_its_thread(open_room: Room) -> None:
    incident = open_room.scene.incident()
    root = await open_room.shows("VLLMStalled")
    api = client(open_room.slack.bot_token, open_room.slack.base_url)
    await api.chat_delete(channel="C0ONCALL", ts=root.ts)
    open_room.scene.run(incident=incident)
    await open_room.settled()
    assert "queued" in words(open_room.root)
    assert "Queued · restart-container" in words(open_room.thread[0])


async def test_blocks_that_slack_refuses_are_sent_as_bare_text(open_room: Room) -> None:
    open_room.slack.fail_next("chat.postMessage", error="invalid_blocks")
    open_room.scene.incident()
    await open_room.settled()
    assert open_room.root.blocks == []
    assert "vLLM on gpu-03 stopped answering" in open_room.root.text


async def test_what_cannot_be_posted_in_its_channel_goes_to_the_usual_one_and_says_so(
    open_room: Room,
) -> None:
    incident = open_room.scene.incident(channel="nowhere")
    open_room.scene.run(incident=incident, channel="nowhere")
    await open_room.settled()
    assert "This was meant for nowhere: channel_not_found" in words(open_room.root)
    assert len(open_room.thread) == 1
    open_room.scene.clear(incident)
    await open_room.settled()
    assert "RESOLVED" in words(open_room.root)
    assert "meant for nowhere" in words(open_room.root)


async def test_a_channel_without_the_bot_is_trouble_that_health_tells_and_the_cursor_stays(
    open_room: Room,
) -> None:
    open_room.slack.fail_next("chat.postMessage", error="not_in_channel", times=50)
    open_room.scene.incident()
    async with asyncio.timeout(5):
        while "not_in_channel" not in open_room.door.trouble:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert open_room.scene.store.timeline.cursor("slack") == 0
    assert open_room.behind()


def told(scene: Scene) -> list[tuple[str, int | None, str]]:
    """Return what the timeline knows of messages and of Slack: kind, incident, message."""
    events = scene.store.timeline.after(0, 10_000)
    nouns = ("message", "slack")
    return [
        (event.kind, event.incident_id, event.data.get("message", ""))
        for event in events
        if event.kind.partition(".")[0] in nouns
    ]


async def test_what_people_could_not_be_shown_is_told_once_in_the_timeline_and_when_it_was_mended(
    open_room: Room,
) -> None:
    open_room.slack.fail_next("chat.postMessage", error="not_in_channel", times=2)
    incident = open_room.scene.incident()
    outbox = open_room.door._outbox
    assert outbox is not None
    for _ in range(2):
        async with asyncio.timeout(5):
            while (one := outbox._dirty.get("incident:1")) is None or not one.not_before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        one.not_before = 0.0  # a minute has passed
        outbox._bell.set()
    await open_room.settled()
    assert "VLLMStalled" in words(open_room.root)
    about = (incident, "incident:1")
    assert told(open_room.scene) == [("message.undeliverable", *about), ("message.delivered", *about)]


async def test_a_hiccup_of_slack_is_no_event_and_an_outage_is_one_with_its_end(open_room: Room) -> None:
    open_room.slack.fail_next("chat.postMessage", error="internal_error", times=2)
    open_room.scene.incident()
    await open_room.settled()
    assert told(open_room.scene) == []
    open_room.slack.fail_next("chat.update", error="internal_error", times=3)
    open_room.scene.clear(1)
    await open_room.settled()
    assert told(open_room.scene) == [("slack.unreachable", None, ""), ("slack.reached", None, "")]


@pytest.mark.parametrize(
    ("main", "channel", "loud"),
    [
        ("oncall", "D0ALICE01", ["D0ALICE01", "oncall"]),
        ("C0ONCALL1", "D0ALICE01", ["D0ALICE01", "C0ONCALL1"]),
        ("oncall", "team", ["team", "oncall"]),
        ("oncall", "oncall", ["oncall"]),
        ("oncall", "C0ONCALL1", ["C0ONCALL1"]),
    ],
)
def test_glass_broken_in_a_direct_message_is_heard_where_everybody_reads(
    tmp_path: Path, main: str, channel: str, loud: list[str]
) -> None:
    scene = Scene.at(tmp_path)
    run_id = scene.run(channel=channel)
    scene.ask(scene.claim(run_id))
    scene.store.approvals.decide(run_id, BOB, "approve", glass="the fire is spreading")
    (broken,) = (one for one in scene.store.timeline.of(run=run_id) if one.kind == "approval.glass_broken")
    drafts = Drafts(scene.store, {}, Mask(), channel=main)
    found = [drafts.of(key) for key in touched(broken) if key.startswith(("alarm:", "broadcast:"))]
    assert [one.channel for one in found if one is not None] == loud
    assert all("the fire is spreading" in str(one.card) for one in found if one is not None)
    scene.store.close()


def test_every_message_is_about_an_incident_or_a_run(tmp_path: Path) -> None:
    scene = Scene.at(tmp_path)
    _, run_id = recovery(scene)
    scene.store.approvals.decide(run_id, BOB, "approve", glass="the fire is spreading")
    (broken,) = (one for one in scene.store.timeline.of(run=run_id) if one.kind == "approval.glass_broken")
    assert subject(scene.store, f"alarm:{broken.id}") == {"run": run_id}
    assert subject(scene.store, f"broadcast:{broken.id}") == {"run": run_id}
    assert subject(scene.store, f"glass:{broken.id}") == {"run": run_id}
    assert subject(scene.store, "plan:12") == {"run": 12}
    assert subject(scene.store, "incident:7") == {"incident": 7}
    scene.store.close()


async def test_a_file_without_the_scope_for_it_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    scopes = tuple(scope for scope in SCOPES if scope != "files:write")
    async with room(tmp_path, scopes=scopes) as poor:
        run_id = poor.scene.run(CHECK)
        poor.scene.checked(run_id, noise=40)
        await poor.settled()
        assert "healthy" in words(poor.root)
        assert told(poor.scene) == [("message.undeliverable", None, f"output:{run_id}")]


# ── what goes wrong with us ──
@dataclass
class Crash:
    """Leaves the store as a SIGKILL between a post and its note leaves it."""

    scene: Scene

    def forget(self, key: str, thread: str | None = None) -> None:
        """Put a message's note back to what stood there before the post."""
        place = self.scene.store.timeline.place(key)
        assert place is not None
        posting = {
            "state": "posting",
            "channel": "oncall",
            "thread": thread,
            "since": float(place.get("ts") or thread or 0),
        }
        self.scene.store.timeline.put(key, posting)
        self.scene.store.timeline.advance("slack", 0)


async def test_a_new_start_posts_nothing_twice(open_room: Room) -> None:
    recovery(open_room.scene)
    await open_room.settled()
    await open_room.door.stop()
    open_room.scene.store.timeline.advance("slack", 0)
    second = door(open_room.scene, open_room.slack.base_url)
    posts = len(open_room.slack.calls("chat.postMessage"))
    updates = len(open_room.slack.calls("chat.update"))
    await second.start()
    try:
        await open_room.settled()
    finally:
        await second.stop()
    assert len(open_room.slack.calls("chat.postMessage")) == posts
    assert len(open_room.slack.calls("chat.update")) == updates
    assert (len(open_room.slack.messages()), len(open_room.thread)) == (1, 3)


@pytest.mark.parametrize("key", ["incident:1", "run:1", "approval:1", "output:1"])
async def test_a_crash_between_post_and_note_is_mended_from_the_history(open_room: Room, key: str) -> None:
    _, run_id = recovery(open_room.scene)
    open_room.scene.store.approvals.decide(run_id, BOB, "approve")
    run = open_room.scene.claim(run_id)
    noise = "".join(f"line {number}\n" for number in range(40))
    open_room.scene.step(run, "drain", stdout=noise, status=Status.FAILED)
    open_room.scene.store.runs.finish(run, RunState.FAILED, "Failed on gpu-03.", None)
    await open_room.settled()
    seen = [message.ts for message in (open_room.root, *open_room.thread)]
    await open_room.door.stop()
    Crash(open_room.scene).forget(key, None if key.startswith("incident") else open_room.root.ts)
    second = door(open_room.scene, open_room.slack.base_url)
    await second.start()
    try:
        await open_room.settled()
    finally:
        await second.stop()
    assert [message.ts for message in (open_room.root, *open_room.thread)] == seen
    place = open_room.scene.store.timeline.place(key)
    assert place is not None
    assert place["state"] == "posted"


async def test_what_happened_while_we_were_away_is_shown_at_the_next_start(open_room: Room) -> None:
    incident, _ = recovery(open_room.scene)
    await open_room.settled()
    await open_room.door.stop()
    open_room.scene.clear(incident)
    second = door(open_room.scene, open_room.slack.base_url)
    await second.start()
    try:
        await open_room.shows("No longer asked")
        await open_room.shows("RESOLVED")
        await open_room.settled()
    finally:
        await second.stop()
    assert len(open_room.slack.messages()) == 1


async def test_thirty_incidents_at_once_stay_within_slacks_limits_and_all_are_shown(tmp_path: Path) -> None:
    channels = tuple(f"c{number}" for number in range(10))
    async with room(tmp_path, gap=3, rate_limits="real", channels=("oncall", *channels)) as busy:
        for number in range(30):
            busy.scene.incident(channel=channels[number % 10], host=f"gpu-{number}", alertname=f"A{number}")
        await busy.settled()
        shown = [message for channel in channels for message in busy.slack.messages(channel)]
        assert len(shown) == 30
        assert {call["status"] for call in busy.slack.calls("chat.postMessage")} == {200}
