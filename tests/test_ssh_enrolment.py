"""known_hosts changed for one host: what stays, what goes, and that the file is never half written."""

import base64
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.errors import SickbayError
from bot.ssh.enrolment import enroll, enrolled
from bot.ssh.known_hosts import Changed, KnownHosts, Revoked, Trusted
from bot.ssh.public_key import Key

KIND, BLOB = "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA" + "A" * 42
OLD = f"{KIND} {BLOB}"
KEY = Key(KIND, base64.b64decode(BLOB[:-1] + "E"))
NEW = KEY.line


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"gpu-01 {NEW}\n"),
        (f"gpu-02 {OLD}", f"gpu-02 {OLD}\ngpu-01 {NEW}\n"),
        (f"# ours\ngpu-01 {OLD} note\n\ngpu-02 {OLD}\n", f"# ours\ngpu-01 {NEW}\n\ngpu-02 {OLD}\n"),
        (f"gpu-01 {OLD}\ngpu-01 ssh-rsa AAAA\n", f"gpu-01 {NEW}\n"),
        (f"GPU-01,10.0.0.1 {OLD} note\n", f"gpu-01 {NEW}\n10.0.0.1 {OLD} note\n"),
        (f"[gpu-01]:2222 {OLD}\n", f"[gpu-01]:2222 {OLD}\ngpu-01 {NEW}\n"),
        (f"gpu-*,!gpu-01 {OLD}\n", f"gpu-*,!gpu-01 {OLD}\ngpu-01 {NEW}\n"),
        (f"@revoked gpu-01 {OLD}\n", f"@revoked gpu-01 {OLD}\ngpu-01 {NEW}\n"),
        ("gpu-01 nonsense\n", f"gpu-01 nonsense\ngpu-01 {NEW}\n"),
    ],
)
def test_only_this_hosts_own_lines_are_replaced(before: str, after: str) -> None:
    assert enrolled(before, "gpu-01", KEY, where="f") == after
    assert enrolled(after, "gpu-01", KEY, where="f").count(NEW) == 1, "a second time changes nothing more"


def test_a_pattern_for_many_hosts_is_left_to_a_person() -> None:
    with pytest.raises(SickbayError) as refused:
        enrolled(f"# x\ngpu-* {OLD}\n", "gpu-01", KEY, where="known_hosts")
    assert refused.value.where == "known_hosts:2"
    assert "`!gpu-01`" in refused.value.advice


def test_a_file_with_hashed_names_gets_a_hashed_name(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"[gpu-01]:2222 {OLD}\ngpu-02 {OLD}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    enroll(path, "[gpu-01]:2222", KEY)
    assert "gpu-01" not in path.read_text()
    found = subprocess.run(
        ["ssh-keygen", "-F", "[gpu-01]:2222", "-f", path], check=True, capture_output=True, text=True
    )
    assert NEW in found.stdout
    assert OLD not in found.stdout
    assert isinstance(KnownHosts(path).judge("gpu-02", 22, Key(KIND, base64.b64decode(BLOB))), Trusted)


def test_mode_bytes_that_are_no_text_and_the_old_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_bytes(b"# caf\xe9\r\n" + f"gpu-01 {OLD}\n".encode())
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    enroll(link, "gpu-01", KEY)
    assert path.read_bytes() == b"# caf\xe9\r\n" + f"gpu-01 {NEW}\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    old = tmp_path / "known_hosts.old"
    assert OLD in old.read_text(errors="replace")
    assert old.stat().st_mode & 0o777 == 0o640
    assert {entry.name for entry in tmp_path.iterdir()} == {"known_hosts", "known_hosts.old", "link"}


def test_a_file_that_is_not_there_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "known_hosts"
    enroll(path, "gpu-01", KEY)
    assert path.read_text() == f"gpu-01 {NEW}\n"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_many_at_once_lose_nobody(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: enroll(path, f"gpu-{number:02}", KEY), range(40)))
    assert len(path.read_text().splitlines()) == 40


@pytest.mark.parametrize(
    ("line", "verdict"), [(f"gpu-01 {OLD}", Changed), (f"@revoked * {NEW}\ngpu-01 {OLD}", Revoked)]
)
def test_after_it_the_host_is_known_unless_its_key_is_revoked(
    tmp_path: Path, line: str, verdict: type
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line + "\n")
    known = KnownHosts(path)
    assert isinstance(known.judge("gpu-01", 22, KEY), verdict)
    enroll(path, "gpu-01", KEY)
    assert isinstance(known.judge("gpu-01", 22, KEY), Trusted if verdict is Changed else Revoked)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SickbayError) as refused:
        enroll(tmp_path / "file" / "known_hosts", "gpu-01", KEY)
    assert "check its permissions" in refused.value.advice
