"""`sickbay test`: the tests beside the runbooks, replayed by the real engine without a host.

Everything is real but the hosts, the people and the time: planner, engine and store do what they do in production, so
a test that passes says what would happen. A command that the test does not expect, or a reply that nobody asked for,
fails the test: both mean that the runbook is not what its test says.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.alert import Alert
from bot.approval import Person
from bot.engine import Engine
from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.inventory import Host, Inventory
from bot.library import Loaded, load_runbook
from bot.plan import Entry
from bot.planner import Planner
from bot.program import ordered
from bot.record import Record
from bot.rehearsal.case import Case
from bot.rehearsal.script import BEGIN, ScriptedRemote, Stopwatch
from bot.run import Attempt, Requester, Run
from bot.schema import Document, Invalid, read, validate
from bot.steps import KINDS
from bot.store import Store

SUFFIX = ".test.yaml"
MOST_TURNS = 10_000
"""How often a run may rest; far beyond what retries can ask for."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one case."""

    name: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Did all come as expected?"""
        return not self.problems


def rehearse(paths: Iterable[Path]) -> Iterator[Result]:
    """Replay all cases of these files, and of all test files in these folders.

    Raises:
        SickbayError: when there is no such file or folder.

    """
    for path in paths:
        if path.is_dir():
            files = sorted(path.glob(f"*{SUFFIX}"))
        elif path.is_file() and path.name.endswith(SUFFIX):
            files = [path]
        else:
            what = "no test of a runbook" if path.exists() else "no such file or folder"
            raise SickbayError(what, where=str(path), advice=f"tests are called NAME{SUFFIX}")
        for file in files:
            yield from _replay_file(file)


def _replay_file(file: Path) -> Iterator[Result]:
    book = file.with_name(file.name.removesuffix(SUFFIX) + ".yaml")
    try:
        loaded = load_runbook(book, kinds=KINDS, parsers=PARSERS)
        document = read(file.read_bytes(), file=str(file))
    except SickbayError as error:
        yield Result(file.name, tuple(str(error).splitlines()))
        return
    if not isinstance(document.data, dict):
        yield Result(file.name, (f"{file}:1: expected a mapping from the names of cases to cases",))
        return
    for name in document.data:
        yield Result(f"{loaded.runbook.name}: {name}", tuple(_replay(document, name, loaded)))


def _replay(document: Document, name: str, loaded: Loaded) -> Iterator[str]:
    """Yield what is not as expected, each with the line of its case."""
    place = f"{document.file}:{document.line((name,))}"
    try:
        case = validate(Case, document, (name,))
        with tempfile.TemporaryDirectory(prefix="sickbay-test-") as folder:
            for problem in _Stage(case, loaded, Path(folder)).problems():
                yield f"{place}: {problem}"
    except Invalid as error:
        yield from map(str, error.mistakes)
    except SickbayError as error:
        yield f"{place}: {error.what}" + (f" ({error.advice})" if error.advice else "")


class _Stage:
    """One case on its stage: an inventory, an empty store, hosts with a script, and a clock."""

    def __init__(self, case: Case, loaded: Loaded, folder: Path) -> None:
        self._case = case
        self._loaded = loaded
        self._folder = folder
        self._clock = Stopwatch()
        self._remote = ScriptedRemote(case.given.replies, self._clock)
        self._inventory = Inventory(
            Host(name, host.address, vars=host.vars, groups=tuple(host.groups))
            for name, host in case.given.hosts.items()
        )
        self._refused: list[str] = []

    def problems(self) -> list[str]:
        """Play the case and compare."""
        store = Store(self._folder / "test.db", self._clock)
        engine = Engine(store, Planner(KINDS, self._inventory), self._remote, successes=0)
        try:
            run = self._play(store, engine)
            return [
                *self._refused,
                *self._remote.problems(),
                *self._compared(run, store.attempts.of(run.id)),
            ]
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
            host = next((name for name in one.machines if name in self._inventory.hosts), None)
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
                mode=book.mode,
                requester=requester,
                channel="test",
                alert=alert,
            )

    def _compared(self, run: Run, attempts: list[Attempt]) -> Iterator[str]:
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
                elif word not in _words(last):
                    seen = f"{' and '.join(_words(last))}: {last.summary}" if last else "not run"
                    yield f"expected step {step} on {host} to be {word}, it is {seen}"


def _words(attempt: Attempt | None) -> list[str]:
    """How an attempt ended, and its verdict."""
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
