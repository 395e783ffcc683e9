"""A runbook says only what the engine does, and its inputs take what people mean and nothing else."""

from typing import Any

import pytest
from pydantic import ValidationError

from bot.errors import SickbayError
from bot.language.inputs import Input
from bot.language.runbook import Runbook, Step, share_or_count

BOOK: dict[str, Any] = {
    "version": 1,
    "name": "look",
    "description": "Look",
    "kind": "observe",
    "triggers": [{"command": True}, {"alert": {"match": {"alertname": ["A", "B"]}}}],
    "steps": [{"run": "uptime"}, {"id": "second", "run": ["true"]}],
}


def book(**changes: Any) -> Runbook:
    return Runbook.model_validate({**BOOK, **changes})


def test_steps_without_an_id_are_numbered_by_their_place() -> None:
    made = book(verify=[{"run": "x"}], always=[{"run": "y"}])
    assert [step.id for step in (*made.steps, *made.verify, *made.always)] == [
        "steps_1",
        "second",
        "verify_1",
        "always_1",
    ]


def test_a_runbook_survives_its_own_snapshot() -> None:
    made = book(kind="mutate", verify=[{"uses": "http.check", "with": {"port": 1}}], serial=1)
    for snapshot in (made.model_dump_json(), made.model_dump_json(by_alias=True)):
        assert Runbook.model_validate_json(snapshot) == made


def test_alert_triggers_answer_to_their_labels_only() -> None:
    assert book().answers({"alertname": "B", "severity": "page"})
    assert not book().answers({"alertname": "C"})
    assert not book(triggers=[{"command": True}]).answers({"alertname": "A"})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "mutate"}, "needs `verify`"),
        ({"steps": [{"id": "a", "run": "x"}, {"id": "a", "run": "x"}]}, "step id `a` is used twice"),
        ({"steps": [{"id": "a"}]}, "either `run` or `uses`"),
        ({"steps": [{"run": "x", "uses": "y"}]}, "either `run` or `uses`"),
        ({"steps": [{"run": "x", "with": {"a": 1}}]}, "`with` goes with `uses`"),
        ({"steps": [{"uses": "x", "parse": "y"}]}, "go with `run`"),
        ({"steps": [{"uses": "x", "mutates": False}]}, "go with `run`"),
        ({"steps": []}, "at least 1"),
        ({"triggers": [{}]}, "one of `alert"),
        ({"name": "Look"}, "pattern"),
        ({"serial": [0]}, "expected a count"),
        ({"serial": ["0%"]}, "expected a count"),
        ({"max_failures": "101%"}, "expected a count"),
        ({"timeout": 30}, "needs its unit"),
        ({"lock": "host"}, "changes nothing, so `lock` has nothing to guard"),
        ({"cooldown": "3m"}, "changes nothing, so `cooldown` has nothing to guard"),
        ({"limits": {"runs": 1, "per": "1h"}}, "changes nothing, so `limits` has nothing to guard"),
        ({"guard": {"min_ready": {"group": "@a", "replicas": 1}}}, "so `guard` has nothing to guard"),
        ({"on_conflict": "skip"}, "changes nothing, so `on_conflict` has nothing to guard"),
    ],
)
def test_what_the_engine_would_not_do_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        book(**changes)


@pytest.mark.parametrize(
    ("rule", "given", "value"),
    [
        ({}, "x", "x"),
        ({"type": "integer"}, "8080", 8080),
        ({"type": "integer"}, 8080, 8080),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "number"}, 2, 2),
        ({"type": "boolean"}, "yes", True),
        ({"type": "boolean"}, "FALSE", False),
        ({"pattern": "[a-z]+"}, "abc", "abc"),
        ({"choices": ["a", "b"]}, "b", "b"),
        ({"type": "integer", "choices": [1, 2]}, "2", 2),
    ],
)
def test_an_input_takes_what_people_type(rule: dict[str, Any], given: Any, value: Any) -> None:
    taken = Input(**rule).value(given)
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    ("rule", "given", "text"),
    [
        ({}, 3, "expected string"),
        ({"type": "integer"}, "x", "expected integer, not 'x'"),
        ({"type": "integer"}, "1_000", "expected integer"),
        ({"type": "integer"}, True, "expected integer"),
        ({"type": "integer"}, 2.5, "expected integer"),
        ({"type": "number"}, "nan", "expected number"),
        ({"type": "number"}, "9" * 400, "expected number"),
        ({"type": "boolean"}, "maybe", "expected true or false"),
        ({"pattern": "^[a-z]+$"}, "abc\n", "does not match"),
        ({"pattern": "[a-z]+"}, "abc; reboot", "does not match"),
        ({"choices": ["a"]}, "c", "is none of a"),
    ],
)
def test_an_input_refuses_anything_else(rule: dict[str, Any], given: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Input(**rule).value(given)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": "a", "default": "b"}, "does not match"),
        ({"type": "integer", "pattern": "a"}, "for inputs of type string"),
        ({"type": "integer", "choices": ["a"]}, "expected integer"),
    ],
)
def test_an_input_that_contradicts_itself_is_refused(rule: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Input(**rule)


def test_inputs_are_filled_checked_and_complete() -> None:
    made = book(inputs={"port": {"type": "integer", "default": 8000}, "name": {"required": True}})
    assert made.fill({"name": "a"}) == {"port": 8000, "name": "a"}
    for given, text in (
        ({}, "needs the input name"),
        ({"nam": "a"}, "has no input nam"),
        ({"name": "a", "port": "x"}, "integer"),
    ):
        with pytest.raises(SickbayError, match=text):
            made.fill(given)


@pytest.mark.parametrize(("size", "read"), [(2, (None, 2)), ("25%", (0.25, None)), ("100%", (1.0, None))])
def test_a_size_is_a_count_or_a_share(size: int | str, read: tuple[float | None, int | None]) -> None:
    assert share_or_count(size) == read


def test_a_step_is_called_by_what_it_does() -> None:
    assert Step(run=["docker", "ps"]).title == "docker ps"
    assert Step(uses="gpu.check").title == "gpu.check"
    assert Step(run="x", name="Look around").title == "Look around"
    assert Step(run="\necho a\necho b\n").title == "echo a …"
