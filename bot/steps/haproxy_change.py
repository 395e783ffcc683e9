"""`haproxy.drain`, `haproxy.maintenance` and `haproxy.undrain`: a server out of traffic and back, one step at a time.

Each change is refused, on the load balancer and in the moment of the change, when the server does not stand where the
change begins: drain takes only a server that is ready, the others only one that stands as Sickbay left it. Refusals have
an exit code of their own, so that they cannot be taken for a failure of the program that speaks to the socket.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from bot.effect import Command, Finished
from bot.facts import FactsError
from bot.guard.drain import Deed, Whose
from bot.steps.answer import last_line, words
from bot.steps.haproxy import NO_ANSWER, Arguments, Place, Seen, advice, find, place
from bot.steps.haproxy_orders import DRAIN, MAINTENANCE, REFUSED, UNCHANGED, UNDRAIN
from bot.steps.kind import Context, Effect, Judgement, Kind

SECONDS = 60.0


class DrainArguments(Arguments):
    """What stands under `with`."""

    last: Literal["refuse", "allow"] = Field("refuse", description="the last ready server of its backend")
    taken: Literal["refuse", "leave"] = Field(
        "refuse", description="when somebody else has taken it out: fail, or leave it so and go on"
    )
    keep: Annotated[str, Field(max_length=300)] = Field(
        "", description="why it is to stay out of traffic after the run; empty: the run puts it back"
    )


class UndrainArguments(Arguments):
    """What stands under `with`."""

    whose: Whose = Field(
        "run", description="this run's own drain; where a person asks, also one that was kept, or anybody's"
    )


def plan_drain(arguments: DrainArguments, context: Context) -> Effect:
    """Take no new sessions; keep those there are."""
    at = place(arguments, context)
    env = {**at.env, "LAST": arguments.last, "TAKEN": arguments.taken}
    env |= {"KEEP": arguments.keep} if arguments.keep else {}
    return _set(at, "drain", Command(DRAIN, env, timeout=SECONDS, mutating=True))


def plan_maintenance(arguments: Arguments, context: Context) -> Effect:
    """Take no traffic at all, and stop the health checks."""
    at = place(arguments, context)
    return _set(at, "maint", Command(MAINTENANCE, at.env, timeout=SECONDS, mutating=True))


def plan_undrain(arguments: UndrainArguments, context: Context) -> Effect:
    """Take traffic again."""
    at = place(arguments, context)
    env = {**at.env, "WHOSE": arguments.whose}
    return _set(at, "ready", Command(UNDRAIN, env, timeout=SECONDS, mutating=True))


def _set(at: Place, state: str, command: Command) -> Effect:
    return Effect(command, host=at.host, says=f"set server {at.env['SERVER']} state {state}")


def _judge(wanted: Deed) -> Callable[[Arguments, Finished, Context], Judgement]:
    def judge(arguments: Arguments, answer: Finished, context: Context) -> Judgement:
        """Believe what HAProxy says of the server afterwards; the fact `changed` is left out where nobody knows."""
        at = place(arguments, context)
        said = last_line(answer.stderr)
        if answer.exit_code == REFUSED:
            summary, hint = f"refused: {said}", _refusal(said, context["host"]["name"])
            return Judgement(ok=False, summary=summary, advice=hint, facts={"changed": False})
        if answer.exit_code != 0:
            summary = f"HAProxy on {at.host} could not be asked: {said or words(answer)}"
            untouched = {"changed": False} if answer.exit_code == NO_ANSWER else {}
            return Judgement(ok=False, summary=summary, advice=advice(said), facts=untouched)
        try:
            seen = find(answer, at.server)
        except FactsError as error:
            return Judgement(ok=False, summary=f"HAProxy on {at.host}: {error.what}", advice=error.advice)
        if said.startswith(UNCHANGED) and (seen.state == "ready") is (wanted == "ready"):
            summary = f"{seen.text}; nothing was changed: {said.removeprefix(UNCHANGED)}"
            return Judgement(ok=True, summary=summary, facts={**seen.facts, "changed": False})
        if seen.state == wanted:
            return Judgement(ok=True, summary=seen.text, facts={**seen.facts, "changed": True})
        told = _told(answer)
        summary = f"{seen.text}; {wanted} was wanted" + (f". HAProxy said: {told}" if told else "")
        as_before = {"changed": False} if seen.state in _BEFORE[wanted] else {}
        hint = advice(told) or _look(seen)
        return Judgement(ok=False, summary=summary, facts={**seen.facts, **as_before}, advice=hint)

    return judge


_BEFORE: dict[Deed, tuple[str, ...]] = {"drain": ("ready",), "maint": ("drain",), "ready": ("drain", "maint")}
"""Where a change begins: a server that still stands there was not changed."""


def _told(answer: Finished) -> str:
    """Return what HAProxy said before its tables: nothing, when all went well."""
    before = answer.stdout.text.partition("# pxname,")[0]
    return " ".join(before.split())[:300]


def _look(seen: Seen) -> str:
    return f"look at {seen.server.backend}/{seen.server.name} on the load balancer before anything else"


def _refusal(said: str, host: str) -> str:
    if "takes traffic" in said:
        return f"ask who put {host} back; it takes traffic now"
    if "somebody else" in said or "not known" in said:
        return f"ask who drained {host}; `undrain-host` with take_over=true puts it back all the same"
    if "nobody would serve" in said:
        return "bring another replica back first, or say `last: allow`"
    if "knows no server" in said:
        return "correct `server` and `socket` under `vars.haproxy` of the host"
    return ""


DRAIN_KIND = Kind(
    says="Lets a server at HAProxy finish what it has and take nothing new; not the last ready one.",
    arguments=DrainArguments,
    plan=plan_drain,
    judge=_judge("drain"),
    mutating=True,
    turns="drain",
    level=0,
)
MAINTENANCE_KIND = Kind(
    says="Takes a server at HAProxy that this run has drained out of traffic altogether.",
    arguments=Arguments,
    plan=plan_maintenance,
    judge=_judge("maint"),
    mutating=True,
    turns="maint",
    level=0,
)
UNDRAIN_KIND = Kind(
    says="Puts a server at HAProxy that Sickbay took out back into traffic; nobody else's.",
    arguments=UndrainArguments,
    plan=plan_undrain,
    judge=_judge("ready"),
    mutating=True,
    turns="ready",
    level=0,
)
