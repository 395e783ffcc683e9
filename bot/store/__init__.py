"""All SQL of ours. The timeline is the spine: every change of state writes its event in the same transaction.

Doors and work call small methods that are each one transaction; nothing outside this room sees a table.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection

from bot.secrets.mask import Mask
from bot.store.alerts import Alerts, Incidents
from bot.store.approvals import Approvals
from bot.store.attempts import Attempts
from bot.store.database import Clock, Database, Fenced, utc_now
from bot.store.drains import Drains
from bot.store.holds import Holds
from bot.store.ledger import Ledger
from bot.store.outputs import Outputs, Streams
from bot.store.runs import Runs
from bot.store.schedules import Findings, Schedules
from bot.store.timeline import Timeline

__all__ = ["Clock", "Fenced", "Store", "Streams"]


class Store:
    """Everything Sickbay remembers, by noun."""

    def __init__(
        self,
        path: Path | str,
        clock: Clock = utc_now,
        *,
        patience: float = 20.0,
        mask: Mask | None = None,
    ) -> None:
        """Open or create the database file; wait for another process's commit for at most `patience` seconds.

        `mask` knows the secrets that must not be written.

        Raises:
            SickbayError: when it cannot be opened or has another layout.

        """
        self.mask = mask or Mask()
        self.database = Database(path, clock, patience, self.mask)
        self.now = clock
        self.alerts = Alerts(self.database)
        self.incidents = Incidents(self.database)
        self.runs = Runs(self.database)
        self.outputs = Outputs(self.database)
        self.attempts = Attempts(self.database, self.outputs)
        self.approvals = Approvals(self.database)
        self.drains = Drains(self.database)
        self.schedules = Schedules(self.database)
        self.findings = Findings(self.database, self.alerts)
        self.ledger = Ledger(self.database)
        self.holds = Holds(self.database)
        self.timeline = Timeline(self.database)

    def write(self) -> AbstractContextManager[Connection]:
        """Open one transaction for several changes that belong together."""
        return self.database.write()

    def close(self) -> None:
        """Close the file."""
        self.outputs.close()
        self.database.close()
