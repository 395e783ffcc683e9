"""Runs in the terminal: shown as they go, with the same words as in Slack, and asked about where it must be.

Whoever holds the database's claim advances the runs: a running `serve` when there is one, else this process, so that
everything works while Slack, or Sickbay's own server, is down.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.prompt import Prompt

from bot.app import Assembly
from bot.approval import Person
from bot.commands import Asker
from bot.delivery import POLL, Busy
from bot.messages import Mask, approval_card, run_card
from bot.run import Run, RunState
from bot.store.database import Foreign
from bot.terminal import render
from bot.verdict import Verdict
from bot.views import run_view


@contextlib.contextmanager
def advancing(assembly: Assembly) -> Iterator[bool]:
    """Advance runs in this process, unless another does; yields whether this one does."""
    delivery = assembly.delivery(assembly.remote(), dispatching=False)
    try:
        delivery.start()
    except Busy:
        yield False
        return
    try:
        yield True
    finally:
        delivery.stop()


class Follower:
    """Follows runs until they end."""

    def __init__(self, assembly: Assembly, asker: Asker, console: Console, mask: Mask) -> None:
        self._assembly = assembly
        self._asker = asker
        self._console = console
        self._mask = mask
        self._bell = threading.Event()
        self._asked: set[int] = set()

    def follow(self, run_ids: Sequence[int]) -> int:
        """Show the runs as they go; return 0 when all succeeded and nothing unhealthy was found, else 1."""
        foreign = self._assembly.store.database.foreign_changes()
        unlisten = self._assembly.store.database.listen(self._bell.set)
        try:
            with advancing(self._assembly):
                for run_id in run_ids:
                    self._one(run_id, foreign)
        finally:
            unlisten()
            foreign.close()
        return int(
            not all(_good(run) for run_id in run_ids if (run := self._assembly.store.runs.get(run_id)))
        )

    def _one(self, run_id: int, foreign: Foreign) -> None:
        while (run := self._assembly.store.runs.get(run_id)) is not None and not run.state.ended:
            try:
                self._watch(run_id, foreign)
            except KeyboardInterrupt:
                if not self._assembly.store.runs.cancel(run_id, self._asker.name):
                    raise
                self._console.print("Cancelling: what has begun is told to end. Ctrl-C again leaves at once.")
        if run is not None:
            self._console.print(self._card(run))

    def _watch(self, run_id: int, foreign: Foreign) -> None:
        """Show the run live until it ends or asks this person."""
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while (run := self._assembly.store.runs.get(run_id)) is not None and not run.state.ended:
                self._bell.clear()
                if self._console.is_terminal:
                    live.update(self._card(run), refresh=True)
                if run.state is RunState.WAITING and run_id not in self._asked:
                    break
                while not self._bell.wait(POLL):
                    if foreign.changed():
                        break
        if run is not None and run.state is RunState.WAITING:
            self._ask(run)

    def _ask(self, run: Run) -> None:
        self._asked.add(run.id)
        shown = run_view(self._assembly.store, run)
        if shown.approval is None or shown.approval.state != "pending":
            return
        self._console.print(render(self._mask.over(approval_card(shown).without_buttons())))
        person: Person | None = self._asker.person
        if not self._console.is_terminal or person is None:
            self._console.print(
                f"Waiting. Somebody who may: `sickbay approve {run.id}` or `sickbay deny {run.id}`."
            )
            return
        answer = Prompt.ask("Approve?", choices=["yes", "no", "wait"], default="wait", console=self._console)
        if answer == "wait":
            self._console.print(f"Waiting for an answer in Slack, or `sickbay approve {run.id}` elsewhere.")
            return
        refusal = self._assembly.store.approvals.decide(
            run.id, person, "approve" if answer == "yes" else "deny", shown.approval.digest
        )
        if refusal:
            self._console.print(refusal)

    def _card(self, run: Run) -> Group:
        return Group(render(self._mask.over(run_card(run_view(self._assembly.store, run)).without_buttons())))


def _good(run: Run) -> bool:
    return run.state is RunState.SUCCEEDED and run.verdict in (None, Verdict.HEALTHY)
