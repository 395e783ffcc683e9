"""The guard rails as the work meets them: what is ready to go is held against them, and people are told what they say.

The decision itself is `guard`'s, and is made in the transaction of `store.ledger`; what a decision rests on is gathered
here: what a runbook wants locked, the GPUs of a host, how deep a change goes, what was counted, how fresh a look is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from bot.engine.planner import Planner
from bot.engine.preparing import Ready, kept, lock_keys, uuids
from bot.errors import SickbayError
from bot.guard.counting import floor, outdated
from bot.guard.decision import (
    Answer,
    Settings,
    Want,
    World,
    frozen,
    in_doubt,
    release_advice,
    stopped,
    thaw_advice,
)
from bot.guard.drain import Drain, theirs
from bot.guard.freshness import Sight, Stale, differs, lasted
from bot.guard.maintenance import Windows
from bot.program import Parts, ordered
from bot.runs.plan import GuardLine, Plan
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, RunState
from bot.store import Store
from bot.store.ledger import covered

LOOKS = 2
"""How often a host is looked at again, before it is changed, because something else took its time after the look."""


@dataclass(slots=True)
class Taken:
    """What became of commands that were ready."""

    free: list[Ready] = field(default_factory=list)
    """They may leave."""
    over: list[Attempt] = field(default_factory=list)
    """They may not, as it is to be recorded."""
    waits: str = ""
    """Why the run has to rest, or to begin anew; what it was ready for is not sent."""
    again: Mapping[str, Stale] = field(default_factory=dict)
    """Hosts that have to be looked at again first, and why."""
    count: str = ""
    """Why the replicas of the batch have to be counted again first."""


class Rails:
    """Asks the guard."""

    def __init__(
        self, store: Store, planner: Planner, settings: Settings | None = None, windows: Windows | None = None
    ) -> None:
        self._store = store
        self._planner = planner
        self._windows = windows or Windows()
        self._settings = settings or Settings()
        self.world = World(planner.inventory.covers, self._settings, self._windows.at)

    # ── for the engine ──
    def take(
        self, run: Run, record: Record, ready: Sequence[Ready], mine: set[str], since: datetime
    ) -> Taken:
        """Take the hosts that are to be changed; `mine` are those the run has, and is added to.

        `since` is when the run went on after its last rest: no count of replicas is older.
        """
        asked = [one for one in ready if one.mutating and one.resumed is None and one.call.host not in mine]
        places = {one.place for one in asked}
        others = [one for one in ready if one.place not in places]
        first = [one for one in asked if not one.clean_up]
        answers: dict[str, Answer] = {}
        wants: dict[str, Want] = {}
        again: dict[str, Stale] = {}
        looked = self._store.timeline.looked_again(run.id) if run.looks and first else {}
        for one in first:
            host = one.call.host
            if host in wants or host in answers or host in again:
                continue
            fresh = self._fresh(run, record, host, looked.get(host, 0), anew=not mine)
            if isinstance(fresh, Answer):
                answers[host] = fresh
            elif fresh is not None:
                again[host] = fresh
            else:
                self._want(run, record, one, wants, answers)
        waits = next((one.words for one in answers.values() if one.reaction == "queue"), "")
        if again or waits:
            return Taken(others, [], waits, {} if waits else again)
        if wants:
            now, limit = self._store.now(), self._settings.fresh
            if why := outdated(run, record, list(wants), since, now, limit):
                return Taken(others, count=why)
            counted = floor(run, record, list(wants), now, limit)
            answers |= self._store.ledger.take(run, wants, self.world, counted)
            waits = next((one.words for one in answers.values() if one.reaction == "queue"), "")
            if waits:
                return Taken(others, [], waits)
        wants = {}
        for one in asked:
            if one.clean_up and one.call.host not in answers:
                self._want(run, record, one, wants, answers)
        if wants:
            answers |= self._store.ledger.take(run, wants, self.world, clean_up_only=True)
        mine |= {host for host, one in answers.items() if one.reaction == "go"}
        taken, now = Taken(), self._store.now()
        for one in ready:
            answer = answers.get(one.call.host) if one.place in places else None
            if answer is None or answer.reaction == "go":
                taken.free.append(one)
            else:
                taken.over.append(kept(one, run, answer, now))
        return taken

    def _want(
        self, run: Run, record: Record, ready: Ready, wants: dict[str, Want], answers: dict[str, Answer]
    ) -> None:
        host = ready.call.host
        try:
            keys = lock_keys(run, ready.context)
        except SickbayError as error:
            words = f"the lock of {run.runbook.name} cannot be named: {error.what}"
            answers[host] = Answer(host, "lock", "refuse", words, error.advice)
        else:
            level = max(self._level(run, run.plan, host), ready.level)
            wants[host] = Want(keys, uuids(run, record, host), level)

    def _level(self, run: Run, plan: Plan | None, host: str) -> int:
        """Return how deep the deepest change goes that may be made on a host."""
        steps = {step.id: step for step in (*run.runbook.steps, *run.runbook.verify)}
        entries = [one for one in plan.entries if one.host == host and one.changes] if plan else []
        return max((self._planner.level(steps[one.step]) for one in entries if one.step in steps), default=1)

    def _fresh(self, run: Run, record: Record, host: str, looks: int, *, anew: bool) -> Answer | Stale | None:
        """Return why a host has to be looked at again first; an answer, where that was done and was not enough.

        `looks` is how often that was done.
        """
        look = Parts.of(run.runbook, self._planner.mutates(run.runbook)).look
        sight = Sight.of(run, look, record, host)
        stale = sight.stale(self._store.now(), self._settings.fresh)
        looked = host in run.looks
        if stale is not None and looked:
            long = lasted(sight.look) > self._settings.fresh / 2
            if stale.aged and not long and looks < LOOKS:
                return stale
            words = f"{host} was looked at again and still cannot be relied on: {stale.why}"
            advice = "make the look shorter, then start the runbook again" if long else stale.advice
            return Answer(host, "evidence", "refuse", words, advice)
        if stale is not None or not looked or run.plan is None:
            return stale
        alone = replace(run, hosts=(host,))  # what the plan for it rests on is of this host only
        other = differs(run.plan, self._planner.plan(alone, record, [host]), host)
        if not other:
            return None
        words = f"{host} is another than when the plan was made: {other}"
        return Answer(
            host, "evidence", "queue" if anew else "refuse", words, "start the runbook again for a new plan"
        )

    def wish(self, run: Run, plan: Plan) -> None:
        """Note what automation wants to change, though people may still be asked."""
        if plan.changed:
            wants = {host: Want(level=self._level(run, plan, host)) for host in sorted(plan.changed)}
            self._store.ledger.wish(run, wants, self._settings)

    def rested(self, run: Run, record: Record, plan: Plan) -> tuple[RunState, str] | None:
        """Return how a run ends that people need not be asked about: whatever they say, its rails let no host go."""
        kept = self._store.holds.all()
        if run.runbook.cooldown is None and run.runbook.limits is None and plan.changed.isdisjoint(kept):
            return None
        wants = {host: Want(gpus=uuids(run, record, host)) for host in sorted(plan.changed)}
        answers = self._store.ledger.answers(run, wants, self.world)
        final = [
            one.rail in ("cooldown", "limits") or (one.rail == "lock" and host in kept)
            for host, one in answers.items()
        ]
        if not final or not all(final):
            return None
        told = max(answers.values(), key=lambda one: one.reaction == "escalate")
        state = RunState.NEEDS_HUMAN if told.reaction == "escalate" else RunState.FAILED
        return state, f"{told.words}. Nobody was asked. {told.advice}."

    # ── for people ──
    def lines(self, run: Run, plan: Plan) -> list[GuardLine]:
        """Say what the rails would say to a plan that is only shown."""
        changed = plan.changed
        wants = {host: Want(self._keys(run, host)) for host in run.hosts if host in changed}
        seen = run
        if _by_gpu(run):  # of a plan that is only shown no GPU was seen
            seen = replace(run, runbook=run.runbook.model_copy(update={"limits": None}))
        answers = self._store.ledger.answers(seen, wants, self.world) if wants else {}
        drains = self._store.drains.open()
        return [self._line(run, plan, answers[host], drains) for host in wants]

    def _line(self, run: Run, plan: Plan, answer: Answer, drains: Sequence[Drain]) -> GuardLine:
        host, now = answer.host, self._store.now()
        if answer.reaction != "go":
            words = f"{answer.rail}: {answer.words}"
            return GuardLine(host, "would wait" if answer.reaction == "queue" else "would refuse", words)
        if words := self._drained(run, plan, [one for one in drains if one.host == host]):
            return GuardLine(host, "would refuse", words)
        notes = [words] if (words := self._windows.at(host, now)) else []
        notes += ["limits: by GPU, which is decided when its GPUs have been seen"] if _by_gpu(run) else []
        rule = run.runbook.guard.min_ready if run.runbook.guard else None
        if rule is not None:
            most = f"{rule.replicas} of the {len(plan.members)} in {rule.group} must stay ready"
            notes.append(f"capacity: {most}, which is counted before each batch")
        return GuardLine(host, "ok", "; ".join(notes))

    def _drained(self, run: Run, plan: Plan, drains: Sequence[Drain]) -> str:
        """Say whose a host is that somebody else keeps out of traffic; whoever only puts it back takes it over."""
        refusal = next((found for one in drains if (found := theirs(run, one, busy=False))), None)
        if refusal is None:
            return ""
        steps = {step.id: step for _, step in ordered(run.runbook)}
        changes = (steps[one.step] for one in plan.entries if one.host == drains[0].host and one.changes)
        acts = any(self._planner.deed(step) != "ready" for step in changes)
        return f"drain: {refusal.words}" if acts else ""

    def _keys(self, run: Run, host: str) -> tuple[str, ...]:
        """Return what a run that does not exist would lock, as far as that is known."""
        try:
            return lock_keys(run, self._planner.context(run, host, Record(), planning=True))
        except SickbayError:
            return ()

    def refuse_frozen(self, hosts: Iterable[str]) -> None:
        """Refuse what is frozen.

        Raises:
            SickbayError: with who froze it, and how that ends.

        """
        asked = set(hosts)
        for freeze in self._store.ledger.freezes():
            on = covered(freeze, self._planner.inventory.covers)
            if asked and (on is None or asked & on):
                raise SickbayError(frozen(freeze), advice=thaw_advice(freeze))

    def refuse_held(self, hosts: Iterable[str]) -> None:
        """Refuse what a run that has ended in doubt still holds.

        Raises:
            SickbayError: with the run and its step, and how that ends.

        """
        kept = self._store.holds.all()
        if found := next((kept[host] for host in hosts if host in kept), None):
            raise SickbayError(in_doubt(found), advice=release_advice(found))

    def warnings(self, hosts: Iterable[str]) -> list[str]:
        """Say what somebody should know who acts on these hosts all the same."""
        return self._windows.over(hosts, self._store.now())

    def notes(self, hosts: Iterable[str]) -> dict[str, str]:
        """Say for each host why it is not as free as others; hosts without a note are left out."""
        freezes = [
            (one, covered(one, self._planner.inventory.covers)) for one in self._store.ledger.freezes()
        ]
        found: dict[str, str] = {}
        now = self._store.now()
        drains = self._store.drains.open()
        kept = self._store.holds.all()
        for host in hosts:
            words = [f"{in_doubt(kept[host])}; {release_advice(kept[host])}"] if host in kept else []
            words += [frozen(one) for one, on in freezes if on is None or host in on]
            words += [maintenance] if (maintenance := self._windows.at(host, now)) else []
            words += [one.owner for one in drains if one.host == host]
            if words:
                found[host] = "; ".join(words)
        return found

    def standstill(self) -> str:
        """Say why automation stands still; empty: it does not."""
        tripped = self._store.ledger.tripped()
        return stopped(tripped) if tripped is not None else ""


def _by_gpu(run: Run) -> bool:
    return run.runbook.limits is not None and run.runbook.limits.by == "gpu"
