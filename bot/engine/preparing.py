"""From a call to the command that goes out, or to why none does; `judging` is its way back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bot.effect import Command
from bot.engine.planner import Planner
from bot.errors import SickbayError
from bot.guard.decision import Answer
from bot.guard.drain import Refusal, Turn
from bot.inventory import Host
from bot.language import template
from bot.program import CLEAN_UP
from bot.runs.column import Call
from bot.runs.plan import Entry
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, Status
from bot.steps.kind import CannotPlan, Context, Effect


@dataclass(frozen=True, slots=True)
class Ready:
    """A call whose command may leave as soon as it is written down."""

    call: Call
    machine: Host
    """Where the command runs: the host that the call is about, or another that knows it (a load balancer)."""
    command: Command
    context: Mapping[str, Any]
    resumed: Attempt | None
    """What an earlier life of the process began: the host is asked what became of it."""
    mutating: bool
    turn: Turn | None = None
    """What it does with a server at its load balancer."""
    level: int = 1
    """How deep it goes, if it changes something."""
    stopped: Attempt | None = None
    """How it ends when it never began, because it may not begin any more; None: it may."""

    @property
    def claim(self) -> Turn | None:
        """What it changes there, which takes the server's owner."""
        return self.turn if self.turn is not None and self.turn.deed != "look" else None

    @property
    def place(self) -> tuple[str, str, int]:
        """Step, host, number of the attempt."""
        return self.call.step.id, self.call.host, self.call.number

    def finding(self, marks: Mapping[str, str]) -> "Ready":
        """Return it with what its command must find at the load balancer."""
        if not marks:
            return self
        return replace(self, command=replace(self.command, env={**self.command.env, **marks}))

    @property
    def evident(self) -> bool:
        """Is it evidence of how the host was?"""
        return self.call.section == "evidence" or self.call.step.uses == "host.capture"

    @property
    def clean_up(self) -> bool:
        """Is it done in any case, even when the run is cancelled or late?"""
        return self.call.section in CLEAN_UP


def prepared(
    planner: Planner,
    run: Run,
    record: Record,
    call: Call,
    planned: Entry | None,
    now: datetime,
    *,
    mutating: bool,
) -> Ready | Attempt:
    """Return the command of a call, or the attempt as it is to be recorded when none is sent; never raises for a host."""
    last = record.last(call.step.id, call.host)
    resumed = last if last is not None and not last.done else None
    attempt = resumed or Attempt(run.id, call.step.id, call.host, call.number, Status.BEGUN, now)
    if call.left_out:
        return replace(attempt, status=Status.SKIPPED, summary=call.left_out)
    try:
        context = planner.context(run, call.host, record)
        if resumed is None and not _wanted(planner, call, planned, context):
            return replace(attempt, status=Status.SKIPPED, summary=_needless(call, planned))
        effect = _effect(planner, run, call, planned, context)
        machine = _machine(planner, effect.host or call.host)
    except SickbayError as error:
        return refused(attempt, error, resumed=resumed is not None, mutating=mutating)
    command = effect.command
    if run.deadline is not None and call.section not in CLEAN_UP:
        left = (run.deadline - now) / timedelta(seconds=1)
        command = replace(command, timeout=max(1.0, min(command.timeout, left)))
    turn = planner.turn(call.step, effect)
    return Ready(call, machine, command, context, resumed, mutating, turn, planner.level(call.step))


def refused(attempt: Attempt, error: SickbayError, *, resumed: bool, mutating: bool) -> Attempt:
    """Return the attempt of a command that cannot be sent; of one that may have been, nobody knows the end now."""
    status = Status.UNKNOWN if resumed and mutating else Status.FAILED
    return replace(attempt, status=status, summary=error.what, advice=error.advice, sent=resumed)


def kept(ready: Ready, run: Run, answer: Answer, now: datetime, *, midway: bool = False) -> Attempt:
    """Return the attempt of a change that the guard refused; `midway` where the run has changed the host before."""
    call, fact = ready.call, "halted" if midway else "guard"
    words = f"it had not begun, and is not begun now: {answer.words}" if ready.resumed else answer.words
    return Attempt(
        run.id,
        call.step.id,
        call.host,
        call.number,
        Status.FAILED,
        ready.resumed.begun_at if ready.resumed else now,
        summary=words,
        advice=answer.advice,
        facts={} if ready.clean_up else {fact: answer.reaction},
        sent=False,
    )


def trespass(ready: Ready, run: Run, refusal: Refusal, now: datetime) -> Attempt:
    """Return the attempt of a change that would touch somebody else's drain."""
    return Attempt(
        run.id,
        *ready.place,
        Status.FAILED,
        now,
        summary=f"refused: {refusal.words}",
        advice=refusal.advice,
        facts={"changed": False},
        sent=False,
    )


def lock_keys(run: Run, context: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the runbook's `lock` wants locked besides the host.

    Raises:
        SickbayError: for a value that is not there.

    """
    lock = run.runbook.lock
    if lock == "host":
        return ()
    if lock == "runbook":
        return (f"runbook {run.runbook.name}",)
    filled = (
        str(template.evaluate(piece.text, context)) if piece.is_value else piece.text
        for piece in template.pieces(lock)
    )
    return (f"lock {''.join(filled)}",)


def uuids(run: Run, record: Record, host: str) -> tuple[str, ...]:
    """Return the UUIDs of a host's GPUs as this run has seen them; empty: unknown."""
    for step in reversed(run.runbook.steps):
        attempt = record.last(step.id, host)
        gpus = attempt.facts.get("gpus") if attempt is not None else None
        if isinstance(gpus, list) and gpus:
            named = [gpu.get("uuid") if isinstance(gpu, Mapping) else None for gpu in gpus]
            found = tuple(uuid for uuid in named if isinstance(uuid, str) and uuid)
            if len(found) == len(gpus):
                return found
    return ()


def _needless(call: Call, planned: Entry | None) -> str:
    if call.section == "evidence" and planned is not None:
        return f"not needed: {planned.note}"
    return f"not needed: {call.step.when}"


def _wanted(planner: Planner, call: Call, planned: Entry | None, context: Context) -> bool:
    """Is the step needed? Where the plan could tell, its word stands: that is what people approved."""
    if planned is not None and planned.decision != "later":
        return planned.decision == "run"
    return planner.wanted(call.step, context)


def _effect(planner: Planner, run: Run, call: Call, planned: Entry | None, context: Context) -> Effect:
    """Return the command as it stands in the plan; one that the plan could not know is made now."""
    if planned is not None and planned.text:
        command = Command(planned.text, planned.env, planned.timeout, planned.mutating)
        return Effect(command, planned.on)
    return planner.effect(run.runbook, call.step, context)


def _machine(planner: Planner, name: str) -> Host:
    host = planner.inventory.hosts.get(name)
    if host is None:
        raise CannotPlan(f"{name} is not in the inventory", advice="add it under `hosts:`")
    return host
