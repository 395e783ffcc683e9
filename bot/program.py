"""What a run does next: a pure function of what has been recorded.

A run looks first, asks once, then acts batch by batch:

    look      the observe steps a mutate runbook begins with, on all hosts at once
    ask       the plan is made from what was seen; people approve that plan, not the runbook
    batches   evidence of every host of the batch before any of them is changed; the remaining steps, then verify;
              rollbacks and rescue for hosts that did not come through; always for every host of the batch

Because the answer follows from the attempts alone, a process killed at any instant resumes exactly where the last
recorded attempt left it, and this file can be tested without a machine, a clock or a database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bot.guard.counting import counting
from bot.guard.freshness import asking
from bot.language.runbook import SECTIONS, Runbook, Step
from bot.runs.approval import ApprovalState
from bot.runs.ending import ending
from bot.runs.lacking import lacking, ungranted
from bot.runs.plan import allowed_failures, partition
from bot.runs.record import Record
from bot.runs.result import held_back, whole_verdict
from bot.runs.rollback import undoing
from bot.runs.run import Attempt, Run, RunState, Status
from bot.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Call:
    """Do this step on this host; `number` counts from 1, and a number that has begun is to be resumed."""

    section: str
    step: Step
    host: str
    number: int
    first: int = 1
    """The number of its first try."""

    @property
    def tries(self) -> int:
        """How many tries there will have been with this one."""
        return self.number - self.first + 1


@dataclass(frozen=True, slots=True)
class Act:
    """Make these calls, side by side."""

    calls: tuple[Call, ...]
    due: datetime | None = None
    """When the next retry is due, if earlier than the calls' end."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Make the plan and, where the mode wants it, ask people; with a plan made, ask about what it lacks."""

    without: tuple[tuple[str, str], ...] = ()
    """Hosts whose evidence could not be had, and why."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing to do before this moment (None: before somebody acts)."""

    until: datetime | None


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    state: RunState
    reason: str
    verdict: Verdict | None = None


CLEAN_UP = ("rollback", "always")
"""Sections that are done in any case, even when the run is cancelled or late."""

Move = Act | Ask | Sleep | Finish
Mutates = frozenset[str]
"""Ids of the steps that change hosts."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A runbook cut at its first mutating step."""

    look: tuple[Step, ...]
    act: tuple[Step, ...]

    @classmethod
    def of(cls, book: Runbook, mutates: Mutates) -> "Parts":
        """Cut the steps: an observe runbook has nothing to ask about, so all of it is acted."""
        if book.kind == "observe":
            return cls((), tuple(book.steps))
        cut = next((at for at, step in enumerate(book.steps) if step.id in mutates), len(book.steps))
        return cls(tuple(book.steps[:cut]), tuple(book.steps[cut:]))


def batches_of(book: Runbook, hosts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Cut hosts into the runbook's batches; without `serial` all are observed at once and changed one by one."""
    return partition(hosts, book.serial or (["100%"] if book.kind == "observe" else [1]))


@dataclass(slots=True)
class _Column:
    """How far the hosts of one section have come."""

    calls: list[Call] = field(default_factory=list)
    due: list[datetime] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        return bool(self.calls or self.due)


def _walk(
    section: str,
    steps: Sequence[Step],
    hosts: Iterable[str],
    record: Record,
    now: datetime,
    *,
    stopping: bool = False,
) -> _Column:
    """Find what is next in each host's column; when stopping, only what has already begun is brought to its end."""
    column = _Column()
    for host in hosts:
        for step in steps:
            last, first = record.last(step.id, host), record.first(step.id, host)
            if last is not None and not last.done:
                column.calls.append(Call(section, step, host, last.number, first))
                break
            retry = last is not None and last.again and _once_more(step, last, last.number - first + 1)
            if stopping and (last is None or retry or not last.good):
                column.dropped.append(host)
                break
            if last is None:
                column.calls.append(Call(section, step, host, first, first))
                break
            if retry:
                due = (last.ended_at or now) + step.delay
                if due <= now:
                    column.calls.append(Call(section, step, host, last.number + 1, first))
                else:
                    column.due.append(due)
                break
            if not last.good and section not in _TO_THE_END:
                column.dropped.append(host)
                break
        else:
            column.passed.append(host)
    return column


def repeatable(step: Step, tries: int) -> bool:
    """May this attempt be followed by another although nobody knows how it ended? One more than those it has anyway."""
    return step.idempotent and tries <= step.retries + 1


def _once_more(step: Step, last: Attempt, tries: int) -> bool:
    if last.status is Status.UNKNOWN:
        return repeatable(step, tries)
    return tries <= step.retries


def next_move(
    run: Run,
    record: Record,
    mutates: Mutates,
    approval: ApprovalState | None,
    expires_at: datetime | None,
    now: datetime,
    *,
    broken: str = "",
) -> Move:
    """Return what the run does now; `broken` says that a mistake of ours has stopped it, and only clean-up is left."""
    book = run.runbook
    parts = Parts.of(book, mutates)
    asking = approval not in (None, "approved")
    late = run.deadline is not None and now >= run.deadline and not asking
    halt = (RunState.NEEDS_HUMAN, broken) if broken else _halt(run, late=late)
    limit = allowed_failures(book.max_failures, len(run.hosts))

    look = _walk("steps", parts.look, run.hosts, record, now, stopping=halt is not None)
    if look.busy:
        return _go(look)
    failed = list(look.dropped)
    if not _agreed(run, approval):
        if run.plan is not None and run.plan.without:
            return _ungranted(run, record, mutates, approval, expires_at, now, halt)
        if halt is not None:
            return Finish(*halt)
        if len(failed) > limit or not look.passed:
            return _end(run, record, failed, mutates)
        if run.plan is None:
            return _unapproved(approval, expires_at, now) if approval == "void" else Ask()
        return _unapproved(approval, expires_at, now)
    if run.plan is not None and (run.mode == "suggest" or not run.plan.changes):
        why = "Suggested only: the mode is `suggest`." if run.plan.changes else "Nothing needed doing."
        return _end(run, record, failed, mutates, why=why)

    batches = run.plan.batches if run.plan is not None else batches_of(book, run.hosts)
    changed = run.plan.changed if run.plan is not None else frozenset()
    for number, batch in enumerate(batches, 1):
        left = [host for host in batch if host not in failed]  # a host may be gone when it is looked at again
        move, dropped = _batch(
            run, parts, number, left, changed, mutates, record, now, stopping=halt is not None
        )
        if move is not None:
            return move
        failed += dropped
        if len(failed) > limit and halt is None:
            break
    return _end(run, record, failed, mutates, halt)


def _halt(run: Run, *, late: bool) -> tuple[RunState, str] | None:
    if run.cancelled_by is not None:
        return RunState.CANCELLED, f"Cancelled by {run.cancelled_by}."
    if late:
        return RunState.FAILED, "The runbook's timeout passed."
    return None


def _agreed(run: Run, approval: ApprovalState | None) -> bool:
    """May the run go on after its look? Only a plan that changes something, in mode `approve`, needs a yes."""
    if run.plan is None:
        return run.runbook.kind == "observe"
    unasked = run.mode != "approve" or not run.plan.changes
    return approval == "approved" or (approval is None and unasked)


def _unapproved(approval: ApprovalState | None, expires_at: datetime | None, now: datetime) -> Move:
    if approval == "pending" and expires_at is not None and now < expires_at:
        return Sleep(expires_at)
    reasons = {
        "denied": "The plan was denied; nothing was changed.",
        "void": "The plan no longer held; nothing was changed.",
    }
    return Finish(
        RunState.CANCELLED, reasons.get(approval or "", "Nobody approved in time; nothing was changed.")
    )


def _ungranted(
    run: Run,
    record: Record,
    mutates: Mutates,
    approval: ApprovalState | None,
    expires_at: datetime | None,
    now: datetime,
    halt: tuple[RunState, str] | None,
) -> Move:
    """Wait for the answer whether to go on without evidence, or end the run; batches before have their own end."""
    if halt is None and approval == "pending" and expires_at is not None and now < expires_at:
        return Sleep(expires_at)
    reason = ungranted(run, approval, _LONG)
    return _end(run, record, (), mutates, halt or (RunState.CANCELLED, reason))


def _evidence(
    run: Run, batch: Sequence[str], record: Record, now: datetime, *, stopping: bool
) -> tuple[Move | None, list[str]]:
    """Take the evidence of a batch; return its next move, or the hosts that may not be changed for want of it."""
    captures = run.runbook.captures
    taken = _walk("evidence", captures, batch, record, now, stopping=stopping)
    if taken.busy:
        return _go(taken), []
    found = lacking(run, taken.passed, record.last)
    if found.unasked and not stopping:
        return Ask(found.unasked), []
    return None, list(found.refused)


def _batch(
    run: Run,
    parts: Parts,
    number: int,
    batch: Sequence[str],
    changed: frozenset[str],
    mutates: Mutates,
    record: Record,
    now: datetime,
    *,
    stopping: bool,
) -> tuple[Move | None, list[str]]:
    """Bring one batch as far as it goes; return its next move, or the hosts that failed once it is through."""
    book = run.runbook
    move, refused = _evidence(run, batch, record, now, stopping=stopping)
    if move is not None:
        return move, []
    granted = [host for host in batch if host not in refused]
    count = _walk("count", *counting(run, number, granted, changed), record, now, stopping=stopping)
    if count.busy:
        return _go(count), []
    whole = [host for host in granted if host in changed and not record.changed(host, mutates)]
    boots = [
        _walk("boot", *asked, record, now, stopping=stopping)
        for asked in asking(run, parts.look, whole, record)
    ]
    if any(one.busy for one in boots):
        return _go(*boots), []
    act = _walk("steps", parts.act, granted, record, now, stopping=stopping)
    verify = _walk("verify", book.verify, act.passed, record, now, stopping=stopping)
    if act.busy or verify.busy:
        return _go(act, verify), []
    dropped = act.dropped + verify.dropped
    back = _roll_back(parts, book.verify, dropped, record, now)
    if back.busy:
        return _go(back), []
    kept = {host for host in batch if held_back(record, host) is not None}
    begun = [
        host for host in batch if host not in kept and any(record.last(step.id, host) for step in parts.act)
    ]
    rescue = _walk(
        "rescue", book.rescue, [host for host in dropped if host not in kept], record, now, stopping=stopping
    )
    if rescue.busy:
        return _go(rescue), []
    always = _walk("always", book.always, begun, record, now)
    if always.busy:
        return _go(always), []
    bad = {
        host
        for host in begun
        for step in book.always
        if (last := record.last(step.id, host)) and not last.good
    }
    return None, [host for host in batch if host in bad or host in dropped or host in refused]


def _roll_back(
    parts: Parts, verify: Sequence[Step], hosts: Iterable[str], record: Record, now: datetime
) -> _Column:
    """Undo what had succeeded on hosts that did not come through."""
    whole = _Column()
    for host in hosts:
        undos = undoing(parts.act, verify, host, record.last)
        whole.calls += _walk("rollback", undos, [host], record, now).calls
    return whole


def _go(*columns: _Column) -> Move:
    calls = tuple(call for column in columns for call in column.calls)
    due = min((due for column in columns for due in column.due), default=None)
    return Act(calls, due) if calls else Sleep(due)


def _end(
    run: Run,
    record: Record,
    failed: Sequence[str],
    mutates: Mutates,
    halt: tuple[RunState, str] | None = None,
    why: str = "",
) -> Finish:
    return Finish(
        *ending(run, record, failed, mutates, ordered(run.runbook), halt, why), whole_verdict(run, record)
    )


_TO_THE_END = ("always", "evidence")
"""Sections of which a failed step does not keep the next from being tried."""

_LONG = 300
"""Characters of a host set in a reason."""


def ordered(book: Runbook) -> list[tuple[str, Step]]:
    """Return all steps with their sections, in the order they run; what undoes a step stands after verify."""
    undos = [("rollback", step.undo) for step in reversed(book.steps) if step.undo is not None]
    whole = {section: [(section, step) for step in getattr(book, section)] for section in SECTIONS}
    evidence = [("evidence", step) for step in book.captures]
    return [*evidence, *whole["steps"], *whole["verify"], *undos, *whole["rescue"], *whole["always"]]
