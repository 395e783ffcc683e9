"""The desk in the terminal: the words of Slack said here, with what was started followed to its end."""

import getpass
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from bot.assembly import Assembly
from bot.commands import Asker
from bot.config import find_config, load
from bot.errors import SickbayError
from bot.follow import Follower, question
from bot.grammar import VERBS, Cancel, Check, Command, Decide, Look, Start
from bot.run import RunState
from bot.terminal import OK, REFUSED, UNWELL, console, render
from bot.views import run_view
from bot.wording import near


def desk(verb: str, words: Sequence[str], config: Path | None, name: str | None) -> int:
    """Say it as anybody would in Slack; return the exit code.

    Raises:
        SickbayError: when it could not even be said.

    """
    command = VERBS[verb].read(words)
    path = find_config(config, os.environ, Path.cwd())
    assembly = Assembly.of(*load(path, os.environ), os.environ)
    with closing(assembly.store):
        return _say(command, assembly, _asker(assembly, name), console(sys.stdout))


def _asker(assembly: Assembly, name: str | None) -> Asker:
    people = assembly.config.persons
    if name is not None and name not in people:
        hint = near(name, people) or f"there is: {', '.join(people) or 'nobody'}"
        raise SickbayError(f"there is nobody called {name} under `people:`", where="--as", advice=hint)
    login = name or _login()
    return Asker(name=login, person=people.get(login), via="cli")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise SickbayError("this machine does not say who you are", advice="say it with --as NAME") from error


def _say(command: Command, assembly: Assembly, asker: Asker, out: Console) -> int:
    if isinstance(command, Start | Check):
        assembly.vault.complete()  # what is started here may have to be done here
    reply = assembly.commands.do(command, asker)
    card = render(assembly.mask.over(reply.card))
    if not reply.ok:
        console(sys.stderr).print(card)
        return REFUSED
    follower = Follower(assembly, asker, out)
    if reply.runs:
        return OK if follower.follow(reply.runs) else UNWELL
    out.print(card)
    match command:
        case Look("runs", int(run_id)):
            _show_question(run_id, assembly, out)
        case Decide(run_id) | Cancel(run_id):
            return OK if follower.finish(run_id) else UNWELL
    return OK


def _show_question(run_id: int, assembly: Assembly, out: Console) -> None:
    """Show what a run asks, so that it can be answered here while Slack is down."""
    run = assembly.store.runs.get(run_id)
    if run is None or run.state is not RunState.WAITING:
        return
    view = run_view(assembly.store, run)
    if view.approval is not None and view.approval.state == "pending":
        out.print(question(view, assembly.config.persons, assembly.mask))
