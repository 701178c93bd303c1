"""The policy document: the operator writes it into a ConfigMap, the sidecar obeys it.

The format only grows. Unknown keys are ignored, so that a sidecar outlives operator upgrades; a key
that, if ignored, would overspend, leak or mix spaces is listed in `requires`: a reader that lacks
it refuses the whole document and keeps its last good one. `version` is for breaking changes.
The document holds no secret: it names files of the mounted Secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Annotated, Final

from embedding_contract import (
    json_fields,
    json_records,
    money,
    provider_terms,
    reserve,
    spaces,
)
from embedding_contract.json_fields import Count, FileName, Positive, Text, Url, Word, check
from embedding_contract.json_records import REQUIRED, Key

VERSION: Final = 1
FEATURES: Final[frozenset[str]] = frozenset(
    {
        "class",
        "quota.cost",
        "quota.monthly",
        "rate",
        "signature",
        "type.AzureOpenAI",
        "type.Bedrock",
        "type.Cohere",
        "type.Gemini",
        "type.Jina",
        "type.Mistral",
    }
)
"""Values of `requires` that this reader carries out; version 1 as first written needs none."""

DEFAULT_BASE_URLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "OpenAI": "https://api.openai.com/v1",
        "Voyage": "https://api.voyageai.com/v1",
        "Gemini": "https://generativelanguage.googleapis.com/v1beta",
        "Cohere": "https://api.cohere.com/v2",
        "Mistral": "https://api.mistral.ai/v1",
        "Jina": "https://api.jina.ai/v1",
    }
)
"""Base URLs of policies that name none; OpenAICompatible and AzureOpenAI must name one."""
ATLAS_BASE_URL: Final = "https://ai.mongodb.com/v1"
ATLAS_KEY_PREFIX: Final = "al-"
"""MongoDB Atlas issues Voyage keys with this prefix; they work at Atlas's host only (voyageai
Python package, util.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider of the policy, in order of preference.

    `kind` is a type of the resource's enum; `base_url` has no trailing slash;
    `api_key_file` names a file of the mounted Secret, None where the provider wants no key;
    `price_per_million_tokens` is a decimal string in the currency of the reader's choice;
    `call_seconds` and `request_seconds` are the longest that one call to it may take, and a request
    for its model with all its calls: None leaves that to the sidecar's environment.

    `weight` is this provider's part of the requests that providers of one space and equal model
    names share; 0 takes only what the others cannot. Where one of them has a weight, None is 1;
    where none has, the first of the list is always asked first. `class_name` is the
    ClusterEmbeddingProvider that it comes from. `region` is Amazon Bedrock's.
    """

    name: Word
    kind: Annotated[Text, Key("type")]
    model: Word
    aliases: tuple[Word, ...] = ()
    base_url: Annotated[Url, Key("baseURL")]
    dimensions: Positive | None = None
    declared_space: Annotated[Word | None, Key("space")] = None
    api_key_file: FileName | None = None
    price_per_million_tokens: Text | None = None
    # The rest came after version 1 was first written, so each is left out where it is not set.
    limits: Annotated[provider_terms.Limits, Key(omits_default=True)] = provider_terms.NO_LIMITS
    call_seconds: Annotated[
        provider_terms.Seconds | None, Key("timeouts.callSeconds", omits_default=True)
    ] = None
    request_seconds: Annotated[
        provider_terms.Seconds | None, Key("timeouts.requestSeconds", omits_default=True)
    ] = None
    pass_through_fields: Annotated[
        tuple[provider_terms.PassThroughField, ...], Key(omits_default=True)
    ] = ()
    weight: Annotated[Count | None, Key(omits_default=True)] = None
    rate: Annotated[provider_terms.Rate, Key(omits_default=True)] = provider_terms.NO_RATE
    class_name: Annotated[Word | None, Key("class", omits_default=True)] = None
    azure: Annotated[provider_terms.Azure | None, Key(omits_default=True)] = None
    region: Annotated[Word | None, Key(omits_default=True)] = None

    def space(self, dimensions: int | None = None) -> str:
        """The space of this provider's vectors, of the size that a caller asked for, if any."""
        return spaces.space_of(
            kind=self.kind,
            model=self.model,
            base_url=self.base_url,
            declared=self.declared_space,
            pinned=self.dimensions,
            requested=dimensions,
        )

    @property
    def identity(self) -> provider_terms.Identity | None:
        """The identity that calls it; None where an API key does, or nothing is asked for."""
        return None if self.azure is None else self.azure.identity

    def answers_to(self, model: str) -> bool:
        """True if a request for this model means this provider."""
        return model == self.model or model in self.aliases


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Permission for another provider to answer, and to do so from another space."""

    enabled: bool = True
    across_spaces: bool = False


def _amount(name: str) -> Key:
    """The place of an amount of money: nano-dollars here, a decimal string of dollars there."""
    return Key(name, read=money.read, write=money.write, omits_default=True)


def _observes(value: object, path: str) -> bool:
    text: str = json_records.reader(Text)(value, path)
    return text == "Observe"


def _denies(value: object, path: str) -> bool:
    text: str = json_records.reader(Text)(value, path)
    return text != "Allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Calls, tokens and money of the policy per UTC day and month; None is no limit, 0 closes.

    Costs are in nano-dollars (`money`). `deny_on_store_loss` False lets each pod count alone while
    Redis is away. With `observes` everything is counted and nothing refused. Requests of the class
    background draw only while more than the reserve is left of a limit: the named part of the day's
    calls and tokens, `reserved_percent` of every other limit.
    """

    daily_requests: Annotated[Count | None, Key("daily.requests", absent=REQUIRED)] = 10_000
    daily_tokens: Annotated[Count | None, Key("daily.tokens")] = None
    deny_on_store_loss: Annotated[
        bool,
        Key("onStoreLoss", read=_denies, write=lambda denies: "Deny" if denies else "Allow"),
    ] = True
    redis_url_file: Annotated[FileName | None, Key("redisURLFile")] = None
    reserved_requests: Annotated[Count, Key("reserveForApplications.requests")] = 0
    reserved_tokens: Annotated[Count, Key("reserveForApplications.tokens")] = 0
    daily_cost: Annotated[int | None, _amount("daily.cost")] = None
    monthly_requests: Annotated[Count | None, Key("monthly.requests", omits_default=True)] = None
    monthly_tokens: Annotated[Count | None, Key("monthly.tokens", omits_default=True)] = None
    monthly_cost: Annotated[int | None, _amount("monthly.cost")] = None
    observes: Annotated[
        bool,
        Key(
            "mode",
            read=_observes,
            write=lambda observes: "Observe" if observes else "Enforce",
            omits_default=True,
        ),
    ] = False
    reserved_percent: Annotated[
        Count, Key("reserveForApplications.percent", omits_default=True)
    ] = reserve.DEFAULT_PERCENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Storage of vectors: for how long, and where. `ttl_seconds` 0 keeps nothing."""

    ttl_seconds: Count = 604_800
    memory_max_bytes: Count = 33_554_432
    redis_url_file: Annotated[FileName | None, Key("redisURLFile")] = None
    shared: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThrough:
    """The server of `/v1/*` other than embeddings; None answers 404, as does an absent key."""

    base_url: Annotated[Url | None, Key("baseURL", absent=None)] = DEFAULT_BASE_URLS["OpenAI"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network settings for outside hosts: proxy URLs, and CAs beside OpenSSL's, as PEM.

    `no_proxy` names hosts called without a proxy, separated by commas. For each field that is None
    the reader's environment decides. Redis is never called through a proxy.
    """

    http_proxy: Url | None = None
    https_proxy: Url | None = None
    no_proxy: Text | None = None
    authorities: Text | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A table that can be searched: `url` is where its search answers, without a path.

    A search's proof names `uid` as the pod: any pod of the index may answer.
    """

    name: Word
    uid: Word
    url: Url


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderClass:
    """A ClusterEmbeddingProvider that the policy uses: what this policy may spend there at most.

    `quota.redis_url_file` names the Redis of the class, in which all policies' rate is counted.
    """

    name: Word
    quota: Quota
    rate: Annotated[provider_terms.Rate, Key(omits_default=True)] = provider_terms.NO_RATE


def _carried_out(requires: tuple[str, ...], path: str) -> tuple[str, ...]:
    lacking = sorted(set(requires) - FEATURES)
    if lacking:
        raise json_fields.InvalidDocument(path, f"this sidecar lacks {', '.join(lacking)}")
    return requires


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """A whole policy as a sidecar sees it."""

    # Read first: a document that this reader cannot obey may have any other form.
    version: Annotated[
        int, json_records.version(VERSION, reader="sidecar"), Key(absent=REQUIRED)
    ] = VERSION
    requires: Annotated[tuple[Text, ...], _carried_out] = ()
    namespace: Annotated[str, Key("policy.namespace")]
    name: Annotated[Text, Key("policy.name")]
    providers: Annotated[
        tuple[Provider, ...],
        check(bool, "must name at least one provider"),
        check(lambda it: len({each.name for each in it}) == len(it), "names must be unique"),
    ]
    failover: Failover = field(default_factory=Failover)
    quota: Quota = field(default_factory=Quota)
    cache: Cache = field(default_factory=Cache)
    passthrough: PassThrough = field(default_factory=PassThrough)
    indexes: tuple[Index, ...] = ()
    log_level: Text = "info"
    network: Annotated[Network, Key(omits_default=True)] = field(default_factory=Network)
    classes: Annotated[tuple[ProviderClass, ...], Key(omits_default=True)] = ()

    @property
    def scope(self) -> str:
        """`namespace/name`, by which quota is counted. The environment form has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def cache_scope(self) -> str:
        """The owner of cache entries: the policy, or a name that its namespace shares."""
        if self.cache.shared is not None:
            return f"{self.namespace}/shared/{self.cache.shared}"
        return f"{self.namespace}/policy/{self.name}"


def default_base_url(*, kind: str, region: str | None) -> str | None:
    """The vendor's own address; None for a type that has none. Bedrock has one in each region."""
    if kind == "Bedrock":
        return None if region is None else f"https://bedrock-runtime.{region}.amazonaws.com"
    return DEFAULT_BASE_URLS.get(kind)


def called_url(*, kind: str, base_url: str, api_key: str | None) -> str:
    """The URL to call: the base URL, unless the key belongs to another built-in host."""
    is_atlas = kind == "Voyage" and (api_key or "").startswith(ATLAS_KEY_PREFIX)
    # An address that the policy chose is kept.
    return ATLAS_BASE_URL if is_atlas and base_url == DEFAULT_BASE_URLS["Voyage"] else base_url


parse: Final = partial(json_records.parse, PolicyDocument)
"""Reads a document. Raises InvalidDocument, also for another version or a lacking feature."""
dump: Final = json_records.dump
