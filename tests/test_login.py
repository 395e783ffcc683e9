"""Who is at the terminal."""

import pytest

from bot.cli.login import asker_of
from bot.errors import SickbayError
from bot.runs.approval import Person

ALICE = Person("alice", roles=("oncall",), logins=("asmith", "alice-admin"))
BOB = Person("bob")
PEOPLE = {"alice": ALICE, "bob": BOB}


@pytest.mark.parametrize("account", ["asmith", "alice-admin"])
def test_an_account_is_whoever_names_it_and_a_name_is_its_own_account_only_without(account: str) -> None:
    assert asker_of(PEOPLE, None, account).person == ALICE
    assert asker_of(PEOPLE, None, account).door == "cli"
    assert asker_of(PEOPLE, None, "bob").person == BOB
    assert asker_of(PEOPLE, None, "alice").person is None, "another alice, who has an account of her own"


def test_an_account_that_is_nobodys_says_who_it_is_and_that_is_written_down() -> None:
    asker = asker_of(PEOPLE, "alice", "root")
    assert (asker.name, asker.person, asker.door) == ("alice", ALICE, "cli, root as alice")
    assert asker_of(PEOPLE, "alice", "").door == "cli, somebody as alice"
    assert asker_of(PEOPLE, None, "root").person is None


def test_an_account_that_is_somebodys_is_nobody_else() -> None:
    assert asker_of(PEOPLE, "alice", "asmith").door == "cli"
    with pytest.raises(SickbayError) as raised:
        asker_of(PEOPLE, "bob", "asmith")
    assert raised.value.what == "you are logged in as asmith, so you are alice here, not bob"
    assert raised.value.advice == "let bob log in and say it; or leave --as out"


def test_nobody_of_that_name_and_no_name_at_all_are_told() -> None:
    with pytest.raises(SickbayError, match="there is nobody called bobb"):
        asker_of(PEOPLE, "bobb", "root")
    with pytest.raises(SickbayError, match="this machine does not say who you are"):
        asker_of(PEOPLE, None, "")
