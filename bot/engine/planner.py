"""From a step of a runbook and what is known of a host to an effect; from an answer back to what it means.

The dry run, the approval card and the engine all come through here, so that what is shown is what is done.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bot.effect import Finished
from bot.engine.preconditions import DigestNow, broken, preconditions
from bot.errors import SickbayError
from bot.guard.drain import Deed, Turn
from bot.inventory import Inventory
from bot.language import template
from bot.language.runbook import Runbook, Step
from bot.program import Parts, batches_of, ordered
from bot.runs.plan import Entry, Plan
from bot.runs.record import Printed, Record, in_hand
from bot.runs.run import Attempt, Run, Status
from bot.steps import shell
from bot.steps.kind import PLAIN, CannotPlan, Context, Effect, Judgement, Kind
from bot.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Planner:
    """Knows the step kinds and the hosts; does nothing."""

    kinds: Mapping[str, Kind]
    inventory: Inventory
    digest_now: DigestNow | None = None
    """None: the runbooks come from no files (in rehearsals), so they do not change."""

    def mutates(self, book: Runbook) -> frozenset[str]:
        """Return the ids of the steps that change hosts."""
        return frozenset(step.id for _, step in ordered(book) if self.mutating(book, step))

    def mutating(self, book: Runbook, step: Step) -> bool:
        """Does this step change hosts? A plain command of a mutate runbook does, unless it says otherwise."""
        if step.uses is not None:
            return self.kinds[step.uses].mutating
        return step.mutates if step.mutates is not None else book.kind == "mutate"

    def level(self, step: Step) -> int:
        """Return how deep a mutating step goes; a plain command counts as deep, since nobody knows what it does."""
        return self.kinds[step.uses].level if step.uses is not None else PLAIN

    def partial(self, step: Step) -> bool:
        """Is what a step printed before its time was over worth judging?"""
        return step.uses is not None and self.kinds[step.uses].partial

    def context(self, run: Run, host: str, record: Record, *, planning: bool = False) -> dict[str, Any]:
        """Return what expressions see; when planning, steps that have not run yet are unknown, not `false`."""
        machine = self.inventory.hosts.get(host)
        if machine is None:
            raise CannotPlan(
                f"{host} is no longer in the inventory", advice="add it again, or start a new run"
            )
        views: dict[str, Mapping[str, Any]] = {}
        for _, step in ordered(run.runbook):
            attempt = record.last(step.id, host)
            if attempt is not None or not planning:
                views[step.id] = view(attempt, record.printed)
        return {
            "alert": dict(run.alert or {}),
            "inputs": dict(run.inputs),
            "host": {
                "name": machine.name,
                "address": machine.address,
                "vars": dict(machine.vars),
                "groups": list(machine.groups),
            },
            "run": {**({"id": run.id} if run.id else {}), "requester": run.requester.name},
            "steps": views,
        }

    def wanted(self, step: Step, context: Context) -> bool:
        """Is the step's `when` true?"""
        return step.when is None or template.truth(step.when, context)

    def effect(self, book: Runbook, step: Step, context: Context) -> Effect:
        """Turn a step into the command for this host.

        Raises:
            SickbayError: when a value is unknown or refused.

        """
        if step.uses is None:
            effect = shell.plan(step, context)
        else:
            kind = self.kinds[step.uses]
            effect = kind.plan(self.arguments(step, context), context)
        timeout = effect.command.timeout
        if step.uses is None or "timeout" in step.model_fields_set:
            timeout = step.timeout.total_seconds()
        mutating = self.mutating(book, step)
        return replace(effect, command=replace(effect.command, timeout=timeout, mutating=mutating))

    def deed(self, step: Step) -> Deed | None:
        """Return what a step does with a server at a load balancer."""
        return self.kinds[step.uses].turns if step.uses is not None else None

    def turn(self, step: Step, effect: Effect) -> Turn | None:
        """Return what a command does with a server at its load balancer, if it does."""
        deed = self.deed(step)
        return Turn.of(deed, effect.host, effect.command.env) if deed is not None else None

    def judge(self, step: Step, answer: Finished, context: Context) -> Judgement:
        """Say what a host's answer means."""
        if step.uses is None:
            return shell.judge(step, answer, context)
        return self.kinds[step.uses].judge(self.arguments(step, context), answer, context)

    def arguments(self, step: Step, context: Context) -> Any:
        """Fill a step kind's arguments with values."""
        try:
            return self.kinds[step.uses or ""].arguments.model_validate(template.value(step.with_, context))
        except ValueError as error:
            raise CannotPlan(f"{step.uses}: {error}", advice="mend the values under `with`") from error

    def plan(self, run: Run, record: Record, hosts: list[str]) -> Plan:
        """Write down what remains to be done on these hosts, host by host."""
        book = run.runbook
        look = Parts.of(book, self.mutates(book)).look
        looked = {step.id for step in look}
        batches = batches_of(book, hosts)
        known = Record((one for host in hosts for one in record.of(host)), record.printed)
        entries = []
        for batch in batches:
            for section, step in ordered(book):
                for host in batch if step.id not in looked else ():
                    entries.append(entry := self._entry(run, known, section, step, host))
                    if entry.decision == "skip":  # what waits for it is then no longer open either
                        known.add(Attempt(run.id, step.id, host, 1, Status.SKIPPED, run.created_at))
        machines = {entry.on for entry in entries if entry.on}
        seen = preconditions(run, record, self.inventory, look, machines)
        return Plan(book.name, run.runbook_digest, batches, _of_changed(entries), seen, self._members(book))

    def _members(self, book: Runbook) -> tuple[str, ...]:
        """Return the hosts of the group that must not fall below its floor.

        Raises:
            SickbayError: when the inventory knows the group no more: then nothing is planned.

        """
        floor = book.guard.min_ready if book.guard is not None else None
        return () if floor is None else tuple(host.name for host in self.inventory.select(floor.group))

    def preview(self, run: Run) -> Plan:
        """Write down what a run that does not exist would do: its look too, of which nothing is known yet."""
        look = [
            replace(self._entry(run, Record(), "steps", step, host), section="look")
            for step in Parts.of(run.runbook, self.mutates(run.runbook)).look
            for host in run.hosts
        ]
        plan = self.plan(run, Record(), list(run.hosts))
        return replace(plan, entries=(*look, *plan.entries))

    def broken(self, run: Run) -> str:
        """Say what the run's plan was made from that is no longer so; empty: it holds."""
        return "; ".join(broken(run.plan, self.inventory, self.digest_now)) if run.plan is not None else ""

    def _entry(self, run: Run, record: Record, section: str, step: Step, host: str) -> Entry:
        base = Entry(
            section,
            step.id,
            step.title,
            host,
            "run",
            mutating=self.mutating(run.runbook, step),
            retries=step.retries,
        )
        if section == "rollback":
            base = replace(base, note="only where its step has succeeded and the host does not come through")
        try:
            context = self.context(run, host, record, planning=True)
            if not self.wanted(step, context):
                return replace(base, decision="skip", note=f"not needed: {step.when}")
        except template.Unknown as error:
            base = _later(base, _depends(error, str(step.when)))
        except SickbayError as error:
            return _later(base, f"cannot be done as it stands: {error.what}")
        try:
            effect = self.effect(run.runbook, step, context)
        except template.Unknown as error:
            return _later(base, _depends(error, error.what))
        except SickbayError as error:
            return _later(base, f"cannot be done as it stands: {error.what}")
        command = effect.command
        return replace(
            base,
            on=effect.host,
            says=effect.says,
            text=command.text,
            env=dict(command.env),
            timeout=command.timeout,
        )


def _of_changed(entries: list[Entry]) -> tuple[Entry, ...]:
    """Take evidence only of hosts where something may be changed; where only a rescue would, once it is about to."""
    changed = {entry.host for entry in entries if entry.changes}
    rescued = {
        entry.host
        for entry in entries
        if entry.section == "rescue" and entry.mutating and entry.decision != "skip"
    }
    return tuple(
        entry
        if entry.section != "evidence" or entry.host in changed
        else _later(entry, "only before rescue changes something there")
        if entry.host in rescued
        else replace(entry, decision="skip", note="nothing is changed there")
        for entry in entries
    )


def _later(entry: Entry, why: str) -> Entry:
    """Say one more thing that stands between the plan and this step."""
    return replace(entry, decision="later", note="; ".join(note for note in (entry.note, why) if note))


def _depends(error: template.Unknown, on: str) -> str:
    """Say what has to be known first; what a step finds is seen when it has run."""
    if error.name.split(".")[0] == "steps":
        return f"depends on what is seen: {on}"
    return f"depends on {error.name}, which is not known: {on}"


def view(attempt: Attempt | None, printed: Printed = in_hand) -> Mapping[str, Any]:
    """Return an attempt as `steps.<id>` and `result` show it in expressions."""
    if attempt is None:
        known: dict[str, Any] = {"status": "not run", "facts": {}, "stdout": "", "stderr": "", "summary": ""}
        flags = dict.fromkeys(("ok", "failed", "skipped", "started", "unreachable"), False)
        return {**known, **flags, "verdict": None, "exit_code": None}
    doubtful = attempt.verdict in (Verdict.UNHEALTHY, Verdict.UNKNOWN)
    return _View(
        {
            **attempt.facts,
            "ok": attempt.status is Status.OK and not doubtful,
            "failed": attempt.status in (Status.FAILED, Status.UNREACHABLE, Status.UNKNOWN)
            or attempt.verdict is Verdict.UNHEALTHY,
            "skipped": attempt.status is Status.SKIPPED,
            "started": attempt.sent and attempt.status not in (Status.SKIPPED, Status.UNREACHABLE),
            "unreachable": attempt.status is Status.UNREACHABLE,
            "status": str(attempt.status),
            "verdict": str(attempt.verdict) if attempt.verdict else None,
            "facts": dict(attempt.facts),
            "stdout": "",
            "stderr": "",
            "exit_code": attempt.exit_code,
            "summary": attempt.summary,
        },
        attempt,
        printed,
    )


class _View(Mapping[str, Any]):
    """What is known of an attempt; what it printed is fetched only by an expression that asks."""

    def __init__(self, known: Mapping[str, Any], attempt: Attempt, printed: Printed) -> None:
        self._known = known
        self._attempt = attempt
        self._printed = printed

    def __getitem__(self, key: str) -> Any:
        if key in ("stdout", "stderr"):
            return self._printed(self._attempt)[key == "stderr"]
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
