"""Generated faults: the good cases of a runbook again, each time with one step that goes wrong, and what must hold then.

The rules ask nothing of the runbook's own meaning, so they are the same for all: whatever a host answers, the run ends,
nothing is changed after the step that failed, what was taken out of traffic is put back or shown to be out, no step takes
what it cannot read for good news, and a person reads what went wrong.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args

from bot.effect import Command, Finished, Lost, Outcome, Output, TimedOut, Unreachable
from bot.language.runbook import Step
from bot.messages import RunView, run_card
from bot.messages.short import line
from bot.program import ordered
from bot.rehearsal.script import Sent
from bot.rehearsal.stage import Played
from bot.runs.lacking import spared
from bot.runs.record import Record, apart
from bot.runs.run import Attempt, RunState, Status
from bot.verdict import Verdict

Fault = Literal["timeout", "unreachable", "partial output", "wrong exit code", "garbage output", "lost"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
GARBAGE = b"\x00\xff\xfe{[<unfinished \x1b[31m%s\r\n" * 3
_SILENT = ("timeout", "unreachable", "lost")
"""Faults that leave no answer, so that no step may pass as if there were one."""
_READS = re.compile(r"\b(stdout|summary)\b")
"""What an expression calls the output of a plain command."""
_OUT, _BACK = ("drain", "maintenance", "cordon"), ("undrain", "uncordon")
"""What step kinds that take a host out of traffic, and put it back, are called after their dot."""


@dataclass(slots=True)
class Faulty:
    """One step that goes wrong in one way, at every try."""

    step: str
    fault: Fault
    struck: dict[str, tuple[Outcome, Outcome]] = field(default_factory=dict)
    """By the step's host: what the last try came to, and what it was made; only where they differ."""
    met: bool = False
    """Was the step's command sent?"""
    bit: bool = False
    """Did it ever come to another answer?"""
    _gone: set[str] = field(default_factory=set)

    def __call__(self, sent: Sent, outcome: Outcome) -> Outcome:
        """Answer with the fault where it belongs; a machine that cannot be reached stays so."""
        if sent.step == self.step:
            self.met = True
            bad = bent(outcome, self.fault, sent.command)
            self.struck.pop(sent.host, None)
            if bad != outcome:
                self.struck[sent.host] = (outcome, bad)
                self.bit = True
            if self.fault == "unreachable":
                self._gone.add(sent.machine)
            return bad
        return bent(outcome, "unreachable", sent.command) if sent.machine in self._gone else outcome


def faults_of(well: Played) -> list[Faulty]:
    """Return every fault of every step whose command was sent; only a change can be lost."""
    steps = dict.fromkeys(sent.step for sent in well.sent if not apart(sent.step))
    return [
        Faulty(step, fault) for step in steps for fault in FAULTS if fault != "lost" or step in well.mutates
    ]


def bent(outcome: Outcome, fault: Fault, command: Command) -> Outcome:
    """Return what comes of a command instead; output and exit code only where there was an answer."""
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


def broken(played: Played, fault: Faulty | None = None, well: Played | None = None) -> Iterator[str]:
    """Yield the rules that a run broke, in plain words with host and step; `well` is the same run without the fault."""
    seen = _Seen(played)
    if fault is not None and not fault.met:
        yield "the step was not reached, although it is where nothing goes wrong"
    yield from _ends(seen)
    yield from _stops(seen)
    yield from _cleans_up(seen)
    yield from _is_told(seen)
    yield from _knows(seen, fault, well)
    out = left_out(played)
    out -= left_out(well) if well is not None and played.run.state is RunState.SUCCEEDED else frozenset()
    for host in sorted(out - played.kept):
        if not _shown(seen, host):
            yield f"{host} was taken out of traffic, not put back, and no later step says so"


class _Seen:
    """A run that was played, looked at from all sides."""

    def __init__(self, played: Played) -> None:
        self.run = played.run
        self.attempts = [one for one in played.attempts if not apart(one.step)]
        self.mutates = played.mutates
        self.piecemeal = played.piecemeal
        self.record = Record(played.attempts)
        self.steps = {step.id: (section, step) for section, step in ordered(played.run.runbook)}
        bad = [one for one in self.record.all() if not one.good]
        self.bad = [one for one in bad if one.step not in spared(played.run, one.host)]
        """How steps ended that did not go well, after their last try."""
        self.card = _texts(run_card(RunView(self.run, self.record, played.approval)))

    def section(self, attempt: Attempt) -> str:
        return self.steps[attempt.step][0]

    def step(self, attempt: Attempt) -> Step:
        return self.steps[attempt.step][1]

    def door(self, attempt: Attempt) -> str:
        """Return what stands before the dot of its step kind, such as `haproxy`."""
        return (self.step(attempt).uses or "").partition(".")[0]

    def word(self, attempt: Attempt) -> str:
        """Return what stands after it, such as `drain`."""
        return (self.step(attempt).uses or "").rpartition(".")[2]

    def changed(self, attempt: Attempt) -> bool:
        """May it have changed the host?"""
        return attempt.step in self.mutates and attempt.status is not Status.SKIPPED and attempt.sent


def _ends(seen: _Seen) -> Iterator[str]:
    if not seen.run.state.ended:
        yield f"the run did not end, it is {seen.run.state}"
    if seen.run.state is RunState.SUCCEEDED:
        for one in seen.bad:
            yield f"the run succeeded, and step {one.step} on {one.host} is {one.status}"
    for one in seen.attempts:
        before = 0 if one.step in seen.mutates else seen.run.looks.get(one.host, 1) - 1
        tries = seen.step(one).retries + 1 + before  # a host may be looked at again before it is changed
        if one.number > tries:
            yield f"step {one.step} on {one.host} was tried {one.number} times, {tries} are allowed"


def _stops(seen: _Seen) -> Iterator[str]:
    """After a step that failed, and beside a change of unknown end, nothing more is changed but to clean up."""
    for one in seen.bad:
        if seen.section(one) not in ("steps", "verify", "evidence"):
            continue
        unknown = one.status is Status.UNKNOWN and one.step in seen.mutates
        allowed = ("always",) if unknown else ("rollback", "rescue", "always")
        for later in seen.attempts:
            after = later.host == one.host and later.begun_at > (one.ended_at or one.begun_at)
            if after and seen.changed(later) and seen.section(later) not in allowed:
                how = "whose end nobody knows" if unknown else f"which is {one.status}"
                yield f"step {later.step} changed {later.host} after {one.step}, {how}"
        if unknown and seen.run.state is not RunState.NEEDS_HUMAN:
            yield f"nobody knows how {one.step} ended on {one.host}, and the run is {seen.run.state}"


def _cleans_up(seen: _Seen) -> Iterator[str]:
    for host in seen.run.hosts:
        begun = any(seen.changed(one) and seen.section(one) == "steps" for one in seen.record.of(host))
        for step in seen.run.runbook.always if begun else ():
            if seen.record.last(step.id, host) is None:
                yield f"always step {step.id} did not run on {host}, where a change had begun"


def _is_told(seen: _Seen) -> Iterator[str]:
    """What went wrong stands in the message that people get."""
    run = seen.run
    if run.state.ended and run.state is not RunState.SUCCEEDED and not run.reason:
        yield f"the run is {run.state}, and no person is told why"
    for one in seen.bad:
        title = line(seen.step(one).title, 80)
        if not one.summary:
            yield f"step {one.step} on {one.host} is {one.status}, and nothing says why"
        elif title not in seen.card or line(one.summary) not in seen.card:
            yield f"step {one.step} on {one.host} is {one.status}, and the run's message does not say so"


def _knows(seen: _Seen, fault: Faulty | None, well: Played | None) -> Iterator[str]:
    """What nobody saw counts as nothing: no step passes without an answer, and no doubt makes a host healthy."""
    for host, (whole, bad) in sorted(fault.struck.items()) if fault is not None else ():
        assert fault is not None
        one = seen.record.last(fault.step, host)
        if one is None or not one.good or one.verdict not in (None, Verdict.HEALTHY):
            continue
        before = Record(well.attempts).last(fault.step, host) if well is not None else None
        if why := _blind(seen, one, fault.fault, (whole, bad), before):
            proof = "verify step" if seen.section(one) == "verify" else "step"
            yield f"{proof} {one.step} on {host} passed as {one.verdict or one.status}, with {fault.fault}{why}"
    if seen.run.verdict is Verdict.HEALTHY:
        for one in seen.bad:
            yield f"the verdict is healthy, and step {one.step} on {one.host} is {one.status}"


def _blind(
    seen: _Seen, one: Attempt, fault: Fault, answers: tuple[Outcome, Outcome], before: Attempt | None
) -> str:
    """Say, as the end of a sentence, why a step that passed has not looked at what it was answered; empty: it may pass."""
    whole, bad = answers
    step, some = seen.step(one), one.step in seen.piecemeal
    if fault in _SILENT:
        return "" if some and fault == "timeout" else ", which is no answer"
    assert isinstance(whole, Finished)
    assert isinstance(bad, Finished)
    if fault == "wrong exit code":
        return ", which it cannot have looked at" if bad.exit_code or one.step in seen.mutates else ""
    reads = step.uses is not None or step.parse is not None
    if fault == "partial output":
        # Of two readings with the same facts the cut took nothing away that counts. A kind whose facts are always
        # the same gains nothing by it: garbage excuses nobody.
        same = before is not None and bool(one.facts) and one.facts == before.facts
        return ", which reads like the whole and is not" if reads and not (some or same) else ""
    if reads or _READS.search(f"{step.expect} {step.until}"):
        return ", which it cannot have read"
    if seen.section(one) == "verify" and whole.stdout.data:
        return ": let `expect` say what it has to print, or let it print nothing"
    return ""


def left_out(played: Played) -> frozenset[str]:
    """Return the hosts that were taken out of traffic and not put back."""
    out: set[str] = set()
    steps = {step.id: step for _, step in ordered(played.run.runbook)}
    for one in played.attempts:
        if apart(one.step):
            continue
        word = (steps[one.step].uses or "").rpartition(".")[2]
        if one.status is Status.OK and word in _OUT:
            out.add(one.host)
        elif one.status is Status.OK and word in _BACK:
            out.discard(one.host)
    return frozenset(out)


def _shown(seen: _Seen, host: str) -> bool:
    """Does a later step ask the load balancer about a host that was taken out: looked at last of all, or not put back?"""
    own = [one for one in seen.attempts if one.host == host]
    out = next(one for one in own if one.status is Status.OK and seen.word(one) in _OUT)
    return any(
        seen.door(one) == seen.door(out)
        and one.status is not Status.SKIPPED
        and (not one.good or seen.section(one) in ("rollback", "rescue", "always"))
        for one in own[own.index(out) + 1 :]
    )


def _texts(value: Any) -> str:
    """Return all that stands in a card."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "\n".join(map(_texts, value))
    if is_dataclass(value):
        return "\n".join(_texts(getattr(value, one.name)) for one in fields(value))
    return ""
