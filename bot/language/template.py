"""Expressions and `{{ values }}` of runbooks: typed, strict, and data only.

Jinja2's expression language without its statements: a runbook has `when` and `until`, so no text needs `{% if %}`, and
without loops no template runs long. What an expression may call is a list of names; what it gives is plain data of a
capped size; a name nobody knows is an error, never an empty text. In commands a value becomes a shell variable: the text
that the shell reads is exactly what the author wrote. `{{ secrets.NAME }}` gives a reference, and only that does.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.environment import TemplateExpression
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser

from bot.language.quoting import RESERVED, Place, Shell
from bot.language.sandbox import Sandbox, TemplateError, plain, short, text
from bot.secrets import secret
from bot.wording import near, show

__all__ = [
    "Piece",
    "TemplateError",
    "Unknown",
    "check",
    "command",
    "evaluate",
    "names",
    "pieces",
    "problems",
    "truth",
    "value",
]

MAX_EXPRESSION = 4000
"""Characters of one expression."""
MAX_JOINED = 32
"""Texts that one expression may put together with `~`."""


class Unknown(TemplateError):
    """A name that is not in the context: not known yet, or never."""

    def __init__(self, name: str, what: str, advice: str = "") -> None:
        super().__init__(what, advice=advice)
        self.name = name
        """Dotted, as far as it could be told."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: literal, or the expression inside `{{ }}`."""

    text: str
    is_value: bool
    line: int
    """Lines below the first."""


def check(expression: str) -> None:
    """Raise TemplateError when this is no expression."""
    _compiled(expression)


def names(expression: str) -> set[str]:
    """Return what the expression reads from the context, as dotted paths: `steps.probe.failed`."""
    return {".".join(map(str, path)) for path in _paths(expression)}


def evaluate(expression: str, context: Mapping[str, Any]) -> Any:
    """Return what a bare expression gives: text, number, boolean, None, list or dict.

    Raises:
        Unknown: for a name that the context does not have.
        TemplateError: for everything else that is wrong.

    """
    compiled = _compiled(expression)
    try:
        return plain(compiled(**context))
    except jinja2.UndefinedError as error:
        raise _unknown(expression, context, str(error)) from error
    except TemplateError as error:
        raise TemplateError(f"`{short(expression)}`: {error.what}", advice=error.advice) from error
    except SecurityError as error:
        raise TemplateError(f"`{short(expression)}` is not allowed: {error}") from error
    except (
        jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise TemplateError(f"`{short(expression)}` cannot be worked out: {error}") from error


def truth(expression: str, context: Mapping[str, Any]) -> bool:
    """Is the expression true, in Python's sense of true?"""
    return bool(evaluate(expression, context))


def value(data: Any, context: Mapping[str, Any]) -> Any:
    """Fill a tree of arguments; a text that is one single `{{ expression }}` becomes what it gives, with its type."""
    if isinstance(data, Mapping):
        return {key: value(each, context) for key, each in data.items()}
    if isinstance(data, list | tuple):
        return [value(each, context) for each in data]
    if not isinstance(data, str):
        return data
    found = pieces(data)
    written = [piece for piece in found if piece.is_value or piece.text.strip()]
    if len(written) == 1 and written[0].is_value:
        return _given(written[0].text, context)
    return "".join(
        text(_given(piece.text, context), piece.text) if piece.is_value else _own(piece.text)
        for piece in found
    )


def command(run: str | list[str], context: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return shell text with `${sickbay_1}` … in place of its values, and the values by these names.

    Raises:
        TemplateError: for a value that is no text, or stands where none may.

    """
    shell, line, env, numbers = Shell(), "", dict[str, str](), dict[str, int]()
    values: list[tuple[str, str]] = []
    for piece in _shell_pieces(run):
        if not piece.is_value:
            shell.literal(piece.text)
            line += piece.text
            continue
        given = text(_given(piece.text, context), piece.text)
        shell.value(given)
        values.append((given, piece.text))
        name = f"sickbay_{numbers.setdefault(piece.text, len(numbers) + 1)}"
        env[name] = given
        line += f"${{{name}}}"
    for place, (given, expression) in zip(shell.places(), values, strict=True):
        _guard(place, given, expression)
    return line, env


def problems(run: str | list[str]) -> Iterator[tuple[Piece, Place]]:
    """Yield each value of a command that stands where none may, for the linter.

    Raises:
        TemplateError: when the text itself is wrong.

    """
    shell = Shell()
    values: list[Piece] = []
    for piece in _shell_pieces(run):
        if piece.is_value:
            shell.value("")
            values.append(piece)
        else:
            shell.literal(piece.text)
    for piece, place in zip(values, shell.places(), strict=True):
        if place.problem:
            yield piece, place


def pieces(template: str) -> list[Piece]:
    """Split a text into what is literal and what stands inside `{{ }}`.

    Raises:
        TemplateError: for statements (`{% %}`) and braces that are not closed.

    """
    found: list[Piece] = []
    inside: str | None = None
    try:
        for line, token, source in _environment().lex(template):
            if token in ("block_begin", "raw_begin"):
                raise TemplateError(
                    f"statements like {source} are not read here",
                    advice="use `when`, or {{ 'a' if condition else 'b' }}",
                )
            if token == "data":  # noqa: S105
                found.append(Piece(source, is_value=False, line=line - 1))
            elif token == "variable_begin":  # noqa: S105
                inside = ""
            elif token == "variable_end" and inside is not None:  # noqa: S105
                expression = inside.strip()
                found.append(Piece(expression, is_value=True, line=line - 1))
                inside = None
            elif inside is not None:
                inside += source
    except jinja2.TemplateSyntaxError as error:
        closed = template.count("{{") <= template.count("}}")
        what = f"not a template: {error.message}" if closed else "`{{` is never closed with `}}`"
        raise TemplateError(what, advice=_braces(template)) from error
    if inside is not None:
        raise TemplateError("`{{` is never closed with `}}`", advice=_braces(template))
    return found


def _shell_pieces(run: str | list[str]) -> Iterator[Piece]:
    """Yield the pieces of a command; of a list each argument quoted on its own."""
    if isinstance(run, str):
        yield from pieces(run)
        return
    for index, argument in enumerate(run):
        if index:
            yield Piece(" ", is_value=False, line=0)
        for piece in pieces(argument) or [Piece("", is_value=False, line=0)]:
            if piece.is_value:
                yield Piece('"', is_value=False, line=0)
                yield piece
                yield Piece('"', is_value=False, line=0)
            else:
                yield Piece(_quote(piece.text, first=index == 0), is_value=False, line=0)


def _quote(argument: str, *, first: bool) -> str:
    """Quote an argument; the first word also where bare it would be an assignment or a word of the shell's own."""
    quoted = shlex.quote(argument)
    bare_would_be_read = quoted == argument and ("=" in argument or argument in RESERVED)
    return f"'{argument}'" if first and bare_would_be_read else quoted


def _given(expression: str, context: Mapping[str, Any]) -> Any:
    """Return what an expression gives: the reference to a secret, or a value that holds none and begins none."""
    return secret.reference(expression) or _genuine(evaluate(expression, context), expression)


def _genuine(given: Any, expression: str) -> Any:
    inside = (*given.keys(), *given.values()) if isinstance(given, dict) else given
    if isinstance(given, dict | list):
        for each in inside:
            _genuine(each, expression)
    elif isinstance(given, str) and secret.forged(given):
        raise TemplateError(
            f"the value of `{short(expression)}` holds `‹secret`, which only a reference to a secret may",
            advice="look who wrote it: a value from outside cannot name a secret",
        )
    return given


def _own(literal: str) -> str:
    """Return what the author wrote around values."""
    if secret.forged(literal):
        raise TemplateError("`‹secret` cannot be written", advice="write {{ secrets.NAME }}")
    return literal


def _guard(place: Place, given: str, expression: str) -> None:
    where = f"the value of `{short(expression)}`"
    if place.problem:
        raise TemplateError(f"{where}: {place.problem}", advice=place.advice)
    if "\0" in given:
        raise TemplateError(f"{where} holds a NUL, which no shell variable can carry")
    if given.encode("utf-8", "replace").decode() != given:
        raise TemplateError(f"{where} is not UTF-8")
    if place.opens_word and given.startswith("-"):
        raise TemplateError(
            f"{where} begins with `-` and would be read as an option: {show(given)}",
            advice="put `--` before it in the command, or a text in front of it in the same word",
        )


@lru_cache(maxsize=1)
def _environment() -> Sandbox:
    return Sandbox()


@lru_cache(maxsize=2048)
def _compiled(expression: str) -> TemplateExpression:
    if len(expression) > MAX_EXPRESSION:
        raise TemplateError(
            f"the expression is longer than {MAX_EXPRESSION} characters", advice="split it over steps"
        )
    if not expression.strip():
        raise TemplateError("the expression is empty")
    try:
        tree = Parser(_environment(), expression, state="variable").parse_expression()
        if sum(len(each.nodes) for each in _concats(tree)) > MAX_JOINED:
            raise TemplateError(
                f"`{short(expression)}` joins more than {MAX_JOINED} texts", advice="split it over steps"
            )
        return _environment().compile_expression(expression, undefined_to_none=False)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"`{short(expression)}` is not an expression: {error.message}", advice=_slip(error, expression)
        ) from error
    except (SyntaxError, RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise TemplateError(
            f"`{short(expression)}` is too intricate", advice="split it over steps"
        ) from error


def _concats(tree: nodes.Node) -> Iterator[nodes.Concat]:
    if isinstance(tree, nodes.Concat):
        yield tree
    yield from tree.find_all(nodes.Concat)


def _slip(error: jinja2.TemplateSyntaxError, expression: str) -> str:
    """Guess what was meant."""
    if expression.startswith("."):
        return _braces(f"{{{{{expression}}}}}")
    if missing := re.fullmatch(r"No filter named '(.*)'\.", error.message or ""):
        return (
            near(missing[1], _environment().filters)
            or f"there is: {', '.join(sorted(_environment().filters))}"
        )
    if missing := re.fullmatch(r"No test named '(.*)'\.", error.message or ""):
        return near(missing[1], _environment().tests)
    if "{{" in expression:
        return "write the expression without {{ }}"
    if re.search(r"&&|\|\||!(?!=)", expression):
        return "write and, or, not"
    if re.search(r"(?<![=!<>])=(?!=)", expression):
        return "compare with =="
    return ""


def _braces(template: str) -> str:
    if go := re.search(r"\{\{ *[.a-z]+[^}]*\}\}", template):
        return f"for braces that another program shall read, write {{{{ '{go[0]}' }}}} inside double quotes"
    return ""


def _paths(expression: str) -> set[tuple[str | int, ...]]:
    _compiled(expression)
    tree = Parser(_environment(), expression, state="variable").parse_expression()
    found: set[tuple[str | int, ...]] = set()

    def walk(node: nodes.Node) -> None:
        if path := _path(node):
            if path[0] not in _environment().globals:
                found.add(path)
            return
        for child in node.iter_child_nodes():
            walk(child)

    walk(tree)
    return found


def _path(node: nodes.Node) -> tuple[str | int, ...]:
    """Read `a.b["c"]` as a path; empty for anything else."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr) and (before := _path(node.node)):
        return (*before, node.attr)
    if (
        isinstance(node, nodes.Getitem)
        and isinstance(node.arg, nodes.Const)
        and isinstance(node.arg.value, str | int)
        and (before := _path(node.node))
    ):
        return (*before, node.arg.value)
    return ()


def _unknown(expression: str, context: Mapping[str, Any], message: str) -> Unknown:
    """Find which name the context does not have, and what it has instead."""
    culprit = (re.findall(r"'([^']*)'", message) or [""])[-1]
    missing: list[tuple[str, list[str]]] = []
    for path in sorted(_paths(expression), key=str):
        here: Any = context
        for depth, part in enumerate(path):
            inside = (
                here if isinstance(here, Mapping) else dict(enumerate(here)) if isinstance(here, list) else {}
            )
            if part in inside:
                here = inside[part]
            elif isinstance(here, Mapping | list):
                known = [str(key) for key in here] if isinstance(here, Mapping) else []
                missing.append((".".join(map(str, path[: depth + 1])), known))
                break
            else:
                break
    if not missing:
        return Unknown("", f"`{short(expression)}` gives nothing: {message}")
    name, known = next((each for each in missing if each[0].rpartition(".")[2] == culprit), missing[0])
    advice = near(name.rpartition(".")[2], known) or (
        f"known here: {', '.join(sorted(known)[:12])}" if known else ""
    )
    return Unknown(name, f"`{name}` is not known", advice)
