"""A handful of checks from which the table of Block Kit rules is put together.

Written here, not taken from a JSON Schema library, because the answer has to read like Slack's own: every fault as
`[ERROR] what [json-pointer:/where]`, several at a time.
"""

from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str, list[str]], None]
"""Looks at a value found at a JSON pointer and adds what is wrong with it to the list of faults."""


def fault(what: str, at: str) -> str:
    """Write one line of Slack's `response_metadata.messages`."""
    return f"[ERROR] {what} [json-pointer:{at or '/'}]"


def string(most: int, *, least: int = 1) -> Check:
    """Accept text of a length between two bounds."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if not isinstance(value, str):
            faults.append(fault("must provide a string", at))
        elif len(value) < least:
            faults.append(fault(f"must be more than {least - 1} characters", at))
        elif len(value) > most:
            faults.append(fault(f"must be less than {most + 1} characters", at))

    return check


def boolean(value: Any, at: str, faults: list[str]) -> None:
    """Accept true or false, and no text that looks like it."""
    if not isinstance(value, bool):
        faults.append(fault("must provide a boolean", at))


def integer(least: int, most: int) -> Check:
    """Accept a whole number between two bounds."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            faults.append(fault("must provide a number", at))
        elif not least <= value <= most:
            faults.append(fault(f"must be between {least} and {most}", at))

    return check


def choice(*allowed: str) -> Check:
    """Accept one of a few words."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if value not in allowed:
            faults.append(fault(f"value must be one of: {', '.join(allowed)}", at))

    return check


def nullable(inner: Check) -> Check:
    """Accept what the inner check accepts, or nothing at all."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if value is not None:
            inner(value, at, faults)

    return check


def listing(item: Check, *, most: int, least: int = 1) -> Check:
    """Accept a list whose every item passes, of a length between two bounds."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if not isinstance(value, list):
            faults.append(fault("must provide an array", at))
            return
        if len(value) < least:
            faults.append(fault(f"no less than {least} items allowed", at))
        if len(value) > most:
            faults.append(fault(f"no more than {most} items allowed", at))
        for index, one in enumerate(value):
            item(one, f"{at}/{index}", faults)

    return check


def shape(
    required: Mapping[str, Check] | None = None,
    optional: Mapping[str, Check] | None = None,
    *,
    also: Check | None = None,
) -> Check:
    """Accept an object with exactly these fields; `type` is told apart by `kinds` and needs no mention."""
    must, may = required or {}, optional or {}

    def check(value: Any, at: str, faults: list[str]) -> None:
        if not isinstance(value, dict):
            faults.append(fault("must provide an object", at))
            return
        faults.extend(fault(f"missing required field: {name}", at) for name in must if name not in value)
        for name, inner in value.items():
            rule = must.get(name) or may.get(name)
            if rule is not None:
                rule(inner, f"{at}/{name}", faults)
            elif name != "type":
                faults.append(fault(f"invalid additional property: {name}", at))
        if also is not None:
            also(value, at, faults)

    return check


def untyped(inner: Check) -> Check:
    """Refuse a `type` on objects that have none (options, confirm dialogs): it loses the whole message."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if isinstance(value, dict) and "type" in value:
            faults.append(fault("invalid additional property: type", at))
        inner(value, at, faults)

    return check


def kinds(table: Mapping[str, Check]) -> Check:
    """Accept an object that passes the rule its `type` names."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if not isinstance(value, dict):
            faults.append(fault("must provide an object", at))
            return
        kind = value.get("type")
        if not isinstance(kind, str):
            faults.append(fault("missing required field: type", at))
        elif kind not in table:
            faults.append(fault(f"unsupported type: {kind}", f"{at}/type"))
        else:
            table[kind](value, at, faults)

    return check
