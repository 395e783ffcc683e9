"""What strangers wrote, as people are shown it."""

import io
import json
import logging

import pytest

from bot.cli.logs import configure
from bot.printable import clean, one_line
from bot.secrets.mask import Mask


def test_what_a_terminal_would_obey_is_taken_out() -> None:
    assert clean("\x1b[31mred\x1b[0m\r\n\x07bell\ud800 \x1b]0;title\x07done") == "red\nbell done"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202egpu-03", "\\u202egpu-03"),
        ("gpu\u200b-03\ufeff", "gpu\\u200b-03\\ufeff"),
        ("a\u200db", "a\\u200db"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("one\u2028two", "one\\u2028two"),
    ],
)
def test_what_nobody_would_see_is_written_out(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert clean(shown) == shown


def test_what_people_write_stays_as_it_is() -> None:
    plain = "é 中 ف 👩\u200d🔧 ⚠\ufe0f\n  indented"
    assert clean(plain) == plain


def test_a_logged_label_can_neither_forge_a_line_nor_colour_one(capsys: pytest.CaptureFixture[str]) -> None:
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure(Mask())
        logging.getLogger("bot").warning("no run: %s", "gpu-03\n2026 [info] forged \x1b[31m")
    finally:
        logging.basicConfig(
            handlers=before or [logging.StreamHandler(io.StringIO())], level=level, force=True
        )
    (line,) = capsys.readouterr().err.splitlines()
    assert "no run: gpu-03\\n2026 [info] forged " in line
    assert "\x1b" not in line
    assert json.dumps(one_line("a\nb")) == '"a\\\\nb"'
