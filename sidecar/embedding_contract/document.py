"""The policy document: what the operator writes into a ConfigMap and the sidecar obeys.

The format only grows. Unknown keys are ignored, so that a sidecar outlives operator upgrades; a key
whose ignorance would overspend, leak or mix spaces is listed in `requires`, and a reader that lacks
it refuses the whole document and stays with its last good one. `version` is for breaking changes.
The document holds no secret: it names files of the mounted Secret.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from embedding_contract import json_fields as fields
from embedding_contract import provider_terms, spaces
from embedding_contract.json_fields import InvalidDocument

VERSION: Final = 1
FEATURES: Final[frozenset[str]] = frozenset()
"""What `requires` may name and this reader carries out. Version 1 as first written needs none."""

DEFAULT_BASE_URLS: Final[Mapping[str, str]] = MappingProxyType(
    {"OpenAI": "https://api.openai.com/v1", "Voyage": "https://api.voyageai.com/v1"}
)
"""Where a type of provider answers if its policy does not say; OpenAICompatible must say."""
ATLAS_BASE_URL: Final = "https://ai.mongodb.com/v1"
ATLAS_KEY_PREFIX: Final = "al-"
"""A key of Voyage that begins so was made in MongoDB Atlas and is of use at Atlas's host only
(voyageai Python package, util.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider of the policy, in order of preference.

    `kind` is OpenAI, Voyage or OpenAICompatible; `base_url` has no trailing slash;
    `api_key_file` names a file of the mounted Secret, None where the provider wants no key;
    `price_per_million_tokens` is a decimal string in the currency of the reader's choice;
    `call_seconds` and `request_seconds` are the longest that one call to it may take, and a request
    for its model with all its calls: None leaves that to the sidecar's environment.
    """

    name: str
    kind: str
    model: str
    base_url: str
    aliases: tuple[str, ...] = ()
    dimensions: int | None = None
    declared_space: str | None = None
    api_key_file: str | None = None
    price_per_million_tokens: str | None = None
    limits: provider_terms.Limits = provider_terms.NO_LIMITS
    call_seconds: float | None = None
    request_seconds: float | None = None
    pass_through_fields: tuple[provider_terms.PassThroughField, ...] = ()

    def space(self, dimensions: int | None = None) -> str:
        """The space of this provider's vectors, at the size a caller asked for if it did."""
        return spaces.space_of(
            kind=self.kind,
            model=self.model,
            base_url=self.base_url,
            declared=self.declared_space,
            pinned=self.dimensions,
            requested=dimensions,
        )

    def answers_to(self, model: str) -> bool:
        """Whether a request for this model means this provider."""
        return model == self.model or model in self.aliases


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Whether another provider may answer, and whether it may do so from another space."""

    enabled: bool = True
    across_spaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Calls and tokens of the policy per UTC day; None lifts the limit, 0 closes.

    `deny_on_store_loss` False lets each pod count alone while Redis is away. Requests of the class
    background draw only while more than the reserve is left of a limit.
    """

    daily_requests: int | None = 10_000
    daily_tokens: int | None = None
    deny_on_store_loss: bool = True
    redis_url_file: str | None = None
    reserved_requests: int = 0
    reserved_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """How long vectors are kept, and where. `ttl_seconds` 0 keeps nothing."""

    ttl_seconds: int = 604_800
    memory_max_bytes: int = 33_554_432
    redis_url_file: str | None = None
    shared: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThrough:
    """Where `/v1/*` other than embeddings goes; None answers 404."""

    base_url: str | None = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How to reach what is outside: proxies by URL, and authorities beside OpenSSL's as PEM.

    `no_proxy` names hosts that are called without, separated by commas. What is None is as the
    reader's environment says. Redis is never called by a proxy.
    """

    http_proxy: str | None = None
    https_proxy: str | None = None
    no_proxy: str | None = None
    authorities: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A table that can be searched: `url` is where its search answers, without a path.

    A search's proof names `uid` as the pod: any pod of the index may answer.
    """

    name: str
    uid: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """A whole policy as a sidecar sees it."""

    namespace: str
    name: str
    providers: tuple[Provider, ...]
    failover: Failover = field(default_factory=Failover)
    quota: Quota = field(default_factory=Quota)
    cache: Cache = field(default_factory=Cache)
    passthrough: PassThrough = field(default_factory=PassThrough)
    indexes: tuple[Index, ...] = ()
    network: Network = field(default_factory=Network)
    log_level: str = "info"
    requires: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """`namespace/name`: whose quota is counted. The environment form has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def cache_scope(self) -> str:
        """Whose cache entries are whose: the policy's own, or a name its namespace shares."""
        if self.cache.shared is not None:
            return f"{self.namespace}/shared/{self.cache.shared}"
        return f"{self.namespace}/policy/{self.name}"


def called_url(*, kind: str, base_url: str, api_key: str | None) -> str:
    """Where a provider is called: its base URL, unless the key belongs to another built-in host."""
    is_atlas = kind == "Voyage" and (api_key or "").startswith(ATLAS_KEY_PREFIX)
    # An address that the policy chose is left alone.
    return ATLAS_BASE_URL if is_atlas and base_url == DEFAULT_BASE_URLS["Voyage"] else base_url


def parse(text: str | bytes) -> PolicyDocument:
    """Read a document.

    Raises:
        InvalidDocument: it is no JSON object, a field is missing or of the wrong type, its version
            is another, or it requires a feature this reader lacks.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument("", f"not JSON: {error}") from None
    root = fields.Object(raw, "")
    version = root.get("version", fields.integer)
    if version != VERSION:
        raise InvalidDocument("version", f"this sidecar reads {VERSION}, the document is {version}")
    requires = root.get("requires", fields.texts, default=())
    lacking = sorted(set(requires) - FEATURES)
    if lacking:
        raise InvalidDocument("requires", f"this sidecar lacks {', '.join(lacking)}")
    policy = root.child("policy")
    quota = root.child("quota")
    daily = quota.child("daily")
    cache = root.child("cache")
    passthrough = root.child("passthrough")
    failover = root.child("failover")
    reserve = quota.child("reserveForApplications")
    return PolicyDocument(
        namespace=policy.get("namespace", fields.string),
        name=policy.get("name", fields.text),
        providers=_providers(root),
        failover=Failover(
            enabled=failover.get("enabled", fields.boolean, default=True),
            across_spaces=failover.get("acrossSpaces", fields.boolean, default=False),
        ),
        quota=Quota(
            daily_requests=daily.get("requests", fields.nullable(fields.count)),
            daily_tokens=daily.get("tokens", fields.nullable(fields.count), default=None),
            deny_on_store_loss=quota.get("onStoreLoss", fields.text, default="Deny") != "Allow",
            redis_url_file=quota.get(
                "redisURLFile", fields.nullable(fields.file_name), default=None
            ),
            reserved_requests=reserve.get("requests", fields.count, default=0),
            reserved_tokens=reserve.get("tokens", fields.count, default=0),
        ),
        cache=Cache(
            ttl_seconds=cache.get("ttlSeconds", fields.count, default=604_800),
            memory_max_bytes=cache.get("memoryMaxBytes", fields.count, default=33_554_432),
            redis_url_file=cache.get(
                "redisURLFile", fields.nullable(fields.file_name), default=None
            ),
            shared=cache.get("shared", fields.nullable(fields.text), default=None),
        ),
        passthrough=PassThrough(
            base_url=passthrough.get("baseURL", fields.nullable(fields.url), default=None)
        ),
        indexes=root.get("indexes", _indexes, default=()),
        network=_network(root.child("network")),
        log_level=root.get("logLevel", fields.text, default="info"),
        requires=requires,
    )


def dump(document: PolicyDocument) -> str:
    """The document as JSON text, the same text for the same document."""
    body = {
        "version": VERSION,
        "requires": list(document.requires),
        "policy": {"namespace": document.namespace, "name": document.name},
        "providers": [
            {
                "name": provider.name,
                "type": provider.kind,
                "model": provider.model,
                "aliases": list(provider.aliases),
                "baseURL": provider.base_url,
                "dimensions": provider.dimensions,
                "space": provider.declared_space,
                "apiKeyFile": provider.api_key_file,
                "pricePerMillionTokens": provider.price_per_million_tokens,
                **provider_terms.written(
                    limits=provider.limits,
                    call_seconds=provider.call_seconds,
                    request_seconds=provider.request_seconds,
                    pass_through_fields=provider.pass_through_fields,
                ),
            }
            for provider in document.providers
        ],
        "failover": {
            "enabled": document.failover.enabled,
            "acrossSpaces": document.failover.across_spaces,
        },
        "quota": {
            "daily": {
                "requests": document.quota.daily_requests,
                "tokens": document.quota.daily_tokens,
            },
            "onStoreLoss": "Deny" if document.quota.deny_on_store_loss else "Allow",
            "redisURLFile": document.quota.redis_url_file,
            "reserveForApplications": {
                "requests": document.quota.reserved_requests,
                "tokens": document.quota.reserved_tokens,
            },
        },
        "cache": {
            "ttlSeconds": document.cache.ttl_seconds,
            "memoryMaxBytes": document.cache.memory_max_bytes,
            "redisURLFile": document.cache.redis_url_file,
            "shared": document.cache.shared,
        },
        "passthrough": {"baseURL": document.passthrough.base_url},
        "indexes": [
            {"name": index.name, "uid": index.uid, "url": index.url} for index in document.indexes
        ],
        "logLevel": document.log_level,
        **_written(document.network),
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _written(network: Network) -> dict[str, object]:
    """The part of the network; nothing where it says nothing, as most documents do."""
    if network == Network():
        return {}
    said = {
        "httpProxy": network.http_proxy,
        "httpsProxy": network.https_proxy,
        "noProxy": network.no_proxy,
        "authorities": network.authorities,
    }
    return {"network": said}


def _network(item: fields.Object) -> Network:
    return Network(
        http_proxy=item.get("httpProxy", fields.nullable(fields.url), default=None),
        https_proxy=item.get("httpsProxy", fields.nullable(fields.url), default=None),
        no_proxy=item.get("noProxy", fields.nullable(fields.text), default=None),
        authorities=item.get("authorities", fields.nullable(fields.text), default=None),
    )


def _providers(root: fields.Object) -> tuple[Provider, ...]:
    items = root.get("providers", fields.array)
    if not items:
        raise InvalidDocument("providers", "must name at least one provider")
    providers = tuple(
        _provider(fields.Object(item, f"providers[{index}]")) for index, item in enumerate(items)
    )
    if len({provider.name for provider in providers}) < len(providers):
        raise InvalidDocument("providers", "names must be unique")
    return providers


def _provider(item: fields.Object) -> Provider:
    timeouts, seconds = item.child("timeouts"), fields.nullable(provider_terms.seconds)
    return Provider(
        name=item.get("name", fields.word),
        kind=item.get("type", fields.text),
        model=item.get("model", fields.word),
        base_url=item.get("baseURL", fields.url),
        aliases=item.get("aliases", fields.words, default=()),
        dimensions=item.get("dimensions", fields.nullable(fields.positive), default=None),
        declared_space=item.get("space", fields.nullable(fields.word), default=None),
        api_key_file=item.get("apiKeyFile", fields.nullable(fields.file_name), default=None),
        price_per_million_tokens=item.get(
            "pricePerMillionTokens", fields.nullable(fields.text), default=None
        ),
        limits=provider_terms.limits_of(item.child("limits")),
        call_seconds=timeouts.get("callSeconds", seconds, default=None),
        request_seconds=timeouts.get("requestSeconds", seconds, default=None),
        pass_through_fields=item.get(
            "passThroughFields", provider_terms.pass_through_fields_of, default=()
        ),
    )


def _indexes(value: object, path: str) -> tuple[Index, ...]:
    return tuple(
        _index(fields.Object(item, f"{path}[{number}]"))
        for number, item in enumerate(fields.array(value, path))
    )


def _index(item: fields.Object) -> Index:
    return Index(
        name=item.get("name", fields.word),
        uid=item.get("uid", fields.word),
        url=item.get("url", fields.url),
    )
