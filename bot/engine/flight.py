"""One run being advanced: what may go is sent, what comes back is judged and recorded, until it rests or ends.

Each effect is a row before and a row after: `begun` is committed before a command leaves, its result together with
the timeline's event after it came back. Everything between two rows may be lost to a crash; what was begun is then
asked of the host, never guessed. All writes carry the run's fence, so that an engine that was frozen and comes back
is refused.

Nothing here waits for a host. Outcomes come through a queue, in whatever order hosts answer, and what is ready at the
same time is written in one transaction; so a thousand hosts take one thread, and a dead one delays none of the others.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

from bot.effect import Cancelled, Finished, Pending, Remote, TimedOut
from bot.engine.holding import Holding
from bot.engine.judging import clocked, judged, sealed
from bot.engine.leaving import leaving, owned
from bot.engine.planner import Planner
from bot.engine.preparing import Ready, prepared, refused
from bot.engine.rails import Rails
from bot.errors import SickbayError
from bot.guard.autonomy import SUCCESSES, proved, settled, verified
from bot.guard.freshness import Stale
from bot.program import CLEAN_UP, Act, Ask, Finish, Mutates, Parts, Sleep, next_move, ordered
from bot.runs.column import Call
from bot.runs.looks import begins, counted_again, seen_again
from bot.runs.plan import Entry
from bot.runs.record import Record
from bot.runs.run import Attempt, Run, Status
from bot.store import Store, Streams

SLICE = 64
"""Commands that leave, and outcomes that are taken in, between two looks at the whole."""

LONGEST = 0.1
"""Seconds that an outcome waits at most for others to be taken in with it."""

Place = tuple[str, str, int]
"""Step, host, number."""


@dataclass(eq=False, slots=True)
class _Sent:
    """A command that is on its way."""

    ready: Ready
    begun: Attempt
    streams: Streams
    pending: Pending
    sent_at: datetime
    came_at: datetime | None = None
    """When the outcome was here, which is earlier than when it is judged."""
    cancelled: bool = False

    @property
    def place(self) -> Place:
        return self.begun.step, self.begun.host, self.begun.number


class Flight:
    """One run, from its claim to where it rests."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        remote: Remote,
        run: Run,
        closing: threading.Event,
        rails: Rails,
        *,
        successes: int = SUCCESSES,
    ) -> None:
        """`closing` ends it without writing anything more; `successes` are what `mode: auto` takes."""
        self._successes = successes
        self._store = store
        self._planner = planner
        self._remote = remote
        self._closing = closing
        self._rails = rails
        self._waits = ""
        self.run = run
        self._record = Record()
        self._mutates: Mutates = frozenset()
        self._order = {step.id: at for at, (_, step) in enumerate(ordered(run.runbook))}
        self._planned: dict[tuple[str, str], Entry] = {}
        self._locked: set[str] = set()
        self._since = store.now()
        self._going: dict[Place, _Sent] = {}
        self._news: SimpleQueue[_Sent | None] = SimpleQueue()
        self._cancelled = threading.Event()
        self._broken = ""
        self._plan = Holding(store, planner)
        self._heard = time.monotonic()

    # ── from other threads ──
    def cancel(self) -> None:
        """End the commands that are going, but those of the clean-up."""
        self._cancelled.set()
        self.wake()

    def wake(self) -> None:
        """Look again at what is to be done."""
        self._news.put(None)

    # ── in its own ──
    def fly(self) -> None:
        """Do what the run can do now."""
        self._mutates = self._planner.mutates(self.run.runbook)
        self._since = self._store.now()
        self._read()
        self._locked = {host for host in self.run.hosts if self._record.changed(host, self._mutates)}
        self._index()
        while not self._closing.is_set():
            run = self._refresh()
            approval = self._store.approvals.get(run.id) if run.plan or run.former else None
            now = self._store.now()
            state = approval.state_at(now) if approval else None
            expires = approval.expires_at if approval else None
            move = next_move(run, self._record, self._mutates, state, expires, now, broken=self._broken)
            if not isinstance(move, Finish) and not self._plan.holds(run):
                continue
            if isinstance(move, Act):
                more = self._start(move.calls)
                if self._waits and not self._going:
                    self._store.runs.queue(run, self._record.anew, self._waits)
                    return
                rest = max(timedelta(), move.due - self._store.now()) if move.due is not None else None
                self._hear(timedelta() if more or not self._going else rest)
                continue
            match move:
                case Ask(without):
                    if not self._ask(run, without):
                        return
                case Sleep(until):
                    waiting = state == "pending"
                    wake = until if waiting else _sooner(until, run.deadline, now)
                    self._store.runs.sleep(run, wake, waiting=waiting)
                    return
                case Finish(final, reason, verdict):
                    if state == "expired":
                        self._store.approvals.expire(run)
                    through = verified(run.runbook.verify, run.hosts, self._record.last)
                    proof = self._proved(run)
                    self._store.runs.finish(run, final, reason, verdict, proved=proof, verified=through)
                    return

    def crash(self, reason: str) -> None:
        """After a mistake of ours: end what is going on hosts, wait for it, and record what can be.

        When it flies again it does what is done in any case, and nothing else.
        """
        self._broken = reason
        self.cancel()
        self._end_cancelled()
        wait([sent.pending.outcome for sent in self._going.values()])
        if self._closing.is_set():
            return
        for sent in list(self._going.values()):
            with contextlib.suppress(Exception):
                self._record_ends([self._judge(sent)])
        open_ones = [one for one in self._store.attempts.of(self.run.id) if not one.done]
        self._record_ends([(self._unseen(one), None) for one in open_ones])

    def _unseen(self, begun: Attempt) -> Attempt:
        """Return the attempt of a command whose end was lost by a mistake of ours."""
        status = Status.UNKNOWN if begun.step in self._mutates else Status.FAILED
        summary = "Sickbay itself failed before it was written down how this ended"
        return replace(begun, status=status, summary=summary, ended_at=self._store.now())

    def leave(self) -> None:
        """Forget what is still going: it is asked for by whoever takes the run over."""
        for sent in self._going.values():
            self._store.outputs.leave(sent.streams)

    def _refresh(self) -> Run:
        self.run = self._store.runs.refresh(self.run)
        if self.run.cancelled_by is not None:
            self._cancelled.set()
        return self.run

    def _read(self) -> None:
        """Read what has been recorded; what was looked at again counts from there on."""
        run = self.run
        look = Parts.of(run.runbook, self._mutates).look
        self._record = Record(self._store.attempts.of(run.id), self._printed, begins(run, look))

    def _ask(self, run: Run, without: tuple[tuple[str, str], ...]) -> bool:
        """Make the plan, and ask about it; false when the run has ended instead."""
        if run.plan is not None:
            plan = replace(run.plan, without=(*run.plan.without, *without))
            self._store.approvals.plan(run, plan, ask=True, lowered=run.lowered)
            self.run = replace(run, plan=plan)
            return True
        hosts = [host for host in run.hosts if all(attempt.good for attempt in self._record.of(host))]
        plan = self._planner.plan(run, self._record, hosts)
        earned = self._store.runs.earned(plan.runbook, plan.runbook_digest)
        mode, lowered = settled(run.mode, earned, self._successes) if plan.changes else (run.mode, "")
        ask = plan.changes and mode == "approve"
        if ask and (end := self._rails.rested(run, self._record, plan)):
            self._store.runs.finish(run, *end, None)
            return False
        self._rails.wish(run, plan)
        plan = self._store.approvals.plan(run, plan, ask=ask, lowered=lowered)
        self.run = replace(run, plan=plan, former=None, mode=mode, lowered=lowered)
        self._index()
        return True

    def _proved(self, run: Run) -> bool | None:
        """Did verify pass where something was changed? What a person cancelled proves nothing."""
        if run.plan is None or run.cancelled_by is not None:
            return None
        return proved(run.runbook.verify, run.hosts, self._record.last)

    def _index(self) -> None:
        entries = self.run.plan.entries if self.run.plan else ()
        self._planned = {(entry.step, entry.host): entry for entry in entries}

    def _printed(self, attempt: Attempt) -> tuple[str, str]:
        stdout, stderr = self._store.attempts.output(attempt)
        return stdout.text, stderr.text

    # ── out ──
    def _start(self, calls: Sequence[Call]) -> bool:
        """Send some of what may go, on all hosts the first step before the second; return whether there is more."""
        fresh = [call for call in calls if (call.step.id, call.host, call.number) not in self._going]
        fresh.sort(key=lambda call: self._order.get(call.step.id, -1))
        made = [self._prepare(call) for call in fresh[:SLICE] if self._may(call)]
        over = [one for one in made if isinstance(one, Attempt)]
        ready = self._take([one for one in made if isinstance(one, Ready)], over)
        if self.run.begun_at is None and any(one.mutating for one in ready):
            self.run = replace(self.run, begun_at=self._plan.begin(self.run))
            ready = [one for one in ready if self.run.begun_at or not one.mutating]
        going, theirs = leaving(self._store, self.run, ready, self._record, self._mutates, self._rails.world)
        stopped = [self._send(one, begun) for one, begun in going]
        over += [*theirs, *(attempt for attempt in stopped if attempt is not None)]
        self._record_ends([(attempt, None) for attempt in over])
        self._end_cancelled()
        return len(fresh) > SLICE

    def _may(self, call: Call) -> bool:
        """May it still be started? What has begun is asked for also after a cancel."""
        last = self._record.last(call.step.id, call.host)
        begun = last is not None and not last.done
        return begun or call.section in CLEAN_UP or not self._cancelled.is_set()

    def _prepare(self, call: Call) -> Ready | Attempt:
        return prepared(
            self._planner,
            self.run,
            self._record,
            call,
            self._planned.get((call.step.id, call.host)),
            self._store.now(),
            mutating=call.step.id in self._mutates,
        )

    def _take(self, ready: list[Ready], over: list[Attempt]) -> list[Ready]:
        """Take the hosts that are to be changed; what the guard refuses goes to `over`, what has to wait to nowhere."""
        taken = self._rails.take(self.run, self._record, ready, self._locked, self._since)
        over += taken.over
        self._waits = taken.waits
        if taken.again or taken.count:
            counted = taken.again or {one.call.host for one in ready if one.mutating and not one.clean_up}
            self._look_again(taken.again, counted_again(self.run, self._record, counted), taken.count)
        return taken.free

    def _look_again(self, hosts: Mapping[str, Stale], counts: Mapping[str, int], why: str) -> None:
        """Let these hosts be looked at, and the replicas be counted, again before they are changed."""
        look = Parts.of(self.run.runbook, self._mutates).look
        evidence = [host for host, one in hosts.items() if one.evidence]
        seen = seen_again(self.run, look, hosts, self._record, evidence=evidence)
        looks = {**self.run.looks, **counts, **seen}
        self._store.runs.relook(self.run, looks, {host: one.why for host, one in hosts.items()}, why)
        self.run = replace(self.run, looks=looks)
        if counts:  # else counts begun after the clock was set back would never be late enough
            self._since = self._store.now()
        self._read()

    def _send(self, ready: Ready, begun: Attempt) -> Attempt | None:
        """Let a command go; return its attempt when it could not even be written."""
        self._record.add(begun)
        resumed = ready.resumed is not None
        streams = self._store.outputs.open(self.run, begun, again=resumed)
        sent_at = self._store.now()
        try:
            pending = self._remote.start(
                ready.machine,
                ready.command,
                key=f"{self.run.created_at:%Y%m%dT%H%M%S.%f}/{begun.key}",  # a new database begins again at run 1
                first_sent=begun.begun_at if resumed else None,
                stdout=streams.stdout,
                stderr=streams.stderr,
                barred=ready.stopped is not None,
            )
        except SickbayError as error:
            return refused(begun, error, resumed=resumed, mutating=ready.mutating)
        sent = _Sent(ready, begun, streams, pending, sent_at)
        self._going[sent.place] = sent
        pending.outcome.add_done_callback(lambda _: self._arrived(sent))
        return None

    def _arrived(self, sent: _Sent) -> None:
        sent.came_at = self._store.now()
        self._news.put(sent)

    def _end_cancelled(self) -> None:
        if not self._cancelled.is_set():
            return
        for sent in self._going.values():
            if not sent.ready.clean_up and not sent.cancelled:
                sent.cancelled = True
                sent.pending.cancel()

    # ── back ──
    def _hear(self, patience: timedelta | None) -> None:
        """Wait for news, and take in what has come until then."""
        came = [one for one in self._came(patience) if self._going.get(one.place) is one]
        if self._closing.is_set():
            return  # what came now is what a closed room says
        ended: list[tuple[Attempt, Streams | None]] = []
        try:
            ended += map(self._judge, came)
        finally:
            self._record_ends(ended)

    def _came(self, patience: timedelta | None) -> list[_Sent]:
        """Return what has come; the first waits for others for as long as it takes to deal with it."""
        busy = min(time.monotonic() - self._heard, LONGEST)
        most = min(SLICE, len(self._going))
        found: list[_Sent] = []
        with contextlib.suppress(Empty):
            news = self._news.get(timeout=None if patience is None else patience.total_seconds())
            until = time.monotonic() + (0.0 if patience == timedelta() else busy)
            while news is not None:
                found.append(news)
                if len(found) == most:
                    break
                news = self._news.get(timeout=max(0.0, until - time.monotonic()))
        self._heard = time.monotonic()
        return found

    def _judge(self, sent: _Sent) -> tuple[Attempt, Streams]:
        """Say what an outcome means; what was printed is read for that, and not held any longer."""
        del self._going[sent.place]
        outcome = sent.pending.outcome.result()
        never = isinstance(outcome, Cancelled) and outcome.ended and not sent.cancelled
        if never and sent.ready.stopped is not None:
            return replace(sent.ready.stopped, ended_at=self._store.now()), sent.streams
        if isinstance(outcome, Finished | TimedOut | Cancelled):
            sent.streams.stdout.add(outcome.stdout.data)  # a word about the output came beside it
            sent.streams.stderr.add(outcome.stderr.data)
        if isinstance(outcome, Finished | TimedOut):
            stdout, stderr = self._store.outputs.whole(sent.streams)
            outcome = replace(outcome, stdout=stdout, stderr=stderr)
        attempt = judged(
            self._planner,
            sent.ready.call,
            sent.begun,
            outcome,
            sent.ready.context,
            self._store.now(),
            mutating=sent.ready.mutating,
            where=sent.ready.machine.name,
        )
        if isinstance(outcome, Finished | TimedOut) and sent.ready.evident:
            attempt = sealed(attempt, sent.ready.command, outcome)
            attempt = clocked(attempt, sent.sent_at, sent.came_at or self._store.now())
        attempt = owned(self._store, self.run, sent.ready, attempt)
        return replace(attempt, stdout="", stderr=""), sent.streams

    def _record_ends(self, ended: Sequence[tuple[Attempt, Streams | None]]) -> None:
        if ended:
            for attempt in self._store.attempts.end(self.run, ended):
                self._record.add(attempt)


def _sooner(until: datetime | None, deadline: datetime | None, now: datetime) -> datetime | None:
    """Return when to wake: a deadline that is still to come does not wait for the next retry."""
    ahead = [moment for moment in (until, deadline if deadline and deadline > now else None) if moment]
    return min(ahead, default=None)
