"""Who the host is and who we are: host keys judged in a person's words, private keys loaded once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import paramiko

from bot.effect import Unreachable
from bot.inventory import Host
from bot.ssh.known_hosts import (
    ByAuthority,
    Changed,
    Judgement,
    Key,
    Revoked,
    Trusted,
    Unknown,
    Unreadable,
    spelled,
)
from bot.ssh.settings import SshSettings
from bot.ssh.unreached import Unreached


def refusal(judgement: Judgement, host: Host, key: Key, path: Path) -> Unreachable | None:
    """Say why this host key stops the login, or None when it is trusted."""
    name = spelled(host.address, host.port)
    scan = f"ssh-keyscan -p {host.port} {host.address} >> {path}"
    match judgement:
        case Trusted():
            return None
        case Unknown():
            return Unreachable(
                "host key",
                f"{name} is not in {path}; it shows a {key.kind} key with fingerprint {key.fingerprint}",
                f"compare the fingerprint with the one on the host (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then: {scan}",
            )
        case Changed(lines):
            numbers = ", ".join(f"{path}:{line.number}" for line in lines)
            return Unreachable(
                "host key",
                f"the key of {name} has changed: it shows {key.kind} {key.fingerprint}, but {numbers} says "
                + ", ".join(sorted(f"{line.key.kind} {line.key.fingerprint}" for line in lines)),
                "either the machine was installed again, or somebody stands between you and it; nothing was sent to it. "
                "If it was re-imaged, read the fingerprint on its console (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub); "
                f"only if it is the one shown here: ssh-keygen -R '{name}' -f {path} && {scan}",
            )
        case Revoked(line):
            return Unreachable(
                "host key",
                f"the key of {name} ({key.fingerprint}) is revoked at {path}:{line.number}",
                "do not use this machine before it has a new host key and you know why the old one was revoked",
            )
        case ByAuthority(line):
            return Unreachable(
                "host key",
                f"{path}:{line.number} trusts a certificate authority for {name}: "
                "host certificates are not supported yet",
                f"compare the fingerprint {key.fingerprint} with the one on the host, then add its own key: {scan}",
            )
        case Unreadable(where, why):
            return Unreachable(
                "host key", f"{where}: {why}", "mend or remove that line; no host is trusted until then"
            )
        case _:
            assert_never(judgement)


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
