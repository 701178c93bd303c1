"""The cache of one policy: memory over a store that other pods share."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry, generations, memory_cache
from embedding_sidecar.cache.entry_encoding import Seal, decode, encode
from embedding_sidecar.telemetry.logs import Repeated
from embedding_sidecar.translation import provider_api

MEMORY = "memory"
REDIS = "redis"
MAX_SIZES = 1024
"""Models and spaces whose vectors' size is remembered; callers choose the dimensions."""
_READ: Final = "read"
_WRITE: Final = "write"
_REMOVE: Final = "remove"
_GENERATIONS: Final = "keep generations"

_log = logging.getLogger(__name__)


_Values = Sequence[bytes | None] | errors.StoreAway


class _Store(Protocol):
    """The shared layer, which calls `done` within a budget of time: RedisCache."""

    def fetch(self, keys: Sequence[str], done: Callable[[_Values], None]) -> None: ...
    def keep(
        self,
        values: Mapping[str, bytes],
        *,
        ttl_seconds: int,
        done: Callable[[BaseException | None], None],
    ) -> None: ...
    async def remove(self, keys: Sequence[str]) -> None: ...


class _Observer(Protocol):
    """The metrics of the cache, as in telemetry.metrics."""

    def looked_up(self, layer: str, *, hits: int, seconds: float) -> None: ...
    def missed(self, items: int) -> None: ...
    def saved(self, *, model: str, tokens: int) -> None: ...
    def error(self, kind: str) -> None: ...


class TieredCache:
    """Entries of one policy. A store that is away is a miss, and is counted as an error.

    `seal` binds entries to their keys in the store. Where it does not authenticate them, a vector
    must have the size of the last one that this sidecar has bought of its model and space.
    """

    def __init__(
        self,
        *,
        scope: str,
        ttl_seconds: int,
        memory: memory_cache.MemoryCache,
        store: _Store | None,
        generations: generations.Generations,
        observe: _Observer,
        seal: Seal = Seal(),  # noqa: B008 - holds nothing that changes
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store_state = "none" if store is None else "unknown"
        self._refusals: dict[str, str] = {}
        """Reasons by operation, for those that the store refused last time."""
        self._repeated = Repeated()
        self._seal = seal
        self._sizes: dict[tuple[str, str], int] = {}
        self._scope = scope
        self._ttl_seconds = ttl_seconds
        self.memory = memory
        self._store = store
        self.generations = generations
        self._observe = observe
        self._clock = clock
        self._hits = {MEMORY: 0, REDIS: 0}
        self._misses = 0
        self.tokens_saved: Counter[str] = Counter()
        """Tokens that the cache has spared, by the policy's model."""

    @property
    def store_state(self) -> str:
        """`none`, `unknown`, `ok`, `away` or `refuses: WHY`, by the last use of the store.

        It refuses until the refused operation has succeeded: our user may read and not write.
        """
        for why in self._refusals.values():
            return f"refuses: {why}"
        return self._store_state

    @property
    def entries_in_store(self) -> str:
        """`none` without a store, else `authenticated` or `checksum`."""
        if self._store is None:
            return "none"
        return "authenticated" if self._seal.is_authentic else "checksum"

    def keys(self, ask: provider_api.Ask, *, space: str) -> list[str]:
        """The keys of a request's items, in order, in the present generation."""
        return cache_entry.keys(
            ask,
            space=space,
            scope=self._scope,
            generation=self.generations.of(ask.model),
            cleared=self.generations.of_texts(ask.model),
        )

    async def get_many(
        self, keys: Sequence[str], *, max_age_seconds: int | None = None
    ) -> list[cache_entry.Entry | None]:
        """The entries of these keys, in order; older ones than `max_age_seconds` stay unseen."""
        waiting: asyncio.Future[list[cache_entry.Entry | None]]
        waiting = asyncio.get_running_loop().create_future()

        def done(found: list[cache_entry.Entry | None]) -> None:
            # A caller that has hung up has cancelled it.
            if not waiting.done():
                waiting.set_result(found)

        from_memory = self.cached_answers(keys, max_age_seconds=max_age_seconds)
        self.look_up(keys, from_memory, done, max_age_seconds=max_age_seconds)
        return await waiting

    def cached_answers(
        self, keys: Sequence[str], *, max_age_seconds: int | None = None
    ) -> list[cache_entry.Entry | None]:
        """The entries of these keys that memory has, in order.

        Where some are missing, nothing is counted yet: `look_up` goes on from here.
        """
        started = time.perf_counter()
        found = [self.memory.get(key, max_age_seconds=max_age_seconds) for key in keys]
        if None not in found:
            self._note(MEMORY, hits=len(found), started=started)
        return found

    def look_up(
        self,
        keys: Sequence[str],
        from_memory: list[cache_entry.Entry | None],
        done: Callable[[list[cache_entry.Entry | None]], None],
        *,
        max_age_seconds: int | None = None,
    ) -> None:
        """Call `done` once with what get_many returns.

        `from_memory` comes from `cached_answers`. `done` is called at once unless the store must be
        asked, and then by the event loop, within the store's budget of time.
        """
        started = time.perf_counter()
        missing = [index for index, entry in enumerate(from_memory) if entry is None]
        if not self._ttl_seconds or not missing:
            done(from_memory)
            return
        self._note(MEMORY, hits=len(from_memory) - len(missing), started=started)
        if self._store is None:
            self._missed(len(missing))
            done(from_memory)
            return
        started = time.perf_counter()

        def fetched(values: _Values) -> None:
            hits = 0
            if isinstance(values, errors.StoreAway):
                self._away(_READ, values)
            else:
                self._used(_READ)
                for index, value in zip(missing, values, strict=True):
                    from_memory[index] = self._taken(keys[index], value, max_age_seconds)
                    hits += from_memory[index] is not None
            self._note(REDIS, hits=hits, started=started)
            if hits < len(missing):
                self._missed(len(missing) - hits)
            done(from_memory)

        self._store.fetch([keys[index] for index in missing], fetched)

    def put_many(
        self, entries: Mapping[str, cache_entry.Entry], *, ttl_seconds: int | None = None
    ) -> None:
        """Keep these entries in every layer, for `ttl_seconds` where the policy keeps longer.

        Memory has them at once; no request waits for the store.
        """
        kept_seconds = self._ttl_seconds
        if ttl_seconds is not None and ttl_seconds < kept_seconds:
            kept_seconds = ttl_seconds
            entries = {key: it._replace(ttl_seconds=ttl_seconds) for key, it in entries.items()}
        if kept_seconds <= 0 or not entries:
            return
        for key, entry in entries.items():
            self.memory.put(key, entry)
        if self._store is not None:
            if not self._seal.is_authentic:
                self._learn_sizes(entries.values())
            values = {key: encode(it, key=key, seal=self._seal) for key, it in entries.items()}
            self._store.keep(values, ttl_seconds=kept_seconds, done=self._kept)

    def saved(self, tokens: int, *, model: str) -> None:
        """Count tokens that the cache spared an answer of this model."""
        self.tokens_saved[model] += tokens
        self._observe.saved(model=model, tokens=tokens)

    async def refresh(self) -> None:
        """Take over the store's generations; to be called once a second."""
        try:
            await self.generations.refresh()
        except errors.StoreAway as cause:
            self._away(_GENERATIONS, cause)
        else:
            # Entries may lie on a node that does not answer.
            self._refusals.pop(_GENERATIONS, None)

    async def clear_items(
        self, variants: Iterable[tuple[provider_api.Ask, str]], *, model: str | None
    ) -> None:
        """Forget items in every pod, in every form, of one model or of all.

        `variants` are requests for them, each with its space. Their entries are deleted at once;
        those of other requests are not found any more.

        Raises:
            errors.Unavailable: the store does not answer or refuses.
        """
        variants = list(variants)
        keys = [key for ask, space in variants for key in self.keys(ask, space=space)]
        names = {cache_entry.name(item) for ask, _ in variants for item in ask.items}
        await self.generations.clear_texts(names, model)
        for key in keys:
            self.memory.drop(key)
        if self._store is not None:
            try:
                await self._store.remove(keys)
            except errors.StoreAway as cause:
                # No request finds them, and they expire.
                self._away(_REMOVE, cause)
            else:
                self._refusals.pop(_REMOVE, None)

    def stats(self) -> dict[str, Any]:
        """Counts of this sidecar's cache since it started, and its present size."""
        return {
            "hits": dict(self._hits),
            "misses": self._misses,
            "tokens_saved": self.tokens_saved.total(),
            "memory": {"entries": len(self.memory), "bytes": self.memory.bytes_held},
        }

    def _kept(self, failure: BaseException | None) -> None:
        if failure is None:
            self._used(_WRITE)
        else:
            self._away(_WRITE, failure)

    def _missed(self, items: int) -> None:
        self._misses += items
        self._observe.missed(items)

    def _taken(
        self, key: str, value: bytes | None, max_age_seconds: int | None
    ) -> cache_entry.Entry | None:
        """The entry in a value of the store, if it may be used; memory keeps it."""
        if value is None:
            return None
        now = self._clock()
        entry = decode(value, key=key, seal=self._seal, now=now)
        if entry is None or not (self._seal.is_authentic or self._is_of_known_size(entry)):
            self._observe.error("cache_entry")
            return None
        if not entry.is_fresh(now=now, ttl_seconds=self._ttl_seconds):
            return None
        if max_age_seconds is not None and now - entry.made_at > max_age_seconds:
            return None
        self.memory.put(key, entry)
        return entry

    def _is_of_known_size(self, entry: cache_entry.Entry) -> bool:
        size = len(entry.vector)
        return self._sizes.get((entry.model, entry.space), size) == size

    def _learn_sizes(self, bought: Iterable[cache_entry.Entry]) -> None:
        if len(self._sizes) >= MAX_SIZES:
            self._sizes.clear()
        for entry in bought:
            self._sizes[entry.model, entry.space] = len(entry.vector)

    def _note(self, layer: str, *, hits: int, started: float) -> None:
        self._hits[layer] += hits
        self._observe.looked_up(layer, hits=hits, seconds=time.perf_counter() - started)

    def _used(self, what: str) -> None:
        self._store_state = "ok"
        if self._refusals:
            self._refusals.pop(what, None)

    def _away(self, what: str, cause: BaseException) -> None:
        if not isinstance(cause, errors.StoreRefuses):
            self._refusals.pop(what, None)
            self._store_state = "away"
            self._observe.error("cache")
            return
        why = self._refusals[what] = str(cause)
        self._observe.error("cache_refused")
        # The reason may be another one each time, if a hostile server gives it.
        if self._repeated.is_news(what, now=time.monotonic()):
            _log.error("cache: the store refuses to %s: %s", what, why)
