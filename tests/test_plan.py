"""Batches, limits and digests."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bot.runs.plan import Entry, Plan, allowed_failures, canary, partition

SIZES = st.lists(
    st.integers(1, 30) | st.integers(1, 100).map(lambda share: f"{share}%"), min_size=1, max_size=5
)


@given(hosts=st.integers(0, 200), sizes=SIZES)
def test_batches_never_lose_a_host_nor_exceed_their_size(hosts: int, sizes: list[int | str]) -> None:
    names = [f"gpu-{number}" for number in range(hosts)]
    batches = partition(names, sizes)
    assert [host for batch in batches for host in batch] == names
    for turn, batch in enumerate(batches):
        size = sizes[min(turn, len(sizes) - 1)]
        limit = size if isinstance(size, int) else max(1, hosts * int(size[:-1]) // 100)
        assert 1 <= len(batch) <= limit


def test_the_canary_goes_first_and_the_last_size_repeats() -> None:
    assert [len(batch) for batch in partition(list("abcdefgh"), [1, 2, "25%"])] == [1, 2, 2, 2, 1]


@given(hosts=st.integers(1, 200), sizes=SIZES)
def test_the_first_batch_is_a_canary_where_a_later_one_may_be_larger(
    hosts: int, sizes: list[int | str]
) -> None:
    names = [f"gpu-{number}" for number in range(hosts)]
    first, *later = partition(names, sizes)
    if any(len(batch) > len(first) for batch in later):
        assert canary(sizes, hosts)
    if canary(sizes, hosts):
        assert len(sizes) > 1
        assert len(first) < hosts or not later
    assert not canary(sizes[:1], hosts)


def test_one_host_at_a_time_is_no_canary_and_a_share_is_counted_before_it_is_compared() -> None:
    none: list[list[int | str]] = [[1], [2, 1], [1, 1], ["100%"], []]
    assert not any(canary(sizes, 8) for sizes in none)
    some: list[list[int | str]] = [[1, 3], [1, 1, 2], [1, "25%"], ["10%", "50%"]]
    assert all(canary(sizes, 8) for sizes in some)
    assert not canary([1, "25%"], 4), "a quarter of four is one"


def test_a_share_of_failures_is_rounded_down() -> None:
    assert [allowed_failures(limit, 7) for limit in (0, 2, "25%", "100%")] == [0, 2, 1, 7]


ENTRY = Entry(
    "steps", "restart", "docker.restart", "gpu-03", "run", text='docker restart "$name"', mutating=True
)
PLAN = Plan("restart-container", "abc", (("gpu-03",),), (ENTRY,))


def test_a_plan_survives_its_own_json() -> None:
    again = Plan.from_json(PLAN.as_json())
    assert again == PLAN
    assert again.digest == PLAN.digest


def test_every_change_of_what_would_be_done_changes_the_digest() -> None:
    others = [
        replace(PLAN, runbook_digest="abd"),
        replace(PLAN, batches=(("gpu-04",),)),
        replace(PLAN, entries=(replace(ENTRY, text="docker stop x"),)),
        replace(PLAN, entries=(replace(ENTRY, env={"name": "vllm"}),)),
        replace(PLAN, entries=(replace(ENTRY, decision="skip"),)),
        replace(PLAN, entries=(replace(ENTRY, on="lb-01"),)),
        replace(PLAN, entries=(ENTRY, ENTRY)),
    ]
    assert len({plan.digest for plan in [PLAN, *others]}) == len(others) + 1


def test_a_plan_whose_mutating_steps_are_all_skipped_changes_nothing() -> None:
    assert PLAN.changes
    assert not replace(PLAN, entries=(replace(ENTRY, decision="skip"),)).changes
    assert not replace(PLAN, entries=(replace(ENTRY, section="always"),)).changes
