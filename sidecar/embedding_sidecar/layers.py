"""The cache as one policy sees it: memory over a store that other pods share."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from embedding_sidecar import cache, errors, generations, provider

MEMORY = "memory"
REDIS = "redis"


class Store(Protocol):
    """The shared layer. Both raise errors.StoreAway, within a budget of time."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None for each that is not there."""
        ...

    async def write(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> None:
        """Keep these values so long."""
        ...


class Observer(Protocol):
    """Is told what the cache did."""

    def looked_up(self, layer: str, *, hits: int, seconds: float) -> None:
        """All items of a request were looked up in one layer."""
        ...

    def missed(self, items: int) -> None:
        """Items were found in no layer."""
        ...

    def error(self, kind: str, provider: str = "") -> None:
        """Something failed."""
        ...


class Layers:
    """Entries of one policy. A store that is away is a miss, and is counted as an error.

    `store_state` is what the last use of the store showed: `none`, `unknown`, `ok` or `away`.
    """

    def __init__(
        self,
        *,
        scope: str,
        ttl_seconds: int,
        memory: cache.MemoryCache,
        store: Store | None,
        generations: generations.Generations,
        observe: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store_state = "none" if store is None else "unknown"
        self._scope = scope
        self._ttl_seconds = ttl_seconds
        self._memory = memory
        self._store = store
        self._generations = generations
        self._observe = observe
        self._clock = clock
        self._hits = {MEMORY: 0, REDIS: 0}
        self._misses = 0
        self._tokens_saved = 0

    def keys(self, ask: provider.Ask, *, space: str) -> list[str]:
        """The keys of a request's items, in order, in the present generation."""
        generation = self._generations.of(ask.model)
        return cache.keys(ask, space=space, scope=self._scope, generation=generation)

    async def get_many(
        self, keys: Sequence[str], *, max_age_seconds: int | None = None
    ) -> list[cache.Entry | None]:
        """The entries of these keys, in order, none older than that."""
        del max_age_seconds
        if not self._ttl_seconds:
            return [None] * len(keys)
        started = time.perf_counter()
        found = [self._memory.get(key) for key in keys]
        missing = [index for index, entry in enumerate(found) if entry is None]
        self._note(MEMORY, hits=len(found) - len(missing), started=started)
        if missing and self._store is not None:
            started = time.perf_counter()
            hits = await self._fill(found, keys, missing, self._store)
            self._note(REDIS, hits=hits, started=started)
        if missing:
            misses = found.count(None)
            self._misses += misses
            self._observe.missed(misses)
        return found

    async def put_many(
        self, entries: Mapping[str, cache.Entry], *, ttl_seconds: int | None = None
    ) -> None:
        """Keep these entries in every layer, for at most so long."""
        del ttl_seconds
        if not self._ttl_seconds or not entries:
            return
        for key, entry in entries.items():
            self._memory.put(key, entry)
        if self._store is None:
            return
        values = {key: cache.encode(entry) for key, entry in entries.items()}
        try:
            await self._store.write(values, ttl_seconds=self._ttl_seconds)
        except errors.StoreAway:
            self._away()
        else:
            self.store_state = "ok"

    def saved(self, tokens: int) -> None:
        """An answer needed so many tokens less than without the cache."""
        self._tokens_saved += tokens

    async def refresh(self) -> None:
        """Obey the generations of the store; to be called once a second."""
        try:
            await self._generations.refresh()
        except errors.StoreAway:
            self._away()

    async def clear(self, model: str | None) -> None:
        """Forget all, or all of one model (by the policy's name of it), in every pod.

        Raises:
            errors.Unavailable: the store did not answer.
        """
        await self._generations.clear(model)

    def stats(self) -> dict[str, Any]:
        """What this sidecar's cache did so far and holds now."""
        return {
            "hits": dict(self._hits),
            "misses": self._misses,
            "tokens_saved": self._tokens_saved,
            "memory": {"entries": len(self._memory), "bytes": self._memory.bytes_held},
        }

    def memory_bytes(self) -> int:
        """Bytes the memory layer holds."""
        return self._memory.bytes_held

    async def _fill(
        self,
        found: list[cache.Entry | None],
        keys: Sequence[str],
        missing: list[int],
        store: Store,
    ) -> int:
        try:
            values = await store.read([keys[index] for index in missing])
        except errors.StoreAway:
            self._away()
            return 0
        self.store_state = "ok"
        hits = 0
        for index, value in zip(missing, values, strict=True):
            entry = cache.decode(value) if value is not None else None
            if entry is not None and self._clock() - entry.made_at < self._ttl_seconds:
                found[index] = entry
                self._memory.put(keys[index], entry)
                hits += 1
        return hits

    def _note(self, layer: str, *, hits: int, started: float) -> None:
        self._hits[layer] += hits
        self._observe.looked_up(layer, hits=hits, seconds=time.perf_counter() - started)

    def _away(self) -> None:
        self.store_state = "away"
        self._observe.error("cache")
