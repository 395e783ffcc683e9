"""known_hosts changed for one host: its key becomes known, and nothing else in the file is touched.

Only the one key that a person compared is written. The host may show others, but each comes over a connection of its
own, and whoever could answer one of these would be trusted for good.
"""

import base64
import fcntl
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot.atomic import replace
from bot.errors import SickbayError
from bot.ssh.known_hosts import (
    Changed,
    Foreign,
    Judgement,
    Line,
    Revoked,
    Trusted,
    Uncertified,
    Unfit,
    Unknown,
    Unreadable,
    matches,
)
from bot.ssh.public_key import Key

Salt = Callable[[int], bytes]


def enrolled(text: str, name: str, key: Key, *, where: str, salt: Salt = secrets.token_bytes) -> str:
    """Return a known_hosts file in which the host called `name` is known by this key and by no other.

    Lines with a marker, comments, and whatever cannot be read stay as they are. A name is written hashed where the file
    has hashed names.

    Raises:
        SickbayError: when a line speaks of this host together with others by a pattern.

    """
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    kept: list[str] = []
    place: int | None = None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) < 3 or words[0].startswith(("#", "@")) or not matches(words[0], name):
            kept.append(line)
            continue
        place = len(kept) if place is None else place
        others = _others(words[0], name, f"{where}:{number}")
        if others:
            kept.append(line.replace(words[0], others, 1))
    hashed = any(line.lstrip().startswith("|1|") for line in lines)
    written = _hashed(name, salt(20)) if hashed else name
    kept.insert(len(kept) if place is None else place, f"{written} {key.line}")
    return "".join(f"{line}\n" for line in kept)


def _others(names: str, name: str, where: str) -> str:
    """Return the names that a line is about besides this one."""
    if names.startswith("|1|"):
        return ""
    left = [one for one in names.split(",") if one.lower() != name]
    if left and matches(",".join(left), name):
        raise SickbayError(
            f"{names} means this host by a pattern, together with others",
            where=where,
            advice=f"change that line by hand (`!{name}` takes one host out of it), then enroll again",
        )
    return ",".join(left)


def _hashed(name: str, salt: bytes) -> str:
    digest = hmac.new(salt, name.encode(), "sha1").digest()
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))


def enroll(path: Path, name: str, key: Key) -> None:
    """Write it: whole or not at all, whatever happens meanwhile. The file as it was is kept beside it as `….old`.

    Raises:
        SickbayError: when the file cannot be read, changed or written.

    """
    path = path.resolve()  # a link stays a link
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path.parent):
            old = path.read_bytes() if path.exists() else None
            text = (old or b"").decode("utf-8", "surrogateescape")
            new = enrolled(text, name, key, where=str(path)).encode("utf-8", "surrogateescape")
            status = path.stat() if old is not None else None
            if old is not None:
                replace(path.with_name(f"{path.name}.old"), old, status)
            replace(path, new, status)
    except OSError as error:
        raise SickbayError(
            f"cannot be written: {error.strerror or error}", where=str(path), advice="check its permissions"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other enrolment come between."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Shown:
    """A host key that a host offers, and what is known of it."""

    key: Key
    state: Literal["known", "new", "changed", "revoked"]
    why: str = ""


def shown(key: Key, judgement: Judgement) -> Shown:
    """Say what is known of a key that a host offers.

    Raises:
        SickbayError: when the host is known in another way than by a key of its own.

    """
    match judgement:
        case Trusted():
            return Shown(key, "known")
        case Unknown():
            return Shown(key, "new")
        case Changed(lines):
            said = ", ".join(f"{line.where} says {line.key.kind} {line.key.fingerprint}" for line in lines)
            return Shown(key, "changed", said)
        case Revoked(line):
            return Shown(key, "revoked", f"{line.where}: it is never taken again")
        case Uncertified(line) | Foreign(line, _):
            raise by_authority(line)
        case Unfit(fault):
            raise SickbayError(fault.why, advice=fault.advice)
        case Unreadable(where, why):
            raise SickbayError(why, where=where, advice="mend or remove that line")


def by_authority(line: Line) -> SickbayError:
    """Say that an authority vouches for a host, and nobody else has to."""
    return SickbayError(
        "this host is known by a certificate authority, so no key of it is written down",
        where=line.where,
        advice="give it a certificate (ssh-keygen -s CA_KEY -h -I NAME -n ADDRESS …, then HostCertificate in its "
        "sshd_config), or take it out of that line first",
    )
