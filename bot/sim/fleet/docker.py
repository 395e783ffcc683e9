"""The pretend `docker`: inspect, ps, logs, restart, stop and start of the one container a GPU host runs."""

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

from bot.sim.fleet.reply import Reply, UsageError, options
from bot.sim.fleet.state import CONTAINER, IMAGE, MODEL, PORT, Replica, State, World

NAMES_OF_ENV = '{{range .Config.Env}}{{index (split . "=") 0}} {{end}}'
"""The one loop of Go's templates that is known here."""
_NEVER = "0001-01-01T00:00:00Z"


async def docker(world: World, host: State, argv: list[str]) -> Reply:
    """Answer one call."""
    verb, *rest = argv or ["help"]
    if verb == "container" and rest:
        verb, *rest = rest
    now = world.settle()
    match verb:
        case "inspect":
            return _inspect(host, rest)
        case "ps":
            return _ps(host, rest, now)
        case "logs":
            return _logs(world, host, rest, now)
        case "restart" | "stop" | "start" | "kill":
            return await _change(world, host, verb, rest)
        case "update":
            _, names = options(rest, "", ["restart="])
            return _each(host, names, "")
        case "info" | "version":
            return Reply(stdout=" Server Version: 28.4.0\n Runtimes: nvidia runc\n")
    return Reply(
        stderr=f"docker: unknown command: docker {verb}\n\nRun 'docker --help' for more information\n", exit=1
    )


def _named(host: State, name: str) -> Replica | None:
    replica = host.replica
    if replica is not None and (
        name.removeprefix("/") == CONTAINER or (len(name) > 5 and replica.id.startswith(name))
    ):
        return replica
    return None


def _inspect(host: State, argv: list[str]) -> Reply:
    found, names = options(argv, "f:s", ["format=", "type=", "size"])
    if not names:
        raise UsageError("'docker inspect' requires at least 1 argument.")
    entries, errors = [], ""
    for name in names:
        replica = _named(host, name)
        if replica is None:
            errors += f"Error: No such object: {name}\n"
        else:
            entries.append(_entry(host, replica))
    template = found.get("--format", found.get("-f"))
    if template is not None:
        shown = "".join(_fill(template, entry) + "\n" for entry in entries)
    else:
        shown = json.dumps(entries, indent=4) + "\n"
    return Reply(stdout=shown, stderr=errors, exit=1 if errors else 0)


def _entry(host: State, replica: Replica) -> dict[str, Any]:
    running = replica.status == "running"
    return {
        "Id": replica.id * 2,
        "Created": _stamp(replica.started_at - 3),
        "Path": "vllm",
        "Args": ["serve", MODEL, "--tensor-parallel-size", "8"],
        "State": {
            "Status": replica.status,
            "Running": running,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": 19_000 + host.number if running else 0,
            "ExitCode": 0 if running else replica.exit_code,
            "Error": "",
            "StartedAt": _stamp(replica.started_at),
            "FinishedAt": _stamp(replica.finished_at) if replica.finished_at else _NEVER,
        },
        "Image": "sha256:7c1e5d0b",
        "Name": f"/{CONTAINER}",
        "RestartCount": 0,
        "HostConfig": {
            "NetworkMode": "host",
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
        },
        "Config": {
            "Image": IMAGE,
            "Env": ["HF_HOME=/models", "VLLM_LOGGING_LEVEL=INFO"],
            "Cmd": ["serve", MODEL, "--tensor-parallel-size", "8"],
        },
    }


def _fill(template: str, entry: dict[str, Any]) -> str:
    """Fill the plain part of Go's templates: `{{.State.Status}}` and `{{json .State}}`."""

    def value(match: re.Match[str]) -> str:
        found: Any = entry
        for part in filter(None, match["path"].split(".")):
            if not isinstance(found, dict) or part not in found:
                raise UsageError(f"template: :1: map has no entry for key {part!r}")
            found = found[part]
        if match["json"]:
            return json.dumps(found)
        return str(found).lower() if isinstance(found, bool) else str(found)

    names = "".join(f"{one.partition('=')[0]} " for one in entry.get("Config", {}).get("Env", ()))
    template = template.replace(NAMES_OF_ENV, names)
    return re.sub(r"\{\{\s*(?P<json>json\s+)?(?P<path>\.[A-Za-z.]*)\s*\}\}", value, template)


def _ps(host: State, argv: list[str], now: float) -> Reply:
    found, _ = options(argv, "aqf:", ["all", "quiet", "format=", "filter=", "no-trunc"])
    replica = host.replica
    rows = []
    if replica is not None and (replica.status == "running" or {"-a", "--all"} & found.keys()):
        since = _ago(
            now - (replica.started_at if replica.status == "running" else replica.finished_at or now)
        )
        status = f"Up {since}" if replica.status == "running" else f"Exited ({replica.exit_code}) {since} ago"
        rows.append(
            {
                "ID": replica.id[:12],
                "Image": IMAGE,
                "Names": CONTAINER,
                "Status": status,
                "State": replica.status,
                "RunningFor": f"{since} ago",
                "CreatedAt": _stamp(replica.started_at - 3),
                "Ports": "",
            }
        )
    if {"-q", "--quiet"} & found.keys():
        return Reply(stdout="".join(row["ID"] + "\n" for row in rows))
    if "--format" in found:
        if found["--format"] == "json":
            return Reply(stdout="".join(json.dumps(row) + "\n" for row in rows))
        table, template = found["--format"].startswith("table "), found["--format"].removeprefix("table ")
        heads = [template.replace("{{.", "").replace("}}", "").upper() + "\n"] if table else []
        return Reply(
            stdout="".join([*heads, *(_fill(template, row) + "\n" for row in rows)]).replace(r"\t", "   ")
        )
    lines = [
        "CONTAINER ID   IMAGE                      COMMAND                  STATUS          PORTS     NAMES\n"
    ]
    lines += [
        f'{row["ID"]}   {row["Image"]:<24}   "vllm serve {MODEL[:10]}…"   {row["Status"]:<13}             {CONTAINER}\n'
        for row in rows
    ]
    return Reply(stdout="".join(lines))


def _logs(world: World, host: State, argv: list[str], now: float) -> Reply:
    found, names = options(argv, "n:ft", ["tail=", "since=", "until=", "timestamps", "follow"])
    replica = _named(host, names[0]) if names else None
    if replica is None:
        return Reply(stderr=f"Error response from daemon: No such container: {''.join(names[:1])}\n", exit=1)
    stamped = "--timestamps" in found or "-t" in found
    lines = [
        f"{_stamp(at)} {text}" if stamped else text for at, text in _log_lines(world, host, replica, now)
    ]
    tail = found.get("--tail", found.get("-n", "all"))
    if tail.isdigit():
        lines = lines[-int(tail) :] if int(tail) else []
    return Reply(stderr="".join(line + "\n" for line in lines))


def _log_lines(world: World, host: State, replica: Replica, now: float) -> list[tuple[float, str]]:
    """Return what the container printed, each line with its time."""

    def line(at: float, text: str) -> tuple[float, str]:
        return at, f"(APIServer pid=1) INFO {datetime.fromtimestamp(at, UTC):%m-%d %H:%M:%S} {text}"

    lines = [line(replica.started_at, f"[api_server.py:1839] vLLM API server version 0.11.0, model {MODEL}")]
    if not replica.serving(now):
        return [
            *lines,
            line(min(now, replica.ready_at), "[weight_utils.py:392] Loading safetensors checkpoint shards"),
        ]
    lines.append(
        line(replica.ready_at, f"[launcher.py:46] Starting vLLM API server 0 on http://0.0.0.0:{PORT}")
    )
    stopped = replica.stalled_at if replica.stalled_at is not None else now
    running = world.running(host.name, now)
    first = max(replica.ready_at, now - 300)
    for back in range(int((now - first) // 10), -1, -1):
        at = now - back * 10
        if at > stopped + 10:
            # What a hung engine looks like: requests are in, and nothing comes out.
            lines.append(
                line(
                    at,
                    f"[loggers.py:127] Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 0.0 "
                    f"tokens/s, Running: {running} reqs, Waiting: {world.waiting(host.name, at)} reqs",
                )
            )
        else:
            lines.append(
                line(
                    at,
                    f"[loggers.py:127] Engine 000: Avg prompt throughput: {running * 121.6:.1f} tokens/s, Avg generation "
                    f"throughput: {running * 38.0:.1f} tokens/s, Running: {running} reqs, Waiting: 0 reqs",
                )
            )
    if replica.stalled_at is not None and now - replica.stalled_at > 60:
        at = replica.stalled_at + 60
        words = "[shm_broadcast.py:466] No available shared memory broadcast block found in 60 seconds."
        lines.append(
            (at, f"(EngineCore_DP0 pid=87) WARNING {datetime.fromtimestamp(at, UTC):%m-%d %H:%M:%S} {words}")
        )
    return lines


async def _change(world: World, host: State, verb: str, argv: list[str]) -> Reply:
    _, names = options(argv, "t:s:", ["time=", "timeout=", "signal="])
    if not names:
        raise UsageError(f"'docker {verb}' requires at least 1 argument.")
    missing = next((name for name in names if _named(host, name) is None), None)
    if missing is not None:
        return Reply(stderr=f"Error response from daemon: No such container: {missing}\n", exit=1)
    replica = _named(host, names[0])
    assert replica is not None
    if verb != "start" and replica.status == "running":
        await asyncio.sleep(0 if verb == "kill" else world.timing.stop)
        replica.stop(world.settle())
    if verb in {"restart", "start"} and replica.status != "running":
        replica.start(world.settle())
    return _each(host, names, "")


def _each(host: State, names: list[str], before: str) -> Reply:
    missing = [name for name in names if _named(host, name) is None]
    errors = "".join(f"Error response from daemon: No such container: {name}\n" for name in missing)
    known = [name for name in names if name not in missing]
    return Reply(
        stdout=before + "".join(name + "\n" for name in known), stderr=errors, exit=1 if errors else 0
    )


def _stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}789Z"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(1, int(seconds))} seconds"
