"""OpenSSH's known_hosts, read once and again when a file changed.

Paramiko's own reader knows no patterns, stops at any `@` line and takes a third of a second per 1,000 lines; and what
it does not understand it skips. Here a line that would take trust away and cannot be read refuses every host.

Ports are as in OpenSSH: `[host]:2222` is another host than `host`. A certificate authority of `host` speaks for all its
ports, because a certificate names a machine; and a key that is revoked for a machine is so on all its ports.
"""

import base64
import binascii
import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from re import Pattern
from re import compile as pattern

from bot.ssh.certificate import Certificate, Fault, against_host
from bot.ssh.certificate import read as read_certificate
from bot.ssh.public_key import Key, Malformed


@dataclass(frozen=True, slots=True)
class Line:
    """One line that says something about a host's key."""

    path: Path
    number: int
    marker: str
    """Empty, `revoked` or `cert-authority`."""
    names: str
    key: Key

    @property
    def where(self) -> str:
        """The place, for people."""
        return f"{self.path}:{self.number}"


@dataclass(frozen=True, slots=True)
class Trusted:
    """The key is the one that is written down, or an authority that is written down certifies it."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No key is written down for this host."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Another key is written down for this host."""

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """The key, or the authority that certified it, is revoked."""

    line: Line


@dataclass(frozen=True, slots=True)
class Uncertified:
    """Only a certificate authority is written down for this host, and the host shows no certificate."""

    line: Line


@dataclass(frozen=True, slots=True)
class Foreign:
    """The host shows a certificate of another authority than the one that is written down."""

    line: Line
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Unfit:
    """The certificate is the authority's own, or cannot be read, and something speaks against it."""

    fault: Fault
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file says something that cannot be read and must not be skipped."""

    where: str
    why: str


Judgement = Trusted | Unknown | Changed | Revoked | Uncertified | Foreign | Unfit | Unreadable


@dataclass(slots=True)
class _Table:
    """A parsed file: names as they stand lead straight to their lines, all others are tried in turn."""

    exact: dict[str, list[Line]] = field(default_factory=dict)
    others: list[Line] = field(default_factory=list)
    broken: tuple[int, str] | None = None

    def about(self, name: str) -> list[Line]:
        """Return the lines about a name, in their order."""
        found = self.exact.get(name, []) + [line for line in self.others if matches(line.names, name)]
        return sorted(found, key=lambda line: line.number)


def spelled(address: str, port: int) -> str:
    """Write an address as known_hosts does."""
    address = address.lower()
    return address if port == 22 else f"[{address}]:{port}"


class KnownHosts:
    """The one list of host keys that are trusted, in one file or several."""

    def __init__(self, *paths: Path, clock: Callable[[], float] = time.time) -> None:
        """The first of the paths is where people are told to write; the clock gives seconds since 1970."""
        self.path = paths[0]
        self._clock = clock
        self._files = tuple(_File(path) for path in paths)

    def judge(self, address: str, port: int, key: Key) -> Judgement:
        """Say what the files say about this key of this host."""
        name = spelled(address, port)
        lines = self._about(name)
        if isinstance(lines, Unreadable):
            return lines
        elsewhere = self._about(address.lower()) if port != 22 else []
        if isinstance(elsewhere, Unreadable):
            return elsewhere
        certificate = None
        shown = {key.blob}
        if key.certified:
            try:
                certificate = read_certificate(key.blob)
            except Malformed as error:
                return Unfit(
                    Fault(f"the host's certificate cannot be read: {error}", "sign it again with ssh-keygen")
                )
            shown = {certificate.key.blob, certificate.authority.blob}
        for line in (*lines, *elsewhere):
            if line.marker == "revoked" and line.key.blob in shown:
                return Revoked(line)
        authorities = [line for line in (*lines, *elsewhere) if line.marker == "cert-authority"]
        if certificate is not None:
            for line in authorities:
                if line.key == certificate.authority:
                    fault = against_host(certificate, address.lower(), self._clock())
                    return Unfit(fault, line) if fault else Trusted()
        return _plain(lines, authorities, key, certificate)

    def kinds(self, address: str, port: int) -> frozenset[str]:
        """Return the kinds of key that are written down for a host, so that these can be asked for first."""
        lines = self._about(spelled(address, port))
        if isinstance(lines, Unreadable):
            return frozenset()
        return frozenset(line.key.kind for line in lines if not line.marker)

    def authority(self, address: str, port: int) -> Line | None:
        """Return the first certificate authority that is written down for a host."""
        for name in dict.fromkeys((spelled(address, port), address.lower())):
            lines = self._about(name)
            if not isinstance(lines, Unreadable):
                for line in lines:
                    if line.marker == "cert-authority":
                        return line
        return None

    def _about(self, name: str) -> list[Line] | Unreadable:
        found: list[Line] = []
        for file in self._files:
            table = file.read()
            if isinstance(table, Unreadable):
                return table
            found += table.about(name)
        return found


def _plain(
    lines: list[Line], authorities: list[Line], key: Key, certificate: Certificate | None
) -> Judgement:
    """Judge the key by itself: no authority that is written down speaks for it."""
    own = key if certificate is None else certificate.key
    plain = tuple(line for line in lines if not line.marker)
    if any(line.key == own for line in plain):
        return Trusted()
    if plain:
        return Changed(plain)
    for line in authorities:
        return Uncertified(line) if certificate is None else Foreign(line, certificate)
    return Unknown()


class _File:
    """One file, parsed again when it changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._table = _Table()

    def read(self) -> _Table | Unreadable:
        with self._lock:
            try:
                status = self.path.stat()
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                if stamp != self._stamp:
                    text = self.path.read_bytes().decode("utf-8", "backslashreplace")
                    self._table = _parse(text, self.path)
                    self._stamp = stamp
            except FileNotFoundError:
                self._stamp, self._table = None, _Table()
            except OSError as error:
                return Unreadable(str(self.path), error.strerror or str(error))
            table = self._table
        if table.broken:
            number, why = table.broken
            return Unreadable(f"{self.path}:{number}", why)
        return table


def _parse(text: str, path: Path) -> _Table:
    table = _Table()
    for number, raw in enumerate(text.split("\n"), 1):
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        marker = ""
        if words[0].startswith("@"):
            marker = words.pop(0)[1:]
        line = _line(path, number, marker, words)
        if line is None:
            if marker:
                table.broken = table.broken or (number, f"this @{marker} line is malformed")
            continue  # like OpenSSH: a line that would give trust and cannot be read gives none
        if marker not in {"", "revoked", "cert-authority"}:
            table.broken = table.broken or (number, f"@{marker} is not a marker")
        elif line.names.startswith("|1|") or any(sign in line.names for sign in "*?!"):
            table.others.append(line)
        else:
            for name in line.names.lower().split(","):
                table.exact.setdefault(name, []).append(line)
    return table


def _line(path: Path, number: int, marker: str, words: list[str]) -> Line | None:
    if len(words) < 3:
        return None
    names, kind, encoded = words[:3]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != kind.encode():
        return None
    return Line(path, number, marker, names, Key(kind, blob))


def matches(names: str, name: str) -> bool:
    """Do the names of a line, hashed or with patterns, mean this one?"""
    if names.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in names[3:].split("|"))
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)
    matched = False
    for one in names.lower().split(","):
        if _like(one.removeprefix("!")).match(name):
            if one.startswith("!"):
                return False
            matched = True
    return matched


@lru_cache(maxsize=4096)
def _like(wanted: str) -> Pattern[str]:
    """Match `*` and `?` only; brackets are part of the name, as in `[host]:22`."""
    return pattern(translate(wanted.replace("[", "[[]")))
