"""Answers to people who look: help, hosts, runbooks, incidents, runs; and refusals."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from bot.errors import SickbayError
from bot.fleet import named
from bot.incident import Incident
from bot.inventory import Host, fold
from bot.language.runbook import Runbook
from bot.messages.card import Card, Facts, Node, Note, Plain, Table, Text, Title, Words, plain
from bot.messages.short import line
from bot.messages.words import say, text
from bot.runs.run import Run
from bot.wording import count

ROWS = 50
_FOLD_FROM = 20
_RUNBOOK_COLUMNS = ("Runbook", "Kind", "Mode", "Started by", "What for", "Inputs")


def help_card(usages: Sequence[tuple[str, str]]) -> Card:
    """List what people can say, as (usage, what it does)."""
    pairs = tuple((usage, text(says)) for usage, says in usages)
    nodes: tuple[Node, ...] = (
        Title(say("listing.help")),
        Facts(pairs),
        Note(say("listing.help_hosts")),
    )
    return Card(plain(say("listing.help")), nodes)


def host_table(hosts: Sequence[Host], notes: Mapping[str, str] | None = None, standstill: str = "") -> Card:
    """List hosts; many hosts of the same groups are one row.

    `notes` say what keeps changes from a host, `standstill` what keeps automation from all of them.
    """
    if len(hosts) <= _FOLD_FROM:
        columns: tuple[str, ...] = ("Host", "Address", "Groups", "Facts")
        rows = [(host.name, host.address, _groups(host.groups), _vars(host)) for host in hosts]
    else:
        columns = ("Hosts", "Groups", "Facts", "Number")
        alike: dict[tuple[str, str], list[str]] = {}
        for host in hosts:
            alike.setdefault((_groups(host.groups), _vars(host)), []).append(host.name)
        rows = [(fold(names), *what, str(len(names))) for what, names in alike.items()]
    card = _table(count(len(hosts), "host"), columns, rows)
    alike_notes: dict[str, list[str]] = {}
    for host_name, why in (notes or {}).items():
        alike_notes.setdefault(why, []).append(host_name)
    told = [say("listing.stopped", why=standstill)] if standstill else []
    told += [say("listing.held", hosts=named(names), why=why) for why, names in alike_notes.items()]
    return replace(card, nodes=(*card.nodes, *(Text(words) for words in told)))


def _groups(groups: Iterable[str]) -> str:
    return " ".join(f"@{group}" for group in groups) or "–"


def _vars(host: Host) -> str:
    plainly = [f"{name}={value}" for name, value in host.vars.items() if not isinstance(value, dict | list)]
    balanced = host.vars.get("haproxy")
    if isinstance(balanced, Mapping) and "server" in balanced:  # hosts that can be drained
        plainly.append(f"haproxy={str(balanced['server']).removesuffix(f'/{host.name}')}")
    return line(" ".join(plainly), 80) or "–"


def runbook_table(books: Sequence[Runbook], modes: Mapping[str, str], timed: Collection[str] = ()) -> Card:
    """List runbooks; `modes` by name, of those that change something, and `timed` those that the clock starts."""
    rows = [
        (
            book.name,
            "looks" if book.kind == "observe" else "changes",
            modes.get(book.name, "–"),
            _starters(book, timed=book.name in timed),
            line(book.description, 120),
            _inputs(book),
        )
        for book in books
    ]
    return _table(count(len(books), "runbook"), _RUNBOOK_COLUMNS, rows)


def _starters(book: Runbook, *, timed: bool) -> str:
    """Name who starts a runbook; `only` where people may not."""
    alerts = any(trigger.alert is not None for trigger in book.triggers)
    others = ", ".join([*(["alerts"] if alerts else []), *(["the clock"] if timed else [])])
    if book.by_command:
        return f"people, {others}" if others else "people"
    return f"only {others}" if others else "nobody"


def _inputs(book: Runbook) -> str:
    return (
        " ".join(f"{name}=…" if one.required else f"[{name}=…]" for name, one in book.inputs.items()) or "–"
    )


def incident_table(incidents: Sequence[Incident]) -> Card:
    """List incidents, newest first."""
    rows = [
        (
            str(one.id),
            "recovered" if one.recovered_by and one.resolved_at is None else str(one.state),
            one.severity or "–",
            line(one.title, 100),
            one.host or "–",
            f"{one.opened_at:%m-%d %H:%M}",
        )
        for one in incidents
    ]
    columns = ("Incident", "State", "Severity", "What", "Host", "Since (UTC)")
    return _table(count(len(incidents), "incident"), columns, rows)


def run_table(runs: Sequence[Run]) -> Card:
    """List runs, newest first."""
    rows = [
        (
            str(run.id),
            str(run.state),
            str(run.verdict or "–"),
            run.runbook.name,
            named(run.hosts, 60),
            run.requester.name,
            f"{run.created_at:%m-%d %H:%M}",
        )
        for run in runs
    ]
    columns = ("Run", "State", "Verdict", "Runbook", "Hosts", "By", "At (UTC)")
    return _table(count(len(runs), "run"), columns, rows)


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Card:
    nodes: list[Node] = [Title(text(title, bold=True))]
    if rows:
        nodes.append(Table(columns, tuple(rows[:ROWS])))
    if len(rows) > ROWS:
        nodes.append(Note(say("listing.more", shown=ROWS, rows=len(rows))))
    return Card(title, tuple(nodes))


def refusal_card(error: SickbayError) -> Card:
    """Say why something was not done, and what to do instead."""
    what = f"{error.where}: {error.what}" if error.where else error.what
    return refusal(what, error.advice)


def refusal(what: str, advice: str = "") -> Card:
    """Say no, why, and what to do instead."""
    nodes: list[Node] = [Text((Plain("🚫 "), *text(what)))]
    if advice:
        nodes.append(Note(say("listing.advice", advice=advice)))
    return Card(what, tuple(nodes), "unknown")


def notice(words: Words, warnings: Sequence[str] = ()) -> Card:
    """Say one thing, and what to beware of."""
    told = tuple(Text(say("listing.warning", why=why)) for why in dict.fromkeys(warnings))
    return Card(plain(words), (Text(words), *told))


def mishap_card(reference: str) -> Card:
    """Say that something went wrong inside Sickbay; `reference` finds it in the log."""
    return notice(say("listing.mishap", reference=reference))
