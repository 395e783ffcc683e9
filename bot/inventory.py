"""Hosts, groups and host sets.

Host sets are ClusterShell's, which operators know: `gpu[01-16]`, `@serving`, `gpu[01-16]!@maintenance`, `@a&@b`.
A set names hosts of the inventory only, so no label of an alert can bring in a machine of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException, NodeSetExternalError
from ClusterShell.NodeUtils import GroupResolver, GroupResolverError, GroupSource, GroupSourceError
from ClusterShell.RangeSet import RangeSet, RangeSetException

from bot.errors import SickbayError

WIDEST = 10_000
"""Names that one host set may stand for."""
_REFUSED = (
    NodeSetException, NodeSetExternalError, GroupSourceError, GroupResolverError, RangeSetException, ValueError, LookupError, TypeError,
)  # fmt: skip
"""What ClusterShell raises for what is no host set; the last three by accident."""


Sudo = Literal["never", "act", "always"]
"""Which commands run under `sudo -n`: none, those that change something, or all."""


@dataclass(frozen=True, slots=True)
class Access:
    """What is special about reaching one machine; None and empty mean: as the ssh settings say."""

    identity_files: tuple[Path, ...] | None = None
    certificate_files: tuple[Path, ...] = ()
    """Certificates that do not lie beside their key."""
    agent: str | None = None
    """Socket of an ssh agent; empty: no agent is asked."""
    known_hosts: tuple[Path, ...] = ()
    alias: str = ""
    """Its name in known_hosts and in certificates, instead of address and port."""
    connect_timeout: float | None = None
    act_user: str | None = None
    act_identity_files: tuple[Path, ...] | None = None
    sudo: Sudo | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """One jump host on the way to a machine."""

    name: str
    """For messages; its name in the inventory, if it is there."""
    address: str
    port: int = 22
    user: str | None = None
    access: Access = Access()

    @property
    def host(self) -> "Host":
        """Return it as a host that is reached directly, or by way of the hops before it."""
        return Host(self.name, self.address, self.port, self.user, access=self.access)


@dataclass(frozen=True, slots=True)
class Host:
    """One machine that Sickbay may speak to."""

    name: str
    address: str
    port: int = 22
    user: str | None = None
    """None: as the ssh settings say."""
    vars: Mapping[str, Any] = field(default_factory=dict)
    """Facts people wrote down, such as `gpus: 8`; read as `host.vars.gpus` in runbooks."""
    groups: tuple[str, ...] = ()
    jump: tuple[Hop, ...] = ()
    """The jump hosts on the way, the first one first."""
    access: Access = Access()

    @property
    def known_as(self) -> tuple[str, int]:
        """Return the address and port that it has in known_hosts."""
        return (self.access.alias, 22) if self.access.alias else (self.address, self.port)


class Inventory:
    """All hosts by name, and the groups they are in."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.hosts: dict[str, Host] = {}
        members: dict[str, list[str]] = {}
        for host in hosts:
            if host.name in self.hosts:
                raise SickbayError(
                    f"host {host.name} is in the inventory twice", advice="keep one of the two"
                )
            self.hosts[host.name] = host
            for group in host.groups:
                members.setdefault(group, []).append(host.name)
        self.groups = {group: NodeSet.fromlist(names) for group, names in members.items()}
        source = _Groups(self)
        self._resolver = GroupResolver(source)

    def __len__(self) -> int:
        return len(self.hosts)

    def select(self, pattern: str) -> tuple[Host, ...]:
        """Return the hosts of a host set, in natural order.

        Raises:
            SickbayError: when the set is malformed, empty, or names an unknown host or group.

        """
        narrow(pattern)
        try:
            names = list(NodeSet(pattern.strip(), resolver=self._resolver))
        except _REFUSED as error:
            raise SickbayError(
                f"{pattern!r} is not a host set: {error}",
                advice="write hosts like gpu-03, gpu-[01-16], @group, @a&@b, gpu-[01-16]!@maintenance",
            ) from error
        if not names:
            raise SickbayError(f"{pattern!r} names no host", advice="`sickbay hosts` lists what there is")
        unknown = [name for name in names if name not in self.hosts]
        if unknown:
            near = get_close_matches(unknown[0], self.hosts, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SickbayError(
                f"no such host: {fold(unknown)}", advice=f"{hint}`sickbay hosts` lists what there is"
            )
        return tuple(self.hosts[name] for name in names)

    def called(self, names: Iterable[str]) -> Host | None:
        """Return the host of the first of these names or addresses that is one."""
        hosts = self.hosts.values()
        return next((host for name in names for host in hosts if name in (host.name, host.address)), None)

    def covers(self, pattern: str) -> frozenset[str]:
        """Return the names of the hosts of a host set; raises as `select` does."""
        return frozenset(host.name for host in self.select(pattern))


def expand(pattern: str) -> list[str]:
    """Write out the names of a host set without groups, in the order of their numbers.

    Raises:
        SickbayError: when it is malformed or too wide.

    """
    narrow(pattern)
    try:
        return list(NodeSet(pattern, resolver=RESOLVER_NOGROUP))
    except _REFUSED as error:
        raise SickbayError(
            f"{pattern!r} names no hosts: {error}", advice="write hosts like gpu-03 or gpu-[01-16]"
        ) from error


def narrow(pattern: str) -> None:
    """Refuse ranges that nobody means, before they are written out in memory.

    Raises:
        SickbayError: for more than `WIDEST` names.

    """
    wide = 1
    for inside in re.findall(r"\[([^\]]*)\]", pattern):
        bounds = re.findall(r"([0-9]+)-([0-9]+)", inside)
        if any(len(end) > 9 for _, end in bounds):
            wide = WIDEST + 1
            break
        wide *= max(1, sum(int(end) - int(start) + 1 for start, end in bounds if int(end) >= int(start)))
    if wide > WIDEST:
        shown = pattern if len(pattern) <= 60 else f"{pattern[:57]}…"
        raise SickbayError(
            f"{shown!r} stands for more than {WIDEST:,} hosts", advice="write a narrower range"
        )


def fold(names: Iterable[str]) -> str:
    """Write host names short: `gpu-[01-03,07]`; what is no host name stands as it is, last.

    Names are folded by their last number first: ClusterShell folds all numbers of a name at once, in a time that grows
    with the square of the names (4 s for a thousand like `ip-10-0-3-17`), so it gets only what is left of them.
    """
    columns: dict[tuple[str, str], list[str]] = {}
    strange: set[str] = set()
    for name in names:
        if found := _NUMBERED.fullmatch(name):
            columns.setdefault((found[1], found[3]), []).append(found[2])
        else:
            strange.add(name)
    if len(columns) == 1 or len(columns) > _AXES:
        pieces = [_column(*ends, numbers) for ends, numbers in sorted(columns.items())]
    else:
        pieces = [str(NodeSet.fromlist([_column(*ends, numbers) for ends, numbers in columns.items()]))]
    return ",".join([piece for piece in pieces if piece] + sorted(strange))


_NUMBERED = re.compile(r"([A-Za-z0-9._-]*?)([0-9]{1,18})([A-Za-z._-]*)")
_AXES = 100


def _column(before: str, after: str, numbers: list[str]) -> str:
    text = str(RangeSet.fromlist(numbers))
    return f"{before}[{text}]{after}" if "," in text or "-" in text else f"{before}{text}{after}"


class _Groups(GroupSource):  # type: ignore[misc]
    """Our groups as a source for ClusterShell's resolver."""

    def __init__(self, inventory: Inventory) -> None:
        super().__init__("inventory")
        self._inventory = inventory

    def resolv_map(self, group: str) -> str:
        if group not in self._inventory.groups:
            near = get_close_matches(group, self._inventory.groups, n=1)
            hint = f", did you mean @{near[0]}?" if near else ""
            raise GroupSourceError(f"no such group @{group}{hint}", self)
        return str(self._inventory.groups[group])

    def resolv_list(self) -> list[str]:
        return list(self._inventory.groups)

    def resolv_all(self) -> str:
        return fold(self._inventory.hosts)
