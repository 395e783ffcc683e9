"""Drains as people read them: whose they are, how old, and what HAProxy says of the server now."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from bot.guard.drain import Drain, Said
from bot.messages.card import Card, Node, Note, Table, Title, Words
from bot.messages.short import line, took
from bot.messages.words import say, text
from bot.wording import count

ROWS = 50


def drain_table(drains: Sequence[Drain], said: Mapping[int, Said], now: datetime) -> Card:
    """List drains, the oldest first; `said` is what HAProxy says now, of those that were asked about."""
    title = count(len(drains), "drain") if drains else "Sickbay keeps no server out of traffic."
    nodes: list[Node] = [Title(text(title, bold=True))]
    columns = ("Host", "Server", "Owner", "Run", "Since (UTC)", "Age", "Why", "HAProxy now")
    rows = [
        (
            one.host,
            f"{one.server} at {one.lb}",
            one.by,
            f"{one.run} {one.runbook}",
            f"{one.at:%m-%d %H:%M}",
            took(now - one.at),
            line(one.why, 100),
            line(state_of(one, said.get(one.id)), 200),
        )
        for one in drains[:ROWS]
    ]
    if rows:
        nodes += [Table(columns, tuple(rows)), Note(say("listing.drains"))]
    if len(drains) > ROWS:
        nodes.append(Note(say("listing.more", shown=ROWS, rows=len(drains))))
    return Card(title, tuple(nodes))


def state_of(drain: Drain, said: Said | None) -> str:
    """Say how a server stands: by HAProxy's word, with what of that is not as it was left."""
    if said is None:
        before = f"; {drain.seen_words} at {drain.seen_at:%H:%M}" if drain.seen and drain.seen_at else ""
        return f"unknown: not asked{before}"
    if said.state is None:
        return f"unknown: {said.words}"
    words = said.words.partition(": ")[2] or said.words
    if drain.kept_at is None and not drain.closed:
        return f"{words}; run {drain.run} is at work"
    more = drain.closed or drain.lost or (drain.note if drain.state == "unknown" else "")
    return f"{words}; {more}" if more else words


def standing(drain: Drain) -> Words:
    """Say of a drain that its run has left what has become of it; nothing is said of one that was not left."""
    about = {"host": drain.host, "server": drain.server, "lb": drain.lb}
    if drain.closed_at is not None:
        return say("run.back", how=drain.closed, at=drain.closed_at, **about)
    if drain.state == "unknown":
        return say("run.drain_unknown", note=drain.note, **about)
    return say("run.drained", at=drain.at, why=line(drain.why, 200), lost=drain.lost, by=drain.by, **about)
