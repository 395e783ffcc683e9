"""Runbooks from their files: read, checked whole, and kept with their digest.

One bad file hides nothing: all files are read, and all mistakes are told together.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.errors import SickbayError
from bot.inventory import Inventory
from bot.language.document import MAX_BYTES
from bot.language.runbook import Runbook
from bot.language.schema import Invalid, Mistake, attempt, validate
from bot.lint import KindSpec, lint


@dataclass(frozen=True, slots=True)
class Loaded:
    """A runbook that may run, and the text it was read from."""

    runbook: Runbook
    text: str
    digest: str
    """SHA-256 of the file, hexadecimal."""
    file: str
    again: Callable[[], "Loaded"] | None = field(default=None, compare=False, repr=False)
    """Reads the file anew; None: it comes from no file."""

    def digest_now(self) -> str | None:
        """Return the digest of the file as it is on the disk now; None when it cannot be read."""
        if self.again is None:
            return self.digest
        try:
            return hashlib.sha256(_read(Path(self.file))).hexdigest()
        except OSError:
            return None

    def fresh(self) -> "Loaded":
        """Return the runbook as its file says now, so that an edit counts without a restart.

        Raises:
            SickbayError: with every mistake that was edited into it.

        """
        return self if self.again is None or self.digest_now() == self.digest else self.again()


def _read(path: Path) -> bytes:
    """Read a file, of one that is too large only so much that it can be told."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def load_text(
    text: str | bytes,
    *,
    file: str,
    kinds: Mapping[str, KindSpec],
    parsers: Collection[str],
    inventory: Inventory | None = None,
    secrets: Collection[str] | None = None,
) -> Loaded:
    """Make a runbook of a file's text.

    Raises:
        Invalid: with every mistake of YAML, types and language.

    """
    document, mistakes = attempt(text, file=file)
    if document is None:
        raise Invalid(mistakes)
    mistakes += lint(document, kinds=kinds, parsers=parsers, inventory=inventory, secrets=secrets)
    try:
        runbook = validate(Runbook, document)
    except Invalid as error:
        raise Invalid([*mistakes, *error.mistakes]) from error
    if mistakes:
        raise Invalid(mistakes)
    raw = text.encode() if isinstance(text, str) else text
    return Loaded(runbook, raw.decode("utf-8-sig"), hashlib.sha256(raw).hexdigest(), file)


def load_runbook(
    path: Path,
    *,
    kinds: Mapping[str, KindSpec],
    parsers: Collection[str],
    inventory: Inventory | None = None,
    secrets: Collection[str] | None = None,
) -> Loaded:
    """Read one runbook.

    Raises:
        Invalid: with every mistake.
        SickbayError: when the file cannot be read.

    """
    try:
        text = _read(path)
    except OSError as error:
        reason = error.strerror or error
        raise SickbayError(f"cannot be read: {reason}", where=str(path), advice="check the path") from error
    loaded = load_text(
        text, file=str(path), kinds=kinds, parsers=parsers, inventory=inventory, secrets=secrets
    )

    edited: Loaded | None = None

    def again() -> Loaded:
        """Read it once for each edit, not for each alert."""
        nonlocal edited
        if edited is None or edited.digest_now() != edited.digest:
            edited = load_runbook(path, kinds=kinds, parsers=parsers, inventory=inventory, secrets=secrets)
        return edited

    return replace(loaded, again=again)


def load_library(
    directories: Iterable[Path],
    *,
    kinds: Mapping[str, KindSpec],
    parsers: Collection[str],
    inventory: Inventory | None = None,
    secrets: Collection[str] | None = None,
) -> tuple[dict[str, Loaded], list[Mistake]]:
    """Read every runbook (`*.yaml`, without the `*.test.yaml` beside them) of these directories, by name.

    Return those that may run, and the mistakes of all others.

    Raises:
        SickbayError: when a directory is missing.

    """
    library: dict[str, Loaded] = {}
    mistakes: list[Mistake] = []
    for path in (path for directory in directories for path in runbook_files(directory)):
        try:
            loaded = load_runbook(path, kinds=kinds, parsers=parsers, inventory=inventory, secrets=secrets)
        except Invalid as error:
            mistakes += error.mistakes
            continue
        name = loaded.runbook.name
        if name in library:
            what = f"there are two runbooks `{name}`"
            hint = f"the other one is {library[name].file}; a runbook of your own takes another name"
            mistakes.append(Mistake(str(path), 1, 0, what, hint))
        library.setdefault(name, loaded)
    return library, mistakes


def digest_in(library: Mapping[str, Loaded], name: str) -> str | None:
    """Return the digest of a runbook's file as it is now; None when there is none of this name."""
    loaded = library.get(name)
    return loaded.digest_now() if loaded is not None else None


def runbook_files(directory: Path) -> list[Path]:
    """List the runbooks of a directory, by name.

    Raises:
        SickbayError: when there is no such directory.

    """
    if not directory.is_dir():
        raise SickbayError(
            "no such directory of runbooks", where=str(directory), advice="mend `runbooks:` in sickbay.yaml"
        )
    found = (*directory.glob("*.yaml"), *directory.glob("*.yml"))
    return sorted(path for path in found if not path.stem.endswith(".test"))


def lint_files(
    paths: Iterable[Path],
    *,
    kinds: Mapping[str, KindSpec],
    parsers: Collection[str],
    secrets: Collection[str] | None = None,
) -> tuple[int, list[Mistake]]:
    """Check files, and all runbooks of folders; return how many were read, and every mistake.

    Raises:
        SickbayError: when a file or folder cannot be read.

    """
    files = [file for path in paths for file in (runbook_files(path) if path.is_dir() else [path])]
    mistakes: list[Mistake] = []
    for file in files:
        try:
            load_runbook(file, kinds=kinds, parsers=parsers, secrets=secrets)
        except Invalid as error:
            mistakes += error.mistakes
    return len(files), mistakes
