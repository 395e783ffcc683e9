"""Attempts: a row before each command leaves and its result after; and what the commands printed."""

import zlib
from typing import Any

from sqlalchemy import RowMapping, select
from sqlalchemy.dialects.sqlite import insert

from bot.effect import Output
from bot.run import Attempt, Run, Status
from bot.store.database import Database
from bot.store.runs import fenced
from bot.store.tables import attempts, outputs
from bot.store.timeline import tell
from bot.verdict import Verdict


class Attempts:
    """All attempts of all runs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, run: Run, step: str, host: str, number: int) -> Attempt:
        """Write that a command is about to leave; one that has been begun before is refused by the table."""
        now = self._db.now()
        place = {"run_id": run.id, "step": step, "host": host, "number": number}
        with self._db.write() as tx:
            fenced(tx, run)
            tx.execute(attempts.insert().values(**place, status=Status.BEGUN, begun_at=now, facts={}))
            about: dict[str, Any] = {"incident": run.incident_id, "run": run.id, "host": host, "step": step}
            tell(tx, now, "step.begun", **about, number=number)
        return Attempt(run.id, step, host, number, Status.BEGUN, now)

    def end(
        self, run: Run, attempt: Attempt, stdout: Output | None = None, stderr: Output | None = None
    ) -> None:
        """Write how an attempt ended, with its output, its event and the fence, in one transaction."""
        now = attempt.ended_at or self._db.now()
        place = {"run_id": run.id, "step": attempt.step, "host": attempt.host, "number": attempt.number}
        values: dict[str, Any] = {
            "status": attempt.status,
            "ended_at": now,
            "summary": attempt.summary,
            "advice": attempt.advice,
            "verdict": attempt.verdict,
            "facts": dict(attempt.facts),
            "exit_code": attempt.exit_code,
            "again": int(attempt.again),
            "sent": int(attempt.sent),
        }
        kept = [
            {
                "stream": stream,
                "total": output.total,
                "kept": len(output.data),
                "data": zlib.compress(output.data, 1),
            }
            for stream, output in (("stdout", stdout), ("stderr", stderr))
            if output is not None and output.total
        ]
        with self._db.write() as tx:
            fenced(tx, run)
            statement = insert(attempts).values(**place, begun_at=attempt.begun_at, **values)
            tx.execute(
                statement.on_conflict_do_update(
                    index_elements=["run_id", "step", "host", "number"], set_=values
                )
            )
            attempt_id = tx.scalar(select(attempts.c.id).filter_by(**place))
            if kept:
                tx.execute(outputs.insert(), [{"attempt_id": attempt_id, **row} for row in kept])
            tell(
                tx,
                now,
                "step.ended",
                incident=run.incident_id,
                run=run.id,
                host=attempt.host,
                step=attempt.step,
                number=attempt.number,
                exit_code=attempt.exit_code,
                status=attempt.status,
                summary=attempt.summary,
                verdict=attempt.verdict,
            )

    def of(self, run_id: int, *, with_output: bool = False) -> list[Attempt]:
        """Return a run's attempts in the order they began."""
        query = attempts.select().where(attempts.c.run_id == run_id).order_by(attempts.c.id)
        with self._db.read() as tx:
            rows = tx.execute(query).mappings().all()
            texts: dict[int, dict[str, str]] = {}
            if with_output:
                ids = [row["id"] for row in rows]
                kept = tx.execute(outputs.select().where(outputs.c.attempt_id.in_(ids))).mappings()
                for row in kept:
                    texts.setdefault(row["attempt_id"], {})[row["stream"]] = _output(row).text
            return [_attempt(row, texts.get(row["id"], {})) for row in rows]

    def output(self, attempt: Attempt) -> tuple[Output, Output]:
        """Return what an attempt's command wrote to stdout and stderr."""
        place = {
            "run_id": attempt.run_id,
            "step": attempt.step,
            "host": attempt.host,
            "number": attempt.number,
        }
        with self._db.read() as tx:
            attempt_id = tx.scalar(select(attempts.c.id).filter_by(**place))
            rows = tx.execute(outputs.select().where(outputs.c.attempt_id == attempt_id)).mappings()
            found = {row["stream"]: _output(row) for row in rows}
            return found.get("stdout", Output()), found.get("stderr", Output())


def _output(row: RowMapping) -> Output:
    return Output(zlib.decompress(row["data"]), row["total"])


def _attempt(row: RowMapping, texts: dict[str, str] | None = None) -> Attempt:
    fields: dict[str, Any] = dict(row)
    del fields["id"]
    fields |= {
        "status": Status(row["status"]),
        "verdict": Verdict(row["verdict"]) if row["verdict"] else None,
        "again": bool(row["again"]),
        "sent": bool(row["sent"]),
    }
    return Attempt(**(fields | (texts or {})))
