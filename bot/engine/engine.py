"""The engine: `advance` takes a run as far as it goes now.

What a run does is in `flight`; here is who may fly: a run is claimed, what is said to it from outside (cancel, close)
is passed on, and a mistake of ours ends in a person's hands. Nothing here knows Slack, SSH or SQL.
"""

import contextlib
import logging
import threading

from bot.effect import Remote
from bot.engine.flight import Flight
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.guard.autonomy import SUCCESSES
from bot.runs.run import RunState
from bot.store import Fenced, Store

log = logging.getLogger(__name__)


class Engine:
    """Advances runs; safe to call from many threads, one run at a time each."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        remote: Remote,
        *,
        successes: int = SUCCESSES,
        rails: Rails | None = None,
    ) -> None:
        """`successes` are the verified ones that a runbook needs before its `mode: auto` counts."""
        self._successes = successes
        self._rails = rails or Rails(store, planner)
        self._store = store
        self._planner = planner
        self._remote = remote
        self._flights: dict[int, Flight] = {}
        self._closing = threading.Event()

    def cancel(self, run_id: int) -> None:
        """End the remote commands of a run that is being advanced, if it is."""
        if flight := self._flights.get(run_id):
            flight.cancel()

    def close(self) -> None:
        """Stop without writing anything more: what is going on the hosts goes on and is asked for after the restart."""
        self._closing.set()
        self._remote.close()
        for flight in list(self._flights.values()):
            flight.wake()

    def advance(self, run_id: int) -> None:
        """Do what the run can do now; return when it waits, ends, or was taken over."""
        run = self._store.runs.claim(run_id)
        if run is None:
            return
        flight = Flight(
            self._store,
            self._planner,
            self._remote,
            run,
            self._closing,
            self._rails,
            successes=self._successes,
        )
        self._flights[run_id] = flight
        try:
            self._fly(flight)
        except Fenced:
            log.warning("run %s was taken over by another engine; leaving it", run_id)
        except Exception as error:  # noqa: BLE001 - told, written down, and a person is asked
            if self._closing.is_set():
                return
            with contextlib.suppress(Fenced):
                reason = self._crashed(flight, error)
                self._store.runs.finish(flight.run, RunState.NEEDS_HUMAN, reason, None)
        finally:
            flight.leave()
            self._flights.pop(run_id, None)

    def _fly(self, flight: Flight) -> None:
        """Fly; after a mistake of ours once more, for what is cleaned up whatever happened."""
        try:
            flight.fly()
        except Fenced:
            raise
        except Exception as error:
            if self._closing.is_set():
                raise
            self._crashed(flight, error)
            flight.fly()

    def _crashed(self, flight: Flight, error: Exception) -> str:
        log.error("run %s", flight.run.id, exc_info=error)
        reason = f"Sickbay itself failed ({type(error).__name__}: {error}); its log has the details."
        flight.crash(reason)
        return reason
