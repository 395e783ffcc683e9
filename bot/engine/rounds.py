"""The rounds: drains whose run has ended are held against what HAProxy says, at the start and then again and again.

One that takes traffic again was put back by somebody and is closed; one that is still out is listed with its owner; of
one that cannot be asked about nothing is known, and it is asked again sooner. Nothing is ever changed from here: a drain
that nobody put back is a person's to end.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

from bot.effect import Pending
from bot.engine.balancers import Balancers, heard
from bot.guard.drain import Drain
from bot.store import Store

log = logging.getLogger(__name__)

AGAIN = timedelta(minutes=5)
"""Between two looks at a server that answers."""
SOONER = timedelta(minutes=1)
"""And at one that does not."""


class Rounds:
    """Goes round; all but `ring` in one thread."""

    def __init__(self, store: Store, balancers: Balancers, ring: Callable[[], None] = lambda: None) -> None:
        """`ring` is called, from any thread, when an answer has come."""
        self._store = store
        self._balancers = balancers
        self.ring = ring
        self._asked: dict[int, tuple[Drain, Pending]] = {}
        self._next: dict[int, datetime] = {}
        self._news: SimpleQueue[int] = SimpleQueue()

    def begin(self) -> None:
        """After a start: what belongs to no run that goes on is kept, and all that is kept is looked at."""
        self._next.clear()
        if orphans := self._store.drains.sweep():
            log.warning(
                "%s drains of runs that ended without a word are kept; `sickbay drains` lists them", orphans
            )

    def turn(self) -> None:
        """Take in the answers that have come, and ask about what is due."""
        self._hear()
        kept = {one.id: one for one in self._store.drains.open() if one.kept_at is not None}
        self._next = {number: at for number, at in self._next.items() if number in kept}
        now = self._store.now()
        for number, drain in kept.items():
            # a time that lies further ahead than any pause is of a clock that was set back since
            if number not in self._asked and not now < self._next.get(number, now) <= now + AGAIN:
                self._ask(drain)

    def next_wake(self) -> datetime | None:
        """Return when the next look is due; an answer rings by itself."""
        return min(self._next.values(), default=None)

    def _ask(self, drain: Drain) -> None:
        self._next.pop(drain.id, None)
        pending = self._balancers.ask(drain)
        self._asked[drain.id] = (drain, pending)

        def came(_: object) -> None:
            self._news.put(drain.id)
            self.ring()

        pending.outcome.add_done_callback(came)

    def _hear(self) -> None:
        while True:
            try:
                drain, pending = self._asked.pop(self._news.get_nowait())
            except Empty:
                return
            said = heard(drain, pending.outcome)
            self._store.drains.seen(drain.id, said)
            self._next[drain.id] = self._store.now() + (SOONER if said.state is None else AGAIN)
