"""The page that looks like a Slack channel: its files, its stream of changes and the things people do on it.

Only for the person who started it: loopback, a random token (then a cookie), the Host checked against DNS rebinding
and the Origin of every POST checked against other pages in the same browser.
"""

import asyncio
import dataclasses
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from bot.sim.slack.people import People
from bot.sim.slack.refusals import Refused
from bot.sim.slack.socket_mode import Delivery
from bot.sim.slack.workspace import BOT_NAME, BOT_USER, Json, Workspace

_FILES = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' http://127.0.0.1:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_HEARTBEAT = 15.0
_MOST_BYTES = 64 * 1024


class Page:
    """Serves the page to whoever has the token."""

    def __init__(
        self,
        workspace: Workspace,
        people: People,
        *,
        token: str,
        commands: Mapping[str, Sequence[str]],
        online: Callable[[], bool],
    ) -> None:
        self._workspace = workspace
        self._people = people
        self._token = token
        self._commands = commands
        self._online = online
        self._port = 0
        self._streams: set[asyncio.Queue[Json]] = set()

    def open_at(self, port: int) -> None:
        """Learn the port, which is known only once the server listens."""
        self._port = port

    def routes(self) -> list[web.RouteDef]:
        """Return what the server has to serve."""
        return [
            web.get("/", self._index),
            web.get("/archives/{channel}/{ts}", self._index),
            web.get("/page/{name}", self._file),
            web.get("/stream", self._stream),
            web.get("/files/{file_id}", self._uploaded),
            web.post("/do/{deed}", self._do),
        ]

    def close(self) -> None:
        """End every stream, so that the server can stop at once."""
        for queue in self._streams:
            queue.put_nowait({"kind": "closed"})

    # ── who may ──
    @property
    def _cookie(self) -> str:
        return f"pretend_slack_{self._port}"  # cookies don't know ports, and two demos may run

    def _check(self, request: web.Request) -> None:
        if request.host not in self._hosts():
            raise web.HTTPForbidden(text="This page answers only on its own loopback address.")
        given = request.query.get("token") or request.cookies.get(self._cookie, "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPForbidden(
                text="Wrong or missing token. Open the whole address that was printed at the start."
            )
        if request.method == "POST":
            origin = request.headers.get("Origin", "").removeprefix("http://")
            if origin not in self._hosts() or request.content_type != "application/json":
                raise web.HTTPForbidden(text="Only the page itself may do this.")

    def _hosts(self) -> set[str]:
        return {f"127.0.0.1:{self._port}", f"localhost:{self._port}"}

    # ── what it sees ──
    async def _index(self, request: web.Request) -> web.Response:
        self._check(request)
        response = self._static("index.html")
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict", path="/")
        return response

    async def _file(self, request: web.Request) -> web.Response:
        self._check(request)
        return self._static(request.match_info["name"])

    @staticmethod
    def _static(name: str) -> web.Response:
        path = _FILES / name
        if path.parent != _FILES or path.suffix not in _TYPES or not path.is_file():
            raise web.HTTPNotFound
        return web.Response(
            body=path.read_bytes(), content_type=_TYPES[path.suffix], charset="utf-8", headers=_HEADERS
        )

    async def _uploaded(self, request: web.Request) -> web.Response:
        self._check(request)
        found = self._workspace.files.get(request.match_info["file_id"])
        if found is None:
            raise web.HTTPNotFound
        kind = "image/png" if found.is_picture else "text/plain"
        return web.Response(
            body=found.content,
            content_type=kind,
            charset=None if found.is_picture else "utf-8",
            headers=_HEADERS,
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        known = list(self._workspace.users)
        viewer = request.query.get("as", "")
        viewer = viewer if viewer in known else known[0]
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue = self._workspace.subscribe()
        self._streams.add(queue)
        try:
            await _send(response, {"kind": "snapshot", **self._snapshot(viewer)})
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT):
                        change = await queue.get()
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                if change["kind"] == "closed":
                    break
                if change["kind"] in {"message", "deleted", "view", "presence"} and change["for"] in {
                    None,
                    viewer,
                }:
                    await _send(response, change)
        except ConnectionError:
            pass  # the browser went away
        finally:
            self._workspace.unsubscribe(queue)
            self._streams.discard(queue)
        return response

    def _snapshot(self, viewer: str) -> Json:
        space = self._workspace
        messages = [
            space.show(one)
            for channel in space.channels
            for root in space.roots(channel)
            for one in (root, *space.replies(channel, root.ts))
        ]
        stack = space.views.get(viewer, [])
        return {
            "me": viewer,
            "online": self._online(),
            "bot": {"id": BOT_USER, "name": BOT_NAME},
            "users": [dataclasses.asdict(one) for one in space.users.values()],
            "channels": [{"id": one, "name": name} for one, name in space.channels.items()],
            "commands": {name: list(hints) for name, hints in self._commands.items()},
            "messages": [*messages, *(space.show(one) for one in space.whispers(viewer))],
            "view": stack[-1].to_json() if stack else None,
        }

    # ── what people do on it ──
    async def _do(self, request: web.Request) -> web.Response:
        self._check(request)
        if (request.content_length or 0) > _MOST_BYTES:
            raise web.HTTPRequestEntityTooLarge(_MOST_BYTES, request.content_length or 0)
        deeds: dict[str, Callable[[Json], Awaitable[Delivery]]] = {
            "slash": lambda a: self._people.slash(a["user"], a["command"], a["text"], a["channel"]),
            "say": lambda a: self._people.say(a["user"], a["channel"], a["text"], a.get("thread_ts")),
            "click": lambda a: self._people.click(
                a["user"], a["channel"], a["ts"], a["action_id"], a.get("value")
            ),
            "click-in-view": lambda a: self._people.click_in_view(a["user"], a["action_id"], a.get("value")),
            "submit": lambda a: self._people.submit_view(a["user"], a["values"]),
            "close": lambda a: self._people.close_view(a["user"]),
        }
        deed = deeds.get(request.match_info["deed"])
        if deed is None:
            raise web.HTTPNotFound
        try:
            delivery = await deed(await request.json())
        except (KeyError, TypeError, ValueError, Refused) as wrong:
            return web.json_response(
                {"acked": False, "error": "bad_request", "shown": str(wrong)}, status=400
            )
        shown = {"acked": delivery.acked, "error": delivery.error, "shown": delivery.shown, "ts": delivery.ts}
        if (delivery.response or {}).get("response_action") == "errors":
            shown["errors"] = (delivery.response or {}).get("errors")
        return web.json_response(shown)


async def _send(response: web.StreamResponse, change: Mapping[str, Any]) -> None:
    await response.write(f"data: {json.dumps(change)}\n\n".encode())
