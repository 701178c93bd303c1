"""The cache as one policy sees it: memory over a store that other pods share."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from embedding_sidecar import errors, provider
from embedding_sidecar.caching import cache, generations

MEMORY = "memory"
REDIS = "redis"


class Store(Protocol):
    """The shared layer. All raise errors.StoreAway, within a budget of time."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None for each that is not there."""
        ...

    async def write(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> None:
        """Keep these values so long."""
        ...

    async def remove(self, keys: Sequence[str]) -> None:
        """Keep these values no longer."""
        ...


class Observer(Protocol):
    """Is told what the cache did."""

    def looked_up(self, layer: str, *, hits: int, seconds: float) -> None:
        """All items of a request were looked up in one layer."""
        ...

    def missed(self, items: int) -> None:
        """Items were found in no layer."""
        ...

    def saved(self, *, model: str, tokens: int) -> None:
        """An answer of this model needed so many tokens less than without the cache."""
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
        self._tokens_saved: Counter[str] = Counter()

    def keys(self, ask: provider.Ask, *, space: str) -> list[str]:
        """The keys of a request's items, in order, in the present generation."""
        return cache.keys(
            ask,
            space=space,
            scope=self._scope,
            generation=self._generations.of(ask.model),
            cleared=self._generations.of_texts(ask.model),
        )

    def keys_in_force(self) -> object:
        """Another object as soon as the same request may have other keys."""
        return self._generations.in_force

    def recall(self, keys: Sequence[str]) -> list[cache.Entry] | None:
        """The entries of these keys, in order, where memory has them all.

        Otherwise None, and no look-up has been noted.
        """
        started = time.perf_counter()
        found = []
        for key in keys:
            entry = self._memory.get(key)
            if entry is None:
                return None
            found.append(entry)
        self._note(MEMORY, hits=len(found), started=started)
        return found

    async def get_many(
        self, keys: Sequence[str], *, max_age_seconds: int | None = None
    ) -> list[cache.Entry | None]:
        """The entries of these keys, in order; older ones than `max_age_seconds` stay unseen."""
        if not self._ttl_seconds:
            return [None] * len(keys)
        started = time.perf_counter()
        found = [self._memory.get(key, max_age_seconds=max_age_seconds) for key in keys]
        missing = [index for index, entry in enumerate(found) if entry is None]
        self._note(MEMORY, hits=len(found) - len(missing), started=started)
        if missing and self._store is not None:
            started = time.perf_counter()
            values = await self._read([keys[index] for index in missing], self._store)
            hits = 0
            for index, value in zip(missing, values, strict=True):
                found[index] = self._taken(keys[index], value, max_age_seconds)
                hits += found[index] is not None
            self._note(REDIS, hits=hits, started=started)
        if missing:
            misses = found.count(None)
            self._misses += misses
            self._observe.missed(misses)
        return found

    def look_up(
        self,
        keys: Sequence[str],
        done: Callable[[list[cache.Entry | None]], None],
        *,
        max_age_seconds: int | None = None,
    ) -> None:
        """TEMPORARY until the redis branch lands."""
        import asyncio

        if self._store is None:
            try:
                self.get_many(keys, max_age_seconds=max_age_seconds).send(None)
            except StopIteration as ended:
                done(ended.value)
            return
        task = asyncio.get_running_loop().create_task(
            self.get_many(keys, max_age_seconds=max_age_seconds)
        )
        task.add_done_callback(lambda it: done(it.result()))

    async def put_many(
        self, entries: Mapping[str, cache.Entry], *, ttl_seconds: int | None = None
    ) -> None:
        """Keep these entries in every layer, for `ttl_seconds` where the policy keeps longer."""
        kept_seconds = self._ttl_seconds
        if ttl_seconds is not None and ttl_seconds < kept_seconds:
            kept_seconds = ttl_seconds
            entries = {key: replace(it, ttl_seconds=ttl_seconds) for key, it in entries.items()}
        if kept_seconds <= 0 or not entries:
            return
        for key, entry in entries.items():
            self._memory.put(key, entry)
        if self._store is None:
            return
        values = {key: cache.encode(entry) for key, entry in entries.items()}
        try:
            await self._store.write(values, ttl_seconds=kept_seconds)
        except errors.StoreAway:
            self._away()
        else:
            self.store_state = "ok"

    def saved(self, tokens: int, *, model: str) -> None:
        """An answer of this model needed so many tokens less than without the cache."""
        self._tokens_saved[model] += tokens
        self._observe.saved(model=model, tokens=tokens)

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

    async def clear_items(
        self, variants: Iterable[tuple[provider.Ask, str]], *, model: str | None
    ) -> None:
        """Forget items in every pod, in whatever form they were asked, of one model or of all.

        `variants` are requests for them, each with its space; what these could have left is removed
        at once, and nobody finds what others left.

        Raises:
            errors.Unavailable: the store did not answer.
        """
        variants = list(variants)
        keys = [key for ask, space in variants for key in self.keys(ask, space=space)]
        names = {cache.name(item) for ask, _ in variants for item in ask.items}
        await self._generations.clear_texts(names, model)
        self._memory.drop(keys)
        if self._store is not None:
            try:
                await self._store.remove(keys)
            except errors.StoreAway:
                # Nobody finds them any more, and they expire.
                self._away()

    def stats(self) -> dict[str, Any]:
        """What this sidecar's cache did so far and holds now."""
        return {
            "hits": dict(self._hits),
            "misses": self._misses,
            "tokens_saved": self._tokens_saved.total(),
            "memory": {"entries": len(self._memory), "bytes": self._memory.bytes_held},
        }

    def tokens_saved(self) -> Mapping[str, int]:
        """Tokens that answers needed less than without the cache, by the policy's model."""
        return self._tokens_saved

    def memory_bytes(self) -> int:
        """Bytes the memory layer holds."""
        return self._memory.bytes_held

    async def _read(self, keys: Sequence[str], store: Store) -> Sequence[bytes | None]:
        try:
            values = await store.read(keys)
        except errors.StoreAway:
            self._away()
            return [None] * len(keys)
        self.store_state = "ok"
        return values

    def _taken(
        self, key: str, value: bytes | None, max_age_seconds: int | None
    ) -> cache.Entry | None:
        """The entry in a value of the store, if it is one that may be used; memory keeps it."""
        if value is None:
            return None
        entry = cache.decode(value)
        if entry is None:
            self._observe.error("cache_entry")
            return None
        now = self._clock()
        if not entry.is_fresh(now=now, ttl_seconds=self._ttl_seconds):
            return None
        if max_age_seconds is not None and now - entry.made_at > max_age_seconds:
            return None
        self._memory.put(key, entry)
        return entry

    def _note(self, layer: str, *, hits: int, started: float) -> None:
        self._hits[layer] += hits
        self._observe.looked_up(layer, hits=hits, seconds=time.perf_counter() - started)

    def _away(self) -> None:
        self.store_state = "away"
        self._observe.error("cache")
