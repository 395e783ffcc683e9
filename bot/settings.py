"""The sections of sickbay.yaml, and the secrets that come from the environment instead.

Every limit has a safe default, so that a file needs hosts and little else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator

from bot.approval import Person
from bot.errors import Misplaced, SickbayError
from bot.inventory import Access, Host, Inventory, expand
from bot.jump import Ways
from bot.route import Channel, Route
from bot.runbook import Name, Noun
from bot.shipped import shipped

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")]
GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Bytes = Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class SlackSection(Noun):
    """How Slack is reached, and where incidents are shown."""

    channel: Channel = Field("oncall", description="where incidents without a route's own channel are shown")
    transport: Literal["socket", "http"] = Field(
        "socket", description="http needs a public address and SLACK_SIGNING_SECRET"
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
    proxy_jump: str = Field("", description="jump hosts on the way to every host, as ProxyJump has them")
    connect_timeout: Seconds = Field(5.0, description="seconds for name lookup and TCP, each")
    login_timeout: Seconds = Field(15.0, description="seconds for key exchange and login together")
    idle_close: Seconds = Field(600.0, description="seconds a connection is kept with nothing to do")
    max_connecting: int = Field(32, ge=1, le=512, description="logins at once, over all hosts")


class HostSection(Noun):
    """A host, or a host set whose addresses are written as a set of the same size."""

    address: str = Field("", pattern=r"^\S*$", description="empty: the name")
    port: int = Field(22, ge=1, le=65_535)
    user: str | None = Field(None, min_length=1)
    identity_files: tuple[Path, ...] | None = Field(None, description="instead of those under `ssh:`")
    act: ActSection = Field(ActSection(), description="instead of `ssh: {act: …}`")
    proxy_jump: str | None = Field(None, description="instead of the one under `ssh:`; none: straight")
    groups: tuple[GroupName, ...] = ()
    vars: dict[str, Any] = Field({}, description="read as host.vars.<name> in runbooks")


class PersonSection(Noun):
    """Somebody who may ask and approve."""

    slack: str = Field("", pattern=r"^([UW][A-Z0-9]{2,20})?$", description="Slack member id, such as U0ALICE")
    roles: tuple[GroupName, ...] = ()


class Config(Noun):
    """A whole sickbay.yaml."""

    slack: SlackSection = SlackSection()
    web: WebSection = WebSection()
    alerts: AlertsSection = AlertsSection()
    store: StoreSection = StoreSection()
    runbooks: tuple[Path, ...] = Field(
        (shipped("runbooks"),), description="folders; default: the shipped ones"
    )
    ssh: SshSection = SshSection()
    hosts: dict[str, HostSection] = Field({}, description="by name or host set, such as gpu-[01-08]")
    people: dict[HostName, PersonSection] = Field({}, description="by name")
    check: tuple[Name, ...] = Field(
        ("gpu-check", "serving-check"), description="runbooks that `sickbay check` runs"
    )
    routes: tuple[Route, ...] = ()

    @property
    def runbook_folders(self) -> tuple[Path, ...]:
        """Where runbooks are read from."""
        return self.runbooks

    @property
    def store_path(self) -> Path:
        """The database file."""
        return self.store.path

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
        own = {
            name: section.proxy_jump
            for name, (_, section, _) in entries.items()
            if section.proxy_jump is not None
        }
        ways = Ways({name: host for name, (_, _, host) in entries.items()}, own, self.ssh.proxy_jump)
        hosts = []
        for name, (entry, _, host) in entries.items():
            try:
                hosts.append(replace(host, jump=ways.to(name)))
            except SickbayError as error:
                at = ("hosts", entry, "proxy_jump") if name in own else ("ssh", "proxy_jump")
                raise Misplaced(at, error.what, error.advice) from error
        return Inventory(hosts)

    @cached_property
    def persons(self) -> dict[str, Person]:
        """Everybody, by name."""
        return {name: Person(name, one.slack, one.roles) for name, one in self.people.items()}


@dataclass(frozen=True, slots=True)
class Secrets:
    """What comes from the environment; prints as asterisks."""

    slack_bot_token: SecretStr | None = None
    slack_app_token: SecretStr | None = None
    slack_signing_secret: SecretStr | None = None
    alertmanager: SecretStr | None = None

    @classmethod
    def read(cls, config: Config, environ: Mapping[str, str]) -> Self:
        """Take the secrets; an empty variable is one that is not set."""

        def secret(name: str) -> SecretStr | None:
            text = environ.get(name, "").strip()
            return SecretStr(text) if text else None

        return cls(
            secret("SLACK_BOT_TOKEN"),
            secret("SLACK_APP_TOKEN"),
            secret("SLACK_SIGNING_SECRET"),
            secret(config.alerts.alertmanager.secret_env),
        )

    def values(self) -> list[str]:
        """Return what must never be shown, for the mask."""
        held = (getattr(self, field.name) for field in fields(self))
        return [secret.get_secret_value() for secret in held if secret is not None]


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
            section.vars,
            section.groups,
            access=Access(
                identity_files=section.identity_files,
                act_user=section.act.user,
                act_identity_files=section.act.identity_files or None,
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
