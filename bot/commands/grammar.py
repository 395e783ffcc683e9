"""What people can say, wherever they say it: `/sickbay …`, `@sickbay …` and the command line share these words.

Pure: text in, a command out, or an error that says what was meant. What Slack does to typed text (smart quotes, links
around host names, escaped ampersands) is undone first.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from bot.commands.typed import undecorated
from bot.errors import SickbayError
from bot.runs.approval import Answer


class Misunderstood(SickbayError):
    """The text is no command."""


@dataclass(frozen=True, slots=True)
class Help:
    """Show what can be said."""


@dataclass(frozen=True, slots=True)
class Check:
    """Run the usual checks."""

    hosts: str


@dataclass(frozen=True, slots=True)
class Start:
    """Run a runbook."""

    runbook: str
    hosts: str
    """Empty: as the runbook says."""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preview:
    """Show what a runbook would do; do nothing."""

    runbook: str
    hosts: str
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListHosts:
    """Show hosts."""

    hosts: str = ""


@dataclass(frozen=True, slots=True)
class ListRunbooks:
    """Show runbooks."""


@dataclass(frozen=True, slots=True)
class ListDrains:
    """Show what Sickbay keeps out of traffic."""


@dataclass(frozen=True, slots=True)
class ListSchedules:
    """Show what is run by the clock."""


@dataclass(frozen=True, slots=True)
class Look:
    """Show incidents or runs: the newest, or one."""

    at: Literal["incidents", "runs"]
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Tell an incident from its beginning."""

    incident: int


@dataclass(frozen=True, slots=True)
class Decide:
    """Answer a run's question."""

    run: int
    answer: Answer
    digest: str | None = None
    """The beginning of the digest of the plan that was seen; None: whatever is asked now."""
    glass: str = ""
    """Why it is decided alone, past the rule; empty: as the rule says."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a run."""

    run: int


@dataclass(frozen=True, slots=True)
class Release:
    """Let the hosts go that a run still holds because nobody knew how it ended there."""

    run: int
    reason: str


@dataclass(frozen=True, slots=True)
class FreezeHosts:
    """Let nothing change hosts any more."""

    reason: str
    hosts: str = ""
    """Empty: all."""


@dataclass(frozen=True, slots=True)
class Thaw:
    """Lift a freeze."""

    hosts: str = ""


@dataclass(frozen=True, slots=True)
class ResetBreaker:
    """Let automation go on after it stopped itself."""

    reason: str


Command = (
    FreezeHosts
    | Thaw
    | ResetBreaker
    | Help
    | Check
    | Start
    | Preview
    | ListHosts
    | ListRunbooks
    | ListDrains
    | ListSchedules
    | Look
    | Report
    | Decide
    | Cancel
    | Release
)


@dataclass(frozen=True, slots=True)
class Verb:
    """One word that begins a command."""

    usage: str
    says: str
    read: Callable[[Sequence[str]], Command]


def parse(text: str) -> Command:
    """Read a command.

    Raises:
        Misunderstood: saying how it is written.

    """
    typed = undecorated(text)
    if told := _GLASS.fullmatch(typed):  # a reason is said as it comes, with one apostrophe or three
        return _approve((told["run"], told["word"], told["reason"]))
    try:
        words = shlex.split(typed)
    except ValueError as error:
        raise Misunderstood(
            f"a quote is not closed in: {text.strip()}", advice="close it, or leave it out"
        ) from error
    if not words:
        return Help()
    name = words[0].lower()
    verb = VERBS.get(name)
    if verb is None:
        near = get_close_matches(name, VERBS, n=1)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise Misunderstood(f"I don't know `{words[0]}`", advice=f"{hint}`help` shows what you can say")
    return verb.read(words[1:])


def usages() -> list[tuple[str, str]]:
    """Return every usage with what it does."""
    return [(verb.usage, verb.says) for verb in VERBS.values()]


def _help(words: Sequence[str]) -> Command:  # noqa: ARG001 - help takes anything
    return Help()


def _check(words: Sequence[str]) -> Command:
    if not words:
        raise _usage("check", "which hosts?")
    return Check(_host_set(words))


def _run(words: Sequence[str]) -> Command:
    return Start(*_started("run", words))


def _plan(words: Sequence[str]) -> Command:
    return Preview(*_started("plan", words))


def _started(verb: str, words: Sequence[str]) -> tuple[str, str, dict[str, str]]:
    if not words:
        raise _usage(verb, "which runbook?")
    runbook, *rest = words
    hosts = [word for word in rest if "=" not in word]
    inputs: dict[str, str] = {}
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals:
            continue
        if not name:
            raise _usage(verb, f"`{word}` has no name before its `=`; write name=value without spaces")
        if name in inputs:
            raise _usage(verb, f"`{name}` is given twice")
        inputs[name] = value
    return runbook, _host_set(hosts), inputs


def _hosts(words: Sequence[str]) -> Command:
    if words and words[0].lower() == "enroll":
        raise Misunderstood(
            "a host's key is not enrolled from here: no one person in a channel decides which machine is trusted",
            advice="in a terminal on the machine where Sickbay runs: sickbay hosts enroll HOST",
        )
    return ListHosts(_host_set(words))


def _nothing(verb: str, words: Sequence[str]) -> None:
    if words:
        raise _usage(verb, "it takes nothing more")


def _runbooks(words: Sequence[str]) -> Command:
    _nothing("runbooks", words)
    return ListRunbooks()


def _drains(words: Sequence[str]) -> Command:
    _nothing("drains", words)
    return ListDrains()


def _schedules(words: Sequence[str]) -> Command:
    _nothing("schedules", words)
    return ListSchedules()


def _incidents(words: Sequence[str]) -> Command:
    if words and words[0].lower() == "show":
        return Report(one_number("incidents show", words[1:]))
    if words and words[0].lower() == "export":
        raise Misunderstood(
            "a report is written on the machine where Sickbay runs",
            advice="in a terminal there: sickbay incidents export NUMBER; here: incidents show NUMBER",
        )
    return Look("incidents", _one_number("incidents", words, needed=False))


def _runs(words: Sequence[str]) -> Command:
    return Look("runs", _one_number("runs", words, needed=False))


def _approve(words: Sequence[str]) -> Command:
    number = one_number("approve", words[:1])
    if len(words) < 2:
        return Decide(number, "approve")
    if words[1].lstrip("-–—").lower() not in ("break-glass", "breakglass"):
        raise _usage("approve", "it takes one number")
    reason = " ".join(" ".join(words[2:]).split())
    if len(reason) > 1 and reason[0] == reason[-1] == '"':
        reason = reason[1:-1].strip()
    if not reason:
        raise Misunderstood("approve: break-glass takes a reason", advice=f"write: {BREAK_GLASS[0]}")
    if len(reason) > _REASON:
        raise Misunderstood(
            f"approve: the reason is {len(reason)} characters long", advice=f"write at most {_REASON}"
        )
    return Decide(number, "approve", glass=reason)


def _deny(words: Sequence[str]) -> Command:
    return Decide(one_number("deny", words), "deny")


def _cancel(words: Sequence[str]) -> Command:
    return Cancel(one_number("cancel", words))


def _release(words: Sequence[str]) -> Command:
    run, reason = one_number("release", words[:1]), " ".join(words[1:]).strip()
    if not reason:
        raise _usage("release", "what was found on its hosts? Whoever reads the run later reads it")
    return Release(run, reason)


def _freeze(words: Sequence[str]) -> Command:
    """Read a reason and, behind the last `on`, what may be a host set."""
    at = max((place for place, word in enumerate(words[:-1]) if word.lower() == "on"), default=len(words))
    reason, hosts = " ".join(words[:at]).strip(), _host_set(words[at + 1 :])
    if not reason:
        raise _usage("freeze", "why? Whoever is stopped by it reads the reason")
    return FreezeHosts(reason, hosts)


def _thaw(words: Sequence[str]) -> Command:
    words = words[1:] if len(words) > 1 and words[0].lower() == "on" else words
    return Thaw("" if words == ["everything"] else _host_set(words))


def _breaker(words: Sequence[str]) -> Command:
    if len(words) < 2 or words[0].lower() != "reset":
        raise _usage("breaker", "it takes `reset` and a reason")
    return ResetBreaker(" ".join(words[1:]))


def _host_set(words: Sequence[str]) -> str:
    """Join what is written with blanks, commas or both into one host set."""
    return ",".join(filter(None, (word.strip(",") for word in words)))


def one_number(verb: str, words: Sequence[str]) -> int:
    """Read the one number that a verb takes.

    Raises:
        Misunderstood: saying how it is written.

    """
    return _one_number(verb, words) or 0


def _one_number(verb: str, words: Sequence[str], *, needed: bool = True) -> int | None:
    if not words and not needed:
        return None
    if len(words) != 1:
        raise _usage(verb, "it takes one number")
    digits = words[0].lstrip("#")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and int(digits)):
        raise _usage(verb, f"`{words[0]}` is not a number")
    return int(digits)


def _usage(verb: str, what: str) -> Misunderstood:
    usage = VERBS[verb].usage if verb in VERBS else f"{verb} NUMBER"
    return Misunderstood(f"{verb}: {what}", advice=f"write: {usage}")


BREAK_GLASS = ("approve RUN break-glass REASON", "say yes alone, in an emergency; everybody is told")
"""Said only to those who may."""
_GLASS = re.compile(
    r"\s*approve\s+(?P<run>\S+)\s+(?P<word>[-–—]*break-?glass)(?P<reason>\s.*|)", re.IGNORECASE | re.DOTALL
)
_REASON = 500

VERBS: dict[str, Verb] = {
    "help": Verb("help", "this", _help),
    "check": Verb("check HOSTS", "look at GPUs and serving of these hosts; changes nothing", _check),
    "run": Verb("run RUNBOOK HOSTS [name=value …]", "run a runbook; asks before it changes anything", _run),
    "plan": Verb("plan RUNBOOK HOSTS [name=value …]", "show what a run would do, and touch nothing", _plan),
    "hosts": Verb("hosts [HOSTS]", "list the hosts", _hosts),
    "runbooks": Verb("runbooks", "list what can be run", _runbooks),
    "drains": Verb(
        "drains", "list what Sickbay keeps out of traffic, and what HAProxy says of it now", _drains
    ),
    "schedules": Verb(
        "schedules", "list what is run by the clock: when next, and what came of it", _schedules
    ),
    "incidents": Verb(
        "incidents [[show] NUMBER]", "list incidents, or show one; `show` tells it whole", _incidents
    ),
    "runs": Verb("runs [NUMBER]", "list runs, or show one", _runs),
    "approve": Verb("approve RUN", "say yes to the plan a run asks about", _approve),
    "deny": Verb("deny RUN", "say no to it", _deny),
    "freeze": Verb(
        "freeze REASON [on HOSTS]", "let nothing change these hosts, or any; looking goes on", _freeze
    ),
    "thaw": Verb("thaw [HOSTS]", "lift the freeze of this host set, or the one of everything", _thaw),
    "breaker": Verb("breaker reset REASON", "let automation go on after it stopped itself", _breaker),
    "cancel": Verb("cancel RUN", "end a run", _cancel),
    "release": Verb("release RUN REASON", "after a look: let others change the hosts RUN holds", _release),
}
