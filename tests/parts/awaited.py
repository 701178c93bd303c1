"""The cache's Redis for tests that wait for what it does, also for a write."""

import asyncio
from collections.abc import Mapping, Sequence

from embedding_sidecar import errors
from embedding_sidecar.cache import redis_cache


class RedisCache(redis_cache.RedisCache):
    """The shared layer, with an end to wait for."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """What `fetch` tells; errors.StoreAway where it tells nothing."""
        told: asyncio.Future[list[bytes | None] | errors.StoreAway]
        told = asyncio.get_running_loop().create_future()
        self.fetch(keys, told.set_result)
        values = await told
        if isinstance(values, errors.StoreAway):
            raise values
        return values

    async def write(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> None:
        """What `keep` does; errors.StoreAway where it was not done."""
        told: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.keep(values, ttl_seconds=ttl_seconds, done=told.set_result)
        failure = await told
        if failure is not None:
            raise errors.StoreAway(type(failure).__name__) from failure
