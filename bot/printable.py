"""Texts of strangers made fit to be read: what a terminal would obey is taken out, what nobody would see is written out.

Alerts and hosts choose their own words. Among them may be colours and cursor moves, letters without width, and marks
that turn the direction of reading, with which a line says to people something else than to machines.
"""

import re

_OBEYED = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"
)
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200c\u200e-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]|(?<=[\x20-\x7e])\u200d"
)


def clean(text: str) -> str:
    """Take out terminal commands and control characters, write out what is invisible; lines stay lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    return _UNSEEN.sub(_written, _OBEYED.sub("", text))


def one_line(text: str) -> str:
    """Return the same as one line, with its line ends written out: what is logged can forge no other line."""
    return clean(text).replace("\n", "\\n")


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
