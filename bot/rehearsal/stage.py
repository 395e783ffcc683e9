"""One case on its stage: an inventory, an empty store, hosts with a script, and a clock that passes only where it must."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.alert import Alert
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.errors import SickbayError
from bot.inventory import Host, Inventory, fold
from bot.library import Loaded
from bot.program import ordered
from bot.rehearsal.case import Case, Reply
from bot.rehearsal.reading import Reading, told
from bot.rehearsal.script import BEGIN, Bend, ScriptedRemote, Sent, Stopwatch
from bot.route import lower
from bot.runs.approval import Approval, Person
from bot.runs.plan import Entry
from bot.runs.record import Record
from bot.runs.run import Attempt, Requester, Run
from bot.steps import KINDS
from bot.steps.kind import Kind
from bot.store import Store
from bot.wording import count

MOST_TURNS = 10_000
"""How often a run may rest; far beyond what retries can ask for."""


_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for one play: in memory where there is such a place, because nothing of it has to last."""
    memory = os.access(_MEMORY, os.W_OK)
    return tempfile.TemporaryDirectory(prefix="sickbay-test-", dir=_MEMORY if memory else None)


@dataclass(frozen=True, slots=True)
class Played:
    """What is left of a case that was played."""

    run: Run
    attempts: Sequence[Attempt]
    mutates: frozenset[str]
    """Ids of the steps that change hosts."""
    approval: Approval | None = None
    piecemeal: frozenset[str] = frozenset()
    """Ids of the steps for which part of an answer is worth having."""
    kept: frozenset[str] = frozenset()
    """Hosts that are out of traffic on purpose: `drains` lists them, with why."""
    sent: Sequence[Sent] = ()
    """Every command, in the order they went out."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is not as a case says."""

    text: str
    at: tuple[str | int, ...] = ()
    """Where in the case it says so."""


class Stage:
    """Where one case is played, once."""

    def __init__(
        self,
        case: Case,
        loaded: Loaded,
        folder: Path,
        *,
        bend: Bend | None = None,
        spare: Sequence[Reply] = (),
        kinds: Mapping[str, Kind] = KINDS,
    ) -> None:
        """`bend` makes other outcomes of what hosts answer; `spare` replies are there for what only then is asked."""
        self._case = case
        self._kinds = kinds
        self._loaded = loaded
        self._folder = folder
        self._clock = Stopwatch()
        self._remote = ScriptedRemote([*case.given.replies, *spare], self._clock, bend)
        self._inventory = Inventory(
            Host(name, host.address, vars=host.vars, groups=tuple(host.groups))
            for name, host in case.given.hosts.items()
        )
        self._refused: list[str] = []
        self._reading = Reading()

    def problems(self) -> list[Problem]:
        """Play the case and compare."""
        played = self.played()
        return [
            *map(Problem, self._refused),
            *map(Problem, self._remote.problems()),
            *map(Problem, self._compared(played.run, played.attempts)),
            *self._asked(),
            *self._read(),
        ]

    def played(self) -> Played:
        """Play the case to its end."""
        store = Store(self._folder / "test.db", self._clock)
        planner = Planner(self._kinds, self._inventory)
        engine = Engine(store, planner, self._remote, successes=0)
        try:
            run = self._play(store, engine)
            return Played(
                run,
                store.attempts.of(run.id),
                planner.mutates(run.runbook),
                store.approvals.get(run.id),
                frozenset(step.id for _, step in ordered(run.runbook) if planner.partial(step)),
                frozenset(one.host for one in store.drains.open() if one.keep),
                tuple(self._remote.sent),
            )
        finally:
            engine.close()
            store.close()

    def _play(self, store: Store, engine: Engine) -> Run:
        run_id = self._start(store)
        people = [(name, "approve") for name in self._case.approve]
        people += [(self._case.deny, "deny")] if self._case.deny else []
        asked: dict[str, Person] = {}
        for _ in range(MOST_TURNS):
            engine.advance(run_id)
            run = store.runs.get(run_id)
            assert run is not None
            self._reading.look(store, run, cards=bool(self._case.expect.messages))
            if run.state.ended:
                self._refused += [f"{name} was not asked for approval" for name, _ in people]
                return run
            approval = store.approvals.get(run_id)
            if approval is not None and approval.state == "pending" and people:
                name, answer = people.pop(0)
                person = Person(name, roles=tuple(approval.rule.from_))
                asked[name] = person
                refusal = store.approvals.decide(run_id, person, answer, people=asked)  # type: ignore[arg-type]
                self._refused += [f"{name} could not {answer}: {refusal}"] if refusal else []
            elif run.wake_at is not None:
                self._clock.reach(run.wake_at)
            else:
                raise SickbayError("the run waits for something that this test cannot give")
        raise SickbayError(f"the run did not end within {MOST_TURNS} turns")

    def _start(self, store: Store) -> int:
        given, book = self._case.given, self._loaded.runbook
        requester = Requester(given.requester or "somebody", given.requester or None)
        alert: dict[str, Any] | None = None
        on = given.on or next(iter(given.hosts))
        if given.alert is not None:
            one = Alert("test", "test", "firing", BEGIN, given.alert.labels, given.alert.annotations)
            machine = self._inventory.called(one.machines)
            host = machine.name if machine is not None else None
            alert = one.as_seen(host)
            on = given.on or host or on
            requester = requester if given.requester else Requester(f"alert {one.name}", via="alert")
        hosts = tuple(host.name for host in self._inventory.select(on))
        with store.write() as tx:
            return store.runs.create(
                tx,
                runbook=book,
                digest=self._loaded.digest,
                hosts=hosts,
                inputs=book.fill(given.inputs),
                mode=lower(book.mode, given.mode or book.mode),
                requester=requester,
                channel="test",
                alert=alert,
            )

    def _compared(self, run: Run, attempts: Sequence[Attempt]) -> Iterator[str]:
        expect = self._case.expect
        if run.state != expect.state:
            yield f"expected the run to be {expect.state}, it is {run.state}: {run.reason or 'no reason given'}"
        if "verdict" in expect.model_fields_set and run.verdict != expect.verdict:
            yield f"expected the verdict {expect.verdict or 'null'}, it is {run.verdict or 'null'}"
        if expect.reason not in run.reason:
            yield f"expected {expect.reason!r} in the reason, which is {run.reason!r}"
        lines = [_line(entry) for entry in run.plan.entries] if run.plan else []
        for text in expect.plan:
            if not any(text in line for line in lines):
                yield f"expected {text!r} in the plan, which is:" + "".join(
                    f"\n  {line}" for line in lines or ["none"]
                )
        yield from self._steps(Record(attempts))

    def _asked(self) -> Iterator[Problem]:
        """Compare the questions with those that the case expects, each at its line."""
        wanted, at = self._case.expect.approvals, ("expect", "approvals")
        asked = list(zip(self._reading.hosts, self._reading.answers, strict=True))
        if wanted is None:
            return
        number, questions = (wanted, []) if isinstance(wanted, int) else (len(wanted), wanted)
        if number != len(asked):
            yield Problem(f"expected {count(number, 'question')} to people, asked were: {told(asked)}", at)
        for index, (one, (hosts, answer)) in enumerate(zip(questions, asked, strict=False)):
            about = {host.name for host in self._inventory.select(one.hosts)} if one.hosts else set(hosts)
            if about != set(hosts):
                yield Problem(
                    f"expected a question about {one.hosts}, it was about {fold(hosts)}", (*at, index)
                )
            if one.answer not in (None, answer):
                yield Problem(f"expected the question to be {one.answer}, it is {answer}", (*at, index))

    def _read(self) -> Iterator[Problem]:
        """Find what people are expected to have read, each at its line."""
        for index, text in enumerate(self._case.expect.messages):
            if not self._reading.has(text):
                what = f"expected people to read {text!r}; nearest is {self._reading.nearest(text)!r}"
                yield Problem(what, ("expect", "messages", index))

    def _steps(self, record: Record) -> Iterator[str]:
        known = [step.id for _, step in ordered(self._loaded.runbook)]
        for host, steps in self._case.expect.steps.items():
            if host not in self._inventory.hosts:
                yield f"`expect` names the host {host}, which is not given"
                continue
            for step, word in steps.items():
                last = record.last(step, host)
                if step not in known:
                    yield f"`expect` names the step {step}, which the runbook does not have ({', '.join(known)})"
                elif word not in words_of(last):
                    seen = f"{' and '.join(words_of(last))}: {last.summary}" if last else "not run"
                    yield f"expected step {step} on {host} to be {word}, it is {seen}"


def words_of(attempt: Attempt | None) -> list[str]:
    """Return how an attempt ended, and its verdict if it has one."""
    if attempt is None:
        return ["not run"]
    return [str(attempt.status), *([str(attempt.verdict)] if attempt.verdict else [])]


def _line(entry: Entry) -> str:
    """One line of the plan as tests read it."""
    values = "".join(f" {name}={value}" for name, value in entry.env.items())
    place = f" on {entry.on}" if entry.on else ""
    note = f" ({entry.note})" if entry.note else ""
    text = " ".join(f"{entry.says} {entry.text}{values}".split())
    return f"{entry.host} {entry.step}: {entry.decision}{note}{place} {text}".rstrip()
