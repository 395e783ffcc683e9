"""Commands that change something, on a real sshd: they start at most once, and nobody guesses how they ended."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.effect import KEEP, Cancelled, Command, Finished, Lost, Outcome, Pending, TimedOut, Unreachable
from bot.inventory import Host
from bot.ssh import Ssh
from bot.ssh.output import Keeper
from tests.parts.leaks import nothing_left
from tests.parts.programs import leave_out, require_root, wait_until
from tests.parts.proxy import Proxy
from tests.parts.sshd import Sshd, free_port

HOUR_AGO = timedelta(hours=1)


class Deed:
    """A command that leaves a trace each time it starts, and ends when it is let go."""

    def __init__(self, directory: Path, *, hold: bool = False) -> None:
        self.trace = directory / "trace"
        self.gate = directory / "gate"
        wait = f"while [ ! -e {self.gate} ]; do sleep 0.05; done; " if hold else ""
        self.text = f"echo started >> {self.trace}; echo before; {wait}echo after; exit 7"

    @property
    def starts(self) -> int:
        """How often it started."""
        return len(self.trace.read_text().splitlines()) if self.trace.exists() else 0

    def let_go(self) -> None:
        """Let it end."""
        self.gate.touch()


def act(
    ssh: Ssh,
    host: Host,
    text: str,
    *,
    key: str = "run/step/host/1",
    first_sent: datetime | None = None,
    timeout: float = 20.0,
) -> Outcome:
    command = Command(text, timeout=timeout, mutating=True)
    return ssh.run(host, command, key=key, first_sent=first_sent)


def begin(ssh: Ssh, host: Host, text: str, *, first_sent: datetime | None = None) -> Pending:
    command = Command(text, timeout=20.0, mutating=True)
    return ssh.start(host, command, key="run/step/host/1", first_sent=first_sent)


def ask(ssh: Ssh, host: Host, text: str) -> Outcome:
    """Ask for what may not be started any more."""
    command, sent = Command(text, timeout=20.0, mutating=True), datetime.now(UTC)
    pending = ssh.start(host, command, key="run/step/host/1", first_sent=sent, barred=True)
    return pending.outcome.result(30)


def done(outcome: Outcome) -> Finished:
    assert isinstance(outcome, Finished), outcome
    assert outcome.exit_code == 7
    assert outcome.stdout.data == b"before\nafter\n"
    return outcome


def lost(outcome: Outcome, *words: str) -> Lost:
    assert isinstance(outcome, Lost), outcome
    assert all(word in outcome.reason for word in words), outcome
    return outcome


@pytest.fixture
def ssh(sshd: Sshd) -> Iterator[Ssh]:
    room = sshd.ssh(keepalive=0.2)
    yield room
    room.close()


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[Proxy]:
    with Proxy(sshd.host()) as between:
        with sshd.known_hosts.open("a") as file:
            file.write(between.known_hosts_line(sshd.known_hosts_line()))
        yield between


@pytest.fixture
def deed(tmp_path: Path) -> Deed:
    return Deed(tmp_path)


@pytest.fixture
def held(tmp_path: Path) -> Deed:
    return Deed(tmp_path, hold=True)


def test_it_runs_and_says_how_it_ended(ssh: Ssh, sshd: Sshd, deed: Deed) -> None:
    outcome = act(ssh, sshd.host(), deed.text + " >&2")
    done(outcome)
    assert deed.starts == 1


def test_the_same_key_again_gets_the_same_answer(ssh: Ssh, sshd: Sshd, deed: Deed) -> None:
    for first_sent in (None, None, datetime.now(UTC), datetime.now(UTC) - HOUR_AGO):
        done(act(ssh, sshd.host(), deed.text, first_sent=first_sent))
    assert deed.starts == 1
    done(act(ssh, sshd.host(), deed.text, key="run/step/host/2"))
    assert deed.starts == 2


@pytest.mark.parametrize("attempt", range(3))
def test_six_at_once_start_it_once(sshd: Sshd, deed: Deed, attempt: int) -> None:
    rooms = [sshd.ssh() for _ in range(6)]
    for room in rooms:
        assert isinstance(room.probe(sshd.host()), Finished)
    together = threading.Barrier(6)

    def one(room: Ssh) -> Outcome:
        together.wait()
        return act(room, sshd.host(), deed.text)

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(one, rooms))
    for room in rooms:
        room.close()
    for outcome in outcomes:
        done(outcome)
    assert deed.starts == 1


CLIENT = """
import sys, threading
from pathlib import Path
from bot.effect import Command
from bot.inventory import Host
from bot.ssh import Ssh, SshSettings
from bot.ssh.once import Places
address, port, user, known_hosts, identity, state, uptime, text = sys.argv[1:]
settings = SshSettings(user=user, known_hosts=known_hosts, identity_files=(identity,))
ssh = Ssh(settings, Places(state=(state,), uptime=uptime))
command = Command(text, timeout=60, mutating=True)
ssh.run(Host("h", address, int(port)), command, key="run/step/host/1", first_sent=None)
"""


def test_a_bot_that_is_killed_finds_its_command_running(ssh: Ssh, sshd: Sshd, held: Deed) -> None:
    sent = datetime.now(UTC)
    words = [sshd.address, sshd.port, sshd.user, sshd.known_hosts, sshd.identity, sshd.state]
    words += [sshd.directory / "uptime", held.text]
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, *map(str, words)],
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    wait_until(lambda: held.starts == 1, "the command")
    client.send_signal(signal.SIGKILL)
    client.wait()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act, ssh, sshd.host(), held.text, first_sent=sent)
        time.sleep(0.3)
        held.let_go()
        done(future.result(20))
    assert held.starts == 1
    done(act(ssh, sshd.host(), held.text, first_sent=sent))
    assert held.starts == 1


def through(proxy: Proxy, ssh: Ssh, held: Deed, meanwhile: Callable[[], object]) -> Outcome:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act, ssh, proxy.host(), held.text)
        wait_until(lambda: held.starts == 1, "the command")
        meanwhile()
        held.let_go()
        return future.result(20)


def test_a_cut_link_is_mended_and_the_command_found_again(proxy: Proxy, ssh: Ssh, held: Deed) -> None:
    done(through(proxy, ssh, held, proxy.cut))
    assert held.starts == 1
    assert proxy.connections == 2


class Told(Keeper):
    """Knows how often it had to begin anew."""

    restarts = 0

    def restart(self) -> None:
        """Count it."""
        super().restart()
        self.restarts += 1


def test_output_comes_while_it_runs_and_after_a_cut_link_goes_on_where_it_ended(
    proxy: Proxy, ssh: Ssh, held: Deed
) -> None:
    command, told = Command(held.text, timeout=20, mutating=True), Told()
    pending = ssh.start(proxy.host(), command, key="run/step/host/1", first_sent=None, stdout=told)
    wait_until(lambda: told.output.data.startswith(b"before"), "the first of the output")
    restarts = told.restarts
    proxy.cut()
    held.let_go()
    assert done(pending.outcome.result(20)).stdout == told.output
    assert (told.restarts, proxy.connections) == (restarts, 2)


def test_a_login_shell_that_knows_nothing_but_exec_will_do(tmp_path: Path, deed: Deed) -> None:
    shell = tmp_path / "shell"
    shell.write_text(
        "#!/bin/sh\nset -f\ncase $SSH_ORIGINAL_COMMAND in\n"
        "*[!a-z/\\ ]*) echo 'no such word' >&2; exit 1 ;;\n"
        "exec\\ *) exec ${SSH_ORIGINAL_COMMAND#exec } ;;\n*) exit 2 ;;\nesac\n"
    )
    shell.chmod(0o755)
    with Sshd(tmp_path / "sshd", options=f"ForceCommand {shell}") as sshd:
        ssh = sshd.ssh()
        done(act(ssh, sshd.host(), deed.text))
        done(act(ssh, sshd.host(), deed.text, first_sent=datetime.now(UTC)))
        ssh.close()
    assert deed.starts == 1


def test_a_frozen_link_is_left_and_the_command_found_again(proxy: Proxy, ssh: Ssh, held: Deed) -> None:
    def freeze() -> None:
        proxy.frozen = True
        threading.Timer(1.5, lambda: setattr(proxy, "frozen", False)).start()

    done(through(proxy, ssh, held, freeze))
    assert held.starts == 1


def test_a_killed_sshd_session_does_not_end_the_command(
    proxy: Proxy, ssh: Ssh, sshd: Sshd, held: Deed
) -> None:
    done(through(proxy, ssh, held, sshd.kill_sessions))
    assert held.starts == 1


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_link_that_breaks_at_any_byte_loses_nothing(
    proxy: Proxy, ssh: Ssh, deed: Deed, way: str, share: float
) -> None:
    assert isinstance(ssh.probe(proxy.host()), Finished)
    login = proxy.traffic()
    act(ssh, proxy.host(), "echo before; echo after", key="measure")
    size = [after - before for before, after in zip(login, proxy.traffic(), strict=True)]
    proxy.cut()
    answered = threading.Event()

    def mend() -> None:
        wait_until(lambda: proxy.connections >= 3 or answered.is_set(), "a second connection")
        proxy.cut_up = proxy.cut_down = None

    assert isinstance(ssh.probe(proxy.host()), Finished)
    login = proxy.traffic()
    at = [before + int(more * share) for before, more in zip(login, size, strict=True)]
    if way == "up":
        proxy.cut_up = at[0]
    else:
        proxy.cut_down = at[1]
    with ThreadPoolExecutor(1) as pool:
        mending = pool.submit(mend)
        done(act(ssh, proxy.host(), deed.text))
        answered.set()
        mending.result()
    assert deed.starts == 1


def test_a_host_that_was_never_reached_is_unreachable(ssh: Ssh, sshd: Sshd, deed: Deed) -> None:
    outcome = act(ssh, Host("off", sshd.address, free_port(sshd.address)), deed.text)
    assert isinstance(outcome, Unreachable)
    assert outcome.layer == "tcp"


def test_a_host_that_never_comes_back_leaves_it_lost(proxy: Proxy, sshd: Sshd, held: Deed) -> None:
    ssh = sshd.ssh(connect_timeout=0.3, login_timeout=1, kill_grace=0)

    def away() -> None:
        proxy.refusing = True
        proxy.cut()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act, ssh, proxy.host(), held.text, timeout=1.0)
        wait_until(lambda: held.starts == 1, "the command")
        away()
        outcome = future.result(60)
    assert "by hand" in lost(outcome, "could not be told").advice
    ssh.close()


def test_what_was_sent_before_and_never_came_is_run_now(ssh: Ssh, sshd: Sshd, deed: Deed) -> None:
    done(act(ssh, sshd.host(), deed.text, first_sent=datetime.now(UTC) - HOUR_AGO))
    assert deed.starts == 1


def test_what_was_sent_before_a_reboot_and_is_unknown_is_lost(sshd: Sshd, deed: Deed, tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("3000.12 1.00\n")
    ssh = Ssh(sshd.settings(), sshd.places(uptime=str(tmp_path / "uptime")))
    lost(act(ssh, sshd.host(), deed.text, first_sent=datetime.now(UTC) - HOUR_AGO), "started anew")
    assert deed.starts == 0
    ssh.close()


def test_a_container_that_was_started_anew_counts_as_rebooted(sshd: Sshd, deed: Deed, tmp_path: Path) -> None:
    fields = ["S"] + ["0"] * 18 + [str(10_000_000 * 100 - 3000 * 100)] + ["0"] * 30
    (tmp_path / "init").write_text(f"1 (a program) with) {' '.join(fields)}\n")
    ssh = Ssh(sshd.settings(), sshd.places(init=str(tmp_path / "init")))
    lost(act(ssh, sshd.host(), deed.text, first_sent=datetime.now(UTC) - HOUR_AGO), "started anew")
    done(act(ssh, sshd.host(), deed.text, key="another", first_sent=datetime.now(UTC) - HOUR_AGO / 2))
    assert deed.starts == 1
    ssh.close()


def test_what_ran_when_the_host_rebooted_is_lost(ssh: Ssh, sshd: Sshd, held: Deed, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act, ssh, sshd.host(), held.text)
        wait_until(lambda: held.starts == 1, "the command")
        (tmp_path / "boot_id").write_text("another-boot\n")
        later = Ssh(sshd.settings(), sshd.places(boot_id=str(tmp_path / "boot_id")))
        lost(act(later, sshd.host(), held.text, first_sent=datetime.now(UTC)), "rebooted")
        held.let_go()
        done(future.result(20))
        done(act(later, sshd.host(), held.text, first_sent=datetime.now(UTC)))
    later.close()
    assert held.starts == 1


def test_wrapper_and_command_killed_together_are_lost_and_never_run_again(
    ssh: Ssh, sshd: Sshd, held: Deed
) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act, ssh, sshd.host(), held.text)
        wait_until(lambda: held.starts == 1, "the command")
        for pid in sshd.processes():
            with suppress(ProcessLookupError):  # a `sleep` between two looks
                os.kill(pid, signal.SIGKILL)
        lost(future.result(20), "processes are gone")
    lost(act(ssh, sshd.host(), held.text, first_sent=datetime.now(UTC)), "processes are gone")
    assert held.starts == 1


def test_the_deadline_ends_it_and_says_that_it_is_gone(ssh: Ssh, sshd: Sshd, held: Deed) -> None:
    outcome = act(ssh, sshd.host(), held.text, timeout=0.5)
    assert isinstance(outcome, TimedOut)
    assert outcome.ended
    assert outcome.stdout.data == b"before\n"
    assert 0.4 < outcome.after < 3
    wait_until(lambda: {"sh"} >= sshd.names(), "the end of the group, but for the shell that waits")
    again = act(ssh, sshd.host(), held.text, first_sent=datetime.now(UTC))
    assert isinstance(again, Finished)
    assert again.exit_code == 143
    assert held.starts == 1


def test_who_ignores_term_is_killed_after_the_grace(sshd: Sshd) -> None:
    ssh = sshd.ssh(kill_grace=1.0)
    outcome = act(ssh, sshd.host(), "trap '' TERM; while :; do sleep 0.2; done", timeout=0.4)
    assert isinstance(outcome, TimedOut)
    assert outcome.ended
    again = act(ssh, sshd.host(), "true", first_sent=datetime.now(UTC))
    assert isinstance(again, Finished)
    assert (again.exit_code, again.signal) == (None, "KILL")
    ssh.close()


def test_what_ran_too_long_while_the_bot_was_away_is_ended(ssh: Ssh, sshd: Sshd, held: Deed) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(act, ssh, sshd.host(), held.text, timeout=60)
        wait_until(lambda: held.starts == 1, "the command")
        (sshd.directory / "uptime").write_text("10000100.00 1.00\n")
        later = Ssh(sshd.settings(), sshd.places())
        (sshd.directory / "uptime").write_text("10000100.00 1.00\n")
        outcome = act(later, sshd.host(), held.text, first_sent=datetime.now(UTC), timeout=60)
        assert isinstance(outcome, TimedOut)
        assert outcome.ended
        first.result(20)
    later.close()


def test_cancelling_ends_it(ssh: Ssh, sshd: Sshd, held: Deed) -> None:
    pending = begin(ssh, sshd.host(), held.text)
    wait_until(lambda: held.starts == 1, "the command")
    pending.cancel()
    outcome = pending.outcome.result(20)
    assert isinstance(outcome, Cancelled)
    assert outcome.ended
    wait_until(lambda: {"sh"} >= sshd.names(), "the end of the group, but for the shell that waits")


def test_cancelling_what_may_be_on_its_way_sees_that_it_never_starts(
    ssh: Ssh, sshd: Sshd, deed: Deed
) -> None:
    pending = begin(ssh, sshd.host(), deed.text, first_sent=datetime.now(UTC))
    pending.cancel()
    outcome = pending.outcome.result(20)
    assert isinstance(outcome, Cancelled)
    assert outcome.ended
    late_first_copy = act(ssh, sshd.host(), deed.text)
    assert isinstance(late_first_copy, Cancelled)
    assert deed.starts == 0


def test_what_never_came_and_is_barred_never_starts(ssh: Ssh, sshd: Sshd, deed: Deed) -> None:
    outcome = ask(ssh, sshd.host(), deed.text)
    assert isinstance(outcome, Cancelled)
    assert outcome.ended
    assert isinstance(act(ssh, sshd.host(), deed.text), Cancelled), "nor does a copy that comes late"
    assert deed.starts == 0


def test_what_runs_or_has_ended_is_found_though_it_is_barred(ssh: Ssh, sshd: Sshd, held: Deed) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(act, ssh, sshd.host(), held.text)
        wait_until(lambda: held.starts == 1, "the command")
        later = pool.submit(ask, ssh, sshd.host(), held.text)
        held.let_go()
        done(later.result(20))
        done(first.result(20))
    done(ask(ssh, sshd.host(), held.text))
    assert held.starts == 1


def test_what_is_barred_and_may_have_been_forgotten_is_lost(sshd: Sshd, deed: Deed, tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("30.12 1.00\n")
    ssh = Ssh(sshd.settings(), sshd.places(uptime=str(tmp_path / "uptime")))
    lost(ask(ssh, sshd.host(), deed.text), "started anew")
    assert deed.starts == 0
    ssh.close()


def test_long_output_is_capped_on_the_host_and_counted(ssh: Ssh, sshd: Sshd) -> None:
    outcome = act(ssh, sshd.host(), "seq 1 800000; head -c 3000000 /dev/zero >&2")
    assert isinstance(outcome, Finished)
    whole = "".join(f"{number}\n" for number in range(1, 800001)).encode()
    assert outcome.stdout.total == len(whole)
    assert outcome.stdout.data == whole[: KEEP * 3 // 4] + whole[-KEEP // 4 :]
    assert (outcome.stderr.total, len(outcome.stderr.data)) == (3_000_000, KEEP)
    kept = sum(path.stat().st_size for path in sshd.state.rglob("*") if path.is_file())
    assert kept < 8_000_000


def test_bytes_come_back_as_they_are(ssh: Ssh, sshd: Sshd) -> None:
    outcome = act(ssh, sshd.host(), r"printf '\377\000\n\n'; printf '\n' >&2")
    assert isinstance(outcome, Finished)
    assert (outcome.stdout.data, outcome.stderr.data) == (b"\xff\x00\n\n", b"\n")


def test_what_it_leaves_running_is_not_waited_for(ssh: Ssh, sshd: Sshd) -> None:
    began = time.monotonic()
    for number in range(3):
        outcome = act(ssh, sshd.host(), "sleep 65 & echo started", key=f"daemon-{number}")
        assert isinstance(outcome, Finished)
        assert outcome.stdout.data == b"started\n"
    assert time.monotonic() - began < 10
    assert len(sshd.processes("sleep")) == 3


def test_a_login_shell_that_prints_does_not_spoil_the_answer(ssh: Ssh, sshd: Sshd, deed: Deed) -> None:
    (sshd.home / ".bashrc").write_text("echo welcome; echo careful >&2\n")
    outcome = done(act(ssh, sshd.host(), deed.text))
    assert outcome.stderr.data == b""


def test_an_account_that_may_run_nothing_is_unreachable(tmp_path: Path, deed: Deed) -> None:
    with Sshd(tmp_path / "sshd", options="ForceCommand echo no; exit 1") as sshd:
        ssh = sshd.ssh(connect_timeout=0.3, login_timeout=1, kill_grace=0)
        outcome = act(ssh, sshd.host(), deed.text)
        assert isinstance(outcome, Unreachable)
        assert outcome.layer == "channel"
        lost(act(ssh, sshd.host(), deed.text, first_sent=datetime.now(UTC), timeout=0.5))
        ssh.close()


def spoil_by_link(base: Path) -> None:
    target = base.parent / "target"
    target.mkdir(mode=0o700)
    base.symlink_to(target)


def spoil_by_mode(base: Path) -> None:
    base.mkdir()
    base.chmod(0o755)


def spoil_by_owner(base: Path) -> None:
    require_root("giving a directory away")
    base.mkdir(mode=0o700)
    os.chown(base, 12345, 12345)


def spoil_by_file(base: Path) -> None:
    base.write_text("in the way")


@pytest.mark.parametrize("spoil", [spoil_by_link, spoil_by_mode, spoil_by_owner, spoil_by_file])
def test_a_state_directory_that_is_not_ours_alone_is_passed_over(
    sshd: Sshd, deed: Deed, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    spoil(first / f".sickbay-{sshd.user}")
    places = sshd.places()
    ssh = Ssh(
        sshd.settings(), type(places)(state=(str(first), str(second)), uptime=places.uptime, init="/nowhere")
    )
    done(act(ssh, sshd.host(), deed.text))
    assert list((second / f".sickbay-{sshd.user}").rglob("*.claim"))
    ssh.close()
    only = Ssh(sshd.settings(), type(places)(state=(str(first),), uptime=places.uptime, init="/nowhere"))
    outcome = act(only, sshd.host(), deed.text, key="another")
    assert isinstance(outcome, Unreachable)
    assert str(first) in outcome.reason
    only.close()
    assert deed.starts == 1


def test_a_full_disk_costs_output_but_no_truth(sshd: Sshd, deed: Deed, tmp_path: Path) -> None:
    require_root("mounting a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        leave_out("mount is not allowed here: run the tests where root may mount")
    places = sshd.places()
    ssh = Ssh(sshd.settings(), type(places)(state=(str(disk),), uptime=places.uptime, init="/nowhere"))
    try:
        for first_sent in (None, datetime.now(UTC)):
            outcome = act(
                ssh,
                sshd.host(),
                f"{deed.text.removesuffix('exit 7')} seq 1 100000; exit 7",
                first_sent=first_sent,
            )
            assert isinstance(outcome, Finished)
            assert outcome.exit_code == 7
            assert outcome.stdout.data.startswith(b"before\nafter\n1\n2\n")
            assert "the disk of the host was full" in outcome.stderr.text
        refused = act(ssh, sshd.host(), deed.text, key="no room for a claim")
        assert isinstance(refused, Unreachable)
        assert deed.starts == 1
    finally:
        ssh.close()
        subprocess.run(["umount", disk], check=True)


def test_a_claim_is_found_whichever_directory_is_usable_now(sshd: Sshd, deed: Deed, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    places = sshd.places()
    ssh = Ssh(
        sshd.settings(), type(places)(state=(str(first), str(second)), uptime=places.uptime, init="/nowhere")
    )
    done(act(ssh, sshd.host(), deed.text))
    first.mkdir()
    done(act(ssh, sshd.host(), deed.text))
    assert deed.starts == 1
    ssh.close()


@pytest.mark.parametrize("mutating", [False, True])
def test_a_server_that_gives_no_process_group_is_helped_by_setsid(tmp_path: Path, mutating: bool) -> None:
    options = 'ForceCommand /bin/sh -c "$SSH_ORIGINAL_COMMAND"; exit $?'
    with Sshd(tmp_path / "sshd", options=options) as sshd:
        ssh = sshd.ssh()
        for _ in range(2):
            command = Command("echo out; sleep 67", timeout=0.5, mutating=mutating)
            outcome = ssh.run(sshd.host(), command, key="k", first_sent=None)
            if mutating and isinstance(outcome, Finished):
                break
            assert isinstance(outcome, TimedOut)
            assert outcome.stdout.data == b"out\n"
            wait_until(lambda: not sshd.processes("sleep 67"), "the end of the group")
        ssh.close()


def test_nothing_is_left_in_the_bot(proxy: Proxy, sshd: Sshd, held: Deed) -> None:
    with nothing_left():
        ssh = sshd.ssh(keepalive=0.2)
        done(through(proxy, ssh, held, proxy.cut))
        ssh.close()
        proxy.cut()


def test_closing_the_room_waits_for_no_command_and_the_next_room_finds_it(sshd: Sshd, tmp_path: Path) -> None:
    deed, first = Deed(tmp_path, hold=True), sshd.ssh()
    began = datetime.now(UTC)
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(act, first, sshd.host(), deed.text)
        wait_until(lambda: deed.starts == 1, "the command starts")
        first.close()
        lost(going.result(timeout=5), "closed")
    deed.let_go()
    second = sshd.ssh()
    done(act(second, sshd.host(), deed.text, first_sent=began))
    second.close()
    assert deed.starts == 1
