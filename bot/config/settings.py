"""The sections of sickbay.yaml, and the secrets that come from the environment instead.

Every limit has a safe default, so that a file needs hosts and little else.
"""

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from bot.config.haproxy_section import spread
from bot.config.jump import Spot, Stranger, Ways, as_written
from bot.config.jump import read as spots
from bot.config.schedule_section import SchedulesSection
from bot.config.secret_section import SecretName, SecretSection
from bot.config.ssh_config import Answer, asking
from bot.errors import Misplaced, SickbayError
from bot.guard.autonomy import SUCCESSES
from bot.guard.maintenance import Window, Windows
from bot.inventory import Access, Hop, Host, Inventory, Sudo, expand
from bot.language.inputs import Noun
from bot.language.limits import Breaker
from bot.language.runbook import Name
from bot.people.permissions import Permission, Permissions
from bot.route import Channel, Route
from bot.runs.approval import Person
from bot.shipped import shipped

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")]
GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
UserGroup = Annotated[str, Field(pattern=r"^S[A-Z0-9]{2,20}$")]
Bytes = Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?$")]
SHIPPED = Path("shipped")
"""Stands for the folder of the runbooks that come with Sickbay; a folder called so is named by its whole path."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class SlackSection(Noun):
    """How Slack is reached, and where incidents are shown."""

    channel: Channel = Field("oncall", description="where incidents without a route's own channel are shown")
    transport: Literal["socket", "http"] = Field(
        "socket", description="http needs a public address and SLACK_SIGNING_SECRET"
    )
    usergroups: dict[UserGroup, Annotated[tuple[GroupName, ...], Field(min_length=1)]] = Field(
        {}, description="roles of the members of a Slack user group, by its id, such as S0ONCALL"
    )
    base_url: str = Field(
        "https://slack.com/api/", pattern=r"^https?://\S+$", description="another address for tests"
    )


class WebSection(Noun):
    """Where alerts come in."""

    listen: str = Field("127.0.0.1:8300", pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):[0-9]{1,5}$")

    @field_validator("listen")
    @classmethod
    def _port(cls, listen: str) -> str:
        if int(listen.rpartition(":")[2]) > 65_535:
            raise ValueError("a port is at most 65535")
        return listen

    @property
    def host(self) -> str:
        """Address without the port."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0: any free one."""
        return int(self.listen.rpartition(":")[2])


class AlertmanagerSection(Noun):
    """The door for Alertmanager's webhook."""

    secret_env: str = Field(
        "SICKBAY_ALERTMANAGER_SECRET",
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="name of the variable that holds the bearer secret",
    )
    max_body: Bytes = Field(1024 * 1024, description="bytes; a larger body is refused with 413")


class AlertsSection(Noun):
    """Doors that alerts come through."""

    alertmanager: AlertmanagerSection = AlertmanagerSection()


class StoreSection(Noun):
    """Where everything is kept."""

    path: Path = Path("sickbay.db")


class ActSection(Noun):
    """Another account for commands that change something."""

    user: str | None = Field(None, min_length=1, description="login name; default: the one that looks")
    identity_files: tuple[Path, ...] = Field(
        (), description="private keys that only act; default: those that look"
    )


class SshSection(Noun):
    """How hosts are reached."""

    user: str = Field("root", min_length=1, description="login name where a host gives none")
    known_hosts: Path = Field(Path("~/.ssh/known_hosts"), description="the host keys that are trusted")
    identity_files: tuple[Path, ...] = Field((), description="private keys, tried in this order")
    allow_agent: bool = Field(False, description="offer the keys of the ssh agent after the files")
    act: ActSection = Field(ActSection(), description="who logs in for commands that change something")
    sudo: Sudo = Field(
        "never", description="commands under `sudo -n`: never, act (those that change something), always"
    )
    config: Path | None = Field(None, description="an ssh_config that is asked about every host")
    proxy_jump: str = Field("", description="jump hosts on the way to every host, as ProxyJump has them")
    connect_timeout: Seconds = Field(5.0, description="seconds for name lookup and TCP, each")
    login_timeout: Seconds = Field(15.0, description="seconds for key exchange and login together")
    idle_close: Seconds = Field(600.0, description="seconds a connection is kept with nothing to do")
    max_connections: int = Field(2000, ge=1, le=20_000, description="connections that are kept at most")
    max_connecting: int = Field(32, ge=1, le=512, description="logins at once, over all hosts")


class AutonomySection(Noun):
    """When a runbook's `mode: auto` counts."""

    successes: int = Field(
        SUCCESSES, ge=0, le=1000, description="verified successes it takes; 0: it counts at once"
    )


class HostSection(Noun):
    """A host, or a host set whose addresses are written as a set of the same size."""

    address: str = Field("", pattern=r"^\S*$", description="empty: the name")
    port: int = Field(22, ge=1, le=65_535)
    user: str | None = Field(None, min_length=1)
    identity_files: tuple[Path, ...] | None = Field(None, description="instead of those under `ssh:`")
    act: ActSection = Field(ActSection(), description="instead of `ssh: {act: …}`")
    sudo: Sudo | None = Field(None, description="instead of the one under `ssh:`")
    proxy_jump: str | None = Field(None, description="instead of the one under `ssh:`; none: straight")
    groups: tuple[GroupName, ...] = ()
    vars: dict[str, Any] = Field(
        {}, description="read as host.vars.<name> in runbooks; `haproxy` says where it is drained"
    )


class PersonSection(Noun):
    """Somebody who may ask and approve."""

    slack: str = Field("", pattern=r"^([UW][A-Z0-9]{2,20})?$", description="Slack member id, such as U0ALICE")
    roles: tuple[GroupName, ...] = ()
    login: tuple[Login, ...] = Field((), description="user names in the terminal; default: the name itself")

    @field_validator("login", mode="before")
    @classmethod
    def _one_or_many(cls, login: Any) -> Any:
        return (login,) if isinstance(login, str) else tuple(login) if isinstance(login, list) else login


class Config(Noun):
    """A whole sickbay.yaml."""

    slack: SlackSection = SlackSection()
    web: WebSection = WebSection()
    alerts: AlertsSection = AlertsSection()
    store: StoreSection = StoreSection()
    runbooks: tuple[Path, ...] = Field(
        (SHIPPED,), description="folders, and `shipped` for those that come with Sickbay"
    )
    ssh: SshSection = SshSection()
    hosts: dict[str, HostSection] = Field({}, description="by name or host set, such as gpu-[01-08]")
    people: dict[HostName, PersonSection] = Field({}, description="by name")
    permissions: tuple[Permission, ...] = Field(
        (), description="who may do what; none: everybody under `people:` may"
    )
    check: tuple[Name, ...] = Field(
        ("gpu-check", "serving-check"), description="runbooks that `sickbay check` runs"
    )
    autonomy: AutonomySection = AutonomySection()
    secrets: dict[SecretName, SecretSection] = Field({}, description="by name, for {{ secrets.NAME }}")
    schedules: SchedulesSection = SchedulesSection()
    breaker: Breaker = Breaker()
    maintenance: tuple[Window, ...] = Field((), description="when and where automation keeps out")
    routes: tuple[Route, ...] = ()

    @cached_property
    def rights(self) -> Permissions:
        """Who may do what.

        Raises:
            Misplaced: when a rule names hosts that are not there.

        """
        return Permissions(self.permissions, self.persons, self.inventory, self.slack.usergroups)

    @property
    def runbook_folders(self) -> tuple[Path, ...]:
        """Where runbooks are read from."""
        return tuple(shipped("runbooks") if one == SHIPPED else one for one in self.runbooks)

    @property
    def store_path(self) -> Path:
        """The database file."""
        return self.store.path

    @cached_property
    def windows(self) -> Windows:
        """The maintenance windows, over the hosts that there are."""
        return Windows(self.maintenance, cache(self.inventory.covers))

    @cached_property
    def inventory(self) -> Inventory:
        """All hosts, sets written out and jump hosts found.

        Raises:
            Misplaced: when the way to a host cannot be found.

        """
        entries = {
            host.name: (entry, section, host)
            for entry, section in self.hosts.items()
            for host in machines(entry, section)
        }
        answers, stranger = _asked(self.ssh.config, [host for _, _, host in entries.values()])
        own = {
            name: answer.jump
            for name, answer in answers.items()
            if answer.jump is not None
            and not {spot.address for spot in spots(answer.jump)} & {name, entries[name][2].address}
        }
        for name, (_, section, _) in entries.items():
            if section.proxy_jump is not None:
                own[name] = section.proxy_jump
        found = {name: told(host, section, answers.get(name)) for name, (_, section, host) in entries.items()}
        ways = Ways(found, own, self.ssh.proxy_jump, stranger)
        hosts: dict[tuple[str, int, tuple[Hop, ...]], Host] = {}
        for name, host in found.items():
            try:
                jump = ways.to(name)
            except SickbayError as error:
                at = ("hosts", entries[name][0], "proxy_jump") if name in own else ("ssh", "proxy_jump")
                raise Misplaced(at, error.what, error.advice) from error
            first = hosts.setdefault((host.address, host.port, jump), replace(host, jump=jump))
            if first.name != name:
                what = f"{name} is {first.name} by another name: {host.address}:{host.port}"
                raise Misplaced(("hosts", entries[name][0]), what, "one machine is one host")
        return Inventory(hosts.values())

    @cached_property
    def persons(self) -> dict[str, Person]:
        """Everybody, by name."""
        return {name: Person(name, one.slack, one.roles, one.login) for name, one in self.people.items()}


def told(host: Host, section: HostSection, answer: Answer | None) -> Host:
    """Fill in what ssh_config says, where sickbay.yaml does not."""
    if answer is None:
        return host
    access = replace(
        answer.access,
        identity_files=answer.access.identity_files
        if section.identity_files is None
        else section.identity_files,
        act_user=host.access.act_user,
        act_identity_files=host.access.act_identity_files,
        sudo=host.access.sudo,
    )
    port = host.port if "port" in section.model_fields_set else answer.port or host.port
    return replace(host, address=answer.address, port=port, user=host.user or answer.user, access=access)


def _asked(file: Path | None, hosts: Sequence[Host]) -> tuple[Mapping[str, Answer], Stranger]:
    """Ask ssh_config about hosts; also return how to ask it about jump hosts."""
    if file is None:
        return {}, as_written
    try:
        ask = asking(file, Path.home(), pwd.getpwuid(os.getuid()).pw_name)
        with ThreadPoolExecutor(8) as pool:
            answers = dict(
                zip(
                    (host.name for host in hosts),
                    pool.map(lambda host: ask(host.address), hosts),
                    strict=True,
                )
            )
    except SickbayError as error:
        raise Misplaced(
            ("ssh", "config"), f"{error.where}: {error.what}" if error.where else error.what, error.advice
        ) from error

    def stranger(spot: Spot) -> tuple[Hop, str]:
        answer = ask(spot.address)
        port = spot.port or answer.port or 22
        hop = Hop(spot.address, answer.address, port, spot.user or answer.user, answer.access)
        # `Host *` with a ProxyJump is meant for all but the jump host itself
        itself = any(one.address == spot.address for one in spots(answer.jump or ""))
        return hop, "" if itself else answer.jump or ""

    return answers, stranger


def machines(name: str, section: HostSection) -> list[Host]:
    """Write out one entry of `hosts`: names and addresses go pairwise.

    Raises:
        Misplaced: when they do not fit together.

    """
    try:
        names = expand(name)
    except SickbayError as error:
        raise Misplaced((), error.what) from error
    for each in names:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", each):
            raise Misplaced((), f"`{each}` is not a host name: letters, digits, dots and dashes")
    addresses = names
    if section.address:
        addresses = [section.address]
        if "[" in section.address and not section.address.startswith("["):
            try:
                addresses = expand(section.address)
            except SickbayError as error:
                raise Misplaced(("address",), error.what) from error
    for written in (name, section.address):
        if not _ascending(written):
            at = () if written == name else ("address",)
            raise Misplaced(
                at, f"`{written}`: write the numbers in ascending order, so that names and addresses pair up"
            )
    if len(addresses) != len(names):
        raise Misplaced(("address",), f"{len(names)} hosts, but {len(addresses)} addresses")
    return [
        Host(
            each,
            address.strip("[]"),
            section.port,
            section.user,
            spread(section.vars, each),
            section.groups,
            access=Access(
                identity_files=section.identity_files,
                act_user=section.act.user,
                act_identity_files=section.act.identity_files or None,
                sudo=section.sudo,
            ),
        )
        for each, address in zip(names, addresses, strict=True)
    ]


def _ascending(pattern: str) -> bool:
    inside = re.findall(r"\[([^\]]*)\]", pattern)
    return all(
        (numbers := [int(n) for n in re.findall(r"[0-9]+", each)[:1000]]) == sorted(numbers)
        for each in inside
    )
