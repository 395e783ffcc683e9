"""Log lines: whole, one an event, without secrets; quiet about what nobody has to know."""

import json
import logging
from collections.abc import Iterator

import pytest

from bot.cli.logs import configure
from bot.secrets.mask import Mask

SECRET = "a-secret-of-the-webhook"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Leave logging as it was found: `configure` takes the root logger over."""
    loggers = [logging.getLogger(), *map(logging.getLogger, ("uvicorn", "paramiko", "asyncssh", "aiohttp"))]
    loggers += map(logging.getLogger, ("slack_bolt", "slack_sdk"))
    before = [(one, one.level, one.handlers[:]) for one in loggers]
    yield
    for one, level, handlers in before:
        one.setLevel(level)
        one.handlers[:] = handlers


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_an_event_is_one_line_with_time_level_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Mask())
    logging.getLogger("bot.app").info("going on with %s interrupted runs", 3)
    (line,) = written(capsys)
    assert line[:2] == "20"
    for words in ("info", "going on with 3 interrupted runs", "bot.app"):
        assert words in line
    assert "\x1b" not in line, "no colours where no terminal is"


def test_for_machines_each_line_is_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Mask(), json=True)
    logging.getLogger("bot.web").warning('a "quoted" word\nand a second line')
    (line,) = written(capsys)
    event = json.loads(line)
    assert (event["level"], event["logger"]) == ("warning", "bot.web")
    assert event["timestamp"].endswith("Z")
    assert event["event"].startswith('a "quoted" word')


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_taken_out_of_texts_arguments_and_tracebacks(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    configure(Mask([SECRET]), json=as_json)
    log = logging.getLogger("bot.web")
    log.info("got %s", {"authorization": SECRET})
    try:
        int(f"cannot use {SECRET}")
    except ValueError:
        log.exception("it failed with %s", SECRET)
    text = capsys.readouterr().err
    assert SECRET not in text
    assert "•••" in text
    assert "ValueError: invalid literal" in text


def test_a_stranger_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Mask())
    logging.getLogger("bot.web").info("no host called %s", "x\n2026-01-01 [info ] all is well\x1b[2J")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_libraries_speak_only_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Mask())
    for name in ("paramiko.transport", "uvicorn.error", "slack_sdk.web", "slack_bolt.app", "aiohttp.access"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).error("trouble")
    lines = written(capsys)
    assert len(lines) == 5
    assert all("trouble" in line for line in lines)
