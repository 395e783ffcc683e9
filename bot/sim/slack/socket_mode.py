"""The Socket Mode side: connections of the app, envelopes to it and the acks that come back.

A payload goes to one connection chosen at random, as at Slack. An ack that comes after three seconds is no ack.
Un-acked events are delivered again; commands and clicks are not.
"""

import asyncio
import json
import random
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from bot.sim.slack.journal import Journal
from bot.sim.slack.workspace import APP_ID, Json, Workspace


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of something a person did: what the app answered, and what the person sees if it did not."""

    acked: bool
    after: float | None = None
    error: str | None = None
    response: Json | None = None
    shown: str | None = None
    envelope: Json | None = field(default=None, repr=False)
    ts: str | None = None


class SocketMode:
    """All connections of the app and the envelopes under way."""

    def __init__(
        self,
        workspace: Workspace,
        journal: Journal,
        *,
        ack_timeout: float,
        redeliver_after: Sequence[float],
        chance: random.Random,
    ) -> None:
        self._workspace = workspace
        self._journal = journal
        self._ack_timeout = ack_timeout
        self._redeliver_after = redeliver_after
        self._chance = chance
        self._tickets: set[str] = set()
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._redeliveries: set[asyncio.Task[None]] = set()
        self._frozen = False

    @property
    def connections(self) -> int:
        """How many sockets the app holds."""
        return len(self._sockets)

    def new_ticket(self) -> str:
        """Return a ticket that opens one connection."""
        ticket = secrets.token_hex(8)
        self._tickets.add(ticket)
        return ticket

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.json_response({"ok": False, "error": "invalid_ticket"}, status=403)
        self._tickets.discard(ticket)
        ws = web.WebSocketResponse(autoping=False, max_msg_size=4 * 2**20)
        await ws.prepare(request)
        self._sockets[ws] = request
        await ws.send_json(
            {
                "type": "hello",
                "num_connections": len(self._sockets),
                "connection_info": {"app_id": APP_ID},
                "debug_info": {
                    "host": "applink-pretend",
                    "build_number": 1,
                    "approximate_connection_time": 18060,
                },
            }
        )
        self._journal.note("connected", connections=len(self._sockets))
        self._tell_presence()
        try:
            async for message in ws:
                if self._frozen:
                    continue
                if message.type is WSMsgType.PING:
                    await ws.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    self._take(message.data)
        finally:
            self._sockets.pop(ws, None)
            self._journal.note("disconnected", connections=len(self._sockets))
            self._tell_presence()
        return ws

    def _tell_presence(self) -> None:
        self._workspace.publish({"kind": "presence", "for": None, "online": bool(self._sockets)})

    def _take(self, text: str) -> None:
        try:
            answer = json.loads(text)
        except ValueError:
            self._journal.note("nonsense", text=text[:200])
            return
        envelope_id = str(answer.get("envelope_id"))
        waiting = self._waiting.pop(envelope_id, None)
        late = waiting is None or waiting.done()
        self._journal.note("ack", envelope_id=envelope_id, payload=answer.get("payload"), late=late)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.get("payload") or {})

    async def send(self, kind: str, payload: Json, *, more: Json | None = None) -> Delivery:
        """Deliver one envelope and wait for its ack until the deadline."""
        envelope = {
            "envelope_id": secrets.token_hex(16),
            "type": kind,
            "payload": payload,
            "accepts_response_payload": kind != "events_api",
            **(more or {}),
        }
        open_sockets = [ws for ws in self._sockets if not ws.closed]
        self._journal.note("envelope", connections=len(open_sockets), envelope=envelope)
        if not open_sockets:
            return Delivery(acked=False, error="dispatch_failed", envelope=envelope)
        waiting: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[envelope["envelope_id"]] = waiting
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._ack_timeout):
                await self._chance.choice(open_sockets).send_json(envelope)
                response = await waiting
        except (TimeoutError, ConnectionError):
            return Delivery(acked=False, error="operation_timeout", envelope=envelope)
        finally:
            self._waiting.pop(envelope["envelope_id"], None)
        return Delivery(acked=True, after=time.monotonic() - started, response=response, envelope=envelope)

    async def send_event(self, payload: Json) -> Delivery:
        """Deliver an event; when it is not acked, deliver it again later, a few times."""
        first = await self.send("events_api", payload, more={"retry_attempt": 0, "retry_reason": ""})
        if not first.acked:
            task = asyncio.create_task(self._redeliver(payload))
            self._redeliveries.add(task)
            task.add_done_callback(self._redeliveries.discard)
        return first

    async def _redeliver(self, payload: Json) -> None:
        for attempt, wait in enumerate(self._redeliver_after, start=1):
            await asyncio.sleep(wait)
            more = {"retry_attempt": attempt, "retry_reason": "timeout"}
            if (await self.send("events_api", payload, more=more)).acked:
                return

    # ── what goes wrong with connections ──
    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Ask the app to connect anew, as Slack does every few hours; the app closes the old connection."""
        for ws in list(self._sockets):
            await ws.send_json(
                {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-pretend"}}
            )

    def drop(self) -> None:
        """Cut every connection with a TCP reset."""
        for request in list(self._sockets.values()):
            transport = request.transport
            if transport is None:
                continue
            connection = transport.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

    def freeze(self, *, frozen: bool = True) -> None:
        """Stop answering on open connections, pings included: a link that is half open."""
        self._frozen = frozen

    async def close(self) -> None:
        """End every connection and every redelivery."""
        for task in list(self._redeliveries):
            task.cancel()
        await asyncio.gather(*self._redeliveries, return_exceptions=True)
        for ws in list(self._sockets):
            await ws.close(code=1001, message=b"bye")
