"""Why a call may be refused although it is right: rate limits, and faults that a test asks for.

Three profiles: `off`; `real`, the tiers Slack documents; `hostile`, a tenth of them with no burst, to see a bot that
lives from retries.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bot.slack import limits

Profile = Literal["off", "real", "hostile"]
_HOSTILE_SHARE = 0.1
_POST_BURST = 5.0


class Refused(Exception):
    """The answer `{"ok": false, "error": …}`, with whatever else belongs into it."""

    def __init__(self, error: str, **more: Any) -> None:
        super().__init__(error)
        self.error = error
        self.more = more


@dataclass(slots=True)
class Bucket:
    """Tokens that come back with time; one is taken for each call."""

    per_second: float
    most: float
    tokens: float
    at: float

    def take(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there will be one."""
        self.tokens = min(self.most, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.per_second


@dataclass(frozen=True, slots=True)
class Fault:
    """A refusal that was asked for: an HTTP status, or an error in an answer with status 200."""

    status: int = 200
    error: str = "internal_error"
    retry_after: int | None = None


class Refusals:
    """The buckets of one workspace and the faults that wait for their call."""

    def __init__(self, profile: Profile, clock: Callable[[], float]) -> None:
        self._profile = profile
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._faults: dict[str, deque[Fault]] = {}

    def fail_next(self, method: str, fault: Fault, times: int = 1) -> None:
        """Refuse the next calls of a method."""
        self._faults.setdefault(method, deque()).extend([fault] * times)

    def of(self, method: str, tier: int, channel: str) -> Fault | None:
        """Return the reason to refuse this call, if there is one."""
        if waiting := self._faults.get(method):
            return waiting.popleft()
        wait = self._wait(method, tier, channel)
        return Fault(429, "ratelimited", max(1, math.ceil(wait))) if wait else None

    def _wait(self, method: str, tier: int, channel: str) -> float:
        if self._profile == "off":
            return 0.0
        if method == "chat.postMessage":
            name, rate, most = f"{method} {channel}", limits.POSTS_PER_SECOND, _POST_BURST
        else:
            per_minute = limits.TIER_PER_MINUTE[tier]
            name, rate, most = method, per_minute / 60, float(per_minute)
        if self._profile == "hostile":
            rate, most = rate * _HOSTILE_SHARE, 1.0
        now = self._clock()
        bucket = self._buckets.setdefault(name, Bucket(rate, most, most, now))
        return bucket.take(now)
