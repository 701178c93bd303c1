"""The runtime: the parts made of a document and its secrets, which a request uses to its end.

Parts that a change does not touch are taken over from the runtime before: connections whose URL is
the same, the cache whose terms are the same, and always the policy's spending. Replaced parts are
closed after the requests that still hold them have had their time.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import redis.asyncio

from embedding_contract import class_keys, document, json_fields, names, provider_terms
from embedding_sidecar import errors, memory_limit, providers
from embedding_sidecar.cache import (
    cache_entry,
    entry_encoding,
    generations,
    memory_cache,
    redis_cache,
    tiered_cache,
)
from embedding_sidecar.engine import cached_answers, inflight, provider_states, service
from embedding_sidecar.engine.caller import Caller
from embedding_sidecar.identity import access_tokens
from embedding_sidecar.policy import policy_file
from embedding_sidecar.providers import azure_openai, bedrock
from embedding_sidecar.quota import ceilings, counter, prices, quota, quota_store
from embedding_sidecar.rate import places, rates, window_store
from embedding_sidecar.redis_client import redis_url
from embedding_sidecar.telemetry.metrics import Metrics
from embedding_sidecar.upstream import http_client
from embedding_sidecar.upstream import tls_authorities as certificates

DRAIN_SECONDS: Final = 60.0
"""Longer than a request can take where no policy says more, so that none loses its connection to a
change of the policy."""
_BESIDES: Final = 10.0
"""Time that a request may take beside its calls, for example to be sent."""

_SHARE_OF_BODIES: Final = 8
"""An eighth of the cache's memory serves to recognize request bodies: a body is about that much
shorter than a vector."""

_SHARE_OF_WRITING: Final = 8
"""An eighth of all memory may be on its way to Redis: batches may be answered at the same time, and
other pods pay again for vectors that are not kept there."""

_SHARE_OF_READING: Final = 4
"""A quarter of all memory bounds one answer of Redis, which is more than the vectors of the large
requests that are admitted at once."""

_CEILING: Final = "ceiling of "
_WINDOWS: Final = "windows of "
_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A policy in force."""

    loaded: policy_file.Loaded
    service: service.Service
    quota: quota.Quota
    cache: tiered_cache.TieredCache
    upstream: http_client.HttpClient
    cached_answers: cached_answers.CachedAnswers


def check(policy: document.PolicyDocument) -> None:
    """Refuse what this sidecar cannot carry out, before it replaces what it can.

    Raises:
        json_fields.InvalidDocument: a provider is of a type this sidecar does not know, lacks a
            term of its type, or has no price where money is limited.
    """
    for index, provider in enumerate(policy.providers):
        if provider.kind not in providers.PROVIDERS:
            raise json_fields.InvalidDocument(
                f"providers[{index}].type", f"this sidecar does not know {provider.kind}"
            )
        if provider.kind == azure_openai.AzureOpenAI.vendor and provider.azure is None:
            raise json_fields.InvalidDocument(f"providers[{index}].azure", "is missing")
        if provider.kind == bedrock.Bedrock.vendor:
            _check_bedrock(provider, f"providers[{index}]")
    prices.of(policy)
    if policy.network.authorities is not None:
        try:
            certificates.check(policy.network.authorities)
        except ValueError as error:
            raise json_fields.InvalidDocument("network.authorities", str(error)) from None


def _check_bedrock(provider: document.Provider, path: str) -> None:
    if provider.region is None:
        raise json_fields.InvalidDocument(f"{path}.region", "is missing")
    if not bedrock.makes_vectors(provider.model):
        raise json_fields.InvalidDocument(
            f"{path}.model", "names neither a text embedding model of Titan nor one of Cohere"
        )


class RuntimeFactory:
    """Makes runtimes, and closes what they no longer need."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        timing: service.Timing = service.Timing(),  # noqa: B008 - frozen
        memory_bytes: int = memory_limit.DEFAULT_BYTES,
        identity_token: Path = Path(names.AZURE_TOKEN_PATH),
    ) -> None:
        self._metrics = metrics
        self._tokens = access_tokens.AccessTokens(file=identity_token)
        self._memory_bytes = memory_bytes
        self._timing = timing
        self._states = provider_states.ProviderStates()
        self._drain_seconds = DRAIN_SECONDS
        self._registry = inflight.InflightCalls(clock=time.monotonic)
        self._parts: dict[str, Any] = {}
        """Parts by name, None for none; on equal terms one is taken over."""
        self._terms: dict[str, Hashable] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def prepare(self, loaded: policy_file.Loaded) -> None:
        """Import what this document alone needs, which takes too long for the event loop."""
        if any(it.kind == bedrock.Bedrock.vendor for it in loaded.document.providers):
            await asyncio.to_thread(bedrock.load)

    def make(self, loaded: policy_file.Loaded) -> Runtime:
        """The runtime of a document that `check` accepts."""
        policy = loaded.document
        cached, counted = self._cache(loaded), self._quota(loaded)
        connect = partial(
            http_client.HttpClient, memory_bytes=self._memory_bytes, network=policy.network
        )
        calling = self._taken_over("upstream", policy.network, connect)
        longest = max(self._timing.request_seconds, *map(self._timing.of_request, policy.providers))
        self._drain_seconds = max(self._drain_seconds, longest + _BESIDES)
        made = service.Service(
            document=policy,
            caller=Caller(
                keys=self._states.follow(policy, _usable_keys(loaded), now=time.monotonic()),
                quota=counted,
                upstream=calling,
                observe=self._metrics,
                cache=cached,
                registry=self._registry,
                states=self._states,
                prices=prices.of(policy),
                ceilings=ceilings.by_provider(policy, counted, self._ceilings(loaded)),
                attempt_seconds=self._timing.attempt_seconds,
                tokens=self._tokens.follow(policy, upstream=calling),
                rates=self._rates(loaded),
            ),
            timing=self._timing,
        )
        return Runtime(
            loaded=loaded,
            service=made,
            quota=counted,
            cache=cached,
            upstream=calling,
            cached_answers=cached_answers.CachedAnswers(
                document=policy,
                memory=cached,
                max_bytes=policy.cache.memory_max_bytes // _SHARE_OF_BODIES,
            ),
        )

    async def close(self) -> None:
        """Release grants and close all connections, at once."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        # Calls still in flight are counted as billed before the quota releases the rest.
        await self._registry.close()
        # The quota releases its grant at the counter, which is closed after it; meanwhile the
        # cache writes the latest vectors.
        of_classes = [it for it in self._parts if it.startswith(_CEILING)]
        await asyncio.gather(
            self._close("quota", "counter"),
            *(self._close(it, _counter_of(it.removeprefix(_CEILING))) for it in of_classes),
            self._close("store"),
            self._tokens.close(),
        )
        windows = [it for it in self._parts if it.startswith(_WINDOWS)]
        await self._close("rates", "windows", *windows, "upstream")

    async def _close(self, *names: str) -> None:
        for name in names:
            await _close_part(self._parts.get(name))

    def _cache(self, loaded: policy_file.Loaded) -> tiered_cache.TieredCache:
        policy = loaded.document
        url = loaded.secrets.get(policy.cache.redis_url_file or "", "")
        believed = policy.network.authorities
        secret, missing = _cache_secret(loaded) if url else (b"", "")
        terms = policy.cache, policy.cache_scope, url, secret, believed

        def connect() -> redis_cache.RedisCache | None:
            client = _client(url, authorities=believed)
            if client is None:
                return None
            if not secret:
                _log.warning(
                    "entries of the cache in Redis are not authenticated (%s): whoever writes "
                    "that Redis can put vectors into answers",
                    missing,
                )
            return redis_cache.RedisCache(
                client,
                scope=policy.cache_scope,
                max_writing_bytes=max(
                    self._memory_bytes // _SHARE_OF_WRITING, redis_cache.MAX_WRITING_BYTES
                ),
                max_reading_bytes=self._memory_bytes // _SHARE_OF_READING,
            )

        store = self._taken_over("store", terms, connect)

        def make() -> tiered_cache.TieredCache:
            ttl_seconds = min(policy.cache.ttl_seconds, cache_entry.MAX_TTL_SECONDS)
            in_memory = memory_cache.MemoryCache(
                max_bytes=policy.cache.memory_max_bytes
                - policy.cache.memory_max_bytes // _SHARE_OF_BODIES,
                ttl_seconds=ttl_seconds,
            )
            return tiered_cache.TieredCache(
                scope=policy.cache_scope,
                ttl_seconds=ttl_seconds,
                memory=in_memory,
                store=store,
                generations=generations.Generations(
                    store=None if store is None else store.generations, forget=in_memory.forget
                ),
                observe=self._metrics,
                seal=entry_encoding.Seal(secret),
            )

        return self._taken_over("cache", terms, make)

    def _quota(self, loaded: policy_file.Loaded) -> quota.Quota:
        policy = loaded.document
        store: counter.Store | None = self._counting(
            "counter", loaded, policy.quota, quota_store.RedisStore
        )
        make = partial(
            quota.Quota,
            limits=policy.quota,
            scope=policy.scope,
            store=store,
            beyond=self._metrics.quota_observed,
        )
        taken_over = self._taken_over("quota", policy.scope, make)
        taken_over.obey(policy.quota, store=store)
        return taken_over

    def _ceilings(self, loaded: policy_file.Loaded) -> dict[str, quota.Quota]:
        """The most that the policy may spend at each class, by the class's name."""
        policy, found = loaded.document, dict[str, quota.Quota]()
        for it in policy.classes:
            if not ceilings.is_limited(it.quota):
                continue
            store: counter.Store | None = self._counting(
                _counter_of(it.name), loaded, it.quota, quota_store.RedisStore
            )
            scope = class_keys.scope(it.name, policy.namespace, policy.name)
            make = partial(quota.Quota, limits=it.quota, scope=scope, store=store)
            found[it.name] = self._taken_over(_ceiling_of(it.name), scope, make)
            found[it.name].obey(it.quota, store=store)
        return found

    def _counting(
        self, name: str, loaded: policy_file.Loaded, counted: document.Quota, of: Callable[..., T]
    ) -> T | None:
        """A store in the Redis that a quota is counted in; None where it names none."""
        file = counted.redis_url_file
        url = loaded.secrets.get(file or "", "")
        believed = loaded.document.network.authorities

        def make() -> T | None:
            client = _client(url, authorities=believed)
            if client is not None:
                return of(client)
            # Counting alone would let every pod spend the whole day.
            return None if file is None else cast("T", _NoStoreYet())

        return self._taken_over(name, (file is None, url, believed), make)

    def _rates(self, loaded: policy_file.Loaded) -> Mapping[str, rates.ProviderRate] | None:
        """Limits per minute by the provider's name; None for none."""
        policy, store = loaded.document, None
        of_classes = dict[str, places.Store | None]()
        if not places.has_any(policy):
            if "rates" not in self._parts:
                return None
        else:
            store = self._counting("windows", loaded, policy.quota, window_store.RedisWindows)
            of_classes = {
                it.name: self._counting(
                    f"{_WINDOWS}{it.name}", loaded, it.quota, window_store.RedisWindows
                )
                for it in policy.classes
                if it.rate != provider_terms.NO_RATE
            }
        held: rates.Rates = self._taken_over("rates", policy.scope, rates.Rates)
        return held.obey(places.of(policy, store=store, of_classes=of_classes)) or None

    def _taken_over(self, name: str, terms: Hashable, make: Callable[[], T]) -> T:
        if self._terms.get(name) == terms:
            taken: T = self._parts[name]
            return taken
        before, part = self._parts.get(name), make()
        self._parts[name], self._terms[name] = part, terms
        if before is not None:
            task = asyncio.get_running_loop().create_task(
                _retire(before, after_seconds=self._drain_seconds)
            )
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return part


def _ceiling_of(class_name: str) -> str:
    return f"{_CEILING}{class_name}"


def _counter_of(class_name: str) -> str:
    return f"counter of {class_name}"


class _NoStoreYet:
    """Stands in for a store whose URL is not there yet, or is none."""

    async def claim(self, *_: object) -> Any:
        """Raise errors.StoreAway."""
        raise errors.StoreAway("its URL has not been synced yet")

    durability = draw = claim


async def _retire(part: object, *, after_seconds: float) -> None:
    try:
        await asyncio.sleep(after_seconds)
    finally:
        # Closed also when the process ends before the time is up.
        await _close_part(part)


async def _close_part(part: object) -> None:
    # No part, and one without connections, has nothing to close.
    if hasattr(part, "close"):
        await part.close()


def _usable_keys(loaded: policy_file.Loaded) -> dict[str, str]:
    """API keys, by name, of the providers that want one and have one."""
    found = {}
    for provider in loaded.document.providers:
        key = loaded.secrets.get(provider.api_key_file or "", "")
        if key and not (key.isascii() and key.isprintable()):
            _log.error("the key of provider %s holds what no header can; left out", provider.name)
        elif key:
            found[provider.name] = key
    return found


def _cache_secret(loaded: policy_file.Loaded) -> tuple[bytes, str]:
    """The secret that authenticates entries in Redis; if empty, the reason.

    Policies that share their entries have Secrets of their own, and so no key in common.
    """
    if loaded.document.cache.shared is not None:
        return b"", "cache.shared: policies that share entries have no secret in common"
    name = names.SECRET_CACHE_KEY
    written = loaded.secrets.get(name)
    if written is None:
        return b"", f"{name} is not set"
    return entry_encoding.secret_of(written) or b"", f"{name} is not 64 hexadecimal digits"


def _client(url: str, *, authorities: str | None) -> redis.asyncio.Redis | None:
    if not url:
        return None
    try:
        return redis_url.connect(url, authorities=authorities)
    except ValueError:
        # Its text would hold the URL, which may hold a password.
        _log.error("a Redis URL of the policy is no URL of a Redis; nothing is kept there")
        return None
