"""Jump hosts: from what people write, `user@bastion:22,inner`, to the chain of hops in front of each machine.

Pure. Written as OpenSSH's ProxyJump: the first one is reached first. A hop that is in the inventory is that host, with
its own address, user and keys, and is reached the way that host is reached; the others are taken as they are written.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot.errors import SickbayError
from bot.inventory import Hop, Host

LONGEST = 8
"""Hops in front of one machine."""
_SPOT = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s,/:]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)


@dataclass(frozen=True, slots=True)
class Spot:
    """One jump host as it is written."""

    address: str
    port: int | None = None
    user: str | None = None


Stranger = Callable[[Spot], tuple[Hop, str]]
"""Makes a hop of one that is not in the inventory, and says by which jump hosts it is reached itself."""


def read(text: str) -> tuple[Spot, ...]:
    """Read a chain; empty and `none` mean: straight.

    Raises:
        SickbayError: when it is none.

    """
    if text.strip().lower() in {"", "none"}:
        return ()
    spots = []
    for one in text.split(","):
        found = _SPOT.fullmatch(one.strip())
        port = int(found["port"]) if found and found["port"] else None
        if found is None or port == 0 or (port or 0) > 65_535:
            raise SickbayError(
                f"`{one.strip()}` is not a jump host",
                advice="write it like bastion, user@bastion:22 or user@[fd00::1]:22; several with commas, the first one first",
            )
        spots.append(Spot(found["v6"] or found["name"], port, found["user"]))
    return tuple(spots)


def as_written(spot: Spot) -> tuple[Hop, str]:
    """Take a jump host for what it says."""
    return Hop(spot.address, spot.address, spot.port or 22, spot.user), ""


@dataclass(frozen=True, slots=True)
class Ways:
    """All that is known of who is reached by way of whom."""

    hosts: Mapping[str, Host]
    own: Mapping[str, str]
    """What each host of the inventory says for itself; a host that says nothing is not in it."""
    usual: str = ""
    """For the hosts that say nothing, but not for the jump hosts of it themselves."""
    stranger: Stranger = as_written

    def to(self, name: str) -> tuple[Hop, ...]:
        """Return the hops in front of a host of the inventory.

        Raises:
            SickbayError: when they go round in a circle, are too many, or are no jump hosts.

        """
        return self._through(self._wanted(name), (name,))

    def _wanted(self, name: str) -> str:
        if name in self.own:
            return self.own[name]
        return "" if any(spot.address == name for spot in read(self.usual)) else self.usual

    def _through(self, text: str, behind: tuple[str, ...]) -> tuple[Hop, ...]:
        """Return the hops of a chain, and in front of them those by which its first one is reached."""
        hops: list[Hop] = []
        for spot in read(text):
            host = self.hosts.get(spot.address)
            if host is None:
                hop, before = self.stranger(spot)
                known = f"{hop.address}:{hop.port}"
            else:
                hop = Hop(
                    host.name, host.address, spot.port or host.port, spot.user or host.user, host.access
                )
                known, before = host.name, self._wanted(host.name)
            if known in behind:
                circle = " → ".join((*behind[behind.index(known) :], known))
                raise SickbayError(
                    f"the way goes round in a circle: {circle}",
                    advice="write `proxy_jump: none` at one of them",
                )
            if not hops:
                hops += self._through(before, (*behind, known))
            hops.append(hop)
            behind = (*behind, known)
        if len(hops) > LONGEST:
            raise SickbayError(f"there are more than {LONGEST} jump hosts on the way", advice="write fewer")
        return tuple(hops)
