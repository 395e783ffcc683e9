"""Regular expressions that people write, matched in a time that no text can make long.

Python's `re` tries every way to divide a text among repeats, cannot be interrupted and keeps every other thread waiting:
`^(a+)+$` takes longer than the age of a machine on forty letters, `^.+-.+-.+-.+$` half a minute on a thousand. So they
are RE2's (https://github.com/google/re2/wiki/Syntax), which looks at each character once and refuses what cannot be
matched so: references back, looking around, possessive repeats.
"""

import re
from functools import lru_cache
from typing import Any

import re2

LONGEST = 1000
"""Characters of a text that is held against a pattern."""
_OPEN_BELOW = re.compile(r"(?<!\\)\{,[0-9]+\}")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


@lru_cache(maxsize=256)
def pattern(written: str) -> Any:
    """Return the pattern that is written so.

    Raises:
        ValueError: saying why it is none.

    """
    if found := _OPEN_BELOW.search(written):  # RE2 would take it for plain text
        raise ValueError(f"`{found[0]}` begins with no number: write {{0{found[0][1:]}")
    try:
        return re2.compile(written, _OPTIONS)
    except re2.error as error:
        what = error.args[0].decode("utf-8", "replace") if error.args else "no pattern"
        raise ValueError(
            f"not a regular expression that is quick on any text (RE2): {what}; it takes no looking around `(?=…)`, no "
            "reference back `\\1`, no possessive `a++`, at most 1,000 repeats, and `\\z` for `\\Z`"
        ) from error
    except UnicodeEncodeError:
        raise ValueError("a pattern is text: it holds half a letter") from None


def fits(written: str, text: str) -> bool:
    """Does the pattern match the whole text? What is no text (half a letter) fits none."""
    try:
        return pattern(written).fullmatch(text) is not None
    except UnicodeEncodeError:
        return False
