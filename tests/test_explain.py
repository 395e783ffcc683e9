"""`sickbay explain`: which route leads to a runbook and why not, who has to agree, what each step sees."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot.cli.explain import read_alert
from bot.errors import SickbayError
from tests.parts.clinic import SECRET, Clinic

STALLED = {"alertname": "VLLMStalled", "severity": "page", "instance": "gpu-02:8000"}


def alert(clinic: Clinic, body: Any) -> str:
    """Write an alert into a file."""
    path = clinic.folder / "alert.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return str(path)


def lines(clinic: Clinic, *words: str) -> list[str]:
    """Say it, and return what was written."""
    said = clinic.say("explain", *words)
    assert said.code == 0, said.err
    return [line.strip() for line in said.out.splitlines()]


def test_a_runbook_is_explained_without_an_alert_or_hosts_and_nothing_is_made(clinic: Clinic) -> None:
    told = lines(clinic, "restart-container")
    assert "people: sickbay run restart-container HOSTS" in told
    assert "alerts, by way of a route: alertname=VLLMStalled|VLLMDown" in told
    assert "no route: alerts are shown, nothing is done" in told
    assert "mode: approve in the runbook: approve counts" in told
    assert "may start it: alice, bob" in told
    assert "approval: 1 with the role oncall (alice, bob), within 15m" in told
    assert "whoever asks for it may not approve it" in told
    assert 'inputs.container (string) = "vllm"' in told
    assert "host: known once its hosts are named (name, address, groups, vars.*)" in told
    assert "steps.progress.failed: known once progress has run" in told
    assert "steps / restart: Restart (docker.restart, changes)" in told
    assert "steps / gpus: GPUs fit to start on (gpu.check, looks)" in told
    assert not (clinic.folder / "sickbay.db").exists()


def test_who_may_is_said_for_the_hosts_as_the_permissions_have_it(clinic: Clinic) -> None:
    rule = {"roles": ["oncall"], "may": ["change", "approve"], "runbooks": ["restart-*"], "hosts": "gpu-01"}
    clinic.write(permissions=[rule], slack={"usergroups": {"S0ONCALL": ["oncall"]}})
    more = "; and members of the Slack user groups S0ONCALL, as their roles allow"
    told = lines(clinic, "restart-container", "gpu-01")
    assert f"may start it on gpu-01: alice, bob{more}" in told
    assert f"approval: 1 with the role oncall (alice, bob{more}), within 15m" in told
    told = lines(clinic, "restart-container", "gpu-02")
    assert f"may start it on gpu-02: nobody yet{more}" in told
    assert f"approval: 1 with the role oncall (nobody who may{more}), within 15m" in told
    assert f"may start it: nobody yet{more}" in lines(clinic, "drain-host")


def test_on_hosts_each_value_is_shown_with_its_type(clinic: Clinic) -> None:
    told = lines(clinic, "restart-container", "gpu-[01-02]", "port=9000")
    assert "What its steps see on gpu-01" in told
    assert "of gpu-[01-02] the first is shown; the others see their own `host`" in told
    assert 'host.name (text) = "gpu-01"' in told
    assert "host.vars.gpus (integer) = 8" in told
    assert "inputs.port (integer) = 9000" in told
    assert "inputs.port = 9000" in told


def test_an_alert_takes_the_first_route_that_fits_and_the_others_say_why_not(clinic: Clinic) -> None:
    routes = [
        {"match": {"alertname": "GPULost"}, "runbook": "restart-container"},
        {"match": {"team": "llm"}, "runbook": "restart-container"},
        {
            "match": {"alertname": ["VLLMStalled", "VLLMDown"]},
            "runbook": "restart-container",
            "mode": "suggest",
        },
        {"match": {}, "channel": "rest"},
    ]
    clinic.write(routes=routes)
    told = lines(clinic, "restart-container", "--alert", alert(clinic, {"labels": STALLED}))
    at = [index for index, line in enumerate(told) if line.startswith("route ")]
    assert [told[index + 1] for index in at] == [
        "not taken: alertname is 'VLLMStalled'",
        "not taken: it has no label team",
        "taken: all its labels are there",
        "not looked at: a route above is taken",
    ]
    line = clinic.config.read_text().splitlines().index("routes:") + 2
    assert told[at[0]].startswith(f"route 1 ({clinic.config}:{line}): alertname=GPULost → restart-container")
    assert "this alert starts it on gpu-02" in told
    assert "mode: approve in the runbook; its route lowers it to suggest: suggest counts" in told
    assert "nobody is asked: the plan is shown, and nothing is done" in told
    assert 'alert.labels.severity (text) = "page"' in told
    assert 'host.name (text) = "gpu-02"' in told


def test_an_alert_that_leads_elsewhere_or_nowhere_says_so(clinic: Clinic) -> None:
    file = alert(clinic, {"labels": {"alertname": "Disk", "host": "gpu-77"}})
    told = lines(clinic, "restart-container", "--alert", file)
    assert "this alert does not start it: No route matches this alert: it is shown, nothing is done." in told
    clinic.write(routes=[{"match": {}, "runbook": "restart-container"}])
    told = lines(clinic, "restart-container", "--alert", file)
    assert any("this alert does not start it: restart-container was not started" in line for line in told)
    told = lines(clinic, "mend", "--alert", alert(clinic, {"labels": STALLED}))
    assert "this alert does not start it: it starts restart-container" in told


def test_what_a_runbook_has_earned_is_read_from_the_store(clinic: Clinic) -> None:
    clinic.write(autonomy={"successes": 1})
    told = lines(clinic, "slow", "gpu-01")
    wanted = "mode: auto in the runbook; earned 0 of 1 (there is no database yet): approve counts"
    assert wanted in told
    clinic.write(autonomy={"successes": 0})
    assert clinic.say("run", "slow", "gpu-03", "--as", "alice").code == 0
    clinic.write(autonomy={"successes": 1})
    told = lines(clinic, "slow", "gpu-01")
    assert "mode: auto in the runbook: auto counts" in told
    assert "nobody is asked, while its plan holds" in told


def test_what_only_looks_asks_nobody_and_the_clock_is_told(clinic: Clinic) -> None:
    clinic.write(
        schedules={"timezone": "Europe/Berlin", "runbooks": {"gpu-check": {"schedule": "*/10 * * * *"}}}
    )
    told = lines(clinic, "gpu-check")
    assert "nobody: it only looks, and anybody may start it" in told
    assert any(
        line.startswith("the clock: */10 * * * * (") and line.endswith("Europe/Berlin)") for line in told
    )


def test_secrets_are_not_shown(clinic: Clinic) -> None:
    labels = STALLED | {"note": f"token={SECRET}"}
    said = clinic.say("explain", "restart-container", "--alert", alert(clinic, {"labels": labels}))
    assert said.code == 0, said.err
    assert SECRET not in said.out


def test_a_value_is_masked_before_it_is_cut(clinic: Clinic) -> None:
    text = "x" * 150 + SECRET
    path = alert(clinic, {"labels": STALLED, "annotations": {"summary": text}})
    told = clinic.say("explain", "restart-container", "--alert", path)
    assert "xxx•••" in told.out
    assert SECRET[:6] not in told.out


def test_a_secret_of_the_configuration_is_known_by_its_name_only(clinic: Clinic) -> None:
    (clinic.folder / "runbooks" / "fetch.yaml").write_text(
        "version: 1\nname: fetch\ndescription: Fetch it\nkind: observe\ntriggers: [{command: true}]\n"
        """steps: [{id: get, run: 'KEY="{{ secrets.hub }}" get it'}]\n"""
    )
    clinic.write(secrets={"hub": {"env": "HUB_KEY"}})
    said = clinic.say("explain", "fetch", "gpu-01", HUB_KEY="horse-battery-staple")
    assert said.code == 0, said.err
    assert "      secrets.hub: known by its name, until it reaches the host" in said.out.splitlines()
    assert "horse-battery" not in said.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("restart-contaner",), "did you mean `restart-container`?"),
        (("restart-container", "gpu-77"), "no such host: gpu-77"),
        (("restart-container", "prot=1"), "has no input prot"),
        (("restart-container", "--alert", "no.json"), "cannot be read"),
    ],
)
def test_what_is_not_there_is_told(clinic: Clinic, words: tuple[str, ...], told: str) -> None:
    said = clinic.say("explain", *words)
    assert (said.code, said.out) == (2, "")
    assert told in said.err


def test_hosts_and_an_alert_together_are_refused(clinic: Clinic) -> None:
    said = clinic.say("explain", "restart-container", "gpu-01", "--alert", alert(clinic, {"labels": STALLED}))
    assert said.code == 2
    assert "give HOSTS or --alert, not both" in said.err


def test_the_webhook_body_of_alertmanager_is_read_too(tmp_path: Path) -> None:
    one = {"status": "firing", "labels": STALLED, "startsAt": "2026-03-01T03:00:00Z", "fingerprint": "f1"}
    path = tmp_path / "body.json"
    path.write_text(json.dumps({"version": "4", "alerts": [one]}))
    assert read_alert(path).labels == STALLED


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{", "not JSON"),
        ('{"alertname": "VLLMDown"}', "no alert: "),
        ('{"version": "4", "alerts": []}', "the list is empty"),
        ('{"version": "4", "alerts": [{"status": "firing"}]}', "no alert can be read: "),
        ('{"labels": {"alertname": 1}}', "no alert: "),
        ("[]", "no alert: "),
    ],
)
def test_what_is_no_alert_is_refused(tmp_path: Path, body: str, told: str) -> None:
    path = tmp_path / "alert.json"
    path.write_text(body)
    with pytest.raises(SickbayError, match=told) as caught:
        read_alert(path)
    assert caught.value.advice
