"""The engine: `advance` takes a run as far as it goes now.

Each effect is a row before and a row after: `begun` is committed before a command leaves, its result together with
the timeline's event after it came back. Everything between two rows may be lost to a crash; what was begun is then
asked of the host, never guessed. All writes carry the run's fence, so that an engine that was frozen and comes back
is refused. Nothing here knows Slack, SSH or SQL.
"""

import contextlib
import logging
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime, timedelta

from bot.effect import Command, Outcome, Output, Remote
from bot.errors import SickbayError
from bot.inventory import Host
from bot.judging import judged
from bot.plan import Entry
from bot.planner import Planner
from bot.program import Act, Ask, Call, Finish, Mutates, Record, Sleep, next_move
from bot.run import Attempt, Run, RunState, Status
from bot.steps.kind import CannotPlan, Context, Effect
from bot.store import Fenced, Store

log = logging.getLogger(__name__)


class Engine:
    """Advances runs; safe to call from many threads, one run at a time each."""

    def __init__(self, store: Store, planner: Planner, remote: Remote, *, side_by_side: int = 64) -> None:
        """Use at most `side_by_side` hosts at once, over all runs."""
        self._store = store
        self._planner = planner
        self._remote = remote
        self._pool = ThreadPoolExecutor(side_by_side, thread_name_prefix="host")
        self._cancels: dict[int, threading.Event] = {}
        self._closing = threading.Event()

    def cancel(self, run_id: int) -> None:
        """End the remote commands of a run that is being advanced, if it is."""
        if event := self._cancels.get(run_id):
            event.set()

    def close(self) -> None:
        """Stop without writing anything more: what is going on the hosts goes on and is asked for after the restart."""
        self._closing.set()
        self._remote.close()
        self._pool.shutdown(wait=False)

    def advance(self, run_id: int) -> None:
        """Do what the run can do now; return when it waits, ends, or was taken over."""
        run = self._store.runs.claim(run_id)
        if run is None:
            return
        flight = _Flight(self, run)
        self._cancels[run_id] = flight.cancel
        try:
            flight.fly()
        except Fenced:
            log.warning("run %s was taken over by another engine; leaving it", run_id)
        except Exception as error:
            if self._closing.is_set():
                return
            log.exception("run %s", run_id)
            flight.land()
            reason = f"Sickbay itself failed ({type(error).__name__}: {error}); its log has the details."
            with contextlib.suppress(Fenced):
                self._store.runs.finish(flight.run, RunState.NEEDS_HUMAN, reason, None)
        finally:
            self._cancels.pop(run_id, None)


class _Flight:
    """One run being advanced."""

    def __init__(self, engine: Engine, run: Run) -> None:
        self._engine = engine
        self._store = engine._store  # noqa: SLF001
        self._planner = engine._planner  # noqa: SLF001
        self.run = run
        self._record = Record()
        self._mutates: Mutates = frozenset()
        self._going: dict[Future[None], tuple[str, str, int]] = {}
        self.cancel = threading.Event()
        self._never = threading.Event()

    def fly(self) -> None:
        self._record = Record(self._store.attempts.of(self.run.id, with_output=True))
        self._mutates = self._planner.mutates(self.run.runbook)
        while not self._engine._closing.is_set():  # noqa: SLF001
            run = self._refresh()
            approval = self._store.approvals.get(run.id) if run.plan else None
            now = self._store.now()
            state = approval.state_at(now) if approval else None
            expires = approval.expires_at if approval else None
            move = next_move(run, self._record, self._mutates, state, expires, now)
            if isinstance(move, Act):
                self._start(move.calls)
            if self._going:
                self._wait(move.due if isinstance(move, Act) else None)
                continue
            match move:
                case Ask():
                    self._ask(run)
                case Sleep(until):
                    waiting = state == "pending"
                    wake = until if waiting else _sooner(until, run.deadline, now)
                    self._store.runs.sleep(run, wake, waiting=waiting)
                    return
                case Finish(final, reason, verdict):
                    if state == "expired":
                        self._store.approvals.expire(run)
                    self._store.runs.finish(run, final, reason, verdict)
                    return

    def _refresh(self) -> Run:
        self.run = self._store.runs.refresh(self.run)
        if self.run.cancelled_by is not None:
            self.cancel.set()
        return self.run

    def _ask(self, run: Run) -> None:
        hosts = [host for host in run.hosts if all(attempt.good for attempt in self._record.of(host))]
        plan = self._planner.plan(run, self._record, hosts)
        self._store.approvals.plan(run, plan, ask=plan.changes and run.mode == "approve")
        self.run = replace(run, plan=plan)

    def _start(self, calls: tuple[Call, ...]) -> None:
        going = set(self._going.values())
        for call in calls:
            place = (call.step.id, call.host, call.number)
            if place not in going:
                self._going[self._engine._pool.submit(self._make, call)] = place  # noqa: SLF001

    def _wait(self, due: datetime | None) -> None:
        patience = None if due is None else max(0.0, (due - self._store.now()).total_seconds())
        done, _ = wait(self._going, timeout=patience, return_when=FIRST_COMPLETED)
        for future in done:
            del self._going[future]
            if not self._engine._closing.is_set():  # noqa: SLF001
                future.result()

    def land(self) -> None:
        """End what is going on hosts and wait for it."""
        self.cancel.set()
        wait(self._going)

    def _make(self, call: Call) -> None:
        """Make one call and record it; runs in the pool."""
        if self._engine._closing.is_set():  # noqa: SLF001
            return
        run = self.run
        clean_up = call.section == "always"
        last = self._record.last(call.step.id, call.host)
        resumed = last if last is not None and not last.done else None
        if resumed is None and self.cancel.is_set() and not clean_up:
            return
        mutating = call.step.id in self._mutates
        attempt = resumed or Attempt(
            run.id, call.step.id, call.host, call.number, Status.BEGUN, self._store.now()
        )
        try:
            context = self._planner.context(run, call.host, self._record)
            planned = run.plan.entry(call.step.id, call.host) if run.plan else None
            if resumed is None and not self._wanted(call, planned, context):
                self._end(replace(attempt, status=Status.SKIPPED, summary=f"not needed: {call.step.when}"))
                return
            effect = self._effect(run, call, planned, context)
            host = self._host(effect.host or call.host)
            if mutating and resumed is None:
                self._lock(run, call.host)
            begun = resumed or self._store.attempts.begin(run, call.step.id, call.host, call.number)
        except SickbayError as error:
            status = Status.UNKNOWN if resumed and mutating else Status.FAILED
            told = replace(attempt, status=status, summary=error.what, advice=error.advice)
            self._end(replace(told, sent=resumed is not None))
            return
        self._record.add(begun)
        outcome = self._send(host, effect.command, begun, first=resumed is None, clean_up=clean_up)
        if self._engine._closing.is_set():  # noqa: SLF001
            return
        ended = judged(
            self._planner,
            call,
            begun,
            outcome,
            context,
            self._store.now(),
            mutating=mutating,
            where=host.name,
        )
        stdout, stderr = _streams(outcome)
        self._end(ended, stdout, stderr)

    def _wanted(self, call: Call, planned: Entry | None, context: Context) -> bool:
        """Is the step needed? Where the plan could tell, its word stands: that is what people approved."""
        if planned is not None and planned.decision != "later":
            return planned.decision == "run"
        return self._planner.wanted(call.step, context)

    def _effect(self, run: Run, call: Call, planned: Entry | None, context: Context) -> Effect:
        """Return the command as it stands in the plan; one that the plan could not know is made now."""
        if planned is not None and planned.text:
            command = Command(planned.text, planned.env, planned.timeout, planned.mutating)
            return Effect(command, planned.on)
        return self._planner.effect(run.runbook, call.step, context)

    def _host(self, name: str) -> Host:
        host = self._planner.inventory.hosts.get(name)
        if host is None:
            raise CannotPlan(f"{name} is not in the inventory", advice="add it under `hosts:`")
        return host

    def _send(self, host: Host, command: Command, begun: Attempt, *, first: bool, clean_up: bool) -> Outcome:
        if self.run.deadline is not None and not clean_up:
            left = (self.run.deadline - self._store.now()) / timedelta(seconds=1)
            command = replace(command, timeout=max(1.0, min(command.timeout, left)))
        return self._engine._remote.run(  # noqa: SLF001
            host,
            command,
            key=f"{self.run.created_at:%Y%m%dT%H%M%S.%f}/{begun.key}",  # a new database begins again at run 1
            first_sent=None if first else begun.begun_at,
            cancel=self._never if clean_up else self.cancel,
        )

    def _lock(self, run: Run, host: str) -> None:
        if held := self._store.runs.lock_hosts(run, (host,)):
            owner = held[host]
            raise CannotPlan(
                f"{host} is being changed by run {owner}",
                advice=f"wait for run {owner}, or `sickbay cancel {owner}`, then start again",
            )

    def _end(self, attempt: Attempt, stdout: Output | None = None, stderr: Output | None = None) -> None:
        self._store.attempts.end(self.run, attempt, stdout, stderr)
        self._record.add(attempt)


def _sooner(until: datetime | None, deadline: datetime | None, now: datetime) -> datetime | None:
    """Return when to wake: a deadline that is still to come does not wait for the next retry."""
    ahead = [moment for moment in (until, deadline if deadline and deadline > now else None) if moment]
    return min(ahead, default=None)


def _streams(outcome: Outcome) -> tuple[Output | None, Output | None]:
    stdout, stderr = getattr(outcome, "stdout", None), getattr(outcome, "stderr", None)
    return stdout, stderr
