"""Who the host is and who we are: host keys judged in a person's words, private keys loaded once."""

import base64
import copy
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import paramiko

from bot.effect import Unreachable
from bot.inventory import Host
from bot.ssh.account import Account
from bot.ssh.agent import Agent, NoAgent
from bot.ssh.certificate import Certificate, Fault, against_user, read
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
from bot.ssh.public_key import CERTIFICATE, Key, Malformed
from bot.ssh.settings import SshSettings
from bot.ssh.unreached import Unreached

ON_CONSOLE = "for k in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $k; done"
"""What to type on the console of a host to see who it is: ssh-keygen takes one file."""


def host_key_order(known_hosts: KnownHosts, host: Host, algorithms: Iterable[str]) -> tuple[str, ...]:
    """Order what is asked of a host: keys we know, certificates where an authority of ours signs them, other keys.

    Without such an authority no certificate is asked for: a host that has one shows its plain key then, as to OpenSSH.
    """
    kinds = known_hosts.kinds(*host.known_as)
    plain = list(algorithms)
    known = [name for name in plain if ("ssh-rsa" if name.startswith("rsa-") else name) in kinds]
    authority = known_hosts.authority(*host.known_as)
    certified = [name + CERTIFICATE for name in plain] if authority else []
    return (*known, *certified, *(name for name in plain if name not in known))


def refusal(judgement: Judgement, host: Host, key: Key, path: Path) -> Unreachable | None:
    """Say why this host key stops the login, or None when it is trusted."""
    name = spelled(*host.known_as)
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


Offer = tuple[str, paramiko.PKey | None]
"""What people call a key, and the key; None: it is not offered, and the name says why."""


class Trust:
    """The known_hosts files, each read once; most hosts share them."""

    def __init__(self, settings: SshSettings, clock: Callable[[], float] = time.time) -> None:
        self._usual = (settings.known_hosts,)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, ...], KnownHosts] = {}

    def of(self, host: Host) -> KnownHosts:
        """Return the files that say who this host is."""
        paths = host.access.known_hosts or self._usual
        with self._lock:
            return self._known.setdefault(paths, KnownHosts(*paths, clock=self._clock))


class Identities:
    """Private keys and their certificates, each read once (an RSA key takes a third of a second)."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[Path, tuple[int, paramiko.PKey]] = {}

    @contextmanager
    def keys(self, account: Account) -> Iterator[list[Offer]]:
        """Lend the keys to log in with, each with its name for people; what is not offered says why instead.

        As OpenSSH has it: a key is offered with its certificate first and then by itself. Certificates lie beside their
        key as `KEY-cert.pub`, or are named by themselves.

        Raises:
            Unreached: when there is none, or one cannot be read.

        """
        offers: list[Offer] = []
        for path in account.identity_files:
            key = self._load(path, account.setting)
            offers += self._certified(path, key, account)
            offers.append((str(path), key))
        agent = None
        try:
            if account.agent is not None:
                try:
                    agent = Agent.at(account.agent)
                    offers += self._of_agent(agent)
                except NoAgent as error:
                    offers.append((str(error), None))
            if not any(key for _, key in offers):
                said = "; ".join(name for name, _ in offers)
                what = said or ("the ssh agent offers no key" if agent else "no private key is configured")
                advice = f"name one under {account.setting}, or set ssh.allow_agent"
                raise Unreached(Unreachable("login", what, advice))
            yield offers
        finally:
            if agent:
                agent.close()

    def _certified(self, path: Path, key: paramiko.PKey, account: Account) -> Iterator[Offer]:
        """Return the key once for each certificate that was made for it."""
        beside = path.with_name(f"{path.name}-cert.pub")
        if beside.exists():
            yield self._with_certificate(beside, _certificate(beside), key)
        for named in account.certificate_files:
            certificate = _certificate(named)
            if certificate.key.blob == key.asbytes():
                yield self._with_certificate(named, certificate, key)

    def _with_certificate(self, path: Path, certificate: Certificate, key: paramiko.PKey) -> Offer:
        fault = against_user(certificate, Key.of(key.asbytes()), self._clock())
        if fault:
            return _not_offered(str(path), fault), None
        both = copy.copy(key)
        both.load_certificate(paramiko.Message(certificate.blob))
        return str(path), both

    def _of_agent(self, agent: Agent) -> Iterator[Offer]:
        """Return the keys of an agent, certificates first."""
        for key in sorted(agent.get_keys(), key=lambda key: not key.get_name().endswith(CERTIFICATE)):
            if not key.get_name().endswith(CERTIFICATE):
                yield f"agent key {key.comment or key.fingerprint}", key
                continue
            try:
                certificate = read(key.blob)
            except Malformed as error:
                yield f"a certificate of the agent (not offered: {error})", None
                continue
            fault = against_user(certificate, certificate.key, self._clock())
            name = f"agent {certificate.title}"
            yield (_not_offered(name, fault), None) if fault else (name, key)

    def _load(self, path: Path, setting: str) -> paramiko.PKey:
        with self._lock:
            try:
                changed = path.stat().st_mtime_ns
                known = self._keys.get(path)
                if known and known[0] == changed:
                    return known[1]
                key = _private(path)
            except OSError as error:
                raise Unreached(
                    Unreachable("login", f"{path}: {error.strerror}", f"check {setting}")
                ) from None
            except (paramiko.SSHException, ValueError, TypeError) as error:
                if isinstance(error, paramiko.PasswordRequiredException) or "password" in str(error):
                    problem, advice = "has a passphrase", "add it to the ssh agent and set ssh.allow_agent"
                else:
                    problem, advice = f"is not a private key: {error}", f"check {setting}"
                raise Unreached(Unreachable("login", f"{path} {problem}", advice)) from None
            self._keys[path] = (changed, key)
            return key


def _private(path: Path) -> paramiko.PKey:
    """Read a key alone; paramiko's `from_path` would take a certificate beside it without a look at it."""
    problem: Exception = ValueError("of no known kind")
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key_file(str(path))
        except paramiko.PasswordRequiredException:
            raise
        except (paramiko.SSHException, ValueError, TypeError) as error:
            problem = error
    raise problem


def _not_offered(name: str, fault: Fault) -> str:
    return f"{name} (not offered: {fault.why}; {fault.advice})"


def _certificate(path: Path) -> Certificate:
    try:
        words = path.read_text("utf-8", "backslashreplace").split()
        return read(base64.b64decode(words[1], validate=True))
    except OSError as error:
        raise Unreached(Unreachable("login", f"{path}: {error.strerror}", "check its permissions")) from None
    except (IndexError, ValueError) as error:
        said = error if isinstance(error, Malformed) else "it is not a line of a public key file"
        raise Unreached(
            Unreachable("login", f"{path} is not a certificate: {said}", "remove it, or get a new one")
        ) from None
