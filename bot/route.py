"""A route: which alerts become which action, where they are shown, and how bold Sickbay may be."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bot.language.inputs import Noun
from bot.language.runbook import MODES, Mode, Name
from bot.language.trigger import Match, matches

Channel = Annotated[
    str,
    Field(pattern=r"^#?[^\sA-Z#@.,:]{1,80}$|^[CG][A-Z0-9]{8,}$"),
    AfterValidator(lambda name: name.removeprefix("#")),
]
"""A Slack channel by name, with or without `#`, or by id."""


class Route(Noun):
    """One line of `routes:`; the first that matches an alert is taken."""

    match: Match = Field({}, description="labels the alert must carry; empty matches all")
    runbook: Name | None = Field(None, description="empty: the first runbook whose alert trigger matches")
    hosts: str = Field("", description="a host set; empty: as the runbook says, else the alert's own host")
    channel: Channel | None = Field(None, description="Slack channel; none: the default channel")
    mode: Mode = Field("approve", description="may only lower the runbook's own mode")
    inputs: dict[str, Any] = Field({})
    group_by: list[str] = Field(
        ["alertname"], description="alerts alike in these labels, and in host, are one incident"
    )

    def takes(self, labels: dict[str, str]) -> bool:
        """Is this route for these labels?"""
        return matches(self.match, labels)


def lower(one: Mode, other: Mode) -> Mode:
    """Return the more careful of two modes."""
    return min(one, other, key=MODES.index)
