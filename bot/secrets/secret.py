"""A secret as plans know it: by reference.

`{{ secrets.NAME }}` in a runbook becomes `‹secret NAME›` in the plan: that is what people read and approve, what is stored,
and what the digest is made of. The value takes its place at the very last, on the way into the shell of the host. So that
no alert, input or host can write a reference of its own, what comes from outside may not hold the beginning of one.
"""

import re
from collections.abc import Callable, Iterator, Mapping

NAME = r"[a-z][a-z0-9_]{0,62}"
_REFERENCE = re.compile(rf"‹secret ({NAME})›")
_EXPRESSION = re.compile(rf"secrets\.({NAME})")
_BEGINNING = re.compile(r"‹(?:secret|(?:s(?:e(?:c(?:r(?:e)?)?)?)?)?$)")


def reference(expression: str) -> str | None:
    """Return the reference that an expression stands for; None when it is no secret's bare name."""
    found = _EXPRESSION.fullmatch(expression)
    return f"‹secret {found[1]}›" if found else None


def forged(text: str) -> bool:
    """Could this, by itself or with what stands behind it, be read as a reference?"""
    return _BEGINNING.search(text) is not None


def named(env: Mapping[str, str]) -> Iterator[str]:
    """Yield the names of the secrets that values refer to."""
    for value in env.values():
        yield from _REFERENCE.findall(value)


def filled(env: Mapping[str, str], value_of: Callable[[str], str]) -> dict[str, str]:
    """Return the values with each reference replaced; what a secret holds is not looked through again."""
    return {
        name: _REFERENCE.sub(lambda found: value_of(found[1]), value) if "‹" in value else value
        for name, value in env.items()
    }
