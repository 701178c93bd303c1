"""Trim indexes: a field without a bound is decoded after its size is known."""

from typing import Final

import msgspec

from embedding_contract import names
from embedding_operator.informers import objects
from embedding_operator.informers.kept import NOTHING, Kept

DROPS_CHARACTERS: Final = 1_024
INDEX_SPEC_BYTES: Final = 32_768
"""The schema does not bound values of `spec.rows`; a larger spec is stored empty, which is not
valid."""


class _IndexAnnotations(msgspec.Struct, omit_defaults=True):
    drop_target: str | None = msgspec.field(default=None, name=names.ANNOTATION_DROP_TARGET)


class _IndexMeta(objects.Meta, rename="camel", omit_defaults=True):
    annotations: _IndexAnnotations = msgspec.field(default_factory=_IndexAnnotations)


class _Index(msgspec.Struct, rename="camel"):
    metadata: _IndexMeta
    spec: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    api_version: str = names.API_VERSION
    kind: str = names.INDEX_KIND


_INDEX_DECODER: Final = msgspec.json.Decoder(_Index)


class _Named(msgspec.Struct, omit_defaults=True):
    name: str = ""
    key: str = ""
    schema: str = ""


class _Database(msgspec.Struct, rename="camel", omit_defaults=True):
    dsn_secret_ref: _Named = msgspec.field(default_factory=_Named)
    ca_secret_ref: _Named | None = None


class _Place(msgspec.Struct, omit_defaults=True):
    column: str | None = None
    table: str | None = None


class _Searched(msgspec.Struct):
    enabled: bool = False


class _IndexOutlineSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    policy_ref: _Named = msgspec.field(default_factory=_Named)
    database: _Database = msgspec.field(default_factory=_Database)
    table: _Named = msgspec.field(default_factory=_Named)
    target: _Place = msgspec.field(default_factory=_Place)
    failover_target: _Place | None = None
    search: _Searched = msgspec.field(default_factory=_Searched)


_INDEX_OUTLINE_SPEC_DECODER: Final = msgspec.json.Decoder(_IndexOutlineSpec)


class _IndexOutline(msgspec.Struct):
    metadata: _IndexMeta
    spec: _IndexOutlineSpec


def index(raw: msgspec.Raw) -> Kept:
    """An index: spec and status, and the metadata in use."""
    found = _INDEX_DECODER.decode(raw)
    if memoryview(found.spec).nbytes > INDEX_SPEC_BYTES:
        found.spec = NOTHING
    meta, asked = found.metadata, found.metadata.annotations
    if asked.drop_target is not None:
        asked.drop_target = asked.drop_target[:DROPS_CHARACTERS]
    outline = _INDEX_OUTLINE_SPEC_DECODER.decode(found.spec)
    database = outline.database
    named = (database.dsn_secret_ref, database.ca_secret_ref)
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version=meta.resource_version,
        uid=meta.uid,
        policy=outline.policy_ref.name,
        index=meta.name,
        about=(meta.uid, meta.generation, meta.deletion_timestamp, asked.drop_target),
        reads=frozenset(it.name for it in named if it is not None and it.name),
        content=msgspec.json.encode(found),
        outline=msgspec.json.encode(_IndexOutline(meta, outline)),
    )
