"""Who sickbay.yaml names now."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.assembly import Assembly
from bot.commands.verbs import Reply
from bot.config.config import load
from bot.errors import SickbayError
from bot.people.authority import Asker
from bot.roster import RosterFile
from tests.parts.states import BOB, RESTART, Scene
from tests.test_commands import said

BOTH = """
hosts: {gpu-03: {}}
people:
  alice: {slack: U0ALICE, roles: [oncall]}
  bob: {slack: U0BOB, roles: [oncall]}
"""
ALONE = "hosts: {gpu-03: {}}\npeople:\n  alice: {slack: U0ALICE, roles: [oncall]}\n"
HELD = BOTH + "permissions: [{roles: [lead], may: [approve]}]\n"


class File:
    """A sickbay.yaml that is edited beside a running Sickbay."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sickbay.yaml"
        self.edits = 0
        self.write(BOTH)
        environ = {"HOME": str(folder)}
        self.assembly = Assembly.of(*load(self.path, environ), environ)
        self.commands = self.assembly.commands

    def write(self, text: str) -> None:
        """Write it; a file system may keep no more than seconds, so the time is moved on."""
        self.path.write_text(text)
        self.edits += 1
        os.utime(self.path, (self.edits, self.edits))

    def say(self, text: str) -> Reply:
        """Let bob say something, as Slack's listeners do."""
        return self.commands.do(text, Asker("bob", self.commands.person_of(BOB.slack), "cli"))

    def question(self) -> int:
        """Bring a run to its question."""
        scene = Scene(self.assembly.store, self.assembly.store.now)  # type: ignore[arg-type]
        run_id = scene.run(RESTART)
        run = scene.claim(run_id)
        self.assembly.store.approvals.plan(run, scene.plan(run), ask=True)
        return run_id


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    found = File(tmp_path)
    yield found
    found.assembly.store.close()


def told(reply: Reply) -> str:
    return " ".join(said(reply, 400).split())


def test_who_is_taken_out_of_the_file_between_request_and_click_loses_the_click(file: File) -> None:
    run_id = file.question()
    file.write(ALONE)
    reply = file.say(f"approve {run_id}")
    assert "I don't know you, bob, so you may not decide about runs" in told(reply)
    file.write(BOTH)
    assert file.say(f"approve {run_id}").ok


def test_who_is_taken_out_while_a_terminal_asks_them_loses_the_answer(file: File) -> None:
    run_id = file.question()
    asker = Asker("bob", file.commands.person_of(BOB.slack), "cli")
    file.write(ALONE)
    assert "I don't know you, bob" in told(file.commands.do(f"approve {run_id}", asker))


def test_a_rule_that_is_written_meanwhile_counts(file: File) -> None:
    run_id = file.question()
    file.write(HELD)
    assert "you are bob, with the role oncall, and may not decide about runs of" in told(
        file.say(f"approve {run_id}")
    )


@pytest.mark.parametrize("text", ["people: [", "people: {bob: {rolls: [oncall]}}", None])
def test_while_the_file_cannot_be_read_nothing_is_approved_and_what_goes_on_can_be_stopped(
    file: File, text: str | None
) -> None:
    run_id = file.question()
    if text is None:
        file.path.unlink()
    else:
        file.write(text)
    for words in (f"approve {run_id}", f"approve {run_id} break-glass why", "run restart-container gpu-03"):
        reply = file.say(words)
        assert "sickbay.yaml was changed and cannot be read, so nothing is started or approved: " in told(
            reply
        )
        assert "mend the file; `sickbay doctor` shows what is wrong" in told(reply)
    assert file.say("runs").ok
    assert file.say("help").ok
    denied = file.question()
    assert file.say(f"deny {denied}").ok
    assert file.say(f"cancel {denied}").ok
    file.write(BOTH)
    assert file.say(f"approve {run_id}").ok


def test_a_file_that_was_not_changed_is_not_read_again(file: File) -> None:
    before = file.commands.authority.roster
    assert file.commands.authority.roster is before
    file.write(BOTH)
    assert file.commands.authority.roster is not before


def test_a_mistake_is_told_by_its_line(file: File) -> None:
    file.write("people: {bob: {rolls: [oncall]}}")
    with pytest.raises(SickbayError, match=r"sickbay\.yaml:1: .*rolls"):
        file.commands.authority.known(Asker("bob", BOB), "x")


def test_what_kept_the_file_from_being_read_may_be_over_without_an_edit(file: File) -> None:
    run_id = file.question()
    file.write(BOTH.replace("alice:", "alice}"))
    stamp = file.path.stat()
    assert "cannot be read" in told(file.say(f"approve {run_id}"))
    file.path.write_text(BOTH)
    os.utime(file.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    now = file.path.stat()
    assert (now.st_mtime_ns, now.st_size, now.st_ino) == (stamp.st_mtime_ns, stamp.st_size, stamp.st_ino)
    assert file.say(f"approve {run_id}").ok


def test_an_edit_while_sickbay_starts_is_seen(tmp_path: Path) -> None:
    path, environ = tmp_path / "sickbay.yaml", {"HOME": str(tmp_path)}
    path.write_text(BOTH)
    config, document = load(path, environ)
    path.write_text(ALONE)
    assert set(RosterFile(path, environ, config, document.sha256)().people) == {"alice"}
