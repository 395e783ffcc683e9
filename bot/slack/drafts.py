"""Which messages there are, and what each says now: from the store to cards and places, read afresh every time.

Keys name messages by meaning: `incident:7` is the root of an incident, `run:12` a run, `approval:12` the question about
its plan, `plan:12` the whole plan, `output:12` the file with all that its commands printed. When somebody broke glass,
which is event 345, `glass:345` says so in the thread, `alarm:345` in the run's channel and `broadcast:345` in the one for all,
where that is another: a run in a direct message is nobody's secret. The last two also say that automation stopped itself.
When an incident was opened again, which is event 346, `again:346` says so in its thread.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bot.guard.decision import TRIPPED
from bot.incident import Event
from bot.messages import (
    Card,
    Mask,
    RunView,
    again_card,
    approval_card,
    glass_card,
    incident_card,
    output_text,
    output_wanted,
    plan_card,
    plan_text,
    run_card,
    standstill_card,
)
from bot.messages.short import TAIL
from bot.people.permissions import Groups
from bot.runs.approval import BROKEN, Person
from bot.runs.record import Record
from bot.runs.run import Attempt, Run
from bot.store import Store
from bot.views import incident_views, run_view
from bot.wording import count

Urgency = Literal[0, 1, 2]
"""0: somebody is asked or has answered; 1: an end; 2: progress."""
_LOUD = ("glass", "alarm", "broadcast")
_ID = re.compile(r"[CG][A-Z0-9]{6,}\Z")
"""The id of a channel; `D…` is a direct message."""
_LONG_PLAN = 40
_WHOLE_FILE = 8 * 1024 * 1024
"""Characters of a file with outputs; a thousand hosts can print a gigabyte."""


@dataclass(frozen=True, slots=True)
class File:
    """A text file to be uploaded once."""

    name: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as it should be now, and where it belongs."""

    channel: str
    card: Card | None = None
    file: File | None = None
    parent: str | None = None
    """Key of the message whose thread it belongs in."""
    thread: str | None = None
    """The thread itself, when it is not one of ours."""


def touched(event: Event) -> dict[str, Urgency]:
    """Return the messages that an event may change, and how soon that should be seen.

    What became of a message changes none: one that cannot be shown would be tried for ever.
    """
    keys: dict[str, Urgency] = {}
    if event.kind.startswith("message."):
        return keys
    urgency = _urgency(event.kind)
    if event.incident_id is not None:
        keys[f"incident:{event.incident_id}"] = urgency
        if event.kind == "incident.reopened":
            keys[f"again:{event.id}"] = 1
    if event.run_id is not None:
        keys[f"run:{event.run_id}"] = urgency
        if event.kind.startswith("approval.") or event.kind == "run.ended":
            keys[f"approval:{event.run_id}"] = 0
        if event.kind == BROKEN:
            keys[f"glass:{event.id}"] = 0
        if event.kind in (BROKEN, TRIPPED):
            keys |= {f"alarm:{event.id}": 0, f"broadcast:{event.id}": 0}
        if event.kind == "approval.asked":
            keys[f"plan:{event.run_id}"] = 0
        if event.kind == "run.ended":
            keys[f"output:{event.run_id}"] = 1
    return keys


def subject(store: Store, key: str) -> dict[str, int]:
    """Return the incident or the run that a message is about."""
    kind, _, number = key.partition(":")
    if kind == "incident":
        return {"incident": int(number)}
    if kind not in (*_LOUD, "again"):
        return {"run": int(number)}
    event = store.timeline.get(int(number))
    if kind == "again":
        return {} if event is None or event.incident_id is None else {"incident": event.incident_id}
    return {} if event is None or event.run_id is None else {"run": event.run_id}


def _urgency(kind: str) -> Urgency:
    if kind.startswith("approval."):
        return 0
    ends = ("run.ended", "run.cancel_asked", "incident.opened", "incident.reopened", "incident.resolved")
    return 1 if kind in ends or kind == "incident.recovered" else 2


class Drafts:
    """Reads the store; blocking, so the outbox asks from a thread."""

    def __init__(
        self,
        store: Store,
        people: Mapping[str, Person],
        mask: Mask,
        groups: Groups | None = None,
        *,
        channel: str = "",
    ) -> None:
        """`channel` is the one that everybody reads."""
        self._channel = channel
        self._store = store
        self._people = people
        self._mask = mask
        self._groups = groups or {}

    def of(self, key: str) -> Draft | None:
        """Return what a message should be now; None when there is nothing to show."""
        kind, _, number = key.partition(":")
        if kind == "incident":
            return self._incident(int(number))
        if kind in _LOUD:
            return self._alarm(kind, int(number))
        if kind == "again":
            return self._again(int(number))
        run = self._store.runs.get(int(number))
        if run is None or not run.channel:
            return None
        match kind:
            case "run":
                return self._draft(run, run_card(run_view(self._store, run)))
            case "approval":
                return self._approval(run)
            case "plan":
                return self._plan(run)
            case "output":
                return self._output(run)
        return None

    def _incident(self, incident_id: int) -> Draft | None:
        incident = self._store.incidents.get(incident_id)
        if incident is None or not incident.channel:
            return None
        card = incident_card(incident, incident_views(self._store, incident))
        return Draft(incident.channel, self._mask.over(card))

    def _again(self, event_id: int) -> Draft | None:
        event = self._store.timeline.get(event_id)
        if event is None or event.incident_id is None:
            return None
        incident = self._store.incidents.get(event.incident_id)
        if incident is None or not incident.channel:
            return None
        card = self._mask.over(again_card(event))
        return Draft(incident.channel, card, parent=f"incident:{incident.id}")

    def _draft(self, run: Run, card: Card) -> Draft:
        parent = f"incident:{run.incident_id}" if run.incident_id is not None else None
        return Draft(run.channel, self._mask.over(card), parent=parent, thread=run.thread)

    def _below(self, run: Run, card: Card | None = None, file: File | None = None) -> Draft:
        """Place something under a run: in the thread the run is in, else in the run's own."""
        if run.incident_id is not None:
            return Draft(run.channel, card, file, parent=f"incident:{run.incident_id}")
        if run.thread:
            return Draft(run.channel, card, file, thread=run.thread)
        return Draft(run.channel, card, file, parent=f"run:{run.id}")

    def _approval(self, run: Run) -> Draft | None:
        view = run_view(self._store, run)
        if view.approval is None:
            return None
        card = approval_card(view, self._people, self._store.now(), self._groups)
        return self._below(run, self._mask.over(card))

    def _alarm(self, kind: str, event_id: int) -> Draft | None:
        event = self._store.timeline.get(event_id)
        run = self._store.runs.get(event.run_id) if event is not None and event.run_id is not None else None
        if event is None or run is None:
            return None
        channel = self._elsewhere(run) if kind == "broadcast" else run.channel
        if not channel:
            return None
        if event.kind == TRIPPED:
            return Draft(channel, self._mask.over(standstill_card(run, event)))
        card = self._mask.over(glass_card(run, event, everybody=kind != "glass"))
        return self._below(run, card) if kind == "glass" else Draft(channel, card)

    def _elsewhere(self, run: Run) -> str:
        """Return the channel that everybody reads, unless it is the run's, or may be under its other name."""
        direct = run.channel.startswith("D")
        unlike = bool(_ID.match(run.channel)) != bool(_ID.match(self._channel)) and not direct
        return "" if run.channel == self._channel or unlike else self._channel

    def _plan(self, run: Run) -> Draft | None:
        if run.plan is None:
            return None
        text = self._mask.text(plan_text(run.plan))
        if len(text.splitlines()) <= _LONG_PLAN and len(text) < 2_500:
            return self._below(run, self._mask.over(plan_card(run.plan, run.id)))
        title = f"Plan of run {run.id}, {run.plan.digest[:12]}"
        return self._below(run, file=File(f"run-{run.id}-plan.txt", title, text))

    def _output(self, run: Run) -> Draft | None:
        """Offer all that was printed as one file, when there is more than a message shows."""
        attempts = [attempt for attempt in self._store.attempts.of(run.id) if attempt.done]
        if not run.state.ended or not (texts := self._texts(attempts)):
            return None
        text = output_text(RunView(run, Record(attempts)), texts)
        if left := len(attempts) - len(texts):
            text += f"\n… {count(left, 'more output')} left out: the file would be longer than {_WHOLE_FILE >> 20} MiB\n"
        text = self._mask.text(text)
        return self._below(run, file=File(f"run-{run.id}-output.txt", f"Output of run {run.id}", text))

    def _texts(self, attempts: list[Attempt]) -> list[tuple[Attempt, str, str]]:
        """Read what was printed, first where something was wrong, as much as a file holds; none when none is long."""
        found: dict[str, tuple[Attempt, str, str]] = {}
        size, long = 0, False
        for attempt in sorted(attempts, key=lambda one: not output_wanted(one)):
            stdout, stderr = (stream.text for stream in self._store.attempts.output(attempt))
            long = long or stdout.count("\n") + stderr.count("\n") > TAIL
            size += len(stdout) + len(stderr)
            if size > _WHOLE_FILE and found:
                break
            found[attempt.key] = (attempt, stdout, stderr)
        return [found[one.key] for one in attempts if one.key in found] if long else []
