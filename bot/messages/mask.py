"""Redaction: what must not leave is replaced before anything leaves, in every text of every card and file."""

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

T = TypeVar("T")
HIDDEN = "•••"
_SHORTEST = 6
"""Shorter secrets would blank out ordinary words."""
_PATTERNS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            f"{HIDDEN} (private key)",
        ),
        (r"\bhf_[A-Za-z0-9]{8,}", HIDDEN),
        (r"\bxox[a-z]-[A-Za-z0-9-]{6,}", HIDDEN),
        (r"\bxapp-[A-Za-z0-9-]{6,}", HIDDEN),
        (r"\bsk-[A-Za-z0-9_-]{16,}", HIDDEN),
        (r"\bgh[a-z]_[A-Za-z0-9]{20,}", HIDDEN),
        (r"\bglpat-[A-Za-z0-9_-]{16,}", HIDDEN),
        (r"\bnvapi-[A-Za-z0-9_-]{16,}", HIDDEN),
        (r"\bAKIA[A-Z0-9]{12,}", HIDDEN),
        (r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", rf"\g<1>{HIDDEN}"),
        (r"(?i)(://[^\s:/@]*:)[^\s/@]+(@)", rf"\g<1>{HIDDEN}\g<2>"),
        (
            r"(?i)((?:password|passwd|secret|token|api[_-]?key)[\"']?\s*[=:]\s*[\"']?)(?!\d+\b)[^\s\"',;&<>]{6,}",
            rf"\g<1>{HIDDEN}",
        ),
    )
)


class Mask:
    """Replaces known secrets, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Take the values that the configuration holds: tokens, webhook secrets."""
        known = {secret for secret in secrets if len(secret) >= _SHORTEST}
        self._known = tuple(sorted(known, key=len, reverse=True))

    def text(self, text: str) -> str:
        """Return the text without its secrets."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def over(self, value: T) -> T:
        """Return a card, or any part of one, with every text masked."""
        return self._over(value)  # type: ignore[no-any-return]

    def _over(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, tuple):
            return tuple(self._over(one) for one in value)
        if is_dataclass(value) and not isinstance(value, type):
            changes = {
                field.name: self._over(getattr(value, field.name))
                for field in fields(value)
                if not isinstance(getattr(value, field.name), bool | datetime | None)
            }
            return replace(value, **changes)
        return value
