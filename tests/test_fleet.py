"""What many hosts said, folded: every host once, in whatever order they answered, and few lines of it."""

import random
import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bot.fleet import folded, named, natural, spanned
from bot.inventory import expand, fold

GPUS = [f"gpu-{number:04}" for number in range(1, 1001)]
NAMES = st.one_of(
    st.from_regex(r"[a-z]{1,3}-?[0-9]{0,4}[a-z]{0,2}", fullmatch=True),
    st.from_regex(r"r[0-9]{1,2}-n[0-9]{1,3}", fullmatch=True),
    st.from_regex(r"(ip-)?10[.-][0-9]{1,2}[.-][0-9]{1,3}", fullmatch=True),
)
HOSTILE = st.one_of(
    NAMES, st.text(max_size=8), st.sampled_from(["@all", "a[1-3]", "a,b", "!", "a&b", "[", ""])
)
TEXTS = st.one_of(
    st.builds("{} GPUs fine, hottest {} °C".format, st.integers(0, 9), st.integers(0, 99)),
    st.text(max_size=9),
)
ANSWERS = st.dictionaries(HOSTILE, st.tuples(st.sampled_from(["ok", "failed"]), TEXTS), max_size=30)


@given(ANSWERS, st.one_of(st.none(), st.integers(1, 5)), st.randoms(use_true_random=False))
def test_every_host_is_in_one_group_whatever_the_order(
    answers: dict[str, tuple[str, str]], most: int | None, chance: random.Random
) -> None:
    told = [(host, kind, text) for host, (kind, text) in answers.items()]
    found = folded(told, most=most)
    seen = Counter([*found.rest, *(host for group in found.groups for host in group.hosts)])
    assert seen == Counter(dict.fromkeys(answers, 1))
    assert all(answers[host][0] == group.kind for group in found.groups for host in group.hosts)
    assert most is None or len(found.groups) <= most
    assert bool(found.rest) == bool(found.others)
    sizes = [len(group.hosts) for group in found.groups]
    assert sizes == sorted(sizes, reverse=True)
    chance.shuffle(told)
    assert folded(told, most=most) == found


@given(st.dictionaries(NAMES, st.sampled_from(["a", "b", "c"]), max_size=30))
def test_equal_answers_are_one_group_and_none_else(answers: dict[str, str]) -> None:
    found = folded((host, 0, text) for host, text in answers.items())
    assert len(found.groups) == len(set(answers.values()))
    assert all({answers[host] for host in group.hosts} == {group.text} for group in found.groups)


@given(st.sets(NAMES, min_size=1, max_size=40))
def test_a_folded_set_expands_to_the_same_hosts(names: set[str]) -> None:
    assert sorted(expand(fold(names))) == sorted(names)


@given(st.sets(HOSTILE, max_size=20), st.integers(1, 60))
def test_hostile_names_are_shown_and_never_read_as_a_set(names: set[str], most: int) -> None:
    shown = fold(names)
    for name in names:
        if not name.isascii() or set(name) & set("[]@,!&^"):
            assert name in shown
    assert len(named(names, most)) <= most + len(" and 20 more")


def test_most_are_the_same_and_the_odd_ones_are_named() -> None:
    told = [(host, "ok", "8 GPUs fine") for host in GPUS[:990]] + [
        (host, "ok", "7 GPUs") for host in GPUS[990:]
    ]
    found = folded(told, most=4)
    assert [(fold(group.hosts), group.text) for group in found.groups] == [
        ("gpu-[0001-0990]", "8 GPUs fine"),
        ("gpu-[0991-1000]", "7 GPUs"),
    ]


def test_numbers_that_differ_by_host_do_not_defeat_folding() -> None:
    told = [
        (host, "ok", f"8 GPUs fine, hottest {54 + at % 18} °C ({at}/4000 W)") for at, host in enumerate(GPUS)
    ]
    told[6] = ("gpu-0007", "failed", "GPU 5 fell off the bus (Xid 79)")
    found = folded(told, most=4, rank=lambda kind: kind == "ok")
    assert [(fold(group.hosts), group.text) for group in found.groups] == [
        ("gpu-0007", "GPU 5 fell off the bus (Xid 79)"),
        ("gpu-[0001-0006,0008-1000]", "8 GPUs fine, hottest 54–71 °C (…/… W)"),
    ]
    assert found.groups[1].answers == 999


def test_what_is_still_too_much_is_counted_with_its_hosts() -> None:
    words = ["".join(chr(97 + int(digit)) for digit in f"{at:04}") for at in range(1000)]
    found = folded([(host, "failed", word) for host, word in zip(GPUS, words, strict=True)], most=3)
    assert (len(found.groups), found.others, len(found.rest)) == (3, 997, 997)
    assert fold(found.rest) == "gpu-[0004-1000]"


def test_a_span_is_of_plain_numbers_only() -> None:
    assert spanned(["61.5 °C", "9 °C", "100.25 °C"]) == "9–100.25 °C"
    assert spanned(["at 10.0.0.3", "at 10.0.0.17"]) == "at ….….….…"
    assert spanned(["(3%)", "(12%)"]) == "(3–12%)"
    assert spanned(["same"]) == "same"


def test_a_long_set_is_cut_at_a_host_and_says_how_many_are_missing() -> None:
    assert named(GPUS) == "gpu-[0001-1000]"
    odd = GPUS[::2]
    assert named(odd, 40) == "gpu-[0001,0003,0005,0007,0009,0011,0013] and 493 more"
    assert named(["x" * 50], 40) == "x" * 39 + "…"


def test_names_of_many_numbers_are_folded_in_time() -> None:
    chance = random.Random(1)
    names = {
        f"ip-10-{chance.randrange(4)}-{chance.randrange(255)}-{chance.randrange(255)}" for _ in range(1000)
    }
    began = time.process_time()
    short = fold(names)
    assert time.process_time() - began < 1, "it took 4 s and more when all numbers were folded at once"
    assert sorted(expand(short)) == sorted(names)
    assert (
        fold(f"rack{rack}-node{node}" for rack in range(40) for node in range(25)) == "rack[0-39]-node[0-24]"
    )


def test_natural_order_is_by_number() -> None:
    assert sorted(["gpu-10", "gpu-9", "gpu-09", "a", "gpu-9b"], key=natural) == [
        "a", "gpu-09", "gpu-9", "gpu-9b", "gpu-10",
    ]  # fmt: skip
