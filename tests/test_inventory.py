"""Host sets name hosts of the inventory, and nothing a person or a label writes can do more than that."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import SickbayError
from bot.inventory import Host, Inventory, expand, fold


def inventory() -> Inventory:
    serving = [Host(f"gpu-{number:02}", f"10.0.0.{number}", groups=("serving",)) for number in range(1, 5)]
    spare = [
        Host(f"gpu-{number:02}", f"10.0.0.{number}", groups=("spare", "maintenance"))
        for number in range(5, 11)
    ]
    return Inventory([*serving, *spare, Host("lb", "10.0.1.1", groups=("maintenance",))])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("gpu-03", "gpu-03"),
        (" gpu-03 ", "gpu-03"),
        ("gpu-[09-10]", "gpu-[09-10]"),
        ("@serving", "gpu-[01-04]"),
        ("gpu-[01-04]!gpu-02", "gpu-[01,03-04]"),
        ("@spare&@maintenance", "gpu-[05-10]"),
        ("@maintenance!@spare", "lb"),
        ("gpu-02,lb", "gpu-02,lb"),
        ("@*", "gpu-[01-10],lb"),
    ],
)
def test_a_host_set_names_its_hosts(pattern: str, names: str) -> None:
    assert fold(host.name for host in inventory().select(pattern)) == names


def test_hosts_come_in_the_order_of_their_numbers() -> None:
    assert [host.name for host in inventory().select("gpu-10,gpu-02,gpu-09")] == [
        "gpu-02",
        "gpu-09",
        "gpu-10",
    ]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("gpu-99", "no such host: gpu-99"),
        ("gpu-3", "did you mean gpu-03?"),
        ("@servin", "did you mean @serving?"),
        ("@serving&@spare", "names no host"),
        ("", "names no host"),
        ("gpu-[", "is not a host set"),
        ("gpu-[3-1]", "is not a host set"),
        ("[gpu-gpu-gpu-[01-03]", "is not a host set"),
        ("evil.example.org", "no such host"),
        ("gpu-[1-99999999999]", "more than 10,000 hosts"),
        ("gpu-[1-9999]x[1-9999]", "more than 10,000 hosts"),
    ],
)
def test_a_wrong_host_set_is_refused_with_what_to_do(pattern: str, text: str) -> None:
    with pytest.raises(SickbayError) as caught:
        inventory().select(pattern)
    assert text in str(caught.value)
    assert caught.value.advice


TOKENS = [
    "gpu-",
    "[",
    "]",
    "01",
    "-",
    "08",
    ",",
    "@",
    "serving",
    "!",
    "&",
    "^",
    "*",
    ":",
    "/",
    "2",
    " ",
    "spare",
    "%",
    "{",
]


@given(st.lists(st.sampled_from(TOKENS), max_size=10).map("".join) | st.text(max_size=15))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_known_hosts_or_a_plain_error(pattern: str) -> None:
    hosts = inventory()
    try:
        chosen = hosts.select(pattern)
    except SickbayError:
        return
    assert chosen
    assert all(hosts.hosts[host.name] is host for host in chosen)


@given(st.sets(st.integers(0, 99), min_size=1, max_size=20))
def test_folding_and_expanding_are_each_others_undoing(numbers: set[int]) -> None:
    names = [f"node{number:02}" for number in sorted(numbers)]
    assert expand(fold(names)) == names


def test_a_host_is_in_the_inventory_once() -> None:
    with pytest.raises(SickbayError, match="gpu-01 is in the inventory twice"):
        Inventory([Host("gpu-01", "10.0.0.1"), Host("gpu-01", "10.0.0.2")])
