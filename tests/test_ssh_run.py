"""Commands that only look, on a real sshd: what comes back, and what is left behind."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from bot.effect import KEEP, Cancelled, Command, Finished, Outcome, TimedOut, Unreachable
from bot.errors import SickbayError
from bot.ssh import Ssh
from tests.parts.leaks import nothing_left
from tests.parts.programs import wait_until
from tests.parts.proxy import Proxy
from tests.parts.sshd import Sshd

Look = Callable[..., Outcome]


@pytest.fixture
def ssh(shared_sshd: Sshd) -> Iterator[Ssh]:
    room = shared_sshd.ssh()
    yield room
    room.close()


@pytest.fixture
def look(ssh: Ssh, shared_sshd: Sshd) -> Look:
    def run(text: str, *, timeout: float = 20.0, **env: str) -> Outcome:
        command = Command(text, env=env, timeout=timeout)
        return ssh.run(shared_sshd.host(), command, key="k", first_sent=None)

    return run


def finished(outcome: Outcome) -> Finished:
    assert isinstance(outcome, Finished), outcome
    return outcome


def test_exit_code_and_both_streams_come_back(look: Look) -> None:
    outcome = finished(look("echo out; echo err >&2; exit 3"))
    assert (outcome.exit_code, outcome.signal) == (3, None)
    assert (outcome.stdout.data, outcome.stderr.data) == (b"out\n", b"err\n")


def test_a_signal_is_not_an_exit_code(look: Look) -> None:
    outcome = finished(look("kill -KILL $$"))
    assert (outcome.exit_code, outcome.signal) == (None, "KILL")


def test_bytes_that_are_not_utf8_are_kept(look: Look) -> None:
    outcome = finished(look(r"printf '\377\000\376'"))
    assert outcome.stdout.data == b"\xff\x00\xfe"
    assert outcome.stdout.text == "\\xff\0\\xfe"


def test_of_five_megabytes_both_ends_are_kept_and_all_is_counted(look: Look) -> None:
    outcome = finished(look("seq 1 800000"))
    whole = "".join(f"{number}\n" for number in range(1, 800001)).encode()
    assert outcome.stdout.total == len(whole) > 5_000_000
    assert outcome.stdout.data == whole[: KEEP * 3 // 4] + whole[-KEEP // 4 :]


def test_a_flood_on_stderr_does_not_block_stdout(look: Look) -> None:
    outcome = finished(look("head -c 5000000 /dev/zero >&2; echo done"))
    assert outcome.stdout.data == b"done\n"
    assert (outcome.stderr.total, len(outcome.stderr.data)) == (5_000_000, KEEP)


def test_a_background_child_that_holds_stdout_is_not_waited_for(look: Look, shared_sshd: Sshd) -> None:
    began = time.monotonic()
    outcome = finished(look("sleep 61 & echo started"))
    assert outcome.stdout.data == b"started\n"
    assert time.monotonic() - began < 5
    assert shared_sshd.processes("sleep"), "what a command leaves running on purpose lives on"


def test_standard_input_is_empty(look: Look) -> None:
    assert finished(look("cat; echo end")).stdout.data == b"end\n"


def test_a_command_that_is_no_shell_text_says_so_with_its_exit_code(look: Look) -> None:
    outcome = finished(look("if; then"))
    assert outcome.exit_code == 2
    assert "yntax" in outcome.stderr.text


def test_the_deadline_ends_the_whole_process_group(look: Look, shared_sshd: Sshd) -> None:
    outcome = look("echo before; sleep 62 | sleep 62", timeout=0.5)
    assert isinstance(outcome, TimedOut)
    assert outcome.ended
    assert outcome.stdout.data == b"before\n"
    assert 0.4 < outcome.after < 3
    wait_until(lambda: not shared_sshd.processes("sleep 62"), "the end of the group")


def test_who_ignores_term_is_killed(look: Look) -> None:
    outcome = look("trap '' TERM; while :; do sleep 0.2; done", timeout=0.3)
    assert isinstance(outcome, TimedOut)
    assert outcome.ended


def test_cancelling_works_at_once(ssh: Ssh, shared_sshd: Sshd) -> None:
    pending = ssh.start(shared_sshd.host(), Command("sleep 63"), key="k", first_sent=None)
    wait_until(lambda: bool(shared_sshd.processes("sleep 63")), "the command")
    began = time.monotonic()
    pending.cancel()
    pending.cancel()
    outcome = pending.outcome.result(10)
    assert isinstance(outcome, Cancelled)
    assert outcome.ended
    assert time.monotonic() - began < 1.0
    wait_until(lambda: not shared_sshd.processes("sleep 63"), "the end of the group")


def test_what_is_cancelled_while_it_waits_for_its_turn_never_starts(shared_sshd: Sshd) -> None:
    ssh = shared_sshd.ssh(max_channels=1)
    first = ssh.start(shared_sshd.host(), Command("sleep 62"), key="k", first_sent=None)
    wait_until(lambda: bool(shared_sshd.processes("sleep 62")), "the first command")
    touch = Command(f"touch {shared_sshd.home}/cancelled")
    second = ssh.start(shared_sshd.host(), touch, key="k", first_sent=None)
    second.cancel()
    outcome = second.outcome.result(10)
    first.cancel()
    assert isinstance(first.outcome.result(10), Cancelled)
    ssh.close()
    assert isinstance(outcome, Cancelled)
    assert outcome.ended
    assert not (shared_sshd.home / "cancelled").exists()


def test_what_was_cancelled_before_anything_was_done_never_starts(sshd: Sshd) -> None:
    ssh = sshd.ssh()
    pending = ssh.start(sshd.host(), Command(f"touch {sshd.home}/cancelled"), key="k", first_sent=None)
    pending.cancel()
    assert isinstance(pending.outcome.result(10), Cancelled)
    ssh.close()
    assert not (sshd.home / "cancelled").exists()


def test_a_login_shell_that_prints_is_not_part_of_the_output(look: Look, shared_sshd: Sshd) -> None:
    rc = shared_sshd.home / ".bashrc"
    rc.write_text("echo welcome; echo careful >&2\n")
    try:
        outcome = finished(look("echo mine; echo also >&2"))
    finally:
        rc.unlink()
    assert (outcome.stdout.data, outcome.stderr.data) == (b"mine\n", b"also\n")


def test_an_account_that_may_run_nothing_is_unreachable(tmp_path: Path) -> None:
    options = "ForceCommand echo 'This account is not available'; exit 1"
    with Sshd(tmp_path, options=options) as sshd:
        ssh = sshd.ssh()
        outcome = ssh.probe(sshd.host())
        ssh.close()
    assert isinstance(outcome, Unreachable)
    assert outcome.layer == "channel"
    assert "This account is not available" in outcome.reason


def test_a_quarter_of_a_megabyte_of_values_reaches_the_command(look: Look) -> None:
    value = "x" * 250_000
    assert finished(look('printf %s "$big" | wc -c', big=value)).stdout.data.strip() == b"250000"


def test_what_no_shell_can_hold_is_refused(look: Look) -> None:
    with pytest.raises(SickbayError, match="NUL"):
        look("true", value="a\0b")
    with pytest.raises(SickbayError, match="shell variable"):
        look("true", **{"a;b": "c"})
    with pytest.raises(SickbayError, match="too long"):
        look("true", value="x" * 2_000_000)


def test_one_connection_serves_many_threads(sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh(max_channels=3)

        def one(number: int) -> Outcome:
            return ssh.run(sshd.host(), Command(f"echo {number}"), key="k", first_sent=None)

        with ThreadPoolExecutor(12) as pool:
            outcomes = list(pool.map(one, range(24)))
        ssh.close()
    assert [finished(outcome).stdout.text for outcome in outcomes] == [f"{number}\n" for number in range(24)]
    assert sshd.logins == 1


def test_a_connection_that_broke_while_idle_is_replaced(sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh()
        for logins in (1, 2):
            outcome = ssh.run(sshd.host(), Command("echo up"), key="k", first_sent=None)
            assert finished(outcome).stdout.data == b"up\n"
            assert sshd.logins == logins
            sshd.kill_sessions()
        ssh.close()


def test_a_server_that_gives_one_session_only_gets_a_second_connection(tmp_path: Path) -> None:
    with Sshd(tmp_path, options="MaxSessions 1") as sshd, nothing_left():
        ssh = sshd.ssh()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(
                ssh.run,
                sshd.host(),
                Command("sleep 1; echo a"),
                key="k",
                first_sent=None,
            )
            wait_until(lambda: bool(sshd.processes("sleep")), "the first command")
            second = ssh.run(sshd.host(), Command("echo b"), key="k", first_sent=None)
            assert finished(second).stdout.data == b"b\n"
            assert finished(first.result()).stdout.data == b"a\n"
        ssh.close()


def test_new_keys_in_the_middle_of_the_output_change_nothing(tmp_path: Path) -> None:
    with Sshd(tmp_path, options="RekeyLimit 300K") as sshd, nothing_left():
        ssh = sshd.ssh()
        command = Command("head -c 20000000 /dev/zero; echo end", timeout=60)
        outcome = ssh.run(sshd.host(), command, key="k", first_sent=None)
        ssh.close()
        assert finished(outcome).stdout.total == 20_000_004
        assert finished(outcome).stdout.data.endswith(b"\0end\n")


def test_an_idle_connection_is_closed(sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh(keepalive=0.1, keepalive_misses=2, idle_close=0.3)
        assert isinstance(ssh.probe(sshd.host()), Finished)
        wait_until(lambda: not sshd.sessions(), "its end")
        assert isinstance(ssh.probe(sshd.host()), Finished), "and made again when it is needed"
        ssh.close()
    assert sshd.logins == 2


def test_of_too_many_connections_the_one_that_was_idle_for_longest_is_ended(sshd: Sshd) -> None:
    with nothing_left(), Proxy(sshd.host()) as one, Proxy(sshd.host()) as other:
        line = sshd.known_hosts_line()
        sshd.known_hosts.write_text(line + one.known_hosts_line(line) + other.known_hosts_line(line))
        ssh = sshd.ssh(max_connections=2)
        for host in (one.host(), sshd.host(), other.host(), sshd.host()):
            assert isinstance(ssh.probe(host), Finished)
        assert sshd.logins == 3, "the one that was used last is still there"
        assert isinstance(ssh.probe(one.host()), Finished)
        assert sshd.logins == 4, "and the first is made again when it is needed"
        ssh.close()


def test_a_closed_room_connects_no_more(sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh()
        assert isinstance(ssh.probe(sshd.host()), Finished)
        ssh.close()
        outcome = ssh.probe(sshd.host())
    assert isinstance(outcome, Unreachable)
    assert "shutting down" in outcome.reason


def test_who_waits_for_a_connection_for_files_is_told_when_the_room_is_closed(sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh(max_channels=1)
        with ThreadPoolExecutor(1) as other, suppress(SickbayError), ssh.connection(sshd.host()):
            second = other.submit(lambda: ssh.connection(sshd.host()).__enter__())
            wait_until(second.running, "the second waits")
            ssh.close()
            assert "shutting down" in str(second.exception(20))


def test_many_looks_in_a_row_leave_no_session_open_on_the_host(sshd: Sshd) -> None:
    ssh = sshd.ssh()
    for _ in range(25):  # MaxSessions is 10: an end that is told late must not use them up
        assert isinstance(ssh.probe(sshd.host()), Finished)
    ssh.close()
    assert sshd.logins == 1


def test_files_go_both_ways_by_fabric(ssh: Ssh, shared_sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"\x00data\xff")
    with ssh.connection(shared_sshd.host()) as connection:
        connection.put(str(tmp_path / "here"), str(tmp_path / "there"))
        connection.get(str(tmp_path / "there"), str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"\x00data\xff"
    assert isinstance(ssh.probe(shared_sshd.host()), Finished), "the connection is still ours"
