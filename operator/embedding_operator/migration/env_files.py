r"""A .env file as values: literal, and refused where a line is ambiguous.

There is no standard: shells, Docker and the dotenv libraries differ, and a migration must never
change a value silently. So the grammar is small, and a line outside it is an error with its number,
never a guess:

    NAME=value             to the end of the line, without blanks around it and without ` # comment`
    NAME='value'           every character as it is, line breaks too
    NAME="value"           as well, but for \n \r \t \" and \\; any other backslash is itself
    export NAME=value      as NAME=value
    # comment, blank line  nothing

`$` is a character like any other: nothing is interpolated. Names have ASCII letters, digits, `_`,
`-` and `.`, and begin with a letter or `_`. Text is UTF-8, with or without a byte order mark; lines
end in LF or CRLF, and CRLF inside quotes is LF.
"""

import re
from collections.abc import Callable
from typing import Final

from embedding_operator.migration.refusal import Refused

_NOTHING: Final = re.compile(r"[ \t]*(?:#[^\n]*)?\n")
"""The rest of a line without a value."""
_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COMMENT: Final = re.compile(r"[ \t]#")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_DISPUTED: Final = frozenset("$`\n")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


def parse(raw: bytes, *, place: str) -> dict[str, str]:
    """The values by name, in the order of the file; each error begins with `place`.

    Raises:
        Refused: a line is outside the grammar; the text has its number, and nothing that it holds.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Not the error itself, which carries the whole file.
        line = raw.count(b"\n", 0, error.start) + 1
        raise Refused(f"{place}, line {line}: is not UTF-8") from None
    text = text.replace("\r\n", "\n")
    for character, told in (("\r", "a carriage return without a line feed"), ("\0", "a NUL")):
        if character in text:
            raise Refused(f"{place}, line {_line(text, text.index(character))}: holds {told}")
    return _entries(f"{text}\n", place)


def _entries(text: str, place: str) -> dict[str, str]:
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    position = 0
    while position < len(text):
        nothing = _NOTHING.match(text, position)
        if nothing:
            position = nothing.end()
            continue
        where = f"{place}, line {_line(text, position)}"
        named = _NAME.match(text, position)
        if not named:
            raise Refused(f"{where}: is neither NAME=value nor a comment")
        name = named[1]
        if name in values:
            raise Refused(f"{where}: {name} is on line {lines[name]} already")
        values[name], position = _value(text, named.end(), f"{where}: {name}")
        lines[name] = _line(text, named.start(1))
    return values


def _value(text: str, start: int, where: str) -> tuple[str, int]:
    """A value, and where the next line begins."""
    quote = text[start : start + 1]
    if quote in {"'", '"'}:
        quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, start)
        if not quoted:
            raise Refused(f"{where}: the quote is not closed")
        rest = _NOTHING.match(text, quoted.end())
        if not rest:
            raise Refused(f"{where}: there is text after the closing quote")
        value = quoted[1] if quote == "'" else _ESCAPE.sub(_unescaped(where), quoted[1])
        return value, rest.end()
    if quote in {"#", "`"}:
        raise Refused(f"{where}: a value that begins with {quote} needs quotes")
    plain = text[start : text.find("\n", start)]
    return _COMMENT.split(plain, maxsplit=1)[0].strip(" \t"), start + len(plain) + 1


def _unescaped(where: str) -> Callable[[re.Match[str]], str]:
    def replacement(escape: re.Match[str]) -> str:
        if escape[1] in _DISPUTED:
            raise Refused(
                f"{where}: a backslash before $, ` or a line break, in double quotes, is read in"
                " two ways; use single quotes"
            )
        return _ESCAPES.get(escape[1], escape[0])

    return replacement


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
