"""How often a runbook may act, how few replicas it may leave, and when automation stops itself."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from bot.duration import Duration
from bot.language.inputs import Noun


class Limits(Noun):
    """How often the runbook may act."""

    runs: int = Field(ge=1, le=1000)
    per: Duration
    by: Literal["host", "runbook", "gpu"] = "host"
    then: Literal["escalate", "refuse"] = "escalate"


class MinReady(Noun):
    """A floor that no batch may go below."""

    group: str = Field(min_length=1, description="a host set of replicas, such as @serving")
    replicas: int = Field(ge=1, le=10_000, description="that must stay ready")
    port: int = Field(8000, ge=1, le=65_535, description="of their API, where no load balancer knows them")


class GuardRule(Noun):
    """What must hold while hosts are changed."""

    min_ready: MinReady


class Breaker(Noun):
    """When automation stops itself: so many hosts want so deep a change within so short a time."""

    hosts: int = Field(3, ge=2, le=1000)
    within: Duration = timedelta(minutes=10)
    level: Literal[1, 2, 3] = Field(
        2, description="1 restarts of replicas too; 2 GPU resets, plain commands; 3 reboots"
    )
