"""How fast Slack may be spoken to: one message's edits apart, all edits of the app within its tier, waits honoured.

Slack allows about 50 chat.update a minute for the whole app, so edits are the scarce thing: those that show progress
leave a reserve for ends, and ends leave one for questions to people.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bot.slack import limits

Clock = Callable[[], float]
_REMEMBERED = 500


@dataclass(slots=True)
class Pace:
    """The budget; all times are of one monotonic clock."""

    clock: Clock
    gap: float = 3.0
    """Seconds between two edits of one message that only show progress."""
    per_minute: float = limits.TIER_PER_MINUTE[3] * 0.9
    burst: float = 10.0
    reserve: Mapping[int, float] = field(default_factory=lambda: {0: 0.0, 1: 2.0, 2: 5.0})
    """Edits that are left over for more urgent ones, by urgency."""
    _tokens: float = field(init=False)
    _at: float = field(init=False)
    _edited: dict[str, float] = field(init=False, default_factory=dict)
    _blocked: dict[str, float] = field(init=False, default_factory=dict)
    _rested: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._tokens, self._at = self.burst, self.clock()

    def ready(self, key: str, method: str, urgency: int) -> float:
        """Return when this call may be made; now or earlier means at once."""
        due = max(self._blocked.get(method, 0.0), self._rested)
        if method != "chat.update":
            return due
        if urgency > 1:
            due = max(due, self._edited.get(key, 0.0) + self.gap)
        self._refill()
        missing = self.reserve[urgency] + 1 - self._tokens
        return due if missing <= 0 else max(due, self.clock() + missing * 60 / self.per_minute)

    def spent(self, key: str, method: str) -> None:
        """Note that a call was made."""
        now = self.clock()
        self._edited[key] = now
        if len(self._edited) > _REMEMBERED:
            self._edited = {one: at for one, at in self._edited.items() if at > now - self.gap}
        if method == "chat.update":
            self._refill()
            self._tokens -= 1

    def block(self, method: str, seconds: float) -> None:
        """Leave a method alone, as Slack asked."""
        self._blocked[method] = self.clock() + seconds

    def rest(self, seconds: float) -> None:
        """Leave Slack alone altogether for a while."""
        self._rested = self.clock() + seconds

    def _refill(self) -> None:
        now = self.clock()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.per_minute / 60)
        self._at = now
