"""The base of all models that people write in YAML, and the inputs of a runbook."""

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from bot.language.pattern import LONGEST, fits
from bot.language.pattern import pattern as read_pattern


class Noun(BaseModel):
    """Base of all models people write in YAML: frozen, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Input(Noun):
    """A value that the starter of a run may give."""

    type: Literal["string", "integer", "number", "boolean"] = "string"
    pattern: str | None = None
    choices: list[Any] | None = None
    default: Any = None
    required: bool = False
    description: str = ""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            read_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        if self.pattern is not None and self.type != "string":
            raise ValueError("`pattern` is for inputs of type string")
        for choice in self.choices or ():
            self.value(choice)
        if self.default is not None:
            self.value(self.default)
        return self

    def value(self, given: Any) -> Any:
        """Return `given` as this input's type; text such as `8080` or `true` is read as people mean it.

        Raises:
            ValueError: saying what was expected.

        """
        if isinstance(given, str) and self.type != "string":
            given = _read(self.type, given)
        if not isinstance(given, _TYPES[self.type]) or (isinstance(given, bool) and self.type != "boolean"):
            raise ValueError(f"expected {self.type}, not {given!r}")
        if self.pattern is not None and isinstance(given, str) and len(given) > LONGEST:
            raise ValueError(f"{given[:40]!r}… is longer than {LONGEST:,} characters")
        if self.pattern is not None and (not isinstance(given, str) or not fits(self.pattern, given)):
            raise ValueError(f"{given!r} does not match {self.pattern}")
        if self.choices is not None and given not in self.choices:
            raise ValueError(f"{given!r} is none of {', '.join(map(str, self.choices))}")
        return given


def _read(wanted: str, text: str) -> bool | int | float:
    """Read text as people type it: `8080`, `2.5`, `yes`."""
    words = {"true": True, "yes": True, "false": False, "no": False}
    if wanted == "boolean" and text.lower() in words:
        return words[text.lower()]
    if wanted == "integer" and re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        return int(text)
    if wanted == "number" and re.fullmatch(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?", text):
        return float(text)
    raise ValueError(f"expected {'true or false' if wanted == 'boolean' else wanted}, not {text!r}")


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
