"""What a run does next: a pure function of what has been recorded.

A run looks first, asks once, then acts batch by batch:

    look      the observe steps a mutate runbook begins with, on all hosts at once
    ask       the plan is made from what was seen; people approve that plan, not the runbook
    batches   evidence of the hosts that may be changed, a count of ready replicas, in which boot the hosts are that are
              still to be changed; the remaining steps, then verify; rollbacks and rescue for hosts that did not come
              through (evidence and boot first, where it is their first change); always for every host of the batch

A host whose look failed has its rescue and always, too, as far as they only look. What would change a host on which the
run has changed nothing is left out of always: there is nothing to clean up.

Because the answer follows from the attempts alone, a process killed at any instant resumes exactly where the last
recorded attempt left it, and this file can be tested without a machine, a clock or a database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.guard.counting import counting
from bot.guard.freshness import asking
from bot.language.runbook import SECTIONS, Runbook, Step
from bot.runs.approval import ApprovalState
from bot.runs.column import Call, Column, walk
from bot.runs.ending import ending
from bot.runs.lacking import lacking, ungranted
from bot.runs.plan import allowed_failures, canary, partition
from bot.runs.record import Record
from bot.runs.result import held_back, whole_verdict
from bot.runs.rollback import undoing
from bot.runs.run import Run, RunState
from bot.verdict import Verdict
from bot.wording import no_longer


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

    look = walk("steps", parts.look, run.hosts, record, now, stopping=halt is not None)
    if look.busy:
        return _go(look)
    failed = list(look.dropped)
    after = _after_look(run, parts, failed, mutates, record, now, stopping=halt is not None)
    if after.busy:
        return _go(after)
    if not _agreed(run, approval):
        if halt is None:
            if len(failed) > limit or not look.passed:
                return _end(run, record, failed, mutates)
            if run.plan is None and approval != "void":
                return Ask()
            if approval == "pending" and expires_at is not None and now < expires_at:
                return Sleep(expires_at)
        halt = halt or (RunState.CANCELLED, _unapproved(run, approval))
        if run.plan is None:
            return Finish(*halt)
    if run.plan is not None and (run.mode == "suggest" or not run.plan.changes):
        why = "Suggested only: the mode is `suggest`." if run.plan.changes else "Nothing needed doing."
        return _end(run, record, failed, mutates, why=why)

    batches = run.plan.batches if run.plan is not None else batches_of(book, run.hosts)
    changed = run.plan.changed if run.plan is not None else frozenset()
    rest: list[str] = []
    for number, batch in enumerate(batches, 1):
        left = [host for host in batch if host not in failed]  # a host may be gone when it is looked at again
        move, dropped = _batch(
            run, parts, number, left, changed, mutates, record, now, stopping=halt is not None
        )
        if move is not None:
            return move
        failed += dropped
        alone = (
            number == 1 and canary(book.serial, sum(map(len, batches))) and not set(batch).isdisjoint(failed)
        )
        if alone and halt is None:
            rest = [host for later in batches[1:] for host in later]
        if halt is None and (alone or len(failed) > limit):
            break
    return _end(run, record, failed, mutates, halt, rest=rest)


def _halt(run: Run, *, late: bool) -> tuple[RunState, str] | None:
    if run.cancelled_by is not None:
        return RunState.CANCELLED, f"Cancelled by {run.cancelled_by}."
    if run.fallen:
        return RunState.CANCELLED, no_longer(run.fallen)
    if late:
        return RunState.FAILED, "The runbook's timeout passed."
    return None


def _agreed(run: Run, approval: ApprovalState | None) -> bool:
    """May the run go on after its look? Only a plan that changes something, in mode `approve`, needs a yes."""
    if run.plan is None:
        return run.runbook.kind == "observe"
    unasked = run.mode != "approve" or not run.plan.changes
    return approval == "approved" or (approval is None and unasked)


def _unapproved(run: Run, approval: ApprovalState | None) -> str:
    if run.plan is not None and run.plan.without:
        return ungranted(run, approval, _LONG)
    reasons = {
        "denied": "The plan was denied; nothing was changed.",
        "void": "The plan no longer held; nothing was changed.",
    }
    return reasons.get(approval or "", "Nobody approved in time; nothing was changed.")


def _after_look(
    run: Run,
    parts: Parts,
    failed: Sequence[str],
    mutates: Mutates,
    record: Record,
    now: datetime,
    *,
    stopping: bool,
) -> Column:
    """Do what only looks of rescue and always where the look failed; the end of a run that is cancelled waits for neither."""
    hosts = [
        host
        for host in failed
        if any((one := record.last(step.id, host)) and not one.good for step in parts.look)
    ]
    spare = dict.fromkeys((host for host in hosts if not record.changed(host, mutates)), _UNCHANGED)
    rescue = walk("rescue", run.runbook.rescue, hosts, record, now, stopping=stopping)
    if rescue.busy:
        return rescue.spare(mutates, spare, record)
    cancelled = run.cancelled_by is not None
    always = walk("always", run.runbook.always, hosts, record, now, stopping=cancelled)
    return always.spare(mutates, spare, record)


def _evidence(
    run: Run, batch: Sequence[str], mutates: Mutates, record: Record, now: datetime, *, stopping: bool
) -> tuple[Move | None, list[str]]:
    """Take the evidence of a batch; return its next move, or the hosts that may not be changed for want of it.

    Once one of them was changed nobody is asked any more: it would stay as it is, out of traffic, until somebody answers.
    """
    captures = run.runbook.captures
    taken = walk("evidence", captures, batch, record, now, stopping=stopping)
    if taken.busy:
        return _go(taken), []
    found = lacking(run, taken.passed, record.last)
    if not found.unasked or stopping:
        return None, list(found.refused)
    if any(record.changed(host, mutates) for host in batch):
        return None, [host for host, _ in found.unasked]
    return Ask(found.unasked), []


def _boots(
    run: Run,
    parts: Parts,
    hosts: Sequence[str],
    mutates: Mutates,
    record: Record,
    now: datetime,
    *,
    stopping: bool,
) -> Move | None:
    """Ask hosts that are about to be changed for the first time in which boot they are; None: it is known, or need not be."""
    unchanged = [host for host in hosts if not record.changed(host, mutates)]
    columns = [
        walk("boot", *asked, record, now, stopping=stopping)
        for asked in asking(run, parts.look, unchanged, record)
    ]
    return _go(*columns) if any(one.busy for one in columns) else None


def _unfinished(hosts: Sequence[str], *columns: Column) -> list[str]:
    """Return the hosts that are not through these sections, each of which goes on where the one before was passed."""
    passed, dropped = columns[-1].passed, [host for one in columns for host in one.dropped]
    return [host for host in hosts if host not in {*passed, *dropped}]


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
    rescues = any(step.id in mutates for step in book.rescue)
    first = [host for host in batch if host in changed or not rescues]
    move, refused = _evidence(run, first, mutates, record, now, stopping=stopping)
    if move is not None:
        return move, []
    granted = [host for host in batch if host not in refused]
    count = walk("count", *counting(run, number, granted, changed), record, now, stopping=stopping)
    if count.busy:
        return _go(count), []
    act = walk("steps", parts.act, granted, record, now, stopping=stopping)
    verify = walk("verify", book.verify, act.passed, record, now, stopping=stopping)
    proving = any(step.id in mutates for step in book.verify)
    acting = _unfinished(granted, act, *((verify,) if proving else ()))
    acting = [host for host in acting if host in changed]
    if (asked := _boots(run, parts, acting, mutates, record, now, stopping=stopping)) is not None:
        return asked, []
    if act.busy or verify.busy:
        return _go(act, verify), []
    dropped = act.dropped + verify.dropped
    back = _roll_back(parts, book.verify, dropped, record, now)
    if back.busy:
        return _go(back), []
    ill = [host for host in dropped if held_back(record, host) is None]
    if rescues:
        move, late = _evidence(run, ill, mutates, record, now, stopping=stopping)
        if move is not None:
            return move, []
        refused += late
    saved = [*ill, *(host for host in refused if host not in ill)]
    rescue = walk("rescue", book.rescue, saved, record, now, stopping=stopping)
    if rescues:
        acting = _unfinished([host for host in ill if host not in refused], rescue)
        if (asked := _boots(run, parts, acting, mutates, record, now, stopping=stopping)) is not None:
            return asked, []
    if rescue.busy:
        return _go(rescue.spare(mutates, dict.fromkeys(refused, _NO_EVIDENCE), record)), []
    come = [
        host for host in batch if any(record.last(step.id, host) for step in (*book.captures, *parts.act))
    ]
    always = walk("always", book.always, come, record, now)
    if always.busy:
        untouched = (host for host in come if not record.changed(host, mutates))
        return _go(always.spare(mutates, dict.fromkeys(untouched, _UNCHANGED), record)), []
    bad = {
        host
        for host in come
        for step in book.always
        if (last := record.last(step.id, host)) and not last.good
    }
    return None, [host for host in batch if host in bad or host in dropped or host in refused]


def _roll_back(
    parts: Parts, verify: Sequence[Step], hosts: Iterable[str], record: Record, now: datetime
) -> Column:
    """Undo what had succeeded on hosts that did not come through."""
    whole = Column()
    for host in hosts:
        undos = undoing(parts.act, verify, host, record.last)
        whole.calls += walk("rollback", undos, [host], record, now).calls
    return whole


def _go(*columns: Column) -> Move:
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
    rest: Sequence[str] = (),
) -> Finish:
    end = ending(run, record, failed, mutates, ordered(run.runbook), halt, why, rest)
    return Finish(*end, whole_verdict(run, record))


_LONG = 300
"""Characters of a host set in a reason."""
_UNCHANGED = "left out, since nothing was changed there"
_NO_EVIDENCE = "left out, since there is no evidence"


def ordered(book: Runbook) -> list[tuple[str, Step]]:
    """Return all steps with their sections, in the order they run; what undoes a step stands after verify."""
    undos = [("rollback", step.undo) for step in reversed(book.steps) if step.undo is not None]
    whole = {section: [(section, step) for step in getattr(book, section)] for section in SECTIONS}
    evidence = [("evidence", step) for step in book.captures]
    return [*evidence, *whole["steps"], *whole["verify"], *undos, *whole["rescue"], *whole["always"]]
