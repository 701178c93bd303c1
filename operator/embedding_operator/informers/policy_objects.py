"""Trim policies and provider classes.

Decoding builds the declared fields only; the schema bounds spec and status.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from embedding_contract import names
from embedding_operator.informers import objects
from embedding_operator.informers.kept import NOTHING, Kept
from embedding_operator.kube.kinds import Object

ANNOTATION_CHARACTERS: Final = 256


class _PolicyAnnotations(msgspec.Struct, omit_defaults=True):
    refresh: str | None = msgspec.field(default=None, name=names.ANNOTATION_REFRESH)
    test_alert: str | None = msgspec.field(default=None, name=names.ANNOTATION_TEST_ALERT)


class _PolicyMeta(objects.Meta, rename="camel", omit_defaults=True):
    annotations: _PolicyAnnotations = msgspec.field(default_factory=_PolicyAnnotations)


class _Policy(msgspec.Struct, rename="camel"):
    metadata: _PolicyMeta
    spec: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    api_version: str = names.API_VERSION
    kind: str = names.KIND


_POLICY_DECODER: Final = msgspec.json.Decoder(_Policy)


class _Sidecar(msgspec.Struct, omit_defaults=True):
    resources: dict[str, Any] | None = None


class _Secret(msgspec.Struct):
    name: str


class _OutlineAzure(msgspec.Struct, omit_defaults=True):
    tenant_id: str | None = msgspec.field(default=None, name="tenantID")


class _OutlineProvider(msgspec.Struct, omit_defaults=True):
    azure: _OutlineAzure | None = None


_OUTLINE_PROVIDER_DECODER: Final = msgspec.json.Decoder(_OutlineProvider)


class _OutlineSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    pod_selector: dict[str, Any] | None = None
    sidecar: _Sidecar | None = None
    secrets: list[_Secret] | None = None
    providers: list[_OutlineProvider] | None = None


_OUTLINE_SPEC_DECODER: Final = msgspec.json.Decoder(_OutlineSpec)


class _Sourced(msgspec.Struct, rename="camel"):
    secret_key_ref: _Secret | None = None


class _ProviderSources(msgspec.Struct, rename="camel"):
    api_key: _Sourced | None = None
    ref: str | None = None


class _RedisSource(msgspec.Struct):
    redis: _Sourced | None = None


class _Sources(msgspec.Struct):
    providers: list[_ProviderSources] = msgspec.field(default_factory=list)
    cache: _RedisSource = msgspec.field(default_factory=_RedisSource)
    quota: _RedisSource = msgspec.field(default_factory=_RedisSource)


_SOURCES_DECODER: Final = msgspec.json.Decoder(_Sources)


class _Outline(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: _PolicyMeta
    spec: _OutlineSpec


def policy(raw: msgspec.Raw) -> Kept:
    """A policy: spec and status, which the schema bounds, and the metadata in use."""
    found = _POLICY_DECODER.decode(raw)
    meta = found.metadata
    asked = meta.annotations
    sources = _SOURCES_DECODER.decode(found.spec)
    if asked.refresh is not None:
        asked.refresh = asked.refresh[:ANNOTATION_CHARACTERS]
    if asked.test_alert is not None:
        asked.test_alert = asked.test_alert[:ANNOTATION_CHARACTERS]
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version=meta.resource_version,
        uid=meta.uid,
        policy=meta.name,
        about=(
            meta.uid,
            meta.generation,
            meta.deletion_timestamp,
            asked.refresh,
            asked.test_alert,
        ),
        content=msgspec.json.encode(found),
        reads=_secrets_named(sources),
        classes=frozenset(it.ref for it in sources.providers if it.ref is not None),
        outline=msgspec.json.encode(
            _Outline(
                found.api_version,
                found.kind,
                meta,
                _outlined(found.spec),
            )
        ),
    )


def _outlined(spec: msgspec.Raw) -> _OutlineSpec:
    found = _OUTLINE_SPEC_DECODER.decode(spec)
    # Providers matter where an identity calls one of them.
    by_identity = [it for it in found.providers or () if it.azure and it.azure.tenant_id]
    found.providers = by_identity or None
    return found


def _secrets_named(found: _Sources) -> frozenset[str]:
    """The Secrets that a policy takes values from."""
    named = [*(it.api_key for it in found.providers), found.cache.redis, found.quota.redis]
    return frozenset(
        it.secret_key_ref.name for it in named if it is not None and it.secret_key_ref is not None
    )


class _ClassMeta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None


class _Class(msgspec.Struct, rename="camel"):
    metadata: _ClassMeta
    spec: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    api_version: str = names.API_VERSION
    kind: str = names.CLASS_KIND


_CLASS_DECODER: Final = msgspec.json.Decoder(_Class)


class _ClassSources(msgspec.Struct, rename="camel"):
    api_key: _Sourced | None = None
    redis: _Sourced | None = None


_CLASS_SOURCES_DECODER: Final = msgspec.json.Decoder(_ClassSources)


def provider_class(raw: msgspec.Raw) -> Kept:
    """A provider class: spec and status, which the schema bounds."""
    found = _CLASS_DECODER.decode(raw)
    meta, sources = found.metadata, _CLASS_SOURCES_DECODER.decode(found.spec)
    named = (sources.api_key, sources.redis)
    return Kept(
        namespace="",
        name=meta.name,
        version=meta.resource_version,
        uid=meta.uid,
        about=(meta.uid, meta.generation, meta.deletion_timestamp),
        content=msgspec.json.encode(found),
        reads=frozenset(
            it.secret_key_ref.name
            for it in named
            if it is not None and it.secret_key_ref is not None
        ),
        outline=msgspec.json.encode(_OUTLINE_PROVIDER_DECODER.decode(found.spec)),
    )


def outlined(kept: Kept, classes: Iterable[Kept | None]) -> Object:
    """The outline of a policy, with the identities of its classes as far as they are there."""
    found: Object = msgspec.json.decode(kept.outline)
    of_classes = [msgspec.json.decode(it.outline) for it in classes if it is not None]
    if of_classes:
        found["spec"]["providers"] = [*found["spec"].get("providers", ()), *of_classes]
    return found
