"""How long somebody waits, and what makes them stop earlier: one absolute deadline and one cancel event.

A `threading.Event` cannot be waited for together with another, so the cancel event is looked at ten times a second
while, and only while, somebody waits.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bot.effect import Unreachable

GLANCE = 0.1


class Late(Exception):
    """The deadline passed."""


class Interrupted(Exception):
    """Somebody cancelled."""


class Unreached(Exception):
    """The host could not be spoken to."""

    def __init__(self, outcome: Unreachable) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Patience:
    """A point in time on the monotonic clock, and an event that ends the waiting before it."""

    deadline: float
    cancel: threading.Event

    @classmethod
    def of(cls, seconds: float, cancel: threading.Event) -> "Patience":
        """Wait for so many seconds from now."""
        return cls(time.monotonic() + seconds, cancel)

    def at_most(self, seconds: float) -> "Patience":
        """Return the same patience, or less."""
        return replace(self, deadline=min(self.deadline, time.monotonic() + seconds))

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def check(self) -> None:
        """Raise when the waiting is over."""
        if self.cancel.is_set():
            raise Interrupted
        if time.monotonic() >= self.deadline:
            raise Late

    def until(self, ready: Callable[[float], bool]) -> None:
        """Call `ready(seconds)`, which waits that long for what is hoped for, until it says yes.

        Raises:
            Late: when the deadline passed first.
            Interrupted: when somebody cancelled first.

        """
        while not ready(min(GLANCE, self.left)):
            self.check()
