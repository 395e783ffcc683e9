"""`host.boot`: in which boot a host is, and since when; a host that does not tell is in one that nobody knows."""

from bot.effect import Command, Finished
from bot.facts.capture import booted
from bot.language.inputs import Noun
from bot.steps.answer import words
from bot.steps.kind import Context, Effect, Judgement, Kind

SECONDS = 15.0


class Arguments(Noun):
    """Nothing stands under `with`."""


def plan(_arguments: Arguments, _context: Context) -> Effect:
    """Read what the kernel says."""
    return Effect(Command("cat /proc/sys/kernel/random/boot_id /proc/uptime", timeout=SECONDS))


def judge(_arguments: Arguments, answer: Finished, _context: Context) -> Judgement:
    """Say which boot it is; what that means is for whoever compares it."""
    found = booted(answer.stdout.text)
    summary = f"boot {found.id}" if found.id else f"its boot id could not be read: {words(answer)}"
    return Judgement(ok=True, summary=summary, facts={"boot": found.id, "up_s": found.up_s})


KIND = Kind(
    says="Tells in which boot a host is, and since when.",
    arguments=Arguments,
    plan=plan,
    judge=judge,
)
