"""What has been recorded of a run: its attempts, by host and step."""

from collections.abc import Callable, Container, Iterable

from bot.runs.run import Attempt, Status

First = Callable[[str, str], int]
"""The number that a step on a host begins with: what has a lower one was looked at again since, or done for nothing."""

Printed = Callable[[Attempt], tuple[str, str]]
"""What an attempt's command wrote to stdout and stderr."""


def in_hand(attempt: Attempt) -> tuple[str, str]:
    """Return what was printed from the attempt itself, where it is at hand."""
    return attempt.stdout, attempt.stderr


COUNT = "ready."
"""How the ids of steps begin that count replicas: no step of a runbook has a dot."""


def apart(step: str) -> bool:
    """Is it a step of ours, not of the runbook's author?"""
    return "." in step


class Record:
    """The attempts of a run, by host and step; a later number replaces an earlier one.

    What Sickbay asks for itself is kept apart: counts of replicas are about hosts that the run may have nothing else to
    do with, and which boot a host is in says nothing of how it is.
    """

    def __init__(
        self, attempts: Iterable[Attempt] = (), printed: Printed = in_hand, first: First | None = None
    ) -> None:
        """`printed` fetches what an attempt printed: the outputs of all hosts are too much to be held."""
        self.printed = printed
        self._first = first
        self._latest: dict[str, dict[str, Attempt]] = {}
        self._ours: dict[str, dict[str, Attempt]] = {}
        self._sent: dict[str, set[tuple[str, int]]] = {}
        for attempt in attempts:
            self.add(attempt)

    def add(self, attempt: Attempt) -> None:
        """Take in a new or changed attempt; one that counts no more is left out."""
        if attempt.number < self.first(attempt.step, attempt.host):
            return
        columns = self._ours if apart(attempt.step) else self._latest
        column = columns.setdefault(attempt.host, {})
        sent = self._sent.setdefault(attempt.host, set())
        if attempt.sent and attempt.status is not Status.SKIPPED:
            sent.add((attempt.step, attempt.number))
        else:
            sent.discard((attempt.step, attempt.number))
        known = column.get(attempt.step)
        if known is None or attempt.number >= known.number:
            column[attempt.step] = attempt

    def first(self, step: str, host: str) -> int:
        """Return the number that a step on a host begins with."""
        return 1 if self._first is None else self._first(step, host)

    @property
    def anew(self) -> int:
        """The number that a new beginning of the whole begins with."""
        return 1 + max((one.number for one in self.all()), default=0)

    def last(self, step: str, host: str) -> Attempt | None:
        """Return the newest attempt of a step on a host."""
        column = (self._ours if apart(step) else self._latest).get(host)
        return None if column is None else column.get(step)

    def changed(self, host: str, mutates: Container[str], besides: Attempt | None = None) -> bool:
        """May any try of these steps have reached the host, the newest or one before, `besides` this one?"""
        known = (besides.step, besides.number) if besides is not None else None
        return any(step in mutates and (step, number) != known for step, number in self._sent.get(host, ()))

    def of(self, host: str) -> list[Attempt]:
        """Return the newest attempt of each step on a host."""
        return list(self._latest.get(host, {}).values())

    def all(self) -> list[Attempt]:
        """Return the newest attempt of each step on each host."""
        return [attempt for column in self._latest.values() for attempt in column.values()]
