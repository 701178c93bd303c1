"""The trimmed form in which an object of the cluster is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

FOREIGN_BYTES: Final = 16_384
"""The most of labels or owner references that is looked into: Kubernetes bounds neither."""
NOTHING: Final = msgspec.Raw(b"{}")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One object, trimmed; `content` None where it is none of ours.

    `policy` and `index` are the names of those that it concerns, `about` changes with what is worth
    a look, `content` is JSON, and so is `outline`: what others of its namespace look at. Policies
    and indexes have one, and `reads`: the Secrets that they name.
    """

    namespace: str
    name: str
    version: str
    uid: str = ""
    policy: str = ""
    index: str = ""
    about: object = None
    content: bytes | None = None
    outline: bytes = b"{}"
    reads: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name; the namespace is empty for what has none."""
        return self.namespace, self.name

    def value(self) -> Object:
        """The object, as far as it is kept; a new one each time."""
        made: Object = msgspec.json.decode(self.content or b"{}")
        return made


def encode(found: Object) -> msgspec.Raw:
    """An object as it would come."""
    return msgspec.Raw(msgspec.json.encode(found))


Trim = Callable[[msgspec.Raw], Kept]
"""Raises msgspec.MsgspecError where the object is not of the kind's form."""


class _Versioned(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Any(msgspec.Struct):
    metadata: _Versioned = msgspec.field(default_factory=_Versioned)


def version(raw: msgspec.Raw) -> str:
    """The resourceVersion of any object, a bookmark too."""
    return msgspec.json.decode(raw, type=_Any).metadata.resource_version
