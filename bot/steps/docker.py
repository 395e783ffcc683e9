"""`docker.inspect` and `docker.restart`: one container by its name.

Only the fields that are judged are asked for, because a container's environment holds tokens and what a host prints is
kept. `Running=true` alone proves nothing (it is true in the pauses of a crash loop), and vLLM ends with code 0 when its
engine dies, so that neither exit code is good news.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from bot.duration import Duration
from bot.effect import Command, Finished
from bot.facts import FactsError, docker_inspect
from bot.facts.docker_inspect import Container
from bot.language.inputs import Noun
from bot.steps.answer import NOT_FOUND, absent, believed, last_line, unknown, words
from bot.steps.kind import Context, Effect, Judgement, Kind
from bot.verdict import Verdict

ContainerName = Annotated[
    str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$", description="the container's name")
]

_FIELDS = (
    '[{"Id":{{json .Id}},"Name":{{json .Name}},"RestartCount":{{json .RestartCount}},"State":{{json .State}},'
    '"Config":{"Image":{{json .Config.Image}}},"HostConfig":{"RestartPolicy":{{json .HostConfig.RestartPolicy}}}}]'
)
INSPECT = f"date -u +%s && docker inspect --type container --format '{_FIELDS}' -- \"$NAME\""

RESTART = """\
started() { docker inspect --type container --format '{{.State.StartedAt}} {{.State.Status}}' -- "$NAME"; }
before=$(started) || exit
printf 'before %s\\n' "$before"
docker restart -t "$GRACE" -- "$NAME" || exit
after=$(started) || exit
printf 'after %s\\n' "$after"
"""

YOUNG = timedelta(minutes=10)
MANY_RESTARTS = 3
"""A container that docker started again this often, and that is younger than `YOUNG`, is in a crash loop."""

SLACK = 60.0
"""Seconds docker may need beyond the grace."""


class InspectArguments(Noun):
    """What stands under `with`."""

    name: ContainerName


class RestartArguments(Noun):
    """What stands under `with`."""

    name: ContainerName
    grace: Duration = Field(
        timedelta(seconds=120),
        ge=timedelta(0),
        le=timedelta(hours=1),
        description="time to end by itself; a process killed in the middle of its work can wedge its GPU",
    )


def plan_inspect(arguments: InspectArguments, _context: Context) -> Effect:
    """Ask docker, and the host's clock, against which its times are read."""
    return Effect(
        Command(INSPECT, {"NAME": arguments.name}, timeout=30.0), says=f"docker inspect {arguments.name}"
    )


def judge_inspect(arguments: InspectArguments, answer: Finished, _context: Context) -> Judgement:
    """Say whether the container runs, and if not how it ended."""
    if answer.exit_code == NOT_FOUND:
        return absent("docker")
    try:
        found = docker_inspect.parse(f"{answer.stdout.text}\n{answer.stderr.text}")
    except FactsError as error:
        if answer.exit_code != 0:
            return unknown(f"docker: {words(answer)}", _advice(answer.stderr.text))
        return unknown(error.what, error.advice)
    if not found.containers:
        summary = f"there is no container called {arguments.name}"
        advice = "`docker ps -a` on the host shows the names"
        return Judgement(
            ok=True, summary=summary, verdict=Verdict.UNHEALTHY, facts={"exists": False}, advice=advice
        )
    container = found.containers[0]
    clock = re.match(r"\s*(\d{1,12})\s", answer.stdout.text)
    age = _age(container, int(clock[1])) if clock else None
    verdict, summary = _state(container, age)
    found_so = Judgement(ok=True, summary=summary, verdict=verdict, facts=_facts(container, age))
    return believed(found_so, answer)


def plan_restart(arguments: RestartArguments, _context: Context) -> Effect:
    """Restart, and note when the container began before and after."""
    grace = math.ceil(arguments.grace.total_seconds())
    env = {"NAME": arguments.name, "GRACE": str(grace)}
    return Effect(
        Command(RESTART, env, timeout=grace + SLACK, mutating=True),
        says=f"docker restart --time {grace} {arguments.name}",
    )


def judge_restart(arguments: RestartArguments, answer: Finished, _context: Context) -> Judgement:
    """Believe in the restart only where the container's start time has changed."""
    seen = dict(re.findall(r"^(before|after) (\S+ \S+)$", answer.stdout.text, re.MULTILINE))
    before, _, _ = seen.get("before", "").partition(" ")
    after, _, status = seen.get("after", "").partition(" ")
    facts = {
        "started_before": before or None,
        "started_after": after or None,
        "container_status": status or None,
    }
    if answer.exit_code != 0:
        said = last_line(answer.stderr)
        summary = f"{arguments.name} was not restarted: {said or words(answer)}"
        return Judgement(ok=False, summary=summary, facts=facts, advice=_advice(answer.stderr.text))
    if not after or after == before:
        summary = (
            f"docker reports success, yet {arguments.name} still runs since {before or 'an unknown time'}"
        )
        advice = f"look at `docker inspect {arguments.name}` and docker's own log on the host"
        return Judgement(ok=False, summary=summary, facts=facts, advice=advice)
    if status != "running":
        summary = (
            f"{arguments.name} was started again at {_short(after)} and is {status or 'in an unknown state'}"
        )
        advice = f"`docker logs --tail 50 {arguments.name}` on the host says why"
        return Judgement(ok=False, summary=summary, facts=facts, advice=advice)
    summary = f"{arguments.name} restarted at {_short(after)}; it had run since {_short(before)}"
    return Judgement(ok=True, summary=summary, facts=facts)


INSPECT_KIND = Kind(
    says="Judges one container: does it run, is it in a crash loop, how did it end?",
    arguments=InspectArguments,
    plan=plan_inspect,
    judge=judge_inspect,
)
RESTART_KIND = Kind(
    says="Restarts one container, and proves it by its start time.",
    arguments=RestartArguments,
    plan=plan_restart,
    judge=judge_restart,
    mutating=True,
)


def _state(container: Container, age: float | None) -> tuple[Verdict, str]:
    since = f" for {_span(age)}" if age is not None else ""
    restarts = f", restarted {container.restart_count} times by docker" if container.restart_count else ""
    match container.status:
        case "running":
            return _running(container, age, since, restarts)
        case "restarting":
            return Verdict.UNHEALTHY, f"in a restart loop{restarts}, {_exit(container)}"
        case "exited" | "dead":
            error = f" ({container.error})" if container.error else ""
            return Verdict.UNHEALTHY, f"{container.status}{since}, {_exit(container)}{error}"
        case "created":
            return Verdict.UNHEALTHY, "created and never started" + (
                f" ({container.error})" if container.error else ""
            )
        case "paused" | "removing":
            return Verdict.UNHEALTHY, f"{container.status}{since}"
        case None:
            return Verdict.UNKNOWN, "docker does not say what state the container is in"


def _running(container: Container, age: float | None, since: str, restarts: str) -> tuple[Verdict, str]:
    looping = (
        (container.restart_count or 0) >= MANY_RESTARTS and age is not None and age < YOUNG.total_seconds()
    )
    if looping:
        return Verdict.UNHEALTHY, f"in a crash loop: running only{since}{restarts}, {_exit(container)}"
    if container.health == "unhealthy":
        return Verdict.UNHEALTHY, f"running{since}, but the image's own health check fails{restarts}"
    notes = restarts
    if container.oom_killed:
        notes += ", a process in it was killed for lack of memory"
    if container.health == "starting":
        notes += ", its health check has not passed yet"
    return Verdict.HEALTHY, f"running{since}{notes}"


def _exit(container: Container) -> str:
    if container.oom_killed:
        return "killed for lack of memory"
    return f"exit code {container.exit_code}" if container.exit_code is not None else "exit code unknown"


def _age(container: Container, now: int) -> float | None:
    """Seconds since it began or, where it has ended, since it ended, by the host's own clock."""
    ended = container.status in ("exited", "dead")
    since = container.finished_at if ended else container.started_at
    return max(0.0, now - since.timestamp()) if since is not None else None


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _facts(container: Container, age: float | None) -> dict[str, Any]:
    return {"exists": True, "age_s": age, **container.model_dump(mode="json")}


def _short(moment: str) -> str:
    """Write docker's nanoseconds as people read a time; what is no time stays as it is."""
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return moment


def _advice(said: str) -> str:
    text = said.lower()
    if "permission denied" in text:
        return "let the SSH user use docker: add it to the group `docker` on the host"
    if "cannot connect to the docker daemon" in text:
        return "docker itself does not answer: `systemctl status docker` on the host"
    if "no such container" in text or "no such object" in text:
        return "`docker ps -a` on the host shows the names"
    return ""
