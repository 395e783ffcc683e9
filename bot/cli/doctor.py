"""`sickbay doctor`: what is missing or wrong, in plain words, each with what to do next.

It changes nothing and looks at everything: a mistake in one part does not hide those of the others.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from bot.assembly import read_library, way
from bot.cli.terminal import OK, UNWELL, console
from bot.config.config import Config, Secrets, find_config, load, no_runbook
from bot.effect import Unreachable
from bot.engine.vault import Vault, read_secrets
from bot.errors import SickbayError
from bot.inventory import Host, fold
from bot.language.runbook import Runbook
from bot.language.schema import Document, Invalid
from bot.library import Loaded
from bot.people.permissions import DEEDS, GRANTED
from bot.printable import one_line
from bot.runs.approval import Person
from bot.secrets.mask import Mask
from bot.slack.doctor import checks
from bot.ssh import Purpose, Ssh
from bot.store import Store
from bot.wording import count, near

State = Literal["well", "busy", "warning", "wrong"]
_MARKS: Mapping[State, tuple[str, str]] = {
    "busy": ("… ", "dim"),
    "well": ("✓ ", "green"),
    "warning": ("! ", "yellow"),
    "wrong": ("✗ ", "red"),
}

_MANY = 16
"""Hosts from which on one should be told that they are being asked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: State
    what: str
    advice: str = ""


def doctor(config: Path | None) -> int:
    """Look at everything and print it; return the exit code.

    Raises:
        SickbayError: when there is no configuration at all.

    """
    path = find_config(config, os.environ, Path.cwd())
    return OK if asyncio.run(examine(path, os.environ, console(sys.stdout))) else UNWELL


async def examine(path: Path, environ: Mapping[str, str], out: Console) -> bool:
    """Look at everything and print it; true when nothing is wrong."""
    seen: Counter[State] = Counter()
    async for finding in findings(path, environ):
        seen[finding.state] += 1
        first, *rest = finding.what.splitlines()
        out.print(Text.assemble(_MARKS[finding.state], first))
        for line in (*rest, *finding.advice.splitlines()):
            out.print(Text(f"    {line}", style="dim"))
    if seen["wrong"]:
        out.print("Mend what is marked ✗, then run `sickbay doctor` again.")
    else:
        out.print(
            "Nothing is wrong" + (f"; {count(seen['warning'], 'warning')}." if seen["warning"] else ".")
        )
    return not seen["wrong"]


async def findings(path: Path, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Look at the files, then secrets, Slack and hosts."""
    try:
        config, document = load(path, environ)
    except SickbayError as error:
        for finding in _mistaken("configuration", error):
            yield finding
        return
    yield Finding("well", f"configuration {path}")
    secrets, vault, mask = read_secrets(config, environ)
    for finding in (*_runbooks(config, document, mask), _database(config.store_path)):
        yield finding
    for finding in (*_secrets(config, secrets), *_kept(vault, config)):
        yield finding
    if secrets.slack_bot_token is not None:
        for ok, what, advice in await checks(config.slack, secrets, config.persons.values()):
            yield Finding("well" if ok else "wrong", f"Slack: {what}", advice)
    for finding in _groups(config, asked=secrets.slack_bot_token is not None):
        yield finding
    async for finding in _hosts(config, mask):
        yield finding


def _mistaken(what: str, error: SickbayError) -> Iterator[Finding]:
    """Mark each mistake of a file, so that none is taken for a part of another."""
    if isinstance(error, Invalid):
        yield from (Finding("wrong", f"{what}: {mistake}") for mistake in error.mistakes)
    else:
        yield Finding("wrong", f"{what}: {_said(error)}", error.advice)


def _said(error: SickbayError) -> str:
    return f"{error.where}: {error.what}" if error.where else error.what


# ── files ──
def _runbooks(config: Config, document: Document, mask: Mask) -> Iterator[Finding]:
    try:
        library = read_library(config, document, mask)
    except SickbayError as error:
        yield from _mistaken("runbooks", error)
        return
    yield Finding("well", f"{len(library)} runbooks: {', '.join(library)}")
    for name in config.check:
        if name not in library:
            what, advice = no_runbook(name, library, config)
            yield Finding("warning", f"`sickbay check` has nothing to run: {what}", advice)
    yield from _approvals(config, library)
    yield from _rights(config)
    yield from _permissions(config, document, library)


def _approvals(config: Config, library: Mapping[str, Loaded]) -> Iterator[Finding]:
    """Is there somebody to ask, for every runbook that asks?"""
    told: dict[Finding, list[str]] = {}
    for loaded in library.values():
        finding = _approval(config, loaded.runbook)
        if finding is not None:
            told.setdefault(finding, []).append(loaded.runbook.name)
    for finding, names in told.items():
        yield Finding(finding.state, f"{', '.join(names)}: {finding.what}", finding.advice)


def _approval(config: Config, book: Runbook) -> Finding | None:
    lowered = any(route.runbook == book.name and route.mode == "approve" for route in config.routes)
    if book.kind != "mutate" or not (book.mode == "approve" or lowered):
        return None
    rule = book.approval
    roles = " or ".join(rule.from_)
    allowed = config.rights.anywhere("approve", book.name)
    may = {name for name, person in allowed.items() if set(person.roles) & set(rule.from_)}
    if any(set(given) & set(rule.from_) for given in config.slack.usergroups.values()):
        return None  # how many they are only Slack knows, see `_groups`
    if len(may) < rule.required:
        what = f"nobody can approve: it takes {rule.required} with the role {roles}, and there is {len(may)}"
        return Finding("wrong", what, f"give people under `people:` in sickbay.yaml the role {roles}")
    stuck = [
        name
        for name in config.persons
        if book.by_command and not rule.allow_requester and len(may - {name}) < rule.required
    ]
    if not stuck:
        return None
    by_alert = any(trigger.alert for trigger in book.triggers)
    advice = f"give one more person the role {roles}, or write `allow_requester: true` under `approval:`"
    if len(stuck) == len(config.persons) and not by_alert:
        return Finding("wrong", "whoever starts it, nobody else may approve it", advice)
    return Finding("warning", f"when {' or '.join(stuck)} starts it, nobody else may approve it", advice)


def _rights(config: Config) -> Iterator[Finding]:
    """Is there somebody for each right, once rules say who has it?"""
    groups = [Person("", roles=roles) for roles in config.slack.usergroups.values()]
    everybody = [*config.persons.values(), *groups]
    for right, deed in DEEDS.items():
        if right in GRANTED:  # nobody has it who was not meant to
            continue
        if config.rights.ruled and not any(config.rights.has(one, right) for one in everybody):
            what = f"permissions: nobody may {deed.format(runbook='a runbook').replace('`', '')}"
            yield Finding("warning", what, f"add `{right}` to the `may:` of a rule under `permissions:`")


def _permissions(config: Config, document: Document, library: Mapping[str, Loaded]) -> Iterator[Finding]:
    """Does every rule mean somebody and something?"""
    given = [*(person.roles for person in config.persons.values()), *config.slack.usergroups.values()]
    roles = {role for some in given for role in some}
    for index, rule in enumerate(config.permissions):
        where = f"{document.file}:{document.line(('permissions', index))}"
        for role in rule.roles:
            if role not in roles:
                hint = near(role, roles) or f"there is: {', '.join(sorted(roles)) or 'no role'}"
                yield Finding("warning", f"{where}: nobody has the role {role}", hint)
        for pattern in rule.runbooks:
            if not any(fnmatchcase(name, pattern) for name in library):
                hint = near(pattern, library) or "`sickbay runbooks` lists what there is"
                yield Finding("warning", f"{where}: no runbook is called {pattern}", hint)


def _groups(config: Config, *, asked: bool) -> Iterator[Finding]:
    """Is it known who is in the user groups, and is everybody there one person?"""
    groups = ", ".join(config.slack.usergroups)
    if not groups:
        return
    if not asked:
        what = f"who is in {groups} is not known, nor whether anybody can approve by it: SLACK_BOT_TOKEN is not set"
        yield Finding("warning", what, "set it, and ask again")
    nameless = [name for name, person in config.persons.items() if not person.slack]
    if nameless:
        who = ", ".join(nameless)
        what = f"people without a Slack id would count as other persons when they act as members of {groups}: {who}"
        yield Finding("warning", what, "write their `slack:` ids: else one person could approve twice")


def _database(path: Path) -> Finding:
    """Open it if it is there; else look whether it could be made."""
    if path.exists():
        try:
            with closing(Store(path)) as store:
                if (full := store.database.unwritable) is not None:
                    raise full
        except SickbayError as error:
            return Finding("wrong", _said(error), error.advice)
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        what = f"database {path}: the folder is missing, or nothing may be written there"
        return Finding("wrong", what, "make it, or name another under `store: {path: …}`")
    return Finding("well", f"database {path}")


# ── secrets ──
def _secrets(config: Config, secrets: Secrets) -> Iterator[Finding]:
    held = (secrets.slack_bot_token, secrets.slack_app_token, secrets.slack_signing_secret)
    if "slack" not in config.model_fields_set and not any(held):
        what = "Slack is not set up, so incidents and questions are seen in the terminal only"
        yield Finding("warning", what, "to use it, write `slack:` into sickbay.yaml, and set its tokens")
        yield _alert_secret(config, secrets)
        return
    wanted = [
        ("SLACK_BOT_TOKEN", secrets.slack_bot_token, "the Bot User OAuth Token (xoxb-…) of your Slack app")
    ]
    if config.slack.transport == "socket":
        if secrets.slack_bot_token is None:  # else Slack itself is asked about it
            advice = "an app-level token (xapp-…) with connections:write"
            wanted.append(("SLACK_APP_TOKEN", secrets.slack_app_token, advice))
    else:
        wanted.append(
            ("SLACK_SIGNING_SECRET", secrets.slack_signing_secret, "the Signing Secret of your Slack app")
        )
    for name, value, advice in wanted:
        if value is None:
            yield Finding("wrong", f"{name} is not set in the environment", f"set it to {advice}")
        else:
            yield Finding("well", f"{name} is set")
    yield _alert_secret(config, secrets)


def _kept(vault: Vault, config: Config) -> Iterator[Finding]:
    """Say of each secret that runbooks may use whether it can be read."""
    for name in config.secrets:
        if name not in vault.lacking:
            yield Finding("well", f"secret `{name}` can be read")
    for error in vault.lacking.values():
        yield Finding("wrong", _said(error), error.advice)


def _alert_secret(config: Config, secrets: Secrets) -> Finding:
    name = config.alerts.alertmanager.secret_env
    if secrets.alertmanager is not None:
        return Finding("well", f"{name} is set")
    advice = "to take alerts, set it to any long random text, the same in Alertmanager"
    if not config.routes:
        return Finding("well", f"{name} is not set in the environment, so no alert is taken", advice)
    what = f"{name} is not set in the environment, so no alert is taken and no route comes into play"
    return Finding("warning", what, advice)


# ── hosts ──
async def _hosts(config: Config, mask: Mask) -> AsyncIterator[Finding]:
    """Log in to every host with each of our accounts, all at once: what is wrong is told as it comes, the rest as sets."""
    machines = list(config.inventory.hosts.values())
    if not machines:
        yield Finding("wrong", "there are no hosts", "list them under `hosts:` in sickbay.yaml")
        return
    for finding in _balancers(config):
        yield finding
    remote = way(config)
    well: dict[str, list[str]] = {}
    try:
        with ThreadPoolExecutor(32) as pool:
            logins = [(host, purpose) for host in machines for purpose in remote.purposes(host)]
            if len(machines) > _MANY:
                yield Finding("busy", f"logging in to {count(len(machines), 'host')}")
            asked = [asyncio.wrap_future(pool.submit(_login, remote, *login, mask)) for login in logins]
            for done in asyncio.as_completed(asked):
                host, account, wrong = await done
                if wrong is None:
                    well.setdefault(account, []).append(host.name)
                else:
                    yield wrong
    finally:
        remote.close()
    for account, names in well.items():
        lets = "lets" if len(names) == 1 else "let"
        yield Finding("well", f"{fold(names)} {lets} us in{account} ({count(len(names), 'host')})")


def _balancers(config: Config) -> Iterator[Finding]:
    """Is each load balancer that hosts name a host itself? Nothing but a drain would say so else."""
    hosts = config.inventory.hosts
    behind: dict[str, list[str]] = {}
    for host in hosts.values():
        given = host.vars.get("haproxy")
        name = given.get("host") if isinstance(given, Mapping) else None
        if name is not None and name not in hosts:
            behind.setdefault(str(name), []).append(host.name)
    for name, names in behind.items():
        what = f"{fold(names)} cannot be drained: the load balancer {name} is no host of the inventory"
        yield Finding("warning", what, near(name, hosts) or "add its machine under `hosts:`")


def _login(remote: Ssh, host: Host, purpose: Purpose, mask: Mask) -> tuple[Host, str, Finding | None]:
    """Log in; return as which account, and what is wrong."""
    account = f" to {purpose}" if len(remote.purposes(host)) > 1 else ""
    found = remote.probe(host, purpose)
    where = f"{host.name} ({host.address}:{host.port}){',' if account else ''}{account}"
    if isinstance(found, Unreachable):
        wrong = Finding("wrong", mask.text(f"{where}: {found.layer}: {found.reason}"), found.advice)
        return host, account, wrong
    if found.exit_code != 0:
        said = found.stderr.text.strip() or f"`true` ended with exit code {found.exit_code}"
        advice = "what is in brackets says what to do"
        return host, account, Finding("wrong", mask.text(f"{where}: {one_line(said)}"), advice)
    return host, account, None
