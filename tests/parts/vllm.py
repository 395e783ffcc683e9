"""A pretend vLLM: the HTTP face of one replica, with real Prometheus metrics and an engine that can hang.

It lies the way the real one does: `/health` and `/v1/models` answer 200 while the engine makes no progress, and only the
token counters tell. It lives in a thread of the test; `started_at` ties it to a container, so that a container that
stops takes the server down with it, and one that was restarted has lost its hang, its counters and its requests.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from tests.parts.programs import Part

MODEL = "Qwen/Qwen3-8B"
KV_CACHE_PER_REQUEST = 0.05
ITERATION_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
LONGEST_HANG = 60.0
"""A request that nobody releases ends after this many seconds, so that no test hangs with it."""


class RequestBrokenOffError(ConnectionError):
    """The engine gave up this request, and the connection with it."""


class Engine:
    """One life of the engine, from a start of its container to the next: counters, requests, perhaps a hang."""

    def __init__(self, model: str) -> None:
        self.changed = threading.Condition()
        self.alive = True
        self.stalled = False
        self.excused: set[int] = set()
        self.running: set[int] = set()
        self.served = 0
        self.registry = CollectorRegistry()
        labels = {"engine": "0", "model_name": model}

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, list(labels), registry=self.registry).labels(**labels)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"vllm:{name}", text, list(labels), registry=self.registry).labels(**labels)

        self._running = gauge("num_requests_running", "Number of requests in model execution batches.")
        gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self._cache = gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self._prompt = counter("prompt_tokens", "Number of prefill tokens processed.")
        self._generated = counter("generation_tokens", "Number of generation tokens processed.")
        self._iterations = Histogram(
            "vllm:iteration_tokens_total",
            "Histogram of number of tokens per engine_step.",
            list(labels),
            registry=self.registry,
            buckets=ITERATION_BUCKETS,
        ).labels(**labels)
        self._success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            [*labels, "finished_reason"],
            registry=self.registry,
        ).labels(**labels, finished_reason="length")

    def tokens(self, number: int, prompt_tokens: int, count: int, pace: float) -> Generator[str, None, None]:
        """Generate tokens for one request; waits while the engine hangs, and breaks off when it dies."""
        with self.changed:
            self.running.add(number)
            self._measure()
        try:
            for index in range(count):
                with self.changed:
                    if not self.changed.wait_for(lambda: self._may_go_on(number), LONGEST_HANG):
                        raise RequestBrokenOffError("nobody released this request")
                    if number not in self.excused:
                        self.changed.wait_for(lambda: not self.alive, pace)
                    if not self.alive:
                        raise RequestBrokenOffError("the engine ended while it worked on this request")
                    if index == 0:
                        self._prompt.inc(prompt_tokens)
                        self._iterations.observe(prompt_tokens + 1)
                    else:
                        self._iterations.observe(1)
                    self._generated.inc()
                yield f" token{index}"
            with self.changed:
                self.served += 1
                self._success.inc()
        finally:
            with self.changed:
                self.running.discard(number)
                self.excused.discard(number)
                self._measure()

    def metrics(self) -> bytes:
        """What Prometheus would scrape."""
        return generate_latest(self.registry)

    def end(self) -> None:
        """The process is gone: whoever waits for a token gets none."""
        with self.changed:
            self.alive = False
            self.changed.notify_all()

    def _may_go_on(self, number: int) -> bool:
        return not self.alive or not self.stalled or number in self.excused

    def _measure(self) -> None:
        self._running.set(len(self.running))
        self._cache.set(min(1.0, len(self.running) * KV_CACHE_PER_REQUEST))
        self.changed.notify_all()


class Vllm(Part):
    """One replica at `url`; `pace` is the seconds a token takes."""

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        model: str = MODEL,
        pace: float = 0.0,
        started_at: Callable[[], str | None] | None = None,
    ) -> None:
        self.model = model
        self.pace = pace
        self._started_at = started_at
        self._container: str | None = started_at() if started_at else None
        self._lock = threading.Lock()
        self._engine = Engine(model)
        self._total_served = 0
        self._number = 0
        self._server = _Server((address, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="vllm")

    @property
    def address(self) -> str:
        """Where it listens, as `address:port`."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return f"http://{self.address}"

    @property
    def served(self) -> int:
        """Completions finished over all lives of the engine."""
        engine = self._latest()
        return self._total_served + engine.served

    @property
    def running(self) -> int:
        """Completions the engine holds now."""
        return len(self._latest().running)

    def start(self) -> None:
        """Answer from now on; the port has been taken since the object was made."""
        self._thread.start()

    def stop(self) -> None:
        """End the engine and the server; requests still held are broken off."""
        self._engine.end()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        if self._server.mistakes:
            raise ExceptionGroup("the pretend vLLM went wrong", self._server.mistakes)

    def stall(self) -> None:
        """Hang the engine: requests are taken and none gets a token, while `/health` goes on saying 200."""
        engine = self._latest()
        with engine.changed:
            engine.stalled = True

    def resume(self) -> None:
        """Let the engine go on, with all the requests it holds."""
        engine = self._latest()
        with engine.changed:
            engine.stalled = False
            engine.changed.notify_all()

    def finish_in_flight(self) -> None:
        """Let the requests held at this moment run to their end, and leave the engine as it is for later ones."""
        engine = self._latest()
        with engine.changed:
            engine.excused |= engine.running
            engine.changed.notify_all()

    def wait_running(self, count: int, *, seconds: float = 10.0) -> None:
        """Return when the engine holds exactly that many requests."""
        engine = self._latest()
        with engine.changed:
            if not engine.changed.wait_for(lambda: len(engine.running) == count, seconds):
                raise TimeoutError(f"{self.url} holds {len(engine.running)} requests, not {count}")

    def engine(self) -> Engine | None:
        """The engine of the container's present life; None while the container does not run."""
        if self._started_at is None:
            return self._engine
        with self._lock:
            try:
                now = self._started_at()
            except OSError:  # the container runtime itself is down
                now = None
            if now != self._container:
                self._container = now
                self._engine.end()
                self._total_served += self._engine.served
                self._engine = Engine(self.model)
            return self._engine if now is not None else None

    def _latest(self) -> Engine:
        return self.engine() or self._engine

    def next_number(self) -> int:
        """A number for a new request."""
        with self._lock:
            self._number += 1
            return self._number


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for its requests
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], vllm: Vllm) -> None:
        self.vllm = vllm
        self.mistakes: list[Exception] = []
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is ordinary; anything else is kept, to fail the test in `Vllm.stop`."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            self.mistakes.append(error)


class _Handler(BaseHTTPRequestHandler):
    """One request per connection, so that no idle connection outlives the test."""

    protocol_version = "HTTP/1.1"
    timeout = 5.0
    server: _Server

    def do_GET(self) -> None:
        engine = self.server.vllm.engine()
        if engine is None:
            self.close_connection = True  # the container is down: nobody answers
        elif self.path == "/health":
            self._answer(200, b"", "text/plain")
        elif self.path == "/metrics":
            self._answer(200, engine.metrics(), CONTENT_TYPE_LATEST)
        elif self.path == "/v1/models":
            card = {"id": self.server.vllm.model, "object": "model", "owned_by": "vllm"}
            self._answer_json(200, {"object": "list", "data": [card]})
        else:
            self._answer_json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        engine = self.server.vllm.engine()
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if engine is None:
            self.close_connection = True
            return
        if self.path != "/v1/completions":
            self._answer_json(404, {"detail": "Not Found"})
            return
        try:
            request = json.loads(body)
            prompt = str(request["prompt"])
            count = int(request.get("max_tokens", 16))
        except (ValueError, KeyError, TypeError) as error:
            self._answer_json(
                400, {"error": {"message": repr(error), "type": "BadRequestError", "code": 400}}
            )
            return
        vllm = self.server.vllm
        number = vllm.next_number()
        prompt_tokens = max(1, len(prompt.split()))
        tokens = engine.tokens(number, prompt_tokens, count, vllm.pace)
        frame = {
            "id": f"cmpl-{number}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": vllm.model,
        }
        with contextlib.closing(tokens):
            try:
                if request.get("stream"):
                    self._stream(frame, tokens)
                else:
                    text = "".join(tokens)
                    usage = {
                        "prompt_tokens": prompt_tokens,
                        "completion_tokens": count,
                        "total_tokens": prompt_tokens + count,
                    }
                    choice = {"index": 0, "text": text, "finish_reason": "length"}
                    self._answer_json(200, {**frame, "choices": [choice], "usage": usage})
            except ConnectionError:
                self.close_connection = True

    def _stream(self, frame: dict[str, Any], tokens: Iterator[str]) -> None:
        """Server-sent events in chunks: a stream that breaks off can be told from one that ended."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        for token in tokens:
            choice = {"index": 0, "text": token, "finish_reason": None}
            self._chunk(f"data: {json.dumps({**frame, 'choices': [choice]})}\n\n".encode())
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _answer_json(self, status: int, answer: dict[str, Any]) -> None:
        self._answer(status, json.dumps(answer).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing: the test's output belongs to the test."""
