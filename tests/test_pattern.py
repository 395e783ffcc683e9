"""A pattern says what Python's `re` says, as far as both read it, and no text takes it long."""

import re
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.language.inputs import Input
from bot.language.pattern import fits, pattern

SIGNS = ["a", "b", "-", ".", "[ab]", "[^a]", "[^]a-]", r"\.", r"\w", r"\d", r"\x61", r"\n", r"\-"]
CONDITIONS = [r"\b", r"\A"]
TIMES = ["", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}", "{0}", "{1,3}?"]


ONE = st.builds("{}{}".format, st.sampled_from(SIGNS), st.sampled_from(TIMES)) | st.sampled_from(CONDITIONS)
SEVERAL = st.builds(
    lambda signs, between: between.join(signs),
    st.lists(ONE, min_size=1, max_size=4),
    st.sampled_from(["", "|"]),
)
GROUP = st.builds(
    "{}{}){}".format, st.sampled_from(["(", "(?:", "(?i:", "(?P<n>"]), SEVERAL, st.sampled_from(TIMES)
)
PATTERNS = st.lists(GROUP | SEVERAL, min_size=1, max_size=3).map("".join)
"""No deeper: `re` itself would take for ever."""


@given(PATTERNS, st.lists(st.text(alphabet="abA-.1\n", max_size=7), min_size=1, max_size=8))
@example("(?i)a|b", ["A", "B", "c"])
@example("(a|b*)*", ["", "abba", "c"])
@example("^[a-z]{1,3}$", ["abc", "abcd", "abc\n"])
@settings(max_examples=600, deadline=None)
def test_a_pattern_says_what_re_says(written: str, texts: list[str]) -> None:
    try:
        plain = re.compile(written)
        pattern(written)
    except (re.error, ValueError):
        assume(False)  # a name twice, or nothing to repeat
    for text in texts:
        assert fits(written, text) == bool(plain.fullmatch(text)), (written, text)


@given(st.text(max_size=12))
@example("\ud800")
def test_any_text_is_read_or_refused(written: str) -> None:
    try:
        pattern(written)
    except ValueError:
        return
    assert fits(written, "ab-") in (True, False)


@pytest.mark.parametrize(
    ("written", "what"),
    [
        (r"^(a)\1$", r"invalid escape sequence: \\1"),
        ("^(?P<x>a)(?P=x)$", "invalid"),
        ("^(?=.*a)[a-z]*$", r"invalid perl operator: \(\?="),
        ("^(?<!-)a$", r"invalid perl operator: \(\?<"),
        ("^a++$", r"bad repetition operator: \+\+"),
        ("(?x) a # b", r"invalid perl operator: \(\?x"),
        ("^(a{1000}){1000}$", "invalid repetition size"),
        ("[a-z", r"missing \]: \[a-z"),
        (r"^\pZ{999}\pL{999}$", "too large"),
    ],
)
def test_what_is_not_read_is_told_with_the_place(written: str, what: str) -> None:
    with pytest.raises(
        ValidationError, match=rf"not a regular expression that is quick on any text \(RE2\): .*{what}"
    ):
        Input.model_validate({"pattern": written})


def test_a_repeat_without_its_lower_end_would_be_plain_text_and_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"`\{,3\}` begins with no number: write \{0,3\}"):
        Input.model_validate({"pattern": "^a{,3}$"})
    assert Input.model_validate({"pattern": r"^a\{,3}$"}).value("a{,3}")


@pytest.mark.parametrize("written", ["^(a+)+$", "^.+-.+-.+-.+$", "^([a-z0-9-]*)*-[a-z0-9-]*-[a-z0-9-]*$"])
def test_one_typed_text_stops_nothing(written: str) -> None:
    """With Python's `re` the first alone would outlast the test by far."""
    one = Input.model_validate({"pattern": written})
    for text in ("a" * 999 + "!", "-" * 999 + "\n", "a-" * 499 + "\n"):
        with pytest.raises(ValueError, match="does not match"):
            one.value(text)


@pytest.mark.parametrize(
    ("given_", "what"),
    [("a" * 1001, "longer than 1,000 characters"), ("B", "does not match"), ("a\ud800", "does not match")],
)
def test_a_text_that_is_too_long_or_does_not_match_is_refused(given_: Any, what: str) -> None:
    one = Input.model_validate({"pattern": "^[a-z\ufffd]+$"})
    assert one.value("a" * 1000)
    with pytest.raises(ValueError, match=what):
        one.value(given_)
