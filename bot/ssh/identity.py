"""Who the host is and who we are: host keys judged in a person's words, private keys loaded once."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import paramiko

from bot.effect import Unreachable
from bot.inventory import Host
from bot.ssh.known_hosts import (
    Changed,
    Foreign,
    Judgement,
    KnownHosts,
    Revoked,
    Trusted,
    Uncertified,
    Unfit,
    Unknown,
    Unreadable,
    spelled,
)
from bot.ssh.patience import Unreached
from bot.ssh.public_key import CERTIFICATE, Key
from bot.ssh.settings import SshSettings

ON_CONSOLE = "ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub"
"""What to type on the console of a host to see who it is."""


def host_key_order(known_hosts: KnownHosts, host: Host, algorithms: Iterable[str]) -> tuple[str, ...]:
    """Order what is asked of a host: keys we know, certificates where an authority of ours signs them, other keys.

    Without such an authority no certificate is asked for: a host that has one shows its plain key then, as to OpenSSH.
    """
    kinds = known_hosts.kinds(host.address, host.port)
    plain = list(algorithms)
    known = [name for name in plain if ("ssh-rsa" if name.startswith("rsa-") else name) in kinds]
    authority = known_hosts.authority(host.address, host.port)
    certified = [name + CERTIFICATE for name in plain] if authority else []
    return (*known, *certified, *(name for name in plain if name not in known))


def refusal(judgement: Judgement, host: Host, key: Key, path: Path) -> Unreachable | None:
    """Say why this host key stops the login, or None when it is trusted."""
    name = spelled(host.address, host.port)
    enroll = f"sickbay hosts enroll {host.name}"
    match judgement:
        case Trusted():
            return None
        case Unknown():
            why = f"{name} is not in {path}; it shows a {key.kind} key with fingerprint {key.fingerprint}"
            advice = f"compare the fingerprint with the one on the host ({ON_CONSOLE}), then: {enroll}"
        case Changed(lines):
            numbers = ", ".join(line.where for line in lines)
            why = (
                f"the key of {name} has changed: it shows {key.kind} {key.fingerprint}, but {numbers} says "
                + ", ".join(sorted(f"{line.key.kind} {line.key.fingerprint}" for line in lines))
            )
            advice = (
                "either the machine was installed again, or somebody stands between you and it; nothing was sent to it. "
                f"If it was re-imaged, read the fingerprint on its console ({ON_CONSOLE}); "
                f"only if it is the one shown here: {enroll}"
            )
        case Revoked(line):
            why = f"the key of {name} ({line.key.fingerprint}) is revoked at {line.where}"
            if key.certified:
                why = (
                    f"the certificate of {name} rests on a key ({line.key.fingerprint}) "
                    f"that is revoked at {line.where}"
                )
            advice = "do not use this machine before it has a new host key and you know why the old one was revoked"
        case Uncertified(line):
            why = (
                f"{line.where} trusts a certificate authority for {name}, "
                f"but the host shows a plain {key.kind} key ({key.fingerprint}) and no certificate"
            )
            advice = (
                "sign its key with that authority and name the result in its sshd_config (HostCertificate); "
                "without one it is not known"
            )
        case Foreign(line, certificate):
            why = (
                f"the {certificate.title} of {name} is signed by {certificate.authority.fingerprint}, "
                f"but {line.where} trusts {line.key.fingerprint}"
            )
            advice = (
                "either the host has a certificate of another authority, or somebody stands between you and it; "
                "nothing was sent to it. Give it a certificate of the authority that is trusted"
            )
        case Unfit(fault, at):
            why = f"{name}: {fault.why}" + (f"; {at.where} trusts who signed it" if at else "")
            advice = fault.advice
        case Unreadable(where, said):
            why, advice = f"{where}: {said}", "mend or remove that line; no host is trusted until then"
        case _:
            assert_never(judgement)
    return Unreachable("host key", why, advice)


class Identities:
    """The private keys of the settings, each read once (an RSA key takes a third of a second)."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._keys: dict[Path, tuple[int, paramiko.PKey]] = {}

    @contextmanager
    def keys(self) -> Iterator[list[tuple[str, paramiko.PKey]]]:
        """Lend the keys to log in with, each with its name for people.

        Raises:
            Unreached: when there is none, or one cannot be read.

        """
        keys = [(str(path), self._load(path)) for path in self._settings.identity_files]
        agent = paramiko.Agent() if self._settings.allow_agent else None
        try:
            if agent:
                keys += [(f"agent key {key.comment or key.fingerprint}", key) for key in agent.get_keys()]
            if not keys:
                what = "the ssh agent offers no key" if agent else "no private key is configured"
                raise Unreached(
                    Unreachable("login", what, "name one under ssh.identity_files, or set ssh.allow_agent")
                )
            yield keys
        finally:
            if agent:
                agent.close()

    def _load(self, path: Path) -> paramiko.PKey:
        with self._lock:
            try:
                changed = path.stat().st_mtime_ns
                known = self._keys.get(path)
                if known and known[0] == changed:
                    return known[1]
                key: paramiko.PKey = paramiko.PKey.from_path(path)
            except OSError as error:
                raise Unreached(
                    Unreachable("login", f"{path}: {error.strerror}", "check ssh.identity_files")
                ) from None
            except (paramiko.SSHException, ValueError, TypeError) as error:
                if isinstance(error, paramiko.PasswordRequiredException) or "password" in str(error):
                    problem, advice = "has a passphrase", "add it to the ssh agent and set ssh.allow_agent"
                else:
                    problem, advice = f"is not a private key: {error}", "check ssh.identity_files"
                raise Unreached(Unreachable("login", f"{path} {problem}", advice)) from None
            self._keys[path] = (changed, key)
            return key
