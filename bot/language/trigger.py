"""What starts a runbook: an alert, a person, the clock; and what the clock cannot say, because nobody is there."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from bot.errors import Path
from bot.language.inputs import Noun
from bot.language.schedule import Expression as Cron

Match = dict[str, str | list[str]]
NO_SCHEDULE = (
    "a schedule changes nothing by itself, and this runbook changes hosts",
    "let it look only, or remove `schedule`",
)


class AlertMatch(Noun):
    """Labels that an alert must carry."""

    match: Match


class Trigger(Noun):
    """One thing that may start the runbook."""

    alert: AlertMatch | None = None
    command: Literal[True] | None = Field(None, description="people may run it by name")
    schedule: Cron | None = Field(
        None, description="five fields as cron has them; an observe runbook is run then, by itself"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(one is not None for one in (self.alert, self.command, self.schedule)) != 1:
            raise ValueError("a trigger is one of `alert: {match: …}`, `command: true` and `schedule: …`")
        return self


def matches(match: Match, labels: dict[str, str]) -> bool:
    """Do the labels carry, for each name, the value or one of the values?"""
    return all(
        labels.get(name, "") in ([want] if isinstance(want, str) else want) for name, want in match.items()
    )


def unattended(book: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Yield what is wrong with the schedules of a runbook as it is written, each with its place and what to do."""
    triggers, inputs = book.get("triggers"), book.get("inputs")
    for index, trigger in enumerate(triggers if isinstance(triggers, list) else ()):
        if not isinstance(trigger, dict) or "schedule" not in trigger:
            continue
        if book.get("kind") == "mutate":
            yield ("triggers", index, "schedule"), *NO_SCHEDULE
        if "{{" in str(book.get("hosts", "")):
            what = "a schedule has no alert to take the host from"
            yield ("hosts",), what, "name a host set, or none for all"
        for name, rule in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(rule, dict) and rule.get("required") is True and rule.get("default") is None:
                what = f"nobody is there to give the input `{name}` when the clock starts it"
                yield ("inputs", name), what, "give it a `default`"
