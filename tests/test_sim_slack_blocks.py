"""The rules of Block Kit in the pretend Slack: what is taken, what is refused, and where the pointer points."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.sim.slack.blocks import faults_of_attachments, faults_of_blocks, faults_of_view, length_of, texts_of
from bot.sim.slack.chat import content_of
from bot.sim.slack.refusals import Refused
from bot.sim.slack.world import echo
from bot.slack import limits

Json = dict[str, Any]


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text}


def section(text: str = "x", **more: Any) -> Json:
    return {"type": "section", "text": mrkdwn(text), **more}


def actions(*elements: Json) -> Json:
    return {"type": "actions", "elements": list(elements)}


def button(**more: Any) -> Json:
    return {"type": "button", "action_id": "go", "text": plain("Go"), **more}


def option(value: str = "a", **more: Any) -> Json:
    return {"text": plain(value), "value": value, **more}


def select(**more: Any) -> Json:
    return {"type": "static_select", "action_id": "pick", "options": [option("a"), option("b")], **more}


def rich(*elements: Json) -> Json:
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}


def table(*rows: tuple[str, ...]) -> Json:
    return {"type": "table", "rows": [[{"type": "raw_text", "text": cell} for cell in row] for row in rows]}


CONFIRM = {"title": plain("Sure?"), "text": mrkdwn("*yes*"), "confirm": plain("Yes"), "deny": plain("No")}

GOOD = [
    section(),
    section("x" * limits.SECTION_TEXT),
    {"type": "section", "fields": [mrkdwn("a"), plain("b")]},
    section(accessory=button(style="danger", confirm=CONFIRM, value="1", url="https://example.com")),
    {"type": "header", "text": plain("Title")},
    {
        "type": "context",
        "elements": [mrkdwn("a"), {"type": "image", "image_url": "http://127.0.0.1/a.png", "alt_text": "a"}],
    },
    {"type": "divider"},
    actions(button(), select(placeholder=plain("Pick"), initial_option=option("b"))),
    actions({"type": "overflow", "action_id": "more", "options": [option(url="https://example.com")]}),
    actions(select() | {"options": None, "option_groups": [{"label": plain("G"), "options": [option()]}]}),
    rich(
        {"type": "text", "text": "a", "style": {"bold": True}}, {"type": "link", "url": "https://example.com"}
    ),
    {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "$ ls"}], "border": 0},
            {
                "type": "rich_text_list",
                "style": "ordered",
                "elements": [{"type": "rich_text_section", "elements": [{"type": "user", "user_id": "U1"}]}],
            },
            {"type": "rich_text_quote", "elements": [{"type": "emoji", "name": "wave"}]},
        ],
    },
    {**table(("Host", "State"), ("gpu-01", "ok")), "column_settings": [{"align": "right"}, None]},
    {"type": "image", "slack_file": {"id": "F1"}, "alt_text": "chart", "title": plain("Chart")},
    {"type": "input", "label": plain("Hosts"), "element": {"type": "plain_text_input", "multiline": True}},
    {"type": "markdown", "text": "# a\n**b**"},
]
GOOD[9]["elements"][0].pop("options")

BAD: list[tuple[Json, str, str]] = [
    (section("x" * 3001), "must be less than 3001 characters", "/blocks/0/text/text"),
    (section(""), "must be more than 0 characters", "/blocks/0/text/text"),
    ({"type": "section"}, "must provide one of: text, fields", "/blocks/0"),
    ({"type": "section", "text": "x"}, "must provide an object", "/blocks/0/text"),
    (section(colour="red"), "invalid additional property: colour", "/blocks/0"),
    ({"type": "header", "text": mrkdwn("x")}, "unsupported type: mrkdwn", "/blocks/0/text/type"),
    ({"type": "header", "text": plain("x" * 151)}, "must be less than 151 characters", "/blocks/0/text/text"),
    ({"type": "alert", "text": mrkdwn("x")}, "unsupported type: alert", "/blocks/0/type"),
    ({"type": "sparkle"}, "unsupported type: sparkle", "/blocks/0/type"),
    ({"text": mrkdwn("x")}, "missing required field: type", "/blocks/0"),
    ({"type": "divider", "text": "x"}, "invalid additional property: text", "/blocks/0"),
    (actions(), "no less than 1 items allowed", "/blocks/0/elements"),
    (
        actions(*[button(action_id=str(n)) for n in range(26)]),
        "no more than 25 items allowed",
        "/blocks/0/elements",
    ),
    (
        actions(button(text=plain("x" * 76))),
        "must be less than 76 characters",
        "/blocks/0/elements/0/text/text",
    ),
    (actions(button(value="x" * 2001)), "must be less than 2001 characters", "/blocks/0/elements/0/value"),
    (actions(button(value="")), "must be more than 0 characters", "/blocks/0/elements/0/value"),
    (actions(button(style="green")), "value must be one of: primary, danger", "/blocks/0/elements/0/style"),
    (actions(button(url="javascript:alert(1)")), "invalid url", "/blocks/0/elements/0/url"),
    (
        actions(button(confirm=CONFIRM | {"type": "confirm"})),
        "invalid additional property: type",
        "/blocks/0/elements/0/confirm",
    ),
    (actions(button(), button()), "action_id already exists: go", "/blocks/0"),
    (
        actions(select(options=[option(type="option")])),
        "invalid additional property: type",
        "/blocks/0/elements/0/options/0",
    ),
    (
        actions(select(initial_option=option("z"))),
        "initial option must be one of the options",
        "/blocks/0/elements/0/initial_option",
    ),
    (
        actions(select(options=[option(str(n)) for n in range(101)])),
        "no more than 100 items allowed",
        "/blocks/0/elements/0/options",
    ),
    (
        actions({"type": "overflow", "options": [option(str(n)) for n in range(6)]}),
        "no more than 5 items allowed",
        "/blocks/0/elements/0/options",
    ),
    (
        rich({"type": "text", "text": ""}),
        "must be more than 0 characters",
        "/blocks/0/elements/0/elements/0/text",
    ),
    (
        rich({"type": "text", "text": "a", "style": {"bold": "yes"}}),
        "must provide a boolean",
        "/blocks/0/elements/0/elements/0/style/bold",
    ),
    (table(*[("x",)] * 101), "no more than 100 items allowed", "/blocks/0/rows"),
    (table(("x",) * 21), "no more than 20 items allowed", "/blocks/0/rows/0"),
    (table(("a", "b"), ("c",)), "all rows must have the same number of cells", "/blocks/0/rows"),
    ({"type": "image", "alt_text": "x"}, "must provide one of: image_url, slack_file", "/blocks/0"),
    (
        {"type": "context", "elements": [mrkdwn("x")] * 11},
        "no more than 10 items allowed",
        "/blocks/0/elements",
    ),
    (
        {"type": "section", "fields": [mrkdwn("x" * 2001)]},
        "must be less than 2001 characters",
        "/blocks/0/fields/0/text",
    ),
]


@pytest.mark.parametrize("block", GOOD, ids=lambda block: block["type"])
def test_a_right_block_is_taken(block: Json) -> None:
    assert faults_of_blocks([block]) == []


@pytest.mark.parametrize(("block", "what", "where"), BAD, ids=[f"{what} {where}" for _, what, where in BAD])
def test_a_wrong_block_is_refused_at_its_pointer(block: Json, what: str, where: str) -> None:
    assert faults_of_blocks([block]) == [f"[ERROR] {what} [json-pointer:{where}]"]


def test_rules_about_the_whole_message() -> None:
    assert faults_of_blocks([section()] * 50) == []
    assert faults_of_blocks([section()] * 51) == [
        "[ERROR] no more than 50 items allowed [json-pointer:/blocks]"
    ]
    twice = [section(block_id="a"), section(block_id="a")]
    assert faults_of_blocks(twice) == ["[ERROR] block_id already exists: a [json-pointer:/blocks]"]
    tables = [table(("a",)), section(), table(("b",))]
    assert faults_of_blocks(tables) == ["[ERROR] only_one_table_allowed [json-pointer:/blocks/2]"]
    same_id_in_two_blocks = [section(accessory=button(value="1")), section(accessory=button(value="2"))]
    assert faults_of_blocks(same_id_in_two_blocks) == []


def test_a_message_is_too_long_when_its_blocks_are_right_each_for_itself() -> None:
    content_of({"blocks": [section("x" * 2_640)] * 5})
    with pytest.raises(Refused, match="msg_blocks_too_long"):
        content_of({"blocks": [section("x" * 2_641)] * 5})


def test_attachments_are_checked_like_messages() -> None:
    assert faults_of_attachments([{"color": "#e01e5a", "blocks": [section()]}]) == []
    wrong = faults_of_attachments([{"color": "reddish", "blocks": [section("")], "title": "x"}])
    assert [one.split("json-pointer:")[1] for one in wrong] == [
        "/attachments/0/color]",
        "/attachments/0/blocks/0/text/text]",
        "/attachments/0]",
    ]


def test_a_modal_has_its_own_limits() -> None:
    modal = {"type": "modal", "title": plain("Run"), "blocks": [{"type": "alert", "text": plain("careful")}]}
    assert faults_of_view(modal) == []
    assert faults_of_view(modal | {"title": plain("x" * 25)}) == [
        "[ERROR] must be less than 25 characters [json-pointer:/view/title/text]"
    ]
    asks = modal | {
        "blocks": [{"type": "input", "label": plain("a"), "element": {"type": "plain_text_input"}}]
    }
    assert faults_of_view(asks) == ["[ERROR] missing required field: submit [json-pointer:/view]"]
    assert faults_of_view(modal | {"blocks": [table(("a",))]}) == [
        "[ERROR] unsupported type: table [json-pointer:/view/blocks/0/type]"
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "elements", "options", "accessory", "rows"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_the_checks_never_raise_whatever_they_are_given(value: Any) -> None:
    for check in (faults_of_blocks, faults_of_attachments, faults_of_view):
        assert isinstance(check(value), list)


@settings(max_examples=400)
@given(st.sampled_from(GOOD), JSON_VALUES, st.integers(min_value=0))
def test_the_checks_never_raise_on_a_right_block_with_one_value_replaced(
    block: Json, value: Any, where: int
) -> None:
    changed = copy.deepcopy(block)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for name, inner in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, name))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(changed)
    node, name = places[where % len(places)]
    node[name] = value
    assert isinstance(faults_of_blocks([changed]), list)


@given(st.text())
def test_an_echo_has_no_bare_ampersand_and_reads_the_same_twice(text: str) -> None:
    once = echo({"text": text})
    assert echo(once) == once
    assert length_of(once) >= len(text)
    assert "&" not in next(iter(texts_of(once))).replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
