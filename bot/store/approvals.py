"""Approvals: the question stands beside its plan; a click and its effect are one transaction."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update

from bot.language.runbook import ApprovalRule, Runbook
from bot.runs.approval import BROKEN, Answer, Approval, Decision, Person
from bot.runs.plan import Plan
from bot.runs.run import Requester, Run, RunState
from bot.store.database import Database
from bot.store.holds import let_go, pass_on
from bot.store.runs import fenced, void
from bot.store.tables import approvals, decisions, runs, written
from bot.store.timeline import first_time, tell


class Approvals:
    """All questions to people."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def plan(self, run: Run, plan: Plan, *, ask: bool, lowered: str = "") -> Plan:
        """Store a run's plan and, where people have to agree, the question about it; return the plan that counts.

        `lowered` says why they have to although the runbook's mode is `auto`. A run that had to begin anew and comes to
        what was agreed to keeps its plan; else people are asked anew.
        """
        now = self._db.now()
        rule = run.runbook.approval
        with self._db.write() as tx:
            mode = "approve" if lowered else run.mode
            limit = now + run.runbook.timeout
            asked = _approval(tx, run.id)
            agreed = asked is not None and asked.state == "approved"
            stands = agreed and run.former is not None and run.former.essence == plan.essence
            plan = run.former if stands and run.former is not None else plan
            fenced(tx, run, plan=plan.as_json(), former=None, deadline=limit, mode=mode, lowered=lowered)
            data: dict[str, Any] = {"digest": plan.digest, "changes": plan.changes}
            if plan.without:
                data["without"] = [list(one) for one in plan.without]
            data |= {"lowered": lowered} if lowered else {}
            tell(tx, now, "run.planned", incident=run.incident_id, run=run.id, **data)
            if stands:
                return plan
            if agreed and run.former is not None:
                why = "looked at again after a wait, the plan is another than the one that was approved"
                tell(tx, now, "approval.void", incident=run.incident_id, run=run.id, why=why)
            if ask:
                pass_on(tx, now, run.id)  # people take their time, and it holds nothing yet
                tx.execute(delete(decisions).where(decisions.c.run_id == run.id))  # the timeline keeps them
                tx.execute(delete(approvals).where(approvals.c.run_id == run.id))
                tx.execute(
                    approvals.insert().values(
                        run_id=run.id,
                        digest=plan.digest,
                        rule=rule.model_dump(mode="json", by_alias=True),
                        requester=asdict(run.requester),
                        expires_at=now + rule.timeout,
                        state="pending",
                    )
                )
                data |= {
                    "until": written(now + rule.timeout),
                    "required": rule.required,
                    "from": list(rule.from_),
                }
                tell(tx, now, "approval.asked", incident=run.incident_id, run=run.id, **data)
        return plan

    def get(self, run_id: int) -> Approval | None:
        """Return the question of a run."""
        with self._db.read() as tx:
            return _approval(tx, run_id)

    def decide(
        self,
        run_id: int,
        person: Person,
        answer: Answer,
        digest: str | None = None,
        *,
        people: Mapping[str, Person | None] | None = None,
        broken: str = "",
        glass: str = "",
        via: str = "",
        delivery: str = "",
    ) -> str | None:
        """Take a person's answer; return None when it counts, else why it does not.

        `digest` is the plan that the person saw: an answer to another plan is refused. `people` are those who answered
        before and were looked at: None for who may no longer; then that approval no longer counts. Without it nobody's
        does. `broken` says why the plan no longer holds: then the question ends, whatever the answer; a plan that has
        changed something is carried on. `glass` is why the person decides alone. `delivery` names the click: taken once, it is
        never taken again.
        """
        now = self._db.now()
        with self._db.write() as tx:
            approval = _approval(tx, run_id)
            if approval is None:
                state = str(tx.scalar(select(runs.c.state).where(runs.c.id == run_id)) or "unknown")
                return f"Run {run_id} asks nobody for approval; it is {state.replace('_', ' ')}."
            if delivery and not first_time(tx, now, delivery):
                return "This was taken in already."
            incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == run_id))
            alone = bool(glass)
            said: dict[str, Any] = {"by": person.name, "via": via, "answer": answer}
            said |= {"glass": glass} if alone else {}
            if digest is not None and not (digest and approval.digest.startswith(digest)):
                why = "The plan has changed since this message was shown. Look at the newest one."
                tell(tx, now, "approval.refused", incident=incident, run=run_id, why=why, **said)
                return why
            if broken and approval.state_at(now) == "pending" and self.void(tx, run_id, broken):
                approval = replace(approval, state="void", note=broken)
            if approval.state_at(now) == "pending":
                others = {one.person: None for one in approval.decisions if one.person != person.name}
                approval = _held(tx, approval, others if people is None else people, now, incident)
            refusal = approval.refusal(person, answer, now, alone=alone)
            if refusal is not None:
                tell(tx, now, "approval.refused", incident=incident, run=run_id, why=refusal, **said)
                return refusal
            state = approval.state_after(answer, alone=alone)
            mine = (decisions.c.run_id == run_id, decisions.c.person == person.name)
            tx.execute(delete(decisions).where(*mine))  # of somebody who agreed first and then broke glass
            given = {"person": person.name, "answer": answer, "at": now, "glass": glass, "via": via}
            tx.execute(decisions.insert().values(run_id=run_id, **given))
            tx.execute(update(approvals).where(approvals.c.run_id == run_id).values(state=state))
            decided = said | {"state": state, "digest": approval.digest}
            tell(tx, now, "approval.decided", incident=incident, run=run_id, **decided)
            if alone:
                had = [one.person for one in approval.decisions if one.person != person.name]
                more: dict[str, Any] = {
                    "by": person.name,
                    "via": via,
                    "glass": glass,
                    "digest": approval.digest[:12],
                    "required": approval.rule.required,
                    "roles": approval.rule.from_,
                    "had": had,
                }
                tell(tx, now, BROKEN, incident=incident, run=run_id, **more)
            if state != "pending":
                _wake(tx, run_id, now, approved=state == "approved")
            return None

    def refused(self, run_id: int, by: str, why: str, **more: str) -> None:
        """Write down that somebody was turned away before the question was even looked at."""
        with self._db.write() as tx:
            incident = tx.scalar(select(runs.c.incident_id).where(runs.c.id == run_id))
            tell(
                tx,
                self._db.now(),
                "approval.refused",
                incident=incident,
                run=run_id,
                by=by,
                why=why,
                **more,
            )

    def void(self, tx: Connection, run_id: int, why: str) -> bool:
        """End a question because the reason for it is gone; false when it was answered with no, or has begun."""
        now = self._db.now()
        voided = void(tx, now, run_id, why, approved=True)
        if voided:
            _wake(tx, run_id, now, approved=False)
        return voided

    def begin(self, run: Run, broken: str = "") -> datetime | None:
        """Note that a run is about to send its first change; None when it must not, because its plan no longer holds.

        Of this and whatever voids the plan, the one that is committed first wins. What it had taken is free again then.
        """
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run)
            state = tx.scalar(select(approvals.c.state).where(approvals.c.run_id == run.id))
            if broken or state not in (None, "approved"):
                if broken:
                    self._fall(tx, run, broken)
                let_go(tx, now, run.id)
                return None
            fenced(tx, run, begun_at=now)
            return now

    def fall(self, run: Run, why: str) -> None:
        """Write down that whoever advances a run saw that its plan no longer holds; it is never carried out."""
        with self._db.write() as tx:
            self._fall(tx, run, why)
            let_go(tx, self._db.now(), run.id)

    def _fall(self, tx: Connection, run: Run, why: str) -> None:
        """End a run's question; where nobody was asked, the run itself keeps that its plan fell."""
        asked = tx.scalar(select(approvals.c.state).where(approvals.c.run_id == run.id)) is not None
        fenced(tx, run, **({} if asked else {"fallen": why}))
        self.void(tx, run.id, why)

    def expire(self, run: Run) -> None:
        """Write down that nobody answered in time."""
        now = self._db.now()
        with self._db.write() as tx:
            fenced(tx, run)
            statement = update(approvals).where(approvals.c.run_id == run.id, approvals.c.state == "pending")
            if tx.execute(statement.values(state="expired")).rowcount:
                tell(tx, now, "approval.expired", incident=run.incident_id, run=run.id)


def _held(
    tx: Connection,
    approval: Approval,
    people: Mapping[str, Person | None],
    now: datetime,
    incident: int | None,
) -> Approval:
    """Take back the approvals of those who may no longer decide; the timeline keeps that they were given."""
    lapsed = approval.lapsed(people)
    if not lapsed:
        return approval
    note = f"{', '.join(lapsed)} approved before, but may no longer decide this: that does not count."
    mine = decisions.c.run_id == approval.run_id
    tx.execute(decisions.delete().where(mine, decisions.c.person.in_(lapsed)))
    tx.execute(update(approvals).where(approvals.c.run_id == approval.run_id).values(note=note))
    tell(tx, now, "approval.lapsed", incident=incident, run=approval.run_id, by=", ".join(lapsed), why=note)
    return replace(approval.without(lapsed), note=note)


def _wake(tx: Connection, run_id: int, now: datetime, *, approved: bool) -> None:
    row = tx.execute(runs.select().where(runs.c.id == run_id)).mappings().one()
    values: dict[str, Any] = {"wake_at": now}
    if approved:
        values |= {
            "state": RunState.RUNNING,
            "deadline": now + Runbook.model_validate(row["runbook"]).timeout,
        }
    tx.execute(update(runs).where(runs.c.id == run_id).values(**values))


def _approval(tx: Connection, run_id: int) -> Approval | None:
    row = tx.execute(approvals.select().where(approvals.c.run_id == run_id)).mappings().first()
    if row is None:
        return None
    said = tx.execute(
        decisions.select().where(decisions.c.run_id == run_id).order_by(decisions.c.at)
    ).mappings()
    return Approval(
        run_id=run_id,
        digest=row["digest"],
        rule=ApprovalRule.model_validate(row["rule"]),
        requester=Requester(**row["requester"]),
        expires_at=row["expires_at"],
        state=row["state"],
        decisions=tuple(Decision(d["person"], d["answer"], d["at"], d["glass"], d["via"]) for d in said),
        note=row["note"],
    )
