"""The section `schedules:` of sickbay.yaml: how schedules are kept, and which runbooks the fleet wants by the clock."""

from datetime import timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from bot.duration import Duration
from bot.language.inputs import Noun
from bot.language.runbook import Name
from bot.language.schedule import Expression, Missed


class ScheduledSection(Noun):
    """A runbook run by the clock, without a word in its own file."""

    schedule: Expression | None = Field(
        None, description="five fields as cron has them; none: as the runbook's own triggers say"
    )
    hosts: str = Field("", description="a host set; empty: as the runbook says, else all hosts")


class SchedulesSection(Noun):
    """How schedules are kept."""

    timezone: str = Field("UTC", description="in which their hours are read, such as Europe/Berlin")
    jitter: Duration = Field(
        timedelta(seconds=30),
        le=timedelta(minutes=30),
        description="each is late by its own part of this, so that not all begin at once",
    )
    missed: Missed = Field(
        "skip",
        description="times that passed while Sickbay was down: skip, or once (one run for all of them)",
    )
    runbooks: dict[Name, ScheduledSection] = Field({}, description="by name of the runbook")

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {timezone!r} on this machine") from error
        return timezone
