"""Automation stopped itself: said to the whole channel, since until a person looks nothing is mended by itself."""

from bot.fleet import named
from bot.incident import Event
from bot.messages.card import Card, Mention, Note, Text, Title, plain
from bot.messages.words import join, say
from bot.runs.run import Run


def standstill_card(run: Run, event: Event) -> Card:
    """Say which hosts the breaker counted, and how automation goes on; `run` is the one that was too many."""
    headline = say("listing.standstill", hosts=named(event.data["hosts"]), count=len(event.data["hosts"]))
    call = (Mention("channel", "!channel"),)
    nodes = (
        Title(join([call, headline], " ")),
        Text(say("listing.standstill_ends")),
        Note(join([say("run.number", id=run.id), say("listing.standstill_at", at=event.at)])),
    )
    return Card(plain(headline), nodes, "bad")
