"""Hosts known by a certificate: a real sshd with `HostCertificate`, signed by OpenSSH's own ssh-keygen."""

import base64
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bot.effect import Command, Finished, Outcome, Unreachable
from bot.ssh import Ssh
from bot.ssh.certificate import HOST, Certificate, against_host, read
from bot.ssh.known_hosts import KnownHosts, Trusted
from bot.ssh.public_key import Fields, Key, Malformed
from tests.parts.leaks import nothing_left
from tests.parts.sshd import Sshd, new_key

ADDRESS = "127.0.1.5"


def sign(authority: Path, key: Path, *options: str, host: bool = True) -> Path:
    """Let an authority sign a key; returns the certificate."""
    kind = ["-h"] if host else []
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "the host", *kind, *options, f"{key}.pub"], check=True
    )
    return Path(f"{key}-cert.pub")


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def blob(path: Path) -> bytes:
    return base64.b64decode(path.read_text().split()[1])


@dataclass
class Ward:
    """A host key that an authority may sign, and the host that then shows the certificate."""

    folder: Path
    authority: Path
    key: Path

    def ask(self, *options: str, lines: str = "", host: bool = True, by: Path | None = None) -> Outcome:
        """Have the key signed, start the host and log in there; `lines` is the known_hosts."""
        certificate = sign(by or self.authority, self.key, *(options or ("-n", ADDRESS)), host=host)
        return self.log_in(f"HostCertificate {certificate}", lines)

    def log_in(self, options: str, lines: str) -> Outcome:
        """Start the host with these options and log in there."""
        with Sshd(self.folder / "sshd", address=ADDRESS, host_key=self.key, options=options) as sshd:
            sshd.known_hosts.write_text(lines or self.trust())
            with nothing_left():
                ssh = Ssh(sshd.settings())
                outcome = ssh.run(sshd.host(), Command("true"), key="k", first_sent=None)
                ssh.close()
            if isinstance(outcome, Unreachable):
                assert "authenticating user" not in sshd.log, "nothing about us was sent"
        return outcome

    def trust(self) -> str:
        """Return the line that trusts the authority."""
        return f"@cert-authority {ADDRESS} {public(self.authority)}\n"


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path, new_key(tmp_path / "ca"), new_key(tmp_path / "host"))


def refused(outcome: Outcome) -> Unreachable:
    assert isinstance(outcome, Unreachable), outcome
    assert outcome.layer == "host key"
    return outcome


def test_a_host_with_a_good_certificate_is_trusted_whatever_its_port(ward: Ward) -> None:
    assert isinstance(ward.ask(), Finished)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_every_kind_of_key_and_authority_is_understood(tmp_path: Path, kind: str) -> None:
    ward = Ward(tmp_path, new_key(tmp_path / "ca", kind), new_key(tmp_path / "host", kind))
    assert isinstance(ward.ask("-n", f"other,{ADDRESS}", "-z", "7"), Finished)


def test_a_certificate_for_another_host_is_refused_with_both_names(ward: Ward) -> None:
    outcome = refused(ward.ask("-n", "gpu-09,10.0.0.9"))
    assert f"is for gpu-09, 10.0.0.9 and not for {ADDRESS}" in outcome.reason
    assert "known_hosts:1" in outcome.reason
    assert "ssh-keygen … -h -n" in outcome.advice


def test_a_certificate_without_any_name_does_not_stand_for_every_host(ward: Ward) -> None:
    assert "names no host at all" in refused(ward.ask("-z", "1")).reason


def test_an_expired_certificate_is_refused_with_the_time(ward: Ward) -> None:
    outcome = refused(ward.ask("-n", ADDRESS, "-V", "20200101:20200201"))
    assert "'the host' (serial 0) expired at 2020-0" in outcome.reason


def test_a_certificate_of_the_future_is_refused_with_the_time(ward: Ward) -> None:
    outcome = refused(ward.ask("-n", ADDRESS, "-V", "20900101:20910101"))
    assert "is not valid before 20" in outcome.reason


def test_a_user_certificate_proves_no_host(ward: Ward) -> None:
    assert "is a user certificate" in refused(ward.ask(host=False)).reason


def test_a_certificate_of_another_authority_is_refused_with_both_fingerprints(ward: Ward) -> None:
    other = new_key(ward.folder / "other")
    outcome = refused(ward.ask(by=other))
    assert Key.of(blob(Path(f"{other}.pub"))).fingerprint in outcome.reason
    assert Key.of(blob(Path(f"{ward.authority}.pub"))).fingerprint in outcome.reason
    assert "somebody stands between" in outcome.advice


def test_a_foreign_certificate_about_a_key_that_is_known_by_itself_is_no_obstacle(ward: Ward) -> None:
    lines = ward.trust() + f"{ADDRESS} {public(ward.key)}\n"
    path = ward.folder / "known_hosts"
    path.write_text(lines)
    shown = blob(sign(new_key(ward.folder / "other"), ward.key, "-n", ADDRESS))
    assert isinstance(KnownHosts(path).judge(ADDRESS, 22, Key.of(shown)), Trusted)


@pytest.mark.parametrize("which", ["authority", "key"])
def test_a_revoked_authority_or_key_stops_even_a_good_certificate(ward: Ward, which: str) -> None:
    lines = ward.trust() + f"@revoked * {public(getattr(ward, which))}\n"
    outcome = refused(ward.ask(lines=lines))
    assert "revoked at" in outcome.reason
    assert "known_hosts:2" in outcome.reason


def test_a_host_without_a_certificate_is_not_known_by_the_authority(ward: Ward) -> None:
    outcome = refused(ward.log_in("", ward.trust()))
    assert "no certificate" in outcome.reason
    assert "HostCertificate" in outcome.advice


def test_the_hosts_own_key_is_enough_beside_an_authority(ward: Ward) -> None:
    assert isinstance(ward.log_in("", ward.trust() + f"[{ADDRESS}]:* {public(ward.key)}\n"), Finished)


def test_without_an_authority_a_host_with_a_certificate_shows_its_plain_key(ward: Ward) -> None:
    lines = f"[{ADDRESS}]:* {public(ward.key)}\n"
    assert isinstance(ward.ask("-n", "gpu-09", lines=lines), Finished)


# ── the certificate itself ──
@pytest.fixture
def certificate(ward: Ward) -> Certificate:
    return read(blob(sign(ward.authority, ward.key, "-n", "gpu-01", "-V", "20250101Z:20250201Z")))


def test_the_clock_is_an_argument_and_both_ends_are_as_openssh_has_them(certificate: Certificate) -> None:
    assert against_host(certificate, "gpu-01", certificate.after) is None
    assert against_host(certificate, "gpu-01", certificate.before - 1) is None
    for moment in (certificate.after - 1, certificate.before):
        assert against_host(certificate, "gpu-01", moment) is not None


def test_a_certificate_that_was_changed_is_noticed(certificate: Certificate) -> None:
    forged = certificate.blob.replace(b"gpu-01", b"gpu-02")
    fault = against_host(read(forged), "gpu-02", certificate.after)
    assert fault is not None
    assert "was not signed by the authority it names" in fault.why


def test_a_signature_with_sha1_is_refused(tmp_path: Path) -> None:
    ward = Ward(tmp_path, new_key(tmp_path / "ca", "rsa"), new_key(tmp_path / "host"))
    old = read(blob(sign(ward.authority, ward.key, "-n", "gpu-01", "-t", "ssh-rsa")))
    fault = against_host(old, "gpu-01", 1_900_000_000)
    assert fault is not None
    assert "signed with ssh-rsa, which is not accepted" in fault.why


def test_critical_options_that_nobody_knows_are_refused(ward: Ward) -> None:
    # ssh-keygen writes none into host certificates, so a user certificate lends its bytes
    theirs = read(
        blob(sign(ward.authority, ward.key, "-n", "gpu-01", "-O", "force-command=true", host=False))
    )
    assert theirs.critical == ("force-command",)
    told = against_host(replace(theirs, role=HOST), "gpu-01", 1_900_000_000)
    assert told is not None
    assert "critical options that nobody here knows: force-command" in told.why


def test_no_beginning_of_a_certificate_is_taken_for_one(certificate: Certificate) -> None:
    for size in range(0, len(certificate.blob), 7):
        with pytest.raises(Malformed):
            read(certificate.blob[:size])
    with pytest.raises(Malformed, match="follows its end"):
        read(certificate.blob + b"x")


def test_fields_are_read_one_after_the_other() -> None:
    fields = Fields(b"\0\0\0\2ab\0\0\0\7")
    assert (fields.text(), fields.number(4), fields.left) == ("ab", 7, 0)
    with pytest.raises(Malformed):
        fields.take(1)
