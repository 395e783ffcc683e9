"""From sickbay.yaml to a checked configuration: found, read, and held against the runbooks.

Secrets come from the environment only, so that the file can be shown, shared and kept in a repository; a token found in
it is refused without being repeated. Paths are read from where the file lies.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bot.config.haproxy_section import KEY, HaproxySection
from bot.config.settings import SHIPPED, ActSection, Config, HostSection, SshSection, machines
from bot.config.tokens import Secrets
from bot.errors import Misplaced, SickbayError
from bot.errors import Path as Path_
from bot.exposure import written
from bot.language import template
from bot.language.runbook import MODES, Runbook
from bot.language.schedule import Cron, Schedule
from bot.language.schema import Document, Invalid, Mistake, attempt, validate
from bot.language.trigger import NO_SCHEDULE
from bot.library import Loaded, runbook_files
from bot.route import Route
from bot.shipped import shipped
from bot.wording import near

__all__ = [
    "Config",
    "Secrets",
    "SshSection",
    "check_routes",
    "find_config",
    "load",
    "no_runbook",
    "schedules",
]


def load(path: Path, environ: Mapping[str, str]) -> tuple[Config, Document]:
    """Read a configuration.

    Raises:
        Invalid: with every mistake at its line.
        SickbayError: when the file cannot be read.

    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SickbayError(
            f"cannot be read: {error.strerror or error}", where=str(path), advice="check the path"
        ) from error
    document, mistakes = attempt(text, file=str(path))
    if document is None:
        raise Invalid(mistakes)
    tokens = list(written(document))
    if tokens:
        raise Invalid(tokens)  # alone, because any other mistake might show the token
    mistakes += _cross(document)
    try:
        config = validate(Config, document)
    except Invalid as error:
        raise Invalid([*mistakes, *error.mistakes]) from error
    if mistakes:
        raise Invalid(mistakes)
    config = _anchored(config, path.resolve().parent, _home(environ))
    try:
        inventory = config.inventory
        _ = config.rights
    except Misplaced as error:
        raise Invalid([document.mistake(error.path, str(error), error.advice)]) from error
    for index, window in enumerate(config.maintenance):
        try:
            inventory.select(window.hosts)
        except SickbayError as error:
            mistakes.append(document.mistake(("maintenance", index, "hosts"), error.what, error.advice))
    if mistakes:
        raise Invalid(mistakes)
    return config, document


def _anchored(config: Config, folder: Path, home: Path) -> Config:
    """Read relative paths from where the file lies, and `~` as the environment says."""

    def place(path: Path) -> Path:
        return home / path.relative_to("~") if path.parts[:1] == ("~",) else folder / path

    def files(paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(map(place, paths))

    def act(section: ActSection) -> ActSection:
        return section.model_copy(update={"identity_files": files(section.identity_files)})

    def host(section: HostSection) -> HostSection:
        own = None if section.identity_files is None else files(section.identity_files)
        return section.model_copy(update={"identity_files": own, "act": act(section.act)})

    ssh = config.ssh.model_copy(
        update={
            "known_hosts": place(config.ssh.known_hosts),
            "identity_files": files(config.ssh.identity_files),
            "act": act(config.ssh.act),
            "config": None if config.ssh.config is None else place(config.ssh.config),
        }
    )
    hosts = {name: host(section) for name, section in config.hosts.items()}
    store = config.store.model_copy(update={"path": place(config.store.path)})
    secrets = {
        name: one if one.file is None else one.model_copy(update={"file": place(one.file)})
        for name, one in config.secrets.items()
    }
    return config.model_copy(
        update={
            "store": store,
            "runbooks": tuple(one if one == SHIPPED else place(one) for one in config.runbooks),
            "ssh": ssh,
            "hosts": hosts,
            "secrets": secrets,
        }
    )


def _cross(document: Document) -> list[Mistake]:
    """Check what several entries say together: hosts and people given twice, routes that never come into play."""
    data = document.data if isinstance(document.data, dict) else {}
    return [
        *_hosts(document, data.get("hosts")),
        *_people(document, data.get("people")),
        *_shadowed(document, data.get("routes")),
    ]


def _hosts(document: Document, hosts: Any) -> Iterator[Mistake]:
    names: dict[str, int] = {}
    addresses: dict[tuple[str, int, str | None], str] = {}
    for key in hosts if isinstance(hosts, dict) else ():
        path = ("hosts", key)
        try:
            section = validate(HostSection, document, path)
        except Invalid:
            continue  # told with the whole
        try:
            found = machines(key, section)
        except Misplaced as error:
            yield document.mistake((*path, *error.path), str(error))
            continue
        yield from _balanced(document, (*path, "vars", KEY), section, len(found))
        for host in found:
            if host.name in names:
                yield document.mistake(
                    path, f"host {host.name} is given twice", f"first on line {names[host.name]}"
                )
                break
            names[host.name] = document.line(path)
            place = (host.address, host.port, section.proxy_jump)  # private networks repeat addresses
            if place in addresses:
                what = f"{host.name} has the address of {addresses[place]}: {host.address}:{host.port}"
                yield document.mistake((*path, "address"), what, "one machine is one host")
                break
            addresses[place] = host.name


def _balanced(document: Document, path: Path_, section: HostSection, many: int) -> Iterator[Mistake]:
    """Could these hosts be taken out of traffic as it is written down?"""
    if KEY not in section.vars:
        return
    try:
        given = validate(HaproxySection, document, path)
    except Invalid as error:
        yield from error.mistakes
        return
    if given.server and many > 1:
        what = f"{many} hosts cannot all be the server {given.server}"
        backend = given.server.partition("/")[0]
        hint = f"write `backend: {backend}`: each is then the server of its own name there"
        yield document.mistake((*path, "server"), what, hint)


def _people(document: Document, people: Any) -> Iterator[Mistake]:
    known: dict[str, str] = {}
    logins: dict[str, str] = {}
    for name, person in people.items() if isinstance(people, dict) else ():
        login = person.get("login") if isinstance(person, dict) else None
        for one in login if isinstance(login, list) else [login or name]:
            if isinstance(one, str) and one in logins:
                path = ("people", name, "login") if login else ("people", name)
                what = f"{one} is the login of {logins[one]} already"
                yield document.mistake(path, what, "one login is one person")
            logins.setdefault(str(one), name)
        member = person.get("slack") if isinstance(person, dict) else None
        if isinstance(member, str) and member:
            if member in known:
                yield document.mistake(
                    ("people", name, "slack"), f"{member} is {known[member]} already", "one id is one person"
                )
            known.setdefault(member, name)


def _shadowed(document: Document, routes: Any) -> Iterator[Mistake]:
    routes = routes if isinstance(routes, list) else []
    for index, route in enumerate(routes[:-1]):
        if isinstance(route, dict) and not route.get("match"):
            yield document.mistake(
                ("routes", index),
                "this route takes every alert, so the routes below are never reached",
                "move it to the end",
            )


def find_config(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Find the configuration: the one named, else the first of the usual places.

    Raises:
        SickbayError: when there is none; it lists the places.

    """
    if explicit is not None or environ.get("SICKBAY_CONFIG"):
        named = explicit or Path(environ["SICKBAY_CONFIG"]).expanduser()
        if named.is_file():
            return named
        by = "--config" if explicit else "SICKBAY_CONFIG"
        raise SickbayError(f"there is no file {named}", where=by, advice="name a sickbay.yaml that exists")
    settings = Path(environ.get("XDG_CONFIG_HOME") or _home(environ) / ".config")
    places = [cwd / "sickbay.yaml", settings / "sickbay" / "sickbay.yaml"]
    for place in places:
        if place.is_file():
            return place
    looked = "".join(f"\n    {place}" for place in places)
    raise SickbayError(
        f"there is no configuration; looked at --config, $SICKBAY_CONFIG and{looked}",
        advice="`sickbay init` writes one to begin with; `sickbay demo` shows everything without",
    )


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def check_routes(config: Config, document: Document, library: Mapping[str, Loaded]) -> list[Mistake]:
    """Return every route, and every runbook of `check`, that could not do what it says."""
    mistakes: list[Mistake] = []
    for index, route in enumerate(config.routes):
        mistakes += _route(config, document, library, route, ("routes", index))
    if "check" in config.model_fields_set:
        for index, name in enumerate(config.check):
            if name not in library:
                mistakes.append(document.mistake(("check", index), *no_runbook(name, library, config)))
            elif library[name].runbook.kind != "observe":
                what = f"`{name}` changes hosts, and a check only looks"
                mistakes.append(
                    document.mistake(("check", index), what, "name runbooks with `kind: observe`")
                )
    return [*mistakes, *_scheduled(config, document, library)]


def schedules(config: Config, library: Mapping[str, Loaded]) -> list[Schedule]:
    """Return what is run by the clock: by the runbooks' own triggers, or as sickbay.yaml says instead."""
    section = config.schedules
    zone = ZoneInfo(section.timezone)
    found = []
    for name, loaded in library.items():
        given = section.runbooks.get(name)
        hosts = given.hosts if given else ""
        said = given.schedule if given else None
        expressions = loaded.runbook.schedules if said is None else (said,)
        found += [
            Schedule(name, Cron(expression, zone), hosts, said is None)
            for expression in dict.fromkeys(expressions)
        ]
    return found


def _scheduled(config: Config, document: Document, library: Mapping[str, Loaded]) -> Iterator[Mistake]:
    """Could the clock start what `schedules:` names?"""
    for name, given in config.schedules.runbooks.items():
        path = ("schedules", "runbooks", name)
        if name not in library:
            yield document.mistake(path, *no_runbook(name, library, config))
            continue
        book = library[name].runbook
        if book.kind != "observe":
            yield document.mistake(path, *NO_SCHEDULE)
        if given.schedule is None and not book.schedules:
            what = f"`{name}` has no schedule of its own"
            yield document.mistake(path, what, 'write when: schedule: "*/10 * * * *"')
        try:
            book.fill({})
        except SickbayError as error:
            yield document.mistake(path, f"{error.what}, and nobody is there to give it", "give it a default")
        if "{{" in (given.hosts or book.hosts):
            what = "a schedule has no alert to take the host from"
            yield document.mistake(path, what, "write `hosts:` with a host set")
        elif given.hosts:
            try:
                config.inventory.select(given.hosts)
            except SickbayError as error:
                yield document.mistake((*path, "hosts"), error.what, error.advice)


def _route(
    config: Config, document: Document, library: Mapping[str, Loaded], route: Route, path: tuple[str, int]
) -> Iterator[Mistake]:
    if route.runbook is not None and route.runbook not in library:
        yield document.mistake((*path, "runbook"), *no_runbook(route.runbook, library, config))
    elif route.runbook is not None:
        for key, what, hint in _started(route, library[route.runbook].runbook):
            yield document.mistake((*path, key), what, hint)
    elif route.inputs:
        yield document.mistake(
            (*path, "inputs"), "`inputs` without `runbook`", "name the runbook they are for"
        )
    if route.hosts:
        try:
            for name in sorted(_read(route.hosts)):
                if name.split(".")[0] != "alert":
                    yield document.mistake(
                        (*path, "hosts"), f"unknown name `{name}`", "only `alert` is known here"
                    )
            if "{{" not in route.hosts:
                config.inventory.select(route.hosts)
        except SickbayError as error:
            yield document.mistake((*path, "hosts"), error.what, error.advice)


def _started(route: Route, book: Runbook) -> Iterator[tuple[str, str, str]]:
    """Can an alert start this runbook as the route says?"""
    if not any(trigger.alert for trigger in book.triggers):
        yield "runbook", f"`{book.name}` is not started by alerts", "give it a trigger `alert: {match: …}`"
    if "mode" in route.model_fields_set and MODES.index(route.mode) > MODES.index(book.mode):
        yield (
            "mode",
            f"`{book.name}` has the mode `{book.mode}`, and a route may only lower it",
            "change the runbook",
        )
    try:
        book.fill(route.inputs)
    except SickbayError as error:
        yield "inputs", error.what, error.advice


def no_runbook(name: str, library: Mapping[str, Loaded], config: Config) -> tuple[str, str]:
    """Say that there is none of this name, and what was probably meant."""
    if SHIPPED not in config.runbooks and name in {file.stem for file in runbook_files(shipped("runbooks"))}:
        own = ", ".join(str(folder) for folder in config.runbooks if folder != SHIPPED)
        hint = f"it comes with Sickbay, but `runbooks:` names other folders only: write [shipped, {own}]"
        return f"there is no runbook `{name}`", hint
    hint = near(name, library) or f"there is: {', '.join(sorted(library)) or 'none'}"
    return f"there is no runbook `{name}`", hint


def _read(hosts: str) -> set[str]:
    return {name for piece in template.pieces(hosts) if piece.is_value for name in template.names(piece.text)}
