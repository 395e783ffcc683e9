"""The desk in the terminal: the words of Slack said here, with what was started followed to its end."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bot.assembly import Assembly
from bot.cli.follow import Follower, question
from bot.cli.login import asker_of, login
from bot.cli.terminal import OK, REFUSED, UNWELL, console, render
from bot.commands.grammar import VERBS, Cancel, Check, Command, Decide, ListDrains, Look, Start
from bot.config.config import Config, Secrets, find_config, load
from bot.engine.balancers import Balancers
from bot.language.schema import Invalid
from bot.people.authority import Asker, Member, Members
from bot.runs.run import RunState
from bot.views import run_view


def desk(verb: str, words: Sequence[str], config: Path | None, name: str | None) -> int:
    """Say it as anybody would in Slack; return the exit code.

    Raises:
        SickbayError: when it could not even be said.

    """
    command = VERBS[verb].read(words)
    path = find_config(config, os.environ, Path.cwd())
    told = None if isinstance(command, Start | Check) else _tell
    assembly = Assembly.of(*load(path, os.environ), os.environ, told=told)
    with closing(assembly.store), ExitStack() as stack:
        asker = asker_of(assembly.config.persons, name, login())
        if assembly.secrets.slack_bot_token is not None:
            desk = assembly.commands.asking(_Slack(assembly.config, assembly.secrets))
            assembly = replace(assembly, commands=desk)
        if isinstance(command, ListDrains) and assembly.vault.lacking:
            names = ", ".join(assembly.vault.lacking)
            words = f"HAProxy is not asked: the secret {names} cannot be used here."
            console(sys.stderr).print(words, markup=False, soft_wrap=True)
        elif isinstance(command, ListDrains):
            way = stack.enter_context(closing(assembly.remote()))
            assembly.commands.balancers = Balancers(assembly.inventory, way)
        return _say(command, assembly, asker, console(sys.stdout))


def _tell(mistakes: Invalid) -> None:
    words = f"{mistakes}\nThat is left out here, and nothing can be started until it is mended."
    console(sys.stderr).print(words, markup=False, soft_wrap=True)


class _Slack(Members):
    """Slack, asked when the terminal has somebody who wants to change something; loaded no sooner."""

    def __init__(self, config: Config, secrets: Secrets) -> None:
        self._config = config
        self._secrets = secrets
        self._members: Members | None = None

    def of(self, users: Collection[str]) -> Mapping[str, Member]:
        """Return what Slack says of each of these user ids."""
        if self._members is None:
            from bot.slack.members import members_of

            self._members = members_of(self._config.slack, self._secrets)
        return self._members.of(users)


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
        for why in reply.warnings:
            console(sys.stderr).print(f"⚠️ {why}.", markup=False)
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
        out.print(question(view, assembly))
