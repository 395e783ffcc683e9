"""`vllm.progress`: do tokens come out?

vLLM's `/health` reads an error flag and says 200 while the engine hangs, so the only honest sign is its counters: two
readings some time apart. Requests in the batch and not one counter moved is a stall. Nothing in the batch proves
nothing, and is not called healthy.
"""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from bot.duration import Duration
from bot.effect import Command, Finished
from bot.facts import FactsError, vllm
from bot.facts.vllm import Vllm
from bot.language.inputs import Noun
from bot.steps.answer import NOT_FOUND, absent, believed, unknown, words
from bot.steps.http import CURL, MaxTime, Port, UrlPath, read, trouble
from bot.steps.kind import Context, Effect, Judgement, Kind
from bot.verdict import Verdict

SECOND = "=== second reading"

PROGRESS = f"""\
{CURL}reading() {{ fetch --url "$URL" | grep -v '_bucket{{'; }}
first=$(reading)
printf '%s\\n' "$first"
case $first in *'
200 '*) ;; *) exit 0 ;; esac
sleep "$WINDOW"
echo '{SECOND}'
reading
"""
"""Buckets of histograms are most of the page and tell nothing here."""


class Arguments(Noun):
    """What stands under `with`."""

    port: Port = 8000
    path: UrlPath = "/metrics"
    window: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=5))] = Field(
        timedelta(seconds=10), description="between the two readings"
    )
    max_time: MaxTime = Field(timedelta(seconds=10), description="patience with one reading")


def plan(arguments: Arguments, _context: Context) -> Effect:
    """Read the counters twice."""
    window, patience = arguments.window.total_seconds(), arguments.max_time.total_seconds()
    env = {
        "URL": f"http://127.0.0.1:{arguments.port}{arguments.path}",
        "WINDOW": f"{window:g}",
        "MAX_TIME": f"{patience:g}",
    }
    return Effect(
        Command(PROGRESS, env, timeout=window + 2 * patience + 15),
        says=f"GET :{arguments.port}/metrics twice, {window:g} s apart",
    )


def judge(arguments: Arguments, answer: Finished, _context: Context) -> Judgement:
    """Compare the readings."""
    where = f":{arguments.port}{arguments.path}"
    if answer.exit_code == NOT_FOUND:
        return absent("curl")
    if answer.stdout.cut:
        return unknown(f"{where} is longer than what is kept", "look at it by hand")
    texts = answer.stdout.text.split(f"{SECOND}\n")
    readings: list[Vllm] = []
    seconds = arguments.window.total_seconds()
    for text in texts:
        try:
            got = read(text, answer)
            if (why := trouble(got, arguments.max_time)) is not None:
                return Judgement(ok=True, summary=f"{where}: {why}", verdict=Verdict.UNHEALTHY)
            if got.http_code != 200:
                return unknown(f"{where} says {got.http_code}", "is this the port of a vLLM server?")
            readings.append(vllm.parse(_page(text)))
        except FactsError as error:
            return unknown(f"{where}: {error.what}", error.advice)
        seconds += got.time_total_s if len(readings) == 2 else 0
    if len(readings) != 2:
        return unknown(f"{where} was read once only: {words(answer)}", "run the check again")
    return believed(_compare(arguments, readings[0], readings[1], seconds), answer)


KIND = Kind(
    says="Judges whether vLLM makes progress: requests running and no counter moving is a stall.",
    arguments=Arguments,
    plan=plan,
    judge=judge,
)


def _page(text: str) -> str:
    """Take curl's own line off; the page itself ends with a line's end."""
    return text.rstrip().rpartition("\n")[0] + "\n"


def _compare(arguments: Arguments, first: Vllm, second: Vllm, seconds: float) -> Judgement:
    window = f"{arguments.window.total_seconds():g} s"
    moved = _moved(first, second)
    tokens = _difference(first.generation_tokens, second.generation_tokens)
    facts: dict[str, Any] = {
        "models": list(second.models),
        "running": second.running,
        "waiting": second.waiting,
        "tokens_per_s": None if tokens is None else round(tokens / seconds, 1),
        "kv_cache_usage": second.kv_cache_usage,
        "idle": moved is False and not (first.running or second.running),
        "moved": moved,
    }
    queue = f", {second.waiting} in the queue" if second.waiting else ""

    def judged(verdict: Verdict | None, summary: str, advice: str = "") -> Judgement:
        return Judgement(ok=True, summary=summary, verdict=verdict, facts=facts, advice=advice)

    if moved is None:
        return judged(
            Verdict.UNKNOWN, "vLLM's counters are missing or went back", "it was restarted, or is very old"
        )
    if moved:
        rate = f"{facts['tokens_per_s']} tokens/s" if tokens else "progress, no whole token yet"
        return judged(Verdict.HEALTHY, f"{rate}, {_count(second.running, 'run')}{queue}")
    if first.running is None or second.running is None:
        return judged(
            Verdict.UNKNOWN, f"nothing moved in {window}, and vLLM does not say how many requests run"
        )
    if first.running and second.running:
        return judged(Verdict.UNHEALTHY, f"no token in {window} while {_count(second.running, 'run')}{queue}")
    if second.running:
        return judged(None, f"{_count(second.running, 'began', 'began')} just now: too early to say")
    if first.running:
        return judged(Verdict.UNKNOWN, f"{_count(first.running, 'went', 'went')} away without a token")
    if second.waiting:
        return judged(
            Verdict.UNKNOWN, f"{_count(second.waiting, 'wait')}, none runs, and nothing moved in {window}"
        )
    return judged(None, "idle: nothing to progress")


def _moved(first: Vllm, second: Vllm) -> bool | None:
    """Did a counter move? None where none is known, or one went back."""
    steps = [
        _difference(first.generation_tokens, second.generation_tokens),
        _difference(first.prompt_tokens, second.prompt_tokens),
        _difference(first.iterations, second.iterations),
    ]
    known = [step for step in steps if step is not None]
    if not known or min(known) < 0:
        return None
    return any(known)


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _count(requests: int | None, verb: str, of_one: str = "") -> str:
    if requests == 1:
        return f"1 request {of_one or f'{verb}s'}"
    return f"{'some' if requests is None else requests} requests {verb}"
