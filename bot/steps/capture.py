"""`host.capture`: the state of a host as evidence, read in one time-boxed command.

The parts are in `evidence`. A program that a host does not have is noted as not there and is no failure; a capture that
read nothing at all has failed, and what came before its time was over is kept.
"""

import math
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from bot import evidence
from bot.duration import Duration
from bot.effect import Command, Finished
from bot.facts import FactsError, capture
from bot.language.inputs import Noun
from bot.steps.answer import ending, words
from bot.steps.docker import ContainerName
from bot.steps.kind import Context, Effect, Judgement, Kind
from bot.wording import count

SPARE = 5
"""Seconds for the way there and back, beyond the box."""


class Arguments(Noun):
    """What stands under `with`."""

    container: Annotated[
        ContainerName | None, Field(description="the serving container; its last log lines are read too")
    ] = None
    within: Duration = Field(
        timedelta(seconds=55), ge=timedelta(seconds=5), le=timedelta(seconds=55), description="for all parts"
    )


def plan(arguments: Arguments, _context: Context) -> Effect:
    """Read everything in one command."""
    within = math.floor(arguments.within.total_seconds())
    parts = evidence.pack(container=arguments.container is not None)
    env = {"NAME": arguments.container} if arguments.container is not None else {}
    names = ", ".join(part.name for part in parts)
    about = f" of {arguments.container}" if arguments.container else ""
    return Effect(
        Command(evidence.script(parts, within), env, timeout=float(within + SPARE)),
        says=f"read {names}{about}",
    )


def judge(_arguments: Arguments, answer: Finished, _context: Context) -> Judgement:
    """Say what is kept, and what could not be had."""
    try:
        found = capture.parse(answer.stdout.text)
    except FactsError as error:
        said = words(answer) if answer.exit_code is not None else "no answer in time"
        return Judgement(ok=False, summary=f"nothing could be captured: {said}", advice=error.advice)
    by_state: dict[str, list[str]] = {}
    for part in found.parts:
        by_state.setdefault(part.state, []).append(part.name)
    had = [part for part in found.parts if part.text.strip() and part.state in ("kept", "late")]
    others = "".join(f"; {state}: {', '.join(names)}" for state, names in by_state.items() if state != "kept")
    kept = len(by_state.get("kept", ()))
    facts = {
        "parts": {part.name: part.state for part in found.parts},
        "clock": [[one.said, one.uptime] for one in found.clock],
        "boot": found.boot.id,
        "up_s": found.boot.up_s,
    }
    if not had:
        return Judgement(ok=False, summary=f"nothing could be captured{others}", facts=facts)
    if (
        answer.exit_code or answer.signal
    ):  # it ends with 0, whatever its parts do: something ended it, and parts never began
        summary = f"the capture broke off with {ending(answer)}: {count(kept, 'part')} kept{others}"
        return Judgement(ok=False, summary=summary, advice="look at the host by hand", facts=facts)
    return Judgement(ok=True, summary=f"{kept} of {len(found.parts)} parts kept{others}", facts=facts)


KIND = Kind(
    says="Keeps the state of a host as evidence: kernel log, containers, GPUs and who holds them; within a minute.",
    arguments=Arguments,
    plan=plan,
    judge=judge,
    partial=True,
)
