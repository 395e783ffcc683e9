"""What a pretend tool answers, and how it reads its arguments."""

import getopt
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """What the tool prints and how it exits."""

    stdout: str = ""
    stderr: str = ""
    exit: int = 0
    files: dict[str, str] = field(default_factory=dict)
    """Files it writes, by path."""


class UsageError(Exception):
    """The tool was called in a way the pretend one does not know."""


def options(argv: list[str], short: str, long: list[str]) -> tuple[dict[str, str], list[str]]:
    """Read options as GNU tools do: in any place, the last one counts; `--` ends them.

    Raises:
        UsageError: at an option that is not known.

    """
    try:
        found, rest = getopt.gnu_getopt(argv, short, long)
    except getopt.GetoptError as error:
        raise UsageError(error.msg) from error
    return dict(found), rest
