"""A stage with a timetable and a dispatch: times come when the test says so, and what follows from them follows at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.dispatch import Dispatch
from bot.guard.maintenance import Windows
from bot.incident import Incident
from bot.language.schedule import Cron, Schedule
from bot.library import Loaded
from bot.runs.run import Run
from bot.timetable import Rules, Timetable
from tests.parts.books import book
from tests.parts.stage import Stage

EVERY_TEN = "*/10 * * * *"
PROMPT = Rules(jitter=timedelta(0))
CHECK = [{"id": "disk", "name": "Disk", "run": "df /"}, {"id": "load", "name": "Load", "run": "uptime"}]


class Office:
    """A stage with a timetable and a dispatch, looked at when the test says so."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.stage = Stage(folder)
        self.stage.clock.at = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
        self.store = self.stage.store
        fields = {"kind": "observe", "steps": CHECK, "verify": [], "rescue": [], "always": []}
        fields |= {"name": "watch", "triggers": [{"schedule": EVERY_TEN}]}
        self.book = book(**(fields | changes))
        self.timetable = self.another()
        self.dispatch = Dispatch(self.store, self.stage.inventory, {}, [], "oncall")
        self.timetable.turn()

    def another(
        self,
        *,
        rules: Rules = PROMPT,
        schedules: list[Schedule] | None = None,
        windows: Windows | None = None,
    ) -> Timetable:
        """Return a timetable as a new process would have it."""
        library = {"watch": Loaded(self.book, "", "d", "watch.yaml")}
        due = [Schedule("watch", Cron(EVERY_TEN))] if schedules is None else schedules
        return Timetable(self.store, self.stage.inventory, library, due, rules, windows)

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return self.store.runs.newest(limit=1000)[::-1]

    @property
    def incidents(self) -> list[Incident]:
        """All incidents, oldest first."""
        return self.store.incidents.newest(limit=1000)[::-1]

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Return what events of a kind say."""
        return [dict(event.data) for event in self.store.timeline.after(0, 10_000) if event.kind == kind]

    def pass_by(self, **by: float) -> None:
        """Let time go by, and look."""
        self.stage.clock.on(**by)
        self.timetable.turn()

    def round(self, **by: float) -> Run:
        """Let time go by, and bring what is started then to its end, with all that follows."""
        self.pass_by(**(by or {"minutes": 10}))
        run = self.stage.advance(self.runs[-1].id)
        self.timetable.turn()
        self.dispatch.turn()
        return run
