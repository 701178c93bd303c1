"""The `.spec` of an EmbeddingPolicy as values, after the API server has set defaults.

The schema in crds/ holds shape, bounds and defaults; this module adds types. It checks what the
schema cannot compute: vector spaces and prices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from embedding_contract import document, names
from embedding_operator import errors
from embedding_operator.kube import ownership
from embedding_operator.policy import alerts, provider, provider_class, quota, reference
from embedding_operator.policy.provider import Provider
from embedding_operator.policy.provider_class import ProviderClass
from embedding_operator.policy.quota import Quota
from embedding_operator.policy.reference import ClassReference, Reference

OPAQUE: Final = "Opaque"
"""The type of a Secret whose keys are free."""


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
    `templates` are the texts that make the Secret's keys, beside the others where it `merges`.
    """

    name: str
    mount: str
    path: str
    keys: Mapping[str, str] | None
    deletes: bool = False
    type: str = OPAQUE
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] | None = None
    merges: bool = False

    @property
    def is_whole(self) -> bool:
        """True if the keys of the Secret belong together: all are right, or none is changed."""
        return self.type != OPAQUE or self.templates is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`spec.sidecar.network`."""

    http: str | None
    https: str | None
    no: str | None
    ca_config_map: str | None


class Unresolved(NamedTuple):
    """The reason why a provider's ClusterEmbeddingProvider cannot be used; `path` is a field."""

    path: str
    message: str
    reason: str

    def error(self) -> errors.InvalidPolicy:
        """The refusal of the policy."""
        return errors.InvalidPolicy(self.path, self.message, reason=self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOwner(ownership.Owner):
    """A policy as the owner of objects, whatever its spec is."""

    kind = names.KIND
    label = names.LABEL_POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingPolicy(PolicyOwner):
    """A whole policy.

    `classes` are the ClusterEmbeddingProviders that it uses. With `unresolved`, the reason why one
    cannot be used, it becomes no document.
    """

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
    classes: tuple[ProviderClass, ...] = ()
    unresolved: Unresolved | None = None


def parse(raw: Mapping[str, Any]) -> EmbeddingPolicy:
    """A policy from its object; providers with `ref` are not complete yet.

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
        providers=tuple(
            provider.parse(entry, f"spec.providers[{index}]")
            for index, entry in enumerate(spec["providers"])
        ),
        failover_enabled=spec["failover"]["enabled"],
        failover_across_spaces=spec["failover"]["acrossSpaces"],
        quota=quota.parse(spec["quota"]),
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


def _cache(entry: Mapping[str, Any]) -> Cache:
    return Cache(
        ttl_seconds=entry["ttlSeconds"],
        memory_max_bytes=entry["memory"]["maxBytes"],
        redis=reference.parse(entry.get("redis")),
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
        type=entry.get("type", OPAQUE),
        labels=entry.get("labels", {}),
        annotations=entry.get("annotations", {}),
        templates=entry["template"]["data"] if "template" in entry else None,
        merges=entry.get("template", {}).get("mergePolicy") == "Merge",
    )


def references(policy: EmbeddingPolicy) -> dict[str, Reference]:
    """The keys of the owned Secret, and the reference to each value."""
    found = {it.key_file: it.api_key for it in policy.providers}
    for used in policy.classes:
        if used.redis is not None:
            found[names.secret_class_redis_url(used.name)] = ClassReference(used.name)
    found[names.SECRET_CACHE_REDIS_URL] = policy.cache.redis
    found[names.SECRET_QUOTA_REDIS_URL] = policy.quota.redis
    return {key: place for key, place in found.items() if key is not None and place is not None}


def to_document(
    policy: EmbeddingPolicy,
    *,
    indexes: Sequence[document.Index] = (),
    network: document.Network = document.Network(),  # noqa: B008 - frozen
) -> document.PolicyDocument:
    """The document for this policy's sidecars, which may search `indexes`.

    Raises:
        errors.InvalidPolicy: a failover can never happen, a provider lacks a field of its type, a
            limit in money has no price to count by, or a class cannot be used.
    """
    if policy.unresolved is not None:
        raise policy.unresolved.error()
    _check_providers(policy.providers)
    needed = quota.requires(policy.quota).union(*map(provider.requires, policy.providers))
    if policy.classes:
        needed |= {"signature"}
    made = document.PolicyDocument(
        requires=tuple(sorted(needed)),
        namespace=policy.namespace,
        name=policy.name,
        providers=tuple(
            _document_provider(policy, it, f"spec.providers[{index}]")
            for index, it in enumerate(policy.providers)
        ),
        failover=document.Failover(
            enabled=policy.failover_enabled, across_spaces=policy.failover_across_spaces
        ),
        quota=quota.to_document(policy.quota, redis_url_file=_quota_file(policy)),
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
        classes=tuple(map(provider_class.to_document, policy.classes)),
    )
    _check_spaces(made)
    return made


def _check_providers(providers: Sequence[Provider]) -> None:
    """Refuse a list that no single entry is wrong in; an API server does so by rules."""
    held = [it.name for it in providers]
    for index, it in enumerate(providers):
        if it.name in held[:index]:
            message = f"{it.name} is the name of another provider; names must be unique"
            raise errors.InvalidPolicy(f"spec.providers[{index}].name", message)
    if all(it.weight == 0 for it in providers):
        message = "at least one provider must have a weight above 0, such as 1"
        raise errors.InvalidPolicy("spec.providers", message)


def _document_provider(policy: EmbeddingPolicy, it: Provider, path: str) -> document.Provider:
    of_class = {used.name: used.limits_cost for used in policy.classes}
    if not (policy.quota.limits_cost or of_class.get(it.ref or "", False)):
        return provider.to_document(it, path, price=it.price_per_million_tokens)
    counted = provider.price(it)
    if it.is_complete and counted is None:
        raise _price_unknown(it, path)
    if counted is not None:
        field = "pricePerMillionTokens" if it.ref is None else "ref"
        provider.check_price(it, counted, f"{path}.{field}")
    return provider.to_document(it, path, price=counted)


def _price_unknown(it: Provider, path: str) -> errors.InvalidPolicy:
    what, reason = f"the price of {it.kind}/{it.model}", "PriceUnknown"
    if it.ref is not None:
        message = (
            f"{what} is unknown, so its cost cannot be limited; the platform's team writes it into"
            f" ClusterEmbeddingProvider {it.ref}"
        )
        return errors.InvalidPolicy(f"{path}.ref", message, reason=reason)
    message = (
        f"{what} of provider {it.name} is unknown, so spec.quota cannot limit its cost; write the"
        ' US dollars of a million tokens, for example pricePerMillionTokens: "0.02", or "0" for a'
        " server of your own"
    )
    return errors.InvalidPolicy(f"{path}.pricePerMillionTokens", message, reason=reason)


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
