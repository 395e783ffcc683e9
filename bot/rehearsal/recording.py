"""`sickbay test record`: a case written from a run that really was, so that what a fleet once did is replayed for ever.

What hosts printed may hold secrets: everything goes through the mask before it is written, and what is written is
replayed first. A run whose replay is not the run is refused: it would be a test of something else.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from bot.atomic import replace
from bot.duration import write as duration
from bot.effect import Output
from bot.errors import SickbayError
from bot.incident import Event
from bot.inventory import Host, Inventory, fold
from bot.language.runbook import EVIDENCE
from bot.language.schema import read, validate
from bot.library import Loaded
from bot.messages import RunView, approval_card, run_card
from bot.program import ordered
from bot.rehearsal import SUFFIX, replay
from bot.rehearsal.case import Case
from bot.rehearsal.reading import answers, asked_about
from bot.rehearsal.script import Sent, boot
from bot.rehearsal.stage import Stage, scratch, words_of
from bot.runs.approval import Approval
from bot.runs.record import Record, apart
from bot.runs.run import Attempt, Run, Status

Masking = Callable[[str], str]
"""Takes the secrets out of a text."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """All that is kept of a run."""

    run: Run
    attempts: Sequence[Attempt]
    printed: Callable[[Attempt], tuple[Output, Output]]
    approval: Approval | None = None
    events: Sequence[Event] = ()
    """Its timeline."""

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Who answered and how (`approve`, `deny`), in the order in which it counted."""
        decided = (one.data for one in self.events if one.kind == "approval.decided")
        return [(str(data["by"]), str(data["answer"])) for data in decided]


def case_of(
    kept: Recorded, loaded: Loaded | None, inventory: Inventory, mask: Masking
) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of a case that goes as the run went; it has been played twice.

    Raises:
        SickbayError: when there can be no such case, saying why.

    """
    _refuse(kept, loaded)
    assert loaded is not None
    run = kept.run
    name = f"run {run.id} of {run.created_at:%Y-%m-%d}, {fold(run.hosts)}"
    data = {
        "given": _given(kept, inventory),
        "approve": [person for person, answer in kept.answers if answer == "approve"],
        "deny": next((person for person, answer in kept.answers if answer == "deny"), ""),
        "expect": _expected(kept),
    }
    data = {key: value for key, value in data.items() if value}
    data = _masked(data, mask)
    data["given"]["replies"] = list(_replies(kept, mask, {}))
    data["given"]["replies"] = list(_replies(kept, mask, _sent(data, loaded)))
    if problems := list(replay(read(_text(name, data), file=loaded.file), name, loaded)):
        told = "\n".join(re.sub(r"^.*?:\d+: ", "  ", problem) for problem in problems)
        if not any(output.total for one in kept.attempts for output in kept.printed(one)):
            raise SickbayError(
                f"nothing is kept of what the commands of run {run.id} printed, so it cannot be replayed:\n{told}",
                advice="record a newer run",
            )
        raise SickbayError(
            f"run {run.id} cannot be replayed as it went:\n{told}",
            advice="it depends on what no test can give, or on what was masked: write this case by hand",
        )
    return name, data


def append(file: Path, name: str, data: Mapping[str, Any]) -> None:
    """Write a case at the end of a test file, which is made if it is not there.

    Raises:
        SickbayError: when it cannot be written, or would no longer be a test file.

    """
    if not file.name.endswith(SUFFIX):
        raise SickbayError(
            "a test of a runbook is called NAME.test.yaml", where=str(file), advice="name it so"
        )
    try:
        before = file.read_text("utf-8") if file.exists() else ""
        if before.strip() and name in read(before, file=str(file)).data:
            raise SickbayError(
                f"`{name}` stands there already", where=str(file), advice="remove it, to record it anew"
            )
        text = f"{before.rstrip()}\n\n{_text(name, data)}" if before.strip() else _text(name, data)
        read(text, file=str(file))  # the whole has to stay within what a file may hold
        if file.exists():
            whole = file.resolve()
            replace(whole, text.encode(), whole.stat())
        else:
            file.write_text(text, "utf-8")
    except OSError as error:
        reason = error.strerror or error
        advice = "name another file with --output"
        raise SickbayError(f"cannot be written: {reason}", where=str(file), advice=advice) from error


def _refuse(kept: Recorded, loaded: Loaded | None) -> None:
    """Say why there can be no case of a run."""
    run = kept.run
    number = f"run {run.id}"
    if not run.state.ended:
        raise SickbayError(f"{number} has not ended: it is {run.state}", advice="record it when it has")
    if run.cancelled_by is not None:
        raise SickbayError(
            f"{number} was cancelled by {run.cancelled_by}, and when is not what a test can say",
            advice="record a run that went to its end",
        )
    if kept.approval is not None and (glass := kept.approval.glass) is not None:
        what = f"{glass.person} broke glass in {number}, and a test has the rule only"
        raise SickbayError(what, advice="record a run that was approved as its runbook says")
    if kept.approval is not None and kept.approval.state == "void":
        why = f"the plan of {number} did not hold: {kept.approval.note}"
        raise SickbayError(why, advice="record a run that went to its end")
    if loaded is None:
        raise SickbayError(
            f"there is no runbook `{run.runbook.name}` any more",
            advice="put its file back, or record a newer run",
        )
    if loaded.digest != run.runbook_digest:
        raise SickbayError(
            f"`{run.runbook.name}` has changed since {number}, so its replies answer another runbook",
            where=loaded.file,
            advice="run it again, and record that run",
        )
    for one in kept.attempts:
        if boot(one.step):
            continue  # a life of the run that was cut off may have asked, and the stage asks for itself
        what = f"step {one.step} on {one.host}"
        if not one.done:
            raise SickbayError(f"{number} ended inside {what}", advice="record a run that went to its end")
        if one.sent and any(output.cut for output in kept.printed(one)):
            raise SickbayError(
                f"of what {what} printed the middle was not kept, so it cannot be replayed",
                advice="let the command print less, and record a new run",
            )


def _given(kept: Recorded, inventory: Inventory) -> dict[str, Any]:
    run = kept.run
    machines = [_machine(run, name, inventory) for name in run.hosts]
    called = {text for host in machines for text in _texts(host.vars)}
    others = [host for name, host in inventory.hosts.items() if name in called and name not in run.hosts]
    labels = set((run.alert or {}).get("labels", {}).values())
    inputs = {name: value for name, value in run.inputs.items() if value != run.runbook.inputs[name].default}
    given: dict[str, Any] = {
        "hosts": {host.name: _host(host, labels) for host in (*machines, *others)},
        "on": fold(run.hosts),
        "alert": {key: dict(run.alert[key]) for key in ("labels", "annotations") if run.alert[key]}
        if run.alert
        else {},
        "inputs": inputs,
        "requester": "" if run.alert else run.requester.person or "",
        "mode": run.mode if run.mode != run.runbook.mode else "",
    }
    return {key: value for key, value in given.items() if value}


def _machine(run: Run, name: str, inventory: Inventory) -> Host:
    if name not in inventory.hosts:
        raise SickbayError(
            f"{name} is no longer in the inventory, so what run {run.id} knew of it is lost",
            advice="add it again under `hosts:`, or record a newer run",
        )
    return inventory.hosts[name]


def _host(host: Host, labels: set[str]) -> dict[str, Any]:
    """Write a host down; its address only where the alert calls it so."""
    named = any(host.address in label for label in labels)
    told = {
        "address": host.address if named else "",
        "vars": dict(host.vars),
        "groups": list(host.groups),
    }
    return {key: value for key, value in told.items() if value}


def _expected(kept: Recorded) -> dict[str, Any]:
    run, record = kept.run, Record(kept.attempts)
    steps = {
        host: {
            step.id: _word(record.last(step.id, host))
            for _, step in ordered(run.runbook)
            if not apart(step.id)
        }
        for host in run.hosts
    }
    entries = run.plan.entries if run.plan is not None else ()
    expect = {
        "state": str(run.state),
        "verdict": str(run.verdict or ""),
        "reason": run.reason,
        "approvals": _questions(kept),
        "messages": _messages(kept),
        "plan": [f"{one.host} {one.step}: {one.decision}" for one in entries if one.mutating],
        "steps": steps,
    }
    expect = {key: value for key, value in expect.items() if value}
    return {"approvals": 0, **expect} if run.runbook.kind == "mutate" else expect


def _questions(kept: Recorded) -> list[dict[str, str]]:
    """Write the questions down; what an earlier one than the last was about is kept nowhere."""
    asked = [{"answer": str(answer)} for answer in answers(kept.events)]
    if asked and (hosts := asked_about(kept.run)):
        asked[-1] = {"hosts": fold(hosts), **asked[-1]}
    return asked


def _messages(kept: Recorded) -> list[str]:
    """Return the headlines: what else a message says of a run has its number and its times in it."""
    view = RunView(kept.run, Record(kept.attempts), kept.approval)
    return [*([approval_card(view).summary] if kept.approval is not None else []), run_card(view).summary]


def _word(last: Attempt | None) -> str:
    """Return the word that says most: the verdict of what was done, else how it ended."""
    words = words_of(last)
    return words[-1] if last is None or last.status is Status.OK else words[0]


def _replies(kept: Recorded, mask: Masking, sent: Mapping[tuple[str, str], Sent]) -> Iterator[dict[str, Any]]:
    """Yield what hosts answered, each try after the one before it; what they said alike in a row is one reply."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    slow = sum((_took(one) for one in kept.attempts), timedelta()) < kept.run.runbook.timeout / 2
    for one in kept.attempts:
        told = boot(one.step) or (one.step == EVIDENCE and one.good)
        if one.status is Status.SKIPPED or not one.sent or told:
            continue  # of evidence that could be had the stage has its own
        reply = _reply(one, kept, sent.get((one.step, one.host)), slow=slow)
        answers = rows.setdefault((one.step, one.host), [])
        reply = _masked(reply, mask)
        if answers and {**answers[-1], "times": 1} == {**reply, "times": 1}:
            answers[-1]["times"] += 1
        else:
            answers.append({**reply, "times": 1})
    for answers in rows.values():
        answers[-1].pop("times")
        yield from answers


def _reply(one: Attempt, kept: Recorded, sent: Sent | None, *, slow: bool) -> dict[str, Any]:
    stdout, stderr = (output.text.replace("\0", "\\x00") for output in kept.printed(one))
    reply: dict[str, Any] = {"step": one.step}
    if len(kept.run.hosts) > 1:
        reply["host"] = one.host
    if sent is not None:
        first = sent.command.text.splitlines()[0]
        reply["match"] = f"^{re.escape(first[:60])}"
    if one.status is Status.UNREACHABLE:
        return {**reply, "unreachable": True}
    if one.status is Status.UNKNOWN:
        return {**reply, "lost": True}
    limit = timedelta(seconds=sent.command.timeout) if sent is not None else None
    late = one.exit_code is None and limit is not None and _took(one) >= limit
    took = limit + timedelta(seconds=1) if late and limit is not None else _took(one) if slow else timedelta()
    told = {
        "stdout": stdout,
        "stderr": stderr,
        "exit": (0 if late else 137) if one.exit_code is None else one.exit_code,
        "delay": duration(took) if took >= timedelta(seconds=1) else "",
    }
    return reply | {key: value for key, value in told.items() if value}


def _took(one: Attempt) -> timedelta:
    """Return how long a try took, in whole tenths of a second."""
    took = (one.ended_at or one.begun_at) - one.begun_at
    return timedelta(milliseconds=took // timedelta(milliseconds=100) * 100)


def _sent(data: Mapping[str, Any], loaded: Loaded) -> dict[tuple[str, str], Sent]:
    """Play a case once, to see its commands."""
    case = validate(Case, read(_text("it", data), file=loaded.file), ("it",))
    with scratch() as folder:
        played = Stage(case, loaded, Path(folder)).played()
    return {(sent.step, sent.host): sent for sent in played.sent}


def _masked(value: Any, mask: Masking) -> Any:
    """Return plain data with every text of it masked; keys are names of ours and of people, and stay."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(one, mask) for key, one in value.items()}
    return [_masked(one, mask) for one in value] if isinstance(value, list | tuple) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        inside: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
        for one in inside:
            yield from _texts(one)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as people would."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - every value is written out
        return True


def _written(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _written)


def _text(name: str, data: Mapping[str, Any]) -> str:
    return yaml.dump(
        {name: data},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100_000,
        default_flow_style=False,
    )
