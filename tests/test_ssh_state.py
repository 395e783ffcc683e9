"""What a host remembers of commands: cleaned, bounded, private, never followed, and what was forgotten never starts.

The wrapper is run as sshd would run it: a POSIX shell that leads a session and reads the script from its stdin.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.effect import KEEP, Command
from bot.ssh.once import Answer, Mode, Places, Request
from tests.parts.programs import require, wait_until

SHELLS = {"dash": ("dash",), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh")}
PACKAGES = {"busybox": "busybox-static"}
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
HOUR, DAY = 3600, 86400


@dataclass
class Box:
    """A host without sshd."""

    folder: Path
    shell: str = "dash"
    up: int = 10_000_000
    """Uptime in seconds."""
    state: list[Path] = field(default_factory=list)
    path: str = ""

    def __post_init__(self) -> None:
        """Make its place for state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.state or [self.folder / "state"]
        for place in self.state:
            place.mkdir(exist_ok=True)
            place.chmod(0o755)

    @property
    def base(self) -> Path:
        """Where it keeps state."""
        return self.state[0] / ".sickbay-me"

    def start(
        self,
        text: str,
        key: str = "key",
        *,
        mode: Mode = "run",
        age: float = 0,
        seen: int = 0,
        limit: float = 60,
    ) -> "Exchange":
        """Begin an exchange."""
        uptime = self.folder / f"uptime-{self.up}"  # not written again under the eyes of who reads it
        if not uptime.exists():
            uptime.write_text(f"{self.up}.00 1.00\n")
        places = Places(tuple(map(str, self.state)), uptime=str(uptime), init="/nowhere")
        command = Command(text, timeout=limit, mutating=True)
        request = Request(mode, key, command, "me", age, 1, places, seen_out=seen)
        program = SHELLS[self.shell]
        require(program[0], package=PACKAGES.get(program[0], program[0]))
        child = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": f"{self.path}{os.environ['PATH']}", "HOME": str(self.folder)},
        )
        assert child.stdin
        child.stdin.write(request.script)
        child.stdin.close()
        return Exchange(child, Answer(request.nonce, seen_out=seen))

    def ask(self, text: str = "echo hi", key: str = "key", **how: object) -> Answer:
        """Do one exchange to its end."""
        return self.start(text, key, **how).end()  # type: ignore[arg-type]

    def claims(self) -> int:
        """How many commands it remembers."""
        return len(list(self.base.glob("?/*.claim")))

    def remember(self, number: int, *, since: int, size: int = 1, boot: str = BOOT) -> None:
        """Write down a command that ended."""
        shelf = self.base / f"{number % 16:x}"
        shelf.mkdir(mode=0o700, exist_ok=True)
        name = f"{number:039x}"
        (shelf / f"{name}.claim").write_text(f"run {boot} 1 1 {since}\n{size}\n")
        (shelf / f"{name}.rc.0").touch()
        for stream in ("out", "err"):
            with (shelf / f"{name}.{stream}.1000000000000000").open("w") as file:
                file.truncate(size * 512)

    def file(self, key: str, name: str) -> Path:
        """One of the files of a command; the directory around it is made."""
        request = Request("run", key, Command("true"), "me", 0, 1)
        line = next(line for line in request.script.decode().splitlines() if line.startswith("sb_id="))
        path = self.base / (line.removeprefix("sb_id='").removesuffix("'") + f".{name}")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return path

    def due(self) -> None:
        """Let the next command look through it all."""
        (self.base / "tidied").unlink(missing_ok=True)


@dataclass
class Exchange:
    """One exchange that goes on."""

    child: "subprocess.Popen[bytes]"
    answer: Answer

    def until(self, word: bytes) -> bytes:
        """Read until stdout of the command has that in it; returns it."""
        assert self.child.stdout
        while word not in self.answer.stdout.data and not self.answer.complete:
            data = os.read(self.child.stdout.fileno(), 65536)
            if not data:
                break
            self.answer.add(data)
        return self.answer.stdout.data

    def end(self) -> Answer:
        """Read all of it."""
        self.until(b"\0never\0")
        assert self.child.stdout
        self.child.stdout.close()
        self.child.wait()
        return self.answer


@pytest.fixture(params=SHELLS)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    return Box(tmp_path, request.param)


def gate(folder: Path) -> tuple[Path, str]:
    """A file, and shell text that waits for it."""
    path = folder / "gate"
    return path, f"while [ ! -e {path} ]; do sleep 0.05; done"


def test_output_comes_while_the_command_runs_for_who_started_it_and_for_who_asks(box: Box) -> None:
    path, wait = gate(box.folder)
    first = box.start(f"echo before; {wait}; echo after; exit 3")
    assert first.until(b"before").strip() == b"before"  # the newline may be the beginning of a mark
    second = box.start("echo before; never", mode="resume", seen=3)
    assert second.until(b"ore").startswith(b"ore")
    path.touch()
    for exchange, seen in ((first, 0), (second, 3)):
        answer = exchange.end()
        assert (answer.word, answer.exit_code, answer.lack) == ("DONE", "3", "whole")
        assert answer.stdout.data == b"before\nafter\n"[seen:]
        assert answer.seen_out == 13


def test_long_output_that_is_read_while_it_grows_has_the_same_ends_and_count(box: Box) -> None:
    path, wait = gate(box.folder)
    exchange = box.start(f"seq 1 300000; {wait}; seq 1 300000")
    exchange.until(b"\n1000\n")
    path.touch()
    whole = "".join(f"{number}\n" for number in range(1, 300_001)).encode() * 2
    told, asked = exchange.end(), box.ask(mode="resume")
    for answer in (told, asked):
        assert answer.stdout.total == len(whole)
        assert answer.stdout.data[: KEEP * 3 // 4] == whole[: KEEP * 3 // 4]
        assert answer.stdout.data[-KEEP // 4 :] == whole[-KEEP // 4 :]
    assert box.ask(mode="resume", seen=len(whole) - 5).stdout.data.endswith(whole[-5:])


def test_a_link_that_takes_nothing_holds_up_neither_the_command_nor_its_truth(box: Box) -> None:
    path, wait = gate(box.folder)
    stuck = box.start(f"seq 1 100000; {wait}; seq 1 100000; exit 4")
    stuck.until(b"\n100\n")  # and from here on nobody reads
    path.touch()
    answer = box.ask(mode="resume")
    assert (answer.word, answer.exit_code, answer.lack) == ("DONE", "4", "whole")
    assert answer.stdout.total == 2 * 588_895
    stuck.end()


def test_who_does_not_listen_any_more_is_not_waited_for(box: Box) -> None:
    path, wait = gate(box.folder)
    gone = box.start(f"echo before; {wait}; echo after")
    gone.until(b"before")
    assert gone.child.stdout
    gone.child.stdout.close()
    path.touch()
    assert box.ask(mode="resume").stdout.data == b"before\nafter\n"
    gone.child.wait()


def test_a_sleep_that_knows_no_fractions_is_enough(box: Box) -> None:
    folder = box.folder / "bin"
    folder.mkdir()
    real = require("sleep", package="coreutils")
    (folder / "sleep").write_text(f'#!/bin/sh\ncase $1 in *.*) exit 1 ;; esac\nexec {real} "$1"\n')
    (folder / "sleep").chmod(0o755)
    box.path = f"{folder}:"
    path = box.folder / "gate"
    first = box.start(f"echo before; while [ ! -e {path} ]; do sleep 1; done; echo after")
    first.until(b"before")
    second = box.start("never", mode="resume")
    second.until(b"before")
    path.touch()
    assert first.end().stdout.data == second.end().stdout.data == b"before\nafter\n"


def test_the_last_of_the_output_is_waited_for_however_slow_its_keeper_is(box: Box) -> None:
    folder = box.folder / "bin"
    folder.mkdir()
    real = require("dd", package="coreutils")
    # stopped, it does nothing, but is not waiting for anything to do
    (folder / "dd").write_text(
        f'#!/bin/sh\necho $$ >>{box.folder}/stopped\nkill -STOP $$\nexec {real} "$@"\n'
    )
    (folder / "dd").chmod(0o755)
    box.path = f"{folder}:"
    first = box.start("echo late")
    wait_until(lambda: bool(list(box.base.rglob("*.rc.0"))), "the end of the command")
    second = box.start("never", mode="resume")
    time.sleep(1.5)  # longer than anybody would wait for something that does nothing
    stopped = box.folder / "stopped"
    for pid in stopped.read_text().split() if stopped.exists() else ():  # busybox has a dd of its own
        os.kill(int(pid), signal.SIGCONT)
    for exchange in (first, second):
        answer = exchange.end()
        assert (answer.lack, answer.stdout.data) == ("whole", b"late\n")


def test_what_it_left_running_is_not_waited_for_and_holds_no_link(box: Box) -> None:
    pid = box.folder / "pid"
    first = box.start(f"sleep 71 & echo $! >{pid}; echo started; exit 0")
    wait_until(lambda: bool(list(box.base.rglob("*.rc.0"))), "the end of the command")
    second = box.ask(mode="resume")
    assert (second.word, second.lack, second.stdout.data) == ("DONE", "whole", b"started\n")
    first.end()
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_only_files_that_are_needed_are_left(box: Box) -> None:
    box.ask("echo hi; exit 3")
    (claim,) = box.base.glob("?/*.claim")
    kinds = sorted(path.name.split(".", 1)[1] for path in claim.parent.iterdir())
    assert kinds == ["claim", "err.1000000000000000", "out.1000000000000000", "rc.3"]
    assert oct(box.base.stat().st_mode & 0o777) == "0o700"


def test_pipes_are_made_in_advance_and_serve_one_command_each(box: Box) -> None:
    path, wait = gate(box.folder)
    going = [box.start(f"echo {number}; {wait}; echo {number}", key=f"key {number}") for number in range(8)]
    for number, exchange in enumerate(going):
        exchange.until(str(number).encode())
    taken = list(box.base.glob("pipe.*.taken"))
    assert len({claim.read_text().split()[5] for claim in box.base.glob("?/*.claim")}) == len(taken) == 8
    path.touch()
    for number, exchange in enumerate(going):
        assert exchange.end().stdout.data == f"{number}\n{number}\n".encode()
    assert not list(box.base.glob("pipe.*.taken"))
    spare = set(box.base.glob("pipe.*"))
    assert 2 <= len(spare) <= 16
    assert box.ask(key="next").word == "DONE"
    assert len(spare - set(box.base.glob("pipe.*"))) == 2


def test_pipes_of_who_was_killed_are_removed(box: Box) -> None:
    going = box.start("echo before; sleep 72", key="killed")
    going.until(b"before")
    os.killpg(going.child.pid, signal.SIGKILL)
    going.end()
    assert list(box.base.glob("pipe.*.taken"))
    box.due()
    assert box.ask(key="next").word == "DONE"
    wait_until(lambda: not list(box.base.glob("pipe.*.taken")), "the cleaning")
    assert box.ask(key="killed", mode="resume").word == "LOST"


def test_never_more_than_a_thousand_commands_and_the_oldest_go_first(box: Box) -> None:
    box.ask(key="first")
    for number in range(1200):
        box.remember(number, since=box.up - 2 * HOUR - number)
    box.due()
    box.ask(key="next")
    wait_until(lambda: box.claims() <= 900, "the cleaning")
    left = {int(path.stem, 16) for path in box.base.glob("?/*.claim") if path.stem.startswith("0000")}
    assert left == set(range(len(left)))
    assert not [
        path
        for path in box.base.glob("?/*")
        if path.stem.startswith("0000") and int(path.name[:39], 16) > 900
    ]


def test_never_more_than_256_megabytes_and_the_end_of_each_command_is_still_known(box: Box) -> None:
    box.ask(key="first")
    for number in range(300):
        box.remember(number, since=box.up - 60 - number, size=2048)
    box.due()
    box.ask(key="next")

    def held() -> int:
        return sum(path.stat().st_size for path in box.base.glob("?/*"))

    wait_until(lambda: held() < 200_000_000, "the cleaning")
    assert held() > 150_000_000
    assert box.claims() == 302
    assert len(list(box.base.glob("?/*.rc.0"))) == 302


def test_what_is_over_a_week_old_is_forgotten_and_long_output_after_a_day(box: Box) -> None:
    box.ask("exit 1", key="old")
    box.ask("seq 1 100000", key="long")
    box.ask("echo short", key="short")
    box.up += 2 * DAY
    box.ask(key="next")
    wait_until(lambda: box.ask(key="long", mode="resume").lack == "gone", "the cleaning")
    assert box.ask(key="short", mode="resume").stdout.data == b"short\n"
    box.up += 6 * DAY
    box.ask(key="last")
    wait_until(lambda: box.claims() <= 2, "the cleaning")


def test_a_running_command_is_never_forgotten(box: Box) -> None:
    path, wait = gate(box.folder)
    going = box.start(f"echo before; {wait}; exit 5", key="going")
    going.until(b"before")
    box.up += 30 * DAY
    for number in range(1000):
        box.remember(number, since=box.up - 2 * HOUR)
    box.due()
    box.ask(key="next")
    wait_until(lambda: box.claims() <= 902, "the cleaning")
    path.touch()
    assert going.end().exit_code == "5"
    assert box.ask(key="going", mode="resume").exit_code == "5"


def test_it_is_looked_through_once_an_hour_and_after_sixty_commands_only(box: Box) -> None:
    box.ask(key="first")
    wait_until((box.base / "tidied").exists, "the cleaning")
    box.remember(1, since=box.up - 30 * DAY)
    for number in range(60):
        box.ask(key=f"key {number}")
    assert (box.base / "1" / f"{1:039x}.claim").exists()
    for number in range(60, 66):
        box.ask(key=f"key {number}")
    wait_until(lambda: not (box.base / "1" / f"{1:039x}.claim").exists(), "the cleaning")
    box.remember(1, since=box.up - 30 * DAY)
    box.up += HOUR + 1
    box.ask(
        key="an hour later", mode="resume"
    )  # the first of all would be STALE: our parent is older than the host
    wait_until(lambda: not (box.base / "1" / f"{1:039x}.claim").exists(), "the cleaning")


def test_what_was_forgotten_is_never_started_again_not_even_by_the_first_copy_of_it(box: Box) -> None:
    box.up = int(float(Path("/proc/uptime").read_text().split()[0])) + 100  # our parent started before that
    box.ask(f"echo x >>{box.folder}/trace", key="old")
    old = box.up
    box.up += 8 * DAY
    box.ask(key="next")
    wait_until(lambda: box.claims() == 1, "the cleaning")
    assert list(box.base.glob(f"floor.{BOOT}.{old}"))
    # though the clock of who asks was set back, and it seems young
    answer = box.ask(f"echo x >>{box.folder}/trace", key="old", mode="resume", age=8 * DAY - 30)
    assert answer.word == "FORGOTTEN"
    assert box.ask(f"echo x >>{box.folder}/trace", key="late copy").word == "STALE"
    assert (box.folder / "trace").read_text() == "x\n"
    # whom nobody could know of is told so for ever
    assert box.ask("exit 1", key="old").word == "FORGOTTEN"


def test_the_clock_on_the_wall_decides_nothing(box: Box) -> None:
    box.ask(key="key")
    for path in box.base.rglob("*"):
        os.utime(path, (0, 0))
    box.due()
    box.ask(key="next")
    wait_until((box.base / "tidied").exists, "the cleaning")
    assert box.ask("exit 1", mode="resume").stdout.data == b"hi\n"


def test_cancelling_what_nobody_can_know_does_not_say_that_it_never_ran(box: Box) -> None:
    box.up = 300
    assert box.ask(mode="kill", age=HOUR).word == "FORGOTTEN"
    assert box.ask(mode="resume", age=HOUR).word == "FORGOTTEN"
    assert box.ask(mode="run").word == "FORGOTTEN"
    assert box.ask(mode="kill", key="another", age=10).word == "VOID"
    assert box.ask(mode="run", key="another").word == "VOID"


def test_a_container_whose_uptime_is_its_own_is_not_taken_for_new(box: Box) -> None:
    uptime, init = box.folder / "uptime", box.folder / "init"
    uptime.write_text("90000.00 1.00\n")
    fields = ["S"] + ["0"] * 18 + [str(777_600 * 100)] + ["0"] * 30
    init.write_text(f"1 (init) {' '.join(fields)}\n")
    places = Places((str(box.state[0]),), uptime=str(uptime), init=str(init))
    request = Request("resume", "key", Command("echo hi", mutating=True), "me", 60, 1, places)
    answer = Answer(request.nonce)
    done = subprocess.run(
        SHELLS[box.shell], input=request.script, capture_output=True, check=True, start_new_session=True
    )
    answer.add(done.stdout)
    assert answer.word == "DONE"


@pytest.mark.parametrize("name", ["claim", "rc.0", "out.1000000000000000", "told", "out.full"])
def test_no_link_in_the_way_is_followed(box: Box, name: str) -> None:
    box.ask(key="first")
    target = box.folder / "target"
    target.write_text("mine\n")
    box.file("key", name).symlink_to(target)
    answer = box.ask("echo hi; exit 3")
    if name == "claim":
        assert answer.word == "UNKNOWN"
    else:
        assert (answer.word, answer.exit_code, answer.stdout.data) == ("DONE", "3", b"hi\n")
    assert target.read_text() == "mine\n"


@pytest.mark.parametrize("name", ["tidied", "f", "floor"])
def test_no_link_among_our_own_files_is_followed(box: Box, name: str) -> None:
    box.ask(key="first")
    wait_until((box.base / "tidied").exists, "the cleaning")
    target = box.folder / "target"
    if name == "f":
        target.mkdir()
        for shelf in "0123456789abcdef":
            if not (box.base / shelf).exists():
                (box.base / shelf).symlink_to(target)
        words = {box.ask(key=f"key {number}").word for number in range(20)}
        assert words == {"DONE", "NOSTATE"}
        assert not list(target.iterdir())
        return
    target.write_text(f"{BOOT} 1\n")
    link = box.base / ("tidied" if name == "tidied" else f"floor.{BOOT}.1")
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    for number in range(3):
        box.up += HOUR + 1
        assert box.ask(key=f"key {number}").word == "DONE"
    assert target.read_text() == f"{BOOT} 1\n"


def test_a_place_where_others_may_rename_is_not_used(box: Box) -> None:
    box.state[0].chmod(0o777)
    assert box.ask().word == "NOSTATE"
    box.state[0].chmod(0o1777)
    assert box.ask().word == "DONE"


def test_a_directory_that_was_opened_to_others_is_left_within_the_hour(box: Box) -> None:
    box.ask(key="first")
    box.base.chmod(0o777)
    box.up += HOUR + 1
    assert box.ask().word == "NOSTATE"


def test_somebody_elses_directory_holds_up_no_claim(box: Box) -> None:
    if os.geteuid():
        pytest.skip("giving a directory away needs root: run the tests as root")
    other = Box(box.folder / "other", box.shell)
    other.ask()
    os.chown(other.base, 12345, 12345)
    both = Box(box.folder / "both", box.shell, state=[box.state[0], other.state[0]])
    assert both.ask().word == "DONE"


def test_a_claim_that_was_never_filled_in_is_unknown(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.ask(key="key")
    (claim,) = box.base.glob("?/*.claim")
    claim.write_text("run")
    assert box.ask().word == "UNKNOWN"


def test_what_a_cleaning_left_half_done_is_not_taken_for_a_result(box: Box) -> None:
    box.ask(key="first")
    for name in ("rc.3", "out.1000000000000000", "err.1000000000000000", "gone"):
        box.file("key", name).write_text("old\n")
    answer = box.ask("echo again; exit 4")
    assert (answer.exit_code, answer.stdout.data) == ("4", b"again\n")
    assert box.ask(mode="resume").exit_code == "4"
