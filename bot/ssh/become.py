"""A command that runs as root by `sudo -n`, where the login user is not root.

The command's text becomes a text that starts it through sudo: so whatever runs commands on a host, once or as often as
one likes, runs this one in the same way. Values still travel as shell variables, over a pipe and past `ps`.
"""

import math
from dataclasses import replace
from functools import cache
from importlib.resources import files

from bot.effect import Command
from bot.inventory import Host
from bot.ssh.account import account
from bot.ssh.script import quoted, text_of
from bot.ssh.settings import SshSettings

LOOKING = 1
"""Seconds between TERM and KILL for a command that only looks; what runs it gives up after two."""


def becomes_root(host: Host, settings: SshSettings, *, mutating: bool) -> bool:
    """Does such a command run under sudo on this host?"""
    wanted = host.access.sudo or settings.sudo
    user = account(host, settings, "act" if mutating else "look").user
    return user != "root" and (wanted == "always" or (wanted == "act" and mutating))


def as_root(command: Command, settings: SshSettings) -> Command:
    """Return the command as one that runs under sudo.

    Raises:
        SickbayError: when it cannot be written as shell text at all.

    """
    text = text_of(command)
    # root's side needs time for its own KILL, before this side is killed and nobody knows any more
    grace = max(LOOKING, math.ceil(settings.kill_grace) - 2) if command.mutating else LOOKING
    values = {
        "text": text,
        "size": str(len(text.encode("utf-8", "surrogateescape"))),
        "script": _lines("root.sh"),
        "grace": str(grace),
    }
    front = "".join(f"sb_root_{name}={quoted(value)}\n" for name, value in values.items())
    return replace(command, text=front + _lines("sudo.sh"), env={})


def outlives(exit_code: str) -> bool:
    """May root's command go on although its group on the login user's side is gone?

    It may when that side was killed itself: only what that side says of its own accord is said by one who has waited.
    """
    return not exit_code.isdigit()


@cache
def _lines(name: str) -> str:
    """Return a script without its comments and indentation, which only people need."""
    lines = (files("bot.ssh") / name).read_text("utf-8").splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.strip() and not line.strip().startswith("#"))
