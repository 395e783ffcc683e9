"""What must hold of the rails whatever comes: clocks that are set back free nothing, a floor is never gone below."""

import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.assembly import Assembly
from bot.config.config import load
from bot.guard.decision import Facts, Floor, Seen, Settings, Use, Want, World, answer, trips
from bot.runs.run import Requester
from bot.store import Store
from tests.parts.books import START, book, run

MOMENTS = st.integers(-3 * 3600, 3 * 3600).map(lambda seconds: START + timedelta(seconds=seconds))
HOSTS = ("a", "b", "c", "d", "e")


@given(MOMENTS, MOMENTS, st.lists(MOMENTS, max_size=6), st.one_of(st.none(), MOMENTS))
def test_a_clock_set_back_frees_nothing(
    one: datetime, other: datetime, used: list[datetime], verified: datetime | None
) -> None:
    early, late = sorted((one, other))
    runbook = book(cooldown="30m", limits={"runs": 2, "per": "1h"})
    uses = tuple(Use(number + 2, "mend", "a", at) for number, at in enumerate(used))

    def reaction(now: datetime) -> str:
        return answer(run(runbook, ("a",)), Facts("a", now, verified=verified, uses=uses)).reaction

    if reaction(late) != "go":
        assert reaction(early) != "go"
    wishes = [(HOSTS[number % 5], at) for number, at in enumerate(used)]
    if trips(wishes, late, Settings()):
        assert trips(wishes, early, Settings())


@given(
    st.fixed_dictionaries({host: st.sampled_from([True, False, None]) for host in HOSTS}),
    st.integers(1, 4),
    st.lists(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_whoever_takes_what_in_whatever_order_the_floor_stays(
    ready: dict[str, bool | None], replicas: int, batches: Sequence[Sequence[str]]
) -> None:
    world = World(lambda _: frozenset())
    seen = {host: Seen(state, START) for host, state in ready.items()}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "sickbay.db", lambda: START)
        gone: set[str] = set()
        for batch in batches:
            with store.write() as tx:
                made = store.runs.create(
                    tx,
                    runbook=book(on_conflict="fail"),
                    digest="d",
                    hosts=tuple(batch),
                    inputs={},
                    mode="auto",
                    requester=Requester("alice", "alice"),
                    channel="",
                )
            claimed = store.runs.claim(made)
            assert claimed is not None
            floor = Floor("@all", replicas, tuple(batch), seen)
            answers = store.ledger.take(claimed, {host: Want() for host in batch}, world, floor)
            for host, said in answers.items():
                if said.reaction != "go":
                    continue
                assert host not in gone, "one run a host"
                gone.add(host)
            if any(answers[host].reaction == "go" and ready[host] is not False for host in batch):
                assert sum(ready[host] is True for host in HOSTS if host not in gone) >= replicas
            for host in batch:
                if ready[host] is False and host not in gone:
                    assert answers[host].rail == "lock", "what is broken may be mended"
        store.close()


def test_the_breaker_goes_by_the_numbers_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text(
        "hosts: {gpu-01: {address: 10.0.0.1}}\nbreaker: {hosts: 2, within: 1m, level: 1}\n"
        'maintenance: [{hosts: gpu-01, weekly: "Sun 00:00-24:00", reason: fans}]\n'
    )
    assembly = Assembly.of(*load(path, {"HOME": str(tmp_path)}), {"HOME": str(tmp_path)}, lambda: START)
    assert assembly.rails.world.settings == Settings(hosts=2, within=timedelta(minutes=1), level=1)
    assert assembly.rails.warnings(["gpu-01"]) == [
        "gpu-01 is in maintenance until 2026-03-02 00:00 UTC: fans"
    ]
    assembly.store.close()
