"""Who is at the terminal: the account that the operating system knows, or who that account says with `--as`."""

import os
import pwd
from collections.abc import Mapping

from bot.errors import SickbayError
from bot.people.authority import Asker
from bot.runs.approval import Person
from bot.wording import near


def login() -> str:
    """Return the operating system's name for whoever started this; empty when it has none.

    The environment is not asked: anybody can write there.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def asker_of(people: Mapping[str, Person], name: str | None, account: str) -> Asker:
    """Return who is at the terminal: the operating system's user, or who that one says with `--as`.

    An account that is somebody's own is nobody else's; one that is nobody's (root, a shared one) is written down
    beside the name.

    Raises:
        SickbayError: when there is nobody of that name, or the account is somebody else's.

    """
    own = next((one for one in people.values() if account in (one.logins or (one.name,))), None)
    if name is None:
        if not account:
            raise SickbayError("this machine does not say who you are", advice="say it with --as NAME")
        return Asker(name=own.name if own else account, person=own)
    if name not in people:
        hint = near(name, people) or f"there is: {', '.join(people) or 'nobody'}"
        raise SickbayError(f"there is nobody called {name} under `people:`", where="--as", advice=hint)
    if own is not None and own.name != name:
        raise SickbayError(
            f"you are logged in as {account}, so you are {own.name} here, not {name}",
            where="--as",
            advice=f"let {name} log in and say it; or leave --as out",
        )
    return Asker(name=name, person=people[name], login="" if own else account or "somebody")
