"""`sickbay explain`: what leads to a runbook, who has to agree, and what each of its steps sees.

Answered by the code that does it (the routes that dispatch takes, the context that the planner fills), from the files and the store
alone: no host is asked, nothing is started, and a database that is not there is not made.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.alert import Alert
from bot.assembly import read_library
from bot.cli.terminal import OK, console
from bot.commands.grammar import VERBS, Preview
from bot.config.config import Config, find_config, load, no_runbook, schedules
from bot.config.routing import Proposal, Routing
from bot.duration import write as duration
from bot.engine.planner import Planner
from bot.engine.vault import read_secrets
from bot.errors import SickbayError
from bot.fleet import named
from bot.guard.autonomy import Earned, settled
from bot.intake import Unreadable, alertmanager
from bot.language import template
from bot.language.runbook import RAILS, Mode, Runbook, Step
from bot.language.schema import Document
from bot.language.trigger import matches
from bot.library import Loaded
from bot.messages.short import line
from bot.names import AFTERWARDS, STEP_ATTRIBUTES
from bot.people.permissions import Right
from bot.program import ordered
from bot.route import Route, lower
from bot.runs.approval import Person
from bot.runs.record import Record
from bot.runs.run import Requester, Run, RunState
from bot.secrets.mask import Mask
from bot.steps import KINDS
from bot.store import Store

NAMES = 12
"""Values of one mapping that are shown."""


def explain(name: str, words: Sequence[str], alert: Path | None, config: Path | None) -> int:
    """Print it.

    Raises:
        SickbayError: when there is no such runbook, host or alert.

    """
    path = find_config(config, os.environ, Path.cwd())
    settings, document = load(path, os.environ)
    _, _, mask = read_secrets(settings, os.environ)
    library = read_library(settings, document, mask)
    if name not in library:
        what, advice = no_runbook(name, library, settings)
        raise SickbayError(what, advice=advice)
    wanted = VERBS["plan"].read([name, *words])
    assert isinstance(wanted, Preview)
    told = None if alert is None else read_alert(alert)
    if told is not None and wanted.hosts:
        raise SickbayError("an alert brings its own hosts", advice="give HOSTS or --alert, not both")
    out = console(sys.stdout)
    for text in list(_Explained(settings, document, library, library[name], mask).lines(wanted, told)):
        out.print(mask.text(text), markup=False, soft_wrap=True)
    return OK


def read_alert(path: Path) -> Alert:
    """Read an alert: an object with `labels`, or the first of Alertmanager's webhook body.

    Raises:
        SickbayError: when it is neither.

    """
    try:
        body = json.loads(path.read_bytes())
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise SickbayError(what, where=str(path), advice="check the path") from error
    except ValueError as error:
        raise SickbayError(
            f"not JSON: {error}", where=str(path), advice='write {"labels": {"alertname": "…"}}'
        ) from error
    labels = body.get("labels") if isinstance(body, dict) else None
    if isinstance(labels, dict) and all(isinstance(one, str) for one in labels.values()):
        said = body.get("annotations")
        now = datetime.now(UTC)
        return Alert("file", "file", "firing", now, labels, said if isinstance(said, dict) else {})
    try:
        found, rejected = alertmanager(body)
    except Unreadable as error:
        raise SickbayError(
            f"no alert: {error}",
            where=str(path),
            advice='or write {"labels": {"alertname": "…", "host": "…"}}',
        ) from error
    if not found:
        why = rejected[0].reason if rejected else "the list is empty"
        raise SickbayError(f"no alert can be read: {why}", where=str(path), advice="mend the first one")
    return found[0]


@dataclass(frozen=True, slots=True)
class _Explained:
    """One runbook of a configuration."""

    config: Config
    document: Document
    library: Mapping[str, Loaded]
    loaded: Loaded
    mask: Mask

    @property
    def book(self) -> Runbook:
        return self.loaded.runbook

    def lines(self, wanted: Preview, alert: Alert | None) -> Iterator[str]:
        book, inventory = self.book, self.config.inventory
        kind = "changes hosts" if book.kind == "mutate" else "only looks"
        yield f"{book.name} ({kind}): {book.description}"
        yield f"  {self.loaded.file}, sha256 {self.loaded.digest[:12]}"
        routing = Routing(inventory, self.library, self.config.routes, self.config.windows)
        route, machine = routing.route(alert) if alert is not None else (None, None)
        proposal, note = (
            routing.proposal(alert, route, machine, datetime.now(UTC)) if alert is not None else (None, "")
        )
        yield "\nWhat leads to it"
        yield from self._triggers()
        yield from self._routes(alert, route)
        if alert is not None:
            here = proposal is not None and proposal.loaded.runbook.name == book.name
            yield f"  this alert {'starts it' if here else 'does not start it'}{self._instead(proposal, note)}"
            if proposal is not None and not here:
                proposal = None
        pattern = wanted.hosts or ("" if "{{" in book.hosts else book.hosts)
        hosts = tuple(one.name for one in inventory.select(pattern)) if pattern else ()
        hosts = proposal.hosts if proposal is not None else hosts
        yield from self._agreement(route if proposal is not None else None, hosts)
        inputs = dict(proposal.inputs) if proposal is not None else book.fill(wanted.inputs)
        seen = alert.as_seen(machine.name if machine else None) if alert is not None else None
        yield f"\nWhat its steps see{f' on {hosts[0]}' if hosts else ''}"
        if len(hosts) > 1:
            yield f"  of {named(hosts)} the first is shown; the others see their own `host`"
        run = self._run(hosts, inputs, seen)
        context = self.mask.over(self._context(run))  # before anything is cut
        yield from _tree(context, book, bool(hosts))
        yield from (
            f"  secrets.{name}: known by its name, until it reaches the host" for name in self.config.secrets
        )
        yield "\nWhat each step reads"
        yield from self._steps(context, bool(hosts))

    # ── what leads to it ──
    def _triggers(self) -> Iterator[str]:
        for trigger in self.book.triggers:
            if trigger.command:
                yield f"  people: sickbay run {self.book.name} HOSTS"
            elif trigger.alert is not None:
                yield f"  alerts, by way of a route: {_match(trigger.alert.match)}"
        zone = self.config.schedules.timezone
        for one in schedules(self.config, self.library):
            if one.runbook == self.book.name:
                yield f"  the clock: {one.cron.expression} ({one.cron.words}, {zone})"

    def _routes(self, alert: Alert | None, taken: Route | None) -> Iterator[str]:
        if not self.config.routes:
            yield "  no route: alerts are shown, nothing is done"
        over = False
        for index, route in enumerate(self.config.routes):
            place = f"{self.document.file}:{self.document.line(('routes', index))}"
            yield f"  route {index + 1} ({place}): {_match(route.match)} → {self._leads(route)}"
            if alert is None:
                continue
            if over:
                yield "      not looked at: a route above is taken"
            elif route is taken:
                over = True
                yield "      taken: all its labels are there"
            else:
                yield f"      not taken: {_unlike(route, alert)}"

    def _leads(self, route: Route) -> str:
        if route.runbook is not None:
            return route.runbook
        return "the first runbook whose alert trigger matches"

    def _instead(self, proposal: Proposal | None, note: str) -> str:
        if proposal is None:
            return f": {note}"
        name = proposal.loaded.runbook.name
        return f" on {named(proposal.hosts)}" if name == self.book.name else f": it starts {name}"

    # ── who has to agree ──
    def _agreement(self, route: Route | None, hosts: tuple[str, ...]) -> Iterator[str]:
        book = self.book
        yield "\nWho has to agree"
        if book.kind == "observe":
            yield "  nobody: it only looks, and anybody may start it"
            return
        mode, why = self._mode(route)
        yield f"  mode: {book.mode} in the runbook{'; ' + '; '.join(why) if why else ''}: {mode} counts"
        where = f" on {named(hosts)}" if hosts else ""
        yield f"  may start it{where}: {', '.join(self._may('change', hosts)) or 'nobody yet'}{self._groups()}"
        rails = book.model_dump(mode="json", include=set(RAILS) & book.model_fields_set, exclude_unset=True)
        yield from (f"  rail, held at each change: {key}: {_shown(value)}" for key, value in rails.items())
        if mode == "suggest":
            yield "  nobody is asked: the plan is shown, and nothing is done"
        elif mode == "auto":
            yield "  nobody is asked, while its plan holds"
        else:
            yield from self._approval(hosts)

    def _may(self, right: Right, hosts: tuple[str, ...]) -> dict[str, Person]:
        """Return the people who have a right here; without hosts, on some of them at least."""
        rights, name = self.config.rights, self.book.name
        return rights.allowed(right, name, hosts) if hosts else rights.anywhere(right, name)

    def _groups(self) -> str:
        groups = ", ".join(self.config.slack.usergroups)
        return f"; and members of the Slack user groups {groups}, as their roles allow" if groups else ""

    def _mode(self, route: Route | None) -> tuple[Mode, list[str]]:
        """Return the mode that counts, and what lowered it."""
        mode, why = self.book.mode, []
        if route is not None and lower(mode, route.mode) != mode:
            mode = lower(mode, route.mode)
            why.append(f"its route lowers it to {mode}")
        earned, known = self._earned()
        settled_mode, words = settled(mode, earned, self.config.autonomy.successes)
        if words:
            why.append(f"earned {earned.successes} of {self.config.autonomy.successes}{known}")
        return settled_mode, why

    def _earned(self) -> tuple[Earned, str]:
        if not self.config.store_path.exists():
            return Earned(), " (there is no database yet)"
        with closing(Store(self.config.store_path)) as store:
            return store.runs.earned(self.book.name, self.loaded.digest), ""

    def _approval(self, hosts: tuple[str, ...]) -> Iterator[str]:
        rule = self.book.approval
        may = self._may("approve", hosts).values()
        who = ", ".join(one.name for one in may if set(one.roles) & set(rule.from_)) or "nobody who may"
        who += self._groups()
        yield f"  approval: {rule.required} with the role {' or '.join(rule.from_)} ({who}), within {duration(rule.timeout)}"
        if not rule.allow_requester:
            yield "  whoever asks for it may not approve it"

    # ── what its steps see ──
    def _run(self, hosts: tuple[str, ...], inputs: dict[str, Any], alert: Mapping[str, Any] | None) -> Run:
        return Run(
            id=0,
            incident_id=None,
            runbook=self.book,
            runbook_digest=self.loaded.digest,
            hosts=hosts,
            inputs=inputs,
            alert=alert,
            mode=self.book.mode,
            requester=Requester(""),
            state=RunState.QUEUED,
            channel="",
            created_at=datetime.now(UTC),
        )

    def _context(self, run: Run) -> dict[str, Any]:
        """Return what is known before anything has run; without hosts nothing is known of them."""
        planner = Planner(KINDS, self.config.inventory)
        if run.hosts:
            known = planner.context(run, run.hosts[0], Record(), planning=True)
        else:
            known = {"alert": dict(run.alert or {}), "inputs": dict(run.inputs), "steps": {}}
        return {key: value for key, value in known.items() if key != "run"}

    def _steps(self, context: Mapping[str, Any], placed: bool) -> Iterator[str]:
        planner = Planner(KINDS, self.config.inventory)
        for section, step in ordered(self.book):
            deed = step.uses or "run"
            changes = "changes" if planner.mutating(self.book, step) else "looks"
            yield f"  {section} / {step.id}: {line(step.title, 60)} ({deed}, {changes})"
            if step.when is not None:
                yield f"      when {step.when}"
            for name in sorted(_read(step)):
                yield f"      {name}{_value_of(name, context, placed)}"


def _match(match: Mapping[str, Any]) -> str:
    wanted = [f"{name}={'|'.join(one) if isinstance(one, list) else one}" for name, one in match.items()]
    return ", ".join(wanted) or "every alert"


def _unlike(route: Route, alert: Alert) -> str:
    said = []
    for name, want in route.match.items():
        if not matches({name: want}, dict(alert.labels)):
            given = alert.labels.get(name, "")
            said.append(f"{name} is {given!r}" if name in alert.labels else f"it has no label {name}")
    return ", ".join(said)


def _read(step: Step) -> set[str]:
    """Return what a step's expressions read from the context."""
    bare = [one for one in (step.when, step.until, step.expect) if one is not None]
    inside = [
        piece.text
        for text in _texts([step.run, step.with_])
        for piece in template.pieces(text)
        if piece.is_value
    ]
    names = {name for expression in (*bare, *inside) for name in template.names(expression)}
    return {name for name in names if name.split(".")[0] not in AFTERWARDS}


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for one in data.values() if isinstance(data, dict) else data:
            yield from _texts(one)


def _value_of(name: str, context: Mapping[str, Any], placed: bool) -> str:
    root, *rest = name.split(".")
    if root == "steps" and rest:
        return f": known once {rest[0]} has run"
    if root == "run":
        return ": known once it runs"
    if root == "secrets":
        return ": known by its name, until it reaches the host"
    if root == "host" and not placed:
        return ": known once its hosts are named"
    try:
        return f" = {_shown(template.evaluate(name, context))}"
    except template.Unknown:
        return ": not there" if root != "alert" or context.get("alert") else ": known when an alert starts it"


def _tree(context: Mapping[str, Any], book: Runbook, placed: bool) -> Iterator[str]:
    """Write the context down: names, types, and values where they are known."""
    if context.get("alert"):
        yield from _branch("alert", context["alert"])
    else:
        yield "  alert: known when an alert starts it (name, host, labels.*, annotations.*, starts_at, status)"
    for name, rule in book.inputs.items():
        yield f"  inputs.{name} ({rule.type}) = {_shown(context['inputs'][name])}"
    if placed:
        yield from _branch("host", context["host"])
    else:
        yield "  host: known once its hosts are named (name, address, groups, vars.*)"
    yield "  run.id (integer), run.requester (text): known once it runs"
    yield f"  steps.ID, of steps before ({', '.join(STEP_ATTRIBUTES)})"
    yield "  result and facts, in `until` and `expect` of a step: what it answered"


def _branch(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key in list(value)[:NAMES]:
            yield from _branch(f"{name}.{key}", value[key])
        if len(value) > NAMES:
            yield f"  {name}: and {len(value) - NAMES} more"
    else:
        yield f"  {name} ({_type(value)}) = {_shown(value)}"


def _type(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "text", list: "list", dict: "mapping"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)


def _shown(value: Any) -> str:
    return line(json.dumps(value, ensure_ascii=False, default=str), 160)
