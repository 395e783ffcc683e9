"""What stands in a `*.test.yaml`: named cases, each with what is given and what is expected.

    a stalled container is restarted:
      given:
        alert: {labels: {alertname: VLLMStalled, host: gpu-03}}
        hosts:
          gpu-03: {vars: {gpus: 8}}
        replies:
          - {step: progress, stdout: "…"}
          - {match: docker restart, exit: 1, stderr: No such container}
      approve: [ben]
      expect:
        state: succeeded
        approvals: [{hosts: gpu-03, answer: approved}]
        messages: ["Done · restart-container · gpu-03"]
        steps: {gpu-03: {restart: ok, rescue_1: not run}}

Replies are looked through from the top; the first that fits and is not used up answers.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, RootModel, field_validator, model_validator

from bot.duration import Duration
from bot.language.inputs import Noun
from bot.language.runbook import Mode
from bot.runs.approval import ApprovalState
from bot.runs.run import RunState

Ending = Literal["succeeded", "failed", "cancelled", "needs_human"]
assert set(Ending.__args__) == {str(state) for state in RunState if state.ended}  # type: ignore[attr-defined]

Word = Literal["ok", "failed", "skipped", "unreachable", "unknown", "not run", "healthy", "unhealthy"]
"""A status of a step, or its verdict."""


class GivenHost(Noun):
    """A machine of the test's inventory."""

    address: str = Field("192.0.2.1", description="nothing is ever sent there")
    vars: dict[str, Any] = Field({})
    groups: list[str] = Field([])


class GivenAlert(Noun):
    """What a monitor said."""

    labels: dict[str, str]
    annotations: dict[str, str] = Field({})


class Reply(Noun):
    """What a host answers to a command."""

    step: str = Field("", description="id of the step; empty: any")
    match: str = Field("", description="regular expression, searched in the command's text; empty: any")
    host: str = Field("", description="the step's host, or the machine it runs on; empty: any")
    stdout: str = ""
    stderr: str = ""
    exit: int = Field(0, ge=0, le=255)
    delay: Duration = Field(
        timedelta(0), description="how long it takes; past the step's timeout it is cut off"
    )
    unreachable: bool = Field(default=False, description="the machine cannot be spoken to")
    lost: bool = Field(default=False, description="nobody can say how the command ended")
    times: int | None = Field(None, ge=1, description="answers this often, then the next reply; else always")

    @field_validator("match")
    @classmethod
    def _compiles(cls, match: str) -> str:
        try:
            re.compile(match)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return match

    @model_validator(mode="after")
    def _aimed(self) -> Self:
        if not (self.step or self.match):
            raise ValueError("a reply names its `step`, or a `match` for the command")
        if self.unreachable and self.lost:
            raise ValueError("a reply is either `unreachable` or `lost`")
        return self

    @property
    def aim(self) -> str:
        """Name it for people."""
        parts = {"step": self.step, "match": self.match, "host": self.host}
        return ", ".join(f"{key}: {value}" for key, value in parts.items() if value)


class Given(Noun):
    """The world of a case."""

    hosts: dict[str, GivenHost] = Field(min_length=1)
    on: str = Field("", description="host set to run on; else the alert's host, else the first of `hosts`")
    alert: GivenAlert | None = None
    inputs: dict[str, Any] = Field({})
    requester: str = Field("", description="who asks; else the alert, or somebody")
    mode: Mode | None = Field(None, description="as a route, or what the runbook has earned, lowers its mode")
    replies: list[Reply] = Field([])


class Question(Noun):
    """A question to people, and what became of it."""

    hosts: str = Field(
        "", description="host set it was about: those to be changed, or those without evidence; empty: any"
    )
    answer: ApprovalState | None = Field(None, description="what became of it")


class Expected(Noun):
    """What must have come of it; what is not named is not looked at."""

    state: Ending
    verdict: Literal["healthy", "unhealthy", "unknown"] | None = None
    reason: str = Field("", description="text that the run's reason holds")
    plan: list[str] = Field(
        [], description="texts, each in a line of the plan, such as `gpu-03 restart: run`"
    )
    approvals: Annotated[int, Field(ge=0)] | list[Question] | None = Field(
        None, description="every question that people were asked, in this order; or how many there were"
    )
    messages: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="texts that people could read in a message, the plan or a question, secrets masked"
    )
    steps: dict[str, dict[str, Word]] = Field({}, description="host → step → how it ended, or its verdict")


class Case(Noun):
    """One test of a runbook."""

    given: Given
    approve: list[str] = Field([], description="who approves, in this order; nobody: the question expires")
    deny: str = Field("", description="who denies, after those who approve")
    expect: Expected


class Cases(RootModel[dict[str, Case]]):
    """The cases of a test file, by their names."""
