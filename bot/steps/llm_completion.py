"""`llm.completion`: one real token, through the API that customers use.

The last word on whether a model serves. Without a model's name the server is asked for its first one, in the same
command; the host may have no JSON tool, so the name is taken out with sed, in a way that finds it whole or not at all.
"""

import json
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from bot.effect import Command, Finished
from bot.facts import FactsError
from bot.facts.curl import Curl
from bot.language.inputs import Noun
from bot.steps.answer import NOT_FOUND, absent, believed, last_of, unknown, words
from bot.steps.http import CURL, MaxTime, Port, milliseconds, read, trouble
from bot.steps.kind import Context, Effect, Judgement, Kind
from bot.verdict import Verdict

COMPLETION = "=== completion"

COMPLETE = f"""\
{CURL}model=$MODEL
if [ -z "$model" ]; then
  models=$(fetch --url "$URL/v1/models")
  printf '%s\\n' "$models"
  model=$(printf '%s\\n' "$models" | tr '{{}},' '\\n\\n\\n' |
    sed -n 's/^[[:space:]]*"id"[[:space:]]*:[[:space:]]*\\("[^"\\\\]*"\\)[[:space:]]*$/\\1/p' | head -n 1)
  [ -n "$model" ] || exit 0
fi
echo '{COMPLETION}'
printf '{{"model":%s,"prompt":%s,"max_tokens":1,"temperature":0}}' "$model" "$PROMPT" |
  fetch -H 'Content-Type: application/json' --data-binary @- --url "$URL/v1/completions"
"""

WITH_KEY = (
    COMPLETE.replace(
        "model=$MODEL",
        'known() { printf \'Authorization: Bearer %s\\n\' "$API_KEY" | fetch -H @- "$@"; }\nmodel=$MODEL',
    )
    .replace('$(fetch --url "$URL/v1/models")', '$(known --url "$URL/v1/models")')
    .replace('printf \'{"model"', 'body=$(printf \'{"model"')
    .replace('"$PROMPT" |\n  fetch', '"$PROMPT")\nknown')
    .replace("--data-binary @-", '--data-binary "$body"')
)
"""The same with a key, which goes to curl on its standard input."""


class Arguments(Noun):
    """What stands under `with`."""

    port: Port = 8000
    model: str = Field("", max_length=500, description="as the API calls it; empty: the server's first one")
    prompt: str = Field("Say hello:", min_length=1, max_length=4000)
    api_key: str = Field("", pattern=r"^[^\r\n]*$", description="sent as bearer token; a secret")
    max_time: Annotated[MaxTime, Field(description="patience with one request")] = timedelta(seconds=30)


def plan(arguments: Arguments, _context: Context) -> Effect:
    """Ask for one token."""
    patience = arguments.max_time.total_seconds()
    env = {
        "URL": f"http://127.0.0.1:{arguments.port}",
        "MODEL": json.dumps(arguments.model) if arguments.model else "",
        "PROMPT": json.dumps(arguments.prompt),
        "MAX_TIME": f"{patience:g}",
    }
    if arguments.api_key:
        env["API_KEY"] = arguments.api_key
    return Effect(
        Command(WITH_KEY if arguments.api_key else COMPLETE, env, timeout=2 * patience + 15),
        says=f"POST :{arguments.port}/v1/completions, one token",
    )


def judge(arguments: Arguments, answer: Finished, _context: Context) -> Judgement:
    """Say whether a token came, and how long it took."""
    if answer.exit_code == NOT_FOUND:
        return absent("curl")
    listed, asked, completed = answer.stdout.text.partition(f"{COMPLETION}\n")
    path = "/v1/completions" if asked else "/v1/models"
    where = f":{arguments.port}{path}"
    try:
        got = read(completed if asked else listed, answer)
    except FactsError as error:
        return unknown(f"{where}: {error.what} ({words(answer)})", error.advice)
    facts = {"http_code": got.http_code, "ttft_ms": None, "model": arguments.model or None, "text": None}
    if (why := trouble(got, arguments.max_time)) is not None:
        return Judgement(ok=True, summary=f"{where}: {why}", verdict=Verdict.UNHEALTHY, facts=facts)
    if got.http_code != 200:
        return _refused(where, got, facts)
    if not asked:
        advice = "give the model's name under `with: {model: …}`"
        return Judgement(
            ok=True,
            summary=f"{where} names no model",
            verdict=Verdict.UNKNOWN,
            facts=facts,
            advice=advice,
        )
    return believed(_token(where, got, facts), answer)


KIND = Kind(
    says="Asks the model for one token, and measures how long it takes.",
    arguments=Arguments,
    plan=plan,
    judge=judge,
    secrets=frozenset({"api_key"}),
)


def _refused(where: str, got: Curl, facts: dict[str, Any]) -> Judgement:
    """Only a server's own failure is its fault; what it says to a request it does not like tells nothing."""
    code = got.http_code or 0
    body = last_of(got.body)
    summary = f"{where} says {code}" + (f": {body}" if body else "")
    if code >= 500:
        return Judgement(ok=True, summary=summary, verdict=Verdict.UNHEALTHY, facts=facts)
    advice = {
        401: "the server wants an API key: `with: {api_key: '{{ secrets.NAME }}'}`",
        403: "the server refuses this request; does it want an API key, or another one?",
        404: "no such model or no completions API here; give the model's name under `with: {model: …}`",
        429: "the server is up and refuses work for now; try again later",
    }.get(code, "the server does not take this request; is it an OpenAI-compatible API?")
    return Judgement(ok=True, summary=summary, verdict=Verdict.UNKNOWN, facts=facts, advice=advice)


def _token(where: str, got: Curl, facts: dict[str, Any]) -> Judgement:
    try:
        body = json.loads(got.body)
        text = str(body["choices"][0]["text"])
    except (ValueError, LookupError, TypeError, RecursionError):
        summary = f"{where} says 200 without a completion: {last_of(got.body) or 'the body is empty'}"
        return Judgement(ok=True, summary=summary, verdict=Verdict.UNHEALTHY, facts=facts)
    took = milliseconds(got)
    model = body.get("model") or facts["model"]
    facts = {**facts, "ttft_ms": took, "text": text[:200], "model": model}
    return Judgement(
        ok=True, summary=f"one token of {model} in {took} ms", verdict=Verdict.HEALTHY, facts=facts
    )
