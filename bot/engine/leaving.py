"""What leaves now: written down before it goes, and not at all where nothing may change or a drain is somebody else's.

Freezes, the breaker and the ledger of drains are asked in the transaction that writes the attempts (of clean-up, the
ledger alone); what it says that a command must find at the load balancer goes with it. What an earlier life of the
process began is asked for whatever they say; where nothing may change any more, a command that never came is kept from
beginning.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bot.engine.preparing import Ready, kept, trespass
from bot.guard.decision import Answer, Want, World
from bot.guard.drain import Refusal
from bot.program import Mutates
from bot.runs.record import Record
from bot.runs.run import Attempt, Run
from bot.store import Store
from bot.store.drains import Place


def leaving(
    store: Store, run: Run, ready: Sequence[Ready], record: Record, mutates: Mutates, world: World
) -> tuple[list[tuple[Ready, Attempt]], list[Attempt]]:
    """Return the commands that leave, each with its attempt as it was written; and the attempts of those that may not."""
    fresh = {one.place: one for one in ready if one.resumed is None}
    changes = {place: one.claim for place, one in fresh.items() if one.claim is not None or one.mutating}
    commands = [(one.machine.name, one.command) for one in fresh.values()]
    asked = (run, list(fresh), commands, changes, _wants(fresh.values()), world)
    begun, said = store.attempts.begin(*asked) if fresh else ([], {})
    written = {(one.step, one.host, one.number): one for one in begun}
    again = {one.place: one.resumed for one in ready if one.resumed is not None}
    wants = _wants(one for one in ready if one.place in again)
    stopped = store.attempts.resume(run, list(again.values()), wants, world) if again else {}
    going: list[tuple[Ready, Attempt]] = []
    over: list[Attempt] = []

    def stop(one: Ready, answer: Answer) -> Attempt:
        midway = record.changed(one.call.host, mutates, besides=one.resumed)
        return kept(one, run, answer, store.now(), midway=midway)

    for one in ready:
        answer = said.get(one.place)
        if isinstance(answer, Refusal):
            over.append(trespass(one, run, answer, store.now()))
        elif isinstance(answer, Answer):
            over.append(stop(one, answer))
        elif one.resumed is not None:
            found = store.drains.again(run, one.claim) if one.claim is not None else {}
            halt = stopped.get(one.place)
            after = stop(one, halt) if halt is not None else None
            going.append((replace(one.finding(found), stopped=after), one.resumed))
        else:
            going.append((one.finding(answer.env if answer else {}), written[one.place]))
    return going, over


def _wants(ready: Iterable[Ready]) -> dict[Place, Want]:
    """Return how deep those changes go that may be stopped: all but clean-up."""
    return {one.place: Want(level=one.level) for one in ready if one.mutating and not one.clean_up}


def owned(store: Store, run: Run, ready: Ready, attempt: Attempt) -> Attempt:
    """Return the attempt of a look at a load balancer with whose drain it saw, if it is another run's."""
    if ready.turn is None or ready.claim is not None:
        return attempt
    drain = store.drains.of(ready.turn)
    if drain is None or drain.run == run.id:
        return attempt
    return replace(attempt, summary=f"{attempt.summary}; {drain.owner}")
