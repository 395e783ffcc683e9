"""Who the host is and who we are: on a real sshd, with keys and files made by OpenSSH's own tools."""

import subprocess
from pathlib import Path

import pytest

from bot.effect import Command, Finished, Outcome, Unreachable
from bot.ssh import Ssh
from bot.ssh.identity import ON_CONSOLE
from bot.ssh.known_hosts import Changed, KnownHosts, Revoked, Trusted, Uncertified, Unknown, Unreadable
from bot.ssh.public_key import Key
from tests.parts.leaks import nothing_left
from tests.parts.sshd import Sshd, new_key


def ask(sshd: Sshd, **settings: object) -> Outcome:
    with nothing_left():
        ssh = Ssh(sshd.settings(**settings))
        outcome = ssh.run(sshd.host(), Command("true"), key="k", first_sent=None)
        ssh.close()
    return outcome


def refused(outcome: Outcome, layer: str) -> Unreachable:
    assert isinstance(outcome, Unreachable), outcome
    assert outcome.layer == layer
    return outcome


def fingerprint(path: Path) -> str:
    return subprocess.run(
        ["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True
    ).stdout.split()[1]


def public(path: Path) -> tuple[str, str]:
    kind, blob = Path(f"{path}.pub").read_text().split()[:2]
    return kind, blob


def test_an_unknown_host_key_stops_before_the_login(sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    outcome = refused(ask(sshd), "host key")
    assert fingerprint(sshd.host_key) in outcome.reason
    assert "sickbay hosts enroll gpu-01" in outcome.advice
    assert sshd.logins == 0
    assert "authenticating user" not in sshd.log


def test_without_any_known_hosts_file_every_host_is_unknown(sshd: Sshd, tmp_path: Path) -> None:
    refused(ask(sshd, known_hosts=tmp_path / "none"), "host key")


def test_what_ssh_keyscan_writes_is_trusted_at_once(sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    ssh = Ssh(sshd.settings())
    refused(ssh.probe(sshd.host()), "host key")
    scan = ["ssh-keyscan", "-p", str(sshd.port), sshd.address]
    with sshd.known_hosts.open("ab") as file:
        subprocess.run(scan, stdout=file, stderr=subprocess.DEVNULL, check=True)
    assert isinstance(ssh.probe(sshd.host()), Finished)
    ssh.close()


def test_a_changed_host_key_stops_the_login_and_says_what_to_do(sshd: Sshd, tmp_path: Path) -> None:
    kind, blob = public(new_key(tmp_path / "old"))
    sshd.known_hosts.write_text(f"# first line\n[{sshd.address}]:{sshd.port} {kind} {blob}\n")
    outcome = refused(ask(sshd), "host key")
    assert "has changed" in outcome.reason
    assert f"{sshd.known_hosts}:2" in outcome.reason
    assert fingerprint(sshd.host_key) in outcome.reason
    assert fingerprint(tmp_path / "old") in outcome.reason
    assert "re-imaged" in outcome.advice
    assert "sickbay hosts enroll gpu-01" in outcome.advice
    assert sshd.logins == 0


def test_a_revoked_host_key_stops_even_when_it_is_also_trusted(sshd: Sshd) -> None:
    kind, blob = public(sshd.host_key)
    sshd.known_hosts.write_text(sshd.known_hosts_line() + f"@revoked * {kind} {blob}\n")
    assert "revoked" in refused(ask(sshd), "host key").reason


def test_names_hashed_by_ssh_keygen_are_found(sshd: Sshd) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", sshd.known_hosts], check=True, capture_output=True)
    assert sshd.known_hosts.read_text().startswith("|1|")
    assert isinstance(ask(sshd), Finished)


def test_the_kind_of_key_that_is_known_is_the_one_asked_for(tmp_path: Path) -> None:
    rsa = new_key(tmp_path / "rsa", "rsa")
    with Sshd(tmp_path / "sshd", options=f"HostKey {rsa}") as sshd:
        kind, blob = public(rsa)
        sshd.known_hosts.write_text(f"[{sshd.address}]:{sshd.port} {kind} {blob}\n")
        assert isinstance(ask(sshd), Finished)


def test_a_key_that_the_host_does_not_know_is_refused_once(sshd: Sshd, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    outcome = refused(ask(sshd, identity_files=(other,)), "login")
    assert str(other) in outcome.reason
    assert sshd.user in outcome.reason
    assert "authorized_keys" in outcome.advice
    assert sshd.log.count("Connection from") + sshd.log.count("authenticating user") <= 1


def test_the_second_identity_is_tried_on_the_same_connection(sshd: Sshd, tmp_path: Path) -> None:
    assert isinstance(ask(sshd, identity_files=(new_key(tmp_path / "other"), sshd.identity)), Finished)


def test_an_rsa_key_logs_in_too(sshd: Sshd, tmp_path: Path) -> None:
    key = new_key(tmp_path / "rsa", "rsa")
    with (sshd.directory / "authorized_keys").open("a") as file:
        file.write(Path(f"{key}.pub").read_text())
    assert isinstance(ask(sshd, identity_files=(key,)), Finished)


def test_a_login_without_any_key_says_which_setting_is_missing(sshd: Sshd) -> None:
    assert "ssh.identity_files" in refused(ask(sshd, identity_files=()), "login").advice


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("no key"), "is not a private key"),
        (lambda path: new_key(path, passphrase="secret"), "has a passphrase"),
        (lambda _: None, "No such file"),
    ],
)
def test_a_private_key_that_cannot_be_used_is_named(
    sshd: Sshd, tmp_path: Path, make: object, words: str
) -> None:
    path = tmp_path / "key"
    make(path)  # type: ignore[operator]
    outcome = refused(ask(sshd, identity_files=(path,)), "login")
    assert str(path) in outcome.reason
    assert words in outcome.reason


KIND, BLOB = "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA" + "A" * 42
OTHER = BLOB[:-1] + "E"


def key(text: str) -> Key:
    import base64

    return Key(KIND, base64.b64decode(text))


@pytest.mark.parametrize(
    ("lines", "address", "port", "verdict"),
    [
        (f"gpu-01 {KIND} {BLOB}", "gpu-01", 22, Trusted),
        (f"gpu-01 {KIND} {BLOB} a comment", "GPU-01", 22, Trusted),
        (f"gpu-01 {KIND} {BLOB}", "gpu-01", 2222, Unknown),
        (f"[gpu-01]:2222 {KIND} {BLOB}", "gpu-01", 2222, Trusted),
        (f"[gpu-*]:2222 {KIND} {BLOB}", "gpu-01", 2222, Trusted),
        (f"a,gpu-01,10.0.0.1 {KIND} {BLOB}", "10.0.0.1", 22, Trusted),
        (f"gpu-?? {KIND} {BLOB}", "gpu-01", 22, Trusted),
        (f"gpu-*,!gpu-01 {KIND} {BLOB}", "gpu-01", 22, Unknown),
        (f"*.lab,!bad.lab {KIND} {BLOB}", "bad.lab", 22, Unknown),
        (f"gpu-01 {KIND} {OTHER}", "gpu-01", 22, Changed),
        (f"gpu-01 {KIND} {OTHER}\ngpu-01 {KIND} {BLOB}", "gpu-01", 22, Trusted),
        (f"@revoked gpu-* {KIND} {BLOB}\ngpu-01 {KIND} {BLOB}", "gpu-01", 22, Revoked),
        (f"@revoked gpu-* {KIND} {OTHER}\ngpu-01 {KIND} {BLOB}", "gpu-01", 22, Trusted),
        (f"@cert-authority *.lab {KIND} {BLOB}", "a.lab", 22, Uncertified),
        (f"@cert-authority a.lab {KIND} {BLOB}", "a.lab", 2222, Uncertified),
        (f"@revoked a.lab {KIND} {BLOB}\n[a.lab]:2222 {KIND} {BLOB}", "a.lab", 2222, Revoked),
        (f"@cert-authority *.lab {KIND} {BLOB}", "gpu-01", 22, Unknown),
        ("@revoked gpu-01 nonsense", "gpu-02", 22, Unreadable),
        (f"@unheard-of gpu-01 {KIND} {BLOB}", "gpu-01", 22, Unreadable),
        ("gpu-01 nonsense", "gpu-01", 22, Unknown),
        (f"gpu-01 ssh-rsa {BLOB}", "gpu-01", 22, Unknown),
        ("# comment\n\n", "gpu-01", 22, Unknown),
        (f"|1|broken {KIND} {BLOB}", "gpu-01", 22, Unknown),
    ],
)
def test_known_hosts_is_read_as_openssh_reads_it(
    tmp_path: Path, lines: str, address: str, port: int, verdict: type
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(lines + "\n")
    assert isinstance(KnownHosts(path).judge(address, port, key(BLOB)), verdict)


def test_a_thousand_hosts_are_read_once_and_found_fast(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"gpu-{number:04} {KIND} {BLOB}\n" for number in range(1000)))
    known = KnownHosts(path)
    assert all(isinstance(known.judge(f"gpu-{number:04}", 22, key(BLOB)), Trusted) for number in range(1000))
    path.write_text(path.read_text().replace(f"gpu-0007 {KIND}", f"gpu-7777 {KIND}"))
    assert isinstance(known.judge("gpu-7777", 22, key(BLOB)), Trusted), "the file changed and is read again"


def test_what_to_type_on_the_console_prints_every_key_where_there_are_several(tmp_path: Path) -> None:
    for kind in ("ed25519", "ecdsa", "rsa"):
        path = tmp_path / f"ssh_host_{kind}_key"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    typed = ON_CONSOLE.replace("/etc/ssh", str(tmp_path))
    said = subprocess.run(["sh", "-c", typed], check=True, capture_output=True, text=True).stdout
    assert [line.split()[-1] for line in said.splitlines()] == ["(ECDSA)", "(ED25519)", "(RSA)"]
