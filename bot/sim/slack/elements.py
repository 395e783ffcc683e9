"""Rules for what stands inside blocks: texts, options, buttons, menus, inputs, pictures."""

import re
from typing import Any

from bot.sim.slack.shapes import (
    Check,
    boolean,
    choice,
    fault,
    integer,
    kinds,
    listing,
    shape,
    string,
    untyped,
)
from bot.slack import limits


def plain(most: int) -> Check:
    """Accept a plain_text object."""
    return kinds({"plain_text": shape({"text": string(most)}, {"emoji": boolean})})


def text(most: int) -> Check:
    """Accept a plain_text or mrkdwn object."""
    return kinds(
        {
            "plain_text": shape({"text": string(most)}, {"emoji": boolean}),
            "mrkdwn": shape({"text": string(most)}, {"verbatim": boolean}),
        }
    )


def url(most: int) -> Check:
    """Accept a web or mail address."""
    length = string(most)

    def check(value: Any, at: str, faults: list[str]) -> None:
        length(value, at, faults)
        if isinstance(value, str) and not re.match(r"https?://\S+$|mailto:\S+$", value):
            faults.append(fault("invalid url", at))

    return check


def one_of(*names: str) -> Check:
    """Accept an object that has at least one of these fields."""

    def check(value: Any, at: str, faults: list[str]) -> None:
        if not any(value.get(name) for name in names):
            faults.append(fault(f"must provide one of: {', '.join(names)}", at))

    return check


_CONFIRM = untyped(
    shape(
        {
            "title": plain(limits.CONFIRM_TITLE),
            "text": text(limits.CONFIRM_TEXT),
            "confirm": plain(limits.CONFIRM_BUTTON),
            "deny": plain(limits.CONFIRM_BUTTON),
        },
        {"style": choice("primary", "danger")},
    )
)


def _option(label: Check, *, linked: bool = False) -> Check:
    optional: dict[str, Check] = {"description": text(limits.OPTION_DESCRIPTION)}
    if linked:
        optional["url"] = url(limits.OPTION_URL)
    return untyped(shape({"text": label, "value": string(limits.OPTION_VALUE)}, optional))


_PLAIN_OPTION = _option(plain(limits.OPTION_TEXT))
_RICH_OPTION = _option(text(limits.OPTION_TEXT))
_OPTION_GROUP = untyped(
    shape(
        {
            "label": plain(limits.OPTION_GROUP_LABEL),
            "options": listing(_PLAIN_OPTION, most=limits.OPTIONS),
        }
    )
)
_ACTION: dict[str, Check] = {"action_id": string(limits.ACTION_ID), "focus_on_load": boolean}


def _initial_is_an_option(value: Any, at: str, faults: list[str]) -> None:
    options = [*_listed(value.get("options"))]
    for group in _listed(value.get("option_groups")):
        options += _listed(group.get("options") if isinstance(group, dict) else None)
    chosen = [*_listed(value.get("initial_options"))]
    chosen += [value["initial_option"]] if "initial_option" in value else []
    faults.extend(
        fault("initial option must be one of the options", f"{at}/initial_option")
        for one in chosen
        if one not in options
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _select_options(value: Any, at: str, faults: list[str]) -> None:
    if ("options" in value) == ("option_groups" in value):
        faults.append(fault("must provide one of: options, option_groups", at))
    _initial_is_an_option(value, at, faults)


_BUTTON = shape(
    {"text": plain(limits.BUTTON_TEXT)},
    {
        "action_id": string(limits.ACTION_ID),
        "value": string(limits.BUTTON_VALUE),
        "url": url(limits.BUTTON_URL),
        "style": choice("primary", "danger"),
        "confirm": _CONFIRM,
        "accessibility_label": string(limits.ACCESSIBILITY_LABEL),
    },
)
STATIC_SELECT = shape(
    {},
    {
        **_ACTION,
        "placeholder": plain(limits.PLACEHOLDER),
        "options": listing(_PLAIN_OPTION, most=limits.OPTIONS),
        "option_groups": listing(_OPTION_GROUP, most=limits.OPTION_GROUPS),
        "initial_option": _PLAIN_OPTION,
        "confirm": _CONFIRM,
    },
    also=_select_options,
)
_OVERFLOW = shape(
    {"options": listing(_option(plain(limits.OPTION_TEXT), linked=True), most=limits.OVERFLOW_OPTIONS)},
    {"action_id": string(limits.ACTION_ID), "confirm": _CONFIRM},
)
PLAIN_TEXT_INPUT = shape(
    {},
    {
        **_ACTION,
        "placeholder": plain(limits.PLACEHOLDER),
        "initial_value": string(limits.INPUT_VALUE, least=0),
        "multiline": boolean,
        "min_length": integer(0, limits.INPUT_VALUE),
        "max_length": integer(1, limits.INPUT_VALUE),
        "dispatch_action_config": untyped(
            shape(
                {},
                {"trigger_actions_on": listing(choice("on_enter_pressed", "on_character_entered"), most=2)},
            )
        ),
    },
)
CHECKBOXES = shape(
    {"options": listing(_RICH_OPTION, most=limits.CHECKBOXES)},
    {**_ACTION, "initial_options": listing(_RICH_OPTION, most=limits.CHECKBOXES), "confirm": _CONFIRM},
    also=_initial_is_an_option,
)
RADIO_BUTTONS = shape(
    {"options": listing(_RICH_OPTION, most=limits.CHECKBOXES)},
    {**_ACTION, "initial_option": _RICH_OPTION, "confirm": _CONFIRM},
    also=_initial_is_an_option,
)
_SLACK_FILE = untyped(
    shape({}, {"id": string(255), "url": string(limits.IMAGE_URL)}, also=one_of("id", "url"))
)
PICTURE: dict[str, Check] = {"image_url": url(limits.IMAGE_URL), "slack_file": _SLACK_FILE}
IMAGE_ELEMENT = shape({"alt_text": string(limits.IMAGE_ALT)}, PICTURE, also=one_of("image_url", "slack_file"))
ACTIVE: dict[str, Check] = {
    "button": _BUTTON,
    "static_select": STATIC_SELECT,
    "overflow": _OVERFLOW,
    "checkboxes": CHECKBOXES,
    "radio_buttons": RADIO_BUTTONS,
}
