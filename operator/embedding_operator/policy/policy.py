"""The `.spec` of an EmbeddingPolicy as values, after the API server has set defaults.

The schema in crds/ holds shape, bounds and defaults; this module adds types. It checks only the
vector spaces, which the schema cannot compute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedding_contract import document, names, provider_terms, reserve
from embedding_operator import errors
from embedding_operator.kube import ownership
from embedding_operator.policy import alerts


@dataclass(frozen=True, slots=True)
class VaultReference:
    """A key of a Vault path."""

    mount: str
    path: str
    key: str

    def __str__(self) -> str:
        return f"key {self.key} of Vault path {self.mount}/{self.path}"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A key of a Secret of the policy's namespace."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"key {self.key} of Secret {self.name}"


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in the policy itself, not a secret."""

    value: str


Reference = VaultReference | SecretReference | Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One entry of `spec.providers`."""

    name: str
    kind: str
    model: str
    aliases: tuple[str, ...]
    base_url: str | None
    dimensions: int | None
    space: str | None
    api_key: Reference | None
    price_per_million_tokens: str | None
    limits: provider_terms.Limits = provider_terms.NO_LIMITS
    call_seconds: float | None = None
    request_seconds: float | None = None
    pass_through_fields: tuple[provider_terms.PassThroughField, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """`spec.quota`; None is no limit."""

    requests: int | None
    tokens: int | None
    on_store_loss: str
    redis: Reference | None
    reserve: reserve.Reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """`spec.cache`."""

    ttl_seconds: int
    memory_max_bytes: int
    redis: Reference | None
    shared: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedSecret:
    """One entry of `spec.secrets`: `keys` maps a key in Vault to its name in the Secret.

    None takes all keys unchanged. `deletes`: delete the Secret once Vault holds nothing any more.
    """

    name: str
    mount: str
    path: str
    keys: Mapping[str, str] | None
    deletes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`spec.sidecar.network`."""

    http: str | None
    https: str | None
    no: str | None
    ca_config_map: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingPolicy(ownership.Owner):
    """A whole policy."""

    kind = names.KIND
    label = names.LABEL_POLICY
    generation: int
    providers: tuple[Provider, ...]
    failover_enabled: bool
    failover_across_spaces: bool
    quota: Quota
    cache: Cache
    passthrough_base_url: str | None
    secrets: tuple[SyncedSecret, ...]
    vault_role: str | None
    vault_service_account: str
    alerts_enabled: bool
    alert_labels: Mapping[str, str]
    alert_rules: Mapping[str, alerts.Rule]
    additional_alerts: tuple[alerts.Additional, ...]
    log_level: str
    network: Network | None = None


def parse(raw: Mapping[str, Any]) -> EmbeddingPolicy:
    """A policy from its object.

    Raises:
        errors.InvalidPolicy: a field does not match the schema, as in an object that was stored
            before the schema changed.
    """
    try:
        return _parse(raw["metadata"], raw["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.InvalidPolicy("spec", f"does not match the schema: {error!r}") from None


def _parse(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> EmbeddingPolicy:
    passthrough = spec["passthrough"]
    return EmbeddingPolicy(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        providers=tuple(_provider(entry) for entry in spec["providers"]),
        failover_enabled=spec["failover"]["enabled"],
        failover_across_spaces=spec["failover"]["acrossSpaces"],
        quota=_quota(spec["quota"]),
        cache=_cache(spec["cache"]),
        passthrough_base_url=passthrough["baseURL"] if passthrough["enabled"] else None,
        secrets=tuple(_synced(entry) for entry in spec.get("secrets", [])),
        vault_role=spec["vault"].get("role"),
        vault_service_account=spec["vault"]["serviceAccountName"],
        alerts_enabled=spec["alerts"]["enabled"],
        alert_labels=spec["alerts"].get("labels", {}),
        alert_rules=alerts.rules(spec["alerts"]),
        additional_alerts=alerts.additional(spec["alerts"]),
        log_level=spec["sidecar"]["logLevel"],
        network=_network(spec["sidecar"].get("network")),
    )


def _network(entry: Mapping[str, Any] | None) -> Network | None:
    if entry is None:
        return None
    proxy = entry.get("proxy", {})
    return Network(
        http=proxy.get("http"),
        https=proxy.get("https"),
        no=proxy.get("noProxy"),
        ca_config_map=entry.get("caConfigMap"),
    )


def _provider(entry: Mapping[str, Any]) -> Provider:
    limits, timeouts = entry.get("limits", {}), entry.get("timeouts", {})
    return Provider(
        name=entry["name"],
        kind=entry["type"],
        model=entry["model"],
        aliases=tuple(entry.get("aliases", ())),
        base_url=entry.get("baseURL"),
        dimensions=entry.get("dimensions"),
        space=entry.get("space"),
        api_key=_reference(entry.get("apiKey")),
        price_per_million_tokens=entry.get("pricePerMillionTokens"),
        limits=provider_terms.Limits(
            items=limits.get("items"),
            body_bytes=limits.get("bytes"),
            tokens_per_item=limits.get("tokensPerItem"),
        ),
        call_seconds=timeouts.get("callSeconds"),
        request_seconds=timeouts.get("requestSeconds"),
        pass_through_fields=tuple(
            provider_terms.PassThroughField(
                name=it["name"], changes_space=it.get("changesSpace", False)
            )
            for it in entry.get("passThroughFields", ())
        ),
    )


def _quota(entry: Mapping[str, Any]) -> Quota:
    daily = entry["daily"]
    requests = None if entry["unlimited"] else daily["requests"]
    tokens = daily.get("tokens")
    return Quota(
        requests=requests,
        tokens=tokens,
        reserve=_reserve(entry, requests=requests, tokens=tokens),
        on_store_loss=entry["onStoreLoss"],
        redis=_reference(entry.get("redis")),
    )


def _reserve(
    entry: Mapping[str, Any], *, requests: int | None, tokens: int | None
) -> reserve.Reserve:
    written = entry.get("reserveForApplications", reserve.DEFAULT)
    try:
        return reserve.of(written, daily_requests=requests, daily_tokens=tokens)
    except ValueError as error:
        # Without an API server the CEL rules have not been evaluated.
        raise errors.InvalidPolicy("spec.quota.reserveForApplications", str(error)) from None


def _cache(entry: Mapping[str, Any]) -> Cache:
    return Cache(
        ttl_seconds=entry["ttlSeconds"],
        memory_max_bytes=entry["memory"]["maxBytes"],
        redis=_reference(entry.get("redis")),
        shared=entry.get("shared"),
    )


def _synced(entry: Mapping[str, Any]) -> SyncedSecret:
    keys = entry.get("keys", [])
    return SyncedSecret(
        name=entry["name"],
        mount=entry["vault"]["mount"],
        path=entry["vault"]["path"],
        keys={key["key"]: key.get("as", key["key"]) for key in keys} or None,
        deletes=entry.get("deletionPolicy") == "Delete",
    )


def _reference(entry: Mapping[str, Any] | None) -> Reference | None:
    if entry is None:
        return None
    if "vault" in entry:
        return VaultReference(**entry["vault"])
    if "secretKeyRef" in entry:
        return SecretReference(**entry["secretKeyRef"])
    return Literal(entry["url"])


def references(policy: EmbeddingPolicy) -> dict[str, Reference]:
    """The keys of the owned Secret, and the reference to each value."""
    found = {
        names.secret_provider_key(provider.name): provider.api_key for provider in policy.providers
    }
    found[names.SECRET_CACHE_REDIS_URL] = policy.cache.redis
    found[names.SECRET_QUOTA_REDIS_URL] = policy.quota.redis
    return {key: reference for key, reference in found.items() if reference is not None}


def to_document(
    policy: EmbeddingPolicy,
    *,
    indexes: Sequence[document.Index] = (),
    network: document.Network = document.Network(),  # noqa: B008 - frozen
) -> document.PolicyDocument:
    """The document for this policy's sidecars, which may search `indexes`.

    Raises:
        errors.InvalidPolicy: a failover can never happen, or a provider has no address.
    """
    made = document.PolicyDocument(
        namespace=policy.namespace,
        name=policy.name,
        providers=tuple(
            _document_provider(provider, f"spec.providers[{index}]")
            for index, provider in enumerate(policy.providers)
        ),
        failover=document.Failover(
            enabled=policy.failover_enabled, across_spaces=policy.failover_across_spaces
        ),
        quota=document.Quota(
            daily_requests=policy.quota.requests,
            daily_tokens=policy.quota.tokens,
            deny_on_store_loss=policy.quota.on_store_loss == "Deny",
            redis_url_file=_quota_file(policy),
            reserved_requests=policy.quota.reserve.requests,
            reserved_tokens=policy.quota.reserve.tokens,
        ),
        cache=document.Cache(
            ttl_seconds=policy.cache.ttl_seconds,
            memory_max_bytes=policy.cache.memory_max_bytes,
            redis_url_file=names.SECRET_CACHE_REDIS_URL if policy.cache.redis else None,
            shared=policy.cache.shared,
        ),
        passthrough=document.PassThrough(base_url=policy.passthrough_base_url),
        indexes=tuple(indexes),
        network=network,
        log_level=policy.log_level,
    )
    _check_spaces(made)
    return made


def _document_provider(provider: Provider, path: str) -> document.Provider:
    base_url = provider.base_url or document.DEFAULT_BASE_URLS.get(provider.kind)
    if base_url is None:
        # The API server refuses this; `render` works without one.
        raise errors.InvalidPolicy(f"{path}.baseURL", f"is required for type {provider.kind}")
    return document.Provider(
        name=provider.name,
        kind=provider.kind,
        model=provider.model,
        base_url=base_url.rstrip("/"),
        aliases=provider.aliases,
        dimensions=provider.dimensions,
        declared_space=provider.space,
        api_key_file=names.secret_provider_key(provider.name) if provider.api_key else None,
        price_per_million_tokens=provider.price_per_million_tokens,
        limits=provider.limits,
        call_seconds=provider.call_seconds,
        request_seconds=provider.request_seconds,
        pass_through_fields=provider.pass_through_fields,
    )


def _quota_file(policy: EmbeddingPolicy) -> str | None:
    if policy.quota.redis is not None:
        return names.SECRET_QUOTA_REDIS_URL
    return names.SECRET_CACHE_REDIS_URL if policy.cache.redis is not None else None


def _check_spaces(made: document.PolicyDocument) -> None:
    """Refuse a provider that failover can never reach."""
    if not made.failover.enabled or made.failover.across_spaces:
        return
    first = made.providers[0]
    for index, other in enumerate(made.providers[1:], 1):
        if other.space() != first.space():
            raise errors.InvalidPolicy(
                f"spec.providers[{index}]",
                f"{other.name} makes vectors of space {other.space()} and {first.name} of"
                f" {first.space()}, so failover would mix vectors that cannot be compared; declare"
                " one `space` for both if their vectors can be, or set failover.acrossSpaces: true"
                " or failover.enabled: false",
                reason="SpacesDiffer",
            )
