"""What is wrong with the database file, in a person's words; and whether it can be looked at all the same.

SQLite opens a file in WAL mode only where it can make its two helpers beside it, so a full disk would keep even those
from looking who have nothing to write. Where all of it is in the file itself it can be read as it is (`immutable`).
"""

import shutil
import sqlite3
from pathlib import Path
from urllib.parse import quote

from bot.errors import SickbayError

TIGHT = 128 * 1024
"""Bytes left on a disk below which an I/O error is its fullness: SQLite's helpers take 32 KiB and more."""
_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def told(error: BaseException, path: Path | str = "", what: str = "cannot open the database") -> SickbayError:
    """Return the same trouble as a person reads it, with what to do about this cause."""
    cause = getattr(error, "orig", None) or error
    reason, advice = _said(cause, Path(path) if path else None)
    return SickbayError(f"{what}: {reason}", where=str(path), advice=advice)


def full(error: BaseException, path: Path | str) -> bool:
    """Is it that the disk has nothing left?"""
    code = _code(getattr(error, "orig", None) or error)
    return code == sqlite3.SQLITE_FULL or (code in _OF_THE_DISK and _left(Path(path)) < TIGHT)


def as_it_is(path: Path | str) -> str | None:
    """Return the URI that reads a file without a helper beside it; None where its newest part is in the `-wal` file."""
    place = Path(path).resolve()
    wal = place.with_name(f"{place.name}-wal")
    if wal.exists() and wal.stat().st_size:
        return None
    return f"file:{quote(str(place))}?mode=ro&immutable=1"


def _said(cause: BaseException, path: Path | None) -> tuple[str, str]:
    code = _code(cause)
    if code == sqlite3.SQLITE_FULL or (path is not None and full(cause, path)):
        left = "" if path is None else f", {_left(path) // 1024} KiB are left"
        return (
            f"its disk is full{left}",
            "make room on it; nothing can be written before, and nothing is lost",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        advice = "another program holds it (`fuser` or `lsof` name it): a backup, a shell of sqlite3? End that, and try again"
        return str(cause), advice
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        advice = "name Sickbay's own under `store: {path: …}`; or put back a copy, and keep this one as it is"
        return str(cause), advice
    if code == sqlite3.SQLITE_IOERR:
        return str(
            cause
        ), "its disk does not read or write: look at `dmesg`, and at the quota of this account"
    if isinstance(cause, IsADirectoryError) or (path is not None and path.is_dir()):
        return "it is a folder", "name a file in it under `store: {path: …}`"
    if path is None:
        return str(cause), "see what it says with `sickbay doctor`"
    reason = (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(cause)
    return reason, "check that its folder exists, and that this account may write the file and the folder"


def _code(cause: BaseException) -> int | None:
    code = getattr(cause, "sqlite_errorcode", None)  # with what it was doing in the upper bytes
    return None if code is None else code & 0xFF


def _left(path: Path) -> int:
    try:
        return shutil.disk_usage(path.resolve().parent).free
    except OSError:
        return TIGHT
