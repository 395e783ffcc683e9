"""How far a run on many hosts is, in one line of a terminal.

Fewer hosts are shown each by what it does (`messages.progress`); of a thousand nobody reads that, and to read all their
attempts at each commit would cost more than the run.
"""

import math
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text as Line

from bot.cli.terminal import bar
from bot.messages.progress import WORDS, word_of
from bot.runs.run import Run
from bot.store import Store

_SEEN = 0.25
"""Seconds between two looks, on a terminal."""
_TOLD = 5.0
"""And between two lines in a file."""


class Gauge:
    """How far a run on many hosts is: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, store: Store, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._console = console
        self._clock = clock
        self._shown_at = -math.inf
        self._said = ""
        self._step = ""
        self._began = (0.0, 0)
        """When this step was first seen, and how many hosts were through then."""

    def show(self, run: Run, live: Live) -> None:
        """Show it, not more often than one can see; a thousand hosts commit faster than that."""
        pause = _SEEN if self._console.is_terminal else _TOLD
        left = self._shown_at + pause - self._clock()
        if self._console.is_terminal:
            time.sleep(max(0.0, left))
        elif left > 0:
            return
        self._shown_at = self._clock()
        line = self.line(run)
        if self._console.is_terminal:
            live.update(line, refresh=True)
        elif line.plain != self._said:
            self._said = line.plain
            self._console.print(line)

    def line(self, run: Run) -> Line:
        """Return where it stands: the first step that not all hosts are through, and how it went on the others."""
        ended: dict[str, Counter[str]] = {}
        for name, status, verdict, hosts in self._store.attempts.tally(run.id):
            ended.setdefault(name, Counter())[word_of(status, verdict)] += hosts
        steps = [*run.runbook.steps, *run.runbook.verify]
        due = len(run.hosts)
        number, step, done = 0, steps[0], dict.fromkeys(WORDS, 0)
        for number, step in enumerate(steps, 1):
            found = ended.get(step.id, Counter())
            done = {word: found[word] for word in WORDS}
            if sum(done.values()) < due or number == len(steps):
                break
            due -= done["failed"] + done["unreachable"] + done["unknown"]
        label = (
            run.runbook.name if len(steps) == 1 else f"{run.runbook.name} {number}/{len(steps)} {step.title}"
        )
        rate = self._rate(step.id, sum(done.values()))
        return bar(label, done, due, rate, seen=self._console.is_terminal)

    def _rate(self, step: str, done: int) -> float:
        if step != self._step:
            self._step, self._began = step, (self._clock(), done)
        began, before = self._began
        passed = self._clock() - began
        return (done - before) / passed if passed >= 1 else 0.0
