"""What an expression of a runbook may do: Jinja2's sandbox with a short list of filters and methods.

Everything that is not listed is refused, so that no expression reaches into Python, runs long or makes a result of
millions of characters out of a few.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Literal

import jinja2
from jinja2 import pass_environment
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bot.errors import SickbayError
from bot.wording import show

MAX_RESULT = 64 * 1024
"""Characters and items of what one expression gives."""
MAX_RANGE = 1000
MAX_BITS = 4096
"""Of a whole number; Python writes none of more than 4,300 digits."""
MAX_LONG = 4 * 1024 * 1024
"""Characters and items of what is made on the way to a result; an output of a host is at most a quarter of it."""

_FILTERS = [
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "items", "last", "length", "list", "lower", "map",
    "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "sort", "string", "sum", "title",
    "trim", "unique", "upper",
]  # fmt: skip
_TEXT = [
    "count", "endswith", "find", "isdigit", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "upper",
]  # fmt: skip
_METHODS: list[tuple[type, list[str]]] = [
    (str, _TEXT),
    (Mapping, ["get", "items", "keys", "values"]),
    (list, ["index", "count"]),
]


class TemplateError(SickbayError):
    """An expression or a value that cannot be had; the text says which and why."""


def plain(given: Any) -> Any:
    """Return the result as plain data: iterators become lists, nothing undefined hides inside, the size is capped."""
    size = 0

    def count(more: int) -> None:
        nonlocal size
        size += more
        if size > MAX_RESULT:
            raise TemplateError(f"the result is larger than {MAX_RESULT // 1024} Ki characters or items")

    def walk(each: Any, depth: int) -> Any:
        count(1)
        if isinstance(each, jinja2.Undefined):
            each._fail_with_undefined_error()  # noqa: SLF001 - the only way for every kind of it
        if isinstance(each, int) and each.bit_length() > MAX_BITS:
            raise TemplateError("the number is too large", advice="work with smaller numbers")
        if each is None or isinstance(each, bool | int | float):
            return each
        if isinstance(each, str):
            count(len(each))
            return str(each)
        if isinstance(each, date):
            return each.isoformat()
        if depth > 50:
            raise TemplateError("the result is nested too deep")
        if isinstance(each, Mapping):
            return {walk(key, depth + 1): walk(inner, depth + 1) for key, inner in each.items()}
        if isinstance(each, Iterable) and not isinstance(each, bytes):
            return [walk(inner, depth + 1) for inner in each]
        raise TemplateError(f"a {type(each).__name__} is not plain data; was a pair of () forgotten?")

    return walk(given, 0)


def text(given: Any, expression: str) -> str:
    """Write a value into a text: only what has one plain form."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str | int | float):
        return str(given)
    raise TemplateError(
        f"`{short(expression)}` is {show(given)}, which has no plain text",
        advice="use a filter such as `| join(' ')`, `| tojson` or `| default('…')`",
    )


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2 with a short list of what may be called."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def __init__(self) -> None:
        super().__init__(
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
            comment_start_string="\0#",  # `${#name}` is shell, not a comment
            comment_end_string="#\0",
        )
        self.globals.clear()
        self.globals["range"] = _range
        kept = {name: self.filters[name] for name in _FILTERS}
        self.filters.clear()
        own = {"int": _int, "float": _float, "join": _join, "replace": _replace, "tojson": _tojson}
        self.filters.update(kept, **own, round=_round, list=_list, sum=_sum)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Keys before methods: `facts.items` is the key `items` where there is one."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only the listed methods of plain data."""
        listed = any(isinstance(obj, kind) and attr in allowed for kind, allowed in _METHODS)
        return listed and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` is not listed either: its widths make texts of any size."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic is for numbers, and for numbers of a sane size."""
        for each in (left, right):
            if isinstance(each, jinja2.Undefined):
                each._fail_with_undefined_error()  # noqa: SLF001
        if operator == "+":
            return _added(left, right)
        for each in (left, right):
            if not isinstance(each, int | float):
                raise SecurityError(f"`{operator}` is for numbers, not for {show(each)}")
        if operator == "**" and (abs(left) > 1_000_000 or abs(right) > 64):
            raise SecurityError("the power is too large")
        if operator == "*" and _bits(left) + _bits(right) > MAX_BITS:
            raise SecurityError("the product is too large")
        return super().call_binop(context, operator, left, right)


def _bits(number: float) -> int:
    return number.bit_length() if isinstance(number, int) else 0


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"a range of more than {MAX_RANGE}")
    return numbers


def _int(given: Any, default: Any = None) -> Any:
    return (
        int(_float(given, default))
        if not isinstance(given, str) or "." in given
        else _number(int, given, default)
    )


def _float(given: Any, default: Any = None) -> Any:
    return _number(float, given, default)


def _number(kind: type, given: Any, default: Any) -> Any:
    """Jinja2 reads what is no number as 0; here only a default that somebody wrote stands in for it."""
    try:
        return kind(given)
    except (TypeError, ValueError, OverflowError):
        if default is None:
            raise TemplateError(
                f"{show(given)} is not a number", advice="say what then: `| int(default=0)`"
            ) from None
        return default


def _added(left: Any, right: Any) -> Any:
    """Numbers, texts and lists may be added, up to a sane size."""
    if isinstance(left, str | list) and isinstance(right, str | list) and len(left) + len(right) > MAX_LONG:
        raise SecurityError("the sum is too long")
    return left + right


def _round(given: Any, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common") -> Any:
    if not isinstance(precision, int) or abs(precision) > 15:
        raise SecurityError("`round` takes up to 15 digits")
    return do_round(given, precision, method)


def _list(given: Iterable[Any]) -> list[Any]:
    """Write an iterator out, as long as it and the texts and lists in it are not too long."""
    found: list[Any] = []
    size = 0
    for each in given:
        size += 1 + (len(each) if isinstance(each, str | list | Mapping) else 0)
        if size > MAX_LONG:
            raise SecurityError("the list is too long")
        found.append(each)
    return found


@pass_environment
def _sum(environment: jinja2.Environment, given: Iterable[Any], attribute: str | None = None) -> Any:
    """Add numbers; of texts and lists the sum would take a time that grows with its square."""
    total: int | float = 0
    for each in given:
        value = each
        for part in attribute.split(".") if attribute else ():
            value = environment.getitem(value, part)
        if isinstance(value, jinja2.Undefined):
            value._fail_with_undefined_error()  # noqa: SLF001
        if not isinstance(value, int | float):
            raise SecurityError(f"`sum` is for numbers, not for {show(value)}")
        total += value
    return total


def _join(given: Iterable[Any], by: str = "") -> str:
    words = plain([text(each, "join") for each in plain(given)])
    if len(str(by)) * len(words) > MAX_RESULT:
        raise SecurityError("the joined text is too long")
    return str(by).join(words)


def _replace(given: Any, old: str, new: str) -> str:
    before = str(given)
    if before.count(str(old)) * len(str(new)) > MAX_RESULT:
        raise SecurityError("the replaced text is too long")
    return before.replace(str(old), str(new))


def _tojson(given: Any) -> str:
    return json.dumps(plain(given), ensure_ascii=False)


def short(expression: str) -> str:
    """Cut an expression for an error text."""
    return expression if len(expression) <= 80 else f"{expression[:77]}…"
