"""A pattern says what Python's `re` would say, in a number of steps that no text can make large."""

import contextlib
import re
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.language.inputs import Input
from bot.language.pattern import LONGEST, MAX_CLASSES, MAX_POSITIONS, Endless, Pattern

STEPS = LONGEST * (MAX_POSITIONS // 8 + MAX_CLASSES + 8)
"""What the longest text can cost against the largest pattern: each is an addition or a look into a table."""

SIGNS = ["a", "b", "-", ".", "[ab]", "[^a]", "[^]a-]", r"\.", r"\w", r"\d", r"\x61", "é", r"\n", r"\-"]
CONDITIONS = [
    "^",
    "$",
    r"\b",
    r"\B",
    r"\A",
    r"\Z",
    "(?=a)",
    "(?!-)",
    "(?<=b)",
    "(?<!-)",
    "(?=.{1,3}$)",
    "(?!.*b)",
]
TIMES = ["", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}", "{,2}", "{0}", "{1,3}?", "{,}"]


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Write patterns out of smaller ones."""
    repeated = st.builds(lambda one, times: f"(?:{one}){times}", parts, st.sampled_from(TIMES))
    group = st.builds(
        "{}{}){}".format, st.sampled_from(["(", "(?i:", "(?P<n>", "(?#x)("]), parts, st.sampled_from(TIMES)
    )
    return st.one_of(
        repeated, group, st.builds("{}{}".format, parts, parts), st.builds("{}|{}".format, parts, parts)
    )


PATTERNS = st.recursive(
    st.builds("{}{}".format, st.sampled_from(SIGNS), st.sampled_from(TIMES)) | st.sampled_from(CONDITIONS),
    joined,
    max_leaves=8,
)


@given(PATTERNS, st.lists(st.text(alphabet="abA-.é1\n", max_size=7), min_size=1, max_size=8))
@example("(?i)a|b", ["A", "B", "c"])
@example("^a$\n|^b$", ["a\n", "b\n", "b"])
@example("(a|b*)*", ["", "abba", "c"])
@example("^(?!-)(?=.{1,3}$)[a-z-]*(?<!-)$", ["a-b", "-a", "a-", "abcd"])
@example("a(?#no letter)*", ["aa"])
@settings(max_examples=600, deadline=None)
def test_a_pattern_says_what_re_says(written: str, texts: list[str]) -> None:
    try:
        plain = re.compile(written)
    except re.error:
        assume(False)  # a name twice, or nothing to repeat
    try:
        one = Pattern(written)
    except Endless:
        assume(False)  # too many ways to look around
    for text in texts:
        assert one.fullmatch(text) == bool(plain.fullmatch(text)), (written, text)


@pytest.mark.parametrize(
    "written",
    [
        "^(a+)+$", "^([a-z]*)*$", "^([a-z]{1,40})+$", "^(a|a)*$", "^((a+)b?)*$", "^(a+){20}$", "^(-?[a-z]+)*$",
        "^.+-.+-.+-.+$", "^[a-z0-9-]*-[a-z0-9-]*-[a-z0-9-]*$", r"^.+@.+\..+$", r"^\s*[\w.-]*\s*[\w.-]*\s*$",
        "^[a-z0-9.-]+-[a-z0-9.-]+-[a-z0-9.-]+-[a-z0-9]+$", "^(?=.*-)(?=.*a)[a-z-]*(?<!-)$", "^.{0,500}-.{0,500}$",
        "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$", r"^[^\x00-\x1f]{1,200}$", "^a{1,1000}$", "^[0-9]{1,3}s$",
        r"^([a-z0-9]+\.)*[a-z]+$", "^(vllm|sglang)(-[0-9]+)?$", "(?i)^gpu-[0-9]+$",
    ],
)  # fmt: skip
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_is_typed_the_steps_are_bounded(written: str, data: st.DataObject) -> None:
    own = st.sampled_from(sorted({*written, "a", "-", "!", "\n", "0", "é"}))
    unit = data.draw(st.lists(own, min_size=1, max_size=5).map("".join))
    odd = data.draw(st.lists(own, max_size=30).map("".join))
    one = Pattern(written)
    for text in (unit * LONGEST + "!", odd + unit * LONGEST, "".join(map(chr, range(40, 40 + LONGEST)))):
        one.fullmatch(text[-LONGEST:])
        assert one.steps <= STEPS


@pytest.mark.filterwarnings("ignore:Possible nested set")
@given(st.text(alphabet="ab-.()[]|*+?{}1,\\^$", max_size=12))
def test_any_text_is_read_or_refused(written: str) -> None:
    try:
        re.compile(written)
    except re.error:
        with pytest.raises(re.error):
            Pattern(written)
        return
    with contextlib.suppress(Endless):
        Pattern(written).fullmatch("ab-")


@pytest.mark.parametrize(
    ("written", "what"),
    [
        (r"^(a)\1$", r"`\\1` needs to remember what was matched"),
        ("^(?P<x>a)(?P=x)$", "needs to remember"),
        ("^(?>a+)b$", "needs to remember"),
        ("^(a)?(?(1)b|c)$", "needs to remember"),
        ("^a++$", "keeps what it took"),
        ("^a{2}+$", "keeps what it took"),
        ("(?x) a # b", "the flag `x` is not read here"),
        ("^(?=(a+)+$)a$", "one repeat and no group"),
        ("^(?=.*a.*b)", "one repeat and no group"),
        ("^(a{1000}){1000}$", "repeat less"),
        ("^((((){1000}){1000}){1000}){1000}$", "repeat less"),
        ("(?:a?){1000}", "repeat less"),
        ("a{2500}", "repeat less"),
        ("".join(f"[{chr(200 + n)}-{chr(300 + n)}]" for n in range(65)), "more than 64 different signs"),
        ("".join(f"(?!{chr(97 + n)})" for n in range(9)), "more than 8 ways"),
        ("(" * 450 + "a" + ")" * 450, "nested too deep"),
        ("a" * 1001, "longer than 1,000"),
    ],
)
def test_what_has_no_bound_is_refused_in_plain_words(written: str, what: str) -> None:
    with pytest.raises(ValidationError, match=f"a pattern must be quick on any text, and .*{what}"):
        Input.model_validate({"pattern": written})


def test_one_typed_text_stops_nothing() -> None:
    one = Input.model_validate({"pattern": "^.+-.+-.+-.+$"})
    with pytest.raises(ValueError, match="does not match"):
        one.value("-" * 999 + "\n")
    assert one.value("a-b-c-d")


@pytest.mark.parametrize(
    ("given_", "what"), [("a" * 1001, "longer than 1,000 characters"), ("B", "does not match")]
)
def test_a_text_that_is_too_long_for_a_pattern_is_refused(given_: Any, what: str) -> None:
    one = Input.model_validate({"pattern": "^[a-z]+$"})
    assert one.value("a" * 1000)
    with pytest.raises(ValueError, match=what):
        one.value(given_)
