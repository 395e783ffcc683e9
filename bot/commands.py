"""The desk: does what people say, the same for Slack and the terminal, and answers with a card.

Strangers may look at everything; what changes a host or decides about it takes somebody known under `people:`. Whether
that somebody may approve is the approval rule's to say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from bot.approval import Person
from bot.autonomy import SUCCESSES, Earned, settled, standing
from bot.errors import SickbayError
from bot.fleet import named
from bot.grammar import (
    Cancel,
    Check,
    Command,
    Decide,
    Help,
    ListHosts,
    ListRunbooks,
    Look,
    Preview,
    Start,
    parse,
    usages,
)
from bot.inventory import Inventory
from bot.library import Loaded, digest_in
from bot.messages import (
    Card,
    help_card,
    host_table,
    incident_card,
    incident_table,
    notice,
    preview_card,
    refusal_card,
    run_card,
    run_table,
    runbook_table,
    say,
)
from bot.plan import GuardLine, Plan
from bot.planner import Planner
from bot.run import Requester, Run, RunState
from bot.runbook import Mode
from bot.steps import KINDS
from bot.store import Store
from bot.views import incident_views, run_view

CHECKS = ("gpu-check", "serving-check")
Guard = Callable[[Run, Plan], Sequence[GuardLine]]


def unguarded(run: Run, plan: Plan) -> Sequence[GuardLine]:  # noqa: ARG001 - whoever has rails says more
    """Say nothing: no guard rail was asked."""
    return ()


@dataclass(frozen=True, slots=True)
class Asker:
    """Who says something, and where the answer belongs."""

    name: str
    """What people read."""
    person: Person | None = None
    """Who it is under `people:`; None for strangers."""
    via: str = "cli"
    channel: str = ""
    """Where runs are shown; empty: where the configuration says."""
    thread: str | None = None
    delivery: str = ""
    """Names what was said once and for all, so that a repeated delivery starts nothing twice; empty: never repeated."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    card: Card
    runs: tuple[int, ...] = ()
    """Runs that were started."""
    ok: bool = True


class Commands:
    """Does commands, each in one short transaction; never waits for a run."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        library: Mapping[str, Loaded],
        people: Mapping[str, Person],
        *,
        planner: Planner | None = None,
        guard: Guard = unguarded,
        successes: int = SUCCESSES,
        check: Sequence[str] = CHECKS,
        channel: str = "",
    ) -> None:
        """`check` names the runbooks behind `check HOSTS`; `channel` is where changes are shown if nowhere else.

        `guard` is asked what the guard rails would say to a plan that is only shown; `successes` are what `mode: auto`
        takes.
        """
        self.people = people
        self._store = store
        self._inventory = inventory
        self._library = library
        self._check = check
        self._channel = channel
        self._guard = guard
        self._successes = successes
        self._planner = planner or Planner(KINDS, inventory, partial(digest_in, library))

    def person_of(self, slack: str) -> Person | None:
        """Return who this Slack user is under `people:`."""
        return next((one for one in self.people.values() if slack and one.slack == slack), None)

    def do(self, command: Command | str, asker: Asker) -> Reply:
        """Do a command, or what a text says; a refusal is a reply too."""
        try:
            return self._do(parse(command) if isinstance(command, str) else command, asker)
        except SickbayError as error:
            return Reply(refusal_card(error), ok=False)

    def _do(self, command: Command, asker: Asker) -> Reply:
        match command:
            case Help():
                return Reply(help_card(usages()))
            case Check(hosts):
                return self._start([Start(name, hosts) for name in self._checks()], asker)
            case Start():
                return self._start([command], asker)
            case Preview():
                return self._preview(command, asker)
            case ListHosts(hosts):
                everything = tuple(self._inventory.hosts.values())
                return Reply(host_table(self._inventory.select(hosts) if hosts else everything))
            case ListRunbooks():
                return self._runbooks()
            case Look():
                return self._look(command)
            case Decide():
                return self._decide(command, asker)
            case Cancel(run_id):
                return self._cancel(run_id, asker)

    def _runbooks(self) -> Reply:
        shown = [one for one in self._library.values() if one.runbook.by_command]
        modes = {
            one.runbook.name: standing(one.runbook.mode, self._earned(one), self._successes)
            for one in shown
            if one.runbook.kind == "mutate"
        }
        return Reply(runbook_table([one.runbook for one in shown], modes))

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
        prepared = [(self._loaded(one.runbook, asker), one) for one in wanted]
        runs = [
            (loaded, *self._hosts(loaded, one), loaded.runbook.fill(one.inputs)) for loaded, one in prepared
        ]
        requester = Requester(asker.name, asker.person.name if asker.person else None, asker.via)
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
        return Reply(notice(started), ids)

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
        self._store.runs.unexposed(book, run.inputs)
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

    def _loaded(self, name: str, asker: Asker) -> Loaded:
        loaded = self._found(name)
        book = loaded.runbook
        if not book.by_command:
            raise SickbayError(
                f"`{name}` is not for people to start: it answers alerts",
                advice="add `- command: true` to its triggers to allow it",
            )
        if book.kind == "mutate" and asker.person is None:
            raise SickbayError(
                f"`{name}` changes hosts, and I don't know you, {asker.name}",
                advice="ask to be added under `people:` in sickbay.yaml; looking is free to all",
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
            raise SickbayError(f"there is no run {number}", advice="`runs` lists the newest")
        return Reply(run_card(run_view(store, run)).without_buttons())

    # ── deciding ──
    def _decide(self, command: Decide, asker: Asker) -> Reply:
        person = self._known(asker, "decide about runs")
        run = self._store.runs.get(command.run)
        broken = self._planner.broken(run) if run is not None else ""
        refused = self._store.approvals.decide(
            command.run, person, command.answer, command.digest, broken=broken
        )
        if refused is not None:
            advice = "nothing was changed; start the runbook again for a new plan" if broken else ""
            raise SickbayError(refused, advice=advice)
        word = "approved" if command.answer == "approve" else "denied"
        return Reply(notice(say(f"listing.{word}", id=command.run)))

    def _cancel(self, run_id: int, asker: Asker) -> Reply:
        person = self._known(asker, "cancel runs")
        run = self._store.runs.get(run_id)
        if run is None:
            raise SickbayError(f"there is no run {run_id}", advice="`runs` lists the newest")
        if not self._store.runs.cancel(run_id, person.name):
            how = (
                f"ended already: {run.state}" if run.state.ended else f"being cancelled by {run.cancelled_by}"
            )
            raise SickbayError(f"run {run_id} is {how}" if not run.state.ended else f"run {run_id} has {how}")
        return Reply(notice(say("listing.cancelled", id=run_id)))

    def _known(self, asker: Asker, what: str) -> Person:
        if asker.person is None:
            raise SickbayError(
                f"I don't know you, {asker.name}, so you may not {what}",
                advice="ask to be added under `people:` in sickbay.yaml",
            )
        return asker.person
