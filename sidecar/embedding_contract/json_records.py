"""Dataclasses as JSON objects: the annotation of a field says its type, its bounds and its key.

One table of fields serves reading and writing, so that neither knows a key that the other lacks.
The key is the field's name in camelCase, unless a `Key` says another. Unknown keys are ignored.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

from embedding_contract import json_fields
from embedding_contract.json_fields import InvalidDocument, Read

T = TypeVar("T")

REQUIRED: Final = object()
_DEFAULT: Final = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """The place of a field in its object, where name, type and default do not define it.

    `name` is the key; with a dot, the key of an object within. `absent` is the value where the key
    is absent, REQUIRED for none. `read` and `write` replace those of the type. With
    `omits_default` a value that is the default is not written.
    """

    name: str = ""
    absent: object = _DEFAULT
    read: Read | None = None
    write: Callable[[Any], object] | None = None
    omits_default: bool = False


class _Field:
    """A field of a dataclass; `keys` lead from its object to the value."""

    def __init__(self, it: dataclasses.Field[Any]) -> None:
        metadata = getattr(it.type, "__metadata__", ())
        key = next((each for each in metadata if isinstance(each, Key)), Key())
        default = it.default if it.default_factory is dataclasses.MISSING else it.default_factory()
        absent = REQUIRED if default is dataclasses.MISSING else default
        first, *others = it.name.split("_")
        self.name = it.name
        self.keys = (key.name or first + "".join(map(str.capitalize, others))).split(".")
        self.default = default
        self.absent = absent if key.absent is _DEFAULT else key.absent
        self.read = key.read or reader(it.type)
        self.write = key.write or written
        self.omits_default = key.omits_default

    def value(self, raw: Mapping[str, Any], path: str) -> Any:
        *outer, key = self.keys
        for name in outer:
            path = _below(path, name)
            raw = _object(raw.get(name, {}), path)
        path = _below(path, key)
        if key in raw:
            return self.read(raw[key], path)
        if self.absent is REQUIRED:
            raise InvalidDocument(path, "is missing")
        # An absent object is read as an empty one, so that an error names the missing field.
        return self.read({}, path) if dataclasses.is_dataclass(self.absent) else self.absent

    def put(self, value: Any, body: dict[str, Any]) -> None:
        if self.omits_default and value == self.default:
            return
        *outer, key = self.keys
        for name in outer:
            body = body.setdefault(name, {})
        body[key] = self.write(value)


def version(known: int, *, reader: str) -> Read:
    """A check that the document has the version that this reader knows."""

    def check(found: int, path: str) -> int:
        if found != known:
            raise InvalidDocument(path, f"this {reader} reads {known}, the document is {found}")
        return found

    return check


def parse(kind: type[T], text: str | bytes) -> T:
    """Read JSON text as a dataclass; raises as `read`, and where the text is not JSON."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument("", f"not JSON: {error}") from None
    return read(kind, raw, "")


def read(kind: type[T], raw: object, path: str) -> T:
    """Read the JSON object at `path` as a dataclass.

    Raises:
        InvalidDocument: it is no object, or a field is missing, of another type or out of bounds.
    """
    body = _object(raw, path)
    return kind(**{it.name: it.value(body, path) for it in _fields(kind)})


def dump(record: object) -> str:
    """A dataclass as JSON text, the same text for the same value."""
    return json.dumps(written(record), indent=2, ensure_ascii=False) + "\n"


def written(value: Any) -> Any:
    """A dataclass, or a value of one, as JSON; the keys stand in the order of the fields."""
    if dataclasses.is_dataclass(value):
        body: dict[str, Any] = {}
        for it in _fields(type(value)):
            it.put(getattr(value, it.name), body)
        return body
    return [written(item) for item in value] if isinstance(value, tuple) else value


_fields: Final[Callable[[Any], tuple[_Field, ...]]] = functools.cache(
    lambda kind: tuple(map(_Field, dataclasses.fields(kind)))
)


def reader(hint: Any) -> Read:
    """The function that reads values of this annotation."""
    if get_origin(hint) is Annotated:
        checks = [it for it in hint.__metadata__ if callable(it)]
        return functools.partial(_checked, reader(hint.__origin__), checks)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return functools.partial(read, hint)
    arguments = get_args(hint)
    if get_origin(hint) is tuple:
        return functools.partial(json_fields.items, reader(arguments[0]))
    if NoneType in arguments:
        return functools.partial(_nullable, reader(arguments[0]))
    return json_fields.READERS[hint]


def _checked(read: Read, checks: list[Read], value: object, path: str) -> Any:
    found = read(value, path)
    for check in checks:
        found = check(found, path)
    return found


def _nullable(read: Read, value: object, path: str) -> Any:
    return None if value is None else read(value, path)


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidDocument(path, "must be an object")
    return value


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
