"""Whether a run's plan still holds, until its first change leaves; one that does not falls, and nothing is changed."""

from datetime import datetime

from bot.engine.planner import Planner
from bot.runs.run import Run
from bot.store import Store


class Holding:
    """Looks after one run's plan."""

    def __init__(self, store: Store, planner: Planner) -> None:
        self._store = store
        self._planner = planner
        self._seen = False

    def holds(self, run: Run) -> bool:
        """See once whether a plan that has changed nothing yet still holds."""
        if self._seen or run.plan is None or run.begun_at is not None:
            return True
        self._seen = True
        if broken := self._planner.broken(run):
            self._store.approvals.fall(run, broken)
        return not broken

    def begin(self, run: Run) -> datetime | None:
        """Note that the first change is about to leave; None when the plan no longer holds."""
        return self._store.approvals.begin(run, self._planner.broken(run))
