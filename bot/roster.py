"""Who there is, as sickbay.yaml says at this moment: whoever is taken out of it loses their rights without a restart.

The file is looked at each time somebody wants to do something, and read when it is another one than before. While it
cannot be read nothing is started or approved: what it meant to take away is not known. What goes on can be stopped.
"""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

from bot.config.config import Config, load
from bot.errors import SickbayError
from bot.people.authority import Roster


class RosterFile:
    """Reads people and their rights again when the file has changed."""

    def __init__(self, path: Path, environ: Mapping[str, str], config: Config, sha256: str) -> None:
        """`config` is what was read from it already, when its bytes had this SHA-256."""
        self._path = path
        self._environ = environ
        self._lock = threading.Lock()
        stamp = self._stamp()
        self._seen = stamp if self._sha256() == sha256 else ()
        self._roster: Roster | None = _roster(config)
        self._wrong = ""

    def __call__(self) -> Roster:
        """Return what the file says now.

        Raises:
            SickbayError: when it cannot be read.

        """
        with self._lock:
            stamp = self._stamp()
            if stamp != self._seen or self._roster is None:  # what kept it from being read may be over
                self._read()
                self._seen = stamp
            if self._roster is None:
                raise SickbayError(
                    f"{self._path} was changed and cannot be read, so nothing is started or approved: {self._wrong}",
                    advice="mend the file; `sickbay doctor` shows what is wrong with it",
                )
            return self._roster

    def _read(self) -> None:
        try:
            self._roster, self._wrong = _roster(load(self._path, self._environ)[0]), ""
        except SickbayError as error:
            self._roster, self._wrong = None, str(error).splitlines()[0]

    def _sha256(self) -> str:
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError:
            return ""

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _roster(config: Config) -> Roster:
    return Roster(config.persons, config.rights, config.slack.usergroups)
