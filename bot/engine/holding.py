"""Whether a run's plan still holds, until its first change leaves; one that does not falls, and nothing is changed."""

from datetime import datetime

from bot.engine.planner import Planner
from bot.runs.run import Run
from bot.store import Store
from bot.wording import no_longer


class Holding:
    """Looks after one run's plan."""

    def __init__(self, store: Store, planner: Planner) -> None:
        self._store = store
        self._planner = planner
        self._seen = False
        self.fallen = ""
        """Why a plan that nobody was asked about no longer holds; where people were asked, their question is void."""

    def holds(self, run: Run) -> bool:
        """See once whether a plan that has changed nothing yet still holds."""
        if self._seen or run.plan is None or run.begun_at is not None:
            return True
        self._seen = True
        if broken := self._planner.broken(run):
            self._store.approvals.fall(run, broken)
            self._fall(run, broken)
        return not broken

    def begin(self, run: Run) -> datetime | None:
        """Note that the first change is about to leave; None when the plan no longer holds."""
        broken = self._planner.broken(run)
        begun_at = self._store.approvals.begin(run, broken)
        if begun_at is None:
            self._fall(run, broken)
        return begun_at

    def _fall(self, run: Run, broken: str) -> None:
        if self._store.approvals.get(run.id) is None:
            self.fallen = no_longer(broken)
