"""Ticks of schedules become runs, and what those runs saw is taken in.

A schedule that cannot start, because its runbook was edited into a mistake or its hosts are gone, is a finding of its own.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from bot.errors import SickbayError
from bot.finding import Finding, Place
from bot.guard.maintenance import Windows
from bot.inventory import Inventory
from bot.language.runbook import Runbook
from bot.language.schedule import Missed, Schedule, step
from bot.library import Loaded
from bot.runs.record import Record
from bot.runs.run import Requester
from bot.store import Store
from bot.timetable.harvest import Harvest
from bot.timetable.sight import sights

log = logging.getLogger(__name__)

FLEET = "@*"


class Resting(SickbayError):
    """There is nothing to look at for now, and that is as it should be."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How all schedules are kept."""

    jitter: timedelta = timedelta(seconds=30)
    """Each is late by its own part of it, always the same."""
    missed: Missed = "skip"


class Timetable:
    """All schedules; one thread looks at them, and a second process may."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        library: Mapping[str, Loaded],
        schedules: Sequence[Schedule],
        rules: Rules = Rules(),
        windows: Windows | None = None,
    ) -> None:
        """Hosts inside `windows` are not looked at: what is worked on is not well, and needs no alert."""
        self._windows = windows or Windows()
        self._store = store
        self._inventory = inventory
        self._library = library
        self._schedules = schedules
        self._rules = rules
        self._harvest = Harvest(store)
        self._begun = False
        self._due: dict[Schedule, tuple[datetime, datetime]] = {}
        """When each was last looked at, and when it has to be looked at again."""

    def turn(self) -> None:
        """Start what is due, and take in what was found; nothing is written when there is nothing."""
        if not self._begun:
            self._begin()
        for tick_id, run_id in self._store.schedules.untaken():
            self._take(tick_id, run_id)
        for schedule in self._schedules:
            now = self._store.now()
            looked, due = self._due[schedule]
            if now >= due or now < looked:
                self._look(schedule)

    def next_wake(self) -> datetime | None:
        """Return when something is due."""
        return min((due for _, due in self._due.values()), default=None)

    # ── from ticks to runs ──
    def _begin(self) -> None:
        """Let go of schedules that are no more, and of what was found where nobody looks any more."""
        store = self._store
        watched = {
            name: self._watched(self._library[name].runbook)
            for name in {one.runbook for one in self._schedules}
        }
        expressions = {(one.runbook, one.cron.expression) for one in self._schedules}

        def kept(place: Place) -> bool:
            if place.runbook not in watched:
                return False
            if not place.host:
                return not place.step or (place.runbook, place.step) in expressions
            hosts = watched[place.runbook]
            return hosts is None or place.host in hosts

        with store.write() as tx:
            store.schedules.forget(tx, expressions)
            known = {*store.findings.open(tx), *store.findings.doubts(tx)}
            self._harvest.let_go(tx, [place for place in known if not kept(place)])
        for schedule in self._schedules:
            self._look(schedule)
        self._begun = True

    def _look(self, schedule: Schedule) -> None:
        """Bring one schedule to where the clock is."""
        store, cron = self._store, schedule.cron
        with store.write() as tx:
            now = store.now()
            stood = store.schedules.standing(tx, schedule.runbook, cron.expression)
            late = schedule.offset(stood.since, self._rules.jitter)
            moved = step(
                cron,
                stood.cursor,
                max(now - late, stood.since),
                self._rules.missed,
                lambda tick: store.schedules.ran(tx, schedule.runbook, tick),
            )
            if moved.cursor != stood.cursor:
                store.schedules.move(tx, schedule.runbook, cron.expression, moved.cursor)
            if moved.missed:
                log.warning("%s: %s scheduled times were missed", schedule.runbook, moved.missed)
                self._store.timeline.tell(tx, "schedule.missed", runbook=schedule.runbook, count=moved.missed)
            if moved.tick is not None:
                self._run(tx, schedule, moved.tick)
        following = cron.after(max(moved.cursor, now - late))
        self._due[schedule] = (
            now,
            (following + late if following else datetime.max.replace(tzinfo=now.tzinfo)),
        )

    def _run(self, tx: Connection, schedule: Schedule, tick: datetime) -> None:
        """Start the run of a tick, or say why there is none."""
        store, name = self._store, schedule.runbook
        run, note = None, ""
        if (going := store.schedules.going(tx, name)) is not None:
            note = f"run {going}, started before, still goes"
        else:
            try:
                run = self._started(tx, schedule)
                self._goes(tx, schedule)
            except Resting as error:
                note = f"not started: {error.what}"
                self._goes(tx, schedule)
            except SickbayError as error:
                note = f"not started: {error.what}"
                log.warning("%s was not started by its schedule: %s", name, error)
                self._stuck(tx, schedule, error)
        store.schedules.keep(tx, name, tick, run=run, note=note)
        if note:
            store.timeline.tell(tx, "schedule.skipped", runbook=name, tick=tick.isoformat(), why=note)

    def _started(self, tx: Connection, schedule: Schedule) -> int:
        loaded = self._library[schedule.runbook].fresh()
        book = loaded.runbook
        if book.kind != "observe" or (schedule.own and schedule.cron.expression not in book.schedules):
            raise SickbayError(
                "its file says so no longer",
                advice="start Sickbay again, so that it reads all schedules anew",
            )
        wanted = schedule.hosts or book.hosts or FLEET
        now, every = self._store.now(), [host.name for host in self._inventory.select(wanted)]
        hosts = tuple(host for host in every if not self._windows.at(host, now))
        if not hosts:
            raise Resting(f"all of {wanted} is in maintenance", advice="it goes on when that is over")
        return self._store.runs.create(
            tx,
            runbook=book,
            digest=loaded.digest,
            hosts=hosts,
            host_set=wanted,
            inputs=book.fill({}),
            mode=book.mode,
            requester=Requester(f"schedule {schedule.cron.expression}", via="schedule"),
            channel="",
        )

    # ── schedules that cannot start ──
    def _stuck(self, tx: Connection, schedule: Schedule, error: SickbayError) -> None:
        """Tell that a schedule starts nothing any more: once, and until it does."""
        findings, place = self._store.findings, Place(schedule.runbook, step=schedule.cron.expression)
        if (found := findings.open(tx, schedule.runbook).get(place)) is not None:
            findings.repeat(tx, found)
            return
        what = f"{error.where}: {error.what}" if error.where else error.what
        summary = f"Its schedule, {place.step}, cannot start it: {what}. {error.advice}".strip()
        findings.begin(tx, Finding(place, sure=True, begun_at=self._store.now()), summary)

    def _goes(self, tx: Connection, schedule: Schedule) -> None:
        place = Place(schedule.runbook, step=schedule.cron.expression)
        if (found := self._store.findings.open(tx, schedule.runbook).get(place)) is not None:
            self._store.findings.end(tx, found)

    # ── from runs to findings ──
    def _take(self, tick_id: int, run_id: int) -> None:
        """Take in what a scheduled run found."""
        store = self._store
        run = store.runs.get(run_id)
        assert run is not None, "a run that is deleted is no tick's any more"
        seen = sights(run, Record(store.attempts.of(run_id)))
        scheduled = any(one.runbook == run.runbook.name for one in self._schedules)
        with store.write() as tx:
            if store.schedules.take(tx, tick_id) and scheduled:
                self._harvest.take(tx, run, seen, self._watched(run.runbook))

    def _watched(self, book: Runbook) -> frozenset[str] | None:
        """Return the hosts that the schedules of a runbook look at; None: that cannot be read."""
        sets = {one.hosts or book.hosts or FLEET for one in self._schedules if one.runbook == book.name}
        try:
            return frozenset().union(*(self._inventory.covers(hosts) for hosts in sets))
        except SickbayError:
            return None
