"""Errors at the front door: what a person can mend is told in words, with what to do next, and ends with 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bot.errors import SickbayError


@contextmanager
def telling() -> Iterator[None]:
    """Tell what a person can mend without a traceback, also where the database refuses in the middle of something."""
    try:
        yield
    except SickbayError as error:
        _end(error, "mend them, then say it again" if getattr(error, "mistakes", ()) else "")
    except Exception as error:
        if "sqlalchemy" not in sys.modules:
            raise
        from sqlalchemy.exc import DBAPIError

        from bot.store.trouble import told

        if not isinstance(error, DBAPIError):
            raise
        _end(told(error, what="the database refused"))


def _end(error: SickbayError, advice: str = "") -> None:
    more = f"\n  → {advice}" if advice and not error.advice else ""
    print(f"sickbay: {error}{more}", file=sys.stderr)  # noqa: T201
    sys.exit(2)
