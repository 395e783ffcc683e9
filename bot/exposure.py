"""Secrets that stand where they do not belong, in sickbay.yaml and in runbooks: told at their line, never repeated."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bot.errors import SickbayError
from bot.language.document import Document, Mistake
from bot.language.runbook import Runbook
from bot.library import Loaded
from bot.secrets.mask import Mask

_TOKEN = re.compile(r"\b(xox[a-z]|xapp)-[\w-]{4,}", re.IGNORECASE)
_SOURCES = {"env": re.compile(r"[A-Z_][A-Z0-9_]*"), "file": re.compile(r"(~|\.{0,2})/.+", re.DOTALL)}
"""What may stand under a name of `secrets:`, so that it cannot be the secret itself."""
_SECRETS = {
    ("slack", "token"): "SLACK_BOT_TOKEN",
    ("slack", "bot_token"): "SLACK_BOT_TOKEN",
    ("slack", "app_token"): "SLACK_APP_TOKEN",
    ("slack", "signing_secret"): "SLACK_SIGNING_SECRET",
    ("alerts", "alertmanager", "secret"): "SICKBAY_ALERTMANAGER_SECRET",
}


def written(document: Document) -> Iterator[Mistake]:
    """Find what is a secret by its shape or its place."""
    yield from _tokens(document)
    yield from _literals(document)


def unexposed(runbook: Runbook, inputs: Mapping[str, Any], mask: Mask) -> dict[str, Any]:
    """Return a runbook as plain data that may be stored.

    Raises:
        SickbayError: when the value of a secret stands in it or in its inputs: masked it would do something else.

    """
    data = runbook.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if mask.knows(json.dumps([data, dict(inputs)], ensure_ascii=False)):
        what = f"the value of a secret stands in {runbook.name} or in its inputs"
        raise SickbayError(what, advice="write {{ secrets.NAME }} in the runbook instead")
    return data


def _tokens(document: Document) -> Iterator[Mistake]:
    """Find secrets in the file, without repeating them."""
    for path, text in _leaves(document.data):
        variable = _SECRETS.get(tuple(part for part in path if isinstance(part, str)))
        if variable is None and isinstance(text, str) and (token := _TOKEN.search(text)):
            variable = "SLACK_APP_TOKEN" if token[1].lower() == "xapp" else "SLACK_BOT_TOKEN"
        if variable is not None:
            yield document.mistake(
                path,
                "a secret does not belong in this file",
                f"remove it, and set {variable} in the environment",
            )


def _literals(document: Document) -> Iterator[Mistake]:
    """Find values under `secrets:` where only the name of a variable or file may stand, without repeating them."""
    data = document.data if isinstance(document.data, dict) else {}
    for path, value in _leaves(data.get("secrets"), ("secrets",)):
        key = path[2] if len(path) == 3 else ""
        source = _SOURCES.get(key) if isinstance(key, str) else None
        if value is not None and not (source and isinstance(value, str) and source.fullmatch(value)):
            yield document.mistake(
                path,
                "a secret's value does not belong in this file",
                "write `NAME: {env: VARIABLE}`, its letters large, or `NAME: {file: /PATH}`",
            )


def exposed(document: Document, library: Mapping[str, Loaded], mask: Mask) -> list[Mistake]:
    """Find the values of secrets in the configuration and in runbooks: what is stored there could not be masked."""
    what, hint = "the value of a secret stands here", "remove it; a runbook writes {{ secrets.NAME }}"
    found = [
        document.mistake(path, what, hint)
        for path, text in _leaves(document.data)
        if any(isinstance(one, str) and mask.knows(one) for one in (*path, text))
    ]
    for loaded in library.values():
        lines = enumerate(loaded.text.splitlines(), 1)
        found += [Mistake(loaded.file, number, 0, what, hint) for number, line in lines if mask.knows(line)]
    return found


def _leaves(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            if isinstance(key, str) and _TOKEN.search(key):
                yield path, key
            yield from _leaves(value, (*path, key))
    else:
        yield path, data
