"""The Redis of a cache: bytes of items, look-ups, writes and looks at generations of sidecars."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from embedding_sidecar.cache import cache_entry, entry_encoding, generations, redis_generations
from embedding_sidecar.cache.redis_cache import RedisCache
from embedding_sidecar.redis_client import redis_url
from embedding_sidecar.translation import provider_api
from tests.scale.model.formulas import MODEL, SPACE
from tests.scale.model.quantities import QUANTITIES
from tests.scale.model.served import Ask, Served, served

DIMENSIONS: Final = 1_536
SCOPE: Final = "shop/search"
GENERATION: Final = f"{generations.fresh()}."
VECTOR_ITEMS: Final = 10_000
WRITTEN_AT_ONCE: Final = 64
TTL_SECONDS: Final = 604_800
MESSAGES: Final = 4_000
SIDECARS: Final = 32
"""Each has a look-up, a write or a look at generations under way."""


def measure(folder: Path) -> dict[str, dict[int, float]]:
    """All quantities of a cache's Redis."""
    found: dict[str, dict[int, float]] = {}
    with served(folder / "caching", keeps=False) as there:
        asyncio.run(_items(there, found))
        found["vectorBytes"] = asyncio.run(vectors(there, items=VECTOR_ITEMS))
        asyncio.run(_generations(there, found))
    return found


async def vectors(there: Served, *, items: int) -> dict[int, float]:
    """Bytes of each of so many items, by the length of their vectors."""
    found = {}
    for dimensions in QUANTITIES["vectorBytes"].sizes:
        async with _caches(there, count=1) as (cache,):
            empty = await _empty(there, [cache])
            await _write(cache, range(items), dimensions=dimensions)
            found[dimensions] = (there.used_bytes() - empty) / items
    there.client.flushall()
    return found


async def _empty(there: Served, caches: Sequence[RedisCache]) -> int:
    """Bytes in use without items, after a first write of each cache: connections have buffers."""
    for cache in caches:
        await _write(cache, range(WRITTEN_AT_ONCE), dimensions=DIMENSIONS)
    there.client.flushall()
    return there.used_bytes()


async def _items(there: Served, found: dict[str, dict[int, float]]) -> None:
    """More and more items of one size, which are then looked up and written again."""
    sizes, written = QUANTITIES["readMicroseconds"].sizes, 0
    async with _caches(there) as caches:
        empty = await _empty(there, caches)
        for size in sizes:
            await _write(caches[0], range(written, size), dimensions=DIMENSIONS)
            written = size
            found.setdefault("itemBytes", {})[size] = (there.used_bytes() - empty) / size
            numbers = itertools.cycle(range(0, size, max(1, size // 997)))
            for name, asking in (("readMicroseconds", _read), ("writeMicroseconds", _rewrite)):
                asks = [asking(cache, numbers) for cache in caches]
                spent = await there.microseconds(asks, count=MESSAGES)
                found.setdefault(name, {})[size] = spent


async def _generations(there: Served, found: dict[str, dict[int, float]]) -> None:
    """The look of each second, beside the generations of many policies."""
    looks = found["pollMicroseconds"] = {}
    names = (generations.WHOLE, generations.REVISION)
    values: dict[Any, str] = {name: generations.fresh() for name in names}
    written = 0
    async with _caches(there) as caches:
        for policies in QUANTITIES["pollMicroseconds"].sizes:
            pipe = there.client.pipeline(transaction=False)
            for number in range(written, policies):
                pipe.hset(f"{redis_generations.PREFIX}{_scope(number)}", mapping=values)
            pipe.execute()
            written = policies
            asks = [_looking(it, names) for it in caches]
            looks[policies] = await there.microseconds(asks, count=MESSAGES)


@asynccontextmanager
async def _caches(there: Served, count: int = SIDECARS) -> AsyncIterator[list[RedisCache]]:
    """The caches of so many sidecars, each of a policy of its own."""
    made = [RedisCache(redis_url.connect(there.url), scope=_scope(at)) for at in range(count)]
    try:
        yield made
    finally:
        for it in made:
            await it.close()


def _scope(number: int) -> str:
    return f"shop/policy-{number:06d}"


def item(number: int, *, dimensions: int, vector: bytes) -> tuple[str, bytes]:
    """The key and the value of a cached text, as a sidecar writes them."""
    asked = provider_api.Ask(MODEL, (f"text {number}",), dimensions)
    (key,) = cache_entry.keys(asked, space=SPACE, scope=SCOPE, generation=GENERATION)
    entry = cache_entry.Entry(MODEL, SPACE, vector, 8, time.time())
    return key, entry_encoding.encode(entry, key=key, seal=_SEAL)


_SEAL: Final = entry_encoding.Seal(bytes(32))


async def _write(cache: RedisCache, numbers: Sequence[int], *, dimensions: int) -> None:
    vector = os.urandom(4 * dimensions)
    for at in range(0, len(numbers), WRITTEN_AT_ONCE):
        part = numbers[at : at + WRITTEN_AT_ONCE]
        await _kept(cache, dict(item(it, dimensions=dimensions, vector=vector) for it in part))


async def _kept(cache: RedisCache, values: dict[str, bytes]) -> None:
    told: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    cache.keep(values, ttl_seconds=TTL_SECONDS, done=told.set_result)
    failure = await told
    if failure is not None:
        raise failure


def _read(cache: RedisCache, numbers: "itertools.cycle[int]") -> Ask:
    async def read() -> None:
        told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        key, _ = item(next(numbers), dimensions=DIMENSIONS, vector=b"")
        cache.fetch([key], told.set_result)
        found = await told
        if not isinstance(found, list) or found[0] is None:
            raise AssertionError(f"{key} was not found: {found}")

    return read


def _rewrite(cache: RedisCache, numbers: "itertools.cycle[int]") -> Ask:
    vector = os.urandom(4 * DIMENSIONS)

    async def write() -> None:
        await _kept(cache, dict([item(next(numbers), dimensions=DIMENSIONS, vector=vector)]))

    return write


def _looking(cache: RedisCache, names: Sequence[str]) -> Ask:
    def look() -> Awaitable[object]:
        return cache.generations.generation(*names)

    return look
