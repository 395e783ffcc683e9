"""Logs: one line an event on stderr, for people or for machines, with the secrets masked at the writer."""

import logging
import sys
from typing import Any

import structlog

from bot.printable import clean, one_line
from bot.secrets.mask import Mask


def configure(mask: Mask, *, json: bool = False, level: int = logging.INFO) -> None:
    """Send all logs, ours and the libraries', through one formatter."""

    def masked(_logger: Any, _method: str, event: Any) -> Any:
        return {
            key: value
            if isinstance(value, int | float | None)
            else mask.text(clean(str(value)) if key == "exception" else one_line(str(value)))
            for key, value in event.items()
        }

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    render: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            masked,
            render,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in ("paramiko", "slack_bolt", "slack_sdk", "asyncssh", "aiohttp", "uvicorn"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
