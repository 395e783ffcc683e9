"""What people say to hold everything, or to let it go on: freeze, thaw, and the breaker's reset."""

from collections.abc import Sequence

from bot.errors import SickbayError
from bot.guard.decision import Freeze, frozen
from bot.inventory import Inventory
from bot.messages import say
from bot.messages.card import Words
from bot.messages.words import join
from bot.people.authority import Asker, Authority
from bot.store import Store


class Halting:
    """Holds and lets go; says what has come of it, or raises why not."""

    def __init__(self, store: Store, inventory: Inventory, authority: Authority) -> None:
        self._store = store
        self._inventory = inventory
        self._authority = authority

    def freeze(self, reason: str, hosts: str, asker: Asker) -> Words:
        """Let nothing change a host set any more, or anything.

        Raises:
            SickbayError: saying why not.

        """
        note: Words = ()
        if hosts.partition(",")[0].isalpha() and not self._set(hosts):
            # `nobody is on call`: in an emergency rather too much is held than nothing
            words = hosts.replace(",", " ")
            reason, hosts, note = f"{reason} on {words}", "", say("listing.frozen_unknown", hosts=words)
        elif not hosts and (meant := reason.rpartition(" on ")[2]) and self._set(meant):
            note = say("listing.frozen_set", hosts=meant)
        person = self._authority.may(asker, "freeze", "freeze hosts", hosts=self._names(hosts), stops=True)
        self._store.ledger.freeze(Freeze(person.name, self._store.now(), reason, hosts), asker.door)
        what, undo = hosts or "everything", f"thaw {hosts}".strip()
        return join([say("listing.frozen", hosts=what, reason=reason, undo=undo), note], " ")

    def thaw(self, hosts: str, asker: Asker) -> Words:
        """Lift a freeze.

        Raises:
            SickbayError: saying why not.

        """
        freezes, wanted = self._store.ledger.freezes(), self._set(hosts)
        same = [one for one in freezes if one.hosts == hosts or (wanted and self._set(one.hosts) == wanted)]
        if not same:
            self._authority.known(asker, "thaw hosts")
            raise self._not_frozen(hosts, freezes)
        person = self._authority.may(asker, "freeze", "thaw hosts", hosts=self._set(hosts))
        for one in same:
            self._store.ledger.thaw(one.hosts, person.name, asker.door)
        return say("listing.thawed", hosts=hosts or "everything")

    def _not_frozen(self, hosts: str, freezes: Sequence[Freeze]) -> SickbayError:
        """Say what is frozen instead; some hosts of a freeze cannot be let go alone."""
        wider = [one for one in freezes if not one.hosts or self._set(hosts) & self._set(one.hosts)]
        if hosts and wider:
            advice = f"they can only be thawed together: thaw {wider[0].hosts}".rstrip()
            return SickbayError(f"{hosts} is frozen with others: {frozen(wider[0])}", advice=advice)
        known = ", ".join(one.hosts or "everything" for one in freezes) or "nothing"
        return SickbayError(f"{hosts or 'everything'} is not frozen", advice=f"frozen: {known}")

    def reset(self, reason: str, asker: Asker) -> Words:
        """Let automation go on.

        Raises:
            SickbayError: saying why not.

        """
        person = self._authority.may(asker, "reset", "reset the breaker")
        if not self._store.ledger.reset(person.name, reason, asker.door):
            raise SickbayError("the breaker is not open: automation goes on")
        return say("listing.reset", person=person.name, reason=reason)

    def _names(self, hosts: str) -> frozenset[str]:
        return frozenset(host.name for host in self._inventory.select(hosts)) if hosts else frozenset()

    def _set(self, hosts: str) -> frozenset[str]:
        """Return the hosts of a set, as far as it means any."""
        try:
            return self._names(hosts)
        except SickbayError:
            return frozenset()
