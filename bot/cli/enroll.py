"""`sickbay hosts enroll HOST`: a person compares the host's key with the one on its console, and it becomes known.

Only in a terminal on the machine where Sickbay runs: whoever decides that a machine is the right one decides where
every command goes, and that is not one click of one person in a channel. What has to be typed is a piece of the
fingerprint and not `yes`, because `yes` is typed without looking at three in the morning.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import OperationalError

from bot.assembly import way
from bot.cli.login import asker_of, login
from bot.cli.terminal import OK, UNWELL, console
from bot.config.config import Config, find_config, load
from bot.effect import Unreachable
from bot.engine.vault import read_secrets
from bot.errors import SickbayError
from bot.inventory import Host, Inventory
from bot.people.authority import Authority, Roster
from bot.ssh import Shown, Ssh
from bot.ssh.identity import ON_CONSOLE
from bot.store import Store
from bot.wording import near

TAIL = 6
"""Characters of a fingerprint that are typed."""


def enroll(
    words: Sequence[str], fingerprint: str | None, config: Path | None, name: str | None = None
) -> int:
    """Show the keys of a host, ask about them, and write down the one that was compared; return the exit code.

    Raises:
        SickbayError: when that cannot be done.

    """
    if len(words) != 1:
        raise SickbayError("enroll takes one host", advice="write: sickbay hosts enroll HOST")
    loaded, _ = load(find_config(config, os.environ, Path.cwd()), os.environ)
    host = find(loaded.inventory, words[0])
    by = _allowed(loaded, host, name)
    _, _, mask = read_secrets(loaded, os.environ)
    with closing(Store(loaded.store_path, mask=mask)) as store, closing(way(loaded)) as remote:
        return _enroll(remote, store, host, fingerprint, by, console(sys.stdout))


def _allowed(config: Config, host: Host, name: str | None) -> tuple[str, str]:
    """Return who it is, and where they come in; before there are rules, whoever may write `known_hosts` may enroll.

    Raises:
        SickbayError: when they may not.

    """
    if not config.rights.ruled:
        return login() or "an account without a name", "cli"
    asker = asker_of(config.persons, name, login())
    Authority(Roster(config.persons, config.rights)).may(
        asker, "enroll", "make hosts known", hosts=[host.name]
    )
    return asker.name, asker.door


def find(inventory: Inventory, name: str) -> Host:
    """Return a host, or a jump host on the way to one, by its name.

    Raises:
        SickbayError: when there is none.

    """
    if name in inventory.hosts:
        return inventory.hosts[name]
    hops = {
        spelled: replace(hop.host, jump=host.jump[:number])
        for host in inventory.hosts.values()
        for number, hop in enumerate(host.jump)
        for spelled in (hop.name, f"{hop.address}:{hop.port}")
    }
    if name in hops:
        return hops[name]
    hint = near(name, [*inventory.hosts, *hops])
    raise SickbayError(f"there is no host {name}", advice=hint or "`sickbay hosts` lists what there is")


def _enroll(
    remote: Ssh, store: Store, host: Host, fingerprint: str | None, by: tuple[str, str], out: Console
) -> int:
    where = f"{host.name} ({host.address}:{host.port})"
    shown = remote.host_keys(host)
    if isinstance(shown, Unreachable):
        raise SickbayError(f"{shown.layer}: {shown.reason}", where=where, advice=shown.advice)
    out.print(Text(f"{where} shows:"))
    for one in shown:
        mark = {"known": "green", "new": "yellow"}.get(one.state, "red")
        out.print(Text.assemble(f"  {one.key.kind:<20} {one.key.fingerprint}  ", (one.state, mark)))
        if one.why:
            out.print(Text(f"      {one.why}", style="dim"))
    if fingerprint is None and any(one.state == "known" for one in shown):
        out.print(Text("It is known already. Nothing was written."))
        return OK
    chosen = _compared(shown, fingerprint) if fingerprint is not None else _asked(shown, out)
    if chosen is None:
        out.print(Text("That is none of them. Nothing was written."))
        return UNWELL
    if chosen.state == "revoked":
        raise SickbayError(
            f"{chosen.key.fingerprint} is revoked, and a revoked key is never taken again",
            where=chosen.why.partition(": ")[0],
            advice="give the machine a new host key (ssh-keygen -A, after removing the old one), and enroll that",
        )
    path = remote.enroll(host, chosen.key)
    _tell(store, host, chosen, path, by)
    out.print(Text(f"Written to {path}: {host.name} is known by {chosen.key.kind} {chosen.key.fingerprint}."))
    return OK


def _tell(store: Store, host: Host, chosen: Shown, path: Path, by: tuple[str, str]) -> None:
    """Write into the timeline who made which key known, and what it took the place of."""
    told: dict[str, Any] = {
        "key": chosen.key.kind,
        "fingerprint": chosen.key.fingerprint,
        "was": chosen.state,
    }
    told |= {"address": f"{host.address}:{host.port}", "file": str(path), "by": by[0], "via": by[1]}
    try:
        store.timeline.note("host.enrolled", host=host.name, **told)
    except OperationalError as error:
        raise SickbayError(
            f"{host.name} is known now, but the timeline does not have it: {error.orig}",
            where=str(store.database.path),
            advice="note it elsewhere, and see why the database takes nothing in (`sickbay doctor`)",
        ) from error


def _compared(shown: Sequence[Shown], fingerprint: str) -> Shown | None:
    wanted = fingerprint.removeprefix("SHA256:").rstrip("=")
    return next((one for one in shown if one.key.fingerprint == f"SHA256:{wanted}"), None)


def _asked(shown: Sequence[Shown], out: Console) -> Shown | None:
    if not sys.stdin.isatty():
        raise SickbayError(
            "nobody is here to compare fingerprints",
            where="hosts enroll",
            advice="run it in a terminal, or name the one you compared with --fingerprint SHA256:…",
        )
    out.print(
        Text("\nRead the fingerprint on the console of the host, not over this network:", style="bold"),
        Text(f"    {ON_CONSOLE}"),
        Text(f"Type the last {TAIL} characters of what you read there; nothing stops here."),
        sep="\n",
    )
    try:
        typed = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return None
    found = [one for one in shown if len(typed) >= TAIL and one.key.fingerprint.endswith(typed)]
    return found[0] if len(found) == 1 else None
