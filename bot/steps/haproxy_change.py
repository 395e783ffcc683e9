"""`haproxy.drain`, `haproxy.maintenance` and `haproxy.undrain`: a server out of traffic and back, one step at a time.

Each change is refused, on the load balancer and in the moment of the change, when the server does not stand where the
change begins: drain takes only a server that is ready, maintenance only one that is drained. Refusals have an exit code
of their own, so that they cannot be taken for a failure of the program that speaks to the socket.
"""

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from bot.effect import Command, Finished
from bot.facts import FactsError
from bot.steps.answer import last_line, words
from bot.steps.haproxy import NO_ANSWER, SAY, TABLES, Arguments, Place, Seen, advice, find, place
from bot.steps.kind import Context, Effect, Judgement, Kind

REFUSED = 10
SECONDS = 60.0

_LOOK = f"""\
refuse() {{ printf '%s\\n' "$1" >&2; exit {REFUSED}; }}
look() {{
  table=$(say "show servers state ${{SERVER%%/*}}") || exit {NO_ANSWER}
  admin= others=0
  while read -r _ backend _ server _ operation bits weight _; do
    case $bits in '' | *[!0-9]*) continue ;; esac
    if [ "$backend/$server" = "$SERVER" ]; then
      admin=$bits
    elif [ "$operation" = 2 ] && [ $((bits & 59)) = 0 ] && [ "$weight" != 0 ]; then
      others=$((others + 1))
    fi
  done <<EOF
$table
EOF
  [ -n "$admin" ] || refuse "HAProxy knows no server $SERVER"
  maint=$((admin & 35)) drain=$((admin & 24))
}}
change() {{
  say "set server $SERVER state $1" || exit {NO_ANSWER}
  say '{TABLES}' || exit {NO_ANSWER}
}}
look
"""
"""Bits of `srv_admin_state`: 24 drains, 35 is maintenance, 59 both; 4 stays set on a server once `disabled`."""

DRAIN = f"""\
# HAProxy: set server "$SERVER" state drain
{SAY}{_LOOK}\
[ "$maint" = 0 ] || refuse "$SERVER is in maintenance already: somebody else took it out"
[ "$drain" = 0 ] || refuse "$SERVER is drained already: somebody else took it out"
[ "$others" -gt 0 ] || [ "$LAST" = allow ] || refuse "no other server of ${{SERVER%%/*}} is ready: nobody would serve"
change drain
"""
MAINTENANCE = f"""\
# HAProxy: set server "$SERVER" state maint
{SAY}{_LOOK}\
[ "$maint" = 0 ] || refuse "$SERVER is in maintenance already: somebody else took it out"
[ "$drain" != 0 ] || refuse "$SERVER is not drained: its requests would be cut off"
change maint
"""
UNDRAIN = f"""\
# HAProxy: set server "$SERVER" state ready
{SAY}{_LOOK}\
change ready
"""


class DrainArguments(Arguments):
    """What stands under `with`."""

    last: Literal["refuse", "allow"] = Field("refuse", description="the last ready server of its backend")


def plan_drain(arguments: DrainArguments, context: Context) -> Effect:
    """Take no new sessions; keep those there are."""
    at = place(arguments, context)
    env = {**at.env, "LAST": arguments.last}
    return _set(at, "drain", Command(DRAIN, env, timeout=SECONDS, mutating=True))


def plan_maintenance(arguments: Arguments, context: Context) -> Effect:
    """Take no traffic at all, and stop the health checks."""
    at = place(arguments, context)
    return _set(at, "maint", Command(MAINTENANCE, at.env, timeout=SECONDS, mutating=True))


def plan_undrain(arguments: Arguments, context: Context) -> Effect:
    """Take traffic again."""
    at = place(arguments, context)
    return _set(at, "ready", Command(UNDRAIN, at.env, timeout=SECONDS, mutating=True))


def _set(at: Place, state: str, command: Command) -> Effect:
    return Effect(command, host=at.host, says=f"set server {at.env['SERVER']} state {state}")


def _judge(wanted: str) -> Callable[[Arguments, Finished, Context], Judgement]:
    def judge(arguments: Arguments, answer: Finished, context: Context) -> Judgement:
        """Believe what HAProxy says of the server afterwards, and nothing else."""
        at = place(arguments, context)
        said = last_line(answer.stderr)
        if answer.exit_code == REFUSED:
            return Judgement(
                ok=False, summary=f"refused: {said}", advice=_refusal(said, context["host"]["name"])
            )
        if answer.exit_code != 0:
            summary = f"HAProxy on {at.host} could not be asked: {said or words(answer)}"
            return Judgement(ok=False, summary=summary, advice=advice(said))
        try:
            seen = find(answer, at.server)
        except FactsError as error:
            return Judgement(ok=False, summary=f"HAProxy on {at.host}: {error.what}", advice=error.advice)
        if seen.state == wanted:
            return Judgement(ok=True, summary=seen.text, facts=seen.facts)
        told = _told(answer)
        summary = f"{seen.text}; {wanted} was wanted" + (f". HAProxy said: {told}" if told else "")
        return Judgement(ok=False, summary=summary, facts=seen.facts, advice=advice(told) or _look(seen))

    return judge


def _told(answer: Finished) -> str:
    """Return what HAProxy said before its tables: nothing, when all went well."""
    before = answer.stdout.text.partition("# pxname,")[0]
    return " ".join(before.split())[:300]


def _look(seen: Seen) -> str:
    return f"look at {seen.server.backend}/{seen.server.name} on the load balancer before anything else"


def _refusal(said: str, host: str) -> str:
    if "somebody else" in said:
        return f"ask who drained {host}; `undrain-host` puts it back"
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
    level=0,
)
MAINTENANCE_KIND = Kind(
    says="Takes a drained server at HAProxy out of traffic altogether.",
    arguments=Arguments,
    plan=plan_maintenance,
    judge=_judge("maint"),
    mutating=True,
    level=0,
)
UNDRAIN_KIND = Kind(
    says="Puts a server at HAProxy back into traffic.",
    arguments=Arguments,
    plan=plan_undrain,
    judge=_judge("ready"),
    mutating=True,
    level=0,
)
