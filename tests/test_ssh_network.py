"""A network that misbehaves in every way seen so far: each has its layer, its deadline, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from paramiko.packet import Packetizer

from bot.effect import Cancelled, Command, Finished, Outcome, TimedOut, Unreachable
from bot.inventory import Host
from bot.ssh import Ssh, SshSettings
from tests.parts.leaks import nothing_left
from tests.parts.programs import wait_until
from tests.parts.proxy import Proxy
from tests.parts.sshd import Sshd, free_port, new_key

ADDRESS = "127.0.1.3"


@pytest.fixture
def settings(tmp_path: Path) -> SshSettings:
    return SshSettings(
        known_hosts=tmp_path / "none",
        identity_files=(new_key(tmp_path / "key"),),
        connect_timeout=0.5,
        login_timeout=0.7,
    )


def ask(settings: SshSettings, host: Host, *, cancel_after: float | None = None) -> tuple[Outcome, float]:
    with nothing_left():
        ssh = Ssh(settings)
        began = time.monotonic()
        pending = ssh.start(host, Command("true"), key="k", first_sent=None)
        if cancel_after is not None:
            threading.Timer(cancel_after, pending.cancel).start()
        outcome = pending.outcome.result(30)
        took = time.monotonic() - began
        ssh.close()
    return outcome, took


def refused(outcome: Outcome, layer: str) -> Unreachable:
    assert isinstance(outcome, Unreachable), outcome
    assert outcome.layer == layer, outcome
    assert outcome.advice
    return outcome


@contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[Host]:
    """Serve every connection with `behave`, each in a thread of its own."""
    listener = socket.create_server((ADDRESS, 0))
    open_ones: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            behave(sock)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                open_ones.append(sock)
                threads.append(threading.Thread(target=serve, args=(sock,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield Host("bad", ADDRESS, listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for sock in open_ones:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def until_gone(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def silent(sock: socket.socket) -> None:
    until_gone(sock)


def trickle(sock: socket.socket) -> None:
    for _ in range(1000):
        sock.sendall(b"x")
        time.sleep(0.05)


def chatter(sock: socket.socket) -> None:
    for _ in range(1000):
        sock.sendall(b"no banner yet\r\n")
        time.sleep(0.05)


def hang_up(sock: socket.socket) -> None:
    sock.recv(1)


def web_server(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def one_long_line(sock: socket.socket) -> None:
    sock.sendall(b"x" * 100_000)
    until_gone(sock)


def banner_only(sock: socket.socket) -> None:
    sock.sendall(b"SSH-2.0-Stalled\r\n")
    until_gone(sock)


def huge_packet(sock: socket.socket) -> None:
    sock.sendall(b"SSH-2.0-Huge\r\n" + b"\x7f\xff\xff\xf4\x04" + b"\0" * 64)
    until_gone(sock)


def old_protocol(sock: socket.socket) -> None:
    sock.sendall(b"SSH-1.5-Ancient\r\n")
    until_gone(sock)


@pytest.mark.parametrize(
    ("behave", "layer"),
    [
        (silent, "banner"),
        (trickle, "banner"),
        (chatter, "banner"),
        (hang_up, "banner"),
        (web_server, "banner"),
        (one_long_line, "banner"),
        (banner_only, "key exchange"),
        (huge_packet, "key exchange"),
        (old_protocol, "key exchange"),
    ],
)
def test_a_server_that_is_none_is_given_up_in_time(
    settings: SshSettings, behave: Callable[[socket.socket], None], layer: str
) -> None:
    with server(behave) as host:
        outcome, took = ask(settings, host)
    refused(outcome, layer)
    assert took < 2.0


def test_a_closed_port_says_so_at_once(settings: SshSettings) -> None:
    outcome, took = ask(settings, Host("closed", ADDRESS, free_port(ADDRESS)))
    assert "nothing listens" in refused(outcome, "tcp").reason
    assert took < 0.4


def test_packets_that_are_dropped_end_with_the_connect_timeout(settings: SshSettings) -> None:
    with socket.socket() as full:
        full.bind((ADDRESS, 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        outcome, took = ask(settings, Host("dropped", *address))
        for filler in fillers:
            filler.close()
    assert "no answer within 0.5 s" in refused(outcome, "tcp").reason
    assert took < 1.5


def test_a_name_that_is_none_is_a_dns_problem(settings: SshSettings) -> None:
    outcome, _ = ask(settings, Host("odd", "a..b"))
    assert "a..b" in refused(outcome, "dns").reason


def test_names_are_looked_up(sshd: Sshd) -> None:
    with Proxy(sshd.host(), address="127.0.0.1") as proxy:
        sshd.known_hosts.write_text(f"[localhost]:{proxy.port} {sshd.known_hosts_line().split(' ', 1)[1]}")
        outcome, _ = ask(sshd.settings(), replace(proxy.host(), address="localhost"))
    assert isinstance(outcome, Finished)


def test_cancelling_stops_a_connection_attempt(settings: SshSettings) -> None:
    with server(silent) as host:
        outcome, took = ask(settings.model_copy(update={"login_timeout": 20.0}), host, cancel_after=0.2)
    assert isinstance(outcome, Cancelled)
    assert outcome.ended
    assert took < 0.8


def test_many_who_want_a_dead_host_share_one_attempt(settings: SshSettings) -> None:
    attempts = []

    def count(sock: socket.socket) -> None:
        attempts.append(sock)
        until_gone(sock)

    with server(count) as host, nothing_left():
        ssh = Ssh(settings)
        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(lambda _: ssh.probe(host), range(6)))
        ssh.close()
    assert all(isinstance(outcome, Unreachable) for outcome in outcomes)
    assert len(attempts) == 1


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[Proxy]:
    with Proxy(sshd.host()) as between:
        sshd.known_hosts.write_text(between.known_hosts_line(sshd.known_hosts_line()))
        yield between


def run_through(proxy: Proxy, sshd: Sshd, meanwhile: Callable[[], None]) -> tuple[Outcome, float]:
    """Run a command through the proxy, do something bad while it runs; return the outcome and how long it took."""
    with nothing_left():
        ssh = sshd.ssh(keepalive=0.2)
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(ssh.run, proxy.host(), Command("sleep 64"), key="k", first_sent=None)
            wait_until(lambda: bool(sshd.processes("sleep")), "the command")
            began = time.monotonic()
            meanwhile()
            outcome = future.result(20)
        ssh.close()
        proxy.frozen = False
        proxy.cut()
    return outcome, time.monotonic() - began


def test_a_cut_link_is_no_exit_code_and_ends_the_command(proxy: Proxy, sshd: Sshd) -> None:
    outcome, took = run_through(proxy, sshd, proxy.cut)
    refused(outcome, "link")
    assert took < 1.0
    wait_until(lambda: not sshd.processes("sleep"), "the end of the command on the host")


def test_a_frozen_link_is_noticed_by_its_silence(proxy: Proxy, sshd: Sshd) -> None:
    def freeze() -> None:
        proxy.frozen = True

    outcome, took = run_through(proxy, sshd, freeze)
    assert "no sign of life" in refused(outcome, "link").reason
    assert 0.3 < took < 3.0


def test_a_session_that_is_killed_on_the_host_is_a_broken_link(proxy: Proxy, sshd: Sshd) -> None:
    outcome, _ = run_through(proxy, sshd, lambda: assert_some(sshd.kill_sessions()))
    refused(outcome, "link")


def test_silence_is_no_death_while_the_host_answers(sshd: Sshd) -> None:
    ssh = sshd.ssh(keepalive=0.1)
    outcome = ssh.run(sshd.host(), Command("sleep 1"), key="k", first_sent=None)
    ssh.close()
    assert isinstance(outcome, Finished)


def test_a_connection_that_froze_while_idle_is_replaced(proxy: Proxy, sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh(keepalive=0.2)
        assert isinstance(ssh.probe(proxy.host()), Finished)
        proxy.frozen = True
        threading.Timer(1.5, lambda: setattr(proxy, "frozen", False)).start()
        outcome = ssh.probe(proxy.host())
        ssh.close()
    assert isinstance(outcome, Finished)


@pytest.mark.parametrize("count", [1, 30, 1500, 2500, 3500])
def test_a_login_that_is_cut_anywhere_is_unreachable(proxy: Proxy, sshd: Sshd, count: int) -> None:
    proxy.cut_down = count
    outcome, _ = ask(sshd.settings(), proxy.host())
    assert isinstance(outcome, Unreachable | Finished)
    if count <= 1500:
        assert isinstance(outcome, Unreachable)


def assert_some(count: int) -> None:
    assert count > 0


@pytest.mark.parametrize("mutating", [False, True])
def test_a_stall_in_the_middle_of_the_output_cuts_nothing_off(
    proxy: Proxy, sshd: Sshd, mutating: bool
) -> None:
    ssh = sshd.ssh()

    def stall() -> None:
        wait_until(lambda: proxy.traffic()[1] > 100_000, "some output")
        proxy.frozen = True
        time.sleep(1.6)
        proxy.frozen = False

    command = Command("head -c 3000000 /dev/zero; exit 4", mutating=mutating)
    with ThreadPoolExecutor(1) as pool:
        stalling = pool.submit(stall)
        outcome = ssh.run(proxy.host(), command, key="k", first_sent=None)
        stalling.result()
    ssh.close()
    assert isinstance(outcome, Finished), outcome
    assert (outcome.exit_code, outcome.stdout.total) == (4, 3_000_000)


def test_an_exit_code_whose_output_was_cut_off_is_no_result(proxy: Proxy, sshd: Sshd) -> None:
    ssh = sshd.ssh()
    proxy.cut_down = 2_000_000
    command = Command("head -c 3000000 /dev/zero; exit 4")
    outcome = ssh.run(proxy.host(), command, key="k", first_sent=None)
    ssh.close()
    refused(outcome, "link")


def test_new_keys_asked_for_by_us_change_nothing(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packetizer, "REKEY_BYTES", 500_000)
    with nothing_left():
        ssh = sshd.ssh()

        def one(_: int) -> Outcome:
            command = Command("head -c 4000000 /dev/zero; echo end")
            return ssh.run(sshd.host(), command, key="k", first_sent=None)

        with ThreadPoolExecutor(3) as pool:
            outcomes = list(pool.map(one, range(6)))
        ssh.close()
    for outcome in outcomes:
        assert isinstance(outcome, Finished), outcome
        assert outcome.stdout.total == 4_000_004
    assert sshd.logins == 1


def test_who_waits_for_a_turn_to_log_in_misses_nothing_that_was_said_meanwhile(sshd: Sshd) -> None:
    with ExitStack() as stack:
        ways = [stack.enter_context(Proxy(sshd.host())) for _ in range(6)]
        sshd.known_hosts.write_text("".join(way.known_hosts_line(sshd.known_hosts_line()) for way in ways))
        ssh = sshd.ssh(max_connecting=1)
        sent = [ssh.start(way.host(), Command("echo here"), key="k", first_sent=None) for way in ways]
        outcomes = [one.outcome.result(20) for one in sent]
        ssh.close()
    assert all(isinstance(outcome, Finished) for outcome in outcomes), outcomes


def test_logins_that_stall_do_not_keep_others_from_their_turn(sshd: Sshd) -> None:
    with server(silent) as stalled, nothing_left(seconds=10):
        ssh = sshd.ssh(max_connecting=1)
        hanging = ssh.start(stalled, Command("true"), key="k", first_sent=None)
        outcome = ssh.start(sshd.host(), Command("true"), key="k", first_sent=None).outcome.result(10)
        assert isinstance(outcome, Finished)
        assert not hanging.outcome.done()
        ssh.close()
        assert isinstance(hanging.outcome.result(1), Unreachable)


def test_a_trickle_of_output_does_not_put_off_the_deadline(sshd: Sshd) -> None:
    with nothing_left():
        ssh = sshd.ssh()
        command = Command("while :; do echo tick; sleep 0.05; done", timeout=0.6)
        outcome = ssh.run(sshd.host(), command, key="k", first_sent=None)
        ssh.close()
    assert isinstance(outcome, TimedOut), outcome
    assert outcome.ended
    assert outcome.stdout.data.startswith(b"tick\ntick\n")
    assert outcome.after < 5.0


LOOKING = """
import sys
from bot.effect import Command
from bot.inventory import Host
from bot.ssh import Ssh, SshSettings
address, port, user, known_hosts, identity = sys.argv[1:]
ssh = Ssh(SshSettings(user=user, known_hosts=known_hosts, identity_files=(identity,)))
ssh.run(Host("h", address, int(port)), Command("sleep 74"), key="k", first_sent=None)
"""


def test_a_bot_that_is_killed_leaves_no_command_that_looks_behind(sshd: Sshd) -> None:
    host = sshd.host()
    words = [host.address, str(host.port), str(host.user), str(sshd.known_hosts), str(sshd.identity)]
    bot = subprocess.Popen([sys.executable, "-c", LOOKING, *words])
    wait_until(lambda: bool(sshd.processes("sleep 74")), "the command", seconds=20)
    bot.kill()
    bot.wait()
    wait_until(lambda: not sshd.processes(), "the end of the whole group")


def test_a_host_that_takes_nothing_is_given_up_and_holds_up_nobody(proxy: Proxy, sshd: Sshd) -> None:
    with sshd.known_hosts.open("a") as file:
        file.write(sshd.known_hosts_line())
    with nothing_left():
        ssh = sshd.ssh(keepalive=0.5)
        assert isinstance(ssh.probe(proxy.host()), Finished)
        proxy.frozen = True
        big = Command('printf %s "$big" | wc -c', env={"big": "x" * 900_000}, timeout=60)
        stuck = ssh.start(proxy.host(), big, key="k", first_sent=None)
        others = [ssh.start(sshd.host(), Command("true"), key="k", first_sent=None) for _ in range(20)]
        assert all(isinstance(one.outcome.result(20), Finished) for one in others)
        outcome = stuck.outcome.result(20)
        ssh.close()
        proxy.frozen = False
        proxy.cut()
    assert isinstance(outcome, Unreachable | Finished), outcome
    if isinstance(outcome, Finished):
        assert outcome.stdout.data.strip() == b"900000"


@pytest.mark.parametrize("mutating", [False, True])
def test_hosts_that_hang_do_not_delay_the_rest(sshd: Sshd, mutating: bool) -> None:
    with nothing_left(seconds=10), ExitStack() as stack:
        hanging = [stack.enter_context(server(silent)) for _ in range(40)]
        ssh = sshd.ssh()
        sent = [
            ssh.start(host, Command("true", mutating=mutating), key=f"k/{number}", first_sent=None)
            for number, host in enumerate(hanging)
        ]
        outcome = ssh.start(sshd.host(), Command("true"), key="k", first_sent=None).outcome.result(10)
        assert isinstance(outcome, Finished)
        assert not any(one.outcome.done() for one in sent)
        for one in sent:
            one.cancel()
        assert all(isinstance(one.outcome.result(10), Cancelled) for one in sent)
        ssh.close()


@pytest.mark.parametrize(
    "algorithms",
    [
        "Ciphers aes128-gcm@openssh.com",
        "Ciphers aes256-ctr\nMACs hmac-sha2-256-etm@openssh.com",
        "Ciphers aes128-ctr\nMACs hmac-sha2-512",
    ],
)
def test_packets_may_come_in_any_pieces_under_every_kind_of_cipher(tmp_path: Path, algorithms: str) -> None:
    with Sshd(tmp_path, options=f"{algorithms}\nRekeyLimit 40K") as sshd, Proxy(sshd.host()) as proxy:
        proxy.piece = 7
        sshd.known_hosts.write_text(proxy.known_hosts_line(sshd.known_hosts_line()))
        with nothing_left():
            ssh = sshd.ssh()
            command = Command("head -c 120000 /dev/zero; echo end; echo err >&2; exit 3")
            outcomes = [ssh.run(proxy.host(), command, key="k", first_sent=None) for _ in range(2)]
            ssh.close()
    for outcome in outcomes:
        assert isinstance(outcome, Finished), outcome
        assert (outcome.exit_code, outcome.stdout.total, outcome.stderr.data) == (3, 120_004, b"err\n")
    assert proxy.connections == 1


@pytest.mark.parametrize("mutating", [False, True])
def test_a_warm_command_takes_one_round_trip(proxy: Proxy, sshd: Sshd, mutating: bool) -> None:
    ssh = sshd.ssh()
    assert isinstance(ssh.probe(proxy.host()), Finished)
    wait_until(lambda: bool(sshd.processes("sh")), "the shell that waits for the next command")
    proxy.flights = 1
    outcome = ssh.run(proxy.host(), Command("echo here", mutating=mutating), key="k", first_sent=None)
    proxy.flights = None
    ssh.close()
    assert isinstance(outcome, Finished), outcome
    assert outcome.stdout.data == b"here\n"


@pytest.mark.parametrize("mutating", [False, True])
def test_a_shell_that_was_killed_while_it_waited_is_replaced(sshd: Sshd, mutating: bool) -> None:
    ssh = sshd.ssh()
    assert isinstance(ssh.probe(sshd.host()), Finished)
    wait_until(lambda: bool(sshd.processes("sh")), "the shell that waits for the next command")
    for pid in sshd.processes("sh"):
        os.kill(pid, signal.SIGKILL)
    outcome = ssh.run(sshd.host(), Command("echo here", mutating=mutating), key="k", first_sent=None)
    ssh.close()
    assert isinstance(outcome, Finished), outcome
    assert outcome.stdout.data == b"here\n"
    assert sshd.logins == 1
