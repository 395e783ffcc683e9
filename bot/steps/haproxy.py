"""How all `haproxy.*` kinds speak to a load balancer: by its runtime socket, from a shell on its machine.

HAProxy answers a change with silence, and the same silence where it did nothing, so every kind reads the state back
and judges by that alone. A server that is already drained or in maintenance was taken out by somebody: it is left
alone, because putting it back would undo a decision that nobody told us of.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from bot.effect import Finished
from bot.facts import FactsError
from bot.facts.haproxy import Haproxy, Server, parse
from bot.language.inputs import Noun
from bot.steps.kind import CannotPlan, Context
from bot.wording import near

SocketPlace = Annotated[
    str,
    Field(
        pattern=r"^(/[A-Za-z0-9_./-]{1,106}|[A-Za-z0-9.-]{1,253}:[0-9]{1,5})$",
        description="of the runtime API: a path, or host:port",
    ),
]
ServerName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}/[A-Za-z0-9_.:-]{1,128}$", description="backend/server"),
]

SAY = """\
say() {
  if command -v socat >/dev/null 2>&1; then
    case $SOCKET in
      /*) printf '%s\\n' "$1" | socat -t 10 - "UNIX-CONNECT:$SOCKET" ;;
      *) printf '%s\\n' "$1" | socat -t 10 - "TCP:$SOCKET" ;;
    esac
  elif command -v python3 >/dev/null 2>&1; then
    python3 -c '
import socket, sys
place, line = sys.argv[1:]
try:
    if place.startswith("/"):
        talk = socket.socket(socket.AF_UNIX)
        talk.settimeout(10)
        talk.connect(place)
    else:
        host, port = place.rsplit(":", 1)
        talk = socket.create_connection((host, int(port)), 10)
    talk.sendall(line.encode() + b"\\n")
    for chunk in iter(lambda: talk.recv(65536), b""):
        sys.stdout.buffer.write(chunk)
except OSError as error:
    sys.exit("%s: %s" % (place, error))
' "$SOCKET" "$1"
  elif command -v perl >/dev/null 2>&1; then
    perl -MIO::Socket::UNIX -MIO::Socket::INET -e '
my ($place, $line) = @ARGV;
alarm 20;
my $talk = $place =~ m{^/} ? IO::Socket::UNIX->new(Peer => $place) : IO::Socket::INET->new(PeerAddr => $place);
$talk or die "$place: $!\\n";
print $talk "$line\\n";
$talk->flush;
print while <$talk>;
' "$SOCKET" "$1"
  elif nc -h 2>&1 | grep -q -e '-[a-zA-Z]*U'; then
    case $SOCKET in
      /*) printf '%s\\n' "$1" | nc -w 10 -U "$SOCKET" ;;
      *) printf '%s\\n' "$1" | nc -w 10 "${SOCKET%:*}" "${SOCKET##*:}" ;;
    esac
  else
    echo 'no program here can speak to a socket: install socat, python3, perl or OpenBSD netcat' >&2
    return 69
  fi
}
"""
"""Shell text that defines `say LINE`: one line to `$SOCKET`, its answer on stdout."""

NO_PROGRAM = 69
NO_ANSWER = 74
TABLES = "show stat -1 4 -1; show servers state"
"""Both tables: sessions and checks are in the first, who took a server out in the second."""


class Arguments(Noun):
    """What stands under `with`; what is left out is taken from `host.vars.haproxy`."""

    lb: str | None = Field(None, description="the load balancer's machine, by its name in the inventory")
    socket: SocketPlace | None = None
    server: ServerName | None = None


class Place(Noun):
    """A server at a load balancer; also the shape of `host.vars.haproxy`."""

    host: str
    socket: SocketPlace = "/run/haproxy/admin.sock"
    server: ServerName

    @property
    def env(self) -> dict[str, str]:
        """As shell variables."""
        return {"SOCKET": self.socket, "SERVER": self.server}


def place(arguments: Arguments, context: Context) -> Place:
    """Join what the step says with what is written down for the host.

    Raises:
        CannotPlan: when something is missing or malformed.

    """
    name = context["host"]["name"]
    written = context["host"]["vars"].get("haproxy", {})
    advice = (
        f"write it under `vars` of {name}, like "
        "`haproxy: {host: lb-01, socket: /run/haproxy/admin.sock, server: be_vllm/gpu-03}`"
    )
    if not isinstance(written, Mapping):
        raise CannotPlan(f"`vars.haproxy` of {name} is not a mapping", advice=advice)
    given = {"host": arguments.lb, "socket": arguments.socket, "server": arguments.server}
    try:
        return Place.model_validate(
            {**written, **{key: value for key, value in given.items() if value is not None}}
        )
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"])) or "haproxy"
        field = Place.model_fields.get(key)
        shape = field.description if field is not None and wrong["type"] == "string_pattern_mismatch" else ""
        what = "is missing" if wrong["type"] == "missing" else f"is not right: {shape or wrong['msg']}"
        raise CannotPlan(f"{name} at the load balancer: `{key}` {what}", advice=advice) from error


class Seen(Noun):
    """One server, and how many others of its backend are at work."""

    server: Server
    backend_up: int

    @property
    def state(self) -> str | None:
        """ready, drain or maint, as a person or the configuration set it; None where HAProxy did not tell."""
        if self.server.maint is None or self.server.drain is None:
            return None
        return "maint" if self.server.maint else "drain" if self.server.drain else "ready"

    @property
    def facts(self) -> dict[str, Any]:
        """As expressions see it."""
        server = self.server
        return {
            "backend": server.backend,
            "server": server.name,
            "state": self.state,
            "status": server.status,
            "sessions": server.sessions,
            "queue": server.queued,
            "weight": server.weight,
            "check": server.check,
            "selected": server.selected,
            "backend_up": self.backend_up,
        }

    @property
    def text(self) -> str:
        """One line: `be_vllm/gpu-03: drain (DRAIN), 3 sessions, 2 others up`."""
        server = self.server
        sessions = "sessions unknown" if server.sessions is None else _many(server.sessions, "session")
        queue = f", {server.queued} queued" if server.queued else ""
        status = f" ({server.status})" if server.status else ""
        state = self.state or "state unknown"
        return (
            f"{server.backend}/{server.name}: {state}{status}, {sessions}{queue}, "
            f"{_many(self.backend_up, 'other')} up"
        )


def find(answer: Finished, server: str) -> Seen:
    """Read the tables and find the server in them.

    Raises:
        FactsError: when they are not there, or the server is not in them.

    """
    if answer.stdout.cut:
        raise FactsError("the load balancer's tables whole", "", why="they are longer than what is kept")
    facts = parse(answer.stdout.text)
    backend, _, name = server.partition("/")
    for each in facts.servers:
        if (each.backend, each.name) == (backend, name):
            return Seen(server=each, backend_up=_others(facts, each))
    known = [f"{each.backend}/{each.name}" for each in facts.servers]
    hint = near(server, known) or f"it has {', '.join(known[:8]) or 'no server at all'}"
    raise FactsError(f"a server {server} at the load balancer", "", why=hint)


def advice(said: str) -> str:
    """Say what to do about what the socket's program or HAProxy said."""
    text = said.lower()
    if "no program here" in text:
        return "install socat on the load balancer"
    if "permission denied" in text and "errno" not in text and "/" not in text:
        return "HAProxy's socket needs `level admin`: `stats socket … level admin`"
    if "permission denied" in text:
        return "let the SSH user open HAProxy's socket: `stats socket … mode 660 group …`, and put the user there"
    if "no such file" in text or "refused" in text:
        return "is HAProxy running, and is `socket` where its `stats socket` is?"
    return ""


def _others(facts: Haproxy, server: Server) -> int:
    return sum(
        each.backend == server.backend
        and each.name != server.name
        and each.operation == "running"
        and not each.drain
        and not each.maint
        and each.weight != 0
        for each in facts.servers
    )


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
