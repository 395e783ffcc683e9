"""The Slack room on a real store and a pretend Slack: the real slack-bolt app, connected over Socket Mode."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bot.commands.verbs import Commands
from bot.config.settings import SlackSection
from bot.config.tokens import Secrets
from bot.library import Loaded
from bot.people.permissions import Permission, Permissions
from bot.runs.approval import Person
from bot.sim.slack import Delivery, Message, PretendSlack
from bot.slack.client import brief_client
from bot.slack.door import SlackDoor
from bot.slack.manifest import SCOPES
from bot.slack.members import LIFE, SlackMembers
from bot.slack.pace import Pace
from tests.parts.states import LIBRARY, PEOPLE, Scene, inventory

GAP = 0.05
"""Seconds between two progress edits of one message; 3 in production."""


@dataclass
class Staff:
    """Who may do what in a room, and how old what Slack said of them is."""

    people: Mapping[str, Person] = field(default_factory=lambda: PEOPLE)
    rules: Sequence[Permission] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    library: Mapping[str, Loaded] = field(default_factory=lambda: LIBRARY)
    seconds: float = 0.0

    def desk(self, scene: Scene) -> Commands:
        """Return a desk; one that asks Slack nothing, as the terminal's while Slack is down."""
        rights = Permissions(self.rules, self.people, inventory(), self.groups)
        return Commands(
            scene.store,
            inventory(),
            self.library,
            self.people,
            rights=rights,
            groups=self.groups,
            check=("gpu-check",),
            channel="oncall",
        )

    def later(self) -> None:
        """Let what Slack said of people grow old."""
        self.seconds += LIFE


@dataclass
class Room:
    """A scene, and what is seen of it in Slack."""

    scene: Scene
    slack: PretendSlack
    door: SlackDoor
    staff: Staff = field(default_factory=Staff)

    @property
    def root(self) -> Message:
        """The only message of the channel."""
        (message,) = self.slack.messages()
        return message

    @property
    def thread(self) -> list[Message]:
        """The replies under the only message."""
        return self.slack.thread("oncall", self.root.ts)

    async def until(self, predicate: Callable[[], Any]) -> Any:
        """Wait until something is seen."""
        return await self.slack.wait_for(predicate)

    async def shows(self, text: str, where: Callable[[], list[Message]] | None = None) -> Message:
        """Wait for a message with this text, in the channel or a thread of it."""

        def find() -> Message | None:
            everywhere = [
                *self.slack.messages(),
                *(r for m in self.slack.messages() for r in self.slack.thread("oncall", m.ts)),
            ]
            return next((one for one in (where() if where else everywhere) if text in words(one)), None)

        found: Message = await self.until(find)
        return found

    async def told(self, user: str, text: str) -> Message:
        """Wait until only this person is told something."""
        return await self.shows(text, lambda: self.slack.ephemerals(user))

    async def click(self, user: str, message: Message, action: str) -> Delivery:
        """Click a button of a message in the channel."""
        return await self.slack.click(user, "oncall", message.ts, action)

    async def settled(self) -> None:
        """Wait until every message is as it should be."""
        loop, bell = asyncio.get_running_loop(), asyncio.Event()

        def ring() -> None:
            loop.call_soon_threadsafe(bell.set)

        unlisten = self.scene.store.database.listen(ring)
        try:
            async with asyncio.timeout(15):
                while self.behind():
                    bell.clear()
                    if self.behind():
                        await bell.wait()  # the cursor's own commit rings
        finally:
            unlisten()

    def behind(self) -> bool:
        """Are there events whose messages are not yet as they should be?"""
        timeline = self.scene.store.timeline
        return bool(timeline.after(timeline.cursor("slack"), 1))


def words(message: Message) -> str:
    """Return what a reader sees, without the seams between spans."""
    return message.words.replace("\n", "")


def secrets(slack: PretendSlack | None = None) -> Secrets:
    """Return the tokens of a pretend Slack."""
    bot, app = (slack.bot_token, slack.app_token) if slack else ("xoxb-demo", "xapp-demo")
    return Secrets(SecretStr(bot), SecretStr(app), None, None)


def door(
    scene: Scene, base_url: str, *, gap: float = GAP, per_minute: float = 60_000, staff: Staff | None = None
) -> SlackDoor:
    """Return a door on this scene, closed."""
    staff = staff or Staff()
    pace = Pace(asyncio.get_running_loop().time, gap=gap, per_minute=per_minute)
    section = SlackSection(channel="oncall", base_url=base_url, usergroups=dict(staff.groups))
    asked = brief_client("xoxb-demo", base_url)
    members = SlackMembers(asked, staff.groups, clock=lambda: staff.seconds)
    return SlackDoor(section, secrets(), scene.store, staff.desk(scene), pace=pace, members=members)


@asynccontextmanager
async def room(
    folder: Path, *, gap: float = GAP, staff: Staff | None = None, **options: Any
) -> AsyncIterator[Room]:
    """Open a room whose Slack grants exactly the scopes of our manifest."""
    scene, staff = Scene.at(folder), staff or Staff()
    async with PretendSlack(**({"scopes": tuple(SCOPES)} | options)) as slack:
        opened = door(scene, slack.base_url, gap=gap, staff=staff)
        await opened.start()
        try:
            await slack.wait_for_connection()
            yield Room(scene, slack, opened, staff)
        finally:
            await opened.stop()
            scene.store.close()
