"""OpenSSH's known_hosts, read once and again when the file changed.

Paramiko's own reader knows no patterns, stops at any `@` line and takes a third of a second per 1,000 lines; and what
it does not understand it skips. Here a line that would take trust away and cannot be read refuses every host.
"""

import base64
import binascii
import hashlib
import hmac
import threading
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from re import compile as pattern


@dataclass(frozen=True, slots=True)
class Key:
    """A public host key."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -lf` prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return "SHA256:" + digest.rstrip("=")


@dataclass(frozen=True, slots=True)
class Line:
    """One line that says something about a host's key."""

    number: int
    marker: str
    """Empty, `revoked` or `cert-authority`."""
    names: str
    key: Key


@dataclass(frozen=True, slots=True)
class Trusted:
    """The key is the one that is written down."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No key is written down for this host."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Another key is written down for this host."""

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """The key is revoked."""

    line: Line


@dataclass(frozen=True, slots=True)
class ByAuthority:
    """Only a certificate authority is written down for this host."""

    line: Line


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The file says something that cannot be read and must not be skipped."""

    where: str
    why: str


Judgement = Trusted | Unknown | Changed | Revoked | ByAuthority | Unreadable


@dataclass(slots=True)
class _Table:
    """A parsed file: names as they stand lead straight to their lines, all others are tried in turn."""

    exact: dict[str, list[Line]] = field(default_factory=dict)
    others: list[Line] = field(default_factory=list)
    broken: tuple[int, str] | None = None


def spelled(address: str, port: int) -> str:
    """Write an address as known_hosts does."""
    address = address.lower()
    return address if port == 22 else f"[{address}]:{port}"


class KnownHosts:
    """The one list of host keys that are trusted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._table = _Table()

    def judge(self, address: str, port: int, key: Key) -> Judgement:
        """Say what the file says about this key of this host."""
        table = self._read()
        if isinstance(table, Unreadable):
            return table
        lines = _about(table, spelled(address, port))
        for line in lines:
            if line.marker == "revoked" and line.key.blob == key.blob:
                return Revoked(line)
        plain = tuple(line for line in lines if not line.marker)
        if any(line.key.blob == key.blob for line in plain):
            return Trusted()
        if plain:
            return Changed(plain)
        for line in lines:
            if line.marker == "cert-authority":
                return ByAuthority(line)
        return Unknown()

    def kinds(self, address: str, port: int) -> frozenset[str]:
        """Return the kinds of key that are written down for a host, so that these can be asked for first."""
        table = self._read()
        if isinstance(table, Unreadable):
            return frozenset()
        return frozenset(line.key.kind for line in _about(table, spelled(address, port)) if not line.marker)

    def _read(self) -> _Table | Unreadable:
        with self._lock:
            try:
                status = self.path.stat()
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                if stamp != self._stamp:
                    self._table = _parse(self.path.read_bytes().decode("utf-8", "backslashreplace"))
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


def _parse(text: str) -> _Table:
    table = _Table()
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        marker = ""
        if words[0].startswith("@"):
            marker = words.pop(0)[1:]
        line = _line(number, marker, words)
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


def _line(number: int, marker: str, words: list[str]) -> Line | None:
    if len(words) < 3:
        return None
    names, kind, encoded = words[:3]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != kind.encode():
        return None
    return Line(number, marker, names, Key(kind, blob))


def _about(table: _Table, name: str) -> list[Line]:
    found = table.exact.get(name, []) + [line for line in table.others if _matches(line.names, name)]
    return sorted(found, key=lambda line: line.number)


def _matches(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in names[3:].split("|"))
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    matched = False
    for one in names.lower().split(","):
        if _like(one.removeprefix("!"), name):
            if one.startswith("!"):
                return False
            matched = True
    return matched


def _like(wanted: str, name: str) -> bool:
    """Match `*` and `?` only; brackets are part of the name, as in `[host]:22`."""
    return pattern(translate(wanted.replace("[", "[[]"))).match(name) is not None
