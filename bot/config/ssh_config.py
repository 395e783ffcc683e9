"""OpenSSH's own configuration, asked of OpenSSH itself (`ssh -G`), for hosts that people describe there already.

`ssh -G` answers with a hundred settings. What has its usual value says nothing. Of the others, what is in `TAKEN` is
done, what is in `HARMLESS` changes nothing for a program that runs commands, and everything else is refused by name:
what changes the way, the trust or the algorithms must not be left out silently.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.errors import SickbayError
from bot.inventory import Access

SLOW = 20.0
"""Seconds for one answer; `Match exec` runs programs."""

TAKEN: Mapping[str, str] = {
    "host": "the name that was asked for",
    "hostname": "the address",
    "port": "the port",
    "user": "who logs in, where sickbay.yaml does not say",
    "identityfile": "private keys; the usual ones of ~/.ssh are not looked for",
    "certificatefile": "certificates of these keys",
    "identitiesonly": "no: the agent's keys too, where `allow_agent` is set; yes: the files only",
    "identityagent": "socket of the agent; none: no agent",
    "userknownhostsfile": "the host keys that are trusted; the first is where enroll writes",
    "globalknownhostsfile": "more of them",
    "hostkeyalias": "the name the host has in them",
    "proxyjump": "the jump hosts",
    "connecttimeout": "seconds",
    "stricthostkeychecking": "yes or ask: host keys are checked always",
}
HARMLESS = frozenset({
    "addkeystoagent", "batchmode", "canonicaldomains", "canonicalizefallbacklocal", "canonicalizehostname",
    "canonicalizemaxdots", "canonicalizepermittedcnames", "clearallforwardings", "compression",
    "connectionattempts", "enableescapecommandline", "escapechar", "exitonforwardfailure",
    "fingerprinthash", "forwardx11", "forwardx11timeout", "forwardx11trusted", "gatewayports",
    "hashknownhosts", "ignoreunknown", "ipqos", "kbdinteractiveauthentication", "loglevel", "logverbose",
    "numberofpasswordprompts", "obscurekeystroketiming", "passwordauthentication", "permitremoteopen",
    "proxyusefdpass", "rekeylimit", "sendenv", "serveralivecountmax", "serveraliveinterval",
    "streamlocalbindmask", "streamlocalbindunlink", "syslogfacility", "tag", "tcpkeepalive",
    "updatehostkeys", "visualhostkey", "xauthlocation",
})  # fmt: skip
"""What changes nothing for a program that runs commands, or only takes away what is never used here."""
REFUSED: Mapping[str, str] = {
    "proxycommand": "write the way as ProxyJump",
    "stricthostkeychecking": "remove it: host keys are checked always, and `sickbay hosts enroll` makes one known",
    "userknownhostsfile": "name a file: without one no host is known",
    "controlmaster": "remove it for these hosts (`ControlMaster no`): Sickbay keeps its own connections",
    "controlpath": "remove it for these hosts (`ControlPath none`): Sickbay keeps its own connections",
    "controlpersist": "remove it for these hosts (`ControlPersist no`): Sickbay keeps its own connections",
    "forwardagent": "write `ForwardAgent no`: an agent is never lent to a host",
    "gssapiauthentication": "log in with a key",
    "hostbasedauthentication": "log in with a key",
    "pubkeyauthentication": "log in with a key",
    "preferredauthentications": "name publickey among them: nothing else is used",
    "pkcs11provider": "put the key into an ssh agent, and set `allow_agent`",
    "securitykeyprovider": "put the key into an ssh agent, and set `allow_agent`",
    "remotecommand": "remove it: runbooks say what is run",
    "revokedhostkeys": "write the keys as `@revoked` lines into known_hosts",
    "verifyhostkeydns": "remove it: names do not vouch for keys here",
    "knownhostscommand": "write the keys into known_hosts",
}
"""What to do about those that people meet most."""
OTHERWISE = "remove it for these hosts; Sickbay cannot do it and must not leave it out"

_USUAL = Access()


@dataclass(frozen=True, slots=True)
class Answer:
    """What ssh_config says about a host, where it says anything."""

    address: str
    port: int | None = None
    user: str | None = None
    jump: str | None = None
    access: Access = _USUAL


Settings = Mapping[str, tuple[str, ...]]
Ask = Callable[[str], Answer]


def parse(text: str) -> Settings:
    """Read what `ssh -G` prints: a keyword and its value a line, some of them several times."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        if key:
            found[key.lower()] = (*found.get(key.lower(), ()), value.strip())
    return found


def resolve(text: str, usual: str, *, where: str, home: Path, login: str) -> Answer:
    """Make of what `ssh -G` printed what it says about a host; `usual` is what it prints for an empty file.

    Raises:
        SickbayError: with everything in it that is not supported.

    """
    settings, plain = parse(text), parse(usual)
    said = {key: values for key, values in settings.items() if plain.get(key) != values}
    wrong = [f"\n    {key} {' '.join(values)}: {why}" for key, values, why in _unsupported(said)]
    if wrong:
        raise SickbayError(
            f"not supported:{''.join(wrong)}",
            where=where,
            advice="change them for these hosts, or name another file under `ssh: {config: …}`",
        )
    names = {"%": "%", "d": str(home), "u": login}
    for sign, key in (("h", "hostname"), ("n", "host"), ("p", "port"), ("r", "user")):
        names[sign] = settings.get(key, settings["hostname"])[-1]
    writer = _Writer(names, home, where)

    def one(key: str) -> str:
        return said[key][-1] if key in said else ""

    known = [*writer.paths(said.get("globalknownhostsfile", ()))]
    if known or "userknownhostsfile" in said:
        known = [*writer.paths(settings["userknownhostsfile"]), *known]
    place = one("identityagent")
    agent = None if place in {"", "SSH_AUTH_SOCK"} else writer.text(place)
    if one("identitiesonly") in {"yes", "true"} or place.lower() == "none":
        agent = ""
    return Answer(
        address=settings["hostname"][-1],
        port=int(one("port")) if one("port") else None,
        user=one("user") or None,
        jump=one("proxyjump") if "proxyjump" in said else None,
        access=Access(
            identity_files=writer.files(said["identityfile"]) if "identityfile" in said else None,
            certificate_files=writer.files(said.get("certificatefile", ())),
            agent=agent,
            known_hosts=tuple(known),
            alias=writer.text(one("hostkeyalias")),
            connect_timeout=float(one("connecttimeout")) if one("connecttimeout").isdigit() else None,
        ),
    )


def _unsupported(said: Settings) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for key, values in said.items():
        value = values[-1].lower()
        advice = REFUSED.get(key, OTHERWISE)
        match key:
            case "stricthostkeychecking":
                bad = value not in {"yes", "true", "ask"}
            case "userknownhostsfile":
                bad = any(word in {"/dev/null", "none"} for word in " ".join(values).split())
            case "preferredauthentications":
                bad = "publickey" not in value.split(",")
            case "proxycommand" | "controlpath" | "remotecommand" | "pkcs11provider":
                bad = value != "none"
            case _:
                bad = key not in TAKEN and key not in HARMLESS
        if bad:
            yield key, values, advice


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes out `~`, `$NAME` and the percent signs that OpenSSH knows."""

    names: Mapping[str, str]
    home: Path
    where: str

    def text(self, text: str) -> str:
        def written(found: re.Match[str]) -> str:
            if found[1] in self.names:
                return self.names[found[1]]
            raise SickbayError(
                f"`{found[0]}` in {text} is not supported", where=self.where, advice="write it out"
            )

        if text.startswith("$"):
            return os.environ.get(text.strip("${}"), "")
        text = re.sub("%(.)", written, text.strip('"'))
        return str(self.home / text[2:]) if text.startswith("~/") else text

    def files(self, values: Iterable[str]) -> tuple[Path, ...]:
        """Return files that are given one a line."""
        return tuple(dict.fromkeys(Path(self.text(one)) for one in values if one.lower() != "none"))

    def paths(self, values: Iterable[str]) -> tuple[Path, ...]:
        """Return files of which a line gives several."""
        return self.files(" ".join(values).split())


def asking(file: Path, home: Path, login: str) -> Ask:
    """Return what asks OpenSSH about a host, with this file and no other.

    Raises:
        SickbayError: when the file or OpenSSH is not there.

    """
    if not file.is_file():
        raise SickbayError(f"there is no file {file}", advice="name an ssh_config that exists")

    usual = _run(Path(os.devnull), "localhost", str(file))

    def ask(name: str) -> Answer:
        where = f"{file}, for {name}"
        return resolve(_run(file, name, where), usual, where=where, home=home, login=login)

    return ask


def _run(file: Path, name: str, where: str) -> str:
    try:
        done = subprocess.run(
            ["ssh", "-G", "-F", file, "--", name],
            capture_output=True,
            check=False,
            text=True,
            errors="backslashreplace",
            stdin=subprocess.DEVNULL,
            timeout=SLOW,
        )
    except FileNotFoundError:
        raise SickbayError(
            "OpenSSH is needed to read it, and there is no `ssh` on this machine",
            where=where,
            advice="apt-get install openssh-client, or write hosts, users and keys into sickbay.yaml",
        ) from None
    except subprocess.TimeoutExpired:
        raise SickbayError(
            f"`ssh -G` did not answer within {SLOW:g} s", where=where, advice="does a `Match exec` hang?"
        ) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise SickbayError(said[0] if said else "`ssh -G` failed", where=where, advice="mend that file")
    return done.stdout
