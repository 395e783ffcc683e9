"""Who we are on a host: keys, certificates and agents, and the accounts that look and that act, on a real sshd."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest
from paramiko.agent import AgentKey, AgentSSH

from bot.effect import Command, Finished, Outcome, Unreachable
from bot.inventory import Access, Host
from bot.ssh import Ssh, SshSettings
from bot.ssh.account import account, apart
from bot.ssh.settings import Act
from tests.parts.leaks import nothing_left
from tests.parts.programs import Child
from tests.parts.sshd import Sshd, new_key


def sign(authority: Path, key: Path, *options: str) -> Path:
    """Make a certificate beside the key."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "alice", *options, f"{key}.pub"], check=True)
    return Path(f"{key}-cert.pub")


def fingerprint(path: Path) -> str:
    found = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True)
    return found.stdout.split()[1]


class Gate:
    """An sshd that lets in whom its authority signed."""

    def __init__(self, sshd: Sshd, authority: Path) -> None:
        self.sshd = sshd
        self.authority = authority

    def key(self, name: str, *options: str, kind: str = "ed25519") -> Path:
        """Return a key with a certificate beside it."""
        key = new_key(self.sshd.directory / name, kind)
        sign(self.authority, key, *(options or ("-n", self.sshd.user)))
        return key

    def ask(self, host: Host | None = None, **settings: object) -> Outcome:
        """Log in and look."""
        with nothing_left():
            ssh = Ssh(self.sshd.settings(**settings))
            try:
                return ssh.probe(host or self.sshd.host())
            finally:
                ssh.close()

    @property
    def accepted(self) -> list[str]:
        """Return what was accepted, as sshd's log has it."""
        return re.findall(r"Accepted publickey for \S+ from \S+ port \d+ ssh2: (.*)", self.sshd.log)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    authority = new_key(tmp_path / "ca")
    with Sshd(tmp_path / "sshd", options=f"TrustedUserCAKeys {authority}.pub") as sshd:
        (sshd.directory / "authorized_keys").write_text("")
        yield Gate(sshd, authority)


@contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[Path]:
    """An ssh agent that holds these keys and the certificates beside them."""
    place = folder / "agent"
    child = Child(["ssh-agent", "-D", "-a", place], folder / "agent.log")
    child.start(place.exists)
    try:
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", key],
                check=True,
                capture_output=True,
                env={"SSH_AUTH_SOCK": str(place), "PATH": "/usr/bin"},
            )
        yield place
    finally:
        child.stop()


def words(outcome: Outcome) -> str:
    assert isinstance(outcome, Unreachable), outcome
    assert outcome.layer == "login"
    return outcome.reason


# ── certificates ──
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_beside_a_key_logs_in(gate: Gate, kind: str) -> None:
    key = gate.key("mine", "-n", gate.sshd.user, kind=kind)
    assert isinstance(gate.ask(identity_files=(key,)), Finished)
    assert "CERT" in gate.accepted[0]


def test_the_plain_key_is_tried_after_its_certificate(gate: Gate) -> None:
    key = gate.key("mine", "-n", "somebody-else")
    assert f"{key}-cert.pub, {key}" in words(gate.ask(identity_files=(key,)))
    (gate.sshd.directory / "authorized_keys").write_text(Path(f"{key}.pub").read_text())
    assert isinstance(gate.ask(identity_files=(key,)), Finished)
    assert "CERT" not in gate.accepted[0]


def test_a_certificate_may_lie_elsewhere(gate: Gate, tmp_path: Path) -> None:
    key, other = gate.key("mine"), gate.key("other")
    moved = Path(f"{key}-cert.pub").rename(tmp_path / "moved.pub")
    access = Access(certificate_files=(Path(f"{other}-cert.pub"), moved))
    host = Host("gpu-01", gate.sshd.address, gate.sshd.port, gate.sshd.user, access=access)
    assert isinstance(gate.ask(host, identity_files=(key,)), Finished)
    assert "CERT" in gate.accepted[0]


def test_an_expired_certificate_is_told_and_not_offered(gate: Gate) -> None:
    key = gate.key("mine", "-n", gate.sshd.user, "-V", "20200101:20200201")
    told = words(gate.ask(identity_files=(key,)))
    assert "not offered: the certificate 'alice' (serial 0) expired at 2020-0" in told
    assert "get a new one" in told
    assert "expired" not in gate.sshd.log, "the host never saw it"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda gate, key: sign(gate.authority, key, "-h", "-n", "x"), "is not a user certificate"),
        (
            lambda gate, key: Path(f"{gate.key('other')}-cert.pub").rename(f"{key}-cert.pub"),
            "is for another key",
        ),
        (lambda _, key: Path(f"{key}-cert.pub").write_text("ssh-rsa nonsense"), "is not a certificate"),
        (
            lambda _, key: Path(f"{key}-cert.pub").write_text(Path(f"{key}.pub").read_text()),
            "are not supported",
        ),
    ],
)
def test_a_certificate_that_is_none_for_this_key_is_named(gate: Gate, spoil: object, told: str) -> None:
    key = gate.key("mine")
    spoil(gate, key)  # type: ignore[operator]
    reason = words(gate.ask(identity_files=(key,)))
    assert f"{key}-cert.pub" in reason
    assert told in reason


# ── agents ──
def test_keys_of_the_agent_are_used_only_when_asked_for(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(sshd, sshd.identity)
    with agent(tmp_path, sshd.identity) as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
        assert "no private key is configured" in words(gate.ask(identity_files=()))
        assert isinstance(gate.ask(identity_files=(), allow_agent=True), Finished)


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_certificates_of_the_agent_log_in(gate: Gate, tmp_path: Path, kind: str) -> None:
    key = gate.key("mine", "-n", gate.sshd.user, kind=kind)
    with agent(tmp_path, key) as place:
        host = Host(
            "gpu-01", gate.sshd.address, gate.sshd.port, gate.sshd.user, access=Access(agent=str(place))
        )
        assert isinstance(gate.ask(host, identity_files=()), Finished)
    assert "CERT" in gate.accepted[0]


def test_an_agent_that_is_gone_is_told_and_the_files_are_tried(sshd: Sshd, tmp_path: Path) -> None:
    gate = Gate(sshd, sshd.identity)
    host = Host("gpu-01", sshd.address, sshd.port, sshd.user, access=Access(agent=str(tmp_path / "none")))
    assert isinstance(gate.ask(host), Finished)
    assert f"the ssh agent at {tmp_path / 'none'} does not answer" in words(gate.ask(host, identity_files=()))


def test_paramiko_still_has_what_the_agent_leans_on() -> None:
    assert hasattr(AgentSSH, "_connect")
    assert hasattr(AgentSSH, "_close")
    assert AgentKey.asbytes is not paramiko.PKey.asbytes


# ── looking and acting ──
def run(ssh: Ssh, host: Host, *, mutating: bool, key: str = "k") -> Outcome:
    command = Command("true", mutating=mutating)
    return ssh.run(host, command, key=key, first_sent=None)


def test_looking_and_acting_log_in_with_keys_of_their_own_over_connections_of_their_own(sshd: Sshd) -> None:
    acting = new_key(sshd.directory / "acting")
    with (sshd.directory / "authorized_keys").open("a") as file:
        file.write(Path(f"{acting}.pub").read_text())
    with nothing_left():
        ssh = sshd.ssh(act={"identity_files": [acting]})
        for number in range(2):
            assert isinstance(run(ssh, sshd.host(), mutating=False), Finished)
            assert isinstance(run(ssh, sshd.host(), mutating=True, key=f"k{number}"), Finished)
        ssh.close()
    accepted = Gate(sshd, acting).accepted
    assert [fingerprint(acting) in line for line in accepted] == [False, True], "each logged in once"


def test_a_key_that_is_held_to_a_shell_by_a_forced_command_is_enough(sshd: Sshd) -> None:
    line = Path(f"{sshd.identity}.pub").read_text()
    (sshd.directory / "authorized_keys").write_text(
        f'restrict,command="exec /bin/sh",from="127.0.0.0/8" {line}'
    )
    with nothing_left():
        ssh = sshd.ssh()
        assert isinstance(run(ssh, sshd.host(), mutating=False), Finished)
        assert isinstance(run(ssh, sshd.host(), mutating=True), Finished)
        ssh.close()


def test_where_nothing_sets_them_apart_they_share_one_connection(sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh()
        assert isinstance(run(ssh, sshd.host(), mutating=False), Finished)
        assert isinstance(run(ssh, sshd.host(), mutating=True), Finished)
        ssh.close()
    assert sshd.logins == 1


def test_a_key_that_only_looks_is_never_offered_to_act(sshd: Sshd) -> None:
    stranger = new_key(sshd.directory / "stranger")
    with nothing_left():
        ssh = sshd.ssh(act={"identity_files": [stranger]})
        assert isinstance(run(ssh, sshd.host(), mutating=False), Finished)
        outcome = run(ssh, sshd.host(), mutating=True)
        ssh.close()
    assert isinstance(outcome, Unreachable)
    assert str(stranger) in outcome.reason
    assert str(sshd.identity) not in outcome.reason
    assert "ssh.act.identity_files" in outcome.advice


@pytest.mark.parametrize(
    ("host", "act", "user", "files"),
    [
        (Host("a", "a"), Act(), "look", ("k",)),
        (Host("a", "a", user="ubuntu"), Act(), "ubuntu", ("k",)),
        (Host("a", "a"), Act(user="act"), "act", ("k",)),
        (Host("a", "a", user="ubuntu"), Act(user="act"), "act", ("k",)),
        (Host("a", "a", access=Access(act_user="root")), Act(user="act"), "root", ("k",)),
        (Host("a", "a"), Act(identity_files=(Path("act"),)), "look", ("act",)),
        (Host("a", "a", access=Access(identity_files=(Path("own"),))), Act(user="act"), "act", ("own",)),
        (
            Host("a", "a", access=Access(act_identity_files=(Path("own"),))),
            Act(identity_files=(Path("act"),)),
            "look",
            ("own",),
        ),
    ],
)
def test_who_acts_is_said_by_the_host_then_by_act_then_by_who_looks(
    host: Host, act: Act, user: str, files: tuple[str, ...]
) -> None:
    settings = SshSettings(user="look", identity_files=(Path("k"),), act=act)
    found = account(host, settings, "act")
    assert (found.user, found.identity_files) == (user, tuple(map(Path, files)))
    assert apart(host, settings) == (found != account(host, settings, "look"))
