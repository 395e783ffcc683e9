"""Regular expressions that people write, refused where a hostile text could keep them busy for ever.

Python's `re` tries every way to divide a text among repeats, and cannot be interrupted: `^(a+)+$` takes longer than the
age of a machine on forty letters. What does that is a repeat inside a repeated group, or alternatives or what may be
missing inside one. It is
harmless where each round begins or ends with a sign that nothing else in the group matches: `^[a-z]+(-[a-z]+)*$`.
"""

import re

LONGEST = 1000
"""Characters of a text that is held against a pattern."""

_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[*+]|\{[0-9]*,?[0-9]*\}|.", re.DOTALL)
_ENDLESS = re.compile(r"[*+]|\{[0-9]*,[0-9]*\}")
_TIMES = re.compile(r"[*+]|\{[0-9]*,?[0-9]*\}")
_MAYBE = re.compile(r"[?*]|\{0?,[0-9]*\}|\{0\}")
"""What stands behind a sign that may not be there at all."""
_OPENING = re.compile(r"\?(?:[:=!>]|<[=!]|P?<\w+>|[aiLmsux-]+:?)")


def endless(pattern: str) -> str:
    """Return the group of a pattern that could take for ever; empty where there is none."""
    pieces = _PIECE.findall(pattern)
    open_at: list[int] = []
    for at, piece in enumerate(pieces):
        if piece == "(":
            open_at.append(at)
        elif piece == ")" and open_at:
            inside = pieces[open_at.pop() + 1 : at]
            after = pieces[at + 1] if at + 1 < len(pieces) else ""
            if _TIMES.fullmatch(after) and _ambiguous(inside):
                return f"({''.join(inside)}){after}"
    return ""


def _ambiguous(inside: list[str]) -> bool:
    """Can a text be divided in many ways among the rounds of this group?"""
    text = "".join(inside)
    if opening := _OPENING.match(text):
        inside = _PIECE.findall(text[opening.end() :])
    if not any(piece in ("|", "?") or _ENDLESS.fullmatch(piece) for piece in inside):
        return False
    begins = _apart(inside[:1], inside[1:]) and not (inside[1:] and _MAYBE.fullmatch(inside[1]))
    return not (begins or _apart(inside[-1:], inside[:-1]))


def _apart(sign: list[str], rest: list[str]) -> bool:
    """Is this one sign, which nothing of the rest matches?"""
    if not sign or not re.fullmatch(r"\\?[-_.,:;/@# ]", sign[0]) or sign[0] == ".":
        return False
    if {"|", "(", ")"} & set(rest):
        return False
    return not any(
        _matches(piece, sign[0][-1]) for piece in rest if not _TIMES.fullmatch(piece) and piece not in "?^$"
    )


def _matches(piece: str, sign: str) -> bool:
    try:
        return re.fullmatch(piece, sign) is not None
    except re.error:
        return True  # it says nothing by itself, such as a reference to a group
