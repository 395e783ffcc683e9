"""`vars: {haproxy: …}` of a host or of a host set: where it can be taken out of traffic.

The steps read it for each host as `host.vars.haproxy` and check it then; here every mistake is told when the file is
read, because the next time anybody looks at it is an incident.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from bot.language.inputs import Noun
from bot.steps.haproxy import ServerName, SocketPlace

KEY = "haproxy"
BackendName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$", description="a backend's name")]


class HaproxySection(Noun):
    """A server at a load balancer; what is left out a runbook's step has to say."""

    host: str | None = Field(None, description="the load balancer's machine, by its name in the inventory")
    socket: SocketPlace | None = Field(None, description="its runtime API: a path, or host:port")
    server: ServerName | None = Field(None, description="write backend/server")
    backend: BackendName | None = Field(
        None, description="instead of `server`, where it has the host's name; for host sets"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "HaproxySection":
        if self.server and self.backend:
            raise ValueError("`server` and `backend` say the same thing: keep one of them")
        return self


def spread(vars_: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the vars of one host of a set: the server of a `backend` is the one with its name."""
    given = vars_.get(KEY)
    if not isinstance(given, Mapping) or "backend" not in given:
        return vars_
    rest = {key: value for key, value in given.items() if key != "backend"}
    return {**vars_, KEY: {**rest, "server": f"{given['backend']}/{name}"}}
