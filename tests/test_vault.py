"""Secrets by reference: read from where they are kept or refused with words, and put into a command on its way out."""

import os
from pathlib import Path

import pytest

from bot.config.secret_section import SecretSection
from bot.config.settings import Config
from bot.effect import Command
from bot.engine.vault import LARGEST, Furnished, Vault, read_secrets
from bot.errors import SickbayError
from bot.inventory import Host
from bot.secrets.mask import HIDDEN, Mask
from tests.parts.script import Script

HOST = Host("gpu-01", "10.0.0.1")


def kept(folder: Path, value: str | bytes = "the-value-of-it\n", mode: int = 0o600) -> SecretSection:
    """Write a secret's file."""
    path = folder / "secret"
    path.write_bytes(value.encode() if isinstance(value, str) else value)
    path.chmod(mode)
    return SecretSection(file=path)


def lacking(section: SecretSection, **environ: str) -> SickbayError:
    """Return why a secret cannot be had."""
    vault = Vault({"it": section}, environ, Mask())
    with pytest.raises(SickbayError) as caught:
        vault.complete()
    assert caught.value is vault.lacking["it"]
    assert caught.value.where == "secret `it`"
    assert caught.value.advice
    return caught.value


def test_a_secret_is_read_from_a_variable_or_a_file_and_known_to_the_mask(tmp_path: Path) -> None:
    mask = Mask()
    sections = {"a": SecretSection(env="A_TOKEN"), "b": kept(tmp_path)}
    vault = Vault(sections, {"A_TOKEN": "token-of-a"}, mask)
    vault.complete()
    assert (vault.of("a"), vault.of("b")) == ("token-of-a", "the-value-of-it")
    assert mask.text("token-of-a the-value-of-it") == f"{HIDDEN} {HIDDEN}"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("line-one\nline-two\n", "line-one\nline-two"),
        ("windows\r\n", "windows"),
        ("no end of line", "no end of line"),
    ],
)
def test_only_the_last_end_of_line_is_taken_off(tmp_path: Path, value: str, read: str) -> None:
    sections = {"it": kept(tmp_path, value)}
    assert Vault(sections, {}, Mask()).of("it") == read


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({}, "A_TOKEN is not set in the environment"),
        ({"A_TOKEN": ""}, "A_TOKEN is empty"),
        ({"A_TOKEN": " \n"}, "A_TOKEN is empty"),
        ({"A_TOKEN": "abc12"}, "too short to be masked"),
        ({"A_TOKEN": "a\nb\nc\nd\ne"}, "too short to be masked"),
        ({"A_TOKEN": "x" * (LARGEST + 1)}, "holds more than 16 KiB"),
        ({"A_TOKEN": "not-utf-8-\udcff"}, "no shell variable can carry"),
    ],
)
def test_a_variable_that_holds_no_secret_is_refused_with_words(environ: dict[str, str], what: str) -> None:
    error = lacking(SecretSection(env="A_TOKEN"), **environ)
    assert what in error.what
    assert not any(value.strip() and value in str(error) for value in environ.values())


@pytest.mark.parametrize(
    ("value", "mode", "what"),
    [
        ("the-value-of-it", 0o644, "can be read by anybody on this machine (mode 644)"),
        ("the-value-of-it", 0o602, "can be changed by anybody on this machine (mode 602)"),
        ("", 0o600, "is empty"),
        ("short\n", 0o600, "too short to be masked"),
        (b"\xff\xfe1234567", 0o600, "is not text in UTF-8"),
        ("with\0nul-in-it", 0o600, "no shell variable can carry"),
        ("x" * (LARGEST + 1), 0o600, "holds more than 16 KiB"),
    ],
)
def test_a_file_that_is_unfit_is_refused_with_words(
    tmp_path: Path, value: str | bytes, mode: int, what: str
) -> None:
    error = lacking(kept(tmp_path, value, mode))
    assert what in error.what
    assert "the-value" not in str(error)


def test_a_file_that_is_none_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    assert "No such file" in lacking(SecretSection(file=tmp_path / "missing")).what
    assert "Is a directory" in lacking(SecretSection(file=tmp_path)).what
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "is not a file" in lacking(SecretSection(file=tmp_path / "pipe")).what


def test_all_that_are_lacking_are_told_together() -> None:
    vault = Vault({"a": SecretSection(env="A"), "b": SecretSection(env="B")}, {}, Mask())
    with pytest.raises(SickbayError) as caught:
        vault.complete()
    assert "secret `a`: A is not set" in str(caught.value)
    assert "secret `b`: B is not set" in str(caught.value)


def test_a_secret_of_sickbay_itself_that_is_too_short_is_refused_too() -> None:
    environ = {"SICKBAY_ALERTMANAGER_SECRET": "abc12", "SLACK_BOT_TOKEN": "xoxb-long-enough"}
    _, vault, mask = read_secrets(Config(), environ)
    with pytest.raises(SickbayError, match="SICKBAY_ALERTMANAGER_SECRET is too short to be masked"):
        vault.complete()
    assert mask.text("xoxb-long-enough abc12") == f"{HIDDEN} abc12"


def test_a_file_that_has_changed_is_read_again_and_both_values_are_masked(tmp_path: Path) -> None:
    mask = Mask()
    vault = Vault({"it": kept(tmp_path, "the-first-value")}, {}, mask)
    kept(tmp_path, "the-second-value-is-longer")
    assert vault.of("it") == "the-second-value-is-longer"
    assert mask.text("the-first-value the-second-value-is-longer") == f"{HIDDEN} {HIDDEN}"
    (tmp_path / "secret").chmod(0o644)
    os.utime(tmp_path / "secret", ns=(1, 1))
    with pytest.raises(SickbayError, match="can be read by anybody"):
        vault.of("it")


def test_a_secret_that_was_lacking_is_there_as_soon_as_it_can_be_read(tmp_path: Path) -> None:
    section = kept(tmp_path, mode=0o644)
    vault = Vault({"it": section}, {}, Mask())
    assert vault.lacking
    kept(tmp_path)
    assert vault.of("it") == "the-value-of-it"
    vault.complete()


def test_values_take_the_place_of_references_in_variables_only(tmp_path: Path) -> None:
    script = Script()
    remote = Furnished(script, Vault({"it": kept(tmp_path)}, {}, Mask()))
    command = Command(
        "echo '‹secret it›' \"$a\"", {"a": "Bearer ‹secret it›", "b": "plain"}, 7.0, mutating=True
    )
    remote.start(HOST, command, key="1/step/gpu-01/1", first_sent=None)
    (sent,) = script.sent
    assert sent.command.text == command.text
    assert sent.command.env == {"a": "Bearer the-value-of-it", "b": "plain"}
    assert (sent.command.timeout, sent.command.mutating) == (7.0, True)
    assert command.env["a"] == "Bearer ‹secret it›", "what is stored stays a reference"
    remote.close()


def test_a_command_whose_secret_cannot_be_had_is_not_sent() -> None:
    script = Script()
    remote = Furnished(script, Vault({}, {}, Mask()))
    with pytest.raises(SickbayError) as caught:
        remote.start(HOST, Command("x", {"a": "‹secret gone›"}), key="1/step/gpu-01/1", first_sent=None)
    advice = "name it under `secrets:` in sickbay.yaml"
    assert str(caught.value) == f"there is no secret `gone`\n  → {advice}"
    assert script.sent == []
    remote.close()
