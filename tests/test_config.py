"""sickbay.yaml: short where the defaults do, exact where it is wrong, and never a place for secrets."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bot.config.config import Config, Secrets, check_routes, find_config, load, schedules
from bot.errors import SickbayError
from bot.exposure import exposed
from bot.facts.registry import PARSERS
from bot.language.inputs import Noun
from bot.language.schema import Invalid
from bot.language.trigger import Trigger
from bot.library import load_library
from bot.secrets.mask import Mask
from bot.shipped import shipped
from bot.steps import KINDS

FULL = """\
slack: {channel: "#gpu-alerts", transport: socket}
web: {listen: "127.0.0.1:8301"}
alerts: {alertmanager: {secret_env: MY_SECRET}}
store: {path: state/sickbay.db}
runbooks: [runbooks, /srv/runbooks]
ssh: {user: ops, known_hosts: ~/known_hosts, identity_files: [keys/id_ed25519], connect_timeout: 3}
hosts:
  gpu-[01-08]: {address: "10.0.0.[1-8]", groups: [serving], vars: {gpus: 8}}
  lb: {address: 10.0.1.1, port: 2222, user: admin}
  plain: {}
people:
  alice: {slack: U0ALICE, roles: [oncall]}
check: [look]
routes:
  - {match: {alertname: VLLMDown}, runbook: restart, hosts: "{{ alert.host }}", mode: suggest, channel: "#serving"}
  - {runbook: look}
"""


def loaded(tmp_path: Path, text: str, **environ: str) -> Config:
    path = tmp_path / "sickbay.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, {"HOME": "/home/ops", **environ})[0]


def told(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        loaded(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    config = loaded(tmp_path, FULL)
    assert config.slack.channel == "gpu-alerts"
    assert (config.web.host, config.web.port) == ("127.0.0.1", 8301)
    assert config.store_path == tmp_path / "state/sickbay.db"
    assert config.runbook_folders == (tmp_path / "runbooks", Path("/srv/runbooks"))
    assert config.ssh.known_hosts == Path("/home/ops/known_hosts")
    assert config.ssh.identity_files == (tmp_path / "keys/id_ed25519",)
    hosts = config.inventory.hosts
    assert [host.name for host in config.inventory.select("@serving")] == [f"gpu-{n:02}" for n in range(1, 9)]
    assert (hosts["gpu-07"].address, hosts["gpu-07"].vars) == ("10.0.0.7", {"gpus": 8})
    assert (hosts["lb"].port, hosts["lb"].user, hosts["plain"].address) == (2222, "admin", "plain")
    assert (config.persons["alice"].slack, config.persons["alice"].roles) == ("U0ALICE", ("oncall",))
    assert config.routes[0].channel == "serving"


def test_the_defaults_are_safe_and_enough(tmp_path: Path) -> None:
    config = loaded(tmp_path, "hosts: {gpu-01: {address: 10.0.0.1}}")
    assert config.web.listen == "127.0.0.1:8300"
    assert config.store_path == tmp_path / "sickbay.db"
    assert config.runbook_folders == (shipped("runbooks"),)
    assert config.ssh.known_hosts == Path("/home/ops/.ssh/known_hosts")
    assert config.check == ("gpu-check", "serving-check")


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("hots: {}", ["sickbay.yaml:1: unknown key `hots` (did you mean `hosts`?)"]),
        ("web: {listen: 8300}", ['sickbay.yaml:1: `listen`: expected text, not 8300 (quote it: "8300")']),
        ('web: {listen: "0.0.0.0:99999"}', ["sickbay.yaml:1: `listen`: a port is at most 65535"]),
        ("hosts:\n  a: {}\n  a: {}", ["sickbay.yaml:3: the key `a` is given twice (first on line 2: keep one of the two)"]),
        ("hosts:\n  a-[1-3]: {}\n  a-2: {}", ["sickbay.yaml:3: host a-2 is given twice (first on line 2)"]),
        ('hosts:\n  a-[1-3]: {address: "b-[1-2]"}', ["sickbay.yaml:2: 3 hosts, but 2 addresses"]),
        ("hosts:\n  a-[1-3]: {address: b}", ["sickbay.yaml:2: 3 hosts, but 1 addresses"]),
        (
            'hosts:\n  "a-[2,1]": {address: "b-[1-2]"}',
            ["sickbay.yaml:2: `a-[2,1]`: write the numbers in ascending order, so that names and addresses pair up"],
        ),
        (
            "hosts:\n  a: {address: 10.0.0.1}\n  b:\n    address: 10.0.0.1",
            ["sickbay.yaml:4: b has the address of a: 10.0.0.1:22 (one machine is one host)"],
        ),
        ("hosts:\n  a b: {}", ["sickbay.yaml:2: `a b` is not a host name: letters, digits, dots and dashes"]),
        ("hosts:\n  a-[1-99999]: {}", ["sickbay.yaml:2: 'a-[1-99999]' stands for more than 10,000 hosts"]),
        ("hosts:\n  -a: {}", ["sickbay.yaml:2: `-a` is not a host name: letters, digits, dots and dashes"]),
        ("hosts:\n  a: {port: 0}\n  b: {adress: x}", ["sickbay.yaml:2: `port`: must be at least 1", "sickbay.yaml:3: unknown key `adress` (did you mean `address`?)"]),
        ("people:\n  a: {slack: alice}", ['sickbay.yaml:2: `slack`: "alice" does not match ^([UW][A-Z0-9]{2,20})?$ (Slack member id, such as U0ALICE)']),
        ("people:\n  a: {login: x}\n  x: {}", ["sickbay.yaml:3: x is the login of a already (one login is one person)"]),
        ("people:\n  a: {login: [x, y]}\n  b: {login: y}", ["sickbay.yaml:3: y is the login of a already (one login is one person)"]),
        ("people:\n  a: {slack: U0A}\n  b: {slack: U0A}", ["sickbay.yaml:3: U0A is a already (one id is one person)"]),
        ("routes:\n  - {match: {}}\n  - {match: {a: b}}", ["sickbay.yaml:2: this route takes every alert, so the routes below are never reached (move it to the end)"]),
        ('routes:\n  - {channel: "Two Words"}', ['sickbay.yaml:2: `channel`: "Two Words" does not match']),
    ],
)  # fmt: skip
def test_every_mistake_is_told_at_its_line(tmp_path: Path, text: str, mistakes: list[str]) -> None:
    found = told(tmp_path, text)
    assert len(found) == len(mistakes)
    for line, mistake in zip(found, mistakes, strict=True):
        assert line.startswith(mistake)


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("slack: {bot_token: xoxb-1234-canary}", "SLACK_BOT_TOKEN"),
        ("slack: {token: canary}", "SLACK_BOT_TOKEN"),
        ("slack: {app_token: canary}", "SLACK_APP_TOKEN"),
        ("slack: {signing_secret: canary}", "SLACK_SIGNING_SECRET"),
        ("alerts: {alertmanager: {secret: canary}}", "SICKBAY_ALERTMANAGER_SECRET"),
        ("web: {listen: xapp-1-canary}", "SLACK_APP_TOKEN"),
        ("hosts: {a: {vars: {x: [xoxp-canary-1]}}}", "SLACK_BOT_TOKEN"),
        ("xoxb-canary-1: 3", "SLACK_BOT_TOKEN"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str, variable: str) -> None:
    found = told(tmp_path, text)
    assert len(found) == 1
    assert f"set {variable} in the environment" in found[0]
    assert "canary" not in found[0]


def test_secrets_come_from_the_environment_and_never_print(tmp_path: Path) -> None:
    environ = {"SLACK_BOT_TOKEN": "xoxb-canary", "SLACK_APP_TOKEN": " ", "MY_SECRET": "canary-too"}
    secrets = Secrets.read(loaded(tmp_path, FULL), environ)
    assert secrets.slack_app_token is None
    assert secrets.alertmanager is not None
    assert secrets.values() == ["xoxb-canary", "canary-too"]
    assert "canary" not in repr(secrets) + str(secrets)


def test_secrets_are_named_by_where_they_are_kept(tmp_path: Path) -> None:
    text = "secrets: {hf: {env: HF_TOKEN}, key: {file: ~/key}, near: {file: ./near}, far: {file: /run/far}}"
    found = loaded(tmp_path, text).secrets
    assert found["hf"].env == "HF_TOKEN"
    assert [found[name].file for name in ("key", "near", "far")] == [
        Path("/home/ops/key"),
        tmp_path / "near",
        Path("/run/far"),
    ]


@pytest.mark.parametrize(
    "secrets",
    [
        "{hf: hf_canary1234}",
        "{hf: {env: hf_canary1234}}",
        "{hf: {env: Canary1234}}",
        "{hf: {file: canary1234}}",
        "{hf: {value: canary1234}}",
        "{hf: {env: {x: canary1234}}}",
        "{hf: [canary1234]}",
        "{pin: 12345678901234567890123}",
        "canary1234",
        "[canary1234]",
    ],
)
def test_a_secrets_value_in_the_file_is_refused_and_not_repeated(tmp_path: Path, secrets: str) -> None:
    (found,) = told(tmp_path, f"hostz: {{}}\nsecrets: {secrets}")
    assert found.startswith("sickbay.yaml:2: a secret's value does not belong in this file")
    assert "write `NAME: {env: VARIABLE}`" in found
    assert "canary" not in found.lower()
    assert "1234" not in found


@pytest.mark.parametrize(
    ("secrets", "mistake"),
    [
        ("{hf: {}}", "a secret is either `env: VARIABLE` or `file: PATH`"),
        ("{hf: {env: A, file: /a}}", "a secret is either `env: VARIABLE` or `file: PATH`"),
        ("{HF: {env: A}}", "HF"),
        ("{hf: }", "expected a mapping"),
    ],
)
def test_a_secret_without_one_place_is_told(tmp_path: Path, secrets: str, mistake: str) -> None:
    (found,) = told(tmp_path, f"secrets: {secrets}")
    assert mistake in found


def test_the_value_of_a_secret_in_the_configuration_or_a_runbook_is_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    book = tmp_path / "books/look.yaml"
    book.write_text(
        BOOK.format(name="look", kind="observe", trigger="command: true") + "# the-canary-value\n"
    )
    path = tmp_path / "sickbay.yaml"
    path.write_text("hosts:\n  a:\n    vars: {x: [1, 'a the-canary-value']}\nrunbooks: [books]\n")
    config, document = load(path, {})
    library, _ = load_library(config.runbook_folders, kinds={"x": Kind()}, parsers=())
    found = [str(one) for one in exposed(document, library, Mask(["the-canary-value"]))]
    assert len(found) == 2
    assert f"{path}:3: the value of a secret stands here" in found[0]
    assert re.search(
        r"look\.yaml:\d+: the value of a secret stands here \(remove it; a runbook writes", found[1]
    )
    assert "canary" not in "".join(found)
    assert exposed(document, library, Mask()) == []


class Nothing(Noun):
    """A step kind without arguments."""


class Kind:
    """What lint has to know of a step kind."""

    arguments: type[BaseModel] = Nothing
    mutating = False
    turns: str | None = None
    secrets = frozenset[str]()


BOOK = """\
version: 1
name: {name}
description: For tests
kind: {kind}
triggers: [{trigger}]
mode: approve
inputs: {{port: {{type: integer, default: 1}}}}
steps: [{{run: "true"}}]
verify: [{{run: "true"}}]
"""


@pytest.fixture
def library(tmp_path: Path) -> Any:
    folder = tmp_path / "runbooks"
    folder.mkdir()
    for name, kind, trigger in (
        ("restart", "mutate", "alert: {match: {a: b}}"),
        ("look", "observe", "command: true"),
    ):
        text = BOOK.format(name=name, kind=kind, trigger=f"{{{trigger}}}")
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_library([folder], kinds={"x": Kind()}, parsers=())[0]


@pytest.mark.parametrize(
    ("route", "mistake"),
    [
        ("{match: {a: b}, runbook: restart}", None),
        ('{match: {a: b}, runbook: restart, hosts: "{{ alert.host }}", inputs: {port: 2}}', None),
        ("{match: {a: b}, runbook: restrat}", "there is no runbook `restrat` (did you mean `restart`?)"),
        ("{match: {a: b}, runbook: look}", "`look` is not started by alerts"),
        (
            "{match: {a: b}, runbook: restart, mode: auto}",
            "`restart` has the mode `approve`, and a route may only lower it",
        ),
        ("{match: {a: b}, runbook: restart, inputs: {prot: 2}}", "restart has no input prot"),
        ("{match: {a: b}, runbook: restart, inputs: {port: x}}", "expected integer, not 'x'"),
        ("{match: {a: b}, inputs: {port: 2}}", "`inputs` without `runbook`"),
        ("{match: {a: b}, runbook: restart, hosts: gpu-2}", "no such host: gpu-2"),
        ('{match: {a: b}, runbook: restart, hosts: "{{ host.name }}"}', "unknown name `host.name`"),
    ],
)
def test_routes_are_held_against_the_runbooks(
    tmp_path: Path, library: Any, route: str, mistake: str | None
) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text(f"hosts: {{gpu-1: {{}}}}\nroutes:\n  - {route}\n", encoding="utf-8")
    config, document = load(path, {})
    found = [str(each) for each in check_routes(config, document, library)]
    assert len(found) == (mistake is not None)
    assert all(f"sickbay.yaml:3: {mistake}" in each for each in found)


@pytest.mark.parametrize(
    ("section", "mistake"),
    [
        ("{runbooks: {look: {schedule: '0 3 * * *'}}}", None),
        ("{runbooks: {look: {schedule: '0 3 * * *', hosts: gpu-1}}, jitter: 0s, missed: once}", None),
        ("{timezone: Europe/Berlin}", None),
        ("{runbooks: {lok: {schedule: '0 3 * * *'}}}", "there is no runbook `lok` (did you mean `look`?)"),
        ("{runbooks: {restart: {schedule: '0 3 * * *'}}}", "a schedule changes nothing by itself"),
        ("{runbooks: {look: {hosts: gpu-1}}}", "`look` has no schedule of its own"),
        ("{runbooks: {look: {schedule: '0 3 * * *', hosts: gpu-2}}}", "no such host: gpu-2"),
        ("{runbooks: {look: {schedule: '0 3 * * *', hosts: '{{ alert.host }}'}}}", "a schedule has no alert"),
        ("{runbooks: {look: {schedule: '0 25 * * *'}}}", "is no schedule"),
        ("{runbooks: {look: {schedule: hourly}}}", "a schedule has five fields"),
        ("{jitter: 2h}", "jitter"),
        ("{jitter: 30}", "a duration needs its unit"),
        ("{missed: all}", "expected `skip` or `once`"),
        ("{timezone: Mars/Olympus}", "there is no time zone 'Mars/Olympus' on this machine"),
    ],
)
def test_schedules_are_held_against_the_runbooks(
    tmp_path: Path, library: Any, section: str, mistake: str | None
) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text(f"hosts: {{gpu-1: {{}}}}\nschedules:\n  {section}\n", encoding="utf-8")
    try:
        found = [str(each) for each in check_routes(*load(path, {}), library)]
    except Invalid as error:
        found = [str(each) for each in error.mistakes]
    assert len(found) == (mistake is not None), found
    assert all("sickbay.yaml:3: " in each and str(mistake) in each for each in found)


def test_sickbay_yaml_may_give_a_schedule_another_time_and_other_hosts(tmp_path: Path, library: Any) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text(
        "schedules: {timezone: Europe/Berlin, runbooks: {look: {schedule: 0 3 * * *}}}", encoding="utf-8"
    )
    config, _ = load(path, {})
    (found,) = schedules(config, library)
    assert (found.runbook, found.cron.expression, str(found.cron.zone), found.own) == (
        "look", "0 3 * * *", "Europe/Berlin", False,
    )  # fmt: skip
    own = library["look"].runbook.model_copy(
        update={"triggers": [Trigger(schedule="*/5 * * * *"), Trigger(schedule="1 4 * * *")]}
    )
    library["look"] = replace(library["look"], runbook=own)
    (found,) = schedules(config, library)
    assert found.cron.expression == "0 3 * * *"
    path.write_text("hosts: {gpu-1: {}}\nschedules: {runbooks: {look: {hosts: gpu-1}}}", encoding="utf-8")
    both = schedules(load(path, {})[0], library)
    assert [(one.cron.expression, one.hosts, one.own) for one in both] == [
        ("*/5 * * * *", "gpu-1", True), ("1 4 * * *", "gpu-1", True),
    ]  # fmt: skip


def test_a_check_only_looks(tmp_path: Path, library: Any) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text("check: [look, restart, nope]", encoding="utf-8")
    found = [str(each) for each in check_routes(*load(path, {}), library)]
    assert ["`restart` changes hosts" in found[0], "no runbook `nope`" in found[1]] == [True, True]


def test_the_configuration_is_looked_for_in_the_usual_places(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    with pytest.raises(SickbayError) as caught:
        find_config(None, environ, tmp_path)
    assert str(tmp_path / "sickbay.yaml") in str(caught.value)
    assert str(tmp_path / "home/.config/sickbay/sickbay.yaml") in str(caught.value)
    named = tmp_path / "home/.config/sickbay/sickbay.yaml"
    named.parent.mkdir(parents=True)
    for path in (named, tmp_path / "sickbay.yaml"):
        path.touch()
        assert find_config(None, environ, tmp_path) == path
    assert find_config(None, {**environ, "SICKBAY_CONFIG": str(named)}, tmp_path) == named
    assert find_config(named, {"SICKBAY_CONFIG": "/no/such"}, tmp_path) == named
    with pytest.raises(SickbayError, match="there is no file /no/such"):
        find_config(None, {"SICKBAY_CONFIG": "/no/such"}, tmp_path)


def test_an_installed_package_carries_every_room_and_what_is_shipped() -> None:
    root = Path(__file__).resolve().parent.parent
    setup = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    rooms = {str(each.parent.relative_to(root)).replace("/", ".") for each in root.glob("bot/**/*.py")}
    assert set(setup["packages"]) == rooms | {"bot.runbooks", "bot.templates"}
    for name, folder in setup["package-dir"].items():
        assert shipped(name.removeprefix("bot.")) == root / folder
    assert re.fullmatch(r".*/templates", str(shipped("templates")))


def test_runbooks_of_ones_own_go_beside_the_shipped_ones(tmp_path: Path) -> None:
    config = loaded(tmp_path, "runbooks: [shipped, mine]\nhosts: {gpu-01: {}}\n")
    assert config.runbook_folders == (shipped("runbooks"), tmp_path / "mine")
    assert loaded(tmp_path, "hosts: {gpu-01: {}}\n").runbook_folders == (shipped("runbooks"),)


def test_a_shipped_runbook_that_was_left_out_is_told_with_how_to_have_it_back(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    path = tmp_path / "sickbay.yaml"
    path.write_text("runbooks: [mine]\nhosts: {gpu-01: {}}\nroutes: [{runbook: restart-container}]\n")
    config, document = load(path, {})
    (mistake,) = check_routes(config, document, {})
    assert mistake.what == "there is no runbook `restart-container`"
    assert mistake.hint.startswith(
        "it comes with Sickbay, but `runbooks:` names other folders only: write [shipped, "
    )


def test_a_runbook_of_ones_own_takes_another_name_than_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "gpu-check.yaml").write_bytes((shipped("runbooks") / "gpu-check.yaml").read_bytes())
    library, mistakes = load_library([shipped("runbooks"), tmp_path], kinds=KINDS, parsers=PARSERS)
    assert library["gpu-check"].file == str(shipped("runbooks") / "gpu-check.yaml")
    (mistake,) = mistakes
    assert mistake.file == str(tmp_path / "gpu-check.yaml")
    assert mistake.what == "there are two runbooks `gpu-check`"
    assert mistake.hint.endswith("a runbook of your own takes another name")
