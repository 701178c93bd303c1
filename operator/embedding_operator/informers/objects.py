"""Trim policies, indexes, provider classes, namespaces and owned objects.

Decoding builds the declared fields only. A field without a bound is decoded after its size is
known.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from embedding_contract import names
from embedding_operator.informers.kept import FOREIGN_BYTES, NOTHING, Kept
from embedding_operator.injection import embedding_injection

ANNOTATION_CHARACTERS: Final = 256
DROPS_CHARACTERS: Final = 1_024
_NO_LIST: Final = msgspec.Raw(b"[]")


class _PolicyAnnotations(msgspec.Struct, omit_defaults=True):
    refresh: str | None = msgspec.field(default=None, name=names.ANNOTATION_REFRESH)
    test_alert: str | None = msgspec.field(default=None, name=names.ANNOTATION_TEST_ALERT)


class _Meta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class _PolicyMeta(_Meta, rename="camel", omit_defaults=True):
    annotations: _PolicyAnnotations = msgspec.field(default_factory=_PolicyAnnotations)


class _Policy(msgspec.Struct, rename="camel"):
    metadata: _PolicyMeta
    spec: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    api_version: str = names.API_VERSION
    kind: str = names.KIND


class _Sidecar(msgspec.Struct, omit_defaults=True):
    resources: dict[str, Any] | None = None


class _Secret(msgspec.Struct):
    name: str


class _OutlineAzure(msgspec.Struct, omit_defaults=True):
    tenant_id: str | None = msgspec.field(default=None, name="tenantID")


class _OutlineProvider(msgspec.Struct, omit_defaults=True):
    azure: _OutlineAzure | None = None


class _OutlineSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    pod_selector: dict[str, Any] | None = None
    sidecar: _Sidecar | None = None
    secrets: list[_Secret] | None = None
    providers: list[_OutlineProvider] | None = None


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


class _Outline(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: _PolicyMeta
    spec: _OutlineSpec


def policy(raw: msgspec.Raw) -> Kept:
    """A policy: spec and status, which the schema bounds, and the metadata in use."""
    found = msgspec.json.decode(raw, type=_Policy)
    meta = found.metadata
    asked = meta.annotations
    sources = msgspec.json.decode(found.spec, type=_Sources)
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
    found = msgspec.json.decode(spec, type=_OutlineSpec)
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


class _ClassSources(msgspec.Struct, rename="camel"):
    api_key: _Sourced | None = None
    redis: _Sourced | None = None


def provider_class(raw: msgspec.Raw) -> Kept:
    """A provider class: spec and status, which the schema bounds."""
    found = msgspec.json.decode(raw, type=_Class)
    meta, sources = found.metadata, msgspec.json.decode(found.spec, type=_ClassSources)
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
        outline=msgspec.json.encode(msgspec.json.decode(found.spec, type=_OutlineProvider)),
    )


class _InjectionMeta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""


class _Injection(msgspec.Struct):
    metadata: _InjectionMeta
    spec: dict[str, Any]


class _InjectionOutline(msgspec.Struct, rename="camel"):
    metadata: _InjectionMeta
    digest: str
    selectors: dict[str, str]
    api_version: str = names.API_VERSION
    kind: str = names.INJECTION_KIND


def injection(raw: msgspec.Raw) -> Kept:
    """An EmbeddingInjection: the digest of its spec, and those of its policies' selectors."""
    found = msgspec.json.decode(raw, type=_Injection)
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


INDEX_SPEC_BYTES: Final = 32_768
"""The schema does not bound values of `spec.rows`; a larger spec is stored empty, which is not
valid."""


class _IndexAnnotations(msgspec.Struct, omit_defaults=True):
    drop_target: str | None = msgspec.field(default=None, name=names.ANNOTATION_DROP_TARGET)


class _IndexMeta(_Meta, rename="camel", omit_defaults=True):
    annotations: _IndexAnnotations = msgspec.field(default_factory=_IndexAnnotations)


class _Index(msgspec.Struct, rename="camel"):
    metadata: _IndexMeta
    spec: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    api_version: str = names.API_VERSION
    kind: str = names.INDEX_KIND


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


class _IndexOutline(msgspec.Struct):
    metadata: _IndexMeta
    spec: _IndexOutlineSpec


def index(raw: msgspec.Raw) -> Kept:
    """An index: spec and status, and the metadata in use."""
    found = msgspec.json.decode(raw, type=_Index)
    if memoryview(found.spec).nbytes > INDEX_SPEC_BYTES:
        found.spec = NOTHING
    meta, asked = found.metadata, found.metadata.annotations
    if asked.drop_target is not None:
        asked.drop_target = asked.drop_target[:DROPS_CHARACTERS]
    outline = msgspec.json.decode(found.spec, type=_IndexOutlineSpec)
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


class _AnyMeta(msgspec.Struct):
    name: str
    namespace: str = ""


class _AnyObject(msgspec.Struct):
    metadata: _AnyMeta


def nothing(raw: msgspec.Raw) -> Kept:
    """The identity of an object."""
    meta = msgspec.json.decode(raw, type=_AnyObject).metadata
    return Kept(namespace=meta.namespace, name=meta.name, version="")


class _NamespaceLabel(msgspec.Struct, omit_defaults=True):
    injection: str | None = msgspec.field(default=None, name=names.LABEL_INJECTION)


class _WatchedNamespaceMeta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: msgspec.Raw = NOTHING


class _WatchedNamespace(msgspec.Struct):
    metadata: _WatchedNamespaceMeta


class _NamespaceMeta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    uid: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    labels_unknown: bool = False


class _Namespace(msgspec.Struct, rename="camel"):
    metadata: _NamespaceMeta
    api_version: str = "v1"
    kind: str = "Namespace"


def namespace(raw: msgspec.Raw) -> Kept:
    """A namespace: its labels and its deletion; the outline is without other labels than ours.

    Labels above FOREIGN_BYTES are not stored but for ours, and `labelsUnknown` says so.
    """
    meta = msgspec.json.decode(raw, type=_WatchedNamespace).metadata
    ours = msgspec.json.decode(meta.labels, type=_NamespaceLabel | None)
    label = (
        {} if ours is None or ours.injection is None else {names.LABEL_INJECTION: ours.injection}
    )
    made = _NamespaceMeta(
        name=meta.name, uid=meta.uid, deletion_timestamp=meta.deletion_timestamp, labels=label
    )
    outline = msgspec.json.encode(_Namespace(made))
    if memoryview(meta.labels).nbytes > FOREIGN_BYTES:
        made.labels_unknown = True
    else:
        made.labels = msgspec.json.decode(meta.labels, type=dict[str, str] | None) or {}
    content = msgspec.json.encode(_Namespace(made))
    return Kept(
        namespace="",
        name=meta.name,
        version=meta.resource_version,
        uid=meta.uid,
        about=content,
        content=content,
        outline=outline,
    )


class _BoundMeta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    resource_version: str = ""


class _LimitItem(msgspec.Struct, rename="camel", omit_defaults=True):
    type: str
    max: dict[str, str] | None = None
    min: dict[str, str] | None = None
    default: dict[str, str] | None = None
    default_request: dict[str, str] | None = None
    max_limit_request_ratio: dict[str, str] | None = None


class _LimitSpec(msgspec.Struct, omit_defaults=True):
    limits: list[_LimitItem] | None = None


class _LimitRange(msgspec.Struct):
    metadata: _BoundMeta
    spec: _LimitSpec = msgspec.field(default_factory=_LimitSpec)


class _ScopeExpression(msgspec.Struct, rename="camel", omit_defaults=True):
    scope_name: str
    operator: str
    values: list[str] | None = None


class _ScopeSelector(msgspec.Struct, rename="camel", omit_defaults=True):
    match_expressions: list[_ScopeExpression] | None = None


class _QuotaSpec(msgspec.Struct, rename="camel", omit_defaults=True):
    hard: dict[str, str] | None = None
    scopes: list[str] | None = None
    scope_selector: _ScopeSelector | None = None


class _QuotaStatus(msgspec.Struct, omit_defaults=True):
    hard: dict[str, str] | None = None
    used: dict[str, str] | None = None


class _Quota(msgspec.Struct):
    metadata: _BoundMeta
    spec: _QuotaSpec = msgspec.field(default_factory=_QuotaSpec)
    status: _QuotaStatus = msgspec.field(default_factory=_QuotaStatus)


def limit_range(raw: msgspec.Raw) -> Kept:
    """A LimitRange: the fields that `namespace_bounds` uses; a longer one is not stored."""
    return _bound(msgspec.json.decode(raw, type=_LimitRange))


def quota(raw: msgspec.Raw) -> Kept:
    """A ResourceQuota: the fields that `namespace_bounds` uses; a longer one is not stored."""
    return _bound(msgspec.json.decode(raw, type=_Quota))


def _bound(found: _LimitRange | _Quota) -> Kept:
    meta = found.metadata
    content = msgspec.json.encode(found)
    return Kept(
        namespace=meta.namespace,
        name=meta.name,
        version=meta.resource_version,
        about=content,
        content=content if len(content) <= FOREIGN_BYTES else None,
    )


class _Owner(msgspec.Struct, rename="camel"):
    name: str = ""
    kind: str = ""
    uid: str = ""
    api_version: str = ""


class _OwnedMeta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    resource_version: str = ""
    owner_references: msgspec.Raw = _NO_LIST


class _Owned(msgspec.Struct):
    metadata: _OwnedMeta


def owned(raw: msgspec.Raw, *, is_owner: Callable[[str, str, str, str, str], bool]) -> Kept:
    """An object of a policy or an index: its identity and its owner.

    `is_owner` gets the owner's kind, namespace, name and uid, and the object's name.
    """
    meta = msgspec.json.decode(raw, type=_Owned).metadata
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
    return msgspec.json.decode(raw, type=list[_Owner] | None) or []
