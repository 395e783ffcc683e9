"""How secrets look: the forms that a known one is commonly written in, and the shapes by which an unknown one is told.

The shapes are few, because what is no secret must stay readable: tokens with a prefix of their maker's, what follows
`Bearer`, `password=` and their like, the password in a URL, private keys. A value that is a reference (`$NAME`,
`{{ … }}`) or a plain number is none.
"""

import html
import json
import re
from base64 import b64encode
from collections.abc import Collection, Iterator
from os.path import commonprefix
from urllib.parse import quote, quote_plus

SHORTEST = 6
"""Characters; what is shorter would blank out ordinary words."""
_LINE = 8
"""Characters of a line of a secret from which it is told from ordinary lines."""
_LONG, _PIECE = 128, 64
"""Characters of a form that is searched piece by piece, and of a piece."""
_WIDTHS = 76, 64
"""Characters of a line of base64: by `base64` and by `openssl base64`."""
_WIDTH_HEX = 60
"""The same of `xxd -p`."""

SHAPES = r"""(?x)
    (-----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z))
  | \b(hf_[A-Za-z0-9]{8,} | xox[a-z]-[A-Za-z0-9-]{6,} | xapp-[A-Za-z0-9-]{6,} | sk-[A-Za-z0-9_-]{16,}
      | gh[oprsu]_[A-Za-z0-9]{20,} | glpat-[A-Za-z0-9_-]{16,} | nvapi-[A-Za-z0-9_-]{16,} | A[KS]IA[A-Z0-9]{12,})
  | (?i:\bbearer\s+)([A-Za-z0-9._~+/=-]{8,})
  | (?i:\bbasic\s+)((?=[A-Za-z+/]*?(?:[0-9=]|[a-z][A-Z]))[A-Za-z0-9+/=]{8,})
  | ://[^\s:/@]*:((?!\$)[^\s/@]+)@
  | (?i:(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key)["']?\s*[=:]\s*["']?|--(?<![a-z-]--)[a-z-]*(?:password|secret|token|key)\s+)
    ((?!\d+\b|-|\$[({A-Za-z_]|\{\{)[^\s"',;&<>]{6,})
"""
"""Each alternative has one group: what is hidden."""

OPEN = r"""(?x)
    \b((?:hf_|xox[a-z]-|xapp-|sk-|gh[oprsu]_|glpat-|nvapi-|A[KS]IA)[A-Za-z0-9_-]*)\Z
  | (?i:\b(?:bearer|basic)\s+)([A-Za-z0-9._~+/=-]*)\Z
  | ://[^\s:/@]*:([^\s/@]*)\Z
  | (?i:(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key)["']?\s*[=:]\s*["']?|--(?<![a-z-]--)[a-z-]*(?:password|secret|token|key)\s+)
    ([^\s"',;&<>]*)\Z
"""
"""The same shapes, of one line each, where a text ends in the middle of one."""
STOPS = " \t\r\n\"',;&<>"
"""What ends most of them."""

HINT = (
    r"-----begin |hf_|xox[a-z]-|xapp-|sk-|gh[oprsu]_|glpat-|nvapi-|akia|asia|bearer\s|basic\s|://[^\s:/@]*:|"
    r"(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key)[\"']?\s*[=:]|--(?<![a-z-]--)[a-z-]*(?:password|secret|token|key)\s"
)
"""What a text that holds one of the shapes also holds, in small letters; most texts do not, and this is found fast."""


def lines_of(secret: str) -> list[str]:
    """Return what is searched of a secret: itself, or those of its lines that are long enough to be its own."""
    lines = re.split(r"[\r\n]+", secret)
    if len(lines) == 1:
        return lines
    return [line for line in lines if len(line.strip()) >= _LINE and not line.startswith("-----")]


def forms(secret: str) -> set[str]:
    """Return all forms of a secret, none of which goes over the end of a line."""
    found = {form for line in lines_of(secret) for form in _written(line)}
    if "\n" in secret:
        found.add(b64encode(_bytes(secret)).decode())
    found.update(_wrapped(secret))
    return {piece for form in found for piece in _pieces(form) if len(piece) >= SHORTEST}


def tree(words: Collection[str]) -> str:
    """Write words as one pattern, in which those with the same beginning share it."""
    shared = commonprefix(list(words))  # noqa: RUF071 - letter by letter is what is wanted
    rest = {word[len(shared) :] for word in words}
    branches: dict[str, list[str]] = {}
    for word in sorted(rest - {""}):
        branches.setdefault(word[0], []).append(word)
    if not branches:
        return re.escape(shared)
    inner = "|".join(tree(branch) for branch in branches.values())
    return f"{re.escape(shared)}(?:{inner}){'?' if '' in rest else ''}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _written(value: str) -> Iterator[str]:
    """Write one line as it is, and as programs write it into URLs, JSON, shell text, markup and source."""
    yield value
    raw = _bytes(value)
    for encoded in (quote(raw, safe=""), quote(raw, safe="/"), quote_plus(raw)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), encoded)
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        yield escaped
        yield escaped.replace("/", "\\/")
        for signs in ("&<>\u2028\u2029", "&<>'"):  # as Go writes it, and as Jinja's `tojson` does
            yield escaped.translate({ord(sign): f"\\u{ord(sign):04x}" for sign in signs})
    yield repr(value)[1:-1]
    yield value.replace("'", "'\\''")
    yield value.replace("'", "'\"'\"'")
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)
    yield value.replace("'", "''")
    yield value.replace('"', '""')
    yield from _markup(value)
    yield from (raw.hex(), raw.hex().upper())
    for encoded in _base64(raw):
        yield encoded
        yield encoded.replace("+", "-").replace("/", "_")


def _markup(value: str) -> Iterator[str]:
    """Write it as HTML and XML are: quotes as they are, by name or by number, in the ways that libraries have."""
    plain = html.escape(value, quote=False)
    yield plain
    for single in ("&#39;", "&#x27;", "&apos;", "&#039;"):
        for double in ("&quot;", "&#34;"):
            yield (quoted := plain.replace("'", single).replace('"', double))
            yield quoted.replace("+", "&#43;")
    numbers = {ord(sign): f"&#{ord(sign)};" for sign in "&<>'\""}
    yield value.translate(numbers)


def _wrapped(secret: str) -> Iterator[str]:
    """Write it, and it with the line end of `echo`, in base64 and hex of several lines; yield the lines."""
    for raw in (_bytes(secret), _bytes(secret + "\n")):
        plain = b64encode(raw).decode()
        for text in (plain, plain.replace("+", "-").replace("/", "_")):
            yield from (line for width in _WIDTHS for line in _lines(text, width))
        yield from (line for text in (raw.hex(), raw.hex().upper()) for line in _lines(text, _WIDTH_HEX))


def _lines(text: str, width: int) -> list[str]:
    return [text[at : at + width] for at in range(0, len(text), width)] if len(text) > width else []


def _base64(raw: bytes) -> Iterator[str]:
    """Write it in base64, by itself and behind one or two other bytes: the letters that are its own alone."""
    for shift in range(3):
        text = b64encode(bytes(shift) + raw).decode()
        yield text[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]


def _pieces(form: str) -> list[str]:
    if len(form) <= _LONG:
        return [form]
    whole = range(0, len(form) - _PIECE, _PIECE)
    return [*(form[at : at + _PIECE] for at in whole), form[-_PIECE:]]
