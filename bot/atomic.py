"""Files written whole or not at all: whatever breaks, the one that was there is there still."""

import os
import secrets
from pathlib import Path


def replace(path: Path, data: bytes, like: os.stat_result | None) -> None:
    """Put a file in the place of another, with the mode and owner of `like`; without it, it is its owner's only.

    Raises:
        OSError: when it cannot be written; nothing is left behind.

    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if like is not None:
                os.fchmod(file.fileno(), like.st_mode & 0o7777)
                if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
