"""`docker inspect NAME`: is the container up, since when, and how did it end before.

`Running` alone lies in a crash loop, so the restart count and the start time come with it: a container that was
started a moment ago for the 35th time is not a container that runs.
"""

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime

from bot.facts import Facts, FactsError, bounded

EXPECTED = "the JSON of `docker inspect NAME`"
LARGEST = 4 * 1024 * 1024
MOST = 200

Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
_STATUSES: dict[str, Status] = {
    "created": "created",
    "running": "running",
    "paused": "paused",
    "restarting": "restarting",
    "removing": "removing",
    "exited": "exited",
    "dead": "dead",
}


class Container(Facts):
    """One container."""

    name: str | None
    id: str | None
    image: str | None
    status: Status | None
    running: bool | None
    restart_count: int | None
    restart_policy: str | None
    started_at: AwareDatetime | None
    """None where it never started."""
    finished_at: AwareDatetime | None
    exit_code: int | None
    oom_killed: bool | None
    error: str | None
    health: str | None
    """healthy, unhealthy or starting; None where the image defines no check."""
    pid: int | None


class DockerInspect(Facts):
    """The containers asked for, and the names of those there are none of."""

    containers: tuple[Container, ...]
    missing: tuple[str, ...] = ()


def parse(text: str) -> DockerInspect:
    """Read the JSON; environment variables, which may hold secrets, are left behind.

    Raises:
        FactsError: when there is neither such JSON nor docker's word that the container is missing.

    """
    text = bounded(text, EXPECTED, LARGEST)
    missing = tuple(
        line.rpartition(":")[2].strip()[:MOST]
        for line in text.splitlines()
        if "No such object:" in line or "No such container:" in line
    )[:MOST]
    start = text.find("[")
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start) if start >= 0 else ([], 0)
    except (ValueError, RecursionError) as error:
        raise FactsError(EXPECTED, text, why="the JSON is cut or damaged") from error
    if not isinstance(found, list) or not (found or missing):
        raise FactsError(EXPECTED, text)
    containers = tuple(_container(each) for each in found[:MOST] if isinstance(each, dict))
    if len(containers) < len(found[:MOST]):
        raise FactsError(EXPECTED, text, why="the list holds something that is no container")
    if not all(each.status or each.id for each in containers):
        raise FactsError(EXPECTED, text, why="an entry has neither an Id nor a State")
    return DockerInspect(containers=containers, missing=missing)


def _container(entry: dict[str, Any]) -> Container:
    state = _mapping(entry, "State")
    policy = _mapping(_mapping(entry, "HostConfig"), "RestartPolicy")
    name = _text(entry, "Name")
    return Container(
        name=name.removeprefix("/") if name else None,
        id=_text(entry, "Id"),
        image=_text(_mapping(entry, "Config"), "Image"),
        status=_STATUSES.get(_text(state, "Status") or ""),
        running=_flag(state, "Running"),
        restart_count=_count(entry, "RestartCount"),
        restart_policy=_text(policy, "Name"),
        started_at=_time(state, "StartedAt"),
        finished_at=_time(state, "FinishedAt"),
        exit_code=_count(state, "ExitCode"),
        oom_killed=_flag(state, "OOMKilled"),
        error=_text(state, "Error"),
        health=_text(_mapping(state, "Health"), "Status"),
        pid=_count(state, "Pid"),
    )


def _mapping(entry: dict[str, Any], key: str) -> dict[str, Any]:
    found = entry.get(key)
    return found if isinstance(found, dict) else {}


def _text(entry: dict[str, Any], key: str) -> str | None:
    found = entry.get(key)
    return found[:1000] if isinstance(found, str) and found else None


def _flag(entry: dict[str, Any], key: str) -> bool | None:
    found = entry.get(key)
    return found if isinstance(found, bool) else None


def _count(entry: dict[str, Any], key: str) -> int | None:
    found = entry.get(key)
    whole = isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**63
    return found if whole else None


def _time(entry: dict[str, Any], key: str) -> datetime | None:
    """Read `2026-08-06T01:03:40.123456789Z`; docker writes the year 1 for never."""
    try:
        found = datetime.fromisoformat(_text(entry, key) or "")
    except ValueError:
        return None
    return found if found.tzinfo and found.year > 1 else None
