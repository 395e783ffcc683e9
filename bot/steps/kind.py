"""What a step kind is: two pure functions and the model of its arguments.

`plan` turns arguments into an effect, as data; `judge` reads what the host answered. The dry run prints effects, the
approval card shows them, the engine sends them: a kind never acts itself. A new kind is one small file beside this
one and one line in `KINDS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from bot.effect import Command, Finished
from bot.errors import SickbayError
from bot.guard.drain import Deed
from bot.verdict import Verdict

Context = Mapping[str, Any]
"""What expressions see: alert, inputs, host, steps, run."""


PLAIN = 2
"""The level of a plain command that changes something."""


class CannotPlan(SickbayError):
    """The step cannot be done on this host, for a reason a person can mend, such as a missing `vars` entry."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A command, and the machine it runs on."""

    command: Command
    host: str = ""
    """Name in the inventory; empty: the host whose step it is."""
    says: str = ""
    """The command as a person would write it, values filled in; empty: its text is short enough to be read."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer means."""

    ok: bool
    """Was the step done? A check that finds something wrong was done: that is its verdict."""
    summary: str
    """One line for people, with the numbers that matter."""
    verdict: Verdict | None = None
    """None: nothing was judged."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON; `steps.<id>.facts` and `result.<name>` in expressions."""
    advice: str = ""
    """What to do next, when not ok."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A word of the runbook language, used as `uses: docker.restart`."""

    says: str
    """One sentence for the reference in the README."""
    arguments: type[BaseModel]
    """What may stand under `with`; forbids unknown keys."""
    plan: Callable[[Any, Context], Effect]
    """(arguments, context) → effect; raises CannotPlan."""
    judge: Callable[[Any, Finished, Context], Judgement]
    """(arguments, answer, context) → judgement; never raises for anything a host prints."""
    mutating: bool = False
    turns: Deed | None = None
    """What it does with a server at a load balancer: the ledger of drains is asked before a change and told after."""
    secrets: frozenset[str] = frozenset()
    """Arguments in which `{{ secrets.NAME }}` may stand: their values reach the host as shell variables only."""
    level: int = 1
    """How deep a change goes: 0 traffic only, 1 a replica's restart, 2 a GPU's reset, 3 a reboot."""
    partial: bool = False
    """Is what came before the time was over worth judging?"""
