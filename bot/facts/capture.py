"""What `host.capture` read: the parts, cut out of their frames, and how each of them ended."""

import re
from typing import Literal

from bot.facts import Facts, FactsError, bounded

LARGEST = 2 * 1024 * 1024
_ABSENT = (126, 127)
_LATE = (124, 137, 143)
_EXPECTED = "what host.capture prints"

State = Literal["kept", "not there", "failed", "late", "skipped"]


class Part(Facts):
    """One part, such as the kernel's log."""

    name: str
    state: State
    """`failed` has said why, and its words are kept; `late` was cut short; `skipped` had no time left."""
    exit_code: int | None
    text: str


class Clock(Facts):
    """What the host's clock said, as `date +%s.%N` and /proc/uptime write it."""

    said: str
    uptime: str


class Boot(Facts):
    """In which boot a host is, as /proc/sys/kernel/random/boot_id and /proc/uptime say; None where they said nothing."""

    id: str | None
    up_s: float | None
    """Seconds since then."""


def booted(text: str) -> Boot:
    """Read both out of what was printed; whatever else stands there is left out."""
    named = re.search(r"^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$", text, re.MULTILINE)
    up = re.search(r"^([0-9]{1,12}\.[0-9]{1,4}) [0-9.]+$", text, re.MULTILINE)
    return Boot(id=named[1] if named else None, up_s=float(up[1]) if up else None)


class Capture(Facts):
    """All parts that had begun."""

    parts: tuple[Part, ...]
    clock: tuple[Clock, ...] = ()
    """At the beginning and, unless it was cut short, at the end."""

    @property
    def boot(self) -> Boot:
        """In which boot the host was."""
        return booted(next((part.text for part in self.parts if part.name == "boot"), ""))


def parse(text: str) -> Capture:
    """Read the frames; one that does not end was cut short.

    Raises:
        FactsError: when there is no frame at all.

    """
    text = bounded(text, _EXPECTED, LARGEST)
    opened = re.match(r"capture (\S{1,64})\n", text)
    if opened is None:
        raise FactsError(_EXPECTED, text)
    mark = re.escape(opened[1])
    parts = []
    for piece in re.split(rf"^{mark} begin ", text[opened.end() :], flags=re.MULTILINE)[1:]:
        name, _, rest = piece.partition("\n")
        ended = re.search(rf"\n{mark} end {re.escape(name)} (\S*)\n", "\n" + rest)
        if ended is None:
            parts.append(Part(name=name, state="late", exit_code=None, text=rest))
            continue
        code = int(ended[1]) if re.fullmatch(r"[0-9]{1,3}", ended[1]) else None
        body = rest[: max(0, ended.start() - 1)]
        parts.append(Part(name=name, state=_state(code, ended[1], body), exit_code=code, text=body))
    clock = re.findall(rf"^{mark} clock (\S{{1,40}}) (\S{{0,40}})$", text, re.MULTILINE)
    return Capture(
        parts=tuple(parts),
        clock=tuple(Clock(said=said, uptime=up) for said, up in clock[:1] + clock[1:][-1:]),
    )


def _state(code: int | None, word: str, body: str) -> State:
    if word == "skipped":
        return "skipped"
    if code in _ABSENT:
        return "not there"
    if code in _LATE:
        return "late"
    if code in (0, 141):  # 141: the writer was stopped because enough of it is kept
        return "kept"
    return "failed" if body.strip() or code is not None else "late"
