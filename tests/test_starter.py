"""What one begins with: a sickbay.yaml that holds, and Slack's app for both ways in."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from bot.config.config import Config, check_routes, load
from bot.config.settings import HostSection, SlackSection, SshSection
from bot.facts.registry import PARSERS
from bot.library import load_library
from bot.shipped import shipped
from bot.steps import KINDS
from tests.parts.clinic import Clinic

STARTER = (shipped("templates") / "sickbay.yaml").read_text("utf-8")


def whole() -> str:
    """Return the file with all that is off in it put on."""
    _, _, rest = STARTER.partition("\n\n")
    lines = [line for line in rest.splitlines() if "──" not in line]
    return "\n".join(re.sub(r"^( *)# ", r"\1", line) for line in lines)


def test_the_file_is_written_once_and_is_a_configuration_without_a_mistake(clinic: Clinic) -> None:
    clinic.config.unlink()
    written = clinic.say("init")
    assert written.code == 0, written.err
    assert "sickbay doctor" in written.out
    assert clinic.config.read_text() == STARTER
    assert clinic.say("hosts").out.splitlines()[-1].startswith("gpu-01")
    clinic.config.write_text("hosts: {}\n")
    refused = clinic.say("init")
    assert (refused.code, refused.out) == (2, "")
    assert "sickbay.yaml: it is there already, and stays as it is" in refused.err
    assert clinic.config.read_text() == "hosts: {}\n"
    nowhere = clinic.say("init", "no/sickbay.yaml")
    assert "no/sickbay.yaml: cannot be written: No such file or directory" in nowhere.err


def test_what_is_off_in_it_could_be_put_on(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").touch()
    path = tmp_path / "sickbay.yaml"
    path.write_text(whole())
    config, document = load(path, {"HOME": str(tmp_path)})
    library, _ = load_library([shipped("runbooks")], kinds=KINDS, parsers=PARSERS)
    assert check_routes(config, document, library) == []
    assert set(document.data) == set(Config.model_fields), "every section is there"


@pytest.mark.parametrize("section", [SshSection, SlackSection])
def test_every_key_of_ssh_and_slack_is_there(section: type[BaseModel]) -> None:
    for_tests = {"base_url"}
    assert {key for key in section.model_fields if not re.search(rf"\b{key}: ", whole())} <= for_tests


def test_numbers_that_are_off_are_the_defaults() -> None:
    for key, number in re.findall(r"# ([a-z_]+): ([0-9]+)\b", STARTER):
        assert SshSection.model_fields[key].default == int(number), key
    assert {"connect_timeout", "max_connecting"} <= {
        key for key, _ in re.findall(r"# ([a-z_]+): ([0-9]+)", STARTER)
    }
    assert HostSection.model_fields["port"].default == 22


def test_the_app_for_http_has_the_address_and_the_one_for_socket_mode_has_none(clinic: Clinic) -> None:
    clinic.config.unlink()
    socket = clinic.say("slack", "manifest")
    assert (socket.code, "socket_mode_enabled: true" in socket.out, "url: " in socket.out) == (0, True, False)
    http = clinic.say("slack", "manifest", "--url", "https://sickbay.example.org/")
    assert "socket_mode_enabled: false" in http.out
    assert re.findall(r"(\w*url): (\S+)", http.out) == [
        ("url", "https://sickbay.example.org/slack/events"),
        ("request_url", "https://sickbay.example.org/slack/events"),
        ("request_url", "https://sickbay.example.org/slack/events"),
    ]
    assert "it posts to https://… only" in clinic.say("slack", "manifest", "--url", "sickbay.example.org").err


def test_where_slack_is_to_post_the_address_is_asked_for(clinic: Clinic) -> None:
    clinic.write(slack={"transport": "http"})
    said = clinic.say("slack", "manifest")
    assert (said.code, said.out) == (2, "")
    assert "sickbay slack manifest --url https://" in said.err
