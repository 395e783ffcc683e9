"""Faults of every kind around commands that must start once: none starts twice, and no output is lost that is there.

`python -m bench.once` injects thousands of the same.
"""

from pathlib import Path

from bot.ssh import Ssh
from tests.parts.faults import KINDS, site


def test_whatever_breaks_a_command_starts_once_and_its_end_is_known_where_it_can_be(tmp_path: Path) -> None:
    with site(tmp_path / "site", address="127.0.1.7", seed=20) as place:
        verdicts = [place.inject(number) for number in range(5 * len(KINDS))]
    assert {verdict.kind for verdict in verdicts} >= KINDS.keys() - {"full disk"}
    assert [verdict for verdict in verdicts if verdict.wrong or verdict.starts > 1] == []


def test_of_six_bots_that_send_it_at_the_same_instant_one_starts_it_and_all_get_its_output(
    tmp_path: Path,
) -> None:
    with site(tmp_path / "site", address="127.0.1.7", seed=21) as place:
        rooms = [Ssh(place.settings, place.places) for _ in range(6)]
        for room in rooms:
            room.probe(place.sshd.host())
        rounds = [place.six_at_once(number, rooms) for number in range(10)]
        for room in rooms:
            room.close()
    assert rounds == [(1, 6)] * 10
