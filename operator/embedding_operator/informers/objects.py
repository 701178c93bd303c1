"""Trim owned objects and EmbeddingInjections.

Decoding builds the declared fields only. A field without a bound is decoded after its size is
known.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import msgspec

from embedding_contract import names
from embedding_operator.informers.kept import FOREIGN_BYTES, Kept, Trim
from embedding_operator.injection import embedding_injection

_NO_LIST: Final = msgspec.Raw(b"[]")

Find = Callable[[str, str], Kept | None]
"""The object of a namespace and a name, as it is stored."""


class Meta(msgspec.Struct, rename="camel", omit_defaults=True):
    """The metadata that an object of ours keeps."""

    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class _AnyMeta(msgspec.Struct):
    name: str
    namespace: str = ""


class _AnyObject(msgspec.Struct):
    metadata: _AnyMeta


_ANY_OBJECT_DECODER: Final = msgspec.json.Decoder(_AnyObject)


def nothing(raw: msgspec.Raw) -> Kept:
    """The identity of an object."""
    meta = _ANY_OBJECT_DECODER.decode(raw).metadata
    return Kept(namespace=meta.namespace, name=meta.name, version="")


class _InjectionMeta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""


class _Injection(msgspec.Struct):
    metadata: _InjectionMeta
    spec: dict[str, Any]


_INJECTION_DECODER: Final = msgspec.json.Decoder(_Injection)


class _InjectionOutline(msgspec.Struct, rename="camel"):
    metadata: _InjectionMeta
    digest: str
    selectors: dict[str, str]
    api_version: str = names.API_VERSION
    kind: str = names.INJECTION_KIND


def injection(raw: msgspec.Raw) -> Kept:
    """An EmbeddingInjection: the digest of its spec, and those of its policies' selectors."""
    found = _INJECTION_DECODER.decode(raw)
    meta, digest = found.metadata, embedding_injection.digest(found.spec)
    is_ours = meta.name == names.INJECTION_NAME
    outline = _InjectionOutline(meta, digest, embedding_injection.selectors(found.spec))
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version=meta.resource_version,
        uid=meta.uid,
        about=digest,
        content=msgspec.json.encode(outline) if is_ours else None,
    )


class _Owner(msgspec.Struct, rename="camel"):
    name: str = ""
    kind: str = ""
    uid: str = ""
    api_version: str = ""


_OWNERS_DECODER: Final = msgspec.json.Decoder(list[_Owner] | None)


class _OwnedMeta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    resource_version: str = ""
    owner_references: msgspec.Raw = _NO_LIST


class _Owned(msgspec.Struct):
    metadata: _OwnedMeta


_DEPENDENT_DECODER: Final = msgspec.json.Decoder(_Owned)


def owned(raw: msgspec.Raw, *, is_owner: Callable[[str, str, str, str, str], bool]) -> Kept:
    """An object of a policy or an index: its identity and its owner.

    `is_owner` gets the owner's kind, namespace, name and uid, and the object's name.
    """
    meta = _DEPENDENT_DECODER.decode(raw).metadata
    owner = next(
        (
            it
            for it in _owners(meta.owner_references)
            if it.kind in (names.KIND, names.INDEX_KIND)
            and it.api_version.startswith(f"{names.GROUP}/")
            and is_owner(it.kind, meta.namespace, it.name, it.uid, meta.name)
        ),
        None,
    )
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version=meta.resource_version,
        policy=owner.name if owner is not None and owner.kind == names.KIND else "",
        index=owner.name if owner is not None and owner.kind == names.INDEX_KIND else "",
        about=meta.resource_version,
        content=None if owner is None else b"{}",
    )


def _owners(raw: msgspec.Raw) -> list[_Owner]:
    if memoryview(raw).nbytes > FOREIGN_BYTES:
        return []
    return _OWNERS_DECODER.decode(raw) or []


def of_dependents(
    named: Callable[[str], Collection[str]] | None, *, policy: Find, index: Find
) -> Trim:
    """Trims objects whose owner is a policy or an index that is found.

    Those of a policy count if `named`, where it is given, has their names.
    """

    def is_owner(owner: str, namespace: str, owner_name: str, uid: str, name: str) -> bool:
        is_index = owner == names.INDEX_KIND
        found = (index if is_index else policy)(namespace, owner_name)
        is_its_own = found is not None and found.uid == uid
        if is_index:
            return is_its_own and name == names.index_objects(owner_name)
        return is_its_own and (named is None or name in named(owner_name))

    return partial(owned, is_owner=is_owner)
