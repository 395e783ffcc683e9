"""Hosts behind jump hosts: real sshds one behind another, each with its own host key and its own limits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bot.effect import Command, Finished, Outcome, Unreachable
from bot.inventory import Hop, Host
from bot.ssh import Ssh
from tests.parts.leaks import nothing_left
from tests.parts.programs import wait_until
from tests.parts.sshd import Sshd

Way = Callable[..., Sshd]


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    """Start sshds that one key may log in to; all are known."""
    with ExitStack() as stack:
        servers: list[Sshd] = []

        def start(*, options: str = "", known: bool = True) -> Sshd:
            number = len(servers)
            server = Sshd(tmp_path / str(number), address=f"127.0.1.{20 + number}", options=options)
            if servers:
                (server.directory / "authorized_keys").write_bytes(
                    (servers[0].directory / "authorized_keys").read_bytes()
                )
            stack.enter_context(server)
            servers.append(server)
            if number and known:
                with servers[0].known_hosts.open("a") as file:
                    file.write(server.known_hosts_line())
            return server

        yield start


def behind(host: Host, *hops: Sshd) -> Host:
    return replace(host, jump=tuple(hop(server) for server in hops))


def hop(server: Sshd) -> Hop:
    return Hop(f"jump-{server.port}", server.address, server.port, server.user)


def look(ssh: Ssh, host: Host, text: str = "echo $SSH_CONNECTION") -> Outcome:
    return ssh.run(host, Command(text), key="k", first_sent=None)


def test_a_command_goes_by_way_of_the_jump_host(way: Way) -> None:
    bastion, inner = way(), way()
    with nothing_left():
        ssh = bastion.ssh()
        outcome = look(ssh, behind(inner.host(), bastion))
        ssh.close()
    assert isinstance(outcome, Finished), outcome
    assert outcome.stdout.text.split()[2] == inner.address
    assert (bastion.logins, inner.logins) == (1, 1)


def test_a_chain_of_jump_hosts_is_gone_along_and_each_is_logged_in_to_once(way: Way) -> None:
    first, second, third = way(), way(), way()
    inner = way()
    with nothing_left():
        ssh = first.ssh()
        chain = behind(inner.host(), first, second, third)
        outcomes = [look(ssh, chain), look(ssh, behind(third.host(), first, second)), look(ssh, chain)]
        ssh.close()
    assert all(isinstance(outcome, Finished) for outcome in outcomes), outcomes
    assert [server.logins for server in (first, second, third, inner)] == [1, 1, 1, 1]


def test_megabytes_come_through_whole_and_go_through_whole(way: Way) -> None:
    bastion, inner = way(), way()
    ssh = bastion.ssh()
    outcome = look(ssh, behind(inner.host(), bastion), "head -c 9000000 /dev/zero; echo end")
    command = Command('printf %s "$big" | wc -c', env={"big": "x" * 700_000})
    sent = ssh.run(behind(inner.host(), bastion), command, key="k", first_sent=None)
    ssh.close()
    assert isinstance(outcome, Finished), outcome
    assert outcome.stdout.total == 9_000_004
    assert outcome.stdout.data.endswith(b"\0end\n")
    assert isinstance(sent, Finished), sent
    assert sent.stdout.data.strip() == b"700000"


def test_the_key_of_the_host_behind_is_checked_like_any_other(way: Way) -> None:
    bastion, inner = way(), way(known=False)
    with nothing_left():
        ssh = bastion.ssh()
        outcome = look(ssh, behind(inner.host(), bastion))
        ssh.close()
    assert isinstance(outcome, Unreachable)
    assert outcome.layer == "host key"
    assert f"[{inner.address}]:{inner.port} is not in" in outcome.reason
    assert inner.logins == 0


def test_the_key_of_the_jump_host_is_checked_before_anything_goes_through(way: Way) -> None:
    home, bastion, inner = way(), way(known=False), way()
    ssh = home.ssh()
    outcome = look(ssh, behind(inner.host(), bastion))
    ssh.close()
    assert isinstance(outcome, Unreachable)
    assert outcome.layer == "host key"
    assert f"by way of the jump host jump-{bastion.port}" in outcome.reason
    assert bastion.logins == 0


def test_a_jump_host_that_leads_nobody_on_is_named(way: Way) -> None:
    bastion, inner = way(options="AllowTcpForwarding no"), way()
    with nothing_left():
        ssh = bastion.ssh()
        outcome = look(ssh, behind(inner.host(), bastion))
        ssh.close()
    assert isinstance(outcome, Unreachable)
    assert outcome.layer == "tcp"
    assert "AllowTcpForwarding" in outcome.advice


def test_a_port_behind_where_nothing_listens_is_told_from_a_jump_host_that_is_down(way: Way) -> None:
    bastion, inner = way(), way()
    inner.stop()
    ssh = bastion.ssh()
    dead = look(ssh, behind(inner.host(), bastion))
    bastion.stop()
    gone = look(ssh, behind(inner.host(), bastion))
    ssh.close()
    assert isinstance(dead, Unreachable)
    assert "nothing answers there" in dead.reason
    assert isinstance(gone, Unreachable)
    assert f"by way of the jump host jump-{bastion.port}" in gone.reason


def test_a_jump_host_that_dies_cuts_what_rode_on_it_and_a_command_that_changes_something_is_found_again(
    way: Way,
) -> None:
    bastion, inner = way(), way()
    gate, mark = inner.home / "gate", inner.home / "mark"
    ssh = Ssh(bastion.settings(), inner.places())
    host = behind(inner.host(), bastion)
    looking = ssh.start(host, Command("sleep 71"), key="k", first_sent=None)
    text = f"echo began >> {mark}; while [ ! -e {gate} ]; do sleep 0.05; done; echo whole"
    changing = ssh.start(host, Command(text, timeout=30, mutating=True), key="r/s/h/1", first_sent=None)
    wait_until(lambda: mark.exists() and bool(inner.processes("sleep 71")), "both commands")
    assert bastion.kill_sessions()
    assert isinstance(looking.outcome.result(10), Unreachable)
    gate.touch()
    outcome = changing.outcome.result(20)
    ssh.close()
    assert isinstance(outcome, Finished), outcome
    assert outcome.stdout.data == b"whole\n"
    assert mark.read_text() == "began\n"


def test_many_hosts_behind_one_jump_host_share_its_connection(way: Way) -> None:
    bastion = way()
    inner = [way() for _ in range(7)]
    with nothing_left():
        ssh = bastion.ssh(max_channels=2)
        hosts = [behind(server.host(), bastion) for server in inner]
        sent = [ssh.start(host, Command("echo here"), key="k", first_sent=None) for host in hosts]
        outcomes = [one.outcome.result(30) for one in sent]
        ssh.close()
    assert all(isinstance(outcome, Finished) for outcome in outcomes), outcomes
    assert bastion.logins == 1
    assert [server.logins for server in inner] == [1] * 7
