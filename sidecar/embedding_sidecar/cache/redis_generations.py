"""The generations of one scope in Redis: a hash, by name."""

from collections.abc import Callable, Collection, Coroutine, Mapping
from itertools import chain
from typing import Any, Final, TypeVar

import redis.asyncio

from embedding_sidecar import errors
from embedding_sidecar.cache.generations import MAX_NAMES
from embedding_sidecar.redis_client.outstanding_commands import OutstandingCommands

PREFIX: Final = "aos:embedding:generations:"
_RUN: Final = "+hsetnx +hset +hdel +del"
"""Commands of the scripts."""

# Scripts are one step in every form of Redis. A client of a Cluster runs the commands of a
# transaction in threads of their own.
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
    """The generations of a scope. All methods raise errors.StoreAway, in time."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        scope: str,
        outstanding: OutstandingCommands,
        budget_seconds: float,
    ) -> None:
        self._client = client
        self._key = f"{PREFIX}{scope}"
        self._outstanding = outstanding
        self._budget_seconds = budget_seconds

    async def generation(self, *names: str) -> list[str | None]:
        """The generations of these names, None for each that is missing."""

        async def ask() -> list[str | None]:
            found: Any = await self._client.hmget(self._key, list(names))
            return [None if value is None else _text(value) for value in found]

        return await self._within(ask)

    async def generations(self) -> dict[str, str] | None:
        """All generations by name; None where they are more than MAX_NAMES."""

        async def ask() -> dict[str, str] | None:
            length: Any = self._client.hlen(self._key)
            if await length > MAX_NAMES:
                return None
            found: Any = await self._client.hgetall(self._key)
            return {_text(name): _text(value) for name, value in found.items()}

        return await self._within(ask)

    async def begin(self, values: Mapping[str, str]) -> None:
        """Set each of these generations that is missing."""
        await self._change(_BEGIN, [*chain.from_iterable(values.items())])

    async def replace(self, values: Mapping[str, str], *, dropped: Collection[str] | None) -> None:
        """Drop these names, or all for None, and set these values, both or neither."""
        words = chain.from_iterable(values.items())
        if dropped is None:
            await self._change(_RESET, [*words])
        else:
            await self._change(_REPLACE, [str(len(dropped)), *dropped, *words])

    async def _within(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._outstanding.within(
            self._budget_seconds, ask, pattern=f"{PREFIX}*", run_by_script=_RUN
        )

    async def _change(self, script: str, words: list[str]) -> None:
        async def ask() -> object:
            heard: Any = self._client.eval(script, 1, self._key, *words)
            return await heard

        heard = await self._within(ask)
        if heard != len(words):
            raise errors.StoreAway("the answer does not belong to the command")


def _text(raw: bytes) -> str:
    # Other bytes than text are not a sidecar's; they must not end it either.
    return raw.decode(errors="replace")
