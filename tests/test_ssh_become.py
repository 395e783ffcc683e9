"""Commands as root by a real `sudo -n`, for a login user who is not root."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bot.effect import Cancelled, Command, Finished, Outcome, TimedOut
from bot.inventory import Access, Host
from bot.ssh import Ssh, SshSettings
from bot.ssh.become import as_root, becomes_root, outlives
from bot.ssh.settings import Act
from tests.parts.foreign import USER, Foreign
from tests.parts.leaks import nothing_left
from tests.parts.programs import require, wait_until

ALLOWED = f"{USER} ALL=(root) NOPASSWD: /bin/sh"
PTY = f"Defaults use_pty\n{ALLOWED}"
TRICKY = 'it\'s $HOME `x` "q" \\ \n\n ü'


@contextmanager
def foreign(sudoers: str) -> Iterator[Foreign]:
    with TemporaryDirectory(prefix="sb-root-") as name, Foreign(Path(name) / "host", sudoers) as server:
        yield server


@pytest.fixture(scope="module", params=[ALLOWED, PTY], ids=["plain", "use_pty"])
def server(request: pytest.FixtureRequest) -> Iterator[Foreign]:
    with foreign(request.param) as server:
        yield server


@pytest.fixture
def ssh(server: Foreign) -> Iterator[Ssh]:
    with nothing_left():
        room = server.ssh(sudo="always", kill_grace=4)
        yield room
        room.close()


def run(ssh: Ssh, server: Foreign, text: str, *, key: str = "", **options: object) -> Outcome:
    command = Command(text, **options)  # type: ignore[arg-type]
    return ssh.run(server.host(), command, key=key or f"{time.monotonic()}", first_sent=None)


@pytest.mark.parametrize("mutating", [False, True])
def test_a_command_runs_as_root_with_its_values_output_and_exit_code(
    server: Foreign, ssh: Ssh, mutating: bool
) -> None:
    outcome = run(
        ssh,
        server,
        'id -u; printf %s "$value"; echo no >&2; cat; exit 7',
        env={"value": TRICKY},
        mutating=mutating,
    )
    assert isinstance(outcome, Finished), outcome
    assert (outcome.exit_code, outcome.stdout.text, outcome.stderr.text) == (7, f"0\n{TRICKY}", "no\n")


def test_no_value_is_seen_in_the_list_of_processes(server: Foreign, ssh: Ssh) -> None:
    outcome = run(ssh, server, "cat /proc/*/cmdline | tr '\\0' ' '", env={"value": "s3cr3t-value"})
    assert isinstance(outcome, Finished)
    assert "sudo" in outcome.stdout.text
    assert "s3cr3t-value" not in outcome.stdout.text


def test_a_repeat_of_a_key_is_told_what_became_of_it(server: Foreign, ssh: Ssh) -> None:
    count = server.state / "count"
    for _ in range(2):
        assert isinstance(run(ssh, server, f"echo x >>{count}", key="same", mutating=True), Finished)
    assert count.read_text() == "x\n"
    assert count.stat().st_uid == 0


@pytest.mark.parametrize("mutating", [False, True])
@pytest.mark.parametrize("text", ["sleep 4711", "trap '' TERM; sleep 4711 & sleep 4712; wait"])
def test_a_command_that_takes_too_long_is_ended_as_root(
    server: Foreign, ssh: Ssh, mutating: bool, text: str
) -> None:
    outcome = run(ssh, server, text, timeout=1.5, mutating=mutating)
    assert isinstance(outcome, TimedOut), outcome
    assert outcome.ended
    assert not sleeping()


def test_a_command_that_is_cancelled_is_ended_as_root(server: Foreign, ssh: Ssh) -> None:
    command = Command("sleep 4711", timeout=60, mutating=True)
    pending = ssh.start(server.host(), command, key=f"{time.monotonic()}", first_sent=None)
    wait_until(lambda: bool(sleeping()), "the command runs")
    pending.cancel()
    outcome = pending.outcome.result(30)
    assert isinstance(outcome, Cancelled), outcome
    assert outcome.ended
    assert not sleeping()


def test_what_was_killed_too_early_to_wait_for_root_is_not_said_to_have_ended(server: Foreign) -> None:
    ssh = server.ssh(sudo="act", kill_grace=0)
    outcome = run(ssh, server, "trap '' TERM; sleep 4711", timeout=1.5, mutating=True)
    ssh.close()
    assert isinstance(outcome, TimedOut), outcome
    assert not outcome.ended
    wait_until(lambda: not sleeping(), "root's side ends it all the same")


def sleeping() -> list[int]:
    found = subprocess.run(["pgrep", "-f", "^sleep 471"], check=False, capture_output=True)
    return [int(pid) for pid in found.stdout.split()]


def test_what_root_left_in_the_group_of_a_user_is_not_said_to_have_ended(server: Foreign) -> None:
    ssh = server.ssh(kill_grace=1)
    outcome = run(ssh, server, "sudo -n /bin/sh -c 'trap \"\" TERM; sleep 4711'", timeout=1.5, mutating=True)
    ssh.close()
    left = sleeping()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert isinstance(outcome, TimedOut), outcome
    assert (outcome.ended, len(left)) == (False, 1)


@pytest.mark.parametrize("mutating", [False, True])
@pytest.mark.parametrize("sudoers", ["", f"{USER} ALL=(root) /bin/sh"])
def test_a_password_is_never_waited_for_and_the_line_that_is_missing_is_told(
    sudoers: str, mutating: bool
) -> None:
    with foreign(sudoers) as server:
        ssh = server.ssh(sudo="always")
        outcome = run(ssh, server, f"touch {server.state}/began", mutating=mutating)
        probe = ssh.probe(server.host(), "act")
        ssh.close()
        assert isinstance(outcome, Finished), outcome
        assert isinstance(probe, Finished)
        assert outcome.exit_code == probe.exit_code == 126
        assert "nothing was started: sudo refused: sudo: a password is required" in outcome.stderr.text
        assert f"{USER} ALL=(root) NOPASSWD: /bin/sh" in outcome.stderr.text
        assert not (server.state / "began").exists()


def test_only_what_acts_is_root_where_only_that_should_be(server: Foreign) -> None:
    ssh = server.ssh(sudo="act")
    assert ssh.purposes(server.host()) == ("look", "act"), "the doctor asks for both"
    look, act = run(ssh, server, "id -un"), run(ssh, server, "id -un", mutating=True)
    ssh.close()
    assert isinstance(look, Finished)
    assert isinstance(act, Finished)
    assert (look.stdout.text, act.stdout.text) == (f"{USER}\n", "root\n")


@pytest.mark.parametrize(
    ("host", "settings", "look", "act"),
    [
        (Host("a", "a", user="ops"), SshSettings(), False, False),
        (Host("a", "a", user="ops"), SshSettings(sudo="act"), False, True),
        (Host("a", "a", user="ops"), SshSettings(sudo="always"), True, True),
        (Host("a", "a", user="root"), SshSettings(sudo="always"), False, False),
        (Host("a", "a", user="ops"), SshSettings(sudo="always", act=Act(user="root")), True, False),
        (Host("a", "a", user="ops", access=Access(sudo="never")), SshSettings(sudo="always"), False, False),
        (Host("a", "a", user="ops", access=Access(sudo="act")), SshSettings(), False, True),
    ],
)
def test_who_is_root_already_needs_no_sudo(host: Host, settings: SshSettings, look: bool, act: bool) -> None:
    assert becomes_root(host, settings, mutating=False) is look
    assert becomes_root(host, settings, mutating=True) is act


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "bash"])
def test_every_shell_reads_it(shell: str, tmp_path: Path) -> None:
    require(shell.split(maxsplit=1)[0], package=shell.split(maxsplit=1)[0])
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\n[ "$1 $2" = "-n --" ] || exit 9\nshift 2\nexec "$@"\n')
    sudo.chmod(0o755)
    command = as_root(Command('printf %s "$value"; exit 5', env={"value": TRICKY}), SshSettings())
    done = subprocess.run(
        [*shell.split(), "-c", command.text.replace("/bin/sh", shell)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, TRICKY, "")


def test_only_who_waited_can_say_that_root_ended() -> None:
    assert outlives("KILL")
    assert outlives("")
    assert not outlives("143")
