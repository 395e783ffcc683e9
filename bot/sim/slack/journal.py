"""Everything that went over the wire, in order: what tests look at and what a bug report should contain."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST_ENTRIES = 50_000


class Journal(list[dict[str, Any]]):
    """A list of entries, each with its time and kind; tokens are never written into it."""

    def __init__(self, clock: Callable[[], float], noted: Callable[[], None]) -> None:
        super().__init__()
        self._clock = clock
        self._noted = noted

    def note(self, kind: str, **what: Any) -> None:
        """Add an entry; the oldest tenth goes when there are too many."""
        if len(self) >= _MOST_ENTRIES:
            del self[: _MOST_ENTRIES // 10]
        self.append({"at": round(self._clock(), 6), "kind": kind, **what})
        self._noted()

    def calls(self, method: str | None = None) -> list[dict[str, Any]]:
        """Return the Web API calls, or those of one method."""
        return [one for one in self if one["kind"] == "call" and method in {None, one["method"]}]

    def write(self, path: Path) -> None:
        """Write one JSON object a line."""
        path.write_text("".join(json.dumps(one, default=str) + "\n" for one in self), encoding="utf-8")
