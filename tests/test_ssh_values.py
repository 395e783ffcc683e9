"""Values from outside stay values: on a real sshd, under every sh that can be had, for both kinds of command."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.effect import Command, Finished, Outcome, TimedOut
from bot.ssh import Ssh
from bot.ssh.script import quoted
from tests.parts.programs import require, wait_until
from tests.parts.sshd import Sshd

HOSTILE = [
    "$(touch {mark})",
    "`touch {mark}`",
    "'; touch {mark}; '",
    '"; touch {mark}; "',
    "\\'; touch {mark}; \\'",
    "a\ntouch {mark}\n",
    "a; touch {mark} & b | c && d || e",
    "-o ProxyCommand=touch {mark}",
    "-rf",
    "--",
    "*",
    "~root",
    "${{IFS}}",
    "%s%n",
    "\\",
    "'",
    "''",
    " leading and trailing ",
    "",
    "\r\n\t\x01\x7f\x1b[31m",
    "ünïcödé 日本語 🔥",
    "\u0081\u0088\u00ff\ue000",
    "\udcff\udc80",
    "EOF\nEOF\n",
]
SHELLS = ["dash", "bash", "busybox"]


def _links(directory: Path, name: str) -> str:
    """Return sshd options under which our script is read by that sh, whatever /bin/sh is."""
    program = require(name, package={"busybox": "busybox-static"}.get(name, name))
    directory.mkdir()
    (directory / "sh").symlink_to(program)
    return f"ForceCommand exec {directory}/sh"


@pytest.fixture(scope="module", params=SHELLS)
def host(request: pytest.FixtureRequest) -> Iterator[Sshd]:
    """Return a host for each kind of sh."""
    with TemporaryDirectory(prefix="sb-shell-") as name:
        options = _links(Path(name) / "sh", request.param)
        with Sshd(Path(name) / "sshd", address="127.0.1.4", options=options) as sshd:
            yield sshd


@pytest.fixture(scope="module")
def ssh(host: Sshd) -> Iterator[Ssh]:
    room = host.ssh()
    yield room
    room.close()


def run(ssh: Ssh, host: Sshd, command: Command, key: str = "") -> Outcome:
    return ssh.run(
        host.host(),
        command,
        key=key or datetime.now(UTC).isoformat(),
        first_sent=None,
    )


def finished(outcome: Outcome) -> Finished:
    assert isinstance(outcome, Finished), outcome
    return outcome


@pytest.mark.parametrize("mutating", [False, True])
def test_hostile_values_arrive_as_they_are_and_do_nothing(ssh: Ssh, host: Sshd, mutating: bool) -> None:
    mark = host.home / "mark"
    values = {f"v{number}": text.format(mark=mark) for number, text in enumerate(HOSTILE)}
    text = "; ".join(f'printf "%s\\000" "$v{number}"' for number in range(len(HOSTILE)))
    outcome = finished(run(ssh, host, Command(text, env=values, mutating=mutating)))
    got = outcome.stdout.data.split(b"\0")[:-1]
    assert got == [value.encode("utf-8", "surrogateescape") for value in values.values()]
    assert outcome.stderr.data == b""
    assert not mark.exists()


@pytest.mark.parametrize("mutating", [False, True])
def test_every_character_of_latin_1_arrives(ssh: Ssh, host: Sshd, mutating: bool) -> None:
    value = "".join(map(chr, range(1, 256)))
    command = Command('printf %s "$value"', env={"value": value}, mutating=mutating)
    assert finished(run(ssh, host, command)).stdout.data == value.encode()


@pytest.mark.parametrize("mutating", [False, True])
def test_every_byte_arrives(ssh: Ssh, host: Sshd, mutating: bool) -> None:
    value = bytes(range(1, 256))
    env = {"value": value.decode("utf-8", "surrogateescape")}
    command = Command('printf %s "$value"', env=env, mutating=mutating)
    assert finished(run(ssh, host, command)).stdout.data == value


def test_a_value_used_without_quotes_is_still_no_command(ssh: Ssh, host: Sshd) -> None:
    mark = host.home / "mark"
    env = {"value": f"$(touch {mark}); touch {mark}"}
    finished(run(ssh, host, Command("echo $value", env=env)))
    assert not mark.exists()


def test_the_command_may_be_any_shell_text(ssh: Ssh, host: Sshd) -> None:
    text = 'f() {\n  cat <<\'EOF\'\nit\'s "fine" $HOME\nEOF\n}\nf | while read -r line; do echo "$line"; done\n# end'
    for mutating in (False, True):
        outcome = finished(run(ssh, host, Command(text, mutating=mutating)))
        assert outcome.stdout.text == 'it\'s "fine" $HOME\n'
        assert outcome.exit_code == 0


def test_the_wrapper_works_under_this_sh(ssh: Ssh, host: Sshd) -> None:
    trace = host.home / f"trace-{datetime.now(UTC).timestamp()}"
    text = f"echo once >> {trace}; echo out; echo err >&2; exit 9"
    for _ in range(3):
        outcome = finished(run(ssh, host, Command(text, mutating=True), key=str(trace)))
        assert (outcome.exit_code, outcome.stdout.data, outcome.stderr.data) == (9, b"out\n", b"err\n")
    assert trace.read_text() == "once\n"
    outcome = finished(run(ssh, host, Command("seq 1 400000", mutating=True)))
    assert outcome.stdout.total == len("".join(f"{number}\n" for number in range(1, 400001)))


@pytest.mark.parametrize("mutating", [False, True])
@pytest.mark.parametrize("text", ["sleep 66 | sleep 66", "trap '' TERM; while :; do sleep 0.2; done"])
def test_the_process_group_ends_under_this_sh(host: Sshd, text: str, mutating: bool) -> None:
    ssh = host.ssh(kill_grace=1)
    outcome = run(ssh, host, Command(f"echo before; {text}", timeout=0.5, mutating=mutating))
    ssh.close()
    assert isinstance(outcome, TimedOut), outcome
    assert outcome.ended
    assert outcome.stdout.data == b"before\n"
    wait_until(lambda: not host.processes("sleep 66"), "the end of the group")


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_quoting_gives_back_any_text(value: str) -> None:
    sh = shutil.which("sh") or "/bin/sh"
    got = subprocess.run(
        [sh, "-s"], input=f"printf %s {quoted(value)}".encode(), capture_output=True, check=True
    )
    assert got.stdout == value.encode()
