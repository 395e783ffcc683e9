"""Values and commands as shell text that cannot be broken out of, in front of the scripts that run on hosts.

A script goes to the host on standard input of a plain `/bin/sh`: the login shell may be anything, `ps` shows no
value, and no argument is too long.
"""

import re
from functools import cache
from importlib.resources import files

from bot.effect import Command
from bot.errors import SickbayError

SHELL = "exec /bin/sh"
SHELL_OF_ITS_OWN = "exec setsid /bin/sh"
"""For servers that do not give a command its own session; OpenSSH does."""
LONGEST = 1024 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def quoted(value: str) -> str:
    """Write a value as one word of POSIX sh, whatever it holds.

    Raises:
        SickbayError: for a NUL byte, which no shell can hold.

    """
    if "\0" in value:
        raise SickbayError("a value for a command holds a NUL byte", advice="no shell variable can hold it")
    return "'" + value.replace("'", "'\\''") + "'"


def text_of(command: Command) -> str:
    """Return the command with its values in front of it as shell variables."""
    for name in command.env:
        if not _NAME.match(name) or name.startswith("sb_"):
            raise SickbayError(f"{name!r} cannot be a shell variable", advice="use letters, digits and _")
    if "\0" in command.text:
        raise SickbayError("a command holds a NUL byte", advice="no shell can read it")
    return "".join(f"{name}={quoted(value)}\n" for name, value in command.env.items()) + command.text


def script(*names: str, **values: str | int) -> bytes:
    """Return scripts of this room, one after the other, with their parameters in front of them."""
    front = "".join(f"sb_{key}={quoted(str(value))}\n" for key, value in values.items())
    data = (front + "".join(map(_body, names))).encode("utf-8", "surrogateescape")
    if len(data) > LONGEST:
        raise SickbayError(
            f"a command of {len(data)} bytes is too long for a host",
            advice=f"keep command and values under {LONGEST} bytes; copy data as a file",
        )
    return data


@cache
def _body(name: str) -> str:
    """Return a script without its comments and indentation, which only people need."""
    lines = (files("bot.ssh") / name).read_text("utf-8").splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.strip() and not line.strip().startswith("#"))
