"""The trimmed form in which objects of the cluster are stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from embedding_operator.kube.kinds import Object, ObjectKey

FOREIGN_BYTES: Final = 16_384
"""The most bytes of labels or owner references to decode: Kubernetes bounds neither."""
NOTHING: Final = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One object, trimmed; `content`, which is JSON, is None if it is not ours.

    `policy` and `index` name those that it concerns, and a changed `about` queues them. Policies
    and indexes also have `outline`, the JSON that reconciles of others read, and `reads`, the names
    of their Secrets; policies have `classes`, the names of their ClusterEmbeddingProviders, of
    which the `outline` is an entry of a policy's providers.
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
    classes: frozenset[str] = frozenset()

    @property
    def key(self) -> ObjectKey:
        """Namespace, empty for a cluster-scoped object, and name."""
        return ObjectKey(self.namespace, self.name)

    def value(self) -> Object:
        """The stored part of the object; a new value each time."""
        made: Object = msgspec.json.decode(self.content or b"{}")
        return made


def encode(found: Object) -> msgspec.Raw:
    """An object as the API server would send it."""
    return msgspec.Raw(msgspec.json.encode(found))


Trim = Callable[[msgspec.Raw], Kept]
"""Raises msgspec.MsgspecError where the object is not of the kind's form."""


class _Versioned(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Any(msgspec.Struct):
    metadata: _Versioned = msgspec.field(default_factory=_Versioned)


_ANY_DECODER: Final = msgspec.json.Decoder(_Any)


def version(raw: msgspec.Raw) -> str:
    """The resourceVersion of any object, a bookmark too."""
    return _ANY_DECODER.decode(raw).metadata.resource_version
