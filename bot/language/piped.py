"""What a command does with what is piped into it: takes it as data, or runs it."""

import re
from collections.abc import Sequence

from bot.language.argument import (
    ASSIGNMENT,
    DATA,
    ELSEWHERE,
    ORDINARY,
    PYTHON,
    SHELL,
    basename,
    danger,
    kind_of,
)

_RUN_IT = frozenset(("su", "runuser", "perl", "ruby", "node", "php", "lua", "expect"))
_SQL = re.compile(r"psql|mysql|mariadb|sqlite3")


def reads_stdin(words: Sequence[str]) -> str:
    """Return which of the words makes the command run what is piped into it; empty where that is data."""
    words = [*words]
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words or basename(words[0]) in DATA:
        return ""
    for at, each in enumerate(words):
        name = basename(each)
        if at and name in ORDINARY and name not in ("su", "node"):
            continue
        kind, behind = kind_of(name), words[at + 1 :]
        if name == "xargs":
            if danger(words[at:], "") or _replaced(words[at:]):
                return name
        elif name in ELSEWHERE or name in ("at", "batch", "crontab", "parallel"):
            if not _runs_data(behind):
                return name
        elif name in ("source", ".") and at == 0:
            return name
        elif kind in (SHELL, PYTHON) or name in _RUN_IT:
            told = [
                one
                for before, one in zip(words[at:], behind, strict=False)
                if not one.startswith(("-", "+"))
                and one not in ("/dev/stdin", "/dev/fd/0")
                and not re.fullmatch(r"[-+]\w*[oOWX]|--(rcfile|init-file)", before)
            ]
            coded = any(re.fullmatch(r"-\w*[ceEmr]|--(eval|command)", one) for one in behind)
            if (not told or any(one in ("-s", "-") for one in behind) or "/dev/stdin" in behind) and not (
                coded and told
            ):
                return name
            if name in ("su", "runuser") and not coded:
                return name
        elif _SQL.fullmatch(name):
            if not any(re.match(r"-\w*[cef]$|--(command|execute|file)", one) for one in behind):
                return name
        elif name in ("awk", "gawk", "mawk", "sed") and any(
            one == "-f" and behind[index + 1 : index + 2] in (["-"], ["/dev/stdin"])
            for index, one in enumerate(behind)
        ):
            return name
    return ""


def _replaced(words: Sequence[str]) -> bool:
    """Would `xargs -I {}` put what it reads where a command or code stands?"""
    sign = ""
    for at, each in enumerate(words):
        if found := re.fullmatch(r"-[0-9a-zA-Z]*?[IJ](.*)|-[0rtp]*i(.*)|--replace=?(.*)", each):
            own = found[1] or found[2] or found[3]
            sign = own or ("{}" if found[1] is None else "".join(words[at + 1 : at + 2]))
            break
    return bool(sign) and any(
        sign in each and danger(words[:at], each.partition(sign)[0]) is not None
        for at, each in enumerate(words)
    )


def _runs_data(behind: Sequence[str]) -> bool:
    """Does what is run elsewhere plainly take its standard input as data?"""
    text = " ".join(behind).split()
    names = [basename(one) for one in text]
    return any(name in DATA for name in names) and not any(
        (kind := kind_of(name)) and kind.then == "script" for name in names[1:]
    )
