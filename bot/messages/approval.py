"""The question to people: who wants what done where, why, and until when; and the whole plan beside it.

The card is small, because Slack carries a whole message along with every click; its buttons hold the run's number and
the beginning of the plan's digest, nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby

from bot.fleet import folded, named
from bot.inventory import fold
from bot.messages.card import (
    Button,
    Buttons,
    Card,
    Confirm,
    Mention,
    Node,
    Note,
    Output,
    Text,
    Title,
    Words,
    plain,
)
from bot.messages.progress import RunView
from bot.messages.run import diagnosis_words, target
from bot.messages.short import cut, line
from bot.messages.words import join, name_words, say, text
from bot.people.permissions import Groups
from bot.runs.approval import Approval, Decision, Person
from bot.runs.plan import Entry, GuardLine, Plan
from bot.runs.run import Run
from bot.wording import count

DIGEST = 12
"""Letters of a plan's digest that people and buttons carry."""
_DEEDS = 2
_CALLED = 5


def approval_card(
    view: RunView,
    people: Mapping[str, Person] | None = None,
    now: datetime | None = None,
    groups: Groups | None = None,
) -> Card:
    """Show the question that a run asks, or how it was answered.

    `people`, and Slack user groups that give a role, may be called, where it is asked.
    """
    run, approval = view.run, view.approval
    if approval is None:
        raise ValueError(f"run {run.id} asks nobody")
    names = {"runbook": run.runbook.name, "hosts": target(view)}
    state = approval.state_at(now) if now is not None else approval.state
    headline = say(f"approval.title_{state}", **names)
    nodes: list[Node] = [Title(headline)]
    if state == "pending":
        if found := diagnosis_words(view, most=2):
            nodes.append(Text(say("approval.why", found=found)))
        nodes += [Text(words) for words in _without(run.plan)]
        nodes += [Text(words) for words in _deeds(run.plan)]
        if run.lowered:
            nodes.append(Text(text(run.lowered)))
        called = _called(approval, people or {}, groups or {})
        nodes.append(Text(say("approval.who", called=called, until=approval.expires_at)))
        nodes.append(Note(_asked_by(view, approval)))
        nodes.append(Buttons(_buttons(view, approval)))
    else:
        nodes.append(Text(_outcome(approval, without=bool(run.plan and run.plan.without))))
        nodes.append(Note(_asked_by(view, approval)))
    return Card(plain(headline), tuple(nodes), "busy" if state == "pending" else "plain")


def _asked_by(view: RunView, approval: Approval) -> Words:
    said = [decision for decision in approval.decisions if decision.answer == "approve"]
    parts = [
        say("approval.asked_by", name=approval.requester.name),
        say("run.number", id=view.run.id),
        say("approval.plan", digest=approval.digest[:DIGEST]),
    ]
    if approval.state == "pending" and (said or approval.rule.required > 1):
        names = _names(said)
        needed, roles = approval.needed, " or ".join(approval.rule.from_)
        given = {"given": len(said), "required": approval.rule.required, "names": names}
        parts.append(say("approval.so_far", needed=needed, roles=roles, **given))
    if approval.state != "void" and approval.note:
        parts.append(text(approval.note))
    return join(parts)


def _outcome(approval: Approval, *, without: bool) -> Words:
    last = approval.decisions[-1] if approval.decisions else None
    if approval.state == "void":
        return say("approval.void", note=approval.note)
    if last is None or approval.state == "pending":
        return say("approval.expired_without" if without else "approval.expired", at=approval.expires_at)
    if (glass := approval.glass) is not None:
        more = {"required": approval.rule.required, "reason": glass.glass, "at": glass.at}
        return say("approval.glass", by=_names([glass], bold=True), **more)
    names = _names([one for one in approval.decisions if one.answer == last.answer], bold=True)
    state = "denied_without" if without and approval.state == "denied" else approval.state
    return say(f"approval.{state}", names=names, at=last.at)


def _names(decisions: Sequence[Decision], *, bold: bool = False) -> Words:
    """Name who decided; whoever is known by their Slack id alone is mentioned, so that Slack shows their name."""
    return join([name_words(one.person, bold=bold) for one in decisions], ", ")


def _called(approval: Approval, people: Mapping[str, Person], groups: Groups) -> Words:
    """Mention those who may decide, a few of them; the requester only where the rule lets them."""
    may = [
        person
        for person in people.values()
        if set(person.roles) & set(approval.rule.from_)
        and (approval.rule.allow_requester or person.name != approval.requester.person)
        and all(decision.person != person.name for decision in approval.decisions)
    ]
    teams: list[Words] = [
        (Mention(group, group),) for group, roles in groups.items() if set(roles) & set(approval.rule.from_)
    ]
    if not may and not teams:
        return text(f"anybody with the role {' or '.join(approval.rule.from_)}")
    called: list[Words] = [(Mention(person.name, person.slack),) for person in may[:_CALLED]]
    if len(may) > _CALLED:
        called.append(text(f"{len(may) - _CALLED} more"))
    return join(called + teams, ", ")


def _deeds(plan: Plan | None) -> list[Words]:
    """Name what would be changed, a command each where they are few."""
    if plan is None:
        return []
    folded = [one for one in _alike(plan.entries) if one[0].mutating and one[0].decision != "skip"]
    main = [one for one in folded if one[0].section in ("steps", "verify")]
    if not main:
        return [say("approval.no_change")]
    if len(main) <= _DEEDS:
        return [_deed(entry, hosts) for entry, hosts in main]
    titles = ", ".join(line(entry.title, 60) for entry, _ in main[1:5])
    more = say("approval.more", titles=titles if len(main) <= 5 else f"{titles} …")
    return [_deed(*main[0]), more]


def _deed(entry: Entry, hosts: list[str]) -> Words:
    where = entry.on or named(hosts)
    command = line(entry.says or entry.text, 90)
    title = line(entry.title, 60)
    return say(
        "approval.deed",
        title=title if title != command else "",
        command=command,
        where=where,
        later=entry.decision == "later",
        note=line(entry.note, 80),
    )


def _without(plan: Plan | None) -> list[Words]:
    """Name the hosts whose evidence could not be had, and why."""
    said = folded(((host, "", why) for host, why in plan.without), most=4) if plan else None
    if said is None:
        return []
    lines = [
        say("approval.without", hosts=named(group.hosts), why=line(group.text, 200)) for group in said.groups
    ]
    return (
        [*lines, say("approval.without", hosts=named(said.rest), why="see the plan")] if said.rest else lines
    )


def _buttons(view: RunView, approval: Approval) -> tuple[Button, Button]:
    value = f"{view.run.id}:{approval.digest[:DIGEST]}"
    what = f"{view.run.runbook.name} on {cut(target(view), 120)}"
    approve = Confirm(f"Approve run {view.run.id}?", f"{what} begins at once.", "Approve")
    deny = Confirm(f"Deny run {view.run.id}?", f"{what} is not done; the run ends.", "Deny")
    return (
        Button("approve", "Approve", value, "primary", approve),
        Button("deny", "Deny", value, "danger", deny),
    )


def plan_card(plan: Plan, run_id: int | None = None) -> Card:
    """Show everything a plan would do."""
    number = f"run {run_id}" if run_id is not None else "this run"
    headline = say("approval.plan_title", runbook=plan.runbook, number=number, digest=plan.digest[:DIGEST])
    return Card(plain(headline), (Output(plan_text(plan), headline),))


def preview_card(run: Run, plan: Plan, guard: Sequence[GuardLine] = ()) -> Card:
    """Show what a run would do, and what the guard rails would say; nothing was done, and nobody is asked."""
    headline = say("approval.preview_title", runbook=plan.runbook, hosts=named(run.hosts))
    rule = run.runbook.approval
    phrase = "nothing" if run.runbook.kind == "observe" else run.mode
    asks = say(
        f"approval.preview_{phrase}",
        people=count(rule.required, "person").replace("persons", "people"),
        roles=" or ".join(rule.from_),
        timeout=rule.timeout,
    )
    told = [Text(text(run.lowered))] if run.lowered else []
    return Card(plain(headline), (Title(headline), Text(asks), *told, Output(plan_text(plan, guard))))


_NONE = "no evidence is kept (`evidence: none`), so nobody notices whether a host was booted after it was looked at"


def plan_text(plan: Plan, guard: Sequence[GuardLine] = ()) -> str:
    """Write a plan out: batch by batch in short, hosts alike together; then the long commands letter by letter."""
    lines = [f"without evidence of {host}: {why}" for host, why in plan.without]
    if plan.changes and all(entry.section != "evidence" for entry in plan.entries):
        lines.append(_NONE)
    if look := [entry for entry in plan.entries if entry.section == "look"]:
        everywhere = tuple(dict.fromkeys(entry.host for entry in look))
        lines.append(f"look, before anything is changed: {fold(everywhere)}")
        for entry, hosts in _alike(look):
            lines += [f"    {part}" for part in _entry_lines(entry, hosts, everywhere)]
    for number, batch in enumerate(plan.batches, 1):
        lines.append(f"batch {number} of {len(plan.batches)}: {fold(batch)}")
        entries = [entry for entry in plan.entries if entry.host in batch and entry.section != "look"]
        for section, group in groupby(entries, key=lambda entry: entry.section):
            lines.append(f"  {section}")
            for entry, hosts in _alike(group):
                lines += [f"    {part}" for part in _entry_lines(entry, hosts, batch)]
    if guard:
        lines += ["guard rails", *_guard_lines(guard)]
    long = [
        (entry, hosts) for entry, hosts in _alike(plan.entries) if entry.says and entry.decision != "skip"
    ]
    if long:
        lines += ["", "the long commands, letter by letter"]
    for entry, hosts in long:
        lines += ["", f"── {entry.title}: {entry.says}{_where(entry, hosts)}", *_command_lines(entry)]
    return "\n".join(lines)


def _guard_lines(guard: Sequence[GuardLine]) -> list[str]:
    """Write what the guard rails say, hosts alike together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in guard:
        alike.setdefault((one.answer, one.words), []).append(one.host)
    return [
        f"    {fold(hosts)}: {answer}" + (f", {words}" if words else "")
        for (answer, words), hosts in alike.items()
    ]


def _where(entry: Entry, hosts: list[str]) -> str:
    return f" on {entry.on or fold(hosts)}"


def _entry_lines(entry: Entry, hosts: list[str], batch: tuple[str, ...]) -> list[str]:
    where = f" on {entry.on}" if entry.on else "" if len(hosts) == len(batch) else f" on {fold(hosts)}"
    kind = "changes" if entry.mutating else "looks"
    if entry.decision == "skip":
        return [f"- {entry.title}{where}: skipped, {entry.note}"]
    tries = f", up to {count(entry.retries + 1, 'try').replace('trys', 'tries')}" if entry.retries else ""
    limit = f", at most {entry.timeout:g} s" if entry.timeout else ""
    lines = [f"- {entry.title}{where} ({kind}{limit}{tries})"]
    if entry.note:
        lines.append(f"    {entry.note}")
    lines += [f"    $ {entry.says}"] if entry.says else [f"    {part}" for part in _command_lines(entry)]
    return lines


def _command_lines(entry: Entry) -> list[str]:
    commands = [f"$ {command}" for command in entry.text.splitlines()]
    return commands + [f"  {name}={value!r}" for name, value in entry.env.items()]


def _alike(entries: Iterable[Entry]) -> list[tuple[Entry, list[str]]]:
    """Put entries together that differ only in their host."""
    groups: dict[tuple[object, ...], tuple[Entry, list[str]]] = {}
    for entry in entries:
        env = tuple(sorted(entry.env.items()))
        key = (entry.section, entry.step, entry.decision, entry.note, entry.on, entry.text, env)
        groups.setdefault(key, (entry, []))[1].append(entry.host)
    return list(groups.values())
