"""YAML text to a pydantic model, with every mistake of text and model at once at its file and line.

Types are strict: no text becomes a number or a boolean, and 1.10 where text is wanted is a mistake, not "1.1".
"""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bot.errors import Path
from bot.language.document import Document, Invalid, Mistake, attempt, read
from bot.wording import explain

__all__ = [
    "Document",
    "Invalid",
    "Mistake",
    "Path",
    "attempt",
    "faults",
    "json_schema",
    "parse",
    "read",
    "validate",
]

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], text: str | bytes, *, file: str) -> tuple[M, Document]:
    """Read YAML into a model; also return the document, for the places of later findings.

    Raises:
        Invalid: with the mistakes of the text and of the model together.

    """
    document, mistakes = attempt(text, file=file)
    if document is None:
        raise Invalid(mistakes)
    try:
        parsed = validate(model, document)
    except Invalid as error:
        raise Invalid([*mistakes, *error.mistakes]) from error
    if mistakes:
        raise Invalid(mistakes)
    return parsed, document


def validate(model: type[M], document: Document, path: Path = ()) -> M:
    """Make a model of what stands at `path`.

    Raises:
        Invalid: with every mistake at its line.

    """
    parsed, found = faults(model, document.find(path)[0].data, document=document, path=path)
    if parsed is None:
        raise Invalid([document.mistake((*path, *at), what, hint) for at, what, hint in found])
    return parsed


def faults(
    model: type[M], data: Any, *, document: Document, path: Path = ()
) -> tuple[M | None, list[tuple[Path, str, str]]]:
    """Try `data` on a model; return the parsed model, or what is wrong, each with its path below `path` and a hint."""
    try:
        # By way of JSON, because pydantic's strict mode then still takes a list for a tuple and text for a path.
        return model.model_validate_json(json.dumps(data), strict=True, by_alias=True, by_name=False), []
    except ValidationError as error:
        return None, list(explain(model, error, data, lambda at: document.find((*path, *at))[0].source))


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) with the keys as written in YAML, for editors."""
    schema = model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
