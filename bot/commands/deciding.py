"""What people decide about a run: approve, deny, cancel, release; each one transaction.

A refused answer to a run's question is written down.

Whoever decides is judged at that moment, and so is everybody whose approval came before. Breaking glass is an approval
too: it stands for those whom the rule asks for, and for nothing else. The plan has to hold all the same, its digest is
compared, and what the guard rails refuse stays refused.
"""

from collections.abc import Mapping

from bot.commands.grammar import Decide
from bot.engine.planner import Planner
from bot.engine.rails import Rails
from bot.errors import SickbayError
from bot.fleet import named
from bot.messages import say
from bot.messages.card import Words
from bot.people.authority import Asker, Authority
from bot.people.permissions import Right
from bot.runs.approval import Person
from bot.runs.run import Run
from bot.store import Store


class Deciding:
    """Decides about runs; says what has come of it, or raises why not."""

    def __init__(self, store: Store, planner: Planner, authority: Authority, rails: Rails) -> None:
        self._store = store
        self._rails = rails
        self._planner = planner
        self._authority = authority

    def decide(self, command: Decide, asker: Asker) -> Words:
        """Answer a run's question.

        Raises:
            SickbayError: saying why the answer does not count.

        """
        run = self._store.runs.get(command.run)
        try:
            person = self._decider(command, asker, run)
            if run is not None and command.answer == "approve":
                self._rails.refuse_frozen(run.hosts)
                self._rails.refuse_held(run.hosts)
        except SickbayError as error:
            if run is not None:
                more = {"via": asker.door} | ({"glass": command.glass} if command.glass else {})
                self._store.approvals.refused(run.id, asker.name, error.what, **more)
            raise
        if run is None:
            raise no_run(command.run)
        broken = self._planner.broken(run)
        refused = self._store.approvals.decide(
            command.run,
            person,
            command.answer,
            command.digest,
            people=self._others(run),
            broken=broken,
            glass=command.glass,
            via=asker.door,
            delivery=asker.delivery,
        )
        if refused is not None:
            again = "nothing was changed; start the runbook again for a new plan"
            raise SickbayError(refused, advice=again if broken else self._authority.silence(asker))
        return self._decided(command)

    def _decider(self, command: Decide, asker: Asker, run: Run | None) -> Person:
        """Return who asks, if they may decide; who breaks glass needs a right of its own."""
        what, stops = "decide about runs", command.answer == "deny"
        if run is None:
            return self._authority.known(asker, what, stops=stops)
        right: Right = "break_glass" if command.glass else "approve"
        name, hosts = run.runbook.name, run.hosts
        return self._authority.may(asker, right, what, runbook=name, hosts=hosts, stops=stops)

    def _others(self, run: Run) -> Mapping[str, Person | None]:
        """Look at those who have answered already: may they still?"""
        question = self._store.approvals.get(run.id)
        if question is None:
            return {}
        before = [one.person for one in question.decisions]
        return self._authority.still(before, "approve", run.runbook.name, run.hosts)

    def _decided(self, command: Decide) -> Words:
        question = self._store.approvals.get(command.run)
        if question is not None and question.state == "pending":
            more = {"needed": question.needed, "roles": " or ".join(question.rule.from_)}
            return say("listing.approved_more", id=command.run, note=question.note, **more)
        if command.glass:
            return say("listing.glass", id=command.run, reason=command.glass)
        word = "approved" if command.answer == "approve" else "denied"
        return say(f"listing.{word}", id=command.run)

    def cancel(self, run_id: int, asker: Asker) -> Words:
        """End a run; who started it may always.

        Raises:
            SickbayError: saying why not.

        """
        what = "cancel runs"
        person = self._authority.known(asker, what, stops=True)
        run = self._store.runs.get(run_id)
        if run is None:
            raise no_run(run_id)
        if run.requester.person != person.name:
            name = run.runbook.name
            self._authority.may(asker, "cancel", what, runbook=name, hosts=run.hosts, stops=True)
        if not self._store.runs.cancel(run_id, person.name, via=asker.door):
            how = (
                f"ended already: {run.state}" if run.state.ended else f"being cancelled by {run.cancelled_by}"
            )
            raise SickbayError(f"run {run_id} is {how}" if not run.state.ended else f"run {run_id} has {how}")
        return say("listing.cancelled", id=run_id)

    def release(self, run_id: int, reason: str, asker: Asker) -> Words:
        """Let the hosts go of a run that ended in doubt; it takes the right to cancel it, also for who started it.

        Raises:
            SickbayError: saying why not.

        """
        what = "release the hosts of runs"
        run = self._store.runs.get(run_id)
        if run is None:
            self._authority.known(asker, what)
            raise no_run(run_id)
        person = self._authority.may(asker, "cancel", what, runbook=run.runbook.name, hosts=run.hosts)
        hosts = self._store.holds.release(run_id, person.name, reason, asker.door)
        if not hosts:
            advice = "" if run.state.ended else f"it goes on; to end it: cancel {run_id}"
            raise SickbayError(f"run {run_id} has no host that waits to be released", advice=advice)
        return say("listing.released", id=run_id, hosts=named(hosts), reason=reason)


def no_run(number: int) -> SickbayError:
    """Return the refusal of a run that there is not."""
    return SickbayError(f"there is no run {number}", advice="`runs` lists the newest")
