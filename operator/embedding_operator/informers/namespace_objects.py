"""Trim namespaces, and the LimitRanges and ResourceQuotas that bound their pods."""

from typing import Final

import msgspec

from embedding_contract import names
from embedding_operator.informers.kept import FOREIGN_BYTES, NOTHING, Kept

_LABELS_DECODER: Final = msgspec.json.Decoder(dict[str, str] | None)


class _NamespaceLabel(msgspec.Struct, omit_defaults=True):
    injection: str | None = msgspec.field(default=None, name=names.LABEL_INJECTION)


_NAMESPACE_LABEL_DECODER: Final = msgspec.json.Decoder(_NamespaceLabel | None)


class _WatchedNamespaceMeta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: msgspec.Raw = NOTHING


class _WatchedNamespace(msgspec.Struct):
    metadata: _WatchedNamespaceMeta


_WATCHED_NAMESPACE_DECODER: Final = msgspec.json.Decoder(_WatchedNamespace)


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
    meta = _WATCHED_NAMESPACE_DECODER.decode(raw).metadata
    ours = _NAMESPACE_LABEL_DECODER.decode(meta.labels)
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
        made.labels = _LABELS_DECODER.decode(meta.labels) or {}
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


_LIMIT_RANGE_DECODER: Final = msgspec.json.Decoder(_LimitRange)


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


_QUOTA_DECODER: Final = msgspec.json.Decoder(_Quota)


def limit_range(raw: msgspec.Raw) -> Kept:
    """A LimitRange: the fields that `namespace_bounds` uses; a longer one is not stored."""
    return _bound(_LIMIT_RANGE_DECODER.decode(raw))


def quota(raw: msgspec.Raw) -> Kept:
    """A ResourceQuota: the fields that `namespace_bounds` uses; a longer one is not stored."""
    return _bound(_QUOTA_DECODER.decode(raw))


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
