"""From which number on the attempts of a look, of evidence and of counts are good for something: some are taken again. Pure.

It is noted in `Run.looks`: a look under the name of its host, evidence and counts under words that no host is called by.
"""

from collections.abc import Collection, Sequence

from bot.language.runbook import Step
from bot.runs.record import COUNT, First, Record
from bot.runs.run import Run


def seen_again(
    run: Run, look: Sequence[Step], hosts: Collection[str], record: Record, *, evidence: Collection[str]
) -> dict[str, int]:
    """Return with which numbers a second look at hosts begins; at those of `evidence` it is taken again, too."""
    numbers: dict[str, int] = {}
    for host in hosts:
        seen = (record.last(step.id, host) for step in (*look, *run.runbook.captures))
        number = 1 + max((one.number for one in seen if one is not None), default=0)
        numbers |= {host: number, **({_evidence(host): number} if host in evidence else {})}
    return numbers


def counted_again(run: Run, record: Record, hosts: Collection[str]) -> dict[str, int]:
    """Return with which numbers the counts begin anew that were taken before the batches of these hosts."""
    found: dict[str, int] = {}
    for at, batch in enumerate(run.plan.batches if run.plan is not None else (), 1):
        members = run.plan.members if run.plan is not None and not set(hosts).isdisjoint(batch) else ()
        if numbers := [one.number for host in members if (one := record.last(count(at), host)) is not None]:
            found[_count(count(at))] = max(numbers) + 1
    return found


def begins(run: Run, look: Sequence[Step]) -> First:
    """Return the number that each step of a run begins with; what has a lower one was taken again since."""
    looks, captures = {step.id for step in look}, {step.id for step in run.runbook.captures}

    def first(step: str, host: str) -> int:
        if step.startswith(COUNT):
            mark = _count(step)
        else:
            mark = host if step in looks else _evidence(host) if step in captures else ""
        return max(run.look_from, run.looks.get(mark, 1))

    return first


def count(batch: int) -> str:
    """Return the id of the step that counts replicas before a batch; they count from 1."""
    return f"{COUNT}{batch}"


def _evidence(host: str) -> str:
    return f"evidence {host}"


def _count(step: str) -> str:
    return f"count {step}"
