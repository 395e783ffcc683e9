"""What pydantic found, in the words of somebody who edits YAML: where, what, and what was probably meant.

Pydantic speaks of inputs, strings and dictionaries, and reports every member of a union on its own; people read of
text, lists and keys, and get one sentence for each value.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bot.errors import Misplaced, Path

_WANTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "a mapping (key: value)",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "path": "a path",
}
_TYPE_ERROR = re.compile(r"(.+?)_(type|parsing|from_float|attributes_type)")
_LIMITS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "needs at least {min_length}",
    "too_long": "may have at most {max_length}",
}


@dataclass(slots=True)
class _Finding:
    path: Path
    """As far as the document has it."""
    rest: tuple[str | int, ...]
    """What pydantic's location says beyond that: the member of a union, a missing key."""
    base: Path
    """Where the union begins, if there is one."""
    error: ErrorDetails

    @property
    def wanted(self) -> str | None:
        """The type that was expected, if that is the complaint."""
        match = _TYPE_ERROR.fullmatch(self.error["type"])
        return _WANTED.get(match[1]) if match else None


def explain(
    model: type[BaseModel], error: ValidationError, data: Any, written: Callable[[Path], str]
) -> Iterator[tuple[Path, str, str]]:
    """Yield path, what is wrong and a hint for each mistake; `written` gives a scalar as it stands in the file."""
    findings = [_place(details, data) for details in error.errors(include_url=False)]
    types: dict[Path, list[_Finding]] = {}
    for finding in _one_member(findings):
        if finding.wanted:
            types.setdefault(finding.path, []).append(finding)
        else:
            yield _say(model, finding)
    for path, alike in types.items():
        value = alike[0].error["input"]
        wanted = " or ".join(dict.fromkeys(str(finding.wanted) for finding in alike))
        yield (
            path,
            f"{_key(path)}expected {wanted}, not {show(value, written(path)) if path else _kind(value)}",
            _hint(wanted, value, written(path)),
        )


def no_longer(why: str) -> str:
    """Say that a plan was not carried out, because what it was made from is no longer so."""
    return f"The plan no longer held: {why}. Nothing was changed."


def count(number: int, noun: str) -> str:
    """Write `1 host`, `2 hosts`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def nth(number: int) -> str:
    """Write `1st`, `2nd`, `11th`."""
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def near(word: str, known: Iterable[str]) -> str:
    """Write `did you mean …?`, or nothing when no known word is like it."""
    found = get_close_matches(word, list(known), n=1)
    return f"did you mean `{found[0]}`?" if found else ""


def show(value: Any, written: str = "") -> str:
    """Write a value short, as a person would name it."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}…"'
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return written or str(value).lower()


def _kind(value: Any) -> str:
    """Name what a whole file is without a word of it: one that was named by mistake may hold secrets."""
    return "text" if isinstance(value, str) else show(value)


def _place(details: ErrorDetails, data: Any) -> _Finding:
    loc = details["loc"]
    base, here = _descend(data, loc, stop=True)
    rest = loc[len(base) :]
    # Behind the name of a union's member the document may go on.
    below, _ = _descend(here, rest[1:], stop=False)
    return _Finding((*base, *below), rest, base, details)


def _descend(here: Any, loc: Path, *, stop: bool) -> tuple[Path, Any]:
    """Follow `loc` into the data; stop at the first part that leads nowhere, or pass over it."""
    path: Path = ()
    for part in loc:
        inside = dict(enumerate(here)) if isinstance(here, list) else here if isinstance(here, dict) else {}
        if part in inside:
            here, path = inside[part], (*path, part)
        elif stop:
            break
    return path, here


def _one_member(findings: list[_Finding]) -> list[_Finding]:
    """Of each union keep the member that the author most likely meant: of the right shape, with the fewest mistakes."""
    kept: list[_Finding] = []
    unions: dict[Path, dict[str | int, list[_Finding]]] = {}
    for finding in findings:
        alone = finding.rest == ("[key]",) or (finding.error["type"] == "missing" and len(finding.rest) == 1)
        if finding.rest and not alone:
            unions.setdefault(finding.base, {}).setdefault(finding.rest[0], []).append(finding)
        else:
            kept.append(finding)
    for base, members in unions.items():
        shaped = [
            found
            for found in members.values()
            if not any(each.wanted and each.path == base for each in found)
        ]
        all_of_them = [each for found in members.values() for each in found]
        kept += sorted(shaped, key=len)[0] if shaped else all_of_them
    return kept


def _say(model: type[BaseModel], finding: _Finding) -> tuple[Path, str, str]:
    kind, value, context = finding.error["type"], finding.error["input"], finding.error.get("ctx", {})
    path = finding.path
    if kind == "missing":
        return path, f"missing `{finding.rest[-1]}`", ""
    if kind == "extra_forbidden":
        return path, f"unknown key `{path[-1]}`", _meant(model, finding.error["loc"], str(path[-1]))
    if kind in ("value_error", "assertion_error"):
        reason = context.get("error")
        below = reason.path if isinstance(reason, Misplaced) else ()
        named = _key(path) if path and not below and not isinstance(value, dict) else ""
        hint = reason.advice if isinstance(reason, Misplaced) else ""
        return (*path, *below), f"{named}{reason}", hint
    if kind in ("literal_error", "enum"):
        expected = str(context["expected"]).replace("True", "true").replace("False", "false")
        hint = near(value, re.findall(r"'([^']*)'", expected)) if isinstance(value, str) else ""
        return path, f"{_key(path)}expected {expected.replace(chr(39), '`')}, not {show(value)}", hint
    if kind == "string_pattern_mismatch":
        what = f"{_key(path)}{show(value)} does not match {context['pattern']}"
        return path, what, _described(model, finding.error["loc"])
    if kind == "string_too_short" and context["min_length"] == 1:
        return path, f"{_key(path)}must not be empty", ""
    if kind in _LIMITS:
        return path, f"{_key(path)}{_LIMITS[kind].format(**context)}", ""
    text = finding.error["msg"]
    return path, f"{_key(path)}{text[:1].lower()}{text[1:]}", ""


def _key(path: Path) -> str:
    """Name the key a sentence is about."""
    for depth, part in reversed(list(enumerate(path))):
        if isinstance(part, str):
            items = "".join(f" item {int(index) + 1}" for index in path[depth + 1 :])
            return f"`{part}`{items}: "
    return ""


def _hint(wanted: str, value: Any, written: str) -> str:
    if "text" in wanted and isinstance(value, bool | int | float):
        return f'quote it: "{written or str(value).lower()}"'
    if (
        "true or false" in wanted
        and isinstance(value, str)
        and value.lower() in ("yes", "no", "on", "off", "true", "false")
    ):
        return "write true or false, without quotes"
    if "number" in wanted and isinstance(value, str):
        if re.fullmatch(r"[-+]?(0|[1-9]\d*)(\.\d+)?", value):
            return "remove the quotes"
        if re.fullmatch(r"[-+]?[0-9][0-9a-fxo_:]*", value):
            return "only plain decimal numbers are read"
    if "list" in wanted and isinstance(value, str):
        return f"write [{value}]" if re.fullmatch(r"[\w.-]+", value) else ""
    return ""


def _meant(model: type[BaseModel], loc: tuple[str | int, ...], key: str) -> str:
    """Which of the model's keys was meant; all of them where none is near and they are few."""
    models = _models_at([model], loc[:-1])
    slips = {wrong: right for each in models for wrong, right in getattr(each, "slips", {}).items()}
    if key in slips:
        return f"did you mean `{slips[key]}`?"
    keys = [field.alias or name for each in models for name, field in each.model_fields.items()]
    return near(key, keys) or (f"known here: {', '.join(keys)}" if 0 < len(keys) <= 12 else "")


def _described(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """What the model says about a field."""
    fields = (
        field
        for each in _models_at([model], loc[:-1])
        for name, field in each.model_fields.items()
        if loc[-1] in (name, field.alias)
    )
    return next((field.description for field in fields if field.description), "")


def _models_at(types: list[Any], loc: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """Models that a location may mean; names of union members in it lead nowhere and are passed over."""
    for part in loc:
        below = [found for each in types for found in _below(each, part)]
        types = below or types
    return [each for each in types if isinstance(each, type) and issubclass(each, BaseModel)]


def _below(kind: Any, part: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [
            each
            for name, field in kind.model_fields.items()
            if part in (name, field.alias)
            for each in _members(field.annotation)
        ]
    arguments = get_args(kind)
    if not arguments:
        return []
    inner = arguments[-1] if arguments[-1] is not Ellipsis else arguments[0]
    return _members(inner)


def _members(kind: Any) -> list[Any]:
    """Take a type apart: the members of a union, what is inside `Annotated`."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _members(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [each for member in get_args(kind) for each in _members(member)]
    return [kind]
