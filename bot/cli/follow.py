"""Runs in the terminal: shown as they go, with the same words as in Slack, and asked about where it must be.

Whoever holds the database's claim advances the runs: a running `serve` when there is one, else this process, so that
everything works while Slack, or Sickbay's own server, is down. When the other one ends, this one goes on in its place.
"""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.prompt import Prompt

from bot.assembly import Assembly
from bot.cli.gauge import Gauge
from bot.cli.terminal import render
from bot.commands.grammar import Cancel, Decide
from bot.commands.verbs import Asker
from bot.delivery import POLL, Busy
from bot.messages import RunView, approval_card, plan_card, run_card
from bot.messages.progress import FEW
from bot.runs.approval import Approval
from bot.runs.run import Run, RunState
from bot.verdict import Verdict
from bot.views import run_view


class Progress:
    """Waits for what happens to runs, and makes it happen as soon as no other process does."""

    def __init__(self, assembly: Assembly) -> None:
        self._store = assembly.store
        self._delivery = assembly.delivery(assembly.remote(), dispatching=False)
        self._bell = threading.Event()

    def __enter__(self) -> Self:
        self._foreign = self._store.database.foreign_changes()
        self._unlisten = self._store.database.listen(self._bell.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._delivery.stop()
        self._unlisten()
        self._foreign.close()

    def ours(self) -> bool:
        """Advance runs here if nobody else does; return whether it is so."""
        if not self._delivery.alive:
            try:
                self._delivery.start()
            except Busy:
                return False
        return True

    def wait(self) -> None:
        """Return when something was committed, here or elsewhere."""
        while not self._bell.wait(POLL) and not self._foreign.changed():
            self.ours()
        self._bell.clear()


class Follower:
    """Follows runs until they end."""

    def __init__(self, assembly: Assembly, asker: Asker, console: Console) -> None:
        self._assembly = assembly
        self._store = assembly.store
        self._asker = asker
        self._console = console
        self._mask = assembly.mask
        self._asked: set[tuple[int, str]] = set()

    def follow(self, run_ids: Sequence[int]) -> bool:
        """Show the runs as they go; return whether all succeeded and nothing unhealthy was found."""
        with Progress(self._assembly) as progress:
            progress.ours()
            for run_id in run_ids:
                self._to_the_end(run_id, run_ids, progress, own=True)
        return self._well(run_ids)

    def finish(self, run_id: int) -> bool:
        """Follow a run that was decided about, if no other process would take it further."""
        if self._assembly.vault.lacking:
            names = ", ".join(self._assembly.vault.lacking)
            self._console.print(
                f"It goes on where `sickbay serve` runs: the secret {names} cannot be used here.",
                markup=False,
            )
            return True
        with Progress(self._assembly) as progress:
            if progress.ours():
                self._to_the_end(run_id, [run_id], progress, own=False)
                return self._well([run_id])
        return True

    def _well(self, run_ids: Sequence[int]) -> bool:
        runs = [self._store.runs.get(run_id) for run_id in run_ids]
        return all(
            run is not None and run.state is RunState.SUCCEEDED and run.verdict in (None, Verdict.HEALTHY)
            for run in runs
        )

    def _to_the_end(self, run_id: int, together: Sequence[int], progress: Progress, *, own: bool) -> None:
        run: Run | None = None
        while True:
            try:
                run = self._store.runs.get(run_id)
                if run is None or run.state.ended:
                    break
                self._watch(run_id, progress)
            except KeyboardInterrupt:
                if not [one for one in together if self._cancelled(one, own=own)]:
                    raise
                self._console.print("Cancelling: what has begun is told to end. Ctrl-C again leaves at once.")
        if run is not None:
            self._console.print(self._shown(run))

    def _cancelled(self, run_id: int, *, own: bool) -> bool:
        if own:  # whoever started a run may always end it
            return self._store.runs.cancel(run_id, self._asker.name, via=self._asker.door)
        reply = self._assembly.commands.do(Cancel(run_id), self._asker)
        if not reply.ok:
            self._console.print(render(self._mask.over(reply.card)))
        return reply.ok

    def _watch(self, run_id: int, progress: Progress) -> None:
        """Show the run live until it ends or asks something new."""
        crowd = Gauge(self._store, self._console)
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while (run := self._store.runs.get(run_id)) is not None and not run.state.ended:
                if approval := self._question(run):
                    break
                if len(run.hosts) > FEW:
                    crowd.show(run, live)
                elif self._console.is_terminal:
                    live.update(self._shown(run), refresh=True)
                progress.wait()
            else:
                return
        self._ask(run, approval)

    def _question(self, run: Run) -> Approval | None:
        """Return what the run asks, unless it was shown already."""
        approval = self._store.approvals.get(run.id) if run.state is RunState.WAITING else None
        if approval is None or approval.state != "pending" or (run.id, approval.digest) in self._asked:
            return None
        return approval

    def _ask(self, run: Run, approval: Approval) -> None:
        self._asked.add((run.id, approval.digest))
        self._console.print(question(run_view(self._store, run), self._assembly))
        person = self._assembly.commands.authority.seen(self._asker)
        others = f"`sickbay approve {run.id}` or `sickbay deny {run.id}`, or in Slack."
        if not self._console.is_terminal or person is None:
            self._console.print(f"Waiting. Somebody who may decides: {others}")
            return
        if refused := approval.refusal(person, "approve", self._store.now()):
            self._console.print(f"{refused}\nWaiting: {others} Ctrl-C cancels the run.", markup=False)
            return
        answer = self._answer()
        if answer == "wait":
            self._console.print(f"Waiting: {others}")
            return
        decide = Decide(run.id, "approve" if answer == "yes" else "deny", approval.digest)
        reply = self._assembly.commands.do(decide, self._asker)
        if not reply.ok:
            self._console.print(render(self._mask.over(reply.card)))

    def _answer(self) -> str:
        try:
            choices = ["yes", "no", "wait"]
            return Prompt.ask("Approve?", choices=choices, default="wait", console=self._console)
        except EOFError:
            return "wait"

    def _shown(self, run: Run) -> RenderableType:
        return render(self._mask.over(run_card(run_view(self._store, run)).without_buttons()))


def question(view: RunView, assembly: Assembly) -> RenderableType:
    """Return what a run asks, and the whole plan below it."""
    assert view.run.plan is not None
    config, mask = assembly.config, assembly.mask
    asked = approval_card(view, config.persons, groups=config.slack.usergroups)
    cards = (asked.without_buttons(), plan_card(view.run.plan, view.run.id))
    return Group(*(render(mask.over(card)) for card in cards))
