"""A host's key compared by a person and known from then on: real processes, a real terminal, a real sshd."""

import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from bot.commands.grammar import Misunderstood, parse
from bot.incident import Event
from bot.store import Store
from tests.parts.clinic import ACCOUNT, Clinic, Said, Talk
from tests.parts.sshd import Sshd, new_key


@pytest.fixture
def ward(clinic: Clinic, sshd: Sshd) -> Clinic:
    """A sickbay.yaml with one host, whose known_hosts is empty."""
    sshd.known_hosts.write_text("# ours\n")
    clinic.write(
        ssh={
            "user": sshd.user,
            "known_hosts": str(sshd.known_hosts),
            "identity_files": [str(sshd.identity)],
        },
        hosts={"gpu-01": {"address": sshd.address, "port": sshd.port}},
    )
    return clinic


def fingerprint(key: Path) -> str:
    found = subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True)
    return found.stdout.split()[1]


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def events(ward: Clinic) -> list[Event]:
    """Return what the timeline knows."""
    with closing(Store(ward.folder / "sickbay.db")) as store:
        return store.timeline.after(0)


def test_where_the_timeline_takes_nothing_in_nobody_is_enrolled(ward: Clinic, sshd: Sshd) -> None:
    (ward.folder / "sickbay.db").write_bytes(b"not a database" * 100)
    said = enroll(ward, "--fingerprint", fingerprint(sshd.host_key))
    assert said.code == 2
    assert "cannot open the database" in said.err
    assert sshd.known_hosts.read_text() == "# ours\n"


def enroll(ward: Clinic, *words: str) -> Said:
    return ward.say("hosts", "enroll", "gpu-01", *words)


def asked(ward: Clinic) -> Talk:
    return ward.talk("hosts", "enroll", "gpu-01", tty=True)


def test_whoever_types_the_end_of_the_fingerprint_makes_the_host_known(ward: Clinic, sshd: Sshd) -> None:
    with asked(ward) as talk:
        talk.until("Type the last 6 characters")
        assert f"ssh-ed25519          {fingerprint(sshd.host_key)}  new" in talk.text
        assert sshd.known_hosts.read_text() == "# ours\n"
        talk.type(fingerprint(sshd.host_key)[-6:] + "\n")
        assert talk.end() == 0, talk.text
    assert sshd.known_hosts.read_text() == "# ours\n" + sshd.known_hosts_line()
    assert sshd.logins == 0, "nobody logged in for that"
    again = enroll(ward)
    assert (again.code, "known already" in again.out) == (0, True)
    (told,) = events(ward)
    assert (told.kind, told.host, told.data["by"], told.data["via"]) == (
        "host.enrolled",
        "gpu-01",
        ACCOUNT,
        "cli",
    )
    assert (told.data["fingerprint"], told.data["was"]) == (fingerprint(sshd.host_key), "new")


@pytest.mark.parametrize("typed", ["\n", "yes\n", "ABCDEF\n", "\x04"])
def test_whoever_types_anything_else_changes_nothing(ward: Clinic, sshd: Sshd, typed: str) -> None:
    with asked(ward) as talk:
        talk.until("Type the last 6 characters")
        talk.type(typed)
        assert talk.end() == 1, talk.text
        assert "Nothing was written" in talk.text
    assert sshd.known_hosts.read_text() == "# ours\n"
    assert events(ward) == []


def test_a_script_names_the_fingerprint_and_is_not_asked(ward: Clinic, sshd: Sshd) -> None:
    wrong = enroll(ward, "--fingerprint", "SHA256:" + "A" * 43)
    assert wrong.code == 1
    assert sshd.known_hosts.read_text() == "# ours\n"
    right = enroll(ward, "--fingerprint", fingerprint(sshd.host_key))
    assert right.code == 0, right.err
    assert sshd.known_hosts_line() in sshd.known_hosts.read_text()


def test_where_nobody_can_be_asked_nothing_is_written(ward: Clinic, sshd: Sshd) -> None:
    said = enroll(ward)
    assert said.code == 2
    assert "--fingerprint SHA256:" in said.err
    assert sshd.known_hosts.read_text() == "# ours\n"


def test_a_machine_that_was_installed_again_is_enrolled_again(
    ward: Clinic, sshd: Sshd, tmp_path: Path
) -> None:
    before = f"[{sshd.address}]:{sshd.port} {public(new_key(tmp_path / 'old'))}\n"
    sshd.known_hosts.write_text(before)
    refused = ward.say("doctor")
    assert "sickbay hosts enroll gpu-01" in re.sub(r"\s+", " ", refused.out)
    said = enroll(ward, "--fingerprint", fingerprint(sshd.host_key))
    assert said.code == 0, said.err
    assert "changed" in said.out
    assert [event.data["was"] for event in events(ward) if event.kind == "host.enrolled"] == ["changed"]
    assert fingerprint(tmp_path / "old") in said.out
    assert sshd.known_hosts.read_text() == sshd.known_hosts_line()
    assert Path(f"{sshd.known_hosts}.old").read_text() == before


def test_a_revoked_key_is_never_taken(ward: Clinic, sshd: Sshd) -> None:
    sshd.known_hosts.write_text(f"@revoked * {public(sshd.host_key)}\n")
    said = enroll(ward, "--fingerprint", fingerprint(sshd.host_key))
    assert said.code == 2
    assert "revoked" in said.err
    assert sshd.known_hosts.read_text() == f"@revoked * {public(sshd.host_key)}\n"


def test_where_an_authority_vouches_there_is_nothing_to_enroll(
    ward: Clinic, sshd: Sshd, tmp_path: Path
) -> None:
    sshd.known_hosts.write_text(f"@cert-authority {sshd.address} {public(new_key(tmp_path / 'ca'))}\n")
    said = enroll(ward, "--fingerprint", fingerprint(sshd.host_key))
    assert said.code == 2
    assert f"{sshd.known_hosts}:1" in said.err
    assert "HostCertificate" in said.err


def test_every_kind_of_key_is_shown_and_only_the_one_that_was_compared_is_written(
    clinic: Clinic, tmp_path: Path
) -> None:
    rsa, ecdsa = new_key(tmp_path / "rsa", "rsa"), new_key(tmp_path / "ecdsa", "ecdsa")
    with Sshd(tmp_path / "many", options=f"HostKey {rsa}\nHostKey {ecdsa}") as sshd:
        sshd.known_hosts.write_text("")
        clinic.write(
            ssh={"known_hosts": str(sshd.known_hosts)},
            hosts={"gpu-01": {"address": sshd.address, "port": sshd.port}},
        )
        said = enroll(clinic, "--fingerprint", fingerprint(rsa))
        assert said.code == 0, said.err
        for key in (sshd.host_key, rsa, ecdsa):
            assert fingerprint(key) in said.out
        assert sshd.known_hosts.read_text() == f"[{sshd.address}]:{sshd.port} {public(rsa)}\n"


def test_a_jump_host_is_enrolled_by_its_name_and_a_host_behind_it_through_it(
    clinic: Clinic, tmp_path: Path
) -> None:
    with Sshd(tmp_path / "a") as bastion, Sshd(tmp_path / "b", address="127.0.1.6") as inner:
        bastion.known_hosts.write_text("")
        clinic.write(
            ssh={
                "user": bastion.user,
                "known_hosts": str(bastion.known_hosts),
                "identity_files": [str(bastion.identity)],
                "proxy_jump": f"{bastion.address}:{bastion.port}",
            },
            hosts={"gpu-01": {"address": inner.address, "port": inner.port}},
        )
        blind = enroll(clinic, "--fingerprint", fingerprint(inner.host_key))
        assert blind.code == 2, "the jump host is not known yet"
        assert f"sickbay hosts enroll {bastion.address}" in blind.err
        first = clinic.say("hosts", "enroll", bastion.address, "--fingerprint", fingerprint(bastion.host_key))
        assert first.code == 0, first.err
        second = enroll(clinic, "--fingerprint", fingerprint(inner.host_key))
        assert second.code == 0, second.err
        assert bastion.known_hosts.read_text() == bastion.known_hosts_line() + inner.known_hosts_line()


def test_a_host_that_does_not_answer_or_is_not_there_is_told(ward: Clinic, sshd: Sshd) -> None:
    unknown = ward.say("hosts", "enroll", "gpu-02")
    assert (unknown.code, "did you mean `gpu-01`?" in unknown.err) == (2, True)
    assert ward.say("hosts", "enroll").code == 2
    assert ward.say("hosts", "--fingerprint", "x").code == 2
    sshd.stop()
    gone = enroll(ward)
    assert gone.code == 2
    assert "tcp: " in gone.err


@pytest.mark.parametrize("text", ["hosts enroll gpu-01", "hosts Enroll gpu-01 SHA256:x"])
def test_nobody_enrolls_from_slack(text: str) -> None:
    with pytest.raises(Misunderstood) as refused:
        parse(text)
    assert "in a terminal on the machine where Sickbay runs" in refused.value.advice


def test_once_there_are_rules_it_takes_the_right_to_enroll(ward: Clinic, sshd: Sshd) -> None:
    whole = yaml.safe_load(ward.config.read_text())
    whole["people"] = {"alice": {"roles": ["oncall"]}, "bob": {"roles": ["lead"]}}
    whole["permissions"] = [{"roles": ["lead"], "may": ["enroll"]}]
    ward.config.write_text(yaml.safe_dump(whole))
    compared = ("--fingerprint", fingerprint(sshd.host_key))
    assert f"I don't know you, {ACCOUNT}" in enroll(ward, *compared).err
    refused = enroll(ward, *compared, "--as", "alice")
    assert refused.code == 2
    assert "you are alice, with the role oncall, and may not make a host's key known" in refused.err
    assert sshd.known_hosts.read_text() == "# ours\n"
    assert enroll(ward, *compared, "--as", "bob").code == 0
    (told,) = events(ward)
    assert (told.data["by"], told.data["via"]) == ("bob", f"cli, {ACCOUNT} as bob")
