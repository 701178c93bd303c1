"""Types of JSON fields: a check beside a type states what the type cannot say of its values.

Readers and checks take a value and its path, return the value to keep, and raise InvalidDocument;
a check is given values of the right type.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

MAX_COUNT: Final = 10**12
"""No quota is larger; the same bound as in the resource."""

Read = Callable[[Any, str], Any]


class InvalidDocument(ValueError):  # noqa: N818 - an adjective says what is wrong with what
    """A document this reader cannot obey. `path` names the field, `str()` is the whole message."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


def check(holds: Callable[[Any], object], message: str) -> Read:
    """A check that refuses a value with `message` unless it holds."""

    def checked(value: Any, path: str) -> Any:
        if not holds(value):
            raise InvalidDocument(path, message)
        return value

    return checked


def one_of(*words: str) -> Read:
    """A check that the value is one of these words."""
    return check(words.__contains__, f"must be one of {' '.join(words)}")


def string(value: object, path: str) -> str:
    """A string of valid Unicode."""
    if not isinstance(value, str):
        raise InvalidDocument(path, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        # JSON can escape half a surrogate pair, which no key, header or file name can hold.
        raise InvalidDocument(path, "must be valid Unicode") from None
    return value


def items(read: Read, value: object, path: str, *, most: int | None = None) -> tuple[Any, ...]:
    """The first items of a list, all without `most`, each as `read` takes it."""
    if not isinstance(value, list):
        raise InvalidDocument(path, "must be a list")
    return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(value[:most]))


def _is_number(value: object) -> bool:
    # Python counts True and False as integers.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_printable(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value


READERS: Final[Mapping[type, Read]] = MappingProxyType(
    {
        str: string,
        int: check(lambda it: _is_number(it) and isinstance(it, int), "must be an integer"),
        float: check(_is_number, "must be a number"),
        bool: check(lambda it: isinstance(it, bool), "must be true or false"),
    }
)
"""The reader of each type of JSON."""

Text = Annotated[str, check(bool, "must not be empty")]
Word = Annotated[Text, check(_is_printable, "must be printable ASCII without spaces")]
"""A string that can stand in a header of an answer; the resource has the same bounds."""
FileName = Annotated[
    Text, check(lambda it: "/" not in it and not it.startswith("."), "must be a plain file name")
]
Url = Annotated[
    Word,
    check(lambda it: it.startswith(("https://", "http://")), "must start with https:// or http://"),
    lambda value, _: value.rstrip("/"),
]
Count = Annotated[
    int, check(lambda it: 0 <= it <= MAX_COUNT, f"must lie between 0 and {MAX_COUNT}")
]
Positive = Annotated[Count, check(lambda it: it >= 1, "must be at least 1")]
