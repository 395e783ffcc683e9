"""`http.check`, and how all kinds here speak HTTP: by the host's own curl, to 127.0.0.1, without proxies.

Asked on the host itself, an answer says something of the server and nothing of the network in between. No answer in
time is as much a finding as a wrong one; only a host without curl tells nothing. Headers go to curl on its standard
input, because everybody on the host can read its arguments.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from bot.duration import Duration, write
from bot.effect import Command, Finished
from bot.facts import FactsError
from bot.facts.curl import WRITE_OUT, Curl, parse
from bot.language.inputs import Noun
from bot.steps.answer import NOT_FOUND, absent, believed, last_of, unknown
from bot.steps.kind import Context, Effect, Judgement, Kind
from bot.verdict import Verdict

Port = Annotated[int, Field(ge=1, le=65535, description="on 127.0.0.1 of the host")]
UrlPath = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=2000)]
MaxTime = Annotated[Duration, Field(ge=timedelta(milliseconds=100), le=timedelta(minutes=10))]

CURL = f"""\
command -v curl >/dev/null 2>&1 || {{ echo 'curl: not found' >&2; exit {NOT_FOUND}; }}
fetch() {{ curl -q -sS --globoff --noproxy '*' --max-time "$MAX_TIME" -w '{WRITE_OUT}' "$@"; }}
"""
"""Shell text that defines `fetch`; `$MAX_TIME` is its patience in seconds."""

TOO_SLOW = 28
_WHY = {
    7: "nobody listens (connection refused)",
    52: "the connection was closed without an answer",
    56: "the connection was reset",
}
"""What curl's exit codes mean to people."""


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
HeaderValue = Annotated[str, Field(pattern=r"^[^\r\n]*$", max_length=4000)]


class Arguments(Noun):
    """What stands under `with`."""

    port: Port
    path: UrlPath = "/health"
    headers: dict[HeaderName, HeaderValue] = Field({}, description="sent along; a value may hold a secret")
    status: int = Field(200, ge=100, le=599, description="the status that is wanted")
    max_time: MaxTime = timedelta(seconds=10)


def plan(arguments: Arguments, _context: Context) -> Effect:
    """Get one page."""
    seconds = arguments.max_time.total_seconds()
    env = {"URL": f"http://127.0.0.1:{arguments.port}{arguments.path}", "MAX_TIME": f"{seconds:g}"}
    text, says = f'{CURL}fetch --url "$URL"', f"GET {env['URL']}"
    if arguments.headers:
        env["HEADERS"] = "\n".join(f"{name}: {value}" for name, value in arguments.headers.items())
        text = f'{CURL}printf \'%s\\n\' "$HEADERS" | fetch -H @- --url "$URL"'
        says += f" with {', '.join(arguments.headers)}"
    return Effect(Command(text, env, timeout=seconds + 15), says=says)


def judge(arguments: Arguments, answer: Finished, _context: Context) -> Judgement:
    """Compare the status."""
    if answer.exit_code == NOT_FOUND:
        return absent("curl")
    where = f":{arguments.port}{arguments.path}"
    try:
        got = read(answer.stdout.text, answer)
    except FactsError as error:
        return unknown(f"{where}: {error.what}", error.advice)
    facts = {"http_code": got.http_code, "ms": milliseconds(got), "body": got.body[:2000]}
    if (why := trouble(got, arguments.max_time)) is not None:
        return Judgement(ok=True, summary=f"{where}: {why}", verdict=Verdict.UNHEALTHY, facts=facts)
    said = f"{where} says {got.http_code} in {facts['ms']} ms"
    if got.http_code == arguments.status:
        healthy = Judgement(ok=True, summary=said, verdict=Verdict.HEALTHY, facts=facts)
        return believed(healthy, answer)
    body = last_of(got.body)
    summary = f"{said}, not {arguments.status}" + (f": {body}" if body else "")
    return Judgement(ok=True, summary=summary, verdict=Verdict.UNHEALTHY, facts=facts)


KIND = Kind(
    says="Gets a page from the host itself and compares the HTTP status.",
    arguments=Arguments,
    plan=plan,
    judge=judge,
    secrets=frozenset({"headers"}),
)


def read(text: str, answer: Finished) -> Curl:
    """Read what one `fetch` printed, with curl's complaints from the error stream.

    Raises:
        FactsError: when curl's last line is not there.

    """
    # curl before 7.75 does not know `errormsg`, and says so
    said = [line for line in answer.stderr.text.splitlines() if "unknown --write-out" not in line]
    return parse("\n".join([text, *said]))


def trouble(got: Curl, patience: timedelta) -> str | None:
    """Say why there is no whole answer, or None."""
    if got.error is None and got.exit_code is None and got.http_code is not None:
        return None
    if got.exit_code == TOO_SLOW:
        return f"no whole answer within {write(patience)}"
    return _WHY.get(got.exit_code or 0) or got.error or "no HTTP answer"


def milliseconds(got: Curl) -> int:
    """Return how long it took."""
    return round(got.time_total_s * 1000)
