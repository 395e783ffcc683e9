"""What is asked over HTTP: alert webhooks, health and metrics.

It only checks, parses, stores and answers; an alert is in the database before its 200 is sent. Everything that was
refused is answered with one short reason, and nothing a stranger sends is echoed back.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, generate_latest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from bot.intake import Unreadable
from bot.store import Store
from bot.web.inbox import Inbox

log = logging.getLogger(__name__)

BODY_WITHIN = 30
"""Seconds for a body to come in."""

Health = Callable[[], dict[str, str]]
"""What is wrong, by part; empty when all is well."""


class Web:
    """The application that uvicorn serves."""

    def __init__(
        self,
        store: Store,
        *,
        alert_secret: SecretStr | None,
        health: Health,
        max_body: int = 1024 * 1024,
        more: Sequence[BaseRoute] = (),
    ) -> None:
        """Without `alert_secret` the webhook refuses everything; a body of more than `max_body` bytes is refused.

        `more` are routes of other doors (Slack by HTTP).
        """
        self._max_body = max_body
        self._store = store
        self._inbox = Inbox(store)
        self._secret = alert_secret
        self._health = health
        self._registry = CollectorRegistry()
        self._alerts = Counter(
            "sickbay_alerts", "Alerts received, by what became of them", ["outcome"], registry=self._registry
        )
        self._refused = Counter(
            "sickbay_webhook_refused", "Webhook calls refused, by status", ["status"], registry=self._registry
        )
        self.app = Starlette(
            routes=[
                Route("/alerts/alertmanager", self._alertmanager, methods=["POST"]),
                Route("/healthz", self._healthz),
                Route("/metrics", self._metrics),
                *more,
            ]
        )

    async def _alertmanager(self, request: Request) -> Response:
        if refusal := self._unauthorised(request):
            return refusal
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await _body(request, self._max_body)
        except TimeoutError:
            return self._refuse(408, f"the body did not come within {BODY_WITHIN} seconds")
        except ClientDisconnect:
            return self._refuse(400, "the body broke off")
        if body is None:
            return self._refuse(413, f"the body is larger than {self._max_body} bytes")
        try:
            alerts, rejected, new = await self._inbox.take(body)
        except Unreadable as error:
            return self._refuse(400, str(error))
        except Exception:
            log.exception("alerts could not be stored")
            return self._refuse(503, "the alerts could not be stored; send them again")
        self._alerts.labels("stored").inc(new)
        self._alerts.labels("repeated").inc(len(alerts) - new)
        self._alerts.labels("rejected").inc(len(rejected))
        report = [{"alert": one.index, "reason": one.reason} for one in rejected]
        answer = {"stored": new, "repeated": len(alerts) - new, "rejected": report}
        return JSONResponse(answer, 200 if alerts or not rejected else 400)

    def _unauthorised(self, request: Request) -> Response | None:
        if not self._secret:  # none, or an empty one
            return self._refuse(401, "no secret is configured for this webhook, so it takes nothing")
        given = request.headers.get("authorization", "").encode("latin-1")  # the bytes as they came
        wanted = f"Bearer {self._secret.get_secret_value()}".encode()
        return (
            None
            if hmac.compare_digest(given, wanted)
            else self._refuse(401, "wrong or missing bearer secret")
        )

    def _refuse(self, status: int, reason: str) -> Response:
        self._refused.labels(str(status)).inc()
        return JSONResponse({"error": reason}, status)

    async def _healthz(self, _: Request) -> Response:
        wrong = dict(self._health())
        started = time.monotonic()
        try:
            if refusal := await asyncio.wait_for(asyncio.to_thread(self._store_refuses), 5):
                wrong["store"] = f"the database takes nothing in, or soon will not: {refusal}"
        except Exception as error:  # noqa: BLE001
            wrong["store"] = f"the database does not answer: {type(error).__name__}"
        answer = {"ok": not wrong, "wrong": wrong, "store_ms": round((time.monotonic() - started) * 1000, 1)}
        return JSONResponse(answer, 503 if wrong else 200)

    def _store_refuses(self) -> str:
        self._store.runs.next_wake()
        return self._store.database.refusal()

    async def _metrics(self, _: Request) -> Response:
        return PlainTextResponse(generate_latest(self._registry).decode())


async def _body(request: Request, limit: int) -> bytes | None:
    """Read the body; None when it is too large, without reading all of it."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
