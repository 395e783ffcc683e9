"""Jump hosts: what people write, and the chain of hops that it means."""

from pathlib import Path

import pytest

from bot.config.config import load
from bot.config.jump import Spot, Ways, read
from bot.errors import SickbayError
from bot.inventory import Host
from bot.language.schema import Invalid


@pytest.mark.parametrize(
    ("text", "spots"),
    [
        ("", ()),
        ("none", ()),
        ("bastion", (Spot("bastion"),)),
        ("ops@bastion:2222", (Spot("bastion", 2222, "ops"),)),
        ("ssh://ops@bastion:2222/", (Spot("bastion", 2222, "ops"),)),
        ("ops@[fd00::1]:22", (Spot("fd00::1", 22, "ops"),)),
        ("a, b@c", (Spot("a"), Spot("c", None, "b"))),
    ],
)
def test_a_chain_is_written_as_openssh_has_it(text: str, spots: tuple[Spot, ...]) -> None:
    assert read(text) == spots


@pytest.mark.parametrize(
    "text", ["a b", "-oProxyCommand=x", "a,", "a:0", "a:99999", "a@", "@b", "a;b", "fd00::1"]
)
def test_what_is_no_jump_host_is_refused(text: str) -> None:
    with pytest.raises(SickbayError, match="is not a jump host"):
        read(text)


def ways(own: dict[str, str], usual: str = "") -> Ways:
    hosts = [Host("bastion", "203.0.113.1", 2222, "jump"), Host("inner", "10.0.0.1"), Host("gpu", "10.0.0.2")]
    return Ways({host.name: host for host in hosts}, own, usual)


def names(found: Ways, name: str = "gpu") -> list[str]:
    return [hop.name for hop in found.to(name)]


def test_a_hop_of_the_inventory_is_that_host() -> None:
    (hop,) = ways({"gpu": "bastion"}).to("gpu")
    assert (hop.address, hop.port, hop.user) == ("203.0.113.1", 2222, "jump")
    (hop,) = ways({"gpu": "me@bastion:22"}).to("gpu")
    assert (hop.port, hop.user) == (22, "me"), "what is written wins"


def test_a_hop_is_reached_the_way_it_is_reached_itself() -> None:
    assert names(ways({"gpu": "inner", "inner": "bastion"})) == ["bastion", "inner"]
    assert names(ways({"gpu": "bastion,inner", "inner": "other"})) == ["bastion", "inner"], "a chain is whole"


def test_the_usual_way_is_for_all_but_its_own_jump_hosts_and_who_says_otherwise() -> None:
    found = ways({"inner": "none"}, "bastion")
    assert (names(found), names(found, "bastion"), names(found, "inner")) == (["bastion"], [], [])


@pytest.mark.parametrize(
    ("own", "circle"),
    [
        ({"gpu": "gpu"}, "gpu → gpu"),
        ({"gpu": "inner", "inner": "gpu"}, "gpu → inner → gpu"),
        ({"gpu": "inner", "inner": "bastion", "bastion": "inner"}, "inner → bastion → inner"),
        ({"gpu": "x,x"}, "x:22 → x:22"),
    ],
)
def test_a_circle_is_refused_with_everybody_in_it(own: dict[str, str], circle: str) -> None:
    with pytest.raises(SickbayError) as refused:
        ways(own).to("gpu")
    assert refused.value.what.endswith(f": {circle}")


def test_too_many_hops_are_refused() -> None:
    with pytest.raises(SickbayError, match="more than 8"):
        ways({"gpu": ",".join(f"h{number}" for number in range(9))}).to("gpu")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("ssh:\n  proxy_jump: a b\nhosts: {a: {}}", "sickbay.yaml:2: `a b` is not a jump host"),
        ("hosts:\n  a: {}\n  b:\n    proxy_jump: b", "sickbay.yaml:4: the way goes round in a circle: b → b"),
        ("hosts:\n  a:\n    proxy_jump: b\n  b: {proxy_jump: a}", "sickbay.yaml:3: the way goes round"),
    ],
)
def test_a_way_that_leads_nowhere_is_told_at_its_line(tmp_path: Path, text: str, mistake: str) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text(text)
    with pytest.raises(Invalid) as refused:
        load(path, {"HOME": "/home/ops"})
    assert str(refused.value).removeprefix(f"{tmp_path}/").startswith(mistake)


def test_hosts_behind_different_jump_hosts_may_share_an_address(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text(
        "ssh: {act: {user: act, identity_files: [act_key]}, allow_agent: true}\n"
        "hosts:\n"
        "  a: {address: 10.0.0.1, proxy_jump: east}\n"
        "  b: {address: 10.0.0.1, proxy_jump: west, identity_files: [~/b], act: {user: root}}\n"
    )
    config, _ = load(path, {"HOME": "/home/ops"})
    a, b = config.inventory.hosts.values()
    assert (a.jump[0].name, b.jump[0].name) == ("east", "west")
    assert b.access.identity_files == (Path("/home/ops/b"),)
    assert b.access.act_user == "root"
    assert config.ssh.act.identity_files == (tmp_path / "act_key",)
