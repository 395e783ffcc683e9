"""The parts of Sickbay, read from a configuration and put together; nothing is started yet.

Apart from `app`, so that whoever needs no doors (the command line at its desk) does not wait for Slack and web to load.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from bot.commands.verbs import Commands
from bot.config.config import Config, Secrets, check_routes, schedules
from bot.delivery import Delivery
from bot.dispatch import Dispatch
from bot.effect import Remote
from bot.engine.balancers import Balancers
from bot.engine.engine import Engine
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.engine.rounds import Rounds
from bot.engine.vault import Furnished, Vault, read_secrets
from bot.exposure import exposed
from bot.facts.registry import PARSERS
from bot.guard.decision import Settings
from bot.inventory import Inventory
from bot.language.schema import Document, Invalid
from bot.library import Loaded, digest_in, load_library
from bot.roster import RosterFile
from bot.secrets.mask import Mask
from bot.ssh import Ssh
from bot.ssh.settings import SshSettings
from bot.steps import KINDS
from bot.store import Store
from bot.store.database import Clock, utc_now
from bot.timetable import Rules, Timetable


def read_library(
    config: Config,
    document: Document,
    mask: Mask | None = None,
    told: Callable[[Invalid], None] | None = None,
) -> dict[str, Loaded]:
    """Read the runbooks, and hold the configuration against them.

    Whoever is `told` of mistakes in runbooks goes on with those that have none: a slip in one of them must not keep
    anybody from deciding about another.

    Raises:
        SickbayError: with every mistake of the configuration, and of the runbooks where nobody is told.

    """
    library, mistakes = load_library(
        config.runbook_folders,
        kinds=KINDS,
        parsers=PARSERS,
        inventory=config.inventory,
        secrets=config.secrets,
    )
    if mistakes and told is None:
        raise Invalid(mistakes)
    if mask is not None and (found := exposed(document, library, mask)):
        raise Invalid(found)
    if mistakes and told is not None:
        told(Invalid(mistakes))  # a route may lead to one of these: routes are checked when all are whole
    elif found := check_routes(config, document, library):
        raise Invalid(found)
    return library


def way(config: Config) -> Ssh:
    """Return the way to the hosts; it connects when it is used."""
    return Ssh(SshSettings(**config.ssh.model_dump(exclude={"config", "proxy_jump"})))


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything that is read before anything is started: no thread, no connection yet but the database."""

    config: Config
    config_sha256: str
    """Over the bytes of the file that it was read from."""
    secrets: Secrets
    vault: Vault
    mask: Mask
    """Takes the secrets out of everything that leaves."""
    inventory: Inventory
    library: Mapping[str, Loaded]
    store: Store
    planner: Planner
    rails: Rails
    commands: Commands

    @classmethod
    def of(
        cls,
        config: Config,
        document: Document,
        environ: Mapping[str, str],
        clock: Clock = utc_now,
        told: Callable[[Invalid], None] | None = None,
    ) -> Self:
        """Read runbooks and open the store; `told` as in `read_library`.

        Raises:
            SickbayError: with every mistake in the configuration and in the runbooks.

        """
        inventory = config.inventory
        secrets, vault, mask = read_secrets(config, environ)
        library = read_library(config, document, mask, told)
        store = Store(config.store_path, clock, mask=mask)
        planner = Planner(KINDS, inventory, partial(digest_in, library))
        breaker = config.breaker
        numbers = Settings(hosts=breaker.hosts, within=breaker.within, level=breaker.level)
        rails = Rails(store, planner, numbers, config.windows)
        commands = Commands(
            store,
            inventory,
            library,
            config.persons,
            rights=config.rights,
            groups=config.slack.usergroups,
            read=RosterFile(Path(document.file), environ, config, document.sha256),
            planner=planner,
            rails=rails,
            successes=config.autonomy.successes,
            check=config.check,
            channel=config.slack.channel,
            schedules=schedules(config, library),
        )
        return cls(
            config=config,
            config_sha256=document.sha256,
            secrets=secrets,
            vault=vault,
            mask=mask,
            inventory=inventory,
            library=library,
            store=store,
            planner=planner,
            rails=rails,
            commands=commands,
        )

    def remote(self) -> Remote:
        """Return the way to the hosts; whoever goes it has all secrets, because what is unknown cannot be masked.

        Raises:
            SickbayError: when a secret cannot be had.

        """
        self.vault.complete()
        return Furnished(way(self.config), self.vault)

    def delivery(self, remote: Remote, *, dispatching: bool = True) -> Delivery:
        """Return what advances runs and, for a server, turns alerts and times into them."""
        dispatch = Dispatch(
            self.store,
            self.inventory,
            self.library,
            self.config.routes,
            self.config.slack.channel,
            self.config.windows,
        )
        successes = self.config.autonomy.successes
        engine = Engine(self.store, self.planner, remote, successes=successes, rails=self.rails)
        rounds = Rounds(self.store, Balancers(self.inventory, remote))
        if not dispatching:
            return Delivery(self.store, engine, rounds=rounds)
        rules = Rules(self.config.schedules.jitter, self.config.schedules.missed)
        due = schedules(self.config, self.library)
        timetable = Timetable(self.store, self.inventory, self.library, due, rules, self.config.windows)
        return Delivery(self.store, engine, dispatch.turn, timetable=timetable, rounds=rounds)
