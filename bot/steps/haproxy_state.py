"""`haproxy.state`: how a server stands at its load balancer, and how many sessions it still holds.

With `wait` it looks again each second until no session is left or the time is over, and then says how it stands; whether
that is good enough is for the runbook (`expect: result.sessions == 0`), because a replica that hangs never lets its
requests go.
"""

import math
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from bot.duration import Duration
from bot.effect import Command, Finished
from bot.facts import FactsError
from bot.steps.answer import last_line, unknown, words
from bot.steps.haproxy import NO_ANSWER, SAY, TABLES, Arguments, Seen, advice, find, place
from bot.steps.kind import Context, Effect, Judgement, Kind
from bot.verdict import Verdict

STATE = f"""\
# HAProxy: how does $SERVER stand? Waits at most $WAIT seconds for its last session.
{SAY}
sessions() {{
  stat=$(say 'show stat -1 4 -1') || exit {NO_ANSWER}
  while IFS=, read -r backend server _ _ current _; do
    [ "$backend/$server" != "$SERVER" ] || echo "$current"
  done <<EOF
$stat
EOF
}}
end=$(($(date +%s) + WAIT))
while [ "$(date +%s)" -lt "$end" ]; do
  held=$(sessions) || exit
  [ "$held" != 0 ] || break
  sleep 1
done
say '{TABLES}' || exit {NO_ANSWER}
"""


class StateArguments(Arguments):
    """What stands under `with`."""

    wait: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(hours=1))] = Field(
        timedelta(0), description="look again until no session is left, at most this long"
    )


def plan(arguments: StateArguments, context: Context) -> Effect:
    """Ask for both tables."""
    at = place(arguments, context)
    wait = math.ceil(arguments.wait.total_seconds())
    command = Command(STATE, {**at.env, "WAIT": str(wait)}, timeout=wait + 40.0)
    return Effect(command, host=at.host, says=f"show servers state, show stat: {at.server}")


def judge(arguments: StateArguments, answer: Finished, context: Context) -> Judgement:
    """Judge what HAProxy makes of the server; one that people took out is not judged."""
    at = place(arguments, context)
    if answer.exit_code != 0:
        said = last_line(answer.stderr)
        return unknown(f"HAProxy on {at.host} could not be asked: {said or words(answer)}", advice(said))
    try:
        seen = find(answer, at.server)
    except FactsError as error:
        return unknown(f"HAProxy on {at.host}: {error.what}", "correct `server` and `socket`")
    return Judgement(ok=True, summary=seen.text, verdict=_verdict(seen), facts=seen.facts)


KIND = Kind(
    says="Tells how a server stands at HAProxy, and can wait for its last session to end.",
    arguments=StateArguments,
    plan=plan,
    judge=judge,
    turns="look",
)


def _verdict(seen: Seen) -> Verdict | None:
    status = seen.server.status or ""
    if seen.state is None or not status:
        return Verdict.UNKNOWN
    if seen.state != "ready" or status.startswith(("no check", "NOLB", "DRAIN", "MAINT")):
        return None
    return Verdict.HEALTHY if status.startswith("UP") else Verdict.UNHEALTHY
