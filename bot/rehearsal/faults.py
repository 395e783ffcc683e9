"""Generated faults: the good case of a runbook again, each time with one step that goes wrong, and what must hold then.

The rules ask nothing of the runbook's own meaning, so they are the same for all: whatever a host answers, the run ends,
nothing is changed where nobody knows what a change did, and a person is told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from bot.effect import Command, Finished, Lost, Outcome, Output, TimedOut, Unreachable
from bot.program import ordered
from bot.record import Record
from bot.run import Attempt, Run, RunState, Status
from bot.verdict import Verdict

Fault = Literal["timeout", "unreachable", "partial output", "wrong exit code", "garbage output", "lost"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
GARBAGE = b"\x00\xff\xfe{[<unfinished \x1b[31m%s\r\n" * 3

Bend = Callable[[str, Command, Outcome], Outcome]
"""What becomes of an outcome, by the step and the command that it answers."""


@dataclass(frozen=True, slots=True)
class Faulty:
    """One step that goes wrong in one way, at every try."""

    step: str
    fault: Fault

    def __call__(self, step: str, command: Command, outcome: Outcome) -> Outcome:
        """Answer with the fault where it belongs."""
        return bent(outcome, self.fault, command) if step == self.step else outcome


def bent(outcome: Outcome, fault: Fault, command: Command) -> Outcome:
    """Return what comes of a command instead; what never finished is left as it is, but for what says nothing of output."""
    whole = outcome if isinstance(outcome, Finished) else None
    half = _half(whole.stdout) if whole else Output(b"", 0)
    match fault:
        case "timeout":
            return TimedOut(command.timeout, half, Output(b"", 0), ended=True)
        case "unreachable":
            return Unreachable("tcp", "a generated fault: no answer", "")
        case "lost":
            return Lost("a generated fault: nobody can say how the command ended", "")
    if whole is None:
        return outcome
    if fault == "partial output":
        return replace(whole, stdout=half)
    if fault == "garbage output":
        return replace(whole, stdout=Output(GARBAGE, len(GARBAGE)))
    return replace(whole, exit_code=0 if whole.exit_code else 1)


def _half(output: Output) -> Output:
    data = output.data[: len(output.data) // 2]
    return Output(data, len(data))


def broken(run: Run, attempts: Sequence[Attempt], mutates: frozenset[str]) -> Iterator[str]:
    """Yield the rules that a run broke, in plain words with host and step."""
    record = Record(attempts)
    steps = {step.id: (section, step) for section, step in ordered(run.runbook)}
    if not run.state.ended:
        yield f"the run did not end, it is {run.state}"
    for attempt in attempts:
        tries = steps[attempt.step][1].retries + 1
        if attempt.number > tries:
            yield f"step {attempt.step} on {attempt.host} was tried {attempt.number} times, {tries} are allowed"
        if attempt.status not in (Status.OK, Status.SKIPPED) and not attempt.summary:
            yield f"step {attempt.step} on {attempt.host} is {attempt.status}, and nothing says why"
    lost = [each for each in attempts if each.status is Status.UNKNOWN and each.step in mutates]
    for unknown in lost:
        for later in attempts:
            after = later.host == unknown.host and later.begun_at > unknown.begun_at
            changes = later.step in mutates and later.status is not Status.SKIPPED
            if after and changes and steps[later.step][0] != "always":
                yield f"step {later.step} changed {later.host} after {unknown.step}, whose end nobody knows"
    if lost and run.state is not RunState.NEEDS_HUMAN:
        yield f"nobody knows how {lost[0].step} ended on {lost[0].host}, and the run is {run.state}"
    for host in run.hosts:
        begun = any(
            each.step in mutates and each.status is not Status.SKIPPED and steps[each.step][0] == "steps"
            for each in record.of(host)
        )
        for step in run.runbook.always if begun else ():
            if record.last(step.id, host) is None:
                yield f"always step {step.id} did not run on {host}, where a change had begun"
    if run.verdict is Verdict.HEALTHY:
        for each in record.all():
            if each.status in (Status.UNKNOWN, Status.UNREACHABLE, Status.FAILED):
                yield f"the verdict is healthy, and step {each.step} on {each.host} is {each.status}"
    if run.state is not RunState.SUCCEEDED and not run.reason:
        yield f"the run is {run.state}, and no person is told why"
