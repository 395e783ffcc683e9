"""What people say to hold everything, or to let it go on: freeze, thaw, and the breaker's reset."""

from bot.errors import SickbayError
from bot.guard.decision import Freeze
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
        if hosts.isalpha() and not self._still(
            hosts
        ):  # `nobody is on call`: in an emergency rather too much is held
            reason, hosts, note = f"{reason} on {hosts}", "", say("listing.frozen_unknown", hosts=hosts)
        elif not hosts and self._still(reason):
            note = say("listing.frozen_set", hosts=reason)
        person = self._authority.may(asker, "freeze", "freeze hosts", hosts=self._names(hosts), stops=True)
        self._store.ledger.freeze(Freeze(person.name, self._store.now(), reason, hosts), asker.door)
        what, undo = hosts or "everything", f"thaw {hosts}".strip()
        return join([say("listing.frozen", hosts=what, reason=reason, undo=undo), note], " ")

    def thaw(self, hosts: str, asker: Asker) -> Words:
        """Lift a freeze.

        Raises:
            SickbayError: saying why not.

        """
        frozen = [one.hosts for one in self._store.ledger.freezes()]
        known = f"frozen: {', '.join(one or 'everything' for one in frozen) or 'nothing'}"
        if hosts in frozen:
            person = self._authority.may(asker, "freeze", "thaw hosts", hosts=self._still(hosts))
        else:
            person = self._authority.known(asker, "thaw hosts")
        if not self._store.ledger.thaw(hosts, person.name, asker.door):
            raise SickbayError(f"{hosts or 'everything'} is not frozen", advice=known)
        return say("listing.thawed", hosts=hosts or "everything")

    def reset(self, reason: str, asker: Asker) -> Words:
        """Let automation go on.

        Raises:
            SickbayError: saying why not.

        """
        person = self._authority.may(asker, "reset", "reset the breaker")
        if not self._store.ledger.reset(person.name, reason, asker.door):
            raise SickbayError("the breaker is not open: automation goes on")
        return say("listing.reset", person=person.name, reason=reason)

    def _names(self, hosts: str) -> tuple[str, ...]:
        return tuple(host.name for host in self._inventory.select(hosts)) if hosts else ()

    def _still(self, hosts: str) -> tuple[str, ...]:
        """Return the hosts of a set, as far as it means any."""
        try:
            return self._names(hosts)
        except SickbayError:
            return ()
