"""One HTTP request by curl on the host: did it answer, how, and how fast.

curl is told to end its output with one line of ours (`WRITE_OUT`); what comes before is the body. A code of 0 is no
answer: curl then writes 000 and says why.
"""

import re

from bot.facts import Facts, FactsError, bounded

WRITE_OUT = r"\n%{http_code} %{time_total} %{errormsg}\n"
"""For `curl -sS -w`. curl before 7.75 leaves the message out."""

EXPECTED = "the line that curl's `-w '%{http_code} %{time_total} %{errormsg}'` writes"
LARGEST = 8 * 1024 * 1024
MOST_BODY = 64 * 1024

_LINE = re.compile(r"(?P<code>[0-9]{3}) (?P<seconds>[0-9]{1,9}[.,][0-9]{1,9})(?: (?P<error>.*))?")
_COMPLAINT = re.compile(r"^curl: (?:\((?P<exit>[0-9]{1,3})\) )?(?P<text>.{1,300})", re.MULTILINE)


class Curl(Facts):
    """One request."""

    http_code: int | None
    """None: no HTTP answer came."""
    time_total_s: float
    error: str | None
    exit_code: int | None
    """curl's own, where its complaint is in the text: 6 no such name, 7 refused, 28 too slow, 52 empty answer."""
    body: str
    """What came before, its first 64 KiB."""

    @property
    def ok(self) -> bool:
        """True when it was answered with success."""
        return self.http_code is not None and 200 <= self.http_code < 300


def parse(text: str) -> Curl:
    """Read the last line, and the body before it.

    Raises:
        FactsError: when curl's line is not there.

    """
    text = bounded(text, EXPECTED, LARGEST)
    complaint = _COMPLAINT.search(text)
    lines = text.split("\n")
    at = next(
        (number for number in range(len(lines) - 1, -1, -1) if _LINE.fullmatch(lines[number].strip())), None
    )
    if at is None:
        raise FactsError(EXPECTED, text)
    found = _LINE.fullmatch(lines[at].strip())
    assert found is not None
    error = found["error"] or (complaint["text"] if complaint else None)
    return Curl(
        http_code=int(found["code"]) or None,
        time_total_s=float(found["seconds"].replace(",", ".")),
        error=error,
        exit_code=int(complaint["exit"]) if complaint and complaint["exit"] else None,
        body="\n".join(lines[:at])[:MOST_BODY].rstrip("\n"),
    )
