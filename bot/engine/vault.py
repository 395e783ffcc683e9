"""The secrets that `secrets:` names: read when Sickbay starts, and again when their file has changed.

Nobody but the way to the hosts gets a value: plans, approvals and the store hold references, and the last step before the
shell of a host puts the values in their place, as shell variables on its standard input. What is read is known to the
mask before anything else is done with it.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bot.config.secret_section import SecretSection
from bot.config.settings import Config
from bot.config.tokens import Secrets
from bot.effect import Command, Keep, Pending, Remote
from bot.errors import SickbayError
from bot.inventory import Host
from bot.secrets import secret
from bot.secrets.mask import Mask
from bot.secrets.outlet import know
from bot.secrets.shapes import SHORTEST, lines_of

LARGEST = 16 * 1024
"""Bytes of one secret."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Held:
    value: str
    stamp: _Stamp | None = None
    """When and as what its file was written."""


def read_secrets(config: Config, environ: Mapping[str, str]) -> tuple[Secrets, "Vault", Mask]:
    """Read all secrets, and let everything that this process writes be masked."""
    secrets = Secrets.read(config, environ)
    mask = Mask(secrets.values())
    vault = Vault(config.secrets, environ, mask)
    for variable in secrets.short(config):
        what = f"{variable} is too short to be masked: ordinary words would be blanked out"
        vault.lacking[variable] = SickbayError(what, advice=f"use one of at least {SHORTEST} characters")
    know(mask)
    return secrets, vault, mask


class Vault:
    """All secrets by name; safe from any thread."""

    def __init__(self, sections: Mapping[str, SecretSection], environ: Mapping[str, str], mask: Mask) -> None:
        """Read them all; what cannot be had is `lacking`, with words."""
        self._sections = sections
        self._environ = environ
        self._mask = mask
        self._held: dict[str, _Held] = {}
        self.lacking: dict[str, SickbayError] = {}
        for name in sections:
            try:
                self._held[name] = self._read(name)
            except SickbayError as error:
                self.lacking[name] = error
        mask.learn(held.value for held in self._held.values())

    def complete(self) -> None:
        """See that each could be read.

        Raises:
            SickbayError: naming every one that could not.

        """
        errors = list(self.lacking.values())
        if len(errors) == 1:
            raise errors[0]
        if errors:
            said = (f"{error.where}: {error.what}" if error.where else error.what for error in errors)
            raise SickbayError("\n".join(said), advice=_MEND)

    def of(self, name: str) -> str:
        """Return a value; one whose file has changed is read again.

        Raises:
            SickbayError: when it cannot be had.

        """
        held = self._held.get(name)
        if held is None or (held.stamp is not None and held.stamp != self._stamp(name)):
            held = self._read(name)
            self._mask.learn([held.value])
            self._held[name] = held
            self.lacking.pop(name, None)
        return held.value

    def _stamp(self, name: str) -> _Stamp | None:
        file = self._sections[name].file
        try:
            return _stamp_of(file.stat()) if file is not None else None
        except OSError:
            return None

    def _read(self, name: str) -> _Held:
        where = f"secret `{name}`"
        section = self._sections.get(name)
        if section is None:
            raise SickbayError(
                f"there is no secret `{name}`", advice="name it under `secrets:` in sickbay.yaml"
            )
        if section.file is not None:
            data, stamp = _contents(section.file, where)
            try:
                return _Held(_sound(data.decode(), where, str(section.file)), stamp)
            except UnicodeError as error:
                raise SickbayError(
                    f"{section.file} is not text in UTF-8", where=where, advice="write the secret as text"
                ) from error
        assert section.env is not None
        value = self._environ.get(section.env)
        if value is None:
            advice = (
                f"set {section.env} where Sickbay is started, or read the secret from a file: `file: PATH`"
            )
            raise SickbayError(f"{section.env} is not set in the environment", where=where, advice=advice)
        return _Held(_sound(value, where, section.env))


_MEND = "mend them where they are kept, or under `secrets:`; `sickbay doctor` tells of each what to do"


def _contents(file: Path, where: str) -> tuple[bytes, _Stamp]:
    """Read a file that nobody else may read."""
    try:
        # not to hang at a pipe that somebody put there
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SickbayError(f"{file} is not a file", where=where, advice="name the file that holds it")
            if status.st_mode & 0o007:
                mode = f"{stat.S_IMODE(status.st_mode):o}"
                what = f"{file} can be read by anybody on this machine (mode {mode})"
                if not status.st_mode & 0o004:
                    what = f"{file} can be changed by anybody on this machine (mode {mode})"
                raise SickbayError(what, where=where, advice=f"chmod 600 {file}, and replace the secret")
            return opened.read(LARGEST + 1), _stamp_of(status)
    except OSError as error:
        what = f"{file} cannot be read: {error.strerror or error}"
        raise SickbayError(what, where=where, advice="check the path and who may read it") from error


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _sound(text: str, where: str, source: str) -> str:
    """Return the value, without the line's end that editors add; refuse what cannot be used or not be masked."""
    value = text.removesuffix("\n").removesuffix("\r")
    if not value.strip():
        raise SickbayError(f"{source} is empty", where=where, advice="put the secret there")
    if len(text) > LARGEST:
        raise SickbayError(
            f"{source} holds more than {LARGEST // 1024} KiB", where=where, advice="is it one?"
        )
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        what = f"{source} holds what no shell variable can carry (a NUL, or bytes that are not UTF-8)"
        raise SickbayError(what, where=where, advice="write the secret as text")
    if len(value) < SHORTEST or not lines_of(value):
        what = f"the value in {source} is too short to be masked: ordinary words would be blanked out"
        raise SickbayError(what, where=where, advice=f"use one of at least {SHORTEST} characters")
    return value


class Furnished:
    """A Remote that puts secrets in the place of their references just before a command leaves."""

    def __init__(self, remote: Remote, vault: Vault) -> None:
        self._remote = remote
        self._vault = vault

    def start(
        self,
        host: Host,
        command: Command,
        *,
        key: str,
        first_sent: datetime | None,
        stdout: Keep | None = None,
        stderr: Keep | None = None,
        barred: bool = False,
    ) -> Pending:
        """Send it with its secrets; see `bot.effect.Remote`.

        Raises:
            SickbayError: when a secret cannot be had; nothing was sent.

        """
        if any(secret.named(command.env)):
            command = replace(command, env=secret.filled(command.env, self._vault.of))
        return self._remote.start(
            host, command, key=key, first_sent=first_sent, stdout=stdout, stderr=stderr, barred=barred
        )

    def close(self) -> None:
        """End all connections."""
        self._remote.close()
