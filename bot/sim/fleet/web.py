"""The pretend `curl`, and the HTTP face of vLLM behind it.

Only the fleet's own services can be reached. `/health` answers 200 as long as the container serves, as the real one does
while its engine hangs; a completion asked of a hung engine does not answer until curl gives up.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bot.sim.fleet.reply import Reply, options
from bot.sim.fleet.state import MODEL, PORT, Replica, State, World

COULD_NOT_RESOLVE, REFUSED, HTTP_ERROR, TIMED_OUT = 6, 7, 22, 28
LONGEST = 86400.0
_LONG_OPTIONS = (
    "silent show-error fail fail-with-body location insecure include no-buffer request= header= "
    "data= data-raw= data-binary= json= max-time= connect-timeout= output= write-out= url= noproxy= "
    "retry= globoff disable"
)


@dataclass(frozen=True, slots=True)
class _Response:
    code: int
    body: str


class _HungError(Exception):
    """No answer will ever come."""


async def curl(world: World, host: State, argv: list[str], stdin: str) -> Reply:
    """Answer one call."""
    found, rest = options(
        argv,
        "qsSfLkiNgX:H:d:m:o:w:",
        _LONG_OPTIONS.split(),
    )

    def given(*names: str) -> str | None:
        return next((found[name] for name in names if name in found), None)

    url = urlsplit(given("--url") or "".join(rest[:1]))
    data = given("-d", "--data", "--data-raw", "--data-binary", "--json")
    body = stdin if data == "@-" else data
    limit = float(given("-m", "--max-time") or LONGEST)
    began = world.clock()
    exit_code, error, response = 0, "", _Response(0, "")
    target = _target(world, host, url.hostname or "")
    if target is None:
        exit_code, error = COULD_NOT_RESOLVE, f"Could not resolve host: {url.hostname}"
    elif not _listens(world, target, url.port or 80):
        exit_code = REFUSED
        error = f"Failed to connect to {url.hostname} port {url.port or 80} after 0 ms: Could not connect to server"
    else:
        method = given("-X", "--request") or ("POST" if data is not None else "GET")
        try:
            async with asyncio.timeout(limit):
                response = await _respond(world, target, method, url.path, body)
        except (TimeoutError, _HungError):
            exit_code = TIMED_OUT
            error = f"Operation timed out after {limit * 1000:.0f} milliseconds with 0 bytes received"
    if response.code >= 400 and {"-f", "--fail"} & found.keys():
        exit_code, error = HTTP_ERROR, f"The requested URL returned error: {response.code}"
        response = _Response(response.code, "")
    written = _write_out(given("-w", "--write-out") or "", response, world.clock() - began, exit_code, error)
    output = given("-o", "--output")
    silent = {"-s", "--silent"} & found.keys() and not {"-S", "--show-error"} & found.keys()
    return Reply(
        stdout=(response.body if output is None else "") + written,
        stderr="" if not error or silent else f"curl: ({exit_code}) {error}\n",
        exit=exit_code,
        files={output: response.body} if output is not None else {},
    )


def _target(world: World, host: State, name: str) -> State | None:
    if name in {"127.0.0.1", "localhost", "::1", host.name}:
        return host
    known = [*world.hosts.values(), world.balancer]
    return next((each for each in known if name in {each.name, each.address}), None)


def _listens(world: World, target: State, port: int) -> bool:
    replica = target.replica
    return target.up and port == PORT and replica is not None and replica.serving(world.clock())


async def _respond(world: World, target: State, method: str, path: str, body: str | None) -> _Response:
    now = world.settle()
    replica = target.replica
    assert replica is not None
    match method, path:
        case "GET", "/health" | "/ping":
            return _Response(200, "")
        case "GET", "/version":
            return _Response(200, '{"version":"0.11.0"}')
        case "GET", "/metrics":
            return _Response(200, _metrics(world, target, replica, now))
        case "GET", "/v1/models":
            models = [{"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 131072}]
            return _Response(200, json.dumps({"object": "list", "data": models}))
        case "POST", "/v1/completions" | "/v1/chat/completions":
            return await _complete(world, replica, body or "", chat=path.endswith("chat/completions"))
        case _, "/health" | "/metrics" | "/v1/models" | "/v1/completions" | "/v1/chat/completions":
            return _Response(405, '{"detail":"Method Not Allowed"}')
    return _Response(404, '{"detail":"Not Found"}')


async def _complete(world: World, replica: Replica, body: str, *, chat: bool) -> _Response:
    try:
        asked: Any = json.loads(body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        return _Response(
            400, '{"error":{"message":"the body is not a JSON object","type":"BadRequestError","code":400}}'
        )
    if asked.get("model", MODEL) not in {MODEL, ""}:
        message = f"The model `{asked['model']}` does not exist."
        return _Response(
            404, json.dumps({"error": {"message": message, "type": "NotFoundError", "code": 404}})
        )
    most = asked.get("max_tokens") or asked.get("max_completion_tokens") or 16
    tokens = min(most, 64) if isinstance(most, int) and most > 0 else 16
    life = replica.started_at
    if replica.stalled_at is not None:
        await asyncio.sleep(LONGEST)
    await asyncio.sleep(world.timing.answer)
    if replica.started_at != life or replica.status != "running" or replica.stalled_at is not None:
        raise _HungError
    world.settle()
    replica.generated += tokens
    replica.iterations += tokens
    replica.finished += 1
    text = " ".join(["pong", "ready"][n % 2] for n in range(tokens))
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    answer = {
        "id": f"cmpl-{int(world.clock() * 1000):x}",
        "object": "chat.completion" if chat else "text_completion",
        "created": int(world.clock()),
        "model": MODEL,
        "choices": [choice],
        "usage": {"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": 4 + tokens},
    }
    return _Response(200, json.dumps(answer))


def _metrics(world: World, target: State, replica: Replica, now: float) -> str:
    running, waiting = world.running(target.name, now), world.waiting(target.name, now)
    labels = f'engine="0",model_name="{MODEL}"'
    lines: list[str] = []

    def metric(name: str, kind: str, about: str, value: float, more: str = "") -> None:
        lines.append(f"# HELP vllm:{name} {about}\n# TYPE vllm:{name} {kind}\n")
        lines.append(f"vllm:{name}{{{labels}{more}}} {value}\n")

    metric("num_requests_running", "gauge", "Number of requests in model execution batches.", float(running))
    metric("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", float(waiting))
    metric(
        "kv_cache_usage_perc",
        "gauge",
        "KV-cache usage. 1 means 100 percent usage.",
        min(1.0, running * 0.031),
    )
    metric("num_preemptions_total", "counter", "Cumulative number of preemption from the engine.", 0.0)
    metric(
        "prompt_tokens_total", "counter", "Number of prefill tokens processed.", float(int(replica.prompted))
    )
    metric(
        "generation_tokens_total",
        "counter",
        "Number of generation tokens processed.",
        float(int(replica.generated)),
    )
    metric(
        "request_success_total",
        "counter",
        "Count of successfully processed requests.",
        float(int(replica.finished)),
        ',finished_reason="stop"',
    )
    count = float(int(replica.iterations))
    lines.append(
        "# HELP vllm:iteration_tokens_total Histogram of number of tokens per engine_step.\n"
        "# TYPE vllm:iteration_tokens_total histogram\n"
        f'vllm:iteration_tokens_total_bucket{{{labels},le="1.0"}} 0.0\n'
        f'vllm:iteration_tokens_total_bucket{{{labels},le="+Inf"}} {count}\n'
        f"vllm:iteration_tokens_total_count{{{labels}}} {count}\n"
        f"vllm:iteration_tokens_total_sum{{{labels}}} {float(int(replica.generated))}\n"
    )
    return "".join(lines)


def _write_out(form: str, response: _Response, seconds: float, exit_code: int, error: str) -> str:
    values: dict[str, Callable[[], str]] = {
        "http_code": lambda: f"{response.code:03d}",
        "response_code": lambda: f"{response.code:03d}",
        "time_total": lambda: f"{seconds:.6f}",
        "time_starttransfer": lambda: f"{seconds:.6f}",
        "size_download": lambda: str(len(response.body)),
        "exitcode": lambda: str(exit_code),
        "errormsg": lambda: error,
    }
    for name, value in values.items():
        form = form.replace(f"%{{{name}}}", value())
    return form.replace("\\n", "\n").replace("\\t", "\t")
