"""The Web API as HTTP: read the arguments, check token and scope, refuse or do, note it in the journal."""

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from bot.sim.slack import chat, directory, uploads, views
from bot.sim.slack.journal import Journal
from bot.sim.slack.refusals import Refusals, Refused
from bot.sim.slack.workspace import Json
from bot.sim.slack.world import World

METHODS = {**directory.METHODS, **chat.METHODS, **views.METHODS, **uploads.METHODS}

# Only these are parsed as JSON in a form: any other text that begins with a bracket is just a text.
_JSON_FIELDS = {"blocks", "attachments", "metadata", "view", "files"}
_BOOLEAN_FIELDS = {"include_all_metadata", "inclusive", "reply_broadcast", "unfurl_links", "unfurl_media"}

DEFAULT_SCOPES = (
    "app_mentions:read",
    "channels:history",
    "channels:join",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "reactions:write",
    "usergroups:read",
    "users:read",
    "users:read.email",
)


class WebApi:
    """Everything under /api/, the upload addresses and the response URLs."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        refusals: Refusals,
        *,
        bot_token: str,
        app_token: str,
        scopes: Sequence[str],
    ) -> None:
        self._world = world
        self._journal = journal
        self._refusals = refusals
        self._bot_token = bot_token
        self._app_token = app_token
        self._scopes = scopes

    def routes(self) -> list[web.RouteDef]:
        """Return what the server has to serve."""
        return [
            web.route("*", "/api/{method}", self._handle),
            web.post("/upload/{file_id}", self._upload),
            web.post("/response/{name}", self._respond),
        ]

    async def _handle(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        headers = {"x-oauth-scopes": ",".join(self._scopes)}
        status = 200
        args: Json = {}
        answer: Json
        try:
            args = await _arguments(request)
            token = str(args.pop("token", "")) or _bearer(request)
            self._check(method, token)
            known = METHODS[method]
            fault = self._refusals.of(method, known.tier, str(args.get("channel", "")))
            if fault is not None:
                status, answer = fault.status, {"ok": False, "error": fault.error}
                if fault.retry_after is not None:
                    headers["Retry-After"] = str(fault.retry_after)
            else:
                answer = {"ok": True, **known.handle(self._world, args)}
        except Refused as refused:
            answer = {"ok": False, "error": refused.error, **refused.more}
        self._journal.note("call", method=method, args=args, status=status, answer=answer)
        return web.json_response(answer, status=status, headers=headers)

    def _check(self, method: str, token: str) -> None:
        if method not in METHODS:
            raise Refused("unknown_method", req_method=method)
        if token not in {self._bot_token, self._app_token}:
            raise Refused("invalid_auth" if token else "not_authed")
        if (method == "apps.connections.open") != (token == self._app_token):
            raise Refused("not_allowed_token_type")
        scope = METHODS[method].scope
        if scope is not None and scope not in self._scopes:
            raise Refused("missing_scope", needed=scope, provided=",".join(self._scopes))

    async def _upload(self, request: web.Request) -> web.Response:
        file_id = request.match_info["file_id"]
        if request.content_type.startswith("multipart/"):
            form = await request.post()
            parts = [one for one in form.values() if isinstance(one, web.FileField)]
            content = parts[0].file.read() if parts else b""
        else:
            content = await request.read()
        try:
            uploads.receive(self._world, file_id, content)
        except Refused as refused:
            return web.Response(status=404, text=refused.error)
        self._journal.note("upload", file_id=file_id, size=len(content))
        return web.Response(text=f"OK - {len(content)}")

    async def _respond(self, request: web.Request) -> web.Response:
        status, answer, args = 200, "ok", {}
        try:
            args = await _arguments(request)
            chat.respond(self._world, self._world.use_response_url(request.match_info["name"]), args)
        except Refused as refused:
            answer = refused.error
            status = 404 if answer in {"expired_url", "invalid_url"} else 400
            if refused.more:
                answer = json.dumps({"ok": False, "error": answer, **refused.more})
        self._journal.note("response_url", args=args, status=status, answer=answer)
        return web.Response(status=status, text=answer)


def _bearer(request: web.Request) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def _arguments(request: web.Request) -> Json:
    """Read arguments from wherever a Slack client may put them: query, form, JSON (or an empty body)."""
    args: Json = dict(request.query)
    if request.content_type == "application/json":
        text = await request.text()
        try:
            body = json.loads(text) if text.strip() else {}
        except ValueError:
            raise Refused("invalid_json") from None
        if not isinstance(body, dict):
            raise Refused("json_not_object")
        return args | body
    form = await request.post()
    args |= {name: value for name, value in form.items() if isinstance(value, str)}
    for name in _JSON_FIELDS & set(args):
        args[name] = _parsed(name, args[name])
    for name in _BOOLEAN_FIELDS & set(args):
        args[name] = str(args[name]).lower() in {"1", "true"}
    return args


def _parsed(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        error = f"invalid_{name}" if name in {"blocks", "attachments"} else "invalid_arguments"
        messages = [f"[ERROR] {name} is not JSON [json-pointer:/{name}]"]
        raise Refused(error, response_metadata={"messages": messages}) from None
