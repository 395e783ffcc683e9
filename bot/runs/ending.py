"""How a run ends, and in which words: what decided it, where it began, and what was undone or could not be cleaned up."""

from collections.abc import Iterable, Sequence

from bot.fleet import named
from bot.language.runbook import Step
from bot.runs.lacking import lacking, spared
from bot.runs.record import Record
from bot.runs.result import halted, held_back
from bot.runs.rollback import undone
from bot.runs.run import Attempt, Run, RunState, Status

_LONG = 300
"""Characters of a host set in a reason."""


def ending(
    run: Run,
    record: Record,
    failed: Sequence[str],
    mutates: frozenset[str],
    order: Sequence[tuple[str, Step]],
    halt: tuple[RunState, str] | None,
    why: str,
    rest: Sequence[str] = (),
) -> tuple[RunState, str]:
    """Return the final state and the reason; `halt` is what stopped the run, `why` what there is to say of a good end.

    `order` has all steps as they run, with their sections; `rest` are the hosts that were left alone for the canary's sake.
    """
    kept = {host: one for host in run.hosts if (one := held_back(record, host)) is not None}
    first = _first(run, record, order)
    lead = set(run.plan.batches[0] if rest and run.plan is not None else run.hosts)
    alone = _alone(rest, held=lead.intersection(failed) <= set(kept))
    lost = [one.host for one in record.all() if one.status is Status.UNKNOWN and one.step in mutates]
    if lost:
        before = f"{halt[1]} " if halt is not None and halt[0] is RunState.NEEDS_HUMAN else ""
        reason = f"{before}Nobody knows how a command ended on {named(lost, _LONG)}.{first}{alone}"
        return RunState.NEEDS_HUMAN, reason
    back = undone(run.runbook.steps, run.hosts, record.last)
    unclean = _unclean(run, record)
    after = alone + back.words + (f" Clean-up failed on {named(unclean, _LONG)}." if unclean else "")
    if halt is not None:
        state, reason = halt
        if state is RunState.CANCELLED and (back.failed or unclean):
            state = RunState.FAILED
        return state, f"{reason}{after}"
    for one in kept.values():
        if one.facts["guard"] == "escalate":
            return RunState.NEEDS_HUMAN, f"{one.summary}. {one.advice}.{after}"
    for host in run.hosts:
        if (one := halted(record, host)) is not None and one.facts["halted"] == "escalate":
            return RunState.NEEDS_HUMAN, f"Stopped on {host} midway: {one.summary}. {one.advice}.{after}"
    if failed and set(failed) <= {host for host, one in kept.items() if one.facts["guard"] == "skip"}:
        return RunState.CANCELLED, f"Skipped: {kept[failed[0]].summary}.{after}"
    if failed:
        untouched = [host for host in run.hosts if not record.of(host)]
        begun = f" Not begun on {named(untouched, _LONG)}." if untouched else ""
        return (
            RunState.FAILED,
            f"Failed on {named(failed, _LONG)}.{first}{begun}{_lost(run, record, failed)}{after}",
        )
    return RunState.SUCCEEDED, why


def _first(run: Run, record: Record, order: Iterable[tuple[str, Step]]) -> str:
    """Name the step that failed first, with its host."""
    steps = {step.id: at for at, (_, step) in enumerate(order)}
    hosts = {host: at for at, host in enumerate(run.hosts)}
    bad = [one for one in record.all() if one.done and not one.good]
    bad = [one for one in bad if one.step not in spared(run, one.host)]

    def began(one: Attempt) -> tuple[object, ...]:
        return one.ended_at or one.begun_at, steps.get(one.step, 0), hosts.get(one.host, 0)

    first = min(bad, key=began, default=None)
    return f" First: {first.step} on {first.host}." if first is not None else ""


def _lost(run: Run, record: Record, failed: Sequence[str]) -> str:
    """Say which hosts were left as they were because nobody was to be asked about their evidence any more."""
    hosts = [host for host, _ in lacking(run, failed, record.last).unasked]
    if not hosts:
        return ""
    were = "was left as it was" if len(hosts) == 1 else "were left as they were"
    why = "nobody was asked, since others were changed already"
    return f" {named(hosts, _LONG)} {were} for want of evidence; {why}."


def _alone(rest: Sequence[str], *, held: bool) -> str:
    """Say which hosts were left alone because the canary did not come through."""
    word = "was held back" if held else "failed"
    return f" The canary {word}, so nothing was begun on {named(rest, _LONG)}." if rest else ""


def _unclean(run: Run, record: Record) -> list[str]:
    """Return the hosts whose clean-up went wrong."""
    return [
        host
        for host in run.hosts
        if any(
            (last := record.last(step.id, host)) is not None and not last.good for step in run.runbook.always
        )
    ]
