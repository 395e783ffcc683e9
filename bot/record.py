"""What has been recorded of a run: its attempts, by host and step."""

from collections.abc import Callable, Iterable

from bot.run import Attempt

Printed = Callable[[Attempt], tuple[str, str]]
"""What an attempt's command wrote to stdout and stderr."""


def in_hand(attempt: Attempt) -> tuple[str, str]:
    """Return what was printed from the attempt itself, where it is at hand."""
    return attempt.stdout, attempt.stderr


class Record:
    """The attempts of a run, by host and step; a later number replaces an earlier one."""

    def __init__(self, attempts: Iterable[Attempt] = (), printed: Printed = in_hand) -> None:
        """`printed` fetches what an attempt printed: the outputs of all hosts are too much to be held."""
        self.printed = printed
        self._latest: dict[str, dict[str, Attempt]] = {}
        for attempt in attempts:
            self.add(attempt)

    def add(self, attempt: Attempt) -> None:
        """Take in a new or changed attempt."""
        column = self._latest.setdefault(attempt.host, {})
        known = column.get(attempt.step)
        if known is None or attempt.number >= known.number:
            column[attempt.step] = attempt

    def last(self, step: str, host: str) -> Attempt | None:
        """Return the newest attempt of a step on a host."""
        column = self._latest.get(host)
        return None if column is None else column.get(step)

    def of(self, host: str) -> list[Attempt]:
        """Return the newest attempt of each step on a host."""
        return list(self._latest.get(host, {}).values())

    def all(self) -> list[Attempt]:
        """Return the newest attempt of each step on each host."""
        return [attempt for column in self._latest.values() for attempt in column.values()]
