"""A ClusterEmbeddingProvider as values, after the API server has set defaults.

The schema in crds/ holds shape, bounds and defaults; this module adds types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedding_contract import document, money, names, provider_terms, reserve
from embedding_operator import errors
from embedding_operator.kube import label_selectors
from embedding_operator.policy import provider, reference
from embedding_operator.policy.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One entry of `spec.models`."""

    name: str
    aliases: tuple[str, ...]
    deployment: str | None
    dimensions: int | None
    space: str | None
    price_per_million_tokens: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderClass:
    """A whole class. `azure` has no deployment of its own: each model has one.

    `quota` is the most that one policy may spend. `api_key` and `redis` refer to the operator's
    namespace.
    """

    name: str
    kind: str
    base_url: str | None
    azure: provider_terms.Azure | None
    region: str | None
    api_key: Reference | None
    models: tuple[Model, ...]
    namespace_selector: Mapping[str, Any]
    quota: document.Quota
    rate: provider_terms.Rate
    redis: Reference | None
    vault_role: str | None
    vault_service_account: str

    @property
    def called_at(self) -> str | None:
        """The base URL, without a trailing slash."""
        url = self.base_url or document.default_base_url(kind=self.kind, region=self.region)
        return None if url is None else url.rstrip("/")

    @property
    def limits_cost(self) -> bool:
        """True if a day or a month has a limit in money."""
        return self.quota.daily_cost is not None or self.quota.monthly_cost is not None

    def allows(self, labels: Mapping[str, str] | None) -> bool:
        """True if policies of a namespace with these labels may use it; None is unknown."""
        selector = self.namespace_selector
        is_for_all = not any(selector.get(it) for it in ("matchLabels", "matchExpressions"))
        return is_for_all or (labels is not None and label_selectors.matches(selector, labels))


def parse(raw: Mapping[str, Any]) -> ProviderClass:
    """A class from its object.

    Raises:
        errors.InvalidPolicy: a field does not match the schema, as in an object that was stored
            before the schema changed.
    """
    try:
        return _parse(raw["metadata"]["name"], raw["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.InvalidPolicy("spec", f"does not match the schema: {error!r}") from None


def _parse(name: str, spec: Mapping[str, Any]) -> ProviderClass:
    redis = reference.parse(spec.get("redis"))
    selector = spec["namespaceSelector"]
    if not isinstance(selector, Mapping):
        raise errors.InvalidPolicy("spec.namespaceSelector", "must be a selector of labels")
    return ProviderClass(
        name=name,
        kind=spec["type"],
        base_url=spec.get("baseURL"),
        azure=_azure(spec),
        region=spec.get("region"),
        api_key=reference.parse(spec.get("apiKey")),
        models=tuple(_model(entry) for entry in spec["models"]),
        namespace_selector=selector,
        quota=_quota(name, spec.get("perPolicy", {}), has_redis=redis is not None),
        rate=provider.rate(spec.get("rate", {})),
        redis=redis,
        vault_role=spec["vault"].get("role"),
        vault_service_account=spec["vault"]["serviceAccountName"],
    )


def _azure(spec: Mapping[str, Any]) -> provider_terms.Azure | None:
    if spec["type"] != "AzureOpenAI":
        return None
    return provider.azure({"deployment": "", **spec.get("azure", {})})


def _model(entry: Mapping[str, Any]) -> Model:
    return Model(
        name=entry["model"],
        aliases=tuple(entry.get("aliases", ())),
        deployment=entry.get("deployment"),
        dimensions=entry.get("dimensions"),
        space=entry.get("space"),
        price_per_million_tokens=entry.get("pricePerMillionTokens"),
    )


def _quota(name: str, entry: Mapping[str, Any], *, has_redis: bool) -> document.Quota:
    daily, monthly = entry.get("daily", {}), entry.get("monthly", {})
    reserved = reserve.of(
        reserve.DEFAULT, daily_requests=daily.get("requests"), daily_tokens=daily.get("tokens")
    )
    return document.Quota(
        daily_requests=daily.get("requests"),
        daily_tokens=daily.get("tokens"),
        daily_cost=_cost(daily.get("cost"), "spec.perPolicy.daily.cost"),
        monthly_requests=monthly.get("requests"),
        monthly_tokens=monthly.get("tokens"),
        monthly_cost=_cost(monthly.get("cost"), "spec.perPolicy.monthly.cost"),
        redis_url_file=names.secret_class_redis_url(name) if has_redis else None,
        reserved_requests=reserved.requests,
        reserved_tokens=reserved.tokens,
    )


def _cost(amount: str | None, path: str) -> int | None:
    try:
        return None if amount is None else money.nanos(amount)
    except ValueError as error:
        raise errors.InvalidPolicy(path, str(error)) from None


def to_document(found: ProviderClass) -> document.ProviderClass:
    """The class as sidecars read it."""
    return document.ProviderClass(name=found.name, quota=found.quota, rate=found.rate)
