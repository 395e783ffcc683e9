"""Is this a message Slack would take? Every block and element against one table of rules.

Strict always: an unknown field, a text too long by one character or an empty text in a rich text block loses the whole
message at Slack, and nobody is told. Passing here is not proof that Slack accepts it; failing here is close to proof
that it does not.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bot.sim.slack.elements import (
    ACTIVE,
    CHECKBOXES,
    IMAGE_ELEMENT,
    PICTURE,
    PLAIN_TEXT_INPUT,
    RADIO_BUTTONS,
    STATIC_SELECT,
    one_of,
    plain,
    text,
    url,
)
from bot.sim.slack.shapes import (
    Check,
    boolean,
    choice,
    fault,
    integer,
    kinds,
    listing,
    nullable,
    shape,
    string,
    untyped,
)
from bot.slack import limits

Block = dict[str, Any]


# ── rich text ──
_STYLE = untyped(
    shape({}, dict.fromkeys(("bold", "italic", "strike", "code", "underline", "highlight"), boolean))
)
_SPAN = string(limits.TEXT_PER_MESSAGE)
_SPANS = kinds(
    {
        "text": shape({"text": _SPAN}, {"style": _STYLE}),
        "link": shape({"url": url(limits.BUTTON_URL)}, {"text": _SPAN, "style": _STYLE, "unsafe": boolean}),
        "user": shape({"user_id": string(255)}, {"style": _STYLE}),
        "usergroup": shape({"usergroup_id": string(255)}, {"style": _STYLE}),
        "channel": shape({"channel_id": string(255)}, {"style": _STYLE}),
        "broadcast": shape({"range": choice("here", "channel", "everyone")}, {"style": _STYLE}),
        "emoji": shape({"name": string(255)}, {"unicode": string(255), "style": _STYLE}),
        "date": shape(
            {"timestamp": integer(0, 2**40), "format": string(255)},
            {"url": url(limits.BUTTON_URL), "fallback": _SPAN, "style": _STYLE},
        ),
    }
)
_SPAN_LIST = listing(_SPANS, most=1_000)
_BORDER = integer(0, 1)
_RICH_SECTION = shape({"elements": _SPAN_LIST})
_RICH_PARTS = kinds(
    {
        "rich_text_section": _RICH_SECTION,
        "rich_text_list": shape(
            {
                "style": choice("bullet", "ordered"),
                "elements": listing(kinds({"rich_text_section": _RICH_SECTION}), most=1_000),
            },
            {"indent": integer(0, limits.RICH_TEXT_INDENT), "offset": integer(0, 10_000), "border": _BORDER},
        ),
        "rich_text_preformatted": shape(
            {"elements": _SPAN_LIST}, {"border": _BORDER, "language": string(40)}
        ),
        "rich_text_quote": shape({"elements": _SPAN_LIST}, {"border": _BORDER}),
    }
)
_BLOCK: dict[str, Check] = {"block_id": string(limits.BLOCK_ID)}
_RICH_TEXT = shape({"elements": listing(_RICH_PARTS, most=1_000)}, _BLOCK)
_CELL = kinds(
    {
        "raw_text": shape({"text": string(limits.TABLE_TEXT)}),
        "rich_text": _RICH_TEXT,
    }
)
_COLUMN = untyped(shape({}, {"align": choice("left", "center", "right"), "is_wrapped": boolean}))

_SHARED_BLOCKS: dict[str, Check] = {
    "section": shape(
        {},
        {
            **_BLOCK,
            "text": text(limits.SECTION_TEXT),
            "fields": listing(text(limits.FIELD_TEXT), most=limits.SECTION_FIELDS),
            "accessory": kinds({**ACTIVE, "image": IMAGE_ELEMENT}),
            "expand": boolean,
        },
        also=one_of("text", "fields"),
    ),
    "header": shape({"text": plain(limits.HEADER_TEXT)}, _BLOCK),
    "context": shape(
        {
            "elements": listing(
                kinds(
                    {
                        "plain_text": shape({"text": string(limits.CONTEXT_TEXT)}, {"emoji": boolean}),
                        "mrkdwn": shape({"text": string(limits.CONTEXT_TEXT)}, {"verbatim": boolean}),
                        "image": IMAGE_ELEMENT,
                    }
                ),
                most=limits.CONTEXT_ELEMENTS,
            )
        },
        _BLOCK,
    ),
    "divider": shape({}, _BLOCK),
    "actions": shape({"elements": listing(kinds(ACTIVE), most=limits.ACTIONS_ELEMENTS)}, _BLOCK),
    "rich_text": _RICH_TEXT,
    "image": shape(
        {"alt_text": string(limits.IMAGE_ALT)},
        {**_BLOCK, **PICTURE, "title": plain(limits.IMAGE_TITLE)},
        also=one_of("image_url", "slack_file"),
    ),
    "input": shape(
        {
            "label": plain(limits.INPUT_LABEL),
            "element": kinds(
                {
                    "plain_text_input": PLAIN_TEXT_INPUT,
                    "static_select": STATIC_SELECT,
                    "checkboxes": CHECKBOXES,
                    "radio_buttons": RADIO_BUTTONS,
                }
            ),
        },
        {**_BLOCK, "hint": plain(limits.INPUT_HINT), "optional": boolean, "dispatch_action": boolean},
    ),
}
_MESSAGE_BLOCKS = kinds(
    {
        **_SHARED_BLOCKS,
        "markdown": shape({"text": string(limits.MARKDOWN_PER_MESSAGE)}, _BLOCK),
        "table": shape(
            {"rows": listing(listing(_CELL, most=limits.TABLE_COLUMNS), most=limits.TABLE_ROWS)},
            {**_BLOCK, "column_settings": listing(nullable(_COLUMN), most=limits.TABLE_COLUMNS)},
        ),
    }
)
_MODAL_BLOCKS = kinds(
    {
        **_SHARED_BLOCKS,
        "alert": shape(
            {"text": text(limits.ALERT_TEXT)},
            {**_BLOCK, "level": choice("default", "info", "warning", "error", "success")},
        ),
    }
)


def _color(value: Any, at: str, faults: list[str]) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"#?[0-9A-Fa-f]{6}|good|warning|danger", value):
        faults.append(fault("must be a hex colour", at))


_ATTACHMENT = untyped(
    shape(
        {"blocks": listing(_MESSAGE_BLOCKS, most=limits.BLOCKS_PER_MESSAGE)},
        {"color": _color, "fallback": string(limits.SECTION_TEXT)},
    )
)
_MODAL = kinds(
    {
        "modal": shape(
            {
                "title": plain(limits.MODAL_TITLE),
                "blocks": listing(_MODAL_BLOCKS, most=limits.BLOCKS_PER_MODAL),
            },
            {
                "submit": plain(limits.MODAL_BUTTON),
                "close": plain(limits.MODAL_BUTTON),
                "private_metadata": string(limits.PRIVATE_METADATA, least=0),
                "callback_id": string(limits.CALLBACK_ID),
                "external_id": string(limits.EXTERNAL_ID),
                "clear_on_close": boolean,
                "notify_on_close": boolean,
                "submit_disabled": boolean,
            },
        )
    }
)
_BLOCK_LIST = listing(_MESSAGE_BLOCKS, most=limits.BLOCKS_PER_MESSAGE, least=0)
_ATTACHMENT_LIST = listing(_ATTACHMENT, most=limits.ATTACHMENTS_PER_MESSAGE, least=0)


def elements_of(block: Block) -> list[Block]:
    """Return the elements of one block that a person can act on."""
    candidates = [*(block.get("elements") or []), block.get("accessory"), block.get("element")]
    return [
        one
        for one in candidates
        if isinstance(one, dict) and one.get("type") in {*ACTIVE, "plain_text_input"}
    ]


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text a reader of these blocks sees, in order."""
    if isinstance(value, list):
        for one in value:
            yield from texts_of(one)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in {"text", "alt_text"} and isinstance(inner, str):
                yield inner
            elif name not in {"confirm", "style"}:
                yield from texts_of(inner)


def faults_of_blocks(blocks: Any) -> list[str]:
    """List what is wrong with the blocks of a message; empty when Slack would take them."""
    faults: list[str] = []
    _BLOCK_LIST(blocks, "/blocks", faults)
    return faults or _faults_of_the_whole(blocks, "/blocks")


def faults_of_attachments(attachments: Any) -> list[str]:
    """List what is wrong with the attachments of a message."""
    faults: list[str] = []
    _ATTACHMENT_LIST(attachments, "/attachments", faults)
    if not faults:
        for index, one in enumerate(attachments):
            faults += _faults_of_the_whole(one["blocks"], f"/attachments/{index}/blocks")
    return faults


def faults_of_view(view: Any) -> list[str]:
    """List what is wrong with a modal."""
    faults: list[str] = []
    _MODAL(view, "/view", faults)
    if faults:
        return faults
    if "submit" not in view and any(block["type"] == "input" for block in view["blocks"]):
        faults.append(fault("missing required field: submit", "/view"))
    return faults + _faults_of_the_whole(view["blocks"], "/view/blocks")


def length_of(blocks: Any) -> int:
    """Count the characters of all texts, the number Slack's whole-message limit is about."""
    return sum(len(text) for text in texts_of(blocks))


def _faults_of_the_whole(blocks: list[Block], at: str) -> list[str]:
    """Apply the rules about several blocks at once, to blocks that are right each for itself."""
    faults = []
    seen = Counter(block["block_id"] for block in blocks if "block_id" in block)
    faults += [fault(f"block_id already exists: {name}", at) for name, times in seen.items() if times > 1]
    for index, block in enumerate(blocks):
        ids = Counter(one["action_id"] for one in elements_of(block) if "action_id" in one)
        faults += [
            fault(f"action_id already exists: {name}", f"{at}/{index}")
            for name, times in ids.items()
            if times > 1
        ]
    tables = [index for index, block in enumerate(blocks) if block["type"] == "table"]
    faults += [
        fault("only_one_table_allowed", f"{at}/{index}") for index in tables[limits.TABLES_PER_MESSAGE :]
    ]
    for index in tables:
        rows = blocks[index]["rows"]
        if len({len(row) for row in rows}) > 1:
            faults.append(fault("all rows must have the same number of cells", f"{at}/{index}/rows"))
        if length_of(rows) > limits.TABLE_TEXT:
            faults.append(
                fault(f"must be less than {limits.TABLE_TEXT + 1} characters", f"{at}/{index}/rows")
            )
    markdown = sum(len(block["text"]) for block in blocks if block["type"] == "markdown")
    if markdown > limits.MARKDOWN_PER_MESSAGE:
        faults.append(
            fault(f"markdown text must be less than {limits.MARKDOWN_PER_MESSAGE + 1} characters", at)
        )
    return faults
