"""The doctor: everything that can be wrong, one by one, beside a pretend Slack and a pretend fleet."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
import yaml

from bot.cli.doctor import Finding, findings
from bot.sim.slack import PretendSlack
from bot.slack.manifest import SCOPES
from tests.parts.clinic import BOOKS, Clinic


class Patient:
    """A set-up that is well until a test spoils it."""

    def __init__(self, clinic: Clinic, slack: PretendSlack) -> None:
        self.clinic = clinic
        self.slack = slack
        self.environ = clinic.environ | {
            "SLACK_BOT_TOKEN": slack.bot_token,
            "SLACK_APP_TOKEN": slack.app_token,
        }
        self.write()

    def write(self, **sections: object) -> None:
        """Write sickbay.yaml with these sections instead of the usual ones."""
        self.clinic.write(**({"slack": {"channel": "oncall", "base_url": self.slack.base_url}} | sections))

    async def wrong(self) -> list[Finding]:
        """Return all that is not well."""
        return [one for one in await self.all() if one.state != "well"]

    async def one(self) -> Finding:
        """Return the only thing that is wrong; nothing else may be touched by it."""
        (found,) = await self.wrong()
        assert found.advice, "what to do next"
        return found

    async def all(self) -> list[Finding]:
        """Look at everything."""
        return [one async for one in findings(self.clinic.config, self.environ)]


@pytest.fixture
async def patient(clinic: Clinic) -> AsyncIterator[Patient]:
    async with PretendSlack(scopes=tuple(SCOPES)) as slack:
        yield Patient(clinic, slack)


async def test_a_healthy_set_up_has_nothing_wrong_and_is_left_as_it_was(patient: Patient) -> None:
    before = sorted(patient.clinic.folder.rglob("*"))
    found = await patient.all()
    assert [one for one in found if one.state != "well"] == []
    told = "\n".join(one.what for one in found)
    for words in (
        "configuration",
        "8 runbooks",
        "scopes are granted",
        "#oncall",
        "gpu-[01-03],lb-01 let us in",
    ):
        assert words in told
    assert sorted(patient.clinic.folder.rglob("*")) == before, "a doctor who looks does not begin a database"


def test_what_is_wrong_is_marked_and_ends_with_1(clinic: Clinic) -> None:
    clinic.write(slack={"channel": "oncall"})
    said = clinic.say("doctor")
    assert said.code == 1
    assert (
        "✗ SLACK_BOT_TOKEN is not set in the environment\n    set it to the Bot User OAuth Token" in said.out
    )
    assert "✓ gpu-[01-03],lb-01 let us in (4 hosts)" in said.out
    assert said.out.endswith("Mend what is marked ✗, then run `sickbay doctor` again.\n")


def test_who_uses_the_terminal_only_has_nothing_wrong_and_hears_what_is_not_there(clinic: Clinic) -> None:
    said = clinic.say("doctor")
    assert said.code == 0, said.out
    assert "! Slack is not set up, so incidents and questions are seen in the terminal only" in said.out
    assert said.out.endswith("\nNothing is wrong; 1 warning.\n")


# ── files ──
async def test_each_of_several_mistakes_is_marked(patient: Patient) -> None:
    bad = patient.clinic.folder / "runbooks/bad.yaml"
    bad.write_text("version: 1\nname: bad\ndescription: Bad\nkind: observe\nstepps: []\nmodee: auto\n")
    found = [one for one in await patient.wrong() if one.what.startswith("runbooks: ")]
    assert [one.what.splitlines() for one in found] == [[one.what] for one in found]
    assert {"stepps", "modee"} <= set(re.findall(r"`(\w+)`", " ".join(one.what for one in found)))
    patient.write(hosst={}, webb={})
    assert [one.what.partition("unknown")[2][:12] for one in await patient.wrong()] == [
        " key `hosst`",
        " key `webb` ",
    ]


async def test_a_mistake_in_the_configuration_is_told_by_line(patient: Patient) -> None:
    patient.write(hosst={})
    (found,) = await patient.wrong()
    assert found.state == "wrong"
    assert re.search(r"sickbay\.yaml:\d+: unknown key `hosst` \(did you mean `hosts`\?\)", found.what)


async def test_a_token_in_the_file_is_told_and_not_repeated(patient: Patient) -> None:
    patient.write(slack={"channel": "oncall", "bot_token": "xoxb-1234567890-abcdefghij"})
    (found,) = await patient.wrong()
    assert "a secret does not belong in this file" in found.what
    assert "SLACK_BOT_TOKEN" in found.what
    assert "xoxb" not in found.what + found.advice


async def test_an_invalid_runbook_hides_nothing_else(patient: Patient) -> None:
    bad = patient.clinic.folder / "runbooks/bad.yaml"
    bad.write_text("version: 1\nname: bad\ndescription: Bad\nkind: observe\nstepps: []\n")
    del patient.environ["SLACK_BOT_TOKEN"]
    found = await patient.wrong()
    assert any(f"{bad}:5" in one.what for one in found)
    assert any(one.what.startswith("SLACK_BOT_TOKEN is not set") for one in found[1:])
    assert any("gpu-[01-03]" in one.what for one in await patient.all())


async def test_a_route_to_no_runbook_is_told(patient: Patient) -> None:
    patient.write(routes=[{"match": {"alertname": "X"}, "runbook": "restart-contaner"}])
    found = await patient.wrong()
    assert "there is no runbook `restart-contaner`" in found[0].what


async def test_what_check_runs_may_be_left_out_of_the_runbooks_and_that_is_warned_of(
    patient: Patient,
) -> None:
    config = yaml.safe_load(patient.clinic.config.read_text())
    del config["check"]
    patient.clinic.config.write_text(yaml.safe_dump(config | {"runbooks": ["runbooks"]}))
    first, second = await patient.wrong()
    assert (first.state, second.state) == ("warning", "warning")
    assert first.what == "`sickbay check` has nothing to run: there is no runbook `gpu-check`"
    assert "write [shipped, " in first.advice


async def test_a_database_that_cannot_be_made_is_told(patient: Patient) -> None:
    patient.write(store={"path": "nowhere/sickbay.db"})
    found = await patient.one()
    assert "nowhere/sickbay.db" in found.what
    assert "store:" in found.advice


async def test_a_database_that_is_none_is_told(patient: Patient) -> None:
    (patient.clinic.folder / "sickbay.db").write_text("a letter to somebody, and no database at all" * 100)
    assert "sickbay.db: cannot open the database" in (await patient.one()).what


# ── people ──
async def test_a_deactivated_account_and_an_id_of_nobody_are_told(patient: Patient) -> None:
    patient.write(
        people={
            "alice": {"slack": "U0ALICE", "roles": ["oncall"]},
            "bob": {"slack": "U0BOB", "roles": ["oncall"]},
            "zoe": {"slack": "U0ZOE", "roles": ["oncall"]},
        }
    )
    patient.slack.deactivate("bob")
    assert [one.what for one in await patient.wrong()] == [
        "Slack: bob (U0BOB) is deactivated in Slack",
        "Slack: zoe (U0ZOE): user_not_found",
    ]


async def test_user_groups_are_looked_up_and_stand_for_people(patient: Patient) -> None:
    section = {"channel": "oncall", "base_url": patient.slack.base_url}
    patient.write(people={}, slack={**section, "usergroups": {"S0ONCALL": ["oncall"]}})
    assert await patient.wrong() == []
    assert "Slack: user group S0ONCALL (oncall): 2 people" in [one.what for one in await patient.all()]
    patient.slack.set_usergroup("S0ONCALL", [])
    assert (await patient.one()).what == "Slack: user group S0ONCALL (oncall) has no members"
    patient.slack.set_usergroup("S0ONCALL", None)
    assert (await patient.one()).what == "Slack: user group S0ONCALL (oncall): no_such_subteam"


async def test_user_groups_that_nobody_asked_slack_about_and_people_who_would_be_two_are_told(
    patient: Patient,
) -> None:
    section = {
        "channel": "oncall",
        "base_url": patient.slack.base_url,
        "usergroups": {"S0ONCALL": ["oncall"]},
    }
    people = {
        "alice": {"slack": "U0ALICE", "roles": ["oncall"]},
        "carol": {"login": "carol", "roles": ["oncall"]},
    }
    patient.write(people=people, slack=section)
    (found,) = await patient.wrong()
    assert (found.state, found.what) == (
        "warning",
        "people without a Slack id would count as other persons when they act as members of S0ONCALL: carol",
    )
    del patient.environ["SLACK_BOT_TOKEN"], people["carol"]
    patient.write(people=people, slack=section)
    told = [one.what for one in await patient.wrong() if one.state == "warning"]
    assert told == [
        "who is in S0ONCALL is not known, nor whether anybody can approve by it: SLACK_BOT_TOKEN is not set"
    ]


async def test_the_scope_of_user_groups_is_asked_for_only_where_they_give_a_role(clinic: Clinic) -> None:
    scopes = tuple(scope for scope in SCOPES if scope != "usergroups:read")
    async with PretendSlack(scopes=scopes) as slack:
        patient = Patient(clinic, slack)
        assert await patient.wrong() == []
        section = {"channel": "oncall", "base_url": slack.base_url, "usergroups": {"S0ONCALL": ["lead"]}}
        patient.write(slack=section)
        told = [one.what for one in await patient.wrong()]
    assert told == [
        "Slack: scopes are missing: usergroups:read",
        "Slack: user group S0ONCALL (lead): missing_scope",
    ]


async def test_a_runbook_that_nobody_can_approve_is_told(patient: Patient) -> None:
    patient.write(people={"alice": {"slack": "U0ALICE", "roles": ["sales"]}})
    found = await patient.one()
    assert found.state == "wrong"
    assert "restart-container" in found.what
    assert "nobody can approve: it takes 1 with the role oncall, and there is 0" in found.what
    assert "role oncall" in found.advice


async def test_who_starts_a_run_and_has_nobody_to_approve_it_is_warned(patient: Patient) -> None:
    patient.write(people={"alice": {"slack": "U0ALICE", "roles": ["oncall"]}})
    alone = {one.what.partition(":")[0]: one for one in await patient.wrong()}
    assert alone["restart-container"].state == "warning", "started by an alert it may be approved"
    assert "when alice starts it, nobody else may approve it" in alone["restart-container"].what
    assert alone["drain-host, undrain-host, mend"].state == "wrong", "only people start these"
    patient.write(people={"alice": {"roles": ["oncall"]}, "carol": {}})
    assert {one.state for one in await patient.wrong()} == {"warning"}, "carol may start, and alice approve"


async def test_a_lone_person_may_approve_where_the_runbook_lets_the_requester(patient: Patient) -> None:
    rule = {"required": 1, "from": ["oncall"], "allow_requester": True}
    book = {"version": 1, "name": "mend", **BOOKS["mend"], "approval": rule}
    (patient.clinic.folder / "runbooks/mend.yaml").write_text(yaml.safe_dump(book))
    patient.write(people={"alice": {"roles": ["oncall"]}}, runbooks=["runbooks"], check=["nap"])
    assert await patient.wrong() == []


async def test_a_right_that_no_rule_gives_anybody_is_warned_of_before_it_is_needed(patient: Patient) -> None:
    patient.write(permissions=[{"roles": ["oncall"], "may": ["change", "approve", "cancel", "freeze"]}])
    assert [(one.state, one.what) for one in await patient.wrong()] == [
        ("warning", "permissions: nobody may reset the breaker"),
        ("warning", "permissions: nobody may make a host's key known"),
    ]
    section = {"channel": "oncall", "base_url": patient.slack.base_url, "usergroups": {"S0ONCALL": ["lead"]}}
    rest = {"roles": ["lead"], "may": ["break_glass", "reset", "enroll"]}
    first = {"roles": ["oncall"], "may": ["change", "approve", "cancel", "freeze"]}
    patient.write(permissions=[first, rest], slack=section)
    assert await patient.wrong() == [], "whoever is in a user group counts"


# ── secrets ──
async def test_each_secret_of_runbooks_is_looked_at_and_none_is_shown(patient: Patient) -> None:
    path = patient.clinic.folder / "key"
    path.write_text("the-canary-of-the-file")
    path.chmod(0o644)
    patient.environ["HF_TOKEN"] = "the-canary-of-the-variable"
    patient.write(secrets={"hf": {"env": "HF_TOKEN"}, "key": {"file": str(path)}, "no": {"env": "NO_SUCH"}})
    found = await patient.all()
    assert Finding("well", "secret `hf` can be read") in found
    key, missing = [one for one in found if one.state != "well"]
    assert key.what == f"secret `key`: {path} can be read by anybody on this machine (mode 644)"
    assert key.advice == f"chmod 600 {path}, and replace the secret"
    assert missing.what == "secret `no`: NO_SUCH is not set in the environment"
    assert "canary" not in repr(found)


async def test_a_secrets_value_in_the_configuration_is_told_and_not_shown(patient: Patient) -> None:
    patient.environ["HF_TOKEN"] = "the-canary-value"
    patient.write(secrets={"hf": {"env": "HF_TOKEN"}}, check=["the-canary-value"])
    (found,) = await patient.wrong()
    assert "the value of a secret stands here" in found.what
    assert "canary" not in repr(found)


async def test_a_missing_alert_secret_is_a_warning_where_routes_wait_for_alerts(patient: Patient) -> None:
    del patient.environ["SICKBAY_ALERTMANAGER_SECRET"]
    assert await patient.wrong() == [], "who takes no alerts needs none"
    patient.write(routes=[{"match": {"alertname": "X"}, "runbook": "restart-container"}])
    found = await patient.one()
    assert found.state == "warning"
    assert "SICKBAY_ALERTMANAGER_SECRET is not set" in found.what


async def test_missing_tokens_are_told_each_once(patient: Patient) -> None:
    del patient.environ["SLACK_APP_TOKEN"]
    assert "SLACK_APP_TOKEN is not set" in (await patient.one()).what
    del patient.environ["SLACK_BOT_TOKEN"]
    assert [one.what.split()[0] for one in await patient.wrong()] == ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"]
    patient.write(slack={"transport": "http"})
    assert [one.what.split()[0] for one in await patient.wrong()] == [
        "SLACK_BOT_TOKEN",
        "SLACK_SIGNING_SECRET",
    ]


# ── Slack ──
async def test_a_refused_bot_token_is_told_and_not_shown(patient: Patient) -> None:
    patient.environ["SLACK_BOT_TOKEN"] = "xoxb-of-another-workspace"
    found = await patient.one()
    assert "the bot token is refused: invalid_auth" in found.what
    assert "xoxb-of-another-workspace" not in str(await patient.all())


async def test_a_refused_app_token_is_told(patient: Patient) -> None:
    patient.environ["SLACK_APP_TOKEN"] = "xapp-of-another-workspace"
    found = await patient.one()
    assert "Socket Mode is refused" in found.what
    assert "connections:write" in found.advice


async def test_missing_scopes_are_named_with_what_they_are_for(clinic: Clinic) -> None:
    granted = tuple(scope for scope in SCOPES if scope not in ("files:write", "app_mentions:read"))
    async with PretendSlack(scopes=granted) as slack:
        found = await Patient(clinic, slack).one()
    assert "app_mentions:read" in found.what
    assert "files:write: to" in found.advice
    assert "sickbay slack manifest" in found.advice


async def test_a_channel_the_bot_is_not_in_is_told_with_the_words_to_type(patient: Patient) -> None:
    patient.slack.kick("oncall")
    found = await patient.one()
    assert "the bot is not in channel oncall" in found.what
    assert "/invite @sickbay" in found.advice


async def test_slack_that_cannot_be_reached_hides_no_host(patient: Patient) -> None:
    await patient.slack.stop()
    found = await patient.one()
    assert "cannot be reached" in found.what


# ── hosts ──
async def test_a_host_that_does_not_answer_keeps_nobody_waiting_for_the_others_news(patient: Patient) -> None:
    patient.clinic.fleet.down("gpu-03")
    lines = known_hosts(patient).read_text().splitlines(keepends=True)
    known_hosts(patient).write_text("".join(line for line in lines if "gpu-02" not in line))
    try:
        told = [one.what for one in await patient.all() if one.what.startswith("gpu-")]
    finally:
        patient.clinic.fleet.restore("gpu-03")
    assert {one.partition(" ")[0] for one in told[:2]} == {"gpu-02", "gpu-03"}
    assert told[2] == "gpu-01,lb-01 let us in (2 hosts)"


def known_hosts(patient: Patient) -> Path:
    return patient.clinic.folder / "known_hosts"


async def test_an_unknown_host_key_is_told_with_where_it_belongs(patient: Patient) -> None:
    lines = known_hosts(patient).read_text().splitlines(keepends=True)
    known_hosts(patient).write_text("".join(line for line in lines if "gpu-02" not in line))
    found = await patient.one()
    assert found.what.startswith("gpu-02 (")
    assert "known_hosts" in found.what + found.advice


async def test_a_changed_host_key_is_told_as_what_it_may_be(patient: Patient) -> None:
    lines = [line.split() for line in known_hosts(patient).read_text().splitlines()]
    keys = {line[0]: line[1:] for line in lines}
    first, second = (next(name for name in keys if host in name) for host in ("gpu-01", "gpu-02"))
    keys[second] = keys[first]
    known_hosts(patient).write_text("".join(f"{name} {' '.join(key)}\n" for name, key in keys.items()))
    found = await patient.one()
    assert found.what.startswith("gpu-02 (")
    assert "changed" in found.what
    assert "somebody stands between" in found.advice


async def test_a_host_that_is_down_is_told_with_its_layer(patient: Patient) -> None:
    patient.clinic.fleet.down("gpu-03")
    try:
        found = await patient.one()
    finally:
        patient.clinic.fleet.restore("gpu-03")
    assert found.what.startswith("gpu-03 (")
    assert "tcp: " in found.what


async def test_a_key_that_the_hosts_do_not_know_is_told_for_each(patient: Patient) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    (patient.clinic.folder / "id_ed25519").write_bytes(stranger.export_private_key("openssh"))
    found = await patient.wrong()
    assert len(found) == 4
    for one in found:
        assert "does not let sickbay in" in one.what
        assert "authorized_keys" in one.advice


async def test_a_load_balancer_that_is_no_host_is_told_before_anybody_drains(patient: Patient) -> None:
    hosts = yaml.safe_load(patient.clinic.config.read_text())["hosts"]
    del hosts["lb-01"]
    patient.write(hosts=hosts)
    found = await patient.one()
    assert found.state == "warning"
    assert found.what == (
        "gpu-[01-03] cannot be drained: the load balancer lb-01 is no host of the inventory"
    )


async def test_a_set_up_without_hosts_is_told(patient: Patient) -> None:
    patient.write(hosts={})
    assert (await patient.one()).what == "there are no hosts"


async def test_it_logs_in_with_the_account_that_looks_and_the_one_that_acts(patient: Patient) -> None:
    key = patient.clinic.folder / "stranger"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(key))
    usual = yaml.safe_load(patient.clinic.config.read_text())
    patient.write(
        ssh=usual["ssh"] | {"act": {"identity_files": [str(key)]}},
        hosts={"gpu-01": usual["hosts"]["gpu-01"] | {"vars": {}}},
    )
    found = await patient.one()
    assert re.match(r"gpu-01 \(\S+\), to act: login: ", found.what)
    assert "ssh.act.identity_files" in found.advice
    assert any(one.what == "gpu-01 lets us in to look (1 host)" for one in await patient.all())
