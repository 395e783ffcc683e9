"""Where hosts can be taken out of traffic: one by one or as a set, and every mistake when the file is read."""

from pathlib import Path

import pytest
from rich.console import Console

from bot.cli.terminal import render
from bot.config.config import load
from bot.language.schema import Invalid
from bot.messages.card import Card
from bot.messages.listing import host_table

HOSTS = """\
hosts:
  lb-01: {}
  gpu-[01-08]:
    address: 10.0.0.[11-18]
    vars:
      gpus: 8
      haproxy: HAPROXY
"""


def read(tmp_path: Path, haproxy: str) -> Path:
    path = tmp_path / "sickbay.yaml"
    path.write_text(HOSTS.replace("HAPROXY", haproxy))
    return path


def shown(card: Card) -> str:
    console = Console(width=200)
    with console.capture() as written:
        console.print(render(card))
    return written.get()


def test_each_host_of_a_set_is_the_server_of_its_own_name(tmp_path: Path) -> None:
    config, _ = load(read(tmp_path, "{host: lb-01, backend: be_vllm}"), {})
    hosts = config.inventory.hosts
    assert hosts["gpu-03"].vars == {"gpus": 8, "haproxy": {"host": "lb-01", "server": "be_vllm/gpu-03"}}
    assert hosts["gpu-08"].vars["haproxy"]["server"] == "be_vllm/gpu-08"


@pytest.mark.parametrize(
    ("haproxy", "mistake"),
    [
        (
            "{host: lb-01, server: be_vllm/gpu-03}",
            "8 hosts cannot all be the server be_vllm/gpu-03 (write `backend: be_vllm`: each is then the server of its own name there)",
        ),
        ("{host: lb-01, server: be_vllm}", '`server`: "be_vllm" does not match'),
        ("{host: lb-01, server: be_vllm}", "(write backend/server)"),
        (
            "{host: lb-01, server: a/b, backend: a}",
            "`server` and `backend` say the same thing: keep one of them",
        ),
        ("{host: lb-01, backend: a, sokcet: /x}", "unknown key `sokcet` (did you mean `socket`?)"),
        ("be_vllm", "expected a mapping (key: value), not text"),
    ],
)
def test_a_mistake_is_told_at_its_line_when_the_file_is_read(
    tmp_path: Path, haproxy: str, mistake: str
) -> None:
    with pytest.raises(Invalid) as raised:
        load(read(tmp_path, haproxy), {})
    (line,) = str(raised.value).splitlines()
    assert "sickbay.yaml:7: " in line
    assert mistake in line


def test_what_is_left_out_is_for_the_step_to_say(tmp_path: Path) -> None:
    config, _ = load(read(tmp_path, "{socket: /run/haproxy/admin.sock}"), {})
    assert config.inventory.hosts["gpu-01"].vars["haproxy"] == {"socket": "/run/haproxy/admin.sock"}


def test_the_list_of_hosts_shows_which_can_be_drained(tmp_path: Path) -> None:
    config, _ = load(read(tmp_path, "{host: lb-01, backend: be_vllm}"), {})
    few = shown(host_table(config.inventory.select("gpu-[01-02]")))
    assert "gpus=8 haproxy=be_vllm" in few
    config, _ = load(read(tmp_path, "{host: lb-01}"), {})
    assert "haproxy" not in shown(host_table(config.inventory.select("gpu-01")))
