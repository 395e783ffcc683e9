"""An incident's report, read from the store: what the timeline tells, and beside it what it was about.

How commands ended and what people decided is taken from the timeline, which is chained, and not from the rows beside
it, which change as a run goes on. What only those rows hold (plans, evidence) is held against its hash in the timeline.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bot import evidence, witness
from bot.effect import Output
from bot.errors import SickbayError
from bot.facts import FactsError, capture
from bot.incident import Event, Incident
from bot.messages import Mask, plan_text
from bot.messages.timeline import sentence
from bot.program import ordered
from bot.report import (
    VERSION,
    Alert,
    Chain,
    Clock,
    Decision,
    Evidence,
    Guard,
    Message,
    PlanStep,
    Printed,
    Report,
    Told,
    Try,
)
from bot.report import Plan as ShownPlan
from bot.report import Run as ShownRun
from bot.runs.plan import Plan
from bot.runs.run import Attempt, Run
from bot.store import Store
from bot.store.timeline import verify

_MOST = 256 * 1024
"""Characters of what one command printed to one stream."""
_WHOLE = 64 * 1024 * 1024
"""Characters of all of it together; a thousand hosts can print a gigabyte."""


def report(store: Store, incident_id: int, mask: Mask, *, outputs: bool = True) -> Report:
    """Return the report of an incident, without secrets; without `outputs` nothing of what commands printed.

    Raises:
        SickbayError: when there is no such incident.

    """
    incident = store.incidents.get(incident_id)
    if incident is None:
        raise SickbayError(f"there is no incident {incident_id}", advice="`incidents` lists the newest")
    events = store.timeline.of(incident=incident_id)
    runs = [run for run_id in store.incidents.runs(incident_id) if (run := store.runs.get(run_id))]
    room = _Room(store, wanted=outputs)
    read = [
        _Reader(store, incident, run, [one for one in events if one.run_id == run.id], room) for run in runs
    ]
    shown = [one.run() for one in read]
    titles = {(one.id, step.id): step.title for one in runs for _, step in ordered(one.runbook)}
    whole = [*events, *(store.timeline.of_nobody(events[0].id, events[-1].id) if events else ())]
    found = verify(store.database.path)
    made = Report(
        version=VERSION,
        written_at=store.now().astimezone(UTC),
        id=incident.id,
        title=incident.title,
        severity=incident.severity,
        state=str(incident.state),
        host=incident.host,
        opened_at=incident.opened_at,
        resolved_at=incident.resolved_at,
        recovered_by=incident.recovered_by,
        note=incident.note,
        alerts=tuple(_alerts(incident)),
        clocks=tuple(one for reader in read for one in reader.clocks()),
        runs=tuple(shown),
        timeline=tuple(_told(event, titles) for event in sorted(whole, key=lambda one: one.id)),
        messages=tuple(_messages(store, incident, events)),
        chain=Chain(events=found.events, head=found.head, fault=found.fault),
    )
    return Report.model_validate(mask.over(made.model_dump()))


def _alerts(incident: Incident) -> Iterator[Alert]:
    for one in incident.alerts:
        yield Alert(
            name=one.name,
            source=one.source,
            fingerprint=one.fingerprint,
            status=one.status,
            starts_at=one.starts_at,
            ends_at=one.ends_at,
            labels=dict(one.labels),
            annotations=dict(one.annotations),
            url=one.url,
        )


def _told(event: Event, titles: Mapping[tuple[int, str], str]) -> Told:
    title = titles.get((event.run_id or 0, event.step or ""), "")
    return Told(
        id=event.id,
        at=event.at,
        kind=event.kind,
        run=event.run_id,
        host=event.host,
        step=event.step,
        text=sentence(event, title),
        data=dict(event.data),
        hash=event.hash,
    )


def _messages(store: Store, incident: Incident, events: Sequence[Event]) -> Iterator[Message]:
    runs = dict.fromkeys(event.run_id for event in events if event.run_id)
    again = [event.id for event in events if event.kind == "incident.reopened"]
    broken = [event.id for event in events if event.kind == "approval.glass_broken"]
    about = [f"incident:{incident.id}", *(f"again:{number}" for number in again)]
    about += [f"{kind}:{run}" for run in runs for kind in ("run", "approval", "plan", "output")]
    about += [f"{kind}:{number}" for number in broken for kind in ("alarm", "glass")]
    places = store.timeline.places(about)
    for key in about:
        if (place := places.get(key)) is not None:
            yield Message(
                about=key,
                state=str(place.get("state", "")),
                channel=str(place.get("channel", "")),
                posted_at=_posted(place.get("ts")),
            )


def _posted(ts: Any) -> datetime | None:
    """Read the time that Slack gave a message, which is its name there."""
    try:
        return datetime.fromtimestamp(float(ts), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class _Sent:
    """What left for a host, as the timeline has it."""

    text: str
    sha256: str
    env: Mapping[str, str]
    on: str
    changes: bool


_NOTHING = Printed(bytes=0, text="", cut=True)


@dataclass(slots=True)
class _Room:
    """How much of what was printed still finds room."""

    store: Store
    wanted: bool
    left: int = _WHOLE

    def both(self, attempt: Attempt) -> tuple[Printed, Printed]:
        if not self.wanted:
            return _NOTHING, _NOTHING
        stdout, stderr = self.store.attempts.output(attempt)
        return self._printed(stdout), self._printed(stderr)

    def _printed(self, output: Output) -> Printed:
        text = output.text
        most = max(0, min(_MOST, self.left))
        cut = len(text) > most
        shown = f"{text[: most // 2]}\n…\n{text[len(text) - most // 2 :]}" if cut else text
        self.left -= len(shown)
        return Printed(bytes=output.total, text=shown, cut=cut or output.cut)


class _Reader:
    """Reads one run."""

    def __init__(
        self, store: Store, incident: Incident, run: Run, events: Sequence[Event], room: _Room
    ) -> None:
        self._room = room
        self._store = store
        self._incident = incident
        self._run = run
        self._events = events
        self._attempts = store.attempts.of(run.id)
        self._sections = {step.id: (section, step.title) for section, step in ordered(run.runbook)}
        begun = [event for event in events if event.kind == "step.begun" and "command" in event.data]
        texts = store.attempts.texts(list({str(event.data["command"]) for event in begun}))
        self._sent = {_place(event): _sent(event, texts) for event in begun}
        self._ended = {_place(event): event for event in events if event.kind == "step.ended"}

    def run(self) -> ShownRun:
        """Return all of it."""
        run = self._run
        return ShownRun(
            id=run.id,
            runbook=run.runbook.name,
            runbook_digest=run.runbook_digest,
            kind=run.runbook.kind,
            mode=run.mode,
            lowered=run.lowered,
            by=run.requester.name,
            via=run.requester.via,
            hosts=run.hosts,
            inputs=dict(run.inputs),
            state=str(run.state),
            reason=run.reason,
            verdict=str(run.verdict) if run.verdict else None,
            created_at=run.created_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
            plan=self._plan(run.plan) if run.plan else None,
            decisions=tuple(self._decisions()),
            guard=tuple(self._guard()),
            evidence=tuple(self._evidence()),
            tries=tuple(self._try(attempt) for attempt in self._attempts),
        )

    def _plan(self, plan: Plan) -> ShownPlan:
        told = [event.data.get("digest") for event in self._events if event.kind == "run.planned"]
        return ShownPlan(
            digest=plan.digest,
            fits=bool(told) and told[-1] == plan.digest,
            batches=plan.batches,
            steps=tuple(
                PlanStep(
                    section=entry.section,
                    step=entry.step,
                    title=entry.title,
                    host=entry.host,
                    on=entry.on,
                    decision=entry.decision,
                    note=entry.note,
                    says=entry.says,
                    command=entry.text,
                    env=entry.env,
                    changes=entry.mutating,
                    timeout=entry.timeout,
                    retries=entry.retries,
                )
                for entry in plan.entries
            ),
            without=plan.without,
            text=plan_text(plan),
        )

    def _decisions(self) -> Iterator[Decision]:
        digest = ""
        for event in self._events:
            noun, _, verb = event.kind.partition(".")
            if event.kind == "approval.asked":
                digest = str(event.data.get("digest", ""))
            if noun != "approval" or verb in ("asked", "glass_broken"):  # who breaks glass has decided, too
                continue
            glass = str(event.data.get("glass", ""))
            yield Decision(
                at=event.at,
                by=str(event.data.get("by", "")),
                via=str(event.data.get("via", "")),
                answer=str(event.data.get("answer", "")) or verb,
                counted=verb == "decided",
                why=str(event.data.get("why", "")) or (f"alone, by breaking glass: {glass}" if glass else ""),
                digest=digest,
            )

    def _guard(self) -> Iterator[Guard]:
        for event in self._events:
            if event.kind == "guard.answered":
                said = {name: str(event.data.get(name) or "") for name in ("rail", "reaction", "why")}
                yield Guard(at=event.at, host=event.host or "", **said)

    def _try(self, attempt: Attempt) -> Try:
        section, title = self._sections.get(attempt.step, ("", attempt.step))
        sent = self._sent.get((attempt.step, attempt.host, attempt.number))
        ended = self._ended.get((attempt.step, attempt.host, attempt.number))
        said = ended.data if ended is not None else {}
        stdout, stderr = self._room.both(attempt)
        return Try(
            section=section,
            step=attempt.step,
            title=title,
            host=attempt.host,
            on=sent.on if sent else "",
            number=attempt.number,
            status=str(said.get("status", attempt.status)),
            begun_at=attempt.begun_at,
            ended_at=ended.at if ended is not None else None,
            exit_code=said.get("exit_code"),
            summary=str(said.get("summary", attempt.summary)),
            advice=attempt.advice,
            verdict=said.get("verdict"),
            changes=bool(sent and sent.changes),
            sent=attempt.sent,
            command=sent.text if sent else "",
            sha256=sent.sha256 if sent else "",
            env=sent.env if sent else {},
            stdout=stdout,
            stderr=stderr,
        )

    # ── evidence ──
    def _evidence(self) -> Iterator[Evidence]:
        for attempt, told in self._captures():
            stdout, stderr = self._store.attempts.output(attempt)
            try:
                parts = capture.parse(stdout.text).parts
            except FactsError:
                parts = ()
            seen = list(
                witness.seen(attempt.host, parts, witness.offset(told.data), self._incident.opened_at)
            )
            yield Evidence(
                host=attempt.host,
                step=attempt.step,
                number=attempt.number,
                taken_at=attempt.begun_at,
                sha256=str(told.data["sha256"]),
                holds=self._holds(attempt, str(told.data["sha256"]), stdout, stderr),
                parts={part.name: part.state for part in parts},
                seen=tuple(one for one in seen if one is not None),
                left_out=sum(one is None for one in seen),
            )

    def clocks(self) -> Iterator[Clock]:
        """Return the clocks that were measured."""
        for attempt, told in self._captures():
            said = told.data.get("clock") or {"unknown": "nobody measured it"}
            yield Clock(
                host=attempt.host,
                run=self._run.id,
                at=told.at,
                offset=said.get("offset"),
                within=said.get("within"),
                unknown=str(said.get("unknown", "")),
            )

    def _captures(self) -> Iterator[tuple[Attempt, Event]]:
        for attempt in self._attempts:
            told = self._ended.get((attempt.step, attempt.host, attempt.number))
            if told is not None and "sha256" in told.data:
                yield attempt, told

    def _holds(self, attempt: Attempt, sha256: str, stdout: Output, stderr: Output) -> bool:
        """Make the hash again from what is stored."""
        asked: list[tuple[str, Mapping[str, str]]] = []
        if (sent := self._sent.get((attempt.step, attempt.host, attempt.number))) is not None:
            asked.append((sent.text, sent.env))
        if self._run.plan and (entry := self._run.plan.entry(attempt.step, attempt.host)) is not None:
            asked.append((entry.text, entry.env))
        return any(
            sha256
            == evidence.seal(
                host=attempt.host,
                command=text,
                env=env,
                exit_code=attempt.exit_code,
                stdout=stdout.data,
                stderr=stderr.data,
                at=attempt.begun_at,
            )
            for text, env in asked
        )


def _place(event: Event) -> tuple[str, str, int]:
    return event.step or "", event.host or "", int(event.data.get("number", 0))


def _sent(event: Event, texts: Mapping[str, str]) -> _Sent:
    sha256 = str(event.data["command"])
    return _Sent(
        text=texts.get(sha256, ""),
        sha256=sha256,
        env={str(name): str(value) for name, value in event.data.get("env", {}).items()},
        on=str(event.data.get("on", "")),
        changes=bool(event.data.get("changes")),
    )
