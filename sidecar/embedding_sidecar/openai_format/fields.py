"""Readers of the fields of a JSON object, whose refusals name the field's path."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import orjson

from embedding_sidecar import errors

_HALF: Final = re.compile("[\ud800-\udfff]")

T = TypeVar("T")

Read = Callable[[Any, str], T]
"""Reads a value; the text is the field's path, for the refusal."""


def of(body: bytes) -> dict[str, Any]:
    """The fields of a body. The last field of a name counts, as with OpenAI.

    Raises:
        errors.Rejected: it is not a JSON object.
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(body, error) from None
    if not isinstance(raw, dict):
        raise errors.Rejected("The body must be a JSON object.")
    return raw


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> errors.Rejected:
    """The error of a body; it names a text with half a surrogate pair.

    JavaScript's `slice` makes such texts; JSON can escape them, and UTF-8 cannot hold them.
    """
    found = None
    if "surrogate" in str(error) or b"\\u" in body or b"\xed" in body:
        try:
            found = _half_pair(json.loads(body.decode("utf-8", "surrogatepass")), "")
        except (ValueError, RecursionError):
            found = None
    if found is None:
        return errors.Rejected(f"The body is not valid JSON: {error}")
    return errors.Rejected(
        f"'{found}' holds half of a surrogate pair, which is not valid Unicode: "
        "the text was cut within a character.",
        param=found,
    )


def _half_pair(value: Any, path: str) -> str | None:
    """The path of the first text, two levels deep, that UTF-8 cannot hold."""
    if isinstance(value, str):
        return path if _HALF.search(value) else None
    if isinstance(value, dict) and not path:
        return next(filter(None, (_half_pair(it, key) for key, it in value.items())), None)
    if isinstance(value, list) and path:
        each = (_half_pair(it, f"{path}[{at}]") for at, it in enumerate(value) if type(it) is str)
        return next(filter(None, each), None)
    return None


def optional(raw: Mapping[str, Any], key: str, read: Read[T], *, within: str = "") -> T | None:
    """The value of a key; None where it is absent or null.

    Raises:
        errors.Rejected: `read` refuses the value; `param` is its path.
    """
    value = raw.get(key)
    return None if value is None else read(value, f"{within}{key}")


def boolean(value: Any, path: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise errors.Rejected(f"'{path}' must be true or false.", param=path)
    return value


def text(*, most: int) -> Read[str]:
    """A string of 1 to `most` characters."""

    def read(value: Any, path: str) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= most:
            raise errors.Rejected(
                f"'{path}' must be a string of 1 to {most} characters.", param=path
            )
        return value

    return read


def one_of(*allowed: str) -> Read[str]:
    """One of these words."""

    def read(value: Any, path: str) -> str:
        if value not in allowed:
            words = " or ".join(f"'{word}'" for word in allowed)
            raise errors.Rejected(f"'{path}' must be {words}.", param=path)
        return str(value)

    return read


def integer(*, least: int, most: int) -> Read[int]:
    """A whole number from `least` to `most`."""

    def read(value: Any, path: str) -> int:
        number = whole(value)
        if number is None or not least <= number <= most:
            raise errors.Rejected(
                f"'{path}' must be an integer between {least} and {most}.", param=path
            )
        return number

    return read


def whole(value: Any) -> int | None:
    """A JSON value as a whole number, also if it is written 512.0; None if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None
