"""ssh_config, asked of the real OpenSSH: what is taken, what is refused, and what does not matter."""

import re
import subprocess
from pathlib import Path

import pytest

from bot.config.config import load
from bot.config.ssh_config import HARMLESS, REFUSED, TAKEN, Answer, asking, parse, resolve
from bot.errors import SickbayError
from bot.inventory import Access, Host
from bot.language.schema import Invalid
from tests.parts.programs import require

HOME = Path("/home/ops")


@pytest.fixture(autouse=True)
def openssh() -> None:
    require("ssh", package="openssh-client")


def ask(folder: Path, text: str, name: str = "gpu-01") -> Answer:
    file = folder / "ssh_config"
    file.write_text(text)
    return asking(file, HOME, "me")(name)


def refused(folder: Path, text: str, name: str = "gpu-01") -> SickbayError:
    with pytest.raises(SickbayError) as error:
        ask(folder, text, name)
    return error.value


def test_a_file_that_says_nothing_changes_nothing(tmp_path: Path) -> None:
    assert ask(tmp_path, "Host other\n  Port 9\n") == Answer("gpu-01")


def test_what_is_supported_is_taken_with_its_percent_signs(tmp_path: Path) -> None:
    answer = ask(
        tmp_path,
        "Host gpu-*\n HostName %h.lab\n User ops\n Port 2200\n IdentityFile ~/.ssh/%r_key\n IdentityFile /k\n"
        " CertificateFile %d/c-cert.pub\n ProxyJump me@bastion:22,inner\n HostKeyAlias %n\n ConnectTimeout 7\n"
        " IdentityAgent /run/agent\n UserKnownHostsFile /a /b\n GlobalKnownHostsFile /c\n StrictHostKeyChecking yes\n"
        " ForwardAgent no\n ServerAliveInterval 5\n Compression yes\n",
    )
    assert answer == Answer(
        address="gpu-01.lab",
        port=2200,
        user="ops",
        jump="me@bastion:22,inner",
        access=Access(
            identity_files=(HOME / ".ssh/ops_key", Path("/k")),
            certificate_files=(HOME / "c-cert.pub",),
            agent="/run/agent",
            known_hosts=(Path("/a"), Path("/b"), Path("/c")),
            alias="gpu-01",
            connect_timeout=7.0,
        ),
    )


@pytest.mark.parametrize("line", ["IdentitiesOnly yes", "IdentityAgent none"])
def test_no_agent_is_asked_where_the_file_says_so(tmp_path: Path, line: str) -> None:
    assert ask(tmp_path, line).access.agent == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ProxyCommand nc %h %p", "proxycommand nc %h %p: write the way as ProxyJump"),
        ("StrictHostKeyChecking no", "host keys are checked always"),
        ("StrictHostKeyChecking accept-new", "`sickbay hosts enroll` makes one known"),
        ("UserKnownHostsFile /dev/null", "without one no host is known"),
        ("GSSAPIAuthentication yes", "log in with a key"),
        ("PKCS11Provider /lib/x.so", "put the key into an ssh agent"),
        ("RemoteCommand top", "runbooks say what is run"),
        ("ControlMaster auto", "Sickbay keeps its own connections"),
        ("ControlPath ~/.ssh/%C", "Sickbay keeps its own connections"),
        ("ForwardAgent yes", "an agent is never lent"),
        ("RevokedHostKeys /r", "`@revoked` lines"),
        ("VerifyHostKeyDNS yes", "do not vouch"),
        ("KnownHostsCommand /bin/x", "into known_hosts"),
        ("PreferredAuthentications password", "name publickey"),
        ("PubkeyAuthentication no", "log in with a key"),
        ("Ciphers aes256-ctr", "must not leave it out"),
        ("BindAddress 127.0.0.1", "must not leave it out"),
        ("AddressFamily inet", "must not leave it out"),
        ("SetEnv A=b", "must not leave it out"),
        ("LocalForward 8000 gpu:80", "must not leave it out"),
        ("IdentityFile %C", "`%C` in %C is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_with_file_host_and_advice(
    tmp_path: Path, line: str, told: str
) -> None:
    error = refused(tmp_path, f"Host gpu-*\n  {line}\n")
    assert error.where == f"{tmp_path / 'ssh_config'}, for gpu-01"
    assert told in str(error)
    assert ask(tmp_path, f"Host gpu-*\n  {line}\n", "lb") == Answer("lb"), "only where it counts"


def test_everything_that_is_not_supported_is_told_at_once(tmp_path: Path) -> None:
    error = refused(tmp_path, "ControlMaster auto\nProxyCommand x\nForwardAgent yes\n")
    assert len(error.what.splitlines()) == 4


def test_a_file_that_openssh_cannot_read_is_told_in_its_words(tmp_path: Path) -> None:
    assert "Bad configuration option: nonsense" in str(refused(tmp_path, "Nonsense yes\n"))
    with pytest.raises(SickbayError, match="there is no file"):
        asking(tmp_path / "none", HOME, "me")


def test_without_openssh_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "openssh-client" in str(refused(tmp_path, ""))


def test_every_keyword_of_this_openssh_with_its_usual_value_is_silent() -> None:
    usual = subprocess.run(
        ["ssh", "-G", "-F", "/dev/null", "x"], check=True, capture_output=True, text=True
    ).stdout
    assert resolve(usual, usual, where="f", home=HOME, login="me") == Answer("x")
    assert len(parse(usual)) > 50


def test_no_keyword_is_both_taken_and_passed_over() -> None:
    assert set(TAKEN) & HARMLESS == set()
    assert set(REFUSED) & HARMLESS == set()
    assert all(re.fullmatch(r"[a-z0-9]+", key) for key in {*TAKEN, *HARMLESS, *REFUSED})


# ── in sickbay.yaml ──
def hosts(folder: Path, ssh_config: str, text: str) -> dict[str, Host]:
    (folder / "ssh_config").write_text(ssh_config)
    path = folder / "sickbay.yaml"
    path.write_text(f"ssh: {{config: ssh_config}}\n{text}")
    return dict(load(path, {"HOME": "/home/ops"})[0].inventory.hosts)


def test_sickbay_yaml_wins_over_ssh_config_and_ssh_config_over_what_is_usual(tmp_path: Path) -> None:
    config = "Host gpu-*\n HostName %h.lab\n User ops\n Port 2200\n IdentityFile /k\n"
    found = hosts(
        tmp_path,
        config,
        "hosts:\n  gpu-[01-02]: {}\n  gpu-03: {user: root, port: 22, identity_files: [/own]}\n  lb: {address: 10.0.0.9}",
    )
    one, three, balancer = found["gpu-01"], found["gpu-03"], found["lb"]
    assert (one.address, one.port, one.user) == ("gpu-01.lab", 2200, "ops")
    assert one.access.identity_files == (Path("/k"),)
    assert (three.address, three.port, three.user) == ("gpu-03.lab", 22, "root")
    assert three.access.identity_files == (Path("/own"),)
    assert (balancer.address, balancer.user, balancer.access) == ("10.0.0.9", None, Access())


def test_jump_hosts_of_ssh_config_are_asked_about_too_and_do_not_jump_over_themselves(tmp_path: Path) -> None:
    config = "Host bastion\n HostName 203.0.113.1\n User jump\nHost *\n ProxyJump bastion\n Port 2222\n"
    found = hosts(tmp_path, config, "hosts: {gpu-01: {}, straight: {proxy_jump: none}}")
    (hop,) = found["gpu-01"].jump
    assert (hop.name, hop.address, hop.port, hop.user) == ("bastion", "203.0.113.1", 2222, "jump")
    assert found["straight"].jump == ()


def test_a_refusal_is_told_where_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as error:
        hosts(tmp_path, "ControlMaster auto\n", "hosts: {gpu-01: {}}")
    assert f"sickbay.yaml:1: {tmp_path / 'ssh_config'}, for gpu-01: not supported" in str(error.value)


def test_two_names_of_one_machine_are_not_two_hosts(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as error:
        hosts(tmp_path, "Host a b\n HostName 10.0.0.1\n", "hosts:\n  a: {}\n  b: {}")
    assert "sickbay.yaml:4: b is a by another name: 10.0.0.1:22 (one machine is one host)" in str(error.value)
