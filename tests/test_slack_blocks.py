"""Cards as Block Kit: whatever a card holds, Slack takes it, and nobody is called who was not meant."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.messages.card import (
    MARKS,
    Button,
    Buttons,
    Card,
    Checklist,
    Confirm,
    Facts,
    Item,
    Link,
    Mention,
    Note,
    Output,
    Plain,
    Table,
    Text,
    Time,
    Title,
)
from bot.sim.slack.blocks import faults_of_attachments, faults_of_blocks, length_of, texts_of
from bot.slack import limits
from bot.slack.blocks import CUT, WHOLE, Content, content, plain_content

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
NASTY = st.sampled_from(
    ["<!channel>", "<!here|x>", "<@U0ALICE>", "<#C1>", "```", "*b*", "&lt;", "\x1b[31m", "\n", "", " ", "\ud800", "@here",
     "<!subteam^S1>", "<https://x|y>", "🔴", "a|b", "\x00"]
)  # fmt: skip
LONG = st.builds(
    lambda text, times: text * times,
    st.sampled_from(["x", "ä ", "line\n", "&", "<"]),
    st.sampled_from([1, 40, 151, 3_001, 12_001]),
)
# Long texts are rare, so that most cards are looked at for something else.
WORDS_OF = st.one_of(
    NASTY, st.text(max_size=5), st.text(max_size=40), NASTY, st.lists(NASTY, max_size=6).map("".join), LONG
)
TIMES = st.integers(-300_000_000, 4_000_000_000).map(lambda at: datetime.fromtimestamp(at, UTC))
SPANS = st.one_of(
    st.builds(Plain, WORDS_OF, st.booleans(), st.booleans()),
    st.builds(Time, TIMES, st.booleans()),
    st.builds(Link, st.one_of(st.just("https://monitor.example/graph?a=1&b=2"), WORDS_OF), WORDS_OF),
    st.builds(Mention, WORDS_OF, st.one_of(st.just("U0ALICE"), WORDS_OF)),
)
WORDS = st.lists(SPANS, max_size=12).map(tuple)
BUTTON = st.builds(
    Button,
    st.sampled_from(["approve", "deny", "cancel", "check"]),
    WORDS_OF,
    WORDS_OF,
    st.sampled_from(["primary", "danger", "plain"]),
    st.one_of(st.none(), st.builds(Confirm, WORDS_OF, WORDS_OF, WORDS_OF, WORDS_OF)),
)
NODES = st.one_of(
    st.builds(Title, WORDS),
    st.builds(Text, WORDS),
    st.builds(Note, WORDS),
    st.builds(Facts, st.lists(st.tuples(WORDS_OF, WORDS), max_size=5).map(tuple)),
    st.builds(
        Table,
        st.lists(WORDS_OF, min_size=1, max_size=22).map(tuple),
        st.lists(st.lists(NASTY, max_size=22).map(tuple), max_size=102).map(tuple),
    ),
    st.builds(
        Checklist,
        st.lists(
            st.builds(Item, st.sampled_from(list(MARKS)), WORDS, st.lists(WORDS, max_size=4).map(tuple)),
            max_size=6,
        ).map(tuple),
    ),
    st.builds(Output, WORDS_OF, WORDS),
    st.builds(Buttons, st.lists(BUTTON, max_size=7).map(tuple)),
)
CARDS = st.builds(
    Card,
    WORDS_OF,
    st.one_of(st.lists(NODES, max_size=12), NODES.map(lambda node: [node] * 52)).map(tuple),
    st.sampled_from(["good", "bad", "unknown", "busy", "plain"]),
    st.booleans(),
)


def faults(sent: Content) -> list[str]:
    return faults_of_blocks(sent.blocks) + faults_of_attachments(sent.attachments)


def pings(value: Any) -> list[str]:
    """Return everything in a payload that would call somebody."""
    if isinstance(value, list):
        return [found for one in value for found in pings(one)]
    if not isinstance(value, dict):
        return []
    if value.get("type") in ("broadcast", "usergroup", "channel"):
        return [json.dumps(value)]
    found = [value["user_id"]] if value.get("type") == "user" else []
    if value.get("type") == "mrkdwn":
        found += re.findall(r"<[!@#](?!date\^)[^>]*>", value["text"])
    return found + [one for inner in value.values() for one in pings(inner)]


@settings(max_examples=80, deadline=None)
@given(CARDS)
def test_any_card_is_taken_by_slack(card: Card) -> None:
    sent = content(card)
    assert faults(sent) == []
    assert length_of([sent.blocks, sent.attachments]) <= WHOLE + 200
    assert 0 < len(sent.text) <= limits.UPDATE_TEXT
    json.dumps(sent.arguments()).encode()


@settings(max_examples=30, deadline=None)
@given(CARDS)
def test_nobody_is_called_but_whom_the_card_names(card: Card) -> None:
    meant = {"U0ALICE"}
    sent = content(card)
    for payload in (sent, plain_content(card)):
        assert set(pings(payload.arguments()["blocks"] + payload.arguments()["attachments"])) <= meant
        assert not re.search(r"<[!@#]", payload.text), "`text` is read as mrkdwn"


@settings(max_examples=30, deadline=None)
@given(CARDS)
def test_the_bare_twin_is_taken_too(card: Card) -> None:
    sent = plain_content(card)
    assert 0 < len(sent.text) <= 3_000 * len("&amp;")
    assert not sent.blocks


def test_people_groups_and_everybody_are_called_where_a_card_means_it() -> None:
    called = tuple(Mention(one, one) for one in ("U0ALICE", "S0ONCALL", "!channel"))
    card = Card("x", (Text(called), Note((Plain("by "), Mention("U0BOB", "U0BOB")))))
    sent = content(card)
    assert faults(sent) == []
    text, note = sent.blocks
    assert text["elements"][0]["elements"] == [
        {"type": "user", "user_id": "U0ALICE"},
        {"type": "usergroup", "usergroup_id": "S0ONCALL"},
        {"type": "broadcast", "range": "channel"},
    ]
    assert note["elements"][1] == {"type": "mrkdwn", "text": "<@U0BOB>"}


@pytest.mark.parametrize("slack", ["", "alice", "!here", "!channel ", "U0ALICE|x", "<!channel>", "s0oncall"])
def test_what_is_no_id_is_named_and_nobody_is_called(slack: str) -> None:
    words = (Mention("somebody", slack),)
    sent = content(Card("x", (Text(words), Note(words))))
    assert faults(sent) == []
    assert pings(sent.blocks) == []
    assert [text.count("@somebody") for text in texts_of(sent.blocks)] == [1, 1]


def test_what_is_cut_says_so() -> None:
    sent = content(Card("big", (Output("x" * 50_000),)))
    assert faults(sent) == []
    assert CUT in list(texts_of(sent.blocks))


def test_buttons_are_never_lost_to_a_long_text() -> None:
    button = Button("approve", "Approve", "1:abc", "primary")
    card = Card("big", (*(Output("x" * 5_000) for _ in range(9)), Buttons((button,))))
    sent = content(card)
    assert faults(sent) == []
    assert sent.blocks[-2]["elements"][0]["value"] == "1:abc"


def test_the_root_shows_its_headline_and_colours_the_rest() -> None:
    card = Card("s", (Title((Plain("head"),)), Text((Plain("body"),))), "bad", tinted=True)
    sent = content(card)
    assert list(texts_of(sent.blocks)) == ["head"]
    assert sent.attachments[0]["color"] == "#E01E5A"
    assert faults(sent) == []


def test_a_host_table_is_a_table_and_a_second_one_is_drawn() -> None:
    table = Table(("Host", "State"), (("gpu-01", ""), ("gpu-02",)))
    sent = content(Card("s", (table, table)))
    assert [block["type"] for block in sent.blocks] == ["table", "rich_text"]
    assert sent.blocks[0]["rows"][2] == [
        {"type": "raw_text", "text": "gpu-02"},
        {"type": "raw_text", "text": "–"},
    ]
    assert faults(sent) == []


def test_an_output_cannot_leave_its_frame() -> None:
    sent = content(Card("s", (Output("```\n<!channel> *now*"),)))
    (part,) = sent.blocks[0]["elements"]
    assert part == {
        "type": "rich_text_preformatted",
        "elements": [{"type": "text", "text": "```\n<!channel> *now*"}],
    }
