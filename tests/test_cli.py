"""The command line as people meet it: real processes, a real pipe or terminal, pretend hosts over real SSH."""

import json
import re
import signal
from pathlib import Path

import pytest
import yaml

from bot.config.config import Config
from bot.runs.run import RunState
from bot.shipped import shipped
from bot.sim.slack import PretendSlackThread
from bot.slack.manifest import SCOPES
from bot.store import Store
from tests.parts.clinic import ACCOUNT, BOOKS, SECRET, Clinic
from tests.parts.programs import wait_until

ESCAPE = "\x1b"


def state(clinic: Clinic, run_id: int) -> RunState | None:
    store = Store(clinic.folder / "sickbay.db")
    try:
        run = store.runs.get(run_id)
        return run.state if run is not None else None
    finally:
        store.close()


def wait_for(clinic: Clinic, run_id: int, wanted: RunState) -> None:
    wait_until(lambda: state(clinic, run_id) is wanted, f"run {run_id} {wanted}", seconds=20)


def decided(clinic: Clinic, run_id: int) -> list[tuple[str, str, str, str]]:
    """Return who decided what about a run, where, and why alone."""
    store = Store(clinic.folder / "sickbay.db")
    try:
        question = store.approvals.get(run_id)
        return (
            [(one.person, one.answer, one.via, one.glass) for one in question.decisions] if question else []
        )
    finally:
        store.close()


# ── looking ──
def test_a_pipe_gets_plain_lines_that_are_never_cut(clinic: Clinic) -> None:
    hosts = clinic.say("hosts", "@serving")
    assert hosts.code == 0, hosts.err
    line = next(line for line in hosts.out.splitlines() if line.startswith("gpu-03"))
    assert "model=meta-llama/Llama-3.3-70B-Instruct" in line
    assert "port=8000" in line
    assert "lb-01" not in hosts.out
    books = clinic.say("runbooks", PYTHONIOENCODING="ascii")
    assert books.code == 0, "what an encoding lacks is written another way"
    line = next(line for line in books.out.splitlines() if line.startswith("restart-container"))
    assert "[drain_wait=\\u2026]" in line
    assert ESCAPE not in hosts.out + books.out


def test_a_plan_is_shown_whole_and_no_run_comes_of_it(clinic: Clinic) -> None:
    shown = clinic.say("plan", "mend", "gpu-[01-02]")
    assert shown.code == 0, shown.err
    for line in ("batch 2 of 2: gpu-02", "- glue it (changes, at most 60 s)", "$ echo glued >> $HOME/glue"):
        assert line in shown.out
    assert state(clinic, 1) is None
    wrong = clinic.say("plan", "mendd", "gpu-01")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean `mend`?" in wrong.err


def test_what_is_run_by_the_clock_is_listed(clinic: Clinic) -> None:
    clinic.write(schedules={"runbooks": {"gpu-check": {"schedule": "*/10 * * * *", "hosts": "@serving"}}})
    listed = clinic.say("schedules")
    assert listed.code == 0, listed.err
    (line,) = (line for line in listed.out.splitlines() if line.startswith("gpu-check"))
    assert ("@serving" in line, "not run yet" in line) == (True, True)
    clinic.write(schedules={"runbooks": {"mend": {"schedule": "*/10 * * * *"}}})
    refused = clinic.say("schedules")
    assert refused.code == 2
    assert "a schedule changes nothing by itself, and this runbook changes hosts" in refused.err


def test_a_healthy_host_ends_with_0_and_its_run_can_be_looked_up(clinic: Clinic) -> None:
    said = clinic.say("run", "gpu-check", "gpu-01")
    assert said.code == 0, said.out + said.err
    assert "healthy · gpu-check · gpu-01" in said.out
    assert "8 × H100 80GB HBM3, all healthy" in said.out
    assert ESCAPE not in said.out
    again = clinic.say("runs", "1")
    assert (again.code, again.out) == (0, said.out), "the same words, now or later"


def test_what_is_unhealthy_or_unreachable_ends_with_1(clinic: Clinic) -> None:
    clinic.fleet.lose_gpu("gpu-02")
    clinic.fleet.down("gpu-03")
    try:
        sick = clinic.say("check", "gpu-01", "gpu-02")
        gone = clinic.say("check", "gpu-03")
    finally:
        clinic.fleet.restore("gpu-02")
        clinic.fleet.restore("gpu-03")
    assert sick.code == 1
    assert "unhealthy · gpu-check · gpu-[01-02]" in sick.out
    assert gone.code == 1
    assert "unreachable (tcp)" in gone.out
    assert "is sshd running" in gone.out, "what to do next"


# ── what was wrong with the words ──
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chekc", "gpu-01"], "Did you mean 'check'?"),
        (["run", "gpu-chek", "gpu-01"], "did you mean `gpu-check`?"),
        (["approve", "soon"], "`soon` is not a number"),
        (["run", "mend", "gpu-01"], f"I don't know you, {ACCOUNT}"),
        (["approve", "1", "--as", "alcie"], "did you mean `alice`?"),
    ],
)
def test_a_wrong_command_ends_with_2_and_says_what_was_meant(
    clinic: Clinic, words: list[str], told: str
) -> None:
    said = clinic.say(*words)
    assert said.code == 2
    assert said.out == "", "what a script reads stays empty"
    assert told in " ".join(said.err.split())


def test_help_lists_what_can_be_said_without_any_configuration(clinic: Clinic, tmp_path: Path) -> None:
    clinic.config.unlink()
    said = clinic.say("help")
    assert said.code == 0
    for verb in ("check", "run", "approve", "doctor", "slack"):
        assert verb in said.out


def test_a_missing_configuration_lists_the_places_that_were_looked_at(clinic: Clinic) -> None:
    clinic.config.unlink()
    said = clinic.say("hosts")
    assert said.code == 2
    for place in ("--config", "$SICKBAY_CONFIG", "/sickbay.yaml", "/.config/sickbay/sickbay.yaml"):
        assert place in said.err
    assert "sickbay demo" in said.err


def test_a_token_in_the_file_is_refused_and_not_repeated(clinic: Clinic) -> None:
    token = "xoxb-1234567890-abcdefghij"
    clinic.write(slack={"channel": "oncall", "bot_token": token})
    said = clinic.say("serve")
    assert said.code == 2
    assert token not in said.out + said.err
    assert "SLACK_BOT_TOKEN" in said.err


# ── runbooks, without a configuration ──
def test_a_bad_runbook_is_told_by_file_and_line(clinic: Clinic) -> None:
    bad = clinic.folder / "bad.yaml"
    bad.write_text("version: 1\nname: bad\ndescription: Bad\nkind: observe\nstepps: []\n")
    said = clinic.say("lint", str(bad))
    assert said.code == 1
    assert f"{bad}:5:" in said.out
    assert "did you mean `steps`?" in said.out


def test_where_there_is_no_test_that_is_said(clinic: Clinic) -> None:
    said = clinic.say("test", "runbooks")
    assert said.code == 1
    assert said.out.splitlines() == [
        "no test of a runbook was found in runbooks: one is NAME.test.yaml, beside NAME.yaml",
        "0 passed, 0 failed",
    ]


def test_the_version_and_a_configuration_named_before_the_command(clinic: Clinic) -> None:
    assert re.fullmatch(r"sickbay [0-9]+\.[0-9]+\.[0-9]+\n", clinic.say("--version").out)
    other = clinic.config.rename(clinic.folder / "other.yaml")
    for words in (["hosts", "gpu-01"], ["slack", "manifest"]):
        assert clinic.say("-c", str(other), *words).code == 0
    assert clinic.say("hosts", "gpu-01").code == 2
    verified = clinic.say("-c", str(other), "audit", "verify")
    assert verified.out.startswith("All 0 events fit."), verified.err


def test_the_schema_of_the_configuration_has_every_section_and_no_place_of_this_machine(
    clinic: Clinic,
) -> None:
    said = clinic.say("schema", "config")
    assert set(json.loads(said.out)["properties"]) == set(Config.model_fields)
    assert str(shipped("runbooks").parent) not in said.out


def test_mistakes_are_followed_by_what_to_do(clinic: Clinic) -> None:
    clinic.write(hosst={}, webb={})
    said = clinic.say("hosts")
    assert said.code == 2
    assert said.err.endswith("\n  → mend them, then say it again\n")


def test_a_file_that_is_no_runbook_is_told_without_a_word_of_it(clinic: Clinic) -> None:
    (clinic.folder / ".env").write_text("TOKEN=the-canary:x:0\nMORE=root:x:1\n")
    said = clinic.say("lint", ".env")
    assert said.code == 1
    assert said.out.splitlines()[0] == ".env:1: expected a mapping (key: value), not text"


def test_what_looks_like_the_code_of_an_emoji_stays_as_it_is(clinic: Clinic) -> None:
    (clinic.folder / "bad:x:.yaml").write_text("version: 1\nname: a:x:b\n")
    said = clinic.say("lint", "bad:x:.yaml")
    assert "bad:x:.yaml:2: " in said.out
    assert '"a:x:b"' in said.out


def test_runbooks_and_the_manifest_need_no_configuration(clinic: Clinic) -> None:
    clinic.config.unlink()
    assert clinic.say("lint").out.split()[:2] == ["5", "runbooks,"]
    replayed = clinic.say("test", str(shipped("runbooks") / "gpu-check.test.yaml"))
    assert replayed.code == 0
    assert replayed.out.endswith("5 passed, 0 failed\n")
    assert '"$defs"' in clinic.say("schema").out
    assert {"approvals", "messages"} < set(
        json.loads(clinic.say("schema", "test").out)["$defs"]["Expected"]["properties"]
    )
    assert "slash_commands" in clinic.say("slack", "manifest").out


# ── deciding ──
def test_a_plan_is_decided_from_a_second_terminal_while_the_first_waits(clinic: Clinic) -> None:
    with clinic.talk("run", "mend", "gpu-01", "--as", "alice") as first:
        first.until("sickbay approve 1")
        assert "glued" in first.text, "every command is seen before it is approved"
        seen = clinic.say("runs", "1")
        assert "$ echo glued" in seen.out
        refused = clinic.say("approve", "1", "--as", "alice")
        assert refused.code == 2
        assert "You asked for this run" in refused.err
        assert f"I don't know you, {ACCOUNT}" in clinic.say("approve", "1").err
        assert clinic.say("approve", "1", "--as", "bob").code == 0
        assert first.end() == 0, first.text
    assert "Done · mend · gpu-01" in first.text
    assert ESCAPE not in first.raw


def test_a_slip_in_another_runbook_keeps_nobody_from_deciding(clinic: Clinic) -> None:
    with clinic.talk("run", "mend", "gpu-01", "--as", "alice") as first:
        first.until("sickbay approve 1")
        bad = clinic.folder / "runbooks" / "bad.yaml"
        bad.write_text("version: 1\nname: bad\ndescription: Bad\nkind: observe\nstepps: []\n")
        assert clinic.say("runs").code == 0
        said = clinic.say("approve", "1", "--as", "bob")
        assert said.code == 0, said.err
        assert f"{bad}:5:" in said.err
        assert "nothing can be started until it is mended" in said.err
        assert first.end() == 0, first.text
    refused = clinic.say("check", "gpu-01", "--as", "alice")
    assert (refused.code, "did you mean `steps`?" in refused.err) == (2, True)


def test_what_is_kept_out_of_traffic_is_listed_with_its_owner_and_haproxys_word(clinic: Clinic) -> None:
    def play(*words: str) -> None:
        with clinic.talk("run", *words, "--as", "alice") as talk:
            talk.until("sickbay approve ")
            number = talk.text.partition("sickbay approve ")[2].split("`")[0]
            assert clinic.say("approve", number, "--as", "bob").code == 0
            assert talk.end() == 0, talk.text

    assert clinic.say("drains").out == "Sickbay keeps no server out of traffic.\n"
    play("drain-host", "gpu-01", "reason=new disk")
    try:
        listed = clinic.say("drains")
        assert listed.code == 0, listed.err
        assert "1 drain" in listed.out
        (row,) = [line for line in listed.out.splitlines() if line.startswith("gpu-01")]
        for words in (
            "be_vllm/gpu-01 at lb-01",
            "alice",
            "1 drain-host",
            "new disk",
            "maint (MAINT), 0 sessions",
        ):
            assert words in row
        assert "undrain-host" in listed.out
        assert "🚧 gpu-01 is out of traffic since" in clinic.say("runs", "1").out
    finally:
        play("undrain-host", "gpu-01", "force=true")
    assert clinic.say("drains").out == "Sickbay keeps no server out of traffic.\n"
    assert "gpu-01 is no longer held out of traffic since" in clinic.say("runs", "1").out


def test_what_is_kept_out_of_traffic_is_listed_where_a_secret_is_lacking_too(clinic: Clinic) -> None:
    clinic.write(secrets={"token": {"env": "NOBODY_SET_THIS"}})
    listed = clinic.say("drains")
    assert (listed.code, listed.out) == (0, "Sickbay keeps no server out of traffic.\n")
    assert listed.err == "HAProxy is not asked: the secret token cannot be used here.\n"


def test_a_plan_is_approved_from_the_terminal_while_slack_is_down_and_it_is_written_down_by_whom(
    clinic: Clinic,
) -> None:
    clinic.environ |= {"SLACK_BOT_TOKEN": "xoxb-1-2", "SLACK_APP_TOKEN": "xapp-1"}
    clinic.write(slack={"channel": "oncall", "base_url": "http://127.0.0.1:9/api/"})
    with clinic.talk("run", "mend", "gpu-01", "--as", "alice") as first:
        first.until("sickbay approve 1")
        assert clinic.say("approve", "1", "--as", "bob").code == 0
        assert first.end() == 0, first.text
    assert decided(clinic, 1) == [("bob", "approve", f"cli, {ACCOUNT} as bob", "")]


def test_two_terminals_that_decide_in_the_same_moment_decide_once(clinic: Clinic) -> None:
    people = {name: {"roles": ["oncall"]} for name in ("alice", "bob", "carol")}
    clinic.write(people=people)
    with clinic.talk("run", "mend", "gpu-01", "--as", "alice") as first:
        first.until("sickbay approve 1")
        first.process.kill()
    with (
        clinic.talk("approve", "1", "--as", "bob") as bob,
        clinic.talk("approve", "1", "--as", "carol") as carol,
    ):
        codes = [bob.end(), carol.end()]
    assert sorted(codes) == [0, 2], bob.text + carol.text
    winner, loser = ("bob", carol) if codes[0] == 0 else ("carol", bob)
    assert f"{winner} has already approved this at" in " ".join(loser.text.split())
    assert [name for name, *_ in decided(clinic, 1)] == [winner]


def test_somebody_who_is_deactivated_in_slack_may_nothing_in_the_terminal_either(clinic: Clinic) -> None:
    with PretendSlackThread(scopes=tuple(SCOPES)) as thread:
        clinic.write(slack={"channel": "oncall", "base_url": thread.slack.base_url})
        thread.slack.deactivate("alice")
        said = clinic.say("run", "mend", "gpu-01", "--as", "alice", SLACK_BOT_TOKEN=thread.slack.bot_token)
    assert said.code == 2
    assert "alice is deactivated in Slack" in said.err


def test_glass_is_broken_from_the_terminal_with_a_reason_by_who_may(clinic: Clinic) -> None:
    with clinic.talk("run", "mend", "gpu-01", "--as", "alice") as first:
        first.until("sickbay approve 1")
        first.process.kill()
    rules = [
        {"roles": ["oncall"], "may": ["change", "approve"]},
        {"roles": ["lead"], "may": ["break_glass"]},
    ]
    alice = {"slack": "U0ALICE", "roles": ["oncall"]}
    clinic.write(permissions=rules, people={"alice": alice, "lead": {"roles": ["lead"], "login": ACCOUNT}})
    refused = clinic.say("approve", "1", "--as", "alice")
    assert refused.code == 2
    assert f"you are logged in as {ACCOUNT}, so you are lead here, not alice" in " ".join(refused.err.split())
    for reason in ("", "  "):
        assert "break-glass takes a reason" in clinic.say("approve", "1", "--break-glass", reason).err
    assert "may not decide about runs" in " ".join(clinic.say("approve", "1").err.split())
    said = clinic.say("approve", "1", "--break-glass", "it's down")
    assert said.code == 0, said.out + said.err
    assert "You alone approved run 1. Everybody is told, with your reason: it's down" in said.out
    assert "Glass broken by lead" in clinic.say("runs", "1").out
    assert decided(clinic, 1) == [("lead", "approve", "cli", "it's down")]


def test_a_run_is_cancelled_from_a_second_terminal_while_its_command_goes(clinic: Clinic) -> None:
    with clinic.talk("run", "nap", "gpu-01") as first:
        wait_for(clinic, 1, RunState.RUNNING)
        assert clinic.say("cancel", "1", "--as", "bob").code == 0
        assert first.end() == 1
    assert "cancelled" in first.text.lower()


def test_a_decision_is_carried_out_though_nobody_waits_for_it(clinic: Clinic) -> None:
    with clinic.talk("run", "mend", "gpu-02", "--as", "alice") as first:
        first.until("sickbay approve 1")
        first.process.kill()
    said = clinic.say("approve", "1", "--as", "bob")
    assert said.code == 0, said.out + said.err
    assert "Done · mend · gpu-02" in said.out


# ── Ctrl-C ──
def test_ctrl_c_cancels_all_that_was_started_and_waits_for_the_end(clinic: Clinic) -> None:
    clinic.write(check=["nap", "gpu-check", "nap"])
    with clinic.talk("check", "gpu-01") as talk:
        wait_for(clinic, 1, RunState.RUNNING)
        talk.interrupt()
        talk.until("Cancelling")
        assert talk.end() == 1
    assert (state(clinic, 1), state(clinic, 3)) == (RunState.CANCELLED, RunState.CANCELLED)


def test_ctrl_c_of_who_may_only_approve_cancels_nobodys_run(clinic: Clinic) -> None:
    clinic.write(permissions=[{"roles": ["oncall"], "may": ["change", "approve"]}])
    book = {**BOOKS["mend"], "steps": [{"id": "glue", "run": "sleep 5; echo glued >> $HOME/glue"}]}
    (clinic.folder / "runbooks/mend.yaml").write_text(yaml.safe_dump({"version": 1, "name": "mend", **book}))
    with clinic.talk("run", "mend", "gpu-02", "--as", "alice") as first:
        first.until("sickbay approve 1")
        first.process.kill()
    with clinic.talk("approve", "1", "--as", "bob", tty=True) as second:
        second.until("Running")
        second.interrupt()
        assert second.end() == 130
    assert "may not cancel runs of `mend`" in second.text
    assert state(clinic, 1) is RunState.RUNNING


# ── beside a server ──
def test_a_running_server_does_the_work_and_the_terminal_shows_it(clinic: Clinic) -> None:
    with clinic.serving() as server:
        with clinic.talk("run", "nap", "gpu-01", "long=1", tty=True) as talk:
            talk.until("sleeping")
            assert talk.end() == 0, talk.text
        assert "nap · gpu-01" in talk.text
        with clinic.talk("run", "nap", "gpu-01", "long=2", tty=True) as talk:
            wait_for(clinic, 2, RunState.RUNNING)
            talk.process.send_signal(signal.SIGSTOP)
            wait_for(clinic, 2, RunState.SUCCEEDED)
            talk.process.send_signal(signal.SIGCONT)
            assert talk.end() == 0
    assert "Started server process" not in server.text
    assert SECRET not in server.text


def test_when_the_server_ends_whoever_follows_a_run_goes_on_with_it(clinic: Clinic) -> None:
    with clinic.serving() as server, clinic.talk("run", "nap", "gpu-01", "long=2") as talk:
        wait_for(clinic, 1, RunState.RUNNING)
        server.process.terminate()
        assert server.end() == 0
        assert talk.end() == 0, talk.text
    assert state(clinic, 1) is RunState.SUCCEEDED


# ── in a terminal ──
def test_in_a_terminal_progress_is_live_and_only_the_end_stays(clinic: Clinic) -> None:
    with clinic.talk("run", "nap", "gpu-01", "long=1", tty=True) as talk:
        talk.until("Running")
        assert talk.process.poll() is None, "shown while it goes"
        assert talk.end() == 0
    assert ESCAPE in talk.raw
    assert talk.text.count("took") == 1


def test_in_a_terminal_somebody_who_may_is_asked(clinic: Clinic) -> None:
    with clinic.talk("run", "mend", "gpu-01", "--as", "alice", tty=True) as talk:
        talk.until("somebody else has to approve it")
        assert "Approve? [yes/no/wait]" not in talk.text
        talk.interrupt()
        assert talk.end() == 1
    assert state(clinic, 1) is RunState.CANCELLED
    clinic.folder.joinpath("runbooks/mend.yaml").write_text(
        clinic.folder.joinpath("runbooks/mend.yaml")
        .read_text()
        .replace("  required: 1", "  required: 1\n  allow_requester: true")
    )
    with clinic.talk("run", "mend", "gpu-01", "--as", "alice", tty=True) as talk:
        talk.until("Approve? [yes/no/wait]")
        talk.type("yes\n")
        assert talk.end() == 0, talk.text
    assert state(clinic, 2) is RunState.SUCCEEDED
