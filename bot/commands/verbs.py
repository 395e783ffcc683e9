"""The desk: does what people say, the same for Slack and the terminal, and answers with a card.

Strangers may look at everything; what changes a host or decides about it takes somebody who is known and has the right,
which `authority` says. Whether that somebody may approve this plan is the approval rule's to say.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from bot.commands.deciding import Deciding, no_run
from bot.commands.grammar import (
    BREAK_GLASS,
    Cancel,
    Check,
    Command,
    Decide,
    FreezeHosts,
    Help,
    ListDrains,
    ListHosts,
    ListRunbooks,
    ListSchedules,
    Look,
    Preview,
    Release,
    Report,
    ResetBreaker,
    Start,
    Thaw,
    parse,
    usages,
)
from bot.commands.halting import Halting
from bot.commands.reporting import report
from bot.engine.balancers import Balancers
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.errors import SickbayError
from bot.exposure import unexposed
from bot.fleet import named
from bot.guard.autonomy import SUCCESSES, Earned, settled, standing
from bot.inventory import Inventory
from bot.language.runbook import Mode
from bot.language.schedule import Schedule
from bot.library import Loaded, digest_in
from bot.messages import (
    Card,
    ScheduleRow,
    drain_table,
    help_card,
    host_table,
    incident_card,
    incident_table,
    notice,
    preview_card,
    refusal_card,
    report_card,
    run_card,
    run_table,
    runbook_table,
    say,
    schedule_table,
)
from bot.people.authority import Asker, Authority, Members, Read, Roster
from bot.people.permissions import Groups, NotAllowed, Permissions, Right
from bot.runs.approval import Person
from bot.runs.plan import GuardLine, Plan
from bot.runs.run import Requester, Run, RunState
from bot.steps import KINDS
from bot.store import Store
from bot.views import incident_views, run_view

CHECKS = ("gpu-check", "serving-check")
Guard = Callable[[Run, Plan], Sequence[GuardLine]]


__all__ = ["Asker", "Commands", "Reply"]

_TAKES: Mapping[str, Right] = {
    "approve": "approve",
    "deny": "approve",
    "cancel": "cancel",
    "release": "cancel",
    "freeze": "freeze",
    "thaw": "freeze",
    "breaker": "reset",
}
"""The verbs that take a right; `run` also starts what only looks, which is free to all."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    card: Card
    runs: tuple[int, ...] = ()
    """Runs that were started."""
    ok: bool = True
    warnings: tuple[str, ...] = ()
    """What to beware of, also in the card."""


class Commands:
    """Does commands, each in one short transaction; never waits for a run."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        library: Mapping[str, Loaded],
        people: Mapping[str, Person],
        *,
        rights: Permissions | None = None,
        groups: Groups | None = None,
        read: Read | None = None,
        planner: Planner | None = None,
        guard: Guard | None = None,
        rails: Rails | None = None,
        successes: int = SUCCESSES,
        check: Sequence[str] = CHECKS,
        channel: str = "",
        schedules: Sequence[Schedule] = (),
    ) -> None:
        """`check` names the runbooks behind `check HOSTS`; `channel` is where changes are shown if nowhere else.

        `rights` say who may do what, `groups` which Slack user groups give a role, `read` what of that is so now. `guard`
        is asked what the guard rails would say to a plan that is only shown, by default the rails themselves;
        `successes` are what `mode: auto` takes.
        """
        roster = Roster(people, rights or Permissions((), people, inventory, groups), groups or {})
        self.authority = Authority(roster, read=read)
        self.balancers: Balancers | None = None
        """Who is asked how drained servers stand now; whoever has a way to the hosts sets it."""
        self._store = store
        self._inventory = inventory
        self._library = library
        self._check = check
        self._channel = channel
        self._schedules = schedules
        self._successes = successes
        self._planner = planner or Planner(KINDS, inventory, partial(digest_in, library))
        self._rails = rails or Rails(store, self._planner)
        self._guard = guard or self._rails.lines
        self._deciding = Deciding(store, self._planner, self.authority, self._rails)
        self._halting = Halting(store, inventory, self.authority)

    def asking(self, members: Members) -> "Commands":
        """Return the same desk, with Slack to be asked who somebody still is."""
        desk = copy(self)
        desk.authority = authority = self.authority.asking(members)
        desk._deciding = Deciding(self._store, self._planner, authority, self._rails)  # noqa: SLF001 - it is of this class
        desk._halting = Halting(self._store, self._inventory, authority)  # noqa: SLF001
        return desk

    @property
    def people(self) -> Mapping[str, Person]:
        """Those under `people:`."""
        return self.authority.roster.people

    def person_of(self, slack: str) -> Person | None:
        """Return who this Slack user is under `people:`."""
        return self.authority.person_of(slack)

    def do(self, command: Command | str, asker: Asker) -> Reply:
        """Do a command, or what a text says; a refusal is a reply too."""
        try:
            return self._try(parse(command) if isinstance(command, str) else command, asker)
        except SickbayError as error:
            return Reply(refusal_card(error), ok=False)

    def _try(self, command: Command, asker: Asker) -> Reply:
        """Do it; whoever asks for what they may not is written down, as a refused answer of a run's question is."""
        try:
            return self._do(command, asker)
        except NotAllowed as error:
            if not isinstance(command, Decide):
                self._store.timeline.note("command.refused", by=asker.name, via=asker.door, why=error.what)
            raise

    def _do(self, command: Command, asker: Asker) -> Reply:
        match command:
            case Help():
                return Reply(help_card(self._sayable(asker)))
            case Check(hosts):
                return self._start([Start(name, hosts) for name in self._checks()], asker)
            case Start():
                return self._start([command], asker)
            case Preview():
                return self._preview(command, asker)
            case ListHosts(hosts):
                everything = tuple(self._inventory.hosts.values())
                shown = self._inventory.select(hosts) if hosts else everything
                notes = self._rails.notes(host.name for host in shown)
                return Reply(host_table(shown, notes, self._rails.standstill()))
            case ListRunbooks():
                return self._runbooks()
            case ListDrains():
                return self._drains()
            case ListSchedules():
                return self._scheduled()
            case Look():
                return self._look(command)
            case Report(number):
                return Reply(report_card(report(self._store, number, self._store.mask, outputs=False)))
            case Decide():
                return Reply(notice(self._deciding.decide(command, asker)))
            case FreezeHosts(reason, hosts):
                return Reply(notice(self._halting.freeze(reason, hosts, asker)))
            case Thaw(hosts):
                return Reply(notice(self._halting.thaw(hosts, asker)))
            case ResetBreaker(reason):
                return Reply(notice(self._halting.reset(reason, asker)))
            case Cancel(run_id):
                return Reply(notice(self._deciding.cancel(run_id, asker)))
            case Release(run_id, reason):
                return Reply(notice(self._deciding.release(run_id, reason, asker)))

    def _sayable(self, asker: Asker) -> list[tuple[str, str]]:
        """Return what this person may say, with what it does."""
        person, rights = self.authority.seen(asker), self.authority.roster.rights
        said = [
            (usage, says)
            for usage, says in usages()
            if (right := _TAKES.get(usage.split()[0])) is None or rights.has(person, right)
        ]
        return [*said, BREAK_GLASS] if rights.has(person, "break_glass") else said

    def _runbooks(self) -> Reply:
        shown = self._library.values()
        modes = {
            one.runbook.name: standing(one.runbook.mode, self._earned(one), self._successes)
            for one in shown
            if one.runbook.kind == "mutate"
        }
        timed = {one.runbook for one in self._schedules}
        return Reply(runbook_table([one.runbook for one in shown], modes, timed))

    def _scheduled(self) -> Reply:
        store, now = self._store, self._store.now()
        rows = []
        for one in self._schedules:
            last = store.schedules.last(one.runbook)
            run = store.runs.get(last.run_id) if last and last.run_id is not None else None
            tick, note = (last.tick, last.note) if last else (None, "")
            rows.append(ScheduleRow(one, one.cron.after(now), tick, run, note))
        return Reply(schedule_table(rows))

    def _earned(self, loaded: Loaded) -> Earned:
        return self._store.runs.earned(loaded.runbook.name, loaded.digest)

    def _mode(self, loaded: Loaded) -> tuple[Mode, str]:
        """Return the mode that counts now, and why it is more careful than the runbook's."""
        return settled(loaded.runbook.mode, self._earned(loaded), self._successes)

    # ── starting ──
    def _checks(self) -> list[str]:
        known = [name for name in self._check if name in self._library]
        if not known:
            raise SickbayError(
                f"none of the checks is there: {', '.join(self._check) or 'none is named'}",
                advice="mend `check:` and `runbooks:` in sickbay.yaml",
            )
        return known

    def _start(self, wanted: Sequence[Start], asker: Asker) -> Reply:
        prepared = [(self._loaded(one.runbook), one) for one in wanted]
        runs = [
            (loaded, *self._hosts(loaded, one), loaded.runbook.fill(one.inputs)) for loaded, one in prepared
        ]
        person = asker.person
        changed: list[str] = []
        for loaded, hosts, *_ in runs:
            if loaded.runbook.kind == "mutate":
                name = loaded.runbook.name
                what = f"start `{name}`, which changes hosts"
                person = self.authority.may(asker, "change", what, runbook=name, hosts=hosts)
                changed += hosts
        self._rails.refuse_frozen(changed)
        self._rails.refuse_held(changed)
        requester = Requester(asker.name, person.name if person else None, asker.via, asker.door)
        with self._store.write() as tx:
            if asker.delivery and not self._store.timeline.first_time(asker.delivery, tx):
                return Reply(notice(say("listing.again")))
            ids = tuple(
                self._store.runs.create(
                    tx,
                    runbook=loaded.runbook,
                    digest=loaded.digest,
                    hosts=hosts,
                    host_set=host_set,
                    inputs=inputs,
                    mode=loaded.runbook.mode,
                    requester=requester,
                    channel=asker.channel or (self._channel if loaded.runbook.kind == "mutate" else ""),
                    thread=asker.thread,
                )
                for loaded, hosts, host_set, inputs in runs
            )
        hosts = runs[0][1]
        names = ", ".join(one.runbook.name for one, *_ in runs)
        asks = any(one.runbook.kind == "mutate" and self._mode(one)[0] == "approve" for one, *_ in runs)
        phrase = "listing.started_asks" if asks else "listing.started"
        started = say(phrase, runbook=names, hosts=named(hosts), id=", ".join(map(str, ids)))
        warnings = tuple(self._rails.warnings(changed))
        return Reply(notice(started, warnings), ids, warnings=warnings)

    def _preview(self, wanted: Preview, asker: Asker) -> Reply:
        """Show a plan; there is no run of it, so nothing can come of it."""
        loaded = self._found(wanted.runbook)
        book = loaded.runbook
        hosts, host_set = self._hosts(loaded, wanted)
        mode, lowered = self._mode(loaded)
        run = Run(
            id=0,
            incident_id=None,
            runbook=book,
            runbook_digest=loaded.digest,
            hosts=hosts,
            inputs=book.fill(wanted.inputs),
            alert=None,
            mode=mode,
            lowered=lowered,
            requester=Requester(asker.name, asker.person.name if asker.person else None, asker.via),
            state=RunState.QUEUED,
            channel="",
            created_at=self._store.now(),
            host_set=host_set,
        )
        unexposed(book, run.inputs, self._store.mask)
        plan = self._planner.preview(run)
        return Reply(preview_card(run, plan, self._guard(run, plan)))

    def _found(self, name: str) -> Loaded:
        loaded = self._library.get(name)
        if loaded is None:
            near = get_close_matches(name, self._library, n=1)
            hint = f"did you mean `{near[0]}`? " if near else ""
            raise SickbayError(
                f"there is no runbook `{name}`", advice=f"{hint}`runbooks` lists what there is"
            )
        return loaded.fresh()

    def _loaded(self, name: str) -> Loaded:
        loaded = self._found(name)
        book = loaded.runbook
        if not book.by_command:
            raise SickbayError(
                f"`{name}` is not for people to start: it answers alerts",
                advice="add `- command: true` to its triggers to allow it",
            )
        return loaded

    def _hosts(self, loaded: Loaded, wanted: Start | Preview) -> tuple[tuple[str, ...], str]:
        """Return the hosts, and the set they were written as."""
        pattern = wanted.hosts or loaded.runbook.hosts
        if not pattern or "{{" in pattern:
            verb = "run" if isinstance(wanted, Start) else "plan"
            raise SickbayError(
                f"`{loaded.runbook.name}` needs hosts", advice=f"write: {verb} {loaded.runbook.name} HOSTS"
            )
        return tuple(host.name for host in self._inventory.select(pattern)), pattern

    # ── looking ──
    def _look(self, command: Look) -> Reply:
        store, number = self._store, command.number
        if command.at == "incidents":
            if number is None:
                return Reply(incident_table(store.incidents.newest()))
            incident = store.incidents.get(number)
            if incident is None:
                raise SickbayError(f"there is no incident {number}", advice="`incidents` lists the newest")
            return Reply(incident_card(incident, incident_views(store, incident)).without_buttons())
        if number is None:
            return Reply(run_table(store.runs.newest()))
        run = store.runs.get(number)
        if run is None:
            raise no_run(number)
        return Reply(run_card(run_view(store, run)).without_buttons())

    def _drains(self) -> Reply:
        """List what is kept out of traffic; what the load balancers say now is written down like any other look."""
        drains = self._store.drains.open()
        said = self.balancers.say(drains) if self.balancers is not None else {}
        for at, one in enumerate(drains):
            if one.kept_at is not None and one.id in said:
                drains[at] = self._store.drains.seen(one.id, said[one.id]) or one
        return Reply(drain_table(drains, said, self._store.now()))
