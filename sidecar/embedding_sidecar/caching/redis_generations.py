"""The generations of one scope in Redis: a hash, by name."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import redis.asyncio

from embedding_sidecar import errors, redis_refusals
from embedding_sidecar.caching.generations import MAX_NAMES
from embedding_sidecar.caching.redis_debt import Debt

PREFIX: Final = "aos:embedding:generations:"
_RUN: Final = "+hsetnx +hset +hdel +del"
"""What the scripts run."""

# Scripts, because they are one step in every form of Redis. A client of a Cluster runs the commands
# of a transaction in threads of their own.
_BEGIN: Final = """
for i = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
return #ARGV
"""
_RESET: Final = """
redis.call('DEL', KEYS[1])
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return #ARGV
"""
_REPLACE: Final = """
local dropped = tonumber(ARGV[1])
for i = 2, dropped + 1 do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = dropped + 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return #ARGV
"""

T = TypeVar("T")


class RedisGenerations:
    """A store of generations, each command of which has so much time."""

    def __init__(
        self, client: redis.asyncio.Redis, *, scope: str, debt: Debt, budget_seconds: float
    ) -> None:
        self._client = client
        self._key = f"{PREFIX}{scope}"
        self._debt = debt
        self._budget_seconds = budget_seconds

    async def generation(self, *names: str) -> list[str | None]:
        """Some generations of the scope, None for each that is not there.

        Raises:
            errors.StoreAway: Redis did not answer rightly, or not in time.
        """

        async def ask() -> list[str | None]:
            found: Any = await self._client.hmget(self._key, list(names))
            return [None if value is None else _text(value) for value in found]

        return await self._within(ask)

    async def generations(self) -> dict[str, str] | None:
        """All generations of the scope, by name; None for more than there can be.

        Raises:
            errors.StoreAway: as above.
        """

        async def ask() -> dict[str, str] | None:
            length: Any = self._client.hlen(self._key)
            if await length > MAX_NAMES:
                return None
            found: Any = await self._client.hgetall(self._key)
            return {_text(name): _text(value) for name, value in found.items()}

        return await self._within(ask)

    async def reset(self, values: Mapping[str, str]) -> None:
        """Drop all generations of the scope and set these, both or neither.

        Raises:
            errors.StoreAway: as above.
        """
        await self._change(_RESET, [word for pair in values.items() for word in pair])

    async def begin(self, values: Mapping[str, str]) -> None:
        """Set each of these generations that is not there.

        Raises:
            errors.StoreAway: as above; they may still be set.
        """
        await self._change(_BEGIN, [word for pair in values.items() for word in pair])

    async def replace(self, values: Mapping[str, str], *, dropped: Collection[str]) -> None:
        """Drop generations of the scope and set others, both or neither.

        Raises:
            errors.StoreAway: as above.
        """
        pairs = [word for pair in values.items() for word in pair]
        await self._change(_REPLACE, [str(len(dropped)), *dropped, *pairs])

    async def _within(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._debt.within(self._budget_seconds, ask)
        except errors.StoreAway as away:
            told = redis_refusals.of(away.__cause__, pattern=f"{PREFIX}*", run_by_script=_RUN)
            if told is None:
                raise
            raise errors.StoreRefuses(told) from away

    async def _change(self, script: str, words: list[str]) -> None:
        async def ask() -> object:
            heard: Any = self._client.eval(script, 1, self._key, *words)
            return await heard

        heard = await self._within(ask)
        if heard != len(words):
            raise errors.StoreAway("an answer to another question")


def _text(raw: bytes) -> str:
    # What is no text is nobody's generation; it must not end the sidecar either.
    return raw.decode(errors="replace")
