"""Fields of a JSON object: each is read by a function that names the field in its error.

Each reader takes a value and its path, and raises InvalidDocument where the value is another.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

MAX_COUNT: Final = 10**12
"""No quota is larger; the same bound as in the resource."""

T = TypeVar("T")


class InvalidDocument(ValueError):  # noqa: N818 - an adjective says what is wrong with what
    """A document this reader cannot obey. `path` names the field, `str()` says the whole."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


_REQUIRED: Final = object()


class Object:
    """A JSON object that knows its path, for errors that name the field."""

    def __init__(self, raw: object, path: str) -> None:
        if not isinstance(raw, dict):
            raise InvalidDocument(path, "must be an object")
        self._raw: dict[str, Any] = raw
        self._path = path

    def get(self, key: str, read: Callable[[Any, str], T], *, default: Any = _REQUIRED) -> T:
        """The value of a key, as `read` takes it; `default` where the key is absent.

        Raises:
            InvalidDocument: it is absent and has no default, or `read` refuses it.
        """
        path = f"{self._path}.{key}" if self._path else key
        if key not in self._raw:
            if default is _REQUIRED:
                raise InvalidDocument(path, "is missing")
            return default  # type: ignore[no-any-return] # each caller's default is of its reader's type
        return read(self._raw[key], path)

    def child(self, key: str) -> "Object":
        """The object under a key; an empty one where the key is absent.

        Raises:
            InvalidDocument: it is no object.
        """
        path = f"{self._path}.{key}" if self._path else key
        return Object(self._raw.get(key, {}), path)


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


def text(value: object, path: str) -> str:
    """A string that is not empty."""
    text = string(value, path)
    if not text:
        raise InvalidDocument(path, "must not be empty")
    return text


def word(value: object, path: str) -> str:
    """Printable ASCII without spaces, so that it can be in a header."""
    # It goes into headers of an answer; the resource knows the same rule.
    word = text(value, path)
    if not (word.isascii() and word.isprintable()) or " " in word:
        raise InvalidDocument(path, "must be printable ASCII without spaces")
    return word


def file_name(value: object, path: str) -> str:
    """The name of a file, without a folder."""
    name = text(value, path)
    if "/" in name or name.startswith("."):
        raise InvalidDocument(path, "must be a plain file name")
    return name


def url(value: object, path: str) -> str:
    """An http or https URL, without a slash at its end."""
    url = word(value, path)
    if not url.startswith(("https://", "http://")):
        raise InvalidDocument(path, "must start with https:// or http://")
    return url.rstrip("/")


def integer(value: object, path: str) -> int:
    """An integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidDocument(path, "must be an integer")
    return value


def count(value: object, path: str) -> int:
    """An integer from 0 to `MAX_COUNT`."""
    number = integer(value, path)
    if not 0 <= number <= MAX_COUNT:
        raise InvalidDocument(path, f"must lie between 0 and {MAX_COUNT}")
    return number


def positive(value: object, path: str) -> int:
    """An integer from 1 to `MAX_COUNT`."""
    number = count(value, path)
    if number == 0:
        raise InvalidDocument(path, "must be at least 1")
    return number


def boolean(value: object, path: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidDocument(path, "must be true or false")
    return value


def array(value: object, path: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise InvalidDocument(path, "must be a list")
    return value


def texts(value: object, path: str) -> tuple[str, ...]:
    """A list of `text`."""
    return tuple(text(item, f"{path}[{index}]") for index, item in enumerate(array(value, path)))


def words(value: object, path: str) -> tuple[str, ...]:
    """A list of `word`."""
    return tuple(word(item, f"{path}[{index}]") for index, item in enumerate(array(value, path)))


def nullable(read: Callable[[Any, str], T]) -> Callable[[Any, str], T | None]:
    """A reader of the same, or null."""

    def read_or_none(value: Any, path: str) -> T | None:
        return None if value is None else read(value, path)

    return read_or_none
