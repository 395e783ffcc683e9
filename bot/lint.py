"""What is wrong with a runbook beyond its types: names, expressions, quoting, and what a kind of runbook may not do.

Step kinds and parsers come in as data, so that this room knows no step. Everything is read from the document itself and
not from the finished model: a runbook with one wrong type still gets all its other mistakes told.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

from pydantic import BaseModel

from bot.errors import Path, SickbayError
from bot.guard.drain import Turning, unended
from bot.inventory import Inventory
from bot.language import template
from bot.language.runbook import NEEDS_VERIFY, RAILS, SECTIONS, deed, undo_id, unguarded, used_twice
from bot.language.schema import Document, Mistake, faults
from bot.language.trigger import unattended
from bot.names import AFTERWARDS, ATTRIBUTES, ELSEWHERE, ROOTS, SECRETS, STEP_ATTRIBUTES
from bot.secrets import secret
from bot.wording import near


class KindSpec(Turning, Protocol):
    """What has to be known of a step kind here."""

    @property
    def arguments(self) -> type[BaseModel]:
        """Model of what stands under `with`."""

    @property
    def mutating(self) -> bool:
        """Does it change the host?"""

    @property
    def secrets(self) -> Collection[str]:
        """Arguments that may hold a secret."""


def lint(
    document: Document,
    *,
    kinds: Mapping[str, KindSpec],
    parsers: Collection[str],
    inventory: Inventory | None = None,
    secrets: Collection[str] | None = None,
) -> list[Mistake]:
    """Return every mistake; with an inventory, and the names of the secrets, those of the runbook are looked up too."""
    if not isinstance(document.data, dict):
        return []
    return list(_Lint(document, kinds, parsers, secrets).mistakes(inventory))


@dataclass(frozen=True, slots=True)
class _Spot:
    """A step of the document."""

    path: Path
    id: str
    step: dict[str, Any]

    @property
    def rollback(self) -> bool:
        """Is it how another step is undone?"""
        return self.path[-1] == "rollback"


class _Lint:
    def __init__(
        self,
        document: Document,
        kinds: Mapping[str, KindSpec],
        parsers: Collection[str],
        secrets: Collection[str] | None,
    ) -> None:
        self._document = document
        self._secrets = secrets
        self._kinds = kinds
        self._parsers = parsers
        self._book: dict[str, Any] = document.data
        inputs = self._book.get("inputs")
        self._inputs: dict[str, Any] = inputs if isinstance(inputs, dict) else {}
        self._spots = list(self._find_steps())
        self._ids = [spot.id for spot in self._spots]

    def mistakes(self, inventory: Inventory | None) -> Iterator[Mistake]:
        yield from self._whole(inventory)
        for index, spot in enumerate(self._spots):
            yield from self._step(spot, self._ids[:index])

    def _at(self, path: Path, what: str, hint: str = "", *, within: int | None = None) -> Mistake:
        return self._document.mistake(path, what, hint, within=within)

    def _find_steps(self) -> Iterator[_Spot]:
        pack, at = self._evidence()
        for index, step in enumerate(pack):
            if isinstance(step, dict):
                looking = {"mutates": False} if "run" in step and "mutates" not in step else {}
                yield _Spot((*at, index), str(step.get("id", f"evidence_{index + 1}")), step | looking)
        for section in SECTIONS:
            if section == "rescue":
                yield from self._find_rollbacks()
            for index, step in self._steps_of(section):
                yield _Spot((section, index), _id(section, index, step), step)

    def _find_rollbacks(self) -> Iterator[_Spot]:
        for index, step in reversed(list(self._steps_of("steps"))):
            if isinstance(step.get("rollback"), dict):
                at = ("steps", index, "rollback")
                yield _Spot(at, undo_id(_id("steps", index, step)), step["rollback"])

    def _steps_of(self, section: str) -> Iterator[tuple[int, dict[str, Any]]]:
        steps = self._book.get(section)
        for index, step in enumerate(steps if isinstance(steps, list) else []):
            if isinstance(step, dict):
                yield index, step

    def _evidence(self) -> tuple[list[Any], Path]:
        """Return the steps of an own pack of evidence, and where they stand."""
        given = self._book.get("evidence")
        at: Path = ("evidence",)
        if isinstance(given, dict):
            given, at = given.get("pack"), ("evidence", "pack")
        return (given if isinstance(given, list) else []), at

    def _whole(self, inventory: Inventory | None) -> Iterator[Mistake]:
        book = self._book
        name, stem = book.get("name"), PurePath(self._document.file).stem
        if isinstance(name, str) and name != stem:
            yield self._at(
                ("name",), f"the name `{name}` is not the file's", f"write `{stem}`, or rename the file"
            )
        if book.get("kind") == "mutate" and not book.get("verify"):
            yield self._at((), NEEDS_VERIFY)
        if book.get("kind") == "observe" and "approval" in book:
            yield self._at(
                ("approval",), "an observe runbook changes nothing, so nobody is asked", "remove `approval`"
            )
        yield from (self._at(*fault) for fault in unattended(book))
        seen: set[str] = set()
        for at, what, hint in unended([(spot.path, spot.step) for spot in self._spots], self._kinds):
            yield self._at(at, what, hint)
        for spot in self._spots:
            if spot.id in seen:
                yield self._at(spot.path if spot.rollback else (*spot.path, "id"), used_twice(spot.id))
            seen.add(spot.id)
        hosts = book.get("hosts")
        if isinstance(hosts, str):
            yield from self._values(("hosts",), hosts, roots=("alert",), earlier=())
            if inventory is not None and hosts and "{{" not in hosts:
                try:
                    inventory.select(hosts)
                except SickbayError as error:
                    yield self._at(("hosts",), error.what, error.advice)

        floor = book.get("guard")
        floor = floor.get("min_ready") if isinstance(floor, dict) else None
        if inventory is not None and isinstance(floor, dict) and isinstance(floor.get("group"), str):
            yield from self._floor(inventory, floor)
        if isinstance(lock := book.get("lock"), str) and lock not in ("host", "runbook"):
            yield from self._values(("lock",), lock, roots=("alert", "inputs", "host", "run"), earlier=())
        if book.get("kind") == "observe":
            for key in RAILS:
                if key in book:
                    yield self._at((key,), unguarded(key), f"remove `{key}`")

    def _floor(self, inventory: Inventory, floor: dict[str, Any]) -> Iterator[Mistake]:
        at: Path = ("guard", "min_ready")
        try:
            members = inventory.select(floor["group"])
        except SickbayError as error:
            yield self._at((*at, "group"), error.what, error.advice)
            return
        wanted = floor.get("replicas")
        if isinstance(wanted, int) and wanted > len(members):
            what = f"{floor['group']} has {len(members)} hosts, and {wanted} must stay ready"
            yield self._at((*at, "replicas"), what, f"write at most {len(members)}")

    def _step(self, spot: _Spot, earlier: list[str]) -> Iterator[Mistake]:
        path, step = spot.path, spot.step
        if fault := deed({key for key, value in step.items() if value not in (None, {})}):
            yield self._at(path, fault)
        for key in ("when", "until", "expect"):
            if isinstance(expression := step.get(key), str):
                roots = ROOTS if key == "when" else (*ROOTS, *AFTERWARDS)
                yield from self._expression((*path, key), expression, roots, earlier)
        if "until" in step and not step.get("retries"):
            hint = "add `retries: 20` and `delay: 15s`, or write `expect`"
            yield self._at((*path, "until"), "`until` without `retries` is looked at once only", hint)
        yield from self._promises(spot)
        if isinstance(step.get("uses"), str):
            yield from self._uses(spot, step["uses"], earlier)
        if isinstance(parser := step.get("parse"), str) and parser not in self._parsers:
            yield self._at((*path, "parse"), f"unknown parser `{parser}`", self._known(parser, self._parsers))
        if step.get("mutates") is True and self._book.get("kind") == "observe":
            hint = "write `kind: mutate`, with `verify`"
            yield self._at((*path, "mutates"), "an observe runbook may use no mutating step", hint)
        run = step.get("run")
        if isinstance(run, str) or (isinstance(run, list) and all(isinstance(each, str) for each in run)):
            yield from self._run(spot, run, earlier)

    def _changes(self, step: dict[str, Any]) -> bool:
        """Does a step change the host? Of a kind that does not exist nothing is said."""
        if step.get("uses") is not None:
            kind = self._kinds.get(str(step["uses"]))
            return kind is None or kind.mutating
        return step.get("mutates") is True or (
            self._book.get("kind") == "mutate" and step.get("mutates") is not False
        )

    def _promises(self, spot: _Spot) -> Iterator[Mistake]:
        """What only a step that changes something can promise."""
        step, changes = spot.step, self._changes(spot.step)
        if step.get("idempotent") is True and not changes:
            what = "`idempotent` says that a change may be done twice, and this step changes nothing"
            yield self._at((*spot.path, "idempotent"), what, "remove it: what only looks is repeated anyway")
        if spot.rollback and not changes:
            yield self._at((*spot.path, "uses"), "a rollback that only looks undoes nothing", "name the undo")
        if "rollback" in step and spot.path[0] != "steps":
            what = f"`rollback` belongs to a step under `steps`, not under `{spot.path[0]}`"
            yield self._at((*spot.path, "rollback"), what, "move the step, or undo it in `always`")
        elif "rollback" in step and not changes:
            what = "there is nothing to roll back: this step changes nothing"
            yield self._at((*spot.path, "rollback"), what, "remove it")

    def _uses(self, spot: _Spot, uses: str, earlier: list[str]) -> Iterator[Mistake]:
        kind = self._kinds.get(uses)
        if kind is None:
            yield self._at(
                (*spot.path, "uses"), f"unknown step kind `{uses}`", self._known(uses, self._kinds)
            )
        elif kind.mutating and spot.path[0] == "evidence":
            what = f"`{uses}` changes the host, and evidence is taken before anything is changed"
            yield self._at((*spot.path, "uses"), what, "use a step kind that looks")
        elif kind.mutating and self._book.get("kind") == "observe":
            what = f"`{uses}` changes the host, and an observe runbook may use no mutating step"
            yield self._at((*spot.path, "uses"), what, "write `kind: mutate`, with `verify`")
        given = spot.step.get("with", {})
        if not isinstance(given, dict):
            return
        path = (*spot.path, "with")
        for at, text in _texts(given):
            roots = (*ROOTS, SECRETS) if kind is not None and at[:1] and at[0] in kind.secrets else ROOTS
            yield from self._values((*path, *at), text, roots=roots, earlier=earlier)
        if kind is not None:
            for at, what, hint in self._arguments(kind, given, path):
                yield self._at((*path, *at), f"`{uses}`: {what}", hint)

    def _arguments(
        self, kind: KindSpec, given: dict[str, Any], path: Path
    ) -> Iterator[tuple[Path, str, str]]:
        """Check arguments against the kind's model; what a `{{ value }}` will be is not known yet."""
        filled_later = {at for at, text in _texts(given) if "{{" in text}
        _, found = faults(kind.arguments, given, document=self._document, path=path)
        for at, what, hint in found:
            # A rule about several arguments says nothing while one of them is open.
            about_open_values = at in filled_later or (
                not at and filled_later and not what.startswith("missing")
            )
            if not about_open_values:
                yield at, what, hint

    def _run(self, spot: _Spot, run: str | list[str], earlier: list[str]) -> Iterator[Mistake]:
        path = (*spot.path, "run")
        try:
            misplaced = list(template.problems(run))
        except template.TemplateError as error:
            yield self._at(path, error.what, error.advice)
            return
        for piece, place in misplaced:
            yield self._at(
                path, f"`{{{{ {piece.text} }}}}`: {place.problem}", place.advice, within=piece.line
            )
        for at, text in _texts(run):
            yield from self._values((*path, *at), text, roots=(*ROOTS, SECRETS), earlier=earlier)
        kind, mutates = self._book.get("kind"), spot.step.get("mutates")
        if mutates is True or (kind == "mutate" and mutates is not False):
            yield from self._open_inputs(spot, run)

    def _open_inputs(self, spot: _Spot, run: str | list[str]) -> Iterator[Mistake]:
        """What anybody may write goes into no command that changes a host."""
        found = [piece.text for _, text in _texts(run) for piece in template.pieces(text) if piece.is_value]
        for name in sorted({each.split(".")[1] for each in _names(found) if each.startswith("inputs.")}):
            rule = self._inputs.get(name)
            if not isinstance(rule, dict) or rule.get("type", "string") != "string":
                continue
            if not rule.get("pattern") and not rule.get("choices"):
                what = f"`inputs.{name}` goes into a command that changes the host (step `{spot.id}`), and may be any text"
                yield self._at(("inputs", name), what, "give it a `pattern` or `choices`")

    def _values(
        self, path: Path, text: str, *, roots: Collection[str], earlier: Collection[str]
    ) -> Iterator[Mistake]:
        """Check each `{{ expression }}` of a text."""
        try:
            found = template.pieces(text)
        except template.TemplateError as error:
            yield self._at(path, error.what, error.advice)
            return
        for piece in found:
            if piece.is_value:
                yield from self._expression(path, piece.text, roots, earlier, within=piece.line)

    def _expression(
        self,
        path: Path,
        expression: str,
        roots: Collection[str],
        earlier: Collection[str],
        within: int | None = None,
    ) -> Iterator[Mistake]:
        try:
            used = sorted(template.names(expression))
        except template.TemplateError as error:
            yield self._at(path, error.what, error.advice, within=within)
            return
        for name in used:
            parts = name.split(".")
            if parts[0] == SECRETS:
                fault = self._secret(expression, parts[-1], roots)
            else:
                fault = self._name(parts, roots, earlier)
            if fault:
                yield self._at(path, *fault, within=within)

    def _secret(self, expression: str, name: str, roots: Collection[str]) -> tuple[str, str] | None:
        """Say what is wrong with a secret: where it stands, how it is written, its name."""
        if SECRETS not in roots:
            return "no secret may stand here", "write it in `run`, or in an argument that takes one (headers)"
        if secret.reference(expression) is None:
            hint = "write {{ secrets.NAME }}, and what belongs before or behind it outside the braces"
            return "a secret stands alone in its braces", hint
        if self._secrets is not None and name not in self._secrets:
            hint = near(name, self._secrets) or "name it under `secrets:` in sickbay.yaml"
            return f"there is no secret `{name}`", hint
        return None

    def _name(
        self, parts: list[str], roots: Collection[str], earlier: Collection[str]
    ) -> tuple[str, str] | None:
        """Say what is wrong with a name, and what was meant."""
        root = parts[0]
        if root not in roots:
            if root in AFTERWARDS:
                return (
                    f"`{root}` is known in `until` and `expect` only",
                    "write `steps.<id>` for an earlier step",
                )
            return f"unknown name `{root}`", self._known(root, roots)
        if len(parts) < 2:
            return None
        named = parts[1]
        if root == "inputs" and named not in self._inputs:
            return f"there is no input `{named}`", near(named, self._inputs) or "declare it under `inputs`"
        if root in ATTRIBUTES and named not in ATTRIBUTES[root]:
            return f"`{root}` has no `{named}`", ELSEWHERE.get(root) or self._known(named, ATTRIBUTES[root])
        if root == "steps":
            if named not in self._ids:
                return f"there is no step `{named}`", near(named, self._ids) or "give the step this `id`"
            if named not in earlier:
                hint = "of this step itself write `result`, in `until` and `expect`"
                return f"step `{named}` has not run when this is read", hint
            if len(parts) > 2 and parts[2] not in STEP_ATTRIBUTES:
                hint = near(parts[2], STEP_ATTRIBUTES) or f"what it found is in `steps.{named}.facts`"
                return f"a step has no `{parts[2]}`", hint
        return None

    @staticmethod
    def _known(word: str, known: Collection[str]) -> str:
        return near(word, known) or f"known: {', '.join(sorted(known))}"


def _id(section: str, index: int, step: dict[str, Any]) -> str:
    return str(step.get("id", f"{section}_{index + 1}"))


def _texts(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text in a tree, with its path."""
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _texts(value, (*path, key))


def _names(expressions: list[str]) -> Iterator[str]:
    for expression in expressions:
        try:
            yield from (name for name in template.names(expression) if re.fullmatch(r"\w+\..+", name))
        except template.TemplateError:
            continue  # told where the expression is checked
