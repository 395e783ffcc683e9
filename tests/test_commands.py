"""The desk: one grammar for Slack and the terminal, and who may say what."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bot.cli.terminal import render
from bot.commands.grammar import (
    Cancel,
    Check,
    Command,
    Decide,
    FreezeHosts,
    Help,
    ListHosts,
    ListRunbooks,
    ListSchedules,
    Look,
    Misunderstood,
    Preview,
    ResetBreaker,
    Start,
    Thaw,
    parse,
    usages,
)
from bot.commands.typed import undecorated
from bot.commands.verbs import Asker, Commands, Reply
from bot.engine.balancers import Balancers
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.errors import SickbayError
from bot.guard.decision import Settings, Want
from bot.guard.drain import Turn
from bot.guard.maintenance import Window, Windows
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from bot.language.schedule import Cron, Schedule
from bot.library import Loaded
from bot.messages import Card
from bot.messages.card import Link, Output, Plain, Table, Text, Time
from bot.runs.approval import Person
from bot.runs.plan import GuardLine, Plan
from bot.runs.run import Requester, Run, RunState, Status
from bot.steps import KINDS
from bot.verdict import Verdict
from tests.parts.books import book
from tests.parts.script import REFUSED, Script, done
from tests.parts.states import ALICE, BEGIN, BOB, CHECK, LIBRARY, PEOPLE, Scene, inventory

ON_CALL = Asker("alice", ALICE, "slack", "C0ONCALL")
STRANGER = Asker("mallory", None, "slack", "C0ONCALL")
IN_TERMINAL = Asker("alice", ALICE)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene.at(tmp_path)
    yield found
    found.store.close()


def desk(scene: Scene, **more: Loaded) -> Commands:
    return Commands(scene.store, inventory(), LIBRARY | more, PEOPLE, check=("gpu-check",), channel="oncall")


@pytest.fixture
def commands(scene: Scene) -> Commands:
    return desk(scene)


def said(reply: Reply, width: int = 100) -> str:
    """Return a reply as it stands in the terminal."""
    console = Console(width=width, no_color=True)
    with console.capture() as shown:
        console.print(render(reply.card))
    return shown.get()


# ── grammar ──
@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("", Help()),
        ("help me please", Help()),
        ("check gpu-03", Check("gpu-03")),
        ("check gpu-03 gpu-04", Check("gpu-03,gpu-04")),
        ("CHECK @serving!gpu-03", Check("@serving!gpu-03")),
        ("run gpu-check @serving", Start("gpu-check", "@serving")),
        ("run gpu-check gpu-03 gpus=4", Start("gpu-check", "gpu-03", {"gpus": "4"})),
        ('run x gpu-03 note="two words" empty=', Start("x", "gpu-03", {"note": "two words", "empty": ""})),
        ("run x note=a=b gpu-03", Start("x", "gpu-03", {"note": "a=b"})),
        ("plan gpu-check gpu-03 gpus=4", Preview("gpu-check", "gpu-03", {"gpus": "4"})),
        ("hosts", ListHosts()),
        ("hosts @serving", ListHosts("@serving")),
        ("runbooks", ListRunbooks()),
        ("schedules", ListSchedules()),
        ("incidents", Look("incidents")),
        ("incidents #7", Look("incidents", 7)),
        ("runs 12", Look("runs", 12)),
        ("approve 12", Decide(12, "approve")),
        ("approve 12 break-glass it's down", Decide(12, "approve", glass="it's down")),
        ("deny 12", Decide(12, "deny")),
        ("cancel 12", Cancel(12)),
        ("freeze the switch is odd", FreezeHosts("the switch is odd")),
        ("freeze the switch is odd on @rack-b", FreezeHosts("the switch is odd", "@rack-b")),
        ('freeze "odd" on gpu-03', FreezeHosts("odd", "gpu-03")),
        ("freeze odd on gpu-03, gpu-04", FreezeHosts("odd", "gpu-03,gpu-04")),
        ("check gpu-03 , gpu-04", Check("gpu-03,gpu-04")),
        ('freeze "we are on call"', FreezeHosts("we are on call")),
        ("thaw", Thaw()),
        ("thaw @rack-b", Thaw("@rack-b")),
        ("thaw on @rack-b", Thaw("@rack-b")),
        ("thaw gpu-03 gpu-04", Thaw("gpu-03,gpu-04")),
        ("thaw everything", Thaw()),
        ("breaker reset it was the switch", ResetBreaker("it was the switch")),
    ],
)
def test_what_people_say(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "what", "advice"),
    [
        ("chekc gpu-03", "I don't know `chekc`", "did you mean `check`?"),
        ("xyzzy", "I don't know `xyzzy`", "`help` shows what you can say"),
        ("check", "check: which hosts?", "write: check HOSTS"),
        ("run", "run: which runbook?", "write: run RUNBOOK HOSTS"),
        ("run x gpu-03 a=1 a=2", "`a` is given twice", "write: run"),
        ("run x gpu-03 = 1", "`=` has no name before its `=`", "without spaces"),
        ("plan", "plan: which runbook?", "write: plan RUNBOOK HOSTS"),
        ("plan x a=1 a=2", "plan: `a` is given twice", "write: plan RUNBOOK HOSTS"),
        ("approve", "approve: it takes one number", "write: approve RUN"),
        ("approve two", "`two` is not a number", "write: approve RUN"),
        ("approve 0", "`0` is not a number", "write: approve RUN"),
        ("runbooks please", "it takes nothing more", "write: runbooks"),
        ("schedules now", "it takes nothing more", "write: schedules"),
        ("freeze", "freeze: why?", "write: freeze REASON [on HOSTS]"),
        ("freeze on @rack-b", "freeze: why?", "write: freeze REASON [on HOSTS]"),
        ("breaker", "breaker: it takes `reset` and a reason", "write: breaker reset REASON"),
        ("breaker reset", "breaker: it takes `reset` and a reason", "write: breaker reset REASON"),
        ('check "gpu-03', "a quote is not closed", "close it"),
    ],
)
def test_what_is_not_understood_is_explained(text: str, what: str, advice: str) -> None:
    with pytest.raises(Misunderstood) as raised:
        parse(text)
    assert what in raised.value.what
    assert advice in f"{raised.value.what} {raised.value.advice}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("check <http://gpu-03.example.com|gpu-03.example.com>", "check gpu-03.example.com"),
        ("check @a&amp;@b", "check @a&@b"),
        ("run x gpu-03 note=“two words”", 'run x gpu-03 note="two words"'),
        ("check <!subteam^S0SERVING|@serving>", "check @serving"),
        ("check <@U0SERVING|serving>", "check @serving"),
        ("run x gpu-03 url=<https://a.example/b>", "run x gpu-03 url=https://a.example/b"),
        ("check\u00a0gpu-03", "check gpu-03"),
        ("run x gpu-03 to=<mailto:a@b.c|a@b.c>", "run x gpu-03 to=a@b.c"),
    ],
)
def test_what_slack_does_to_typed_text_is_undone(typed: str, meant: str) -> None:
    assert undecorated(typed) == meant


@given(st.text(max_size=60))
def test_any_text_is_a_command_or_an_explanation(text: str) -> None:
    try:
        parse(text)
        explained = "a command"
    except SickbayError as error:
        explained = error.advice
    assert explained


def test_every_usage_is_a_command_of_its_own_words() -> None:
    for usage, says in usages():
        assert says
        example = usage.replace("[", "").replace("]", "").split(" name=")[0]
        words = example.replace("NUMBER", "7").replace("RUNBOOK", "gpu-check").replace("RUN", "7")
        assert parse(words)


# ── starting ──
def test_a_run_is_queued_where_it_was_asked_for(scene: Scene, commands: Commands) -> None:
    asker = Asker("alice", ALICE, "slack", "C0OTHER", "1700000000.000100")
    reply = commands.do("run gpu-check gpu-[01-03] gpus=4", asker)
    assert reply.ok
    run = scene.store.runs.get(reply.runs[0])
    assert run is not None
    assert (run.hosts, run.inputs, run.channel, run.thread) == (
        ("gpu-01", "gpu-02", "gpu-03"),
        {"gpus": 4},
        "C0OTHER",
        "1700000000.000100",
    )
    assert (run.requester.name, run.requester.person, run.requester.via) == ("alice", "alice", "slack")
    assert "Started gpu-check on gpu-[01-03]: run 1." in said(reply)


def test_a_change_says_that_it_asks_first_and_is_shown_even_when_started_in_a_terminal(
    scene: Scene, commands: Commands
) -> None:
    change = commands.do("run restart-container gpu-03", IN_TERMINAL)
    look = commands.do("check gpu-03", IN_TERMINAL)
    assert "It asks before it changes anything." in said(change)
    runs = [scene.store.runs.get(reply.runs[0]) for reply in (change, look)]
    assert [run.channel for run in runs if run] == ["oncall", ""]


@pytest.mark.parametrize(
    ("text", "what", "advice"),
    [
        ("run gpu-chek gpu-03", "there is no runbook `gpu-chek`", "did you mean `gpu-check`?"),
        ("run gpu-check", "`gpu-check` needs hosts", "write: run gpu-check HOSTS"),
        ("run gpu-check gpu-99", "no such host: gpu-99", "did you mean gpu-0"),
        ("check @servin", "no such group @servin", "did you mean @serving?"),
        ("run gpu-check gpu-03 gpu=4", "gpu-check has no input gpu", "inputs: gpus"),
        ("run gpu-check gpu-03 gpus=many", "gpu-check, input gpus", "many"),
        ("plan gpu-chek gpu-03", "there is no runbook `gpu-chek`", "did you mean `gpu-check`?"),
        ("plan gpu-check", "`gpu-check` needs hosts", "write: plan gpu-check HOSTS"),
        ("plan gpu-check gpu-99", "no such host: gpu-99", "did you mean gpu-0"),
        ("plan gpu-check gpu-03 gpus=many", "gpu-check, input gpus", "many"),
        ("runs 99", "there is no run 99", "`runs` lists"),
        ("incidents 99", "there is no incident 99", "`incidents` lists"),
        ("cancel 99", "there is no run 99", "`runs` lists"),
        ("approve 99", "there is no run 99", "`runs` lists the newest"),
    ],
)
def test_what_cannot_be_done_is_explained_and_starts_nothing(
    scene: Scene, commands: Commands, text: str, what: str, advice: str
) -> None:
    reply = commands.do(text, ON_CALL)
    assert not reply.ok
    assert what in said(reply)
    assert advice in said(reply)
    assert scene.store.runs.newest() == []


def test_a_runbook_for_alerts_only_is_not_started_by_name(scene: Scene) -> None:
    data = CHECK.model_dump(mode="json", by_alias=True, exclude_unset=True)
    data |= {"name": "silent", "triggers": [{"alert": {"match": {"a": "b"}}}]}
    silent = Loaded(Runbook.model_validate(data), "", "d", "silent.yaml")
    reply = desk(scene, silent=silent).do("run silent gpu-03", ON_CALL)
    assert "not for people to start" in said(reply)


def test_runbooks_lists_also_those_that_only_alerts_or_the_clock_start_and_says_so(scene: Scene) -> None:
    data = CHECK.model_dump(mode="json", by_alias=True, exclude_unset=True)
    alert, clock = {"alert": {"match": {"a": "b"}}}, {"schedule": "0 3 * * *"}
    triggers = {
        "silent": [alert],
        "nightly": [clock],
        "both": [alert, clock],
        "any": [{"command": True}, alert],
    }
    books = {
        name: Loaded(
            Runbook.model_validate(data | {"name": name, "triggers": given}), "", "d", f"{name}.yaml"
        )
        for name, given in triggers.items()
    }
    due = [Schedule(name, Cron("0 3 * * *")) for name in ("nightly", "both", "gpu-check")]
    office = Commands(scene.store, inventory(), LIBRARY | books, PEOPLE, schedules=due)
    (table,) = [node for node in office.do("runbooks", STRANGER).card.nodes if isinstance(node, Table)]
    at = table.columns.index("Started by")
    starters = {row[0]: row[at] for row in table.rows}
    assert starters == {
        "restart-container": "people, alerts",
        "gpu-check": "people, the clock",
        "silent": "only alerts",
        "nightly": "only the clock",
        "both": "only alerts, the clock",
        "any": "people, alerts",
    }


def test_a_stranger_may_look_and_check_but_neither_change_nor_decide(
    scene: Scene, commands: Commands
) -> None:
    run_id = scene.run()
    scene.ask(scene.claim(run_id))
    for text in ("help", "hosts", "runbooks", "runs", f"runs {run_id}", "incidents", "check gpu-03"):
        assert commands.do(text, STRANGER).ok, text
    for text in ("run restart-container gpu-03", f"approve {run_id}", f"deny {run_id}", f"cancel {run_id}"):
        reply = commands.do(text, STRANGER)
        assert not reply.ok, text
        assert "I don't know you, mallory" in said(reply)
        assert "`people:`" in said(reply).replace("\n", " ") or "people:" in said(reply)
    assert commands.person_of("") is None
    assert commands.person_of("U0BOB") == BOB


def test_a_delivery_repeated_starts_nothing_twice(scene: Scene, commands: Commands) -> None:
    asker = Asker("alice", ALICE, "slack", "C0ONCALL", delivery="slack/Ev1")
    assert commands.do("check gpu-03", asker).runs == (1,)
    assert commands.do("check gpu-03", asker).runs == ()
    assert len(scene.store.runs.newest()) == 1


# ── planning ──
def test_a_plan_shows_what_a_run_would_do_and_touches_nothing(scene: Scene, commands: Commands) -> None:
    reply = commands.do("plan restart-container gpu-[03-04]", STRANGER)
    assert reply.ok
    assert reply.runs == ()
    shown = said(reply, 300)
    for line in (
        "What would be done: restart-container on gpu-[03-04]. Nothing was started.",
        "1 person with the role oncall must approve it within 10 min.",
        "look, before anything is changed: gpu-[03-04]",
        "- GPUs (looks, at most 60 s)",
        "batch 1 of 2: gpu-03",
        "batch 2 of 2: gpu-04",
        "- restart the container (changes, at most 60 s)",
        "$ docker restart vllm",
    ):
        assert line in shown
    assert "gpu-[03-04]: ok" in shown
    assert scene.store.runs.newest() == []
    assert scene.store.timeline.after(0) == []


def test_a_plan_fills_in_what_is_known_and_says_of_the_rest_what_it_waits_for(scene: Scene) -> None:
    steps = [
        {"id": "look", "run": "look", "mutates": False},
        {"id": "stop", "run": 'stop "{{ inputs.name }}" "{{ host.name }}"', "when": "steps.look.failed"},
        {"id": "skip", "run": "skip", "when": "host.vars.gpus > 8"},
        {"id": "tell", "run": 'tell "{{ run.id }}" "{{ alert.labels.gpu }}"'},
    ]
    one = Loaded(book(steps=steps, inputs={"name": {"pattern": "[a-z]+"}}), "", "d", "mend.yaml")
    shown = said(desk(scene, mend=one).do("plan mend gpu-03 name=vllm", ON_CALL), 200)
    for line in (
        "depends on what is seen: steps.look.failed",
        "sickbay_1='vllm'",
        "sickbay_2='gpu-03'",
        "skipped, not needed: host.vars.gpus > 8",
        "depends on run.id, which is not known",
    ):
        assert line in shown


def test_a_plan_for_alerts_only_can_be_looked_at(scene: Scene) -> None:
    data = CHECK.model_dump(mode="json", by_alias=True, exclude_unset=True)
    data |= {"name": "silent", "triggers": [{"alert": {"match": {"a": "b"}}}]}
    silent = Loaded(Runbook.model_validate(data), "", "d", "silent.yaml")
    assert "It only looks" in said(desk(scene, silent=silent).do("plan silent gpu-03", STRANGER))


def test_a_plan_says_what_the_guard_rails_would_say_host_by_host(scene: Scene) -> None:
    asked: list[tuple[Run, Plan]] = []

    def rails(run: Run, plan: Plan) -> list[GuardLine]:
        asked.append((run, plan))
        refusing = GuardLine("gpu-05", "would refuse", "capacity: it is the last ready replica")
        waiting = GuardLine("gpu-06", "would wait", "cooldown until 03:30")
        return [GuardLine("gpu-03", "ok"), GuardLine("gpu-04", "ok"), refusing, waiting]

    commands = Commands(scene.store, inventory(), LIBRARY, PEOPLE, guard=rails)
    shown = said(commands.do("plan restart-container gpu-[03-06]", ON_CALL), 200)
    assert "gpu-[03-04]: ok" in shown
    assert "gpu-05: would refuse, capacity: it is the last ready replica" in shown
    assert "gpu-06: would wait, cooldown until 03:30" in shown
    ((run, plan),) = asked
    assert (run.hosts, plan.runbook) == (("gpu-03", "gpu-04", "gpu-05", "gpu-06"), "restart-container")


# ── the rails ──
def test_what_is_frozen_is_shown_and_neither_started_nor_approved_until_it_is_thawed(scene: Scene) -> None:
    commands = desk(scene)
    asking = commands.do("run restart-container gpu-03", ON_CALL).runs[0]
    assert "@serving is frozen: the switch is odd." in said(
        commands.do("freeze the switch is odd on @serving", ON_CALL), 200
    )
    for refused in ("run restart-container gpu-03", f"approve {asking}"):
        reply = commands.do(refused, ON_CALL)
        assert not reply.ok
        assert "@serving is frozen by alice since " in said(reply, 200)
        assert "ask alice; to lift it: thaw @serving" in said(reply, 200)
    assert "@serving is frozen by alice since " in said(commands.do("hosts", STRANGER), 200)
    planned = said(commands.do("plan restart-container gpu-03", ON_CALL), 200)
    assert "gpu-03: would refuse, freeze: @serving is frozen by alice since " in planned
    assert commands.do("run gpu-check gpu-03", STRANGER).ok, "looking is free"
    not_frozen = commands.do("thaw gpu-03", ON_CALL)
    assert "gpu-03 is frozen with others: @serving is frozen by alice since " in said(not_frozen, 200)
    assert "thaw @serving" in said(not_frozen, 200)
    everything = commands.do("thaw", ON_CALL)
    assert "everything is not frozen" in said(everything)
    assert "frozen: @serving" in said(everything)
    assert commands.do("thaw @serving", ON_CALL).ok
    assert commands.do("run restart-container gpu-03", ON_CALL).ok
    assert "frozen" not in said(commands.do("hosts", STRANGER), 200)


@pytest.mark.parametrize("text", ["freeze why", "thaw", "breaker reset why"])
def test_strangers_freeze_and_thaw_and_reset_nothing(scene: Scene, text: str) -> None:
    reply = desk(scene).do(text, STRANGER)
    assert not reply.ok
    assert "I don't know you, mallory" in said(reply)


def test_a_freeze_that_could_be_meant_otherwise_holds_more_and_says_so(scene: Scene) -> None:
    commands = desk(scene)
    reply = said(commands.do("freeze nobody is on call", ON_CALL), 300)
    assert (
        "everything is frozen: nobody is on call. No change begins there until somebody says thaw;" in reply
    )
    assert "call is no host and no group, so it was read as part of the reason." in reply
    reply = said(commands.do("freeze we work on the switch", ON_CALL), 300)
    assert "everything is frozen: we work on the switch." in reply
    reply = said(commands.do("freeze nobody is on call until 8am", ON_CALL), 300)
    assert "everything is frozen: nobody is on call until 8am." in reply
    assert commands.do("thaw", ON_CALL).ok
    reply = said(commands.do("freeze gpu-03", ON_CALL), 300)
    assert "everything is frozen: gpu-03." in reply
    assert "To freeze only gpu-03: thaw, then freeze REASON on gpu-03." in reply
    reply = said(commands.do('freeze "driver bug on gpu-03"', ON_CALL), 300)
    assert "To freeze only gpu-03: thaw, then freeze REASON on gpu-03." in reply


def test_what_is_frozen_together_is_thawed_together_however_it_is_written(scene: Scene) -> None:
    commands = desk(scene)
    assert commands.do("freeze odd on gpu-03 gpu-04", ON_CALL).ok
    refused = commands.do("thaw gpu-03", ON_CALL)
    assert not refused.ok
    assert "gpu-03 is frozen with others: gpu-03,gpu-04 is frozen by alice since " in said(refused, 300)
    assert "they can only be thawed together: thaw gpu-03,gpu-04" in said(refused, 300)
    assert commands.do("thaw gpu-[03-04]", ON_CALL).ok
    assert scene.store.ledger.freezes() == []
    assert commands.do("freeze odd", ON_CALL).ok
    refused = commands.do("thaw gpu-03", ON_CALL)
    assert "gpu-03 is frozen with others: everything is frozen by alice since " in said(refused, 300)
    assert "they can only be thawed together: thaw" in said(refused, 300)


def test_a_set_that_means_nothing_is_not_frozen(scene: Scene) -> None:
    reply = desk(scene).do("freeze why on @nobody", ON_CALL)
    assert not reply.ok
    assert scene.store.ledger.freezes() == []


def test_the_breaker_is_shown_and_reset_by_a_named_person(scene: Scene) -> None:
    commands = desk(scene)
    assert "the breaker is not open" in said(commands.do("breaker reset it was the switch", ON_CALL))
    asked = commands.do("run restart-container gpu-03", ON_CALL).runs[0]
    run = scene.store.runs.claim(asked)
    assert run is not None
    wants = {host: Want(level=2) for host in ("gpu-03", "gpu-04", "gpu-05")}
    scene.store.ledger.wish(replace(run, requester=Requester("alert Down", via="alert")), wants, Settings())
    assert "automation stopped itself at " in said(commands.do("hosts", STRANGER), 200)
    assert commands.do("breaker reset it was the switch", ON_CALL).ok
    assert "automation" not in said(commands.do("hosts", STRANGER), 200)
    (event,) = [one for one in scene.store.timeline.after(0) if one.kind == "breaker.reset"]
    assert event.data == {"by": "alice", "reason": "it was the switch", "via": "slack"}


def test_the_account_behind_a_name_is_written_down_whatever_it_says(scene: Scene) -> None:
    commands, root = desk(scene), Asker("alice", ALICE, login="root")
    for words in ("freeze power", "thaw", "run restart-container gpu-03"):
        assert commands.do(words, root).ok
    told = {event.kind: event.data.get("via") for event in scene.store.timeline.after(0)}
    for kind in ("guard.frozen", "guard.thawed", "run.queued"):
        assert told[kind] == "cli, root as alice"


def test_people_are_warned_of_maintenance_and_may_act(scene: Scene) -> None:
    now = scene.store.now()
    window = Window(hosts="gpu-03", start=now, end=now + timedelta(hours=1), reason="new fans")
    planner = Planner(KINDS, inventory())
    rails = Rails(scene.store, planner, windows=Windows((window,), lambda hosts: frozenset({hosts})))
    commands = Commands(
        scene.store, inventory(), LIBRARY, PEOPLE, planner=planner, rails=rails, check=("gpu-check",)
    )
    reply = commands.do("run restart-container gpu-[03-04]", ON_CALL)
    assert reply.ok
    assert "⚠️ gpu-03 is in maintenance until " in said(reply, 200)
    assert "new fans" in said(commands.do("plan restart-container gpu-03", ON_CALL), 200)
    assert "new fans" in said(commands.do("hosts", STRANGER), 200)


def test_a_plan_for_a_host_that_somebody_else_keeps_out_of_traffic_says_so(scene: Scene) -> None:
    turn, place = Turn("drain", "lb-01", "/run/x.sock", "be/gpu-03", keep="new disk"), ("drain", "gpu-03", 1)
    run = scene.claim(scene.run(by=Requester("bob", "bob")))
    ((begun,), _) = scene.store.attempts.begin(run, [place], changes={place: turn})
    scene.store.attempts.end(run, [(replace(begun, status=Status.OK, facts={"changed": True}), None)])
    scene.store.runs.finish(run, RunState.FAILED, "", None)
    owner = f"run {run.id} (restart-container, bob) drained be/gpu-03 at 2026-03-01 03:00 UTC: new disk"
    commands = desk(scene)
    assert owner in said(commands.do("hosts", STRANGER), 300)
    shown = said(commands.do("plan restart-container gpu-[03-04]", ON_CALL), 300)
    assert f"drain: {owner}, and it is kept so" in shown
    shown = said(commands.do("plan restart-container gpu-03", Asker("bob", BOB)), 300)
    assert "it is kept so" not in shown


# ── deciding ──
def test_deciding_and_cancelling(scene: Scene, commands: Commands) -> None:
    first, second = scene.run(), scene.run()
    for run_id in (first, second):
        scene.ask(scene.claim(run_id))
    assert f"Your approval of run {first} counts." in said(commands.do(f"approve {first}", ON_CALL))
    assert "alice has already approved this" in said(commands.do(f"deny {first}", Asker("bob", BOB)))
    assert f"You denied run {second}." in said(commands.do(f"deny {second}", ON_CALL))
    assert f"Run {first} is being cancelled." in said(commands.do(f"cancel {first}", ON_CALL))
    assert f"run {first} is being cancelled by alice" in said(commands.do(f"cancel {first}", ON_CALL))
    ended = scene.run(CHECK)
    scene.checked(ended)
    assert f"run {ended} has ended already: succeeded" in said(commands.do(f"cancel {ended}", ON_CALL))


def test_an_answer_to_another_plan_is_refused(scene: Scene, commands: Commands) -> None:
    run_id = scene.run()
    scene.ask(scene.claim(run_id))
    reply = commands.do(Decide(run_id, "approve", "0000"), ON_CALL)
    assert "The plan has changed" in said(reply)
    (told,) = (event for event in scene.store.timeline.of(run=run_id) if event.kind == "approval.refused")
    assert "The plan has changed" in told.data["why"]


def test_the_timeline_keeps_by_which_door_somebody_decided_or_cancelled(
    scene: Scene, commands: Commands
) -> None:
    run_id = scene.run()
    plan = scene.ask(scene.claim(run_id))
    guest = Person("bob", roles=("guest",))
    without = Commands(scene.store, inventory(), LIBRARY, {"bob": guest})
    without.do(f"approve {run_id}", Asker("bob", guest, "cli"))
    commands.do(f"approve {run_id}", ON_CALL)
    commands.do(f"cancel {run_id}", IN_TERMINAL)
    events = {event.kind: event.data for event in scene.store.timeline.of(run=run_id)}
    assert (events["approval.refused"]["by"], events["approval.refused"]["via"]) == ("bob", "cli")
    decided = events["approval.decided"]
    assert (decided["by"], decided["via"], decided["digest"]) == ("alice", "slack", plan.digest)
    assert (events["run.cancel_asked"]["by"], events["run.cancel_asked"]["via"]) == ("alice", "cli")


def test_an_incident_is_told_in_short_with_where_all_of_it_is(scene: Scene, commands: Commands) -> None:
    incident = scene.incident()
    run_id = scene.run(incident=incident)
    scene.look(scene.claim(run_id))
    shown = said(commands.do(f"incidents show {incident}", STRANGER), 200)
    assert f"Incident {incident}: vLLM on gpu-03 stopped answering" in shown
    assert "03:00:01 gpu-03 (run 1): GPUs: ok, healthy. 8 GPUs fine" in shown
    assert f"sickbay incidents export {incident}" in shown
    assert scene.store.timeline.head()[1] in shown
    assert "there is no incident 99" in said(commands.do("incidents show 99", STRANGER))
    assert "it takes one number" in said(commands.do("incidents show", STRANGER))


# ── looking ──
def test_lists_of_incidents_and_runs(scene: Scene, commands: Commands) -> None:
    incident = scene.incident()
    run_id = scene.run(incident=incident)
    assert "vLLM on gpu-03 stopped answering" in said(commands.do("incidents", STRANGER), 200)
    assert "alert VLLMStalled" in said(commands.do("runs", STRANGER), 200)
    assert "Queued · restart-container · gpu-03" in said(commands.do(f"runs {run_id}", STRANGER))
    assert "🔴 CRITICAL · VLLMStalled · gpu-03" in said(commands.do(f"incidents {incident}", STRANGER))


def test_drains_are_listed_with_what_haproxy_says_now_and_unknown_is_said(
    scene: Scene, commands: Commands
) -> None:
    assert said(commands.do("drains", STRANGER)) == "Sickbay keeps no server out of traffic.\n"
    run = scene.claim(scene.run())
    place, turn = ("drain", "gpu-03", 1), Turn("drain", "lb-01", "/run/x.sock", "be/gpu-03", keep="new disk")
    ((begun,), _) = scene.store.attempts.begin(run, [place], changes={place: turn})
    scene.clock.on(minutes=90)
    facts = {"changed": True, "selected": 5}
    scene.store.attempts.end(run, [(replace(begun, status=Status.OK, facts=facts), None)])
    assert "unknown: not asked" in said(commands.do("drains", STRANGER), 300)

    remote = Script()
    commands.balancers = Balancers(Inventory([Host("lb-01", "10.0.0.9")]), remote)
    table = (
        "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,\n"
        "be,gpu-03,0,0,{},2,,2,1,1,,0,,0,0,0,0,{},1,\n"
    )
    answers = remote.on("state", done(table.format(3, "DRAIN")), REFUSED, done(table.format(0, "UP")))
    shown = said(commands.do("drains", STRANGER), 300)
    for words in ("gpu-03", "be/gpu-03 at lb-01", "alert VLLMStalled", "new disk", "run 1 is at work"):
        assert words in shown
    assert "drain (DRAIN), 3 sessions" in shown
    assert "1 h 30 min" in shown
    shown = said(commands.do("drains", STRANGER), 300)
    assert "unknown: lb-01 is unreachable (tcp): connection refused" in shown

    scene.store.runs.finish(run, RunState.FAILED, "", None)
    shown = said(commands.do("drains", STRANGER), 300)
    assert "it takes traffic: somebody else has put it back" in shown
    assert "keeps no server" in said(commands.do("drains", STRANGER))
    assert answers.answers
    assert "takes nothing more" in said(commands.do("drains gpu-03", STRANGER))
    remote.close()


def test_help_lists_every_verb_to_who_may_do_everything(commands: Commands) -> None:
    shown = said(commands.do("help", ON_CALL))
    for usage, _ in usages():
        assert usage in shown


# ── terminal ──
def test_the_terminal_shows_text_as_it_is_and_no_codes_of_a_host() -> None:
    card = Card(
        "s",
        (
            Text(
                (
                    Plain("[bold]no markup[/bold] \x1b[31mred\x1b[0m\x1b]0;title\x07"),
                    Link("https://a.example", " link"),
                )
            ),
            Output("[/] \x1b[2Jline", (Plain("printed:"),)),
            Text((Time(BEGIN),)),
        ),
    )
    shown = said(Reply(card))
    assert "[bold]no markup[/bold] red link" in shown
    assert "    [/] line" in shown
    assert "\x1b" not in shown
    assert f"{BEGIN.astimezone():%H:%M}" in shown


# ── the clock ──
def test_schedules_show_when_next_and_what_came_of_the_last(scene: Scene) -> None:
    nightly = Schedule("gpu-check", Cron("30 3 * * *"), "@serving")
    commands = Commands(scene.store, inventory(), LIBRARY, PEOPLE, schedules=[nightly])
    shown = said(commands.do("schedules", STRANGER), 250)
    for words in ("1 schedule", "30 3 * * *", "@serving", "03-01 03:30", "not run yet"):
        assert words in shown, shown
    with scene.store.write() as tx:
        run = scene.store.runs.create(
            tx, runbook=CHECK, digest="d", hosts=("gpu-01",), inputs={}, mode="approve", channel="",
            requester=Requester("schedule 30 3 * * *", via="schedule"),
        )  # fmt: skip
        scene.store.schedules.keep(tx, "gpu-check", BEGIN, run=run)
    assert f"run {run} queued" in said(commands.do("schedules", STRANGER), 250)
    claimed = scene.store.runs.claim(run)
    assert claimed is not None
    scene.store.runs.finish(claimed, RunState.FAILED, "Failed on gpu-01.", Verdict.UNHEALTHY)
    assert f"run {run} failed, unhealthy: Failed on gpu-01." in said(commands.do("schedules", STRANGER), 250)
    with scene.store.write() as tx:
        later = BEGIN + timedelta(days=1)
        scene.store.schedules.keep(tx, "gpu-check", later, note=f"run {run}, started before, still goes")
    assert "started before, still goes" in said(commands.do("schedules", STRANGER), 250)


def test_without_schedules_it_is_said_where_they_are_written(commands: Commands) -> None:
    shown = said(commands.do("schedules", STRANGER), 250)
    assert "0 schedules" in shown
    assert "under `schedules:`" in shown
