"""A drain: a server that Sickbay took out of traffic; whose it is, and who may touch it. Pure.

Sickbay undoes only what it did. Before a change its ledger and the load balancer have to agree: the ledger says how the
server was left and what HAProxy had counted then, and the command compares it in the moment of the change. HAProxy
keeps no names, so these are the only witnesses: another state than the one it was left in, requests taken since, or a
maintenance that is younger than ours.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from bot.errors import Path
from bot.fleet import named
from bot.runs.run import Attempt, Run, RunState, Status

Deed = Literal["look", "drain", "maint", "ready"]
"""What a step does with a server: nothing, no new requests, none at all, all of them again."""
State = Literal["claimed", "drain", "maint", "unknown"]
"""How Sickbay left a server; `claimed` until its first command has ended."""
Whose = Literal["run", "kept", "anybody"]
"""Whose drain a step undoes: its own run's, also one that was kept, or whoever's."""
SLACK = 30
"""Seconds by which a maintenance may seem younger than it is: commands take a while, and clocks are not one."""
TAKE_OVER = "ask who did; `undrain-host` with take_over=true puts it back all the same"


@dataclass(frozen=True, slots=True)
class Turn:
    """What a command does with a server at its load balancer."""

    deed: Deed
    lb: str
    """The load balancer's machine, by its name in the inventory."""
    socket: str
    server: str
    """backend/server."""
    keep: str = ""
    """Why it is to stay drained when the run has ended; empty: it is not."""
    whose: Whose = "run"

    @classmethod
    def of(cls, deed: Deed, lb: str, env: Mapping[str, str]) -> "Turn":
        """Read it from a command's variables, which stand in the plan and were approved with it."""
        whose: Whose = env.get("WHOSE", "run")  # type: ignore[assignment]
        return cls(deed, lb, env["SOCKET"], env["SERVER"], env.get("KEEP", ""), whose)


@dataclass(frozen=True, slots=True)
class Drain:
    """A line of the ledger."""

    id: int
    host: str
    lb: str
    socket: str
    server: str
    run: int
    """The run whose drain it is: the one that made it, or that took it over."""
    runbook: str
    incident: int | None
    by: str
    """Who wanted the run: a person, or an alert."""
    person: str | None
    why: str
    at: datetime
    first_run: int = 0
    """The run that made it."""
    state: State = "claimed"
    since: datetime | None = None
    """When Sickbay last changed it."""
    keep: bool = False
    selected: int | None = None
    """How often HAProxy had chosen the server for a request when it was left so."""
    doing: Deed | None = None
    """What a command that is going does."""
    kept_at: datetime | None = None
    note: str = ""
    lost: str = ""
    """What somebody else has done to it since; it is no longer ours to undo."""
    seen: str = ""
    """What HAProxy said when it was last asked: ready, drain, maint; empty: it could not be asked."""
    seen_words: str = ""
    seen_at: datetime | None = None
    closed: str = ""
    """How it ended."""
    closed_at: datetime | None = None

    @property
    def owner(self) -> str:
        """Who drained what, when and why."""
        why = f": {self.why}" if self.why else ""
        taken = self.first_run not in (0, self.run)
        did = f"has taken over from run {self.first_run}, which drained" if taken else "drained"
        return f"run {self.run} ({self.runbook}, {self.by}) {did} {self.server} at {self.at:%Y-%m-%d %H:%M} UTC{why}"


@dataclass(frozen=True, slots=True)
class Grant:
    """The command may leave, with what it must find at the load balancer."""

    env: Mapping[str, str] = field(default_factory=dict)
    claim: Literal["", "new", "take over"] = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """It may not."""

    words: str
    advice: str


@dataclass(frozen=True, slots=True)
class Said:
    """What HAProxy says of a server now."""

    state: str | None
    """None: it could not be asked, or did not tell."""
    words: str
    selected: int | None = None
    age: int | None = None
    """Seconds since it last went up or down."""


def may(turn: Turn, run: Run, drain: Drain | None, now: datetime, *, busy: bool) -> Grant | Refusal:
    """May this run do that with the server? `drain` is the ledger's open line; `busy`: the run that owns it still goes."""
    if drain is None:
        return _unclaimed(turn, run)
    if drain.run == run.id:
        return _own(turn, run, drain, now)
    if turn.deed == "ready" and turn.whose != "run" and not busy:
        return _taken_over(turn, run, drain, now)
    if refusal := theirs(run, drain, busy=busy):
        return refusal
    if turn.deed == "drain" and not drain.lost and drain.state != "unknown":
        return Grant(marks(drain, now))
    return _kept(drain)


def theirs(run: Run, drain: Drain, *, busy: bool) -> Refusal | None:
    """Say whose a drained host is; None where the run may work on it: its own, or that of the person who asked for it."""
    if drain.run == run.id:
        return None
    if busy:
        what = f"{drain.owner}, and is still at work"
        return Refusal(what, f"wait for run {drain.run}, or `sickbay cancel {drain.run}`")
    if drain.person is not None and drain.person == run.requester.person:
        return None
    return _kept(drain)


def _kept(drain: Drain) -> Refusal:
    advice = f"ask {drain.by}; `undrain-host` takes it over and puts it back"
    return Refusal(f"{drain.owner}, and it is kept so", advice)


def _unclaimed(turn: Turn, run: Run) -> Grant | Refusal:
    if turn.deed == "drain":
        return Grant(claim="new")
    if turn.deed == "ready" and turn.whose == "anybody":
        return _by_person(run) or Grant({"OWN": "any"}, claim="take over")
    return Grant({"OWN": "none"})  # HAProxy tells what there is to be said


def _own(turn: Turn, run: Run, drain: Drain, now: datetime) -> Grant | Refusal:
    if turn.deed == "ready" and turn.whose == "anybody":
        return _by_person(run) or Grant({"OWN": "any"})
    if drain.lost:
        return Refusal(f"{drain.owner}, but {drain.lost}", TAKE_OVER)
    if drain.state == "unknown":
        what = f"whether this run has changed {drain.server} is not known: {drain.note or 'its end was lost'}"
        return Refusal(what, f"look at {drain.server} on {drain.lb}; {TAKE_OVER}")
    return Grant(marks(drain, now))


def _taken_over(turn: Turn, run: Run, drain: Drain, now: datetime) -> Grant | Refusal:
    if refusal := _by_person(run):
        return refusal
    if turn.whose == "anybody":
        return Grant({"OWN": "any"}, claim="take over")
    if drain.lost or drain.state == "unknown":
        return Refusal(
            f"{drain.owner}, but {drain.lost or f'how it stands is not known: {drain.note}'}", TAKE_OVER
        )
    return Grant(marks(drain, now), claim="take over")


def _by_person(run: Run) -> Refusal | None:
    if run.requester.person is not None:
        return None
    return Refusal(
        f"{run.requester.name} is no person, and only a person takes over a drain",
        "run undrain-host yourself",
    )


def marks(drain: Drain, now: datetime) -> dict[str, str]:
    """Return how a drain of ours must be found at the load balancer, as variables of the command that touches it."""
    env: dict[str, str] = {"OWN": drain.state}
    if drain.selected is not None:
        env["SELECTED"] = str(drain.selected)
    if drain.state == "maint" and drain.since is not None:
        env["AGE"] = str(max(0, int((now - drain.since).total_seconds()) - SLACK))
    return env


def settled(drain: Drain, attempt: Attempt) -> Drain:
    """Return the drain as it is after a command has ended; `closed` once there is nothing more to it."""
    after, facts = replace(drain, doing=None), attempt.facts
    changed = facts.get("changed")
    if attempt.status is not Status.OK:
        untouched = changed is False or not attempt.sent or attempt.status is Status.UNREACHABLE
        if untouched:
            return replace(after, closed="nothing was changed") if drain.state == "claimed" else after
        return replace(after, state="unknown", note=attempt.summary, since=attempt.ended_at)
    if drain.doing == "ready":
        how = f"put back by run {attempt.run_id}" if changed is not False else "somebody else had put it back"
        return replace(after, closed=how)
    if changed is False:
        return replace(after, closed="somebody else had taken it out") if drain.state == "claimed" else after
    return replace(
        after,
        state="maint" if drain.doing == "maint" else "drain",
        since=attempt.ended_at,
        selected=facts.get("selected"),
        note="",
    )


def compared(drain: Drain, said: Said, now: datetime) -> Drain:
    """Return the drain with what HAProxy says of its server now; closed where somebody has put it back."""
    after = replace(drain, seen=said.state or "", seen_words=said.words, seen_at=now)
    if said.state is None:
        return after
    if said.state == "ready":
        how = "it takes traffic: " + (
            "it was never drained, or somebody put it back"
            if drain.state == "unknown"
            else "somebody else has put it back"
        )
        return replace(after, closed=how)
    return replace(after, lost=drain.lost or _foreign(drain, said, now))


def _foreign(drain: Drain, said: Said, now: datetime) -> str:
    """Say what somebody else has done since; empty: it stands as it was left."""
    if drain.state not in ("drain", "maint"):
        return ""
    if said.state != drain.state:
        return f"it was left {_WORDS[drain.state]}, and somebody else has {_DONE[str(said.state)]} since"
    if drain.selected is not None and said.selected is not None:
        if said.selected > drain.selected:
            return "it has taken requests since: somebody put it back and took it out again"
        if said.selected < drain.selected:
            return "HAProxy was started anew since, and who took it out then is not known"
    since = drain.since if drain.state == "maint" else None
    if since is not None and said.age is not None and (now - since).total_seconds() - SLACK > said.age:
        return "its maintenance is younger than ours: somebody put it back and took it out again"
    return ""


_WORDS = {"drain": "drained", "maint": "in maintenance"}
_DONE = {"drain": "changed it to drained", "maint": "put it into maintenance"}


def ended(state: RunState, reason: str, left: Sequence[Drain]) -> tuple[RunState, str]:
    """Return how a run ends that leaves these drains: only one that means to may succeed so, and each is named."""
    unknown = [one for one in left if one.state in ("unknown", "claimed")]
    out = [one for one in left if one not in unknown]
    meant = [one for one in out if one.keep and state is RunState.SUCCEEDED]
    forgotten = [one for one in out if one not in meant]
    words = [reason]
    if meant:
        words.append(f"Kept out of traffic: {_servers(meant)}. `undrain-host` brings it back.")
    if forgotten:
        words.append(f"Left out of traffic: {_servers(forgotten)}. `undrain-host` brings it back.")
    if unknown:
        words.append(
            f"Whether it takes traffic is not known: {_servers(unknown)}. `drains` says what HAProxy says."
        )
    failed = state is RunState.SUCCEEDED and bool(forgotten or unknown)
    return RunState.FAILED if failed else state, " ".join(word for word in words if word)


def _servers(drains: Iterable[Drain]) -> str:
    by_server = {one.server: one.host for one in drains}
    if len(by_server) > 3:
        return named(by_server.values(), 200)
    return ", ".join(f"{host} ({server})" for server, host in by_server.items())


class Turning(Protocol):
    """A step kind, as far as drains go."""

    @property
    def turns(self) -> str | None:
        """What it does with a server at a load balancer."""


def unended(
    steps: Sequence[tuple[Path, Mapping[str, Any]]], kinds: Mapping[str, Turning]
) -> Iterator[tuple[Path, str, str]]:
    """Yield the drains of a runbook that nothing ends, and that it does not mean to keep: place, what is wrong, a hint."""

    def deed(step: Mapping[str, Any]) -> str | None:
        kind = kinds.get(str(step.get("uses", "")))
        return kind.turns if kind is not None else None

    if any(deed(step) == "ready" and (at[0] == "always" or at[-1] == "rollback") for at, step in steps):
        return
    for at, step in steps:
        given = step.get("with")
        if deed(step) == "drain" and not (isinstance(given, dict) and given.get("keep")):
            what = "nothing puts the server back that this step takes out of traffic, when the run fails least of all"
            hint = "add `uses: haproxy.undrain` under `always` or as its `rollback`, or say why it stays: `with: {keep: …}`"
            yield (*at, "uses"), what, hint
