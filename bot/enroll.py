"""`sickbay hosts enroll HOST`: a person compares the host's key with the one on its console, and it becomes known.

Only in a terminal on the machine where Sickbay runs: whoever decides that a machine is the right one decides where
every command goes, and that is not one click of one person in a channel. What has to be typed is a piece of the
fingerprint and not `yes`, because `yes` is typed without looking at three in the morning.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bot.assembly import way
from bot.authority import Authority
from bot.config import Config, find_config, load
from bot.effect import Unreachable
from bot.errors import SickbayError
from bot.inventory import Host, Inventory
from bot.login import asker_of, login
from bot.ssh import Shown, Ssh
from bot.terminal import OK, UNWELL, console
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
    _allowed(loaded, host, name)
    remote = way(loaded)
    try:
        return _enroll(remote, host, fingerprint, console(sys.stdout))
    finally:
        remote.close()


def _allowed(config: Config, host: Host, name: str | None) -> None:
    """Ask who it is once there are rules; before, whoever may write `known_hosts` may.

    Raises:
        SickbayError: when they may not.

    """
    if config.rights.ruled:
        asker = asker_of(config.persons, name, login())
        Authority(config.persons, config.rights).may(asker, "enroll", "make hosts known", hosts=[host.name])


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


def _enroll(remote: Ssh, host: Host, fingerprint: str | None, out: Console) -> int:
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
    out.print(Text(f"Written to {path}: {host.name} is known by {chosen.key.kind} {chosen.key.fingerprint}."))
    return OK


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
        Text("    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"),
        Text(f"Type the last {TAIL} characters of what you read there; nothing stops here."),
        sep="\n",
    )
    try:
        typed = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return None
    found = [one for one in shown if len(typed) >= TAIL and one.key.fingerprint.endswith(typed)]
    return found[0] if len(found) == 1 else None
