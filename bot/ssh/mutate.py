"""A command that changes something: sent once, and after that only asked about.

first exchange ── whole answer ──────────────────────────────▶ its outcome
     │ link breaks                 ┌── claimed: wait for it ─▶ its outcome
     └─▶ connect again, ask ───────┼── never came: run it now, under the same claim; when barred, see that it never starts
                                   └── nobody can know ──────▶ Lost
deadline or cancel: connect if need be, end the process group, or take the claim so that it never starts
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bot.effect import Cancelled, Command, Finished, Keep, Lost, Outcome, Output, TimedOut, Unreachable
from bot.inventory import Host
from bot.ssh.account import account
from bot.ssh.become import becomes_root, outlives
from bot.ssh.link import Link
from bot.ssh.once import Answer, Mode, Places, Request
from bot.ssh.output import Keeper
from bot.ssh.plain import BACKLOG, HELD, Broken, no_shell, open_session
from bot.ssh.pool import BUSY, Pool
from bot.ssh.session import Session
from bot.ssh.settings import SshSettings
from bot.ssh.unreached import Unreached

PAUSES = (0.1, 0.3, 1.0, 2.0, 5.0)
"""Seconds between two tries to reach a host again; the last one repeats."""
REST = 60.0
"""Seconds that the rest of an answer is waited for when the end of the command is known."""
LOOK = "look on the host what it did, then go on or undo by hand; it is never sent again by itself"


@dataclass(slots=True)
class Errand:
    """One mutating command on its way to one host."""

    pool: Pool
    settings: SshSettings
    places: Places
    host: Host
    command: Command
    key: str
    first_sent: datetime | None
    stdout: Keep
    stderr: Keep
    barred: bool = False
    """May it not be started any more, if it never was?"""
    began: float = field(default_factory=time.monotonic)
    sent: float | None = None
    """When this errand first sent it, on the monotonic clock."""
    _exit_code: str = ""
    """How it ended, known before its output came."""
    _asked: Mode = "run"
    """What the last exchange was for."""
    _replaced: bool = False
    """Was a kept connection of no use, and replaced?"""
    _seen: tuple[int, int] = (0, 0)
    """Bytes of stdout and stderr that came, in all exchanges."""

    def __post_init__(self) -> None:
        """Refuse what cannot be written as shell text, before anything is sent."""
        _ = self._request("run").script

    async def run(self) -> Outcome:
        """Run it, or find out what became of it."""
        try:
            return await self._see_to_it()
        except TimeoutError:
            return await self._end(cancelled=False)
        except asyncio.CancelledError:
            return await self._end(cancelled=True)

    async def _see_to_it(self) -> Outcome:
        deadline = self._deadline(self.settings.connect_timeout + self.settings.login_timeout)
        tries = 0
        while True:
            again: Mode = "ask" if self.barred else "resume"
            result = await self._exchange(again if self._may_have_started else "run", deadline)
            if isinstance(result, Answer):
                if not result.complete:
                    continue  # it ended, but something it left behind holds its output: ask for what there is
                if result.word == "RUNNING":
                    raise TimeoutError
                return self._outcome(result)
            if isinstance(result, Unreachable):
                if not self._may_have_started:
                    return result
                if result.layer in {"host key", "login"}:
                    return Lost(
                        f"it was sent, and now the host cannot be asked: {result.reason}", result.advice
                    )
            if self.pool.closed:
                return Lost("the bot was closed while it went on", "it is asked for when the bot runs again")
            if self.sent is not None and tries == 0:
                deadline = self._deadline(0)
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1

    @property
    def _user(self) -> str:
        return account(self.host, self.settings, "act").user

    @property
    def _may_have_started(self) -> bool:
        return self.sent is not None or self.first_sent is not None

    @property
    def _age(self) -> float:
        if self.first_sent is not None:
            sent = self.first_sent if self.first_sent.tzinfo else self.first_sent.replace(tzinfo=UTC)
            return (datetime.now(UTC) - sent).total_seconds()
        return 0.0 if self.sent is None else time.monotonic() - self.sent

    def _deadline(self, more: float) -> float:
        start = self.began if self.sent is None else self.sent
        return start + self.command.timeout + more

    def _request(self, mode: Mode) -> Request:
        return Request(
            mode=mode,
            key=self.key,
            command=self.command,
            user=self._user,
            age=self._age,
            grace=self.settings.kill_grace,
            places=self.places,
            seen_out=self._seen[0],
            seen_err=self._seen[1],
        )

    async def _exchange(self, mode: Mode, deadline: float) -> Answer | Unreachable | Broken:
        """Ask the host once.

        Raises:
            TimeoutError: when the deadline passed before the answer came.

        """
        try:
            async with self.pool.lease(self.host, deadline, "act") as lease:
                result = await self._ask(lease.link, mode, deadline)
                if isinstance(result, Broken):
                    self.pool.discard(self.host, lease.link, "act", keep_sessions=result.full)
                    if not self._may_have_started and (lease.fresh or self._replaced):
                        return result.outcome
                    self._replaced = True
                return result
        except Unreached as refused:
            return refused.outcome

    async def _ask(
        self, link: Link, mode: Mode, deadline: float, *, fresh: bool = False
    ) -> Answer | Unreachable | Broken:
        self._asked = mode
        request = self._request(mode)
        if self._seen == (0, 0):
            self.stdout.restart()
            self.stderr.restart()
        seen_out, seen_err = self._seen
        answer = Answer(request.nonce, self.stdout, self.stderr, seen_out=seen_out, seen_err=seen_err)
        complaints = Keeper()
        session = await open_session(link, answer, complaints, self.settings, fresh=fresh)
        if not isinstance(session, Session):
            return session
        try:
            if mode == "run" and self.sent is None:
                self.sent = time.monotonic()
                deadline = self._deadline(0)
            async with asyncio.timeout_at(deadline):
                await session.begin(request.script)
                await session.until(lambda: answer.complete or bool(answer.exit_code) or _over(session))
            with suppress(TimeoutError):
                async with asyncio.timeout(REST):
                    await session.while_it_flows(
                        lambda: answer.complete or session.closed, quiet=HELD, most=BACKLOG
                    )
        finally:
            self._seen = answer.leave()
            session.close()
        if answer.complete and answer.word == "NOGROUP" and not link.needs_setsid:
            link.give_a_session()
            return await self._ask(link, mode, deadline)
        if answer.complete and answer.word == "STALE":
            self.sent = (
                None  # said before anything starts; a new connection is younger than what was forgotten
            )
            return Broken("the host has forgotten commands since this connection was made", full=True)
        self._exit_code = answer.exit_code or self._exit_code
        if answer.complete or answer.exit_code:
            return answer
        if session.refused:
            return Unreachable(
                "channel", "the server runs no commands for this account", "is there a ForceCommand?"
            )
        if session.ended and session.whole and not answer.started:
            if mode == "run":
                self.sent = None  # all that was said has come, and STARTED is said before anything starts
            if session.prepared:
                return await self._ask(link, mode, deadline, fresh=True)  # the shell that waited had died
            return no_shell(session, answer.noise + complaints.output.data)
        return Broken(link.farewell or "the connection was cut")

    async def _end(self, *, cancelled: bool) -> Outcome:
        """End the command on the host, or see that it never starts there."""
        if not self._may_have_started:
            return Cancelled(Output(), Output(), ended=True) if cancelled else BUSY
        settings = self.settings
        within = settings.connect_timeout + settings.login_timeout + settings.kill_grace + 5.0
        deadline = time.monotonic() + within
        reason = "no answer"
        for tries in range(20):
            try:
                result = await self._exchange("kill", deadline)
                if isinstance(result, Answer):
                    if result.complete:
                        return self._killed(result, cancelled=cancelled)
                    continue
                reason = result.reason if isinstance(result, Unreachable) else result.why
                if self.pool.closed or (
                    isinstance(result, Unreachable) and result.layer in {"host key", "login"}
                ):
                    break
                async with asyncio.timeout_at(deadline):
                    await asyncio.sleep(PAUSES[min(tries, 2)])
            except TimeoutError:
                break
        if self._exit_code.isdigit():
            note = f"[sickbay: it ended, but its output could not be fetched: {reason}]\n".encode()
            seconds = time.monotonic() - (self.sent or self.began)
            return Finished(int(self._exit_code), Output(), Output(note, len(note)), None, seconds)
        what = "it was cancelled" if cancelled else f"it had not ended after {self.command.timeout:g} s"
        return Lost(f"{what}, and the host could not be told to end it: {reason}", LOOK)

    def _killed(self, answer: Answer, *, cancelled: bool) -> Outcome:
        match answer.word:
            case "KILLED" | "STUCK" | "VOID":
                ended = answer.word != "STUCK" and not (answer.word == "KILLED" and self._outlived(answer))
                if cancelled:
                    return Cancelled(answer.stdout, answer.stderr, ended)
                return TimedOut(
                    time.monotonic() - (self.sent or self.began), answer.stdout, answer.stderr, ended
                )
            case _:
                return self._outcome(answer)

    def _outlived(self, answer: Answer) -> bool:
        """May what was killed go on as root?"""
        root = becomes_root(self.host, self.settings, mutating=True)
        return root and outlives(answer.exit_code)

    def _outcome(self, answer: Answer) -> Outcome:
        match answer.word:
            case "DONE":
                if self._outlived(answer):
                    return Lost("its shell was killed, and what sudo had started may go on as root", LOOK)
                seconds = time.monotonic() - (self.sent or self.began)
                if answer.exit_code.isdigit():
                    return Finished(int(answer.exit_code), answer.stdout, answer.stderr, None, seconds)
                return Finished(None, answer.stdout, answer.stderr, answer.exit_code, seconds)
            case "VOID":
                return Cancelled(Output(), Output(), ended=True)
            case "REBOOTED":
                return Lost("the host was rebooted while it ran", LOOK, over=True)
            case "LOST":
                root = becomes_root(self.host, self.settings, mutating=True)
                why = "its processes are gone and left no result: something killed them"
                return Lost(why, LOOK, over=not root)  # what sudo started may outlive who started it
            case "FORGOTTEN":
                return Lost(
                    "the host does not know it, and was started anew or has cleaned up since it was sent",
                    LOOK,
                )
            case "UNKNOWN":
                return Lost("another copy of it was about to start and said no more", LOOK)
            case _:
                return self._refused(answer.word)

    def _refused(self, word: str) -> Outcome:
        why, advice = {
            "NOSTATE": (
                "no directory on the host can hold the command's state: "
                + ", ".join(f"{place}/.sickbay-{self._user}" for place in self.places.state),
                "one of them must be the login user's own, a real directory, mode 700, on a disk with room",
            ),
            "NOPROC": (
                "/proc cannot be read on the host",
                "commands that change something need Linux with /proc",
            ),
            "NOGROUP": (
                "the SSH server gives commands no process group of their own",
                "install setsid (util-linux) there, or use OpenSSH's sshd",
            ),
        }.get(
            word,
            (f"the host's answer {word!r} makes no sense", "is something rewriting the output of its shell?"),
        )
        if self._asked == "run":
            return Unreachable("channel", why, advice)
        return Lost(f"it was sent before, and now: {why}", advice)


def _over(session: Session) -> bool:
    return session.closed or session.ended
