"""Hosts that answer from a script, in a time that only passes where the script says so."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bot.effect import (
    Command,
    Finished,
    Keep,
    Lost,
    Outcome,
    Output,
    Pending,
    TimedOut,
    Unreachable,
    answered,
    handed,
)
from bot.inventory import Host
from bot.language.runbook import EVIDENCE
from bot.rehearsal.case import Reply
from bot.runs.record import COUNT, apart

BOOT = "00000000-0000-4000-8000-000000000000\n259200.00 0.00\n"
KEPT = f"capture 0\n0 begin boot\n{BOOT}\n0 end boot 0\n"
"""What a host answers to the default pack of evidence, of which a case says nothing; and in which boot it is."""
BEGIN = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that went out."""

    step: str
    host: str
    """The host that the step is about."""
    machine: str
    """Where the command ran."""
    command: Command


Bend = Callable[[Sent, Outcome], Outcome]
"""Makes another outcome of what a command would have had."""


class Stopwatch:
    """A clock that stands still until somebody waits."""

    def __init__(self) -> None:
        self._now = BEGIN
        self._guard = threading.Lock()

    def __call__(self) -> datetime:
        """Return the time; each look is a little later, so that what happened first also has the earlier time."""
        with self._guard:
            self._now += timedelta(microseconds=1)
            return self._now

    def pass_by(self, duration: timedelta) -> None:
        """Let time go by."""
        with self._guard:
            self._now += duration

    def reach(self, moment: datetime) -> None:
        """Wait until a moment; one that is over is no wait."""
        with self._guard:
            self._now = max(self._now, moment)


class ScriptedRemote:
    """A Remote whose hosts know the replies of one case."""

    def __init__(
        self,
        replies: list[Reply],
        clock: Stopwatch,
        bend: Bend | None = None,
    ) -> None:
        """`bend` sees every outcome before the engine does; see `faults`."""
        self._replies = replies
        self._clock = clock
        self._bend = bend
        self.sent: list[Sent] = []
        self._used = [0] * len(replies)
        self._unanswered: dict[str, None] = {}

    def start(
        self,
        host: Host,
        command: Command,
        *,
        key: str,
        first_sent: datetime | None,  # noqa: ARG002 - a case knows no restarts
        stdout: Keep | None = None,
        stderr: Keep | None = None,
        barred: bool = False,  # noqa: ARG002 - what knows no restarts is never barred
    ) -> Pending:
        """Answer at once."""
        _, step, column, _ = key.rsplit("/", 3)
        sent = Sent(step, column, host.name, command)
        self.sent.append(sent)
        outcome = self._outcome(sent)
        if self._bend is not None:
            outcome = self._bend(sent, outcome)
        return answered(handed(outcome, stdout, stderr))

    def _outcome(self, sent: Sent) -> Outcome:
        """Answer with the first reply that fits."""
        step, command = sent.step, sent.command
        reply = self._next(step, {sent.host, sent.machine}, command)
        if reply is None and (step == EVIDENCE or boot(step)):
            return _finished(Reply(step=step, stdout=BOOT if boot(step) else KEPT))
        if reply is None:
            told = next((line for line in command.text.splitlines() if line.strip()), "")
            self._unanswered[f"no reply for step {step} on {sent.host}: {told[:100]}"] = None
            return _finished(Reply(step=step, exit=1, stderr="the test has no reply for this command"))
        if reply.unreachable:
            return Unreachable("tcp", "the test says so", "")
        if reply.lost:
            return Lost("the test says so", "")
        if reply.delay.total_seconds() > command.timeout:
            self._clock.pass_by(timedelta(seconds=command.timeout))
            return TimedOut(command.timeout, _output(reply.stdout), _output(reply.stderr), ended=True)
        self._clock.pass_by(reply.delay)
        return _finished(reply)

    def close(self) -> None:
        """Nothing is open."""

    def problems(self) -> list[str]:
        """Return the commands without a reply, and the replies that were not used as often as they say."""
        found = list(self._unanswered)
        for number, (reply, used) in enumerate(zip(self._replies, self._used, strict=True), 1):
            wanted = reply.times or 1
            if used < wanted:
                often = f"{used} of {wanted} times" if used else "never"
                found.append(f"reply {number} ({reply.aim}) was {often} used")
        return found

    def _next(self, step: str, places: set[str], command: Command) -> Reply | None:
        for number, reply in enumerate(self._replies):
            fits = (
                (reply.step or not (step == EVIDENCE or boot(step)))
                and (not reply.step or reply.step == step)
                and (not reply.host or reply.host in places)
                and re.search(reply.match, command.text)
                and (reply.times is None or self._used[number] < reply.times)
            )
            if fits:
                self._used[number] += 1
                return reply
        return None


def boot(step: str) -> bool:
    """Does Sickbay ask by it in which boot a host is? A case need not say."""
    return apart(step) and not step.startswith(COUNT)


def _finished(reply: Reply) -> Finished:
    return Finished(
        reply.exit, _output(reply.stdout), _output(reply.stderr), seconds=reply.delay.total_seconds()
    )


def _output(text: str) -> Output:
    data = text.encode()
    return Output(data, len(data))
