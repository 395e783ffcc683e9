"""Broken glass: said where nobody can overlook it, from what was written down when it was broken.

A run may ask more than once, and glass may be broken each time: every time is a message of its own, and stays in the run.
"""

from bot.fleet import named
from bot.incident import Event
from bot.messages.card import Card, Mention, Node, Note, Text, Title, Words, plain
from bot.messages.words import join, name_words, say
from bot.runs.run import Run


def glass_card(run: Run, event: Event, *, everybody: bool) -> Card:
    """Say that somebody alone approved what takes others too; `everybody` is called in the channel."""
    told = event.data
    by = name_words(str(told["by"]), bold=True)
    headline = say("approval.glass_title", runbook=run.runbook.name, hosts=named(run.hosts), by=by)
    call: Words = (Mention("channel", "!channel"),) if everybody else ()
    rule = say("approval.glass_rule", required=told["required"], roles=" or ".join(told["roles"]))
    had = join([name_words(name) for name in told["had"]], ", ")
    note = [
        say("run.number", id=run.id),
        say("approval.plan", digest=told["digest"]),
        say("approval.glass_at", at=event.at, via=told["via"]),
        say("approval.glass_stop", id=run.id),
    ]
    nodes: tuple[Node, ...] = (
        Title(join([call, headline], " ")),
        Text(say("approval.glass_reason", reason=told["glass"])),
        Text(join([rule, say("approval.glass_had", names=had) if had else ()], " ")),
        Note(join(note)),
    )
    return Card(plain(headline), nodes, "bad")


def glass_line(event: Event) -> Words:
    """Say it in one line, for the run's own message."""
    told = event.data
    return say("run.glass", by=name_words(str(told["by"])), at=event.at, reason=told["glass"])
