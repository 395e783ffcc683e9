"""What a runbook is: the model behind the YAML.

Only what the engine does is accepted: an unknown key is refused, never ignored, because a safety key that is
silently dropped is worse than none. What cannot be said by types (expressions, step kinds, quoting) is `lint`'s.
"""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from bot.duration import Duration
from bot.errors import Misplaced, SickbayError
from bot.language.inputs import Input, Noun
from bot.language.limits import GuardRule, Limits
from bot.language.trigger import NO_SCHEDULE, Trigger, matches

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
StepId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Expression = Annotated[str, Field(min_length=1, description="a bare Jinja2 expression, no braces")]
Mode = Literal["suggest", "approve", "auto"]
MODES: tuple[Mode, ...] = ("suggest", "approve", "auto")
"""From the most careful to the boldest."""


class ApprovalRule(Noun):
    """Who has to say yes, and until when."""

    required: int = Field(1, ge=1, le=10, description="different people who must approve")
    from_: list[str] = Field(["oncall"], alias="from", description="roles; one of them is enough")
    allow_requester: bool = Field(default=False, description="may the person who asked approve too?")
    timeout: Duration = timedelta(minutes=15)
    on_timeout: Literal["deny"] = "deny"


def _numbered(evidence: Any) -> Any:
    """Name the steps of an own pack."""
    if isinstance(evidence, dict):
        return {**evidence, "pack": _numbered(evidence["pack"])} if "pack" in evidence else evidence
    if not isinstance(evidence, list):
        return evidence
    return [
        {"id": f"{EVIDENCE}_{index}", **step} if isinstance(step, dict) else step
        for index, step in enumerate(evidence, 1)
    ]


_SLIPS = {
    "if": "when", "args": "with", "command": "run", "shell": "run", "failed_when": "expect", "register": "id",
}  # fmt: skip
"""Words of other tools, for `did you mean`."""


class Rollback(Noun):
    """How a step is undone, once, where it had succeeded and the host does not come through."""

    slips: ClassVar[dict[str, str]] = _SLIPS

    name: str = Field("", description="what people read; else made from the step")
    run: str | list[str] | None = Field(None, description="a shell command, or a list of arguments")
    uses: str | None = Field(None, description="a step kind, such as haproxy.undrain")
    with_: dict[str, Any] = Field({}, alias="with", description="arguments of the step kind")
    expect: Expression | None = Field(None, description="the rollback fails where this is false")
    timeout: Duration = timedelta(seconds=60)

    @model_validator(mode="after")
    def _one_deed(self) -> Self:
        _check_deed(self)
        return self


class Step(Noun):
    """One line of a runbook: a command, or a named step kind."""

    slips: ClassVar[dict[str, str]] = _SLIPS

    id: StepId = ""
    name: str = Field("", description="what people read; else made from the command or the kind")
    run: str | list[str] | None = Field(None, description="a shell command, or a list of arguments")
    uses: str | None = Field(None, description="a step kind, such as docker.restart")
    with_: dict[str, Any] = Field({}, alias="with", description="arguments of the step kind")
    when: Expression | None = Field(None, description="skip the step on hosts where this is false")
    parse: str | None = Field(None, description="name of a parser: fills steps.<id>.facts")
    expect: Expression | None = Field(None, description="the step fails where this is false")
    until: Expression | None = Field(None, description="try again until this is true")
    retries: int = Field(0, ge=0, le=1000)
    delay: Duration = Field(timedelta(seconds=5), description="between two tries")
    timeout: Duration = Field(timedelta(seconds=60), description="of one try")
    mutates: bool | None = Field(
        None, description="does `run` change the host? In a mutate runbook: yes, unless you write false"
    )

    idempotent: bool = Field(
        default=False,
        description="may it be done again where nobody knows how it ended, once nothing of it goes on?",
    )
    rollback: Rollback | None = Field(
        None, description="undoes the step, once, on hosts that do not come through"
    )

    @model_validator(mode="after")
    def _one_deed(self) -> Self:
        _check_deed(self)
        return self

    @property
    def title(self) -> str:
        """What people read."""
        if isinstance(self.run, str):
            first, *more = self.run.strip().splitlines() or [""]
            return self.name or (f"{first} …" if more else first)
        return self.name or self.uses or " ".join(self.run or ())

    @property
    def undo(self) -> "Step | None":
        """The rollback as a step of its own, which is done and recorded like any other."""
        if self.rollback is None:
            return None
        given: dict[str, Any] = {
            name: getattr(self.rollback, name) for name in self.rollback.model_fields_set
        }
        given |= {"id": undo_id(self.id), "name": self.rollback.name or f"roll back: {self.title}"}
        return Step.model_construct(_fields_set=set(given), **given)


def undo_id(step_id: str) -> str:
    """Name the rollback of a step."""
    return f"{step_id}_rollback"


def _check_deed(step: Step | Rollback) -> None:
    given = {name.rstrip("_") for name in step.model_fields_set if getattr(step, name) not in (None, {})}
    if fault := deed(given):
        raise ValueError(fault)


def deed(given: Collection[str]) -> str:
    """Say what is wrong with the keys of a step: it does one thing, and a step kind brings its own parser."""
    if ("run" in given) == ("uses" in given):
        return "a step has either `run` or `uses`"
    if "run" in given and "with" in given:
        return "`with` goes with `uses`"
    if "uses" in given and ("parse" in given or "mutates" in given):
        return "`parse` and `mutates` go with `run`; a step kind knows both itself"
    return ""


def _or_short(schema: dict[str, Any]) -> None:
    whole = dict(schema)
    schema.clear()
    schema["anyOf"] = [*whole["properties"]["pack"]["anyOf"], whole]


class EvidenceRule(Noun):
    """What is captured of a host before anything is changed there; `evidence: none` is short for its pack."""

    model_config = ConfigDict(json_schema_extra=_or_short)

    pack: Literal["default", "none"] | list[Step] = Field(
        "default", description="the default pack, nothing, or steps of your own that only look"
    )
    missing: Literal["ask", "refuse", "go"] = Field(
        "ask", description="when it cannot be had: ask people, leave the host unchanged, or go on"
    )
    timeout: Duration = Field(
        timedelta(seconds=60), ge=timedelta(seconds=10), le=timedelta(seconds=60), description="per host"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, str) and data not in ("default", "none"):
            raise ValueError(f"expected `default`, `none`, or a list of steps, not {data!r}")
        return {"pack": data} if isinstance(data, str | list) else data

    @field_validator("pack")
    @classmethod
    def _looks(cls, pack: str | list[Step]) -> str | list[Step]:
        for index, step in enumerate(pack if isinstance(pack, list) else ()):
            if step.mutates:
                raise Misplaced((index, "mutates"), "evidence is taken before anything is changed")
            if step.retries:
                raise Misplaced((index, "retries"), "evidence is taken once", "remove `retries`")
        if pack == []:
            raise ValueError("name what is to be captured, or write `none`")
        return pack

    def steps(self, inputs: Collection[str]) -> tuple[Step, ...]:
        """Return the steps that take it; the serving container is known where `container` is an input."""
        if isinstance(self.pack, list):
            share = self.timeout / len(self.pack)
            boot = [] if any(step.uses == "host.capture" for step in self.pack) else [_BOOT]
            own = (
                step.model_copy(
                    update={"timeout": min(step.timeout, share), "mutates": False if step.run else None}
                )
                for step in self.pack
            )
            return (*own, *boot)
        if self.pack == "none":
            return ()
        given = {"within": f"{self.timeout // timedelta(seconds=1) - 5}s"}
        if "container" in inputs:
            given["container"] = "{{ inputs.container }}"
        step = Step(id=EVIDENCE, name="Evidence before the first change", uses="host.capture")
        return (step.model_copy(update={"with_": given}),)


EVIDENCE = "evidence"
"""Id of the step that takes the default pack."""
_BOOT = Step(name="Boot id, beside the evidence", uses="host.boot").model_copy(
    update={"id": f"{EVIDENCE}.boot"}
)
"""What stands beside a pack of one's own: no pack is without the boot that it is of."""


def used_twice(step_id: str) -> str:
    """Say that two steps have one id."""
    return f"step id `{step_id}` is used twice"


def unguarded(key: str) -> str:
    """Say that a guard rail has nothing to do."""
    return f"an observe runbook changes nothing, so `{key}` has nothing to guard"


RAILS = ("lock", "on_conflict", "cooldown", "limits", "guard")
NEEDS_VERIFY = "a mutate runbook needs `verify`: how is it known that it worked?"
NO_EVIDENCE = "an observe runbook changes nothing, so there is nothing to keep before"
SECTIONS = ("steps", "verify", "rescue", "always")


class Runbook(Noun):
    """A whole runbook."""

    slips: ClassVar[dict[str, str]] = {
        "on": "triggers", "tasks": "steps", "max_fail_percentage": "max_failures", "finally": "always",
    }  # fmt: skip

    version: Literal[1]
    name: Name
    description: str = Field(min_length=1)
    kind: Literal["observe", "mutate"]
    triggers: list[Trigger] = Field(min_length=1)
    mode: Mode = "approve"
    approval: ApprovalRule = ApprovalRule()
    inputs: dict[StepId, Input] = Field({})
    hosts: str = Field("", description="a host set; empty: the starter names the hosts")
    serial: list[int | str] = Field(
        [],
        description="batch sizes; the last repeats. Empty: observe all, mutate 1. A smaller first one is a canary",
    )
    max_failures: int | str = Field(
        0, description="stop when failures exceed it; a number or a share like 25%"
    )
    lock: str = Field(
        "host", min_length=1, max_length=200, description="host, runbook, or a text with values"
    )
    on_conflict: Literal["queue", "skip", "fail"] = Field(
        "queue", description="what a run does when another has the lock"
    )
    cooldown: Duration | None = Field(None, description="rest on a host after a verified success there")
    limits: Limits | None = Field(None, description="how often it may act, and what then")
    guard: GuardRule | None = Field(None, description="`min_ready`: how many replicas must stay ready")
    timeout: Duration = timedelta(minutes=30)
    evidence: EvidenceRule = Field(
        EvidenceRule(), description="what is captured of a host before it is changed: default, none, or steps"
    )
    steps: list[Step] = Field(min_length=1, max_length=100)
    verify: list[Step] = Field([])
    rescue: list[Step] = Field([], description="where something failed; after a failed look only what looks")
    always: list[Step] = Field(
        [], description="whatever happened; what changes a host only where the run has changed something"
    )

    @field_validator("serial", mode="before")
    @classmethod
    def _one_or_many(cls, serial: Any) -> Any:
        return serial if isinstance(serial, list) else [serial]

    @field_validator("serial")
    @classmethod
    def _sizes(cls, serial: list[int | str]) -> list[int | str]:
        for size in serial:
            share_or_count(size)
        return serial

    @field_validator("max_failures")
    @classmethod
    def _limit(cls, limit: int | str) -> int | str:
        if limit != 0:
            share_or_count(limit)
        return limit

    @model_validator(mode="before")
    @classmethod
    def _number_steps(cls, data: Any) -> Any:
        """Give steps without an id one by their place, so that every result has a name."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for section in SECTIONS:
            if isinstance(data.get(section), list):
                data[section] = [
                    {"id": f"{section}_{index}", **step} if isinstance(step, dict) else step
                    for index, step in enumerate(data[section], 1)
                ]
        if (evidence := data.get("evidence")) is not None:
            data["evidence"] = _numbered(evidence)
        return data

    @property
    def captures(self) -> tuple[Step, ...]:
        """The steps that take evidence; whoever only looks needs none."""
        return self.evidence.steps(self.inputs) if self.kind == "mutate" else ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "observe" and "evidence" in self.model_fields_set:
            raise Misplaced(("evidence",), NO_EVIDENCE, "remove `evidence`")
        for index, trigger in enumerate(self.triggers):
            if trigger.schedule is not None and self.kind == "mutate":
                raise Misplaced(("triggers", index, "schedule"), *NO_SCHEDULE)
        for key in RAILS:
            if self.kind == "observe" and key in self.model_fields_set:
                raise Misplaced((key,), unguarded(key), f"remove `{key}`")
        seen = {step.id for step in self.captures}
        for section in SECTIONS:
            for index, step in enumerate(getattr(self, section)):
                if step.id in seen:
                    raise Misplaced((section, index, "id"), used_twice(step.id))
                seen.add(step.id)
        for index, step in enumerate(self.steps):
            if step.undo is not None and step.undo.id in seen:
                raise Misplaced(("steps", index, "rollback"), used_twice(step.undo.id))
        if self.kind == "mutate" and not self.verify:
            raise ValueError(NEEDS_VERIFY)
        return self

    def answers(self, labels: dict[str, str]) -> bool:
        """Is one of the alert triggers for these labels?"""
        return any(trigger.alert and matches(trigger.alert.match, labels) for trigger in self.triggers)

    def fill(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all inputs: the given values checked, the others at their defaults.

        Raises:
            SickbayError: when one is unknown, missing or does not fit.

        """
        if unknown := [name for name in given if name not in self.inputs]:
            known = ", ".join(self.inputs) or "it has none"
            raise SickbayError(f"{self.name} has no input {', '.join(unknown)}", advice=f"inputs: {known}")
        filled: dict[str, Any] = {}
        for name, wanted in self.inputs.items():
            if name in given:
                try:
                    filled[name] = wanted.value(given[name])
                except ValueError as error:
                    where = f"{self.name}, input {name}"
                    raise SickbayError(str(error), where=where, advice=wanted.description) from error
            elif wanted.required and wanted.default is None:
                raise SickbayError(f"{self.name} needs the input {name}", advice=f"add {name}=…")
            else:
                filled[name] = wanted.default
        return filled

    @property
    def schedules(self) -> tuple[str, ...]:
        """When it is run by the clock."""
        return tuple(trigger.schedule for trigger in self.triggers if trigger.schedule is not None)

    @property
    def by_command(self) -> bool:
        """May people run it by name?"""
        return any(trigger.command for trigger in self.triggers)


def share_or_count(size: int | str) -> tuple[float | None, int | None]:
    """Read `2` as a count and `25%` as a share: one of the two is None.

    Raises:
        ValueError: for anything else, and for nothing (0, 0%).

    """
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return None, size
    if isinstance(size, str) and re.fullmatch(r"\d{1,3}%", size) and 0 < int(size[:-1]) <= 100:
        return int(size[:-1]) / 100, None
    raise ValueError(f"expected a count like 2 or a share like 25%, not {size!r}")
