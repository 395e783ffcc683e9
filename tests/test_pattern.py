"""Patterns that could take for ever are told from those that cannot."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.language.inputs import Input
from bot.language.pattern import LONGEST, endless


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        (r"^(a+)+$", "(a+)+"),
        (r"^([a-z]*)*$", "([a-z]*)*"),
        (r"^([a-z]{1,40})+$", "([a-z]{1,40})+"),
        (r"^(a|a)*$", "(a|a)*"),
        (r"^(?:a|ab)*$", "(?:a|ab)*"),
        (r"^((a+)b?)*$", "((a+)b?)*"),
        (r"^(a+){20}$", "(a+){20}"),
        (r"^([-a-z]+-)*$", "([-a-z]+-)*"),
        (r"^(-.+)*$", "(-.+)*"),
        (r"^(.a+)*$", "(.a+)*"),
        (r"^(b)(-a+\1)*$", r"(-a+\1)*"),
        (r"^(?P<x>\w+\s?)*$", r"(?P<x>\w+\s?)*"),
        (r"^(-?[a-z]+)*$", "(-?[a-z]+)*"),
        (r"^(-*a+)+$", "(-*a+)+"),
        (r"^(-{0,1}a+)*$", "(-{0,1}a+)*"),
        (r"^(aa?)+$", "(aa?)+"),
    ],
)
def test_a_repeat_in_a_repeat_is_found(pattern: str, group: str) -> None:
    assert re.compile(pattern)
    assert endless(pattern) == group


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z0-9-]{1,40}$",
        "^[a-z0-9]+(-[a-z0-9]+)*$",
        r"^([a-z0-9]+\.)*[a-z]+$",
        "^(vllm|sglang)(-[0-9]+)?$",
        "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
        r"^\(a+\)+$",
        "^[(]a+[)]*$",
        "^(ab)*$",
        "^[]a)+]*$",
        "",
    ],
)
def test_what_people_write_for_names_is_let_through_and_is_quick(pattern: str) -> None:
    assert endless(pattern) == ""
    for text in ("a" * LONGEST + "!", "a-" * 400 + "!", "a." * 400 + "!", "-" * LONGEST):
        re.fullmatch(pattern, text)


@given(st.text(alphabet="ab-.()[]|*+?{}1,\\^$", max_size=12))
def test_any_text_is_answered(pattern: str) -> None:
    assert endless(pattern) in pattern


def test_an_input_with_such_a_pattern_is_refused_before_it_is_tried_on_anything() -> None:
    with pytest.raises(ValidationError, match=r"\(a\+\)\+ can take for ever on a hostile text"):
        Input.model_validate({"pattern": "^(a+)+$", "default": "a" * 60 + "b"})


@pytest.mark.parametrize(
    ("given_", "what"), [("a" * 1001, "longer than 1,000 characters"), ("B", "does not match")]
)
def test_a_text_that_is_too_long_for_a_pattern_is_refused(given_: Any, what: str) -> None:
    one = Input.model_validate({"pattern": "^[a-z]+$"})
    assert one.value("a" * 1000)
    with pytest.raises(ValueError, match=what):
        one.value(given_)
