"""The shared layer of the cache in Redis: one round trip to read, one to write, 50 ms for either.

What is asked while the event loop turns once goes together: all requests that came in by then share
one command, and a key that several ask for is asked once.

Time that is up ends the waiting and not the command: what was begun goes on in the background, so
that a slow connection is made once and kept, instead of being dropped half made by every request,
and no late answer is left lying on a connection for the next one to read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import redis.asyncio

from embedding_sidecar import errors
from embedding_sidecar.caching import redis_nodes

BUDGET_SECONDS: Final = 0.05
MANAGEMENT_BUDGET_SECONDS: Final = 1.0
"""For what no request for vectors waits for: reading and setting generations."""
GENERATIONS_PREFIX: Final = "aos:embedding:generations:"
_MAX_UNDER_WAY: Final = 64
"""Commands that a Redis may owe an answer to; while it owes more, nothing is asked of it."""
_LAST_TURNS: Final = 4
"""Turns of the event loop after the time is up: a loop that stood still looks at what has come by
then, which takes a turn to read, one to parse and one to hand over."""
_LATE: Final = "Redis did not answer in time"

# Scripts, because they are one step in every form of Redis. A client of a Cluster runs the commands
# of a transaction in threads of their own.
_BEGIN: Final = """
for i = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
return #ARGV
"""
_REPLACE: Final = """
local dropped = tonumber(ARGV[1])
for i = 2, dropped + 1 do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = dropped + 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return #ARGV
"""

T = TypeVar("T")


class _Turn(Generic[T]):
    """What was asked in one turn of the event loop, by key, and who waits for it.

    `answers` fills as they come, and `failure` says why the rest does not; empty is success.
    """

    def __init__(self) -> None:
        self.asked: dict[str, T] = {}
        self.answers: dict[str, object] = {}
        self.failure = _LATE
        self._waiting: list[asyncio.Future[None]] = []

    async def over(self) -> None:
        """Wait until it is answered or given up."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def end(self) -> None:
        """Let go who waits."""
        for waiting in self._waiting:
            # One who went away has cancelled its own.
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()


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
        self._nodes = redis_nodes.of(client)
        self._generations_key = f"{GENERATIONS_PREFIX}{scope}"
        self._budget_seconds = budget_seconds
        self._management_budget_seconds = management_budget_seconds
        self._under_way: set[asyncio.Task[object]] = set()
        self._reads: _Turn[None] | None = None
        self._writes: _Turn[tuple[bytes, int]] | None = None

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None for each that is not there, or whose node is away.

        Raises:
            errors.StoreAway: Redis did not answer rightly for any of them, or not in time.
        """
        turn = self._reads
        if turn is None:
            turn = self._reads = _Turn()
            asyncio.get_running_loop().call_soon(self._send_reads)
        turn.asked.update(dict.fromkeys(keys))
        await turn.over()
        answers = turn.answers
        if turn.failure and not any(key in answers for key in keys):
            raise errors.StoreAway(turn.failure)
        return [_bytes(answers.get(key)) for key in keys]

    async def write(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> None:
        """Keep these values so long.

        Raises:
            errors.StoreAway: as above; what was begun may still come to its end.
        """
        turn = self._writes
        if turn is None:
            turn = self._writes = _Turn()
            asyncio.get_running_loop().call_soon(self._send_writes)
        turn.asked.update({key: (value, ttl_seconds * 1000) for key, value in values.items()})
        await turn.over()
        if turn.failure:
            raise errors.StoreAway(turn.failure)

    async def remove(self, keys: Sequence[str]) -> None:
        """Keep the values of these keys no longer.

        Raises:
            errors.StoreAway: as above.
        """
        await self._within(self._management_budget_seconds, lambda: self._nodes.remove(keys))

    async def generation(self, *names: str) -> list[str | None]:
        """Some generations of the scope, None for each that is not there.

        Raises:
            errors.StoreAway: as above.
        """

        async def ask() -> list[str | None]:
            found: Any = await self._client.hmget(self._generations_key, list(names))
            return [None if value is None else _text(value) for value in found]

        return await self._within(self._management_budget_seconds, ask)

    async def generations(self) -> dict[str, str]:
        """All generations of the scope, by name.

        Raises:
            errors.StoreAway: as above.
        """

        async def ask() -> dict[str, str]:
            found: Any = await self._client.hgetall(self._generations_key)
            return {_text(name): _text(value) for name, value in found.items()}

        return await self._within(self._management_budget_seconds, ask)

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

    async def close(self) -> None:
        """End what is under way, and the connections."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._nodes.close()
        await self._client.aclose()

    async def _change(self, script: str, words: list[str]) -> None:
        async def ask() -> object:
            heard: Any = self._client.eval(script, 1, self._generations_key, *words)
            return await heard

        heard = await self._within(self._management_budget_seconds, ask)
        if heard != len(words):
            raise errors.StoreAway("an answer to another question")

    def _send_reads(self) -> None:
        turn, self._reads = self._reads, None
        if turn is not None:
            self._send(turn, lambda: self._nodes.read(list(turn.asked), turn.answers))

    def _send_writes(self) -> None:
        turn, self._writes = self._writes, None
        if turn is not None:
            self._send(turn, lambda: self._nodes.write(turn.asked))

    def _send(self, turn: _Turn[Any], command: Callable[[], Awaitable[None]]) -> None:
        async def carry_out() -> None:
            try:
                await _run(command)
                turn.failure = ""
            except errors.StoreAway as away:
                turn.failure = str(away)
            turn.end()

        def over(_: "asyncio.Task[None]") -> None:
            # Also of one that was cancelled before it began.
            timer.cancel()
            turn.end()

        if self._is_owed_too_much():
            turn.end()
            return
        loop = asyncio.get_running_loop()

        def time_is_up(turns: int) -> None:
            if turns:
                loop.call_soon(time_is_up, turns - 1)
            else:
                turn.end()

        timer = loop.call_later(self._budget_seconds, time_is_up, _LAST_TURNS)
        self._begin(carry_out()).add_done_callback(over)

    async def _within(self, seconds: float, command: Callable[[], Awaitable[T]]) -> T:
        if self._is_owed_too_much():
            raise errors.StoreAway(_LATE)
        task = self._begin(_run(command))
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            raise errors.StoreAway(_LATE)
        return task.result()

    def _is_owed_too_much(self) -> bool:
        return len(self._under_way) >= _MAX_UNDER_WAY

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            # Looked at, so that the loop does not complain of one nobody waits for any more.
            task.exception()


async def _run(command: Callable[[], Awaitable[T]]) -> T:
    try:
        return await command()
    except Exception as error:
        # Not those of the client alone: it stumbles over what a server says that is no Redis.
        raise errors.StoreAway(type(error).__name__) from error


def _bytes(answer: object) -> bytes | None:
    return answer if isinstance(answer, bytes) else None


def _text(raw: bytes) -> str:
    # What is no text is nobody's generation; it must not end the sidecar either.
    return raw.decode(errors="replace")
