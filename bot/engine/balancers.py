"""What load balancers say of drained servers, asked outside of any run: nothing is changed, and no answer is unknown."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from itertools import count

from bot.effect import Command, Finished, Outcome, Pending, Remote, Unreachable, answered
from bot.errors import SickbayError
from bot.facts import FactsError
from bot.guard.drain import Drain, Said
from bot.inventory import Inventory
from bot.steps.answer import last_line, words
from bot.steps.haproxy import find
from bot.steps.haproxy_state import STATE

SECONDS = 20.0
"""Of one question."""
PATIENCE = 8.0
"""Seconds that whoever looks is kept waiting."""


class Balancers:
    """All load balancers, through the way to the hosts."""

    def __init__(self, inventory: Inventory, remote: Remote) -> None:
        self._inventory = inventory
        self._remote = remote
        self._turns = count(1)

    def ask(self, drain: Drain) -> Pending:
        """Ask how a server stands; never raises, and never waits."""
        host = self._inventory.hosts.get(drain.lb)
        if host is None:
            return answered(Unreachable("dns", f"{drain.lb} is no longer in the inventory", ""))
        env = {"SOCKET": drain.socket, "SERVER": drain.server, "WAIT": "0"}
        command = Command(STATE, env, timeout=SECONDS)
        key = f"drains/{drain.id}/state/{drain.host}/{next(self._turns)}"
        try:
            return self._remote.start(host, command, key=key, first_sent=None)
        except SickbayError as error:
            return answered(Unreachable("channel", error.what, error.advice))

    def say(self, drains: Sequence[Drain], *, patience: float = PATIENCE) -> Mapping[int, Said]:
        """Ask about all of them at once, and wait for the answers; who does not answer in time is unknown."""
        asked = {drain.id: (drain, self.ask(drain).outcome) for drain in drains}
        wait([outcome for _, outcome in asked.values()], timeout=patience)
        return {number: heard(drain, outcome, patience) for number, (drain, outcome) in asked.items()}


def heard(drain: Drain, outcome: Future[Outcome], patience: float = SECONDS) -> Said:
    """Return what an answer says, or that there is none yet."""
    if not outcome.done():
        return Said(None, f"{drain.lb} gave no answer within {patience:.0f} s")
    error = outcome.exception()
    return read(drain, outcome.result()) if error is None else Said(None, f"{drain.lb}: {error}")


def read(drain: Drain, outcome: Outcome) -> Said:
    """Return what an answer says."""
    match outcome:
        case Finished(exit_code=0):
            try:
                seen = find(outcome, drain.server)
            except FactsError as error:
                return Said(None, f"HAProxy on {drain.lb}: {error.what}")
            return Said(seen.state, seen.text, seen.server.selected, seen.server.changed)
        case Finished():
            said = last_line(outcome.stderr) or words(outcome)
            return Said(None, f"HAProxy on {drain.lb} could not be asked: {said}")
        case Unreachable(layer, reason):
            return Said(None, f"{drain.lb} is unreachable ({layer}): {reason}")
        case _:
            return Said(None, f"{drain.lb} gave no answer")
