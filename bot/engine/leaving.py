"""What leaves now: written down before it goes, and not at all where it would touch somebody else's drain, to clean up either.

The ledger of drains is asked in the transaction that writes the attempts; what it says that a command must find at the
load balancer goes with it.
"""

from collections.abc import Sequence
from dataclasses import replace

from bot.engine.preparing import Ready, barred
from bot.guard.drain import Refusal
from bot.runs.run import Attempt, Run
from bot.store import Store


def leaving(
    store: Store, run: Run, ready: Sequence[Ready]
) -> tuple[list[tuple[Ready, Attempt]], list[Attempt]]:
    """Return the commands that leave, each with its attempt as it was written; and the attempts of those that may not."""
    fresh = {one.place: one for one in ready if one.resumed is None}
    changes = {place: one.claim for place, one in fresh.items() if one.claim is not None or one.mutating}
    commands = [(one.machine.name, one.command) for one in fresh.values()]
    begun, said = store.attempts.claim(run, list(fresh), commands, changes) if fresh else ([], {})
    written = {(one.step, one.host, one.number): one for one in begun}
    going: list[tuple[Ready, Attempt]] = []
    over: list[Attempt] = []
    for one in ready:
        answer = said.get(one.place)
        if isinstance(answer, Refusal):
            over.append(barred(one, run, answer, store.now()))
        elif one.resumed is not None:
            found = store.drains.again(run, one.claim) if one.claim is not None else {}
            going.append((one.finding(found), one.resumed))
        else:
            going.append((one.finding(answer.env if answer else {}), written[one.place]))
    return going, over


def owned(store: Store, run: Run, ready: Ready, attempt: Attempt) -> Attempt:
    """Return the attempt of a look at a load balancer with whose drain it saw, if it is another run's."""
    if ready.turn is None or ready.claim is not None:
        return attempt
    drain = store.drains.of(ready.turn)
    if drain is None or drain.run == run.id:
        return attempt
    return replace(attempt, summary=f"{attempt.summary}; {drain.owner}")
