"""The clock as somebody who asks: ticks of schedules become runs, and what those runs find becomes alerts.

A scheduled run speaks to nobody. What it finds, a check that failed, a host that is not well or one that cannot be
reached, is told as an alert of Sickbay's own, once for each runbook, host and step: routes, incidents and their ends are then those of any alert.
Found again it is counted; seen to be gone it is resolved; what was not looked at stays as it is.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection

from bot.alert import Alert
from bot.errors import SickbayError
from bot.guard.maintenance import Windows
from bot.inventory import Inventory
from bot.language.runbook import Step
from bot.language.schedule import Missed, Schedule, step
from bot.library import Loaded
from bot.program import ordered
from bot.runs.record import Record
from bot.runs.run import Attempt, Requester, Run, Status
from bot.store import Store
from bot.verdict import Verdict

log = logging.getLogger(__name__)

SOURCE = "schedule"
"""Where alerts of our own come from."""
FLEET = "@*"


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
        """Let go of schedules that are no more, with what they had found: nobody looks after it now."""
        store = self._store
        names = {one.runbook for one in self._schedules}
        with store.write() as tx:
            store.schedules.forget(tx, {(one.runbook, one.cron.expression) for one in self._schedules})
            for (runbook, *_), found in store.findings.open(tx).items():
                if runbook not in names:
                    self._end(tx, found)
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
            except SickbayError as error:
                note = f"not started: {error.what}"
                log.warning("%s was not started by its schedule: %s", name, error)
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
            raise SickbayError(f"all of {wanted} is in maintenance", advice="it goes on when that is over")
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

    # ── from runs to alerts ──
    def _take(self, tick_id: int, run_id: int) -> None:
        """Take in what a scheduled run found."""
        store = self._store
        run = store.runs.get(run_id)
        assert run is not None, "a run that is deleted is no tick's any more"
        seen = list(_seen(run, Record(store.attempts.of(run_id))))
        with store.write() as tx:
            if not store.schedules.take(tx, tick_id):
                return
            known = store.findings.open(tx, run.runbook.name)
            for attempt, title, how in seen:
                found = known.get((run.runbook.name, attempt.host, attempt.step))
                if how == "wrong" and found is None:
                    store.findings.begin(tx, self._alert(run, attempt, title), run_id)
                elif how == "wrong" and found is not None:
                    store.findings.repeat(tx, found, run_id)
                elif how == "well" and found is not None:
                    self._end(tx, found)
            steps = {one.id for _, one in ordered(run.runbook)}
            for (_, host, looked), found in known.items():
                if host not in self._inventory.hosts or looked not in steps:
                    self._end(tx, found)

    def _alert(self, run: Run, attempt: Attempt, title: str) -> Alert:
        labels = {
            "alertname": f"{run.runbook.name}/{attempt.step}",
            "host": attempt.host,
            "runbook": run.runbook.name,
            "step": attempt.step,
        }
        said = {"summary": f"{title}: {attempt.summary}", "run": str(run.id)}
        return Alert(SOURCE, _fingerprint(labels), "firing", self._store.now(), labels, said)

    def _end(self, tx: Connection, found: Mapping[str, Any]) -> None:
        labels = {
            "alertname": f"{found['runbook']}/{found['step']}",
            **{name: str(found[name]) for name in ("host", "runbook", "step")},
        }
        begun, now = found["begun_at"], self._store.now()
        self._store.findings.end(
            tx, Alert(SOURCE, _fingerprint(labels), "resolved", begun, labels, ends_at=now)
        )


def _fingerprint(labels: Mapping[str, str]) -> str:
    named = json.dumps([labels[name] for name in ("runbook", "host", "step")])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def _seen(run: Run, record: Record) -> Iterator[tuple[Attempt, str, Literal["wrong", "well", "unknown"]]]:
    """Yield what each check of a run says of a host; what a person cut short says nothing."""
    if run.cancelled_by is not None:
        return
    steps: list[Step] = [one for section, one in ordered(run.runbook) if section in ("steps", "verify")]
    for host in run.hosts:
        for one in steps:
            last = record.last(one.id, host)
            if last is not None and last.done:
                yield last, one.title, _how(last)


def _how(last: Attempt) -> Literal["wrong", "well", "unknown"]:
    if (
        last.status in (Status.FAILED, Status.UNREACHABLE, Status.UNKNOWN)
        or last.verdict is Verdict.UNHEALTHY
    ):
        return "wrong"
    well = last.status is Status.OK and last.verdict is not Verdict.UNKNOWN
    return "well" if well else "unknown"
