"""References to secrets: only `{{ secrets.NAME }}` makes one, whatever alerts, inputs and hosts say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.language import template
from bot.language.template import TemplateError
from bot.secrets import secret

VALUES = {"hf_token": "the-value", "other": "‹secret hf_token›"}


def test_a_bare_name_is_a_reference_and_nothing_else_is() -> None:
    assert secret.reference("secrets.hf_token") == "‹secret hf_token›"
    for expression in (
        "secrets",
        "secrets.a | upper",
        "'x' ~ secrets.a",
        "secrets['a']",
        "secrets.A",
        "alert.a",
    ):
        assert secret.reference(expression) is None


def test_each_reference_is_replaced_once_and_what_a_secret_holds_is_not_looked_through() -> None:
    env = {"a": "Bearer ‹secret hf_token›", "b": "plain ‹", "c": "‹secret other›"}
    assert secret.filled(env, VALUES.__getitem__) == {
        "a": "Bearer the-value",
        "b": "plain ‹",
        "c": "‹secret hf_token›",
    }
    assert list(secret.named(env)) == ["hf_token", "other"]


TOKENS = st.lists(
    st.sampled_from(["‹", "secret", "sec", "ret", " ", "hf_token", "›", "x", "‹secret hf_token›"])
)


@given(pieces=st.lists(TOKENS.map("".join), max_size=6))
def test_no_pieces_from_outside_make_a_reference_together(pieces: list[str]) -> None:
    if not any(secret.forged(piece) for piece in pieces):
        assert list(secret.named({"x": "".join(pieces)})) == []


def test_a_command_holds_the_reference_and_its_text_only_a_variable() -> None:
    text, env = template.command(
        'curl -H "Authorization: Bearer {{ secrets.hf_token }}" "{{ x }}"', {"x": "y"}
    )
    assert text == 'curl -H "Authorization: Bearer ${sickbay_1}" "${sickbay_2}"'
    assert env == {"sickbay_1": "‹secret hf_token›", "sickbay_2": "y"}


def test_an_argument_holds_the_reference_among_the_authors_words() -> None:
    given = {"headers": {"Authorization": "Bearer {{ secrets.key }}"}, "alone": "{{ secrets.key }}"}
    assert template.value(given, {}) == {
        "headers": {"Authorization": "Bearer ‹secret key›"},
        "alone": "‹secret key›",
    }


@pytest.mark.parametrize(
    "label", ["‹secret hf_token›", "x ‹secret hf_token›", "‹", "‹sec", "‹secret", "a ‹secre", "‹secret \n"]
)
def test_a_value_from_outside_that_names_a_secret_is_refused_in_commands_and_arguments(label: str) -> None:
    context = {"alert": {"labels": {"x": label}}, "many": {"a": ["b", {"c": label}]}}
    for attempt in (
        lambda: template.command('echo "{{ alert.labels.x }}"', context),
        lambda: template.value("{{ alert.labels.x }}", context),
        lambda: template.value("{{ alert.labels.x }}ret hf_token›", context),
        lambda: template.value("{{ many }}", context),
    ):
        with pytest.raises(TemplateError, match="only a reference to a secret may"):
            attempt()
    assert template.evaluate("alert.labels.x", context) == label, "to look at it is free"


def test_an_author_cannot_write_the_beginning_of_a_reference_before_a_value() -> None:
    with pytest.raises(TemplateError, match="cannot be written"):
        template.value("‹secret {{ x }}", {"x": "hf_token›"})


@pytest.mark.parametrize(
    "expression", ["secrets.a | upper", "secrets.a == 'x'", "secrets", "'x' ~ secrets.a"]
)
def test_no_expression_computes_with_a_secret(expression: str) -> None:
    with pytest.raises(template.Unknown, match="`secrets` is not known"):
        template.value("{{ " + expression + " }}", {"alert": {}})


def test_a_value_is_never_evaluated_a_second_time() -> None:
    label = "{{ secrets.hf_token }} {{ 7 * 7 }} {% raw %}"
    _, env = template.command('echo "{{ x }}"', {"x": label})
    assert env == {"sickbay_1": label}
    assert template.value(["{{ x }}", "a {{ x }}"], {"x": label}) == [label, f"a {label}"]
