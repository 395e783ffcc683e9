"""Facts: the text a tool printed, as data; one pure parser per format.

Runbooks name a parser (`parse: nvidia_smi`) and read what it found as `facts`. Each parser is a function
`parse(text) -> Facts`, where Facts is a frozen model whose `model_dump(mode="json")` is plain JSON. None stands for
what the tool did not say: never 0, never healthy. A parser raises `FactsError` and nothing else, however the text is
cut or mangled, because what it reads comes from a broken machine by definition.
"""

import re

from pydantic import BaseModel, ConfigDict

from bot.errors import SickbayError

SHOWN = 120
"""Characters of the first line that an error shows."""


class Facts(BaseModel):
    """What one parser found."""

    model_config = ConfigDict(frozen=True)


class FactsError(SickbayError):
    """The text is not what the parser reads."""

    def __init__(self, expected: str, text: str, *, why: str = "") -> None:
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        seen = f"the text begins {first[:SHOWN]!r}" if first else "there is no text"
        super().__init__(
            f"expected {expected}, but {why or seen}" + (f" ({seen})" if why else ""),
            advice="run the command by hand on that host and compare",
        )
        self.expected = expected


_NUMBER = re.compile(r"-?[0-9]{1,17}(?:\.[0-9]{1,9})?(?=$|[ x%])")


def first_number(text: str) -> float | None:
    """Return the number a reading begins with (`81559 MiB`, `16x`, `-7 C`), or None."""
    found = _NUMBER.match(text)
    return float(found.group()) if found else None


def bounded(text: str, expected: str, largest: int) -> str:
    """Return the text ready to be read: not too long, and without halves of characters.

    Raises:
        FactsError: when it has more than `largest` characters.

    """
    if len(text) > largest:
        raise FactsError(expected, text[: SHOWN * 10], why=f"it is {len(text)} characters long")
    return text.encode("utf-8", "replace").decode()
