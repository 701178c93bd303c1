"""The shared layer of the cache in Redis: one round trip to read, one to write, 50 ms for either.

Time that is up ends the waiting and not the command: what was begun goes on in the background, so
that a slow connection is made once and kept, instead of being dropped half made by every request,
and no late answer is left lying on a connection for the next one to read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from embedding_sidecar import errors

BUDGET_SECONDS: Final = 0.05
MANAGEMENT_BUDGET_SECONDS: Final = 1.0
"""For what no request for vectors waits for: reading and setting generations."""
GENERATIONS_PREFIX: Final = "aos:embedding:generations:"
_SOCKET_SECONDS: Final = 2.0
_MAX_CONNECTIONS: Final = 64
"""Also bounds what can be under way while Redis does not answer."""

T = TypeVar("T")


def connect(url: str) -> redis.asyncio.Redis:
    """A client of this URL; it connects when first used. What is set here no URL can change.

    Raises:
        ValueError: this is no URL of a Redis, or it has an option that no connection takes.
    """
    options: dict[str, Any] = {
        **parse_url(url),
        "decode_responses": False,
        "max_connections": _MAX_CONNECTIONS,
        "socket_connect_timeout": _SOCKET_SECONDS,
        "socket_timeout": _SOCKET_SECONDS,
        # Once more, at once: a connection that Redis closed while it lay in the pool.
        "retry": Retry(NoBackoff(), 1),
    }
    pool = redis.asyncio.ConnectionPool(**options)
    try:
        # Else an unknown option would be found by the first command, as what is no RedisError.
        pool.make_connection()  # type: ignore[no-untyped-call] # upstream's
    except (AttributeError, TypeError, RedisError):
        raise ValueError("an option of the URL is unknown, or has a wrong value") from None
    return redis.asyncio.Redis.from_pool(pool)


class RedisCache:
    """Entries and generations of one scope, which is who shares them."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        scope: str,
        budget_seconds: float = BUDGET_SECONDS,
        management_budget_seconds: float = MANAGEMENT_BUDGET_SECONDS,
    ) -> None:
        self._client = client
        self._generations_key = f"{GENERATIONS_PREFIX}{scope}"
        self._budget_seconds = budget_seconds
        self._management_budget_seconds = management_budget_seconds
        self._under_way: set[asyncio.Task[object]] = set()

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None for each that is not there.

        Raises:
            errors.StoreAway: Redis did not answer rightly, or not in time.
        """
        found = await self._within(self._budget_seconds, lambda: self._client.mget(keys))
        return cast("list[bytes | None]", found)  # the client is told not to decode

    async def write(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> None:
        """Keep these values so long.

        Raises:
            errors.StoreAway: as above; what was begun may still come to its end.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(key, value, px=ttl_seconds * 1000)
        await self._within(self._budget_seconds, pipeline.execute)

    async def generations(self) -> dict[str, str]:
        """All generations of the scope, by the name of the model.

        Raises:
            errors.StoreAway: as above.
        """
        found = await self._within(
            self._management_budget_seconds, lambda: self._client.hgetall(self._generations_key)
        )
        values = cast("dict[bytes, bytes]", found)
        # What is no text is nobody's generation; it must not end the sidecar either.
        return {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in values.items()
        }

    async def set_generation(self, name: str, value: str, *, only_if_missing: bool) -> None:
        """Set one generation of the scope.

        Raises:
            errors.StoreAway: as above; it may still be set.
        """
        set_one = self._client.hsetnx if only_if_missing else self._client.hset
        await self._within(
            self._management_budget_seconds, lambda: set_one(self._generations_key, name, value)
        )

    async def close(self) -> None:
        """End what is under way, and the connections."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._client.aclose()

    async def _within(self, seconds: float, command: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.ensure_future(_run(command))
        self._under_way.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            raise errors.StoreAway("Redis did not answer in time")
        return task.result()

    def _done(self, task: "asyncio.Task[object]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            # Looked at, so that the loop does not complain of one nobody waits for any more.
            task.exception()


async def _run(command: Callable[[], Awaitable[T]]) -> T:
    try:
        return await command()
    except (RedisError, OSError) as error:
        raise errors.StoreAway(type(error).__name__) from error
