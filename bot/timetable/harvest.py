"""From what a scheduled run saw to findings: opened, counted, ended.

What is certain is told at once. What nobody can tell is told when it was so the last time, too: a hiccup is no finding,
and neither is an end of one. While most hosts cannot be told of, one finding speaks for them all.
"""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import Connection

from bot.finding import Finding, Place
from bot.messages.short import took
from bot.program import ordered
from bot.runs.run import Run
from bot.store import Store
from bot.timetable.sight import How, Sight, together

GONE = "no longer looked at"


class Harvest:
    """Takes in what runs of one runbook saw."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, tx: Connection, run: Run, seen: list[Sight], watched: Collection[str] | None) -> None:
        """Take in a run; `watched` are the hosts of its schedule now, None where nobody can say."""
        store, name = self._store, run.runbook.name
        steps = {one.id for _, one in ordered(run.runbook)}
        known = store.findings.open(tx, name)
        doubts = store.findings.doubts(tx, name)

        def kept(place: Place) -> bool:
            if not place.host:
                return True
            return (watched is None or place.host in watched) and (not place.step or place.step in steps)

        self.let_go(tx, [place for place in {*known, *doubts} if not kept(place)])
        seen = [one for one in seen if kept(one.place)]
        if not seen:
            return
        hosts = {one.place.host for one in seen}
        all_at_once = together(name, seen, len(hosts), already=Place(name) in known)
        # the first time that it is most hosts, those that were in doubt before are told of as ever
        told = all_at_once.how is How.UNTOLD and (all_at_once.place in known or all_at_once.place in doubts)
        for one in (*seen, all_at_once):
            found, since = known.get(one.place), doubts.get(one.place)
            folded = told and one is not all_at_once
            match one.how:
                case How.WRONG:
                    self._wrong(tx, run, one, found)
                case How.WELL if found is not None:
                    store.findings.end(tx, found)
                case How.UNTOLD if found is not None and not found.sure:
                    store.findings.repeat(tx, found, run.id, said=one.what if one.hosts else "")
                case How.UNTOLD if found is None and since is not None and not folded:
                    now = store.now()
                    begun = Finding(one.place, sure=False, begun_at=now, hosts=one.hosts)
                    lasts = took(max(now - since, timedelta(0)))
                    store.findings.begin(
                        tx, begun, f"{one.what}: cannot be told for {lasts}: {one.said}", run.id
                    )
        sure = [one.place for one in (*seen, all_at_once) if one.how is not How.UNTOLD]
        store.findings.settle(tx, [place for place in sure if place in doubts])
        unsure = [one.place for one in (*seen, all_at_once) if one.how is How.UNTOLD]
        store.findings.doubt(tx, [place for place in unsure if place not in doubts])

    def _wrong(self, tx: Connection, run: Run, one: Sight, found: Finding | None) -> None:
        """Open what is wrong for certain, in the place of what could not be told."""
        findings = self._store.findings
        if found is not None and found.sure:
            findings.repeat(tx, found, run.id)
            return
        if found is not None:
            findings.end(tx, found, "it can be told again, and is wrong")
        begun = Finding(one.place, sure=True, begun_at=self._store.now())
        findings.begin(tx, begun, f"{one.what}: {one.said}", run.id)

    def let_go(self, tx: Connection, places: Collection[Place]) -> None:
        """End what was found and doubted at places that nobody looks at any more."""
        findings = self._store.findings
        known = findings.open(tx)
        for place in places:
            if place in known:
                findings.end(tx, known[place], GONE)
        findings.settle(tx, places)
