"""`sickbay audit verify`: is the timeline still what was written into it?

It reads the file and writes nothing, so it can be asked about a copy, and while Sickbay runs. What it cannot tell by
itself is whether somebody wrote the whole file anew: that takes a head that was noted before (see `chain`).
"""

import os
import sys
from pathlib import Path

from rich.console import Console

from bot.chain import SHORTEST, Walked
from bot.cli.terminal import OK, UNWELL, console
from bot.config.config import find_config, load
from bot.errors import SickbayError
from bot.store.timeline import verify


def audit(file: Path | None, noted: str | None, config: Path | None) -> int:
    """Say whether all events fit, and print the head; return the exit code.

    Raises:
        SickbayError: when there is nothing to look at.

    """
    head = _head(noted)
    path = file or load(find_config(config, os.environ, Path.cwd()), os.environ)[0].store_path
    found = verify(path, head)
    return _say(found, head, console(sys.stdout))


def _head(noted: str | None) -> str:
    head = (noted or "").strip().lower()
    if noted is not None and (not SHORTEST <= len(head) <= 64 or set(head) - set("0123456789abcdef")):
        raise SickbayError(
            f"`{noted[:80]}` is no head of a timeline",
            where="--head",
            advice=f"give the hash that was printed, or at least its first {SHORTEST} letters",
        )
    return head


def _say(found: Walked, head: str, out: Console) -> int:
    def say(words: str) -> None:
        out.print(words, markup=False, soft_wrap=True)

    if found.fault:
        say(f"The timeline does not hold: {found.fault}.")
    if not found.whole:
        say(f"Before that, {_events(found.events)} fit. Keep the file as it is, and compare it with a copy.")
    else:
        say(f"All {_events(found.events)} fit.")
        say(f"Head: {found.head}")
    if not head:
        return UNWELL if found.fault else OK
    if found.noted is not None:
        say(
            f"The head that was noted is event {found.noted}; {_events(found.events - found.noted)} came later."
        )
        return UNWELL if found.fault else OK
    say(
        "No event has the head that was noted: events that were there then are gone or were written anew, "
        "or it was noted of another timeline."
        if found.whole
        else "The head that was noted was not met before that."
    )
    return UNWELL


def _events(count: int) -> str:
    return f"{count:,} event" if count == 1 else f"{count:,} events"
