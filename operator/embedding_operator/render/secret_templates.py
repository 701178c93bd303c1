"""Values of a Secret made by templates: a closed part of Go's, as in External Secrets.

    {{ .username }}   {{ index . "api-key" }}   {{ printf "%s:%s" .user .password | b64enc }}

Fields, string literals, pipes, `{{-`, `-}}` and the functions below; no conditions, loops,
variables, comments or further templates. A value is never read as a template. No error holds a
value, or more of a template than the name of a function or of a key
(docs/decisions/042-secrets-for-applications.md).
"""

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote_plus

RESULT_BYTES: Final = 1_048_576
"""The most bytes of a result and of each step: a Secret holds no more."""
WORK_BYTES: Final = 8 * 1_048_576
"""The most bytes that the functions of all templates of a Secret take."""
_NAME_CHARACTERS: Final = 63

_OPEN: Final = re.compile(r"\{\{(?:-(?=[ \t\r\n]))?")
_CLOSE: Final = re.compile(r"(?:(?<=[ \t\r\n])-)?\}\}")
_TOKEN: Final = re.compile(
    r'(?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`)'
    r"|\.(?P<field>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<function>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>[|.])"
)
_ENDS: Final = re.compile(r"(?=[ \t\r\n|]|-?\}\}|\Z)")
_BLANK: Final = " \t\r\n"
_SPACES: Final = re.compile(r"[ \t\r\n]*")
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_VERB: Final = re.compile(r"%(.?)", re.DOTALL)
# White_Space of Unicode, as in Go; str.strip() takes U+001C to U+001F for white space too.
_WHITE_SPACE: Final = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
)


class TemplateError(Exception):
    """A template cannot be read, or not be filled in; the message may be shown to anybody.

    `missing` is the key that the values lack, if that is the reason.
    """

    def __init__(self, message: str, *, missing: str | None = None) -> None:
        super().__init__(message)
        self.missing = missing


class _Field(NamedTuple):
    name: str


_Operand = bytes | _Field


class _Call(NamedTuple):
    """A function with its arguments; without a function, the only argument is the result."""

    function: str | None
    arguments: tuple[_Operand, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read: literal text, and pipelines of calls."""

    parts: tuple[bytes | tuple[_Call, ...], ...]


@dataclass(slots=True)
class Budget:
    """The bytes that the templates of one Secret may still take."""

    left_bytes: int = WORK_BYTES

    def take(self, arguments: Iterable[bytes]) -> None:
        """Count the arguments of a call.

        Raises:
            TemplateError: the templates take too many.
        """
        self.left_bytes -= sum(map(len, arguments))
        if self.left_bytes < 0:
            raise TemplateError(f"the templates of a Secret take more than {WORK_BYTES} bytes")


# --- functions


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise TemplateError("takes text, and the value is not UTF-8") from None


def _b64dec(value: bytes) -> bytes:
    try:
        # Go's decoder skips line breaks, and nothing else.
        return base64.b64decode(re.sub(rb"[\r\n]", b"", value), validate=True)
    except binascii.Error:
        raise TemplateError("takes base64, and the value is none") from None


def _to_json(value: bytes) -> bytes:
    made = json.dumps(_text(value), ensure_ascii=False)
    for character in "<>&\u2028\u2029":  # escaped by Go's encoding/json
        made = made.replace(character, f"\\u{ord(character):04x}")
    return made.encode()


def _quote(value: bytes) -> bytes:
    """Go's strconv.Quote."""
    named = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
    named |= {'"': '"', "\\": "\\"}
    return f'"{"".join(_quoted(it, named) for it in _text(value))}"'.encode()


def _quoted(character: str, named: Mapping[str, str]) -> str:
    if character in named:
        return f"\\{named[character]}"
    if character == " " or unicodedata.category(character)[0] in "LMNPS":
        return character
    code = ord(character)
    if code < 0x80:  # noqa: PLR2004 - the end of ASCII
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - of 4 digits


def _replace(old: bytes, new: bytes, value: bytes) -> bytes:
    if old:
        grown = len(value) + value.count(old) * (len(new) - len(old))
    else:
        grown = len(value) + len(new) * (len(_text(value)) + 1)
    if grown > RESULT_BYTES:
        raise TemplateError(f"makes more than {RESULT_BYTES} bytes")
    if old:
        return value.replace(old, new)
    # The new text stands before each character and at the end, as in Go.
    return new.join([b"", *(it.encode() for it in _text(value)), b""])


def _printf(form: bytes, *values: bytes) -> bytes:
    given = iter(values)
    made = _VERB.sub(
        lambda it: "%" if it[1] == "%" else next(given).decode(errors="surrogateescape"),
        form.decode(),
    )
    return made.encode(errors="surrogateescape")


_FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., bytes]]]] = {
    "b64dec": (1, _b64dec),
    "b64enc": (1, base64.b64encode),
    "quote": (1, _quote),
    "replace": (3, _replace),
    "toJson": (1, _to_json),
    "toString": (1, bytes),
    "trim": (1, lambda value: _text(value).strip(_WHITE_SPACE).encode()),
    "trimPrefix": (2, lambda prefix, value: value.removeprefix(prefix)),
    "trimSuffix": (2, lambda suffix, value: value.removesuffix(suffix)),
    "urlquery": (1, lambda value: quote_plus(value).encode()),
}
"""The functions, and how many values each takes; a piped value is the last."""
FUNCTIONS: Final = tuple(sorted({*_FUNCTIONS, "index", "printf"}))
"""The names of all functions."""


# --- read


def read(text: str) -> Template:
    """A template from its text.

    Raises:
        TemplateError: it is not one, or has more than the closed part of Go's templates.
    """
    if not text.isprintable() and any("\ud800" <= it <= "\udfff" for it in text):
        raise TemplateError("is not Unicode")
    parts: list[bytes | tuple[_Call, ...]] = []
    place, trimmed = 0, False
    while (opened := _OPEN.search(text, place)) is not None:
        before = text[place : opened.start()]
        parts.append(_literal(before, left=trimmed, right=opened[0].endswith("-")))
        pipeline, place, trimmed = _action(text, opened.end())
        parts.append(pipeline)
    parts.append(_literal(text[place:], left=trimmed, right=False))
    return Template(tuple(parts))


def _literal(text: str, *, left: bool, right: bool) -> bytes:
    """The text, without white space at the sides that the actions beside it trim."""
    text = text.lstrip(_BLANK) if left else text
    return (text.rstrip(_BLANK) if right else text).encode()


def _action(text: str, place: int) -> tuple[tuple[_Call, ...], int, bool]:
    """The pipeline that begins at a place, its end, and whether it trims what follows."""
    began = place
    calls: list[list[re.Match[str]]] = [[]]
    while True:
        blank = _SPACES.match(text, place)
        place = blank.end() if blank is not None else place
        closed = _CLOSE.match(text, place)
        if closed is not None:
            break
        found = _TOKEN.match(text, place)
        if found is None or (found["sign"] != "|" and not _ENDS.match(text, found.end())):
            raise _misread(place, "cannot be read here" if place < len(text) else "lacks }}")
        place = found.end()
        if found["sign"] == "|":
            calls.append([])
        else:
            calls[-1].append(found)
    pipeline = tuple(_call(it, began, piped=number > 0) for number, it in enumerate(calls))
    return pipeline, closed.end(), closed[0].startswith("-")


def _call(found: list[re.Match[str]], began: int, *, piped: bool) -> _Call:
    if not found:
        raise _misread(began, "has an empty command")
    first, *rest = found
    name = first["function"]
    if name is None:
        if rest or piped:
            raise _misread(first.start(), "has a value where a function belongs")
        return _Call(None, (_operand(first),))
    if name == "index":
        return _index(first, rest, piped=piped)
    if name not in FUNCTIONS:
        shown = name[:_NAME_CHARACTERS]
        raise _misread(first.start(), f"names {shown}, and there are {', '.join(FUNCTIONS)} only")
    arguments = tuple(map(_operand, rest))
    needed = 1 + _verbs(first, arguments) if name == "printf" else _FUNCTIONS[name][0]
    if len(arguments) + piped != needed:
        raise _misread(
            first.start(), f"gives {name} {len(arguments) + piped} values; it takes {needed}"
        )
    return _Call(name, arguments)


def _index(first: re.Match[str], rest: list[re.Match[str]], *, piped: bool) -> _Call:
    if not piped and [it["sign"] or "" for it in rest] == [".", ""] and rest[1]["text"]:
        return _Call(None, (_Field(_string(rest[1]).decode()),))
    raise _misread(first.start(), 'has index in another form than index . "KEY"')


def _verbs(first: re.Match[str], arguments: tuple[_Operand, ...]) -> int:
    """The number of values that the form of a printf takes."""
    if not arguments or not isinstance(arguments[0], bytes):
        raise _misread(first.start(), "has printf without a form in quotation marks")
    verbs = _VERB.findall(arguments[0].decode())
    if not set(verbs) <= {"s", "v", "%"}:
        raise _misread(first.start(), "has a form of printf with another verb than %s, %v and %%")
    return sum(it != "%" for it in verbs)


def _operand(found: re.Match[str]) -> _Operand:
    if found["field"] is not None:
        return _Field(found["field"])
    if found["text"] is not None:
        return _string(found)
    raise _misread(found.start(), "has a function or a dot where a value belongs")


def _string(found: re.Match[str]) -> bytes:
    inner: str = found["text"][1:-1]
    if found["text"].startswith("`"):
        return inner.encode()
    if not all(it in _ESCAPES for it in _ESCAPE.findall(inner)):
        raise _misread(found.start(), r"has another escape than \n, \r, \t, \" and \\")
    return _ESCAPE.sub(lambda it: _ESCAPES[it[1]], inner).encode()


def _misread(place: int, what: str) -> TemplateError:
    return TemplateError(f"the action at character {place + 1} {what}")


# --- fill in


def fill(template: Template, values: Mapping[str, bytes], *, budget: Budget) -> bytes:
    """The template with these values.

    Raises:
        TemplateError: a key is missing, a function does not take a value, or the result is too
            large.
    """
    made = bytearray()
    for part in template.parts:
        made += part if isinstance(part, bytes) else _piped(part, values, budget)
        if len(made) > RESULT_BYTES:
            raise TemplateError(f"makes more than {RESULT_BYTES} bytes")
    return bytes(made)


def _piped(calls: tuple[_Call, ...], values: Mapping[str, bytes], budget: Budget) -> bytes:
    last: tuple[bytes, ...] = ()
    for name, arguments in calls:
        given = (*(_value(it, values) for it in arguments), *last)
        budget.take(given)
        if name is None:
            last = given
            continue
        try:
            last = (_printf(*given) if name == "printf" else _FUNCTIONS[name][1](*given),)
        except TemplateError as error:
            raise TemplateError(f"{name} {error}") from None
        if len(last[0]) > RESULT_BYTES:
            raise TemplateError(f"{name} makes more than {RESULT_BYTES} bytes")
    return last[0]


def _value(operand: _Operand, values: Mapping[str, bytes]) -> bytes:
    if isinstance(operand, bytes):
        return operand
    if operand.name not in values:
        raise TemplateError(f"there is no key {operand.name}", missing=operand.name)
    return values[operand.name]
