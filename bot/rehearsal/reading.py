"""What people were asked and what they could read while a case was played, and which of it is nearest to a text.

The cards are those that Slack and the terminal show. What they say whenever the run rests is kept, as plain text and with
the secrets taken out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from bot.guard.decision import TRIPPED
from bot.incident import Event
from bot.messages import Card, approval_card, plan_card, run_card, standstill_card
from bot.messages.card import MARKS, Checklist, Facts, Note, Output, Table, Text, Title, plain
from bot.messages.short import line
from bot.runs.approval import ApprovalState
from bot.runs.run import Run
from bot.store import Store
from bot.views import run_view


def answers(events: Iterable[Event]) -> list[ApprovalState]:
    """Return what became of each question that a run asked, the first one first."""
    said: list[ApprovalState] = []
    for event in events:
        match event.kind:
            case "approval.asked":
                said.append("pending")
            case "approval.decided":
                said[-1] = event.data["state"]
            case "approval.expired":
                said[-1] = "expired"
            case "approval.void" if said:
                said[-1] = "void"
    return said


def asked_about(run: Run) -> tuple[str, ...]:
    """Return the hosts that a run asks about: those whose evidence is lacking, else those it would change."""
    if run.plan is None:
        return ()
    lacking = [host for host, _ in run.plan.without]
    changed = [entry.host for entry in run.plan.entries if entry.changes]
    return tuple(dict.fromkeys(lacking or changed))


@dataclass(slots=True)
class Reading:
    """What was shown, line by line, and what was asked."""

    lines: dict[str, None] = field(default_factory=dict)
    """Every line that any card had, once, in the order in which they came."""
    cards: dict[str, None] = field(default_factory=dict)
    """The same, card by card."""
    hosts: list[tuple[str, ...]] = field(default_factory=list)
    """The hosts of each question."""
    answers: list[ApprovalState] = field(default_factory=list)

    def look(self, store: Store, run: Run, *, cards: bool) -> None:
        """Read what can be read of a run now, where it rests; its cards only where somebody wants to know."""
        approval = store.approvals.get(run.id)
        pending = approval is not None and approval.state == "pending"
        if pending or run.state.ended:
            self.answers = answers(store.timeline.of(run=run.id))
            while len(self.hosts) < len(self.answers):
                self.hosts.append(asked_about(run))
        if not cards:
            return
        view = run_view(store, run)
        shown = [run_card(view), *([approval_card(view, now=store.now())] if approval is not None else [])]
        shown += [plan_card(run.plan, run.id)] if pending and run.plan is not None else []
        tripped = store.timeline.of(run=run.id, kind=TRIPPED) if run.state.ended else []
        shown += [standstill_card(run, event) for event in tripped]
        for card in shown:
            lines = list(written(store.mask.over(card)))
            self.cards["\n".join(lines)] = None
            self.lines |= dict.fromkeys(lines)

    def has(self, text: str) -> bool:
        """Did people read this, in one card?"""
        return any(text in card for card in self.cards)

    def nearest(self, text: str) -> str:
        """Return the line that has most of a text, shortened; empty where nothing was shown."""

        def likeness(shown: str) -> tuple[float, float]:
            match = SequenceMatcher(None, text, shown, autojunk=False)
            same = sum(block.size for block in match.get_matching_blocks() if block.size > 1)
            return same / len(text), match.ratio()

        return line(max(self.lines, key=likeness, default=""), 200)


def written(card: Card) -> Iterator[str]:
    """Yield a card line by line, as plain text; buttons are no text."""
    for node in card.nodes:
        match node:
            case Title(words) | Text(words) | Note(words):
                yield plain(words)
            case Facts(pairs):
                yield from (f"{name}: {plain(words)}" for name, words in pairs)
            case Table(columns, rows):
                yield from (" · ".join(row) for row in (columns, *rows))
            case Checklist(items):
                for item in items:
                    yield f"{MARKS[item.mark]} {plain(item.words)}"
                    yield from map(plain, item.under)
            case Output(text, caption):
                yield from (*([plain(caption)] if caption else []), *text.splitlines())


def told(questions: Sequence[tuple[tuple[str, ...], str]]) -> str:
    """Name questions in one line: `gpu-03 (approved), gpu-04 (denied)`."""
    return ", ".join(f"{','.join(hosts) or 'no host'} ({answer})" for hosts, answer in questions) or "none"
