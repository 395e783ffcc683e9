"""Attempts: a row before each command leaves and its result after; those of one moment in one transaction."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert

from bot.effect import Command, Output
from bot.guard.decision import Answer, Want, World
from bot.guard.drain import Grant, Refusal, Turn
from bot.runs.run import Attempt, Run, Status
from bot.store.database import Database, masked
from bot.store.drains import Place, settle, take
from bot.store.ledger import halted
from bot.store.outputs import Outputs, Streams
from bot.store.runs import fenced
from bot.store.tables import NEWEST, attempts, commands
from bot.store.timeline import tell_each
from bot.verdict import Verdict

# Statements of every step on every host, built once: to build one costs several times what it costs to run it.
_RESULT = ("status", "ended_at", "summary", "advice", "verdict", "facts", "exit_code", "again", "sent")
_BEGIN = insert(attempts)
_END = _BEGIN.on_conflict_do_update(
    index_elements=["run_id", "step", "host", "number"],
    set_={name: _BEGIN.excluded[name] for name in _RESULT},
)
_TEXT = insert(commands).on_conflict_do_nothing()
_TALLY = (
    select(attempts.c.step, attempts.c.status, attempts.c.verdict, func.count().label("hosts"))
    .where(attempts.c.run_id == bindparam("run"), NEWEST)
    .group_by(attempts.c.step, attempts.c.status, attempts.c.verdict)
)


NOTHING: Mapping[Place, Turn | None] = {}
UNASKED: Mapping[Place, Want] = {}


class Attempts:
    """All attempts of all runs."""

    def __init__(self, database: Database, outputs: Outputs) -> None:
        self._db = database
        self._outputs = outputs

    def begin(
        self,
        run: Run,
        places: Sequence[Place],
        leaving: Sequence[tuple[str, Command]] = (),
        changes: Mapping[Place, Turn | None] = NOTHING,
        wants: Mapping[Place, Want] = UNASKED,
        world: World | None = None,
    ) -> tuple[list[Attempt], Mapping[Place, Grant | Refusal | Answer]]:
        """Write that commands (step, host, number) are about to leave; what was begun before is refused by the table.

        `leaving` is each one's command, and the machine that it goes to. Its text, which is the author's alone, is kept
        once; the timeline has its hash, and the values beside it. Those that change something begin only if the ledgers
        allow it, and what they said is returned: `changes` tells of each what it does with a server at its load balancer,
        `wants` of those that a freeze or the open breaker stops how deep they go.
        """
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run)
            stopped = _stopped(tx, run, wants, now, world)
            changes = {place: turn for place, turn in changes.items() if place not in stopped}
            said: dict[Place, Grant | Refusal | Answer] = {**stopped}
            said |= take(tx, now, run, changes) if changes else {}
            going = [place for place in places if not isinstance(said.get(place), Refusal | Answer)]
            begun = [Attempt(run.id, *place, Status.BEGUN, now) for place in going]
            if not begun:
                return [], said
            tx.execute(_BEGIN, [_row(attempt) for attempt in begun])
            told = [_event(attempt) for attempt in begun]
            if leaving:
                sent = dict(zip(places, leaving, strict=True))
                _tell_commands(
                    tx, told, [sent[place] for place in going], [said.get(place) for place in going]
                )
            tell_each(tx, now, "step.begun", told, incident=run.incident_id, run=run.id)
        return begun, said

    def resume(
        self,
        run: Run,
        begun: Sequence[Attempt],
        wants: Mapping[Place, Want] = UNASKED,
        world: World | None = None,
    ) -> Mapping[Place, Answer]:
        """Write that hosts are asked what became of commands that were sent in an earlier life of this process.

        Return of which of them nothing may begin any more, if it has not.
        """
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run)
            stopped = _stopped(tx, run, wants, now, world)
            told = [_event(attempt) for attempt in begun]
            tell_each(tx, now, "step.resumed", told, incident=run.incident_id, run=run.id)
        return stopped

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Return the texts of commands, by hash."""
        found: dict[str, str] = {}
        with self._db.read() as tx:
            for at in range(0, len(hashes), 1000):
                query = commands.select().where(commands.c.sha256.in_(hashes[at : at + 1000]))
                found |= {row.sha256: row.text for row in tx.execute(query)}
        return found

    def end(self, run: Run, ended: Sequence[tuple[Attempt, Streams | None]]) -> list[Attempt]:
        """Write how attempts ended, with the rest of what they printed, their events and the fence.

        Return them as they were written, without secrets: so a run goes on with what it would also read after a crash.
        """
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run)
            ended = [(masked(tx, attempt), streams) for attempt, streams in ended]
            tx.execute(_END, [_row(attempt) | {"ended_at": attempt.ended_at or now} for attempt, _ in ended])
            settle(tx, now, run, [attempt for attempt, _ in ended])
            answered = (Status.OK, Status.FAILED)
            self._outputs.last(tx, [(streams, one.status in answered) for one, streams in ended if streams])
            told = [
                _event(
                    attempt,
                    exit_code=attempt.exit_code,
                    status=attempt.status,
                    summary=attempt.summary,
                    verdict=attempt.verdict,
                    **_seal(attempt),
                )
                for attempt, _ in ended
            ]
            tell_each(tx, now, "step.ended", told, incident=run.incident_id, run=run.id)
        return [attempt for attempt, _ in ended]

    def of(self, run_id: int) -> list[Attempt]:
        """Return a run's attempts in the order they began, without what they printed."""
        query = attempts.select().where(attempts.c.run_id == run_id).order_by(attempts.c.id)
        with self._db.read() as tx:
            return [_attempt(row) for row in tx.execute(query).mappings()]

    def tally(self, run_id: int) -> list[tuple[str, Status, Verdict | None, int]]:
        """Count hosts by step and by how its newest attempt stands there: (step, status, verdict, hosts)."""
        with self._db.read() as tx:
            return [
                (row.step, Status(row.status), Verdict(row.verdict) if row.verdict else None, row.hosts)
                for row in tx.execute(_TALLY, {"run": run_id})
            ]

    def output(self, attempt: Attempt) -> tuple[Output, Output]:
        """Return what an attempt's command wrote to stdout and stderr, up to now when it goes on."""
        return self._outputs.of(attempt)


def _stopped(
    tx: Connection, run: Run, wants: Mapping[Place, Want], now: datetime, world: World | None
) -> dict[Place, Answer]:
    """Return what a freeze or the open breaker says to commands, where it stops them."""
    if not wants or world is None:
        return {}
    hosts: dict[str, Want] = {}
    for (_, host, _), want in wants.items():
        hosts[host] = max(hosts.get(host, want), want, key=lambda one: one.level)
    answers = halted(tx, run, hosts, now, world)
    return {place: answers[place[1]] for place in wants if place[1] in answers}


def _row(attempt: Attempt) -> dict[str, Any]:
    return {
        "run_id": attempt.run_id,
        "step": attempt.step,
        "host": attempt.host,
        "number": attempt.number,
        "status": attempt.status,
        "begun_at": attempt.begun_at,
        "ended_at": attempt.ended_at,
        "summary": attempt.summary,
        "advice": attempt.advice,
        "verdict": attempt.verdict,
        "facts": dict(attempt.facts),
        "exit_code": attempt.exit_code,
        "again": int(attempt.again),
        "sent": int(attempt.sent),
    }


def _tell_commands(
    tx: Connection,
    told: Sequence[dict[str, Any]],
    leaving: Sequence[tuple[str, Command]],
    said: Sequence[Grant | Refusal | Answer | None],
) -> None:
    """Keep the texts of commands, and put what goes with them into their events."""
    hashes = {one.text: hashlib.sha256(one.text.encode()).hexdigest() for _, one in leaving}
    tx.execute(_TEXT, [{"sha256": sha256, "text": text} for text, sha256 in hashes.items()])
    for event, (on, command), answer in zip(told, leaving, said, strict=True):
        found = answer.env if isinstance(answer, Grant) else {}
        event["data"] |= {"command": hashes[command.text], "env": {**command.env, **found}}
        event["data"] |= {"on": on} if on != event["host"] else {}
        event["data"] |= {"changes": True} if command.mutating else {}


def _seal(attempt: Attempt) -> dict[str, Any]:
    """Return the hash of what a capture kept, and what the host's clock was, so that the timeline knows it too."""
    if "sha256" not in attempt.facts:
        return {}
    return {name: attempt.facts[name] for name in ("sha256", "clock") if name in attempt.facts}


def _event(attempt: Attempt, **data: Any) -> dict[str, Any]:
    return {"host": attempt.host, "step": attempt.step, "data": {"number": attempt.number, **data}}


def _attempt(row: RowMapping) -> Attempt:
    fields: dict[str, Any] = dict(row)
    del fields["id"]
    return Attempt(
        **{
            **fields,
            "status": Status(row["status"]),
            "verdict": Verdict(row["verdict"]) if row["verdict"] else None,
            "again": bool(row["again"]),
            "sent": bool(row["sent"]),
        }
    )
