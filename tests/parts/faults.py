"""Faults of every kind between a bot and a command that must start once: injected for real, and judged afterwards.

A fault is known by its number and a seed: they say its kind, its command and its instant. The command appends a line
to a file each time it starts, so what happened is read on the "host", not asked of what is under test.
"""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.effect import Cancelled, Command, Finished, Lost, Outcome, Pending, Unreachable
from bot.inventory import Host
from bot.ssh import Ssh, SshSettings
from bot.ssh.once import Places
from tests.parts.programs import wait_until
from tests.parts.proxy import Proxy
from tests.parts.sshd import Sshd

PATTERN = random.Random(7).randbytes(300_000)
LONG_UP = "10000000.00 1.00\n"


@dataclass(frozen=True)
class Deed:
    """A command that says when it starts, writes in two goes, and ends with a code of its own."""

    number: int
    folder: Path
    first: int
    second: int
    seconds: float
    code: int

    @property
    def trace(self) -> Path:
        """One line for each start."""
        return self.folder / f"trace-{self.number}"

    @property
    def command(self) -> Command:
        """What is sent."""
        pattern = self.folder / "pattern"
        text = (
            f"echo started >>{self.trace}; head -c {self.first} {pattern}; echo half >&2; sleep {self.seconds:.3f}; "
            f"head -c {self.second} {pattern}; sleep {self.seconds / 4:.3f}; echo whole >&2; exit {self.code}"
        )
        return Command(text, timeout=30, mutating=True)

    @property
    def starts(self) -> int:
        """How often it started."""
        return len(self.trace.read_text().splitlines()) if self.trace.exists() else 0

    def exact(self, outcome: Outcome) -> bool:
        """Is that its end, and all it wrote?"""
        return (
            isinstance(outcome, Finished)
            and outcome.exit_code == self.code
            and outcome.stdout.data == PATTERN[: self.first] + PATTERN[: self.second]
            and outcome.stdout.total == self.first + self.second
            and outcome.stderr.data == b"half\nwhole\n"
        )

    def cut_short(self, outcome: Outcome, why: str) -> bool:
        """Is that its end, with the beginning of its output, and said why there is no more?"""
        return (
            isinstance(outcome, Finished)
            and outcome.exit_code == self.code
            and (PATTERN[: self.first] + PATTERN[: self.second]).startswith(outcome.stdout.data)
            and why in outcome.stderr.text
        )


@dataclass(frozen=True)
class Verdict:
    """How one fault ended."""

    kind: str
    word: str
    """`finished`, `cut short`, `cancelled`, `never started` or `lost`."""
    starts: int
    wrong: str = ""
    """What should not be so: an output that was lost though the host has it, or an answer that changed."""


class _CutOnce(Proxy):
    """Cuts one connection, and lets the next one through."""

    def _drop(self, pair: Any) -> None:
        super()._drop(pair)
        self.cut_up = self.cut_down = None


@dataclass(frozen=True)
class _Bot:
    """What a process needs to be a bot that sends one command."""

    settings: SshSettings
    places: Places
    host: Host
    deed: Deed


def _live(bot: _Bot, ready: Any) -> None:
    """Be a bot, until killed."""
    ssh = Ssh(bot.settings, bot.places)
    ready.set()
    ssh.run(bot.host, bot.deed.command, key=f"key/{bot.deed.number}", first_sent=None)
    threading.Event().wait()


class Site:
    """One host with everything that can go wrong around it."""

    def __init__(self, sshd: Sshd, proxy: Proxy, disk: Path | None, seed: int) -> None:
        self.sshd = sshd
        self.proxy = proxy
        self.disk = disk
        """A small disk of its own; None where none may be mounted."""
        self.seed = seed
        self.settings = sshd.settings(keepalive=0.2, kill_grace=1.0)
        self.places = sshd.places(boot_id=str(sshd.directory / "boot_id"))
        self.boot("first")
        self.ssh = Ssh(self.settings, self.places)
        self.size = (0, 0)
        self._bodies = multiprocessing.get_context("forkserver")
        self._bodies.set_forkserver_preload(["tests.parts.faults"])

    def boot(self, name: str, uptime: str = LONG_UP) -> None:
        """Let the host say that it was booted."""
        (self.sshd.directory / "boot_id").write_text(f"{name}\n")
        (self.sshd.directory / "uptime").write_text(uptime)

    def deed(self, number: int, chance: random.Random) -> Deed:
        """Return the command of a fault."""
        pattern = self.sshd.directory / "pattern"
        if not pattern.exists():
            pattern.write_bytes(PATTERN)
        size = chance.choice((5, 5_000, 100_000))
        first, second = chance.randint(0, size), chance.randint(0, size)
        # what runs for longer is told while it runs
        seconds = chance.uniform(0.5, 0.9) if chance.random() < 0.2 else chance.uniform(0, 0.15)
        return Deed(number, self.sshd.directory, first, second, seconds, chance.randint(0, 9))

    def send(
        self,
        deed: Deed,
        host: Host | None = None,
        first_sent: datetime | None = None,
        ssh: Ssh | None = None,
    ) -> Pending:
        """Send it, or ask what became of it."""
        return (ssh or self.ssh).start(
            host or self.proxy.host(), deed.command, key=f"key/{deed.number}", first_sent=first_sent
        )

    def ask(self, deed: Deed, first_sent: datetime, *, places: Places | None = None) -> Outcome:
        """Ask until there is an outcome; a host that cannot be reached is asked again."""
        ssh = Ssh(self.settings, places) if places else self.ssh
        try:
            for _ in range(50):
                outcome = self.send(deed, self.sshd.host(), first_sent, ssh).outcome.result(60)
                if not isinstance(outcome, Unreachable):
                    break
            return outcome
        finally:
            if places:
                ssh.close()

    def state_of(self, deed: Deed) -> list[str]:
        """Return what the host wrote down of how it ended."""
        name = hashlib.sha256(f"key/{deed.number}".encode()).hexdigest()[1:40]
        places = [self.sshd.state, *([self.disk] if self.disk else [])]
        return [path.name for place in places for path in place.rglob(f"{name}.rc.*")]

    def inject(self, number: int) -> Verdict:
        """Inject one fault, ask until there is an outcome, and judge it."""
        chance = random.Random(f"{self.seed}/{number}")
        names = [name for name in KINDS if name != "full disk" or self.disk]
        kind = names[number % len(names)]
        deed = self.deed(number, chance)
        outcome, sent, places = KINDS[kind](self, deed, chance)
        if isinstance(outcome, Unreachable) and kind != "full disk":
            outcome = self.ask(deed, sent, places=places)
        again = outcome if isinstance(outcome, Unreachable) else self.ask(deed, sent, places=places)
        verdict = self._judge(kind, deed, outcome, again)
        if kind == "full disk" and self.disk:
            _empty(self.disk)
        return verdict

    def _judge(self, kind: str, deed: Deed, outcome: Outcome, again: Outcome) -> Verdict:
        word, wrong, starts = "", "", deed.starts
        if deed.exact(outcome):
            word = "finished"
        elif kind in SHORT and deed.cut_short(outcome, SHORT[kind]):
            word = "cut short"
        elif isinstance(outcome, Cancelled) and kind in {"cancelled", "duplicate after void"}:
            word = "cancelled" if starts else "never started"
            wrong = "" if outcome.ended else "nobody knows whether it was ended"
        elif isinstance(outcome, Lost):
            word = "lost"
            wrong = f"the host has {self.state_of(deed)}" if self.state_of(deed) else ""
            if kind not in {"all killed", "rebooted"}:
                wrong = f"lost: {outcome.reason}"
        elif isinstance(outcome, Unreachable) and kind == "full disk":
            word = "never started"
            wrong = "it started" if starts else ""
        else:
            word, wrong = type(outcome).__name__, f"not what it did: {_short(outcome)}"
        same = type(again) is type(outcome) and _code(again) == _code(outcome)
        # what was cancelled has ended all the same, and says so when it is asked again
        if not wrong and not same and not (isinstance(outcome, Cancelled) and isinstance(again, Finished)):
            wrong = f"first {_short(outcome)}, then {_short(again)}"
        if not wrong and word == "finished" and not deed.exact(again):
            wrong = f"its output was lost: {_short(again)}"
        return Verdict(kind, word, starts, wrong)

    def six_at_once(self, number: int, rooms: list[Ssh]) -> tuple[int, int]:
        """Let six bots send the same command at the same instant; return its starts and the exact answers."""
        deed = self.deed(10_000_000 + number, random.Random(f"six/{self.seed}/{number}"))
        together = threading.Barrier(len(rooms))
        pending: list[Pending] = []

        def one(room: Ssh) -> None:
            together.wait()
            pending.append(self.send(deed, self.sshd.host(), ssh=room))

        threads = [threading.Thread(target=one, args=(room,)) for room in rooms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        exact = sum(deed.exact(each.outcome.result(60)) for each in pending)
        return deed.starts, exact

    # The kinds: each returns the outcome that the one who sent it got, when that was, and where to ask afterwards.

    def bot_killed(self, deed: Deed, chance: random.Random) -> "_Told":
        """Kill -9 of the bot at any instant."""
        ready = self._bodies.Event()
        bot = _Bot(self.settings, self.places, self.sshd.host(), deed)
        sent = datetime.now(UTC)
        process = self._bodies.Process(target=_live, args=(bot, ready), daemon=True)
        process.start()
        ready.wait(60)
        time.sleep(chance.uniform(0, deed.seconds + 0.15))
        process.kill()
        process.join()
        return self.ask(deed, sent), sent, None

    def reset_up(self, deed: Deed, chance: random.Random) -> "_Told":
        """Reset the link at any byte on its way to the host."""
        return self._reset(deed, chance, 0)

    def reset_down(self, deed: Deed, chance: random.Random) -> "_Told":
        """Reset the link at any byte on its way from the host."""
        return self._reset(deed, chance, 1)

    def _reset(self, deed: Deed, chance: random.Random, way: int) -> "_Told":
        if not any(self.size):  # bytes of a request and of an answer without output
            self.ssh.probe(self.proxy.host())
            before = self.proxy.traffic()
            self.ssh.run(
                self.proxy.host(), Command("true", mutating=True), key=f"size/{self.seed}", first_sent=None
            )
            self.size = tuple(b - a for a, b in zip(before, self.proxy.traffic(), strict=True))  # type: ignore[assignment]
        self.ssh.probe(self.proxy.host())
        size = self.size[way] + (deed.first + deed.second if way else 0)
        at = self.proxy.traffic()[way] + chance.randint(0, size)
        if way:
            self.proxy.cut_down = at
        else:
            self.proxy.cut_up = at
        sent = datetime.now(UTC)
        outcome = self.send(deed).outcome.result(60)
        self.proxy.cut_up = self.proxy.cut_down = None
        return outcome, sent, None

    def _meanwhile(self, deed: Deed, chance: random.Random, happens: Callable[[Pending], object]) -> "_Told":
        self.ssh.probe(self.proxy.host())
        sent = datetime.now(UTC)
        pending = self.send(deed)
        time.sleep(chance.uniform(0, deed.seconds + 0.1))
        happens(pending)
        return pending.outcome.result(60), sent, None

    def frozen(self, deed: Deed, chance: random.Random) -> "_Told":
        """Freeze the link for a while, and then it is dead or lives on."""

        def freeze(_: Pending) -> None:
            self.proxy.frozen = True
            time.sleep(chance.uniform(0.1, 1.0))
            if chance.random() < 0.7:
                self.proxy.cut()
            self.proxy.frozen = False

        return self._meanwhile(deed, chance, freeze)

    def session_killed(self, deed: Deed, chance: random.Random) -> "_Told":
        """Kill the sshd that serves the connection."""
        return self._meanwhile(deed, chance, lambda _: self.sshd.kill_sessions())

    def all_killed(self, deed: Deed, chance: random.Random) -> "_Told":
        """Kill the wrapper and the command together."""
        return self._meanwhile(deed, chance, lambda _: self._kill_all())

    def _kill_all(self) -> None:
        for _ in range(2):  # what was being forked may have been missed
            for pid in self.sshd.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def rebooted(self, deed: Deed, chance: random.Random) -> "_Told":
        """Reboot the host; the directory of its state may be empty afterwards."""
        gone = chance.random() < 0.3

        def reboot(_: Pending) -> None:
            self.sshd.kill_sessions()
            self._kill_all()
            if gone:
                # what is not killed yet may still write there; a directory that is moved away is gone for it too
                self.sshd.state.rename(self.sshd.directory / f"state-{deed.number}")
                self.sshd.state.mkdir(mode=0o755)
                self.sshd.state.chmod(0o755)
            self.boot(f"boot-{deed.number}", uptime="0.50 1.00\n")

        outcome, sent, _ = self._meanwhile(deed, chance, reboot)
        if isinstance(outcome, Unreachable):
            outcome = self.ask(deed, sent)
        again = self.ask(deed, sent)
        self.boot(f"boot-{deed.number}")
        return (outcome if type(outcome) is type(again) else again), sent, None

    def duplicate(self, deed: Deed, chance: random.Random) -> "_Told":
        """Deliver a second copy of the first request, while it runs or when it has ended."""
        other = Ssh(self.settings, self.places)
        other.probe(self.sshd.host())
        late: list[Pending] = []
        told = self._meanwhile(
            deed, chance, lambda _: late.append(self.send(deed, self.sshd.host(), ssh=other))
        )
        second = late[0].outcome.result(60)
        other.close()
        return (told[0] if deed.exact(second) else second), told[1], None

    def void(self, deed: Deed, chance: random.Random) -> "_Told":
        """Cancel what may be on its way, and then the first copy comes."""
        sent = datetime.now(UTC)
        pending = self.send(deed, self.sshd.host(), sent)
        pending.cancel()
        outcome = pending.outcome.result(60)
        copy = self.send(deed).outcome.result(60)
        same = type(copy) is type(outcome) or isinstance(outcome, Cancelled)
        return (outcome if same else copy), sent, None

    def cancelled(self, deed: Deed, chance: random.Random) -> "_Told":
        """Cancel it at any instant."""
        return self._meanwhile(deed, chance, lambda pending: pending.cancel())

    def full_disk(self, deed: Deed, chance: random.Random) -> "_Told":
        """Leave any room, or none, on the disk that holds its state."""
        assert self.disk
        free = chance.choice((0, 4, 8, 12, 24, 48, 200)) * 1024
        with suppress(OSError), (self.disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        size = (self.disk / "ballast").stat().st_size
        os.truncate(self.disk / "ballast", max(0, size - free))
        places = Places(
            state=(str(self.disk),),
            boot_id=self.places.boot_id,
            uptime=self.places.uptime,
            init=self.places.init,
        )
        sent = datetime.now(UTC)
        ssh = Ssh(self.settings, places)
        outcome = self.send(deed, self.sshd.host(), ssh=ssh).outcome.result(60)
        ssh.close()
        return outcome, sent, places


_Told = tuple[Outcome, datetime, Places | None]

KINDS: dict[str, Callable[[Site, Deed, random.Random], _Told]] = {
    "bot killed -9": Site.bot_killed,
    "link reset, upwards": Site.reset_up,
    "link reset, downwards": Site.reset_down,
    "link frozen": Site.frozen,
    "sshd session killed": Site.session_killed,
    "all killed": Site.all_killed,
    "rebooted": Site.rebooted,
    "late duplicate": Site.duplicate,
    "duplicate after void": Site.void,
    "cancelled": Site.cancelled,
    "full disk": Site.full_disk,
}


SHORT = {"full disk": "the disk of the host was full", "all killed": "what stored it was killed"}
"""Why there may be less of an output than was written."""


@contextmanager
def site(folder: Path, *, address: str, seed: int) -> Iterator[Site]:
    """Lend a site."""
    disk = folder / "disk"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        with Sshd(folder / "sshd", address=address) as sshd, _CutOnce(sshd.host(), address=address) as proxy:
            sshd.state.chmod(0o755)
            with sshd.known_hosts.open("a") as file:
                file.write(proxy.known_hosts_line(sshd.known_hosts_line()))
            place = Site(sshd, proxy, disk if mounted else None, seed)
            try:
                yield place
            finally:
                place.ssh.close()
    finally:
        if mounted:
            wait_until(
                lambda: subprocess.run(["umount", disk], check=False).returncode == 0, "the disk is let go"
            )


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _code(outcome: Outcome) -> int | None:
    return outcome.exit_code if isinstance(outcome, Finished) else None


def _short(outcome: Outcome) -> str:
    return (
        repr(outcome)[:120]
        if not isinstance(outcome, Finished)
        else (
            f"Finished({outcome.exit_code}, {len(outcome.stdout.data)} of {outcome.stdout.total} bytes, "
            f"{outcome.stderr.text[-80:]!r})"
        )
    )
