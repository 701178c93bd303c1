"""One entry of `spec.providers`: its values, what its type needs, and its part of the document.

The API server refuses by rules of the resource what `check` refuses; `render` works without one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from embedding_contract import document, money, names, prices, provider_terms
from embedding_operator import errors
from embedding_operator.policy import reference
from embedding_operator.policy.reference import Reference

OF_THE_CLASS: Final = (
    *("type", "baseURL", "apiKey", "azure", "region", "dimensions", "space", "rate"),
    "pricePerMillionTokens",
)
"""The fields that a ClusterEmbeddingProvider gives, so that an entry with `ref` has none."""
_AZURE: Final = "AzureOpenAI"
_BEDROCK: Final = "Bedrock"
_COMPATIBLE: Final = "OpenAICompatible"
_URL_EXAMPLES: Final = {
    _COMPATIBLE: "http://embedder.models.svc:8080/v1",
    _AZURE: "https://NAME.openai.azure.com",
}
"""Types that have no address of their own, and what to write."""
_OLDEST: Final = frozenset({"OpenAI", "Voyage", _COMPATIBLE})
"""Types that each sidecar knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One entry of `spec.providers`.

    With `ref`, the name of a ClusterEmbeddingProvider, it is not complete until that is found:
    `kind` is then empty, `model` too unless the policy picks one, and the class's fields are None.
    A complete provider of a class keeps its `ref`.
    """

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
    weight: int | None = None
    rate: provider_terms.Rate = provider_terms.NO_RATE
    azure: provider_terms.Azure | None = None
    region: str | None = None
    ref: str | None = None

    @property
    def is_complete(self) -> bool:
        """False while the ClusterEmbeddingProvider of `ref` has not been found."""
        return bool(self.kind)

    @property
    def key_file(self) -> str | None:
        """The owned Secret's key that holds the API key; None without one."""
        if self.api_key is None:
            return None
        by_class = None if self.ref is None else names.secret_class_key(self.ref)
        return by_class or names.secret_provider_key(self.name)

    @property
    def called_at(self) -> str | None:
        """The base URL, without a trailing slash; the vendor's own where the policy names none."""
        url = self.base_url or document.default_base_url(kind=self.kind, region=self.region)
        return None if url is None else url.rstrip("/")


def parse(entry: Mapping[str, Any], path: str) -> Provider:
    """The entry at `path`, as yet without the fields of its ClusterEmbeddingProvider.

    Raises:
        errors.InvalidPolicy: a name, type or model is missing, or a field of the class is set.
        KeyError, TypeError, AttributeError: it is not what the schema admits.
    """
    ref = entry.get("ref")
    for key in ("name", "type", "model") if ref is None else ():
        if key not in entry:
            message = "is required, unless ref names a ClusterEmbeddingProvider"
            raise errors.InvalidPolicy(f"{path}.{key}", message)
    given = [key for key in OF_THE_CLASS if ref is not None and key in entry]
    if given:
        message = f"is that of the ClusterEmbeddingProvider {ref}: remove it, or ref"
        raise errors.InvalidPolicy(f"{path}.{given[0]}", message)
    timeouts = entry.get("timeouts", {})
    return Provider(
        name=entry.get("name", ref),
        kind=entry.get("type", ""),
        model=entry.get("model", ""),
        aliases=tuple(entry.get("aliases", ())),
        base_url=entry.get("baseURL"),
        dimensions=entry.get("dimensions"),
        space=entry.get("space"),
        api_key=reference.parse(entry.get("apiKey")),
        price_per_million_tokens=entry.get("pricePerMillionTokens"),
        limits=_limits(entry.get("limits", {})),
        call_seconds=timeouts.get("callSeconds"),
        request_seconds=timeouts.get("requestSeconds"),
        pass_through_fields=tuple(
            provider_terms.PassThroughField(
                name=it["name"], changes_space=it.get("changesSpace", False)
            )
            for it in entry.get("passThroughFields", ())
        ),
        weight=entry.get("weight"),
        rate=rate(entry.get("rate", {})),
        azure=azure(entry.get("azure")),
        region=entry.get("region"),
        ref=ref,
    )


def _limits(entry: Mapping[str, Any]) -> provider_terms.Limits:
    return provider_terms.Limits(
        items=entry.get("items"),
        body_bytes=entry.get("bytes"),
        tokens_per_item=entry.get("tokensPerItem"),
    )


def rate(entry: Mapping[str, Any]) -> provider_terms.Rate:
    """A `rate`, here or of a ClusterEmbeddingProvider."""
    return provider_terms.Rate(
        requests_per_minute=entry.get("requestsPerMinute"),
        tokens_per_minute=entry.get("tokensPerMinute"),
    )


def azure(entry: Mapping[str, Any] | None) -> provider_terms.Azure | None:
    """The `azure` of an entry, here or of a ClusterEmbeddingProvider."""
    if entry is None:
        return None
    made = provider_terms.Azure(
        deployment=entry["deployment"],
        api_version=entry.get("apiVersion"),
        tenant_id=entry.get("tenantID"),
        client_id=entry.get("clientID"),
    )
    authority = entry.get("authority")
    return made if authority is None else replace(made, authority=authority.rstrip("/"))


def check(provider: Provider, path: str) -> None:
    """Refuse a complete provider that lacks a field of its type, or has one of another type.

    Raises:
        errors.InvalidPolicy: the message names field and type, and gives an example.
    """
    kind = provider.kind
    if provider.called_at is None and kind != _BEDROCK:
        example = _URL_EXAMPLES.get(kind, "https://HOST/v1")
        message = f"is required for type {kind}, for example {example}"
        raise errors.InvalidPolicy(f"{path}.baseURL", message)
    if kind == _AZURE:
        _check_azure(provider, path)
    elif provider.azure is not None:
        raise errors.InvalidPolicy(f"{path}.azure", f"is for type {_AZURE} only")
    elif provider.api_key is None and kind != _COMPATIBLE:
        raise errors.InvalidPolicy(f"{path}.apiKey", f"is required for type {kind}")
    if kind == _BEDROCK:
        _check_bedrock(provider, path)
    elif provider.region is not None:
        raise errors.InvalidPolicy(f"{path}.region", f"is for type {_BEDROCK} only")


def _check_azure(provider: Provider, path: str) -> None:
    terms = provider.azure
    if terms is None:
        message = f"is required for type {_AZURE}, for example azure: {{deployment: embeddings}}"
        raise errors.InvalidPolicy(f"{path}.azure", message)
    if (terms.tenant_id is None) != (terms.client_id is None):
        raise errors.InvalidPolicy(f"{path}.azure", "tenantID and clientID come together")
    if (provider.api_key is None) == (terms.tenant_id is None):
        message = "needs either an apiKey, or azure.tenantID and azure.clientID"
        raise errors.InvalidPolicy(path, message)
    found = urlsplit(terms.authority)
    if found.scheme != "https" or found.geturl() != f"https://{found.hostname}":
        message = "must be https://HOST, without user, path or query"
        raise errors.InvalidPolicy(f"{path}.azure.authority", message)


def _check_bedrock(provider: Provider, path: str) -> None:
    if provider.region is None:
        message = f"is required for type {_BEDROCK}, for example eu-central-1"
        raise errors.InvalidPolicy(f"{path}.region", message)
    if not any(it in provider.model for it in provider_terms.BEDROCK_MODELS):
        message = (
            f"of type {_BEDROCK} must be a text embedding model of Titan or of Cohere, for example "
            "amazon.titan-embed-text-v2:0"
        )
        raise errors.InvalidPolicy(f"{path}.model", message)


def price(provider: Provider) -> str | None:
    """The price of a million tokens that counts, a decimal string; None where none is known."""
    return prices.counting(
        kind=provider.kind,
        model=provider.model,
        base_url=provider.base_url,
        region=provider.region,
        named=provider.price_per_million_tokens,
    )


def check_price(provider: Provider, counted: str, path: str) -> None:
    """Refuse a price, written at `path`, that sidecars do not count by.

    Raises:
        errors.InvalidPolicy: the message names the model.
    """
    if not money.PRICE.fullmatch(counted):
        message = (
            f"the price of {provider.kind}/{provider.model}, {counted} US dollars for a million"
            " tokens, is too high to limit its cost: write at most 9999999"
        )
        raise errors.InvalidPolicy(path, message, reason="PriceTooHigh")


def requires(provider: Provider) -> set[str]:
    """The words of `requires` for a provider: what a sidecar must know in order to call it."""
    found = set[str]()
    if provider.kind not in _OLDEST:
        found.add(f"type.{provider.kind}")
    if provider.rate != provider_terms.NO_RATE:
        found.add("rate")
    if provider.ref is not None:
        found.add("class")
    return found


def to_document(provider: Provider, path: str, *, price: str | None) -> document.Provider:
    """The provider at `path` as sidecars read it, with the price that they count by.

    Raises:
        errors.InvalidPolicy: its class was not found, or its type lacks a field.
    """
    if not provider.is_complete:
        # The operator refuses a class that it does not find; `render` works without any.
        message = f"ClusterEmbeddingProvider {provider.ref} is not known here"
        raise errors.InvalidPolicy(f"{path}.ref", message, reason="ClassMissing")
    check(provider, path)
    return document.Provider(
        name=provider.name,
        kind=provider.kind,
        model=provider.model,
        base_url=provider.called_at or "",
        aliases=provider.aliases,
        dimensions=provider.dimensions,
        declared_space=provider.space,
        api_key_file=provider.key_file,
        price_per_million_tokens=price,
        limits=provider.limits,
        call_seconds=provider.call_seconds,
        request_seconds=provider.request_seconds,
        pass_through_fields=provider.pass_through_fields,
        weight=provider.weight,
        rate=provider.rate,
        class_name=provider.ref,
        azure=provider.azure,
        region=provider.region,
    )
