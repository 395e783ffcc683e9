"""YAML is read as people mean it, every mistake is told at its line, and nothing else ever comes out."""

import json
import re
import time
from typing import Annotated, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import Field

from bot.language import schema
from bot.language.document import MAX_BYTES
from bot.language.inputs import Noun
from bot.language.runbook import Runbook
from bot.language.schema import Invalid, Mistake

GOOD = """\
version: 1
name: restart-vllm
description: Restart one vLLM container that stopped answering
kind: mutate
triggers:
  - alert: {match: {alertname: VLLMDown, severity: [page, critical]}}
  - command: true
mode: approve
approval: {required: 1, from: [oncall], allow_requester: false, timeout: 10m, on_timeout: deny}
inputs:
  container: {type: string, pattern: "^[a-z0-9-]{1,40}$", default: vllm}
hosts: "{{ alert.host }}"
serial: [1, 2, "25%"]
max_failures: 0
timeout: 15m
steps:
  - id: probe
    run: curl -fsS "http://127.0.0.1:8000/health"
    timeout: 30s
  - id: restart
    when: steps.probe.failed
    run: [docker, restart, --, "{{ inputs.container }}"]
    retries: 1
    delay: 5s
verify:
  - run: |
      curl -fsS http://127.0.0.1:8000/v1/models
    until: result.ok
    retries: 20
    delay: 15s
"""


def told(text: str | bytes, model: type[Noun] | None = None) -> list[str]:
    with pytest.raises(Invalid) as caught:
        _ = schema.read(text, file="f") if model is None else schema.parse(model, text, file="f")
    return str(caught.value).splitlines()


def test_the_runbook_of_the_language_is_read() -> None:
    runbook, document = schema.parse(Runbook, GOOD, file="restart-vllm.yaml")
    assert runbook.steps[1].run == ["docker", "restart", "--", "{{ inputs.container }}"]
    assert runbook.approval.from_ == ["oncall"]
    assert document.line(("steps", 1, "when")) == 21
    assert document.line(("steps", 1)) == 20
    assert document.line(("verify", 0, "run")) == 26
    assert document.line(("verify", 0, "run"), within=0) == 27
    assert document.line(("steps", 7, "no", "such")) == 16


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("on", "on"), ("yes", "yes"), ("No", "No"), ("off", "off"), ("y", "y"),
        ("12:30", "12:30"), ("0755", "0755"), ("0o17", "0o17"), ("0x1F", "0x1F"), ("1_000", "1_000"),
        (".inf", ".inf"), (".nan", ".nan"), ("2026-01-01", "2026-01-01"), ("1.10", 1.1), ("-3", -3), ("+4", 4),
        ("1e3", 1000.0), (".5", 0.5), ("0", 0), ("'7'", "7"), ('"true"', "true"), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_are_yaml_1_2_and_plain_decimals_only(written: str, value: object) -> None:
    read = schema.read(f"a: {written}", file="f").data["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key `a` is given twice (first on line 1"),
        ("a:\n\tb: 1", 2, "tab"),
        ("a: [1,\nb: 2\n", 3, "a bracket is never closed"),
        ("a: 'x\n", 2, "never closed"),
        ("a: b: c", 1, "needs quotes"),
        ("hosts: @serving", 1, "needs quotes"),
        ("hosts: {{ alert.host }}", 1, 'a template needs quotes: "{{ … }}"'),
        ("a: 1\n? [b]\n: c", 2, "a key must be text"),
        ("a: 1\n2: b", 2, "a key must be text, not 2 (quote it)"),
        ("true: b", 1, "a key must be text, not true"),
        ("a: !!python/object/apply:os.system [x]", 1, "a tag is not accepted"),
        ("a: !x 1", 1, "a tag is not accepted"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: *b", 1, "has no anchor"),
        ("a: &b [*b]", 1, "stands inside itself"),
        ("a: &b {c: 1}\nd:\n  <<: *b", 3, "merge keys"),
        ("", 1, "the file is empty"),
        ("# nothing\n", 1, "the file is empty"),
        ("a: 1\nb: \0", 2, "NUL"),
        ('a: "\\0"', 1, "NUL"),
        ("a: 1\nb: \x07", 2, "control character"),
        (b"a: 1\nb: \xff", 2, "not UTF-8"),
        ("a: 1\nb: \ud800", 2, "not UTF-8"),
        ("a: 99999999999999999999", 1, "too long"),
        ("a: 1e999", 1, "too long"),
    ],
)
def test_a_text_that_would_be_misread_is_refused_at_its_line(text: str | bytes, line: int, what: str) -> None:
    first = told(text)[0]
    assert first.startswith(f"f:{line}: ")
    assert what in first


class Inner(Noun):
    """A model inside."""

    port: int = Field(ge=1)
    mode: Literal["slow", "fast"] = "slow"
    from_: Annotated[str, Field(alias="from")] = ""


class Outer(Noun):
    """A model around it."""

    name: str
    inner: Inner | None = None
    many: list[Inner] = Field([])
    either: str | list[str] = ""
    table: dict[str, Inner] = Field({})
    ratio: float = 1.0
    flag: bool = False


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("name: 1.10", ['f:1: `name`: expected text, not 1.10 (quote it: "1.10")']),
        ("name: on\nflag: yes", ['f:2: `flag`: expected true or false, not "yes" (write true or false, without quotes)']),
        ("nam: x", ["f:1: missing `name`", "f:1: unknown key `nam` (did you mean `name`?)"]),
        (
            "name: x\nmany:\n  - port: 1\n  - port: '80'\n    form: x\n  - prot: 1",
            [
                'f:4: `port`: expected a whole number, not "80" (remove the quotes)',
                "f:5: unknown key `form` (did you mean `from`?)",
                "f:6: missing `port`",
                "f:6: unknown key `prot` (did you mean `port`?)",
            ],
        ),
        ("name: x\ninner: {port: 0755}", ['f:2: `port`: expected a whole number, not "0755" (only plain decimal numbers are read)']),
        ("name: x\ninner: {port: 0}", ["f:2: `port`: must be at least 1"]),
        ("name: x\ninner: {port: 1, mode: fats}", ['f:2: `mode`: expected `slow` or `fast`, not "fats" (did you mean `fast`?)']),
        ("name: x\ninner: {port: 1, from_: x}", ["f:2: unknown key `from_` (did you mean `from`?)"]),
        ("name: x\neither: 3", ['f:2: `either`: expected text or a list, not 3 (quote it: "3")']),
        ("name: x\neither: [a, 3]", ['f:2: `either` item 2: expected text, not 3 (quote it: "3")']),
        ("name: x\ntable:\n  a: {port: 1}\n  b: {port: x}", ['f:4: `port`: expected a whole number, not "x"']),
        ("name: x\nratio: fast", ['f:2: `ratio`: expected a number, not "fast"']),
        ("name:\nmany: x", ["f:1: `name`: expected text, not nothing", 'f:2: `many`: expected a list, not "x" (write [x])']),
        ("- a", ["f:1: expected a mapping (key: value), not a list"]),
        ("name: x\nname: y\nzzz: 1", ["f:2: the key `name` is given twice (first on line 1: keep one of the two)", "f:3: unknown key `zzz` (known here: name, inner, many, either, table, ratio, flag)"]),
    ],
)  # fmt: skip
def test_every_mistake_of_a_model_is_told_in_plain_words(text: str, mistakes: list[str]) -> None:
    assert told(text, Outer) == mistakes


def test_words_of_other_tools_lead_to_ours() -> None:
    text = GOOD.replace("triggers:", "on:").replace("    when:", "    if:")
    assert "f:5: unknown key `on` (did you mean `triggers`?)" in told(text, Runbook)
    assert "f:21: unknown key `if` (did you mean `when`?)" in told(text, Runbook)


def test_what_a_validator_finds_below_its_model_is_told_there() -> None:
    assert "f:20: step id `probe` is used twice" in told(GOOD.replace("id: restart", "id: probe"), Runbook)


BOMBS = {
    "ten megabytes": "a: " + "x" * 10_000_000,
    "ten thousand aliases": "a: &a x\nb:\n" + "- *a\n" * 10_000,
    "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)),
    "long texts by alias": f"a: &a {'x' * 500_000}\n" + "".join(f"b{i}: *a\n" for i in range(90)),
    "deep by alias": "a: &a0 " + "[" * 30 + "]" * 30 + "\nb: &a1 " + "[" * 20 + "*a0" + "]" * 20,
    "flow depth": "[" * 1_000_000,
    "block depth": "- " * 500_000,
    "mapping depth": "{a: " * 200_000,
    "many items": "- 1\n" * 200_000,
    "many mistakes": "a: 1\n" * 150_000,
    "many tags": "- !x y\n" * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_well_under_a_second(name: str) -> None:
    begun = time.process_time()
    told(BOMBS[name])
    assert time.process_time() - begun < 0.8


def test_a_large_but_honest_file_is_read() -> None:
    text = "a: |\n" + "  some output of a host\n" * 30_000
    assert len(text) < MAX_BYTES
    assert schema.read(text, file="f").data["a"].count("\n") == 30_000


LINES = GOOD.splitlines()


@st.composite
def mangled(draw: st.DrawFn) -> str:
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        cut = draw(st.integers(0, len(line)))
        insert = draw(
            st.sampled_from(
                [
                    "",
                    " ",
                    "\t",
                    ": ",
                    "- ",
                    "[",
                    "{",
                    "'",
                    '"',
                    "&a ",
                    "*a",
                    "!!str ",
                    "|",
                    "%",
                    "0",
                    "x",
                    "#",
                    "~",
                    "é",
                ]
            )
        )
        action = draw(st.sampled_from(["drop", "double", "insert", "cut", "swap"]))
        if action == "drop" and len(lines) > 1:
            del lines[at]
        elif action == "double":
            lines.insert(at, line)
        elif action == "insert":
            lines[at] = line[:cut] + insert + line[cut:]
        elif action == "cut":
            lines[at] = line[:cut]
        else:
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines)


@given(mangled() | st.text(max_size=60) | st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_model_or_mistakes_with_a_line(text: str | bytes) -> None:
    mistakes: tuple[Mistake, ...] = ()
    try:
        runbook, _ = schema.parse(Runbook, text, file="f")
    except Invalid as error:
        mistakes = error.mistakes
    assert mistakes or runbook.steps
    assert all(mistake.line >= 1 and mistake.what for mistake in mistakes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_what_json_says_yaml_says(data: object) -> None:
    text = json.dumps({"a": data})
    assume(not re.search(r"\\ud[89ab]", text))  # half characters, which only JSON's escapes can say
    assert schema.read(text, file="f").data == {"a": data}


def test_the_json_schema_closes_every_object_and_writes_keys_as_in_yaml() -> None:
    made = schema.json_schema(Runbook)
    assert made["$schema"].endswith("2020-12/schema")
    objects = [made, *made["$defs"].values()]
    assert all(each["additionalProperties"] is False for each in objects if "properties" in each)
    assert {"with", "run", "uses"} <= set(made["$defs"]["Step"]["properties"])
    assert "from" in made["$defs"]["ApprovalRule"]["properties"]
    assert made["properties"]["timeout"]["pattern"].endswith("(ms|s|m|h|d)$")
