"""A step kind used as the engine uses it: arguments as YAML gives them, planned, run by a real shell, judged."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bot.effect import Command, Finished
from bot.steps import KINDS
from bot.steps.kind import Judgement
from tests.parts.posix import run


def host(name: str = "gpu-03", **variables: Any) -> dict[str, Any]:
    """What expressions and kinds see of a host."""
    return {
        "alert": {},
        "inputs": {},
        "run": {"id": 1, "requester": "ana"},
        "steps": {},
        "host": {"name": name, "address": "10.0.0.3", "vars": variables, "groups": []},
    }


def plan(kind: str, given: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> Command:
    """The command for these arguments."""
    uses = KINDS[kind]
    return uses.plan(uses.arguments.model_validate(given), context or host()).command


def judge(
    kind: str, given: Mapping[str, Any], answer: Finished, context: Mapping[str, Any] | None = None
) -> Judgement:
    """What the answer means."""
    uses = KINDS[kind]
    return uses.judge(uses.arguments.model_validate(given), answer, context or host())


def do(
    kind: str,
    given: Mapping[str, Any],
    context: Mapping[str, Any] | None = None,
    *,
    shell: str = "dash",
    found: Mapping[str, str] | None = None,
    **how: Any,
) -> Judgement:
    """Plan, run here, judge; `found` are variables that the engine adds when the command leaves."""
    command = plan(kind, given, context)
    command = replace(command, env={**command.env, **(found or {})})
    return judge(kind, given, run(command, shell, **how), context)
