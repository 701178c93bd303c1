"""Commands for many keys: one round trip to each server that has some of them."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Sized
from typing import Any, Final

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster
from redis.exceptions import (
    AskError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from embedding_sidecar.redis_client import pipelined_connection

Over = Callable[[BaseException | None], None]
"""Called once, never synchronously, when a command has ended; with its error if it failed."""

FEW: Final = 64
"""Up to so many keys are no batch: 0.8 MB of the largest vectors there are, 6 ms at 1 Gbit/s."""
MAX_VALUE_BYTES: Final = 2**16 + 2**12
"""Bound of an entry: the longest vector that is read without `dimensions` in the request, and the
names of its model and space. Longer entries are not kept."""
_REPLY_BYTES: Final = 1024
"""Bound of an answer without a value: a word, or a refusal."""
_OK: Final = b"OK"
_LOOK_AGAIN_SECONDS: Final = 0.5
"""Least time between two looks at a Cluster's slots while some of its nodes are away."""


def of(client: redis.asyncio.Redis, *, most_bytes: int) -> "_One | _Several":
    """The servers behind a client of redis_url.connect; an answer has `most_bytes` at most."""
    if isinstance(client, RedisCluster):
        return _Several(client)
    return _One(client, most_bytes=most_bytes)


class _One:
    """One server, by two connections: on one of them no command waits behind a batch."""

    def __init__(self, client: redis.asyncio.Redis, *, most_bytes: int) -> None:
        self._client = client
        self._most_bytes = most_bytes
        self._few = pipelined_connection.PipelinedConnection(client.connection_pool)
        self._many = pipelined_connection.PipelinedConnection(client.connection_pool)

    def read(self, keys: Sequence[str], into: dict[str, object], over: Over) -> None:
        """Fill in the values of these keys, None for each that is missing, as they come."""
        pipe = self._pipe(keys)

        def told(answers: Sequence[Any] | Exception) -> None:
            # A refusal is an exception, too, and an answer to the question.
            found = answers if isinstance(answers, Exception) else answers[0]
            if isinstance(found, list) and len(found) == len(keys):
                into.update(zip(keys, found, strict=True))
                over(None)
            else:
                over(found if isinstance(found, Exception) else pipe.reset())

        most_bytes = min(len(keys) * MAX_VALUE_BYTES, self._most_bytes)
        pipe.ask([pipelined_connection.pack(("MGET", *keys))], told, most_bytes=most_bytes)

    def write(self, values: Mapping[str, tuple[bytes, int]], over: Over) -> None:
        """Set each key to a value, for so many milliseconds."""
        pipe = self._pipe(values)

        def told(answers: Sequence[Any] | Exception) -> None:
            if isinstance(answers, Exception):
                answers = [answers]
            failures = [it for it in answers if it != _OK]
            if all(isinstance(it, Exception) for it in failures):
                over(failures[0] if failures else None)
            else:
                over(pipe.reset())

        pack = pipelined_connection.pack
        commands = [pack(("SET", key, value, "PX", ms)) for key, (value, ms) in values.items()]
        pipe.ask(commands, told, most_bytes=len(commands) * _REPLY_BYTES)

    async def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys. Raises RedisError or OSError."""
        await self._client.unlink(*keys)

    async def close(self) -> None:
        """End the commands under way."""
        await asyncio.gather(self._few.close(), self._many.close())

    def _pipe(self, keys: Sized) -> pipelined_connection.PipelinedConnection:
        return self._few if len(keys) <= FEW else self._many


class _Several:
    """A Cluster, with the methods of _One. redis-py's pipeline fails where one node is gone."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        self._looking: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    def read(self, keys: Sequence[str], into: dict[str, object], over: Over) -> None:
        self._begin(self._each((("GET", key) for key in keys), into), over)

    def write(self, values: Mapping[str, tuple[bytes, int]], over: Over) -> None:
        commands = (("SET", key, value, "PX", ms) for key, (value, ms) in values.items())
        self._begin(self._each(commands, {}), over)

    async def remove(self, keys: Sequence[str]) -> None:
        await self._each((("UNLINK", key) for key in keys), {})

    async def close(self) -> None:
        ending = list(self._under_way)
        if self._looking is not None:
            ending.append(self._looking)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None], over: Over) -> None:
        def done(task: "asyncio.Task[None]") -> None:
            self._under_way.discard(task)
            # Any kind of error: redis-py raises them over a server that is not a Redis.
            over(asyncio.CancelledError() if task.cancelled() else task.exception())

        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(done)

    async def _each(self, commands: Iterable[tuple[Any, ...]], into: dict[str, object]) -> None:
        """Carry out each command and fill in its result, by its second word, which is its key.

        Then raise the first error.
        """
        try:
            await self._client.initialize()
        except RedisClusterException as error:
            raise RedisError(str(error)) from error
        by_node: dict[ClusterNode, list[PipelineCommand]] = {}
        uncovered: RedisClusterException | None = None
        for words in commands:
            try:
                node = self._client.get_node_from_key(words[1])
            except RedisClusterException as error:
                uncovered = error
                continue
            assert node is not None  # noqa: S101 - a slot that is covered has a node
            by_node.setdefault(node, []).append(PipelineCommand(0, *words))
        outcomes = await asyncio.gather(
            *(self._ask(node, asked, into) for node, asked in by_node.items()),
            return_exceptions=True,
        )
        failures = [outcome for outcome in outcomes if outcome is not None]
        if uncovered is not None:
            self._look_again()
            failures.append(RedisError(str(uncovered)))
        if failures:
            raise failures[0]

    async def _ask(
        self, node: ClusterNode, asked: list[PipelineCommand], into: dict[str, object]
    ) -> None:
        try:
            await node.execute_pipeline(asked)
            for command in asked:
                result = command.result
                if isinstance(result, MovedError):
                    self._look_again()
                    result = await self._client.execute_command(*command.args)
                if isinstance(result, Exception) and not _of_this_key(result):
                    raise result
                into[command.args[1]] = None if isinstance(result, Exception) else result
        except (RedisError, OSError):
            self._look_again()
            raise

    def _look_again(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        # The next command that fails asks again.
        with contextlib.suppress(RedisError, RedisClusterException, OSError):
            await self._client.nodes_manager.initialize()
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _of_this_key(error: Exception) -> bool:
    """True if only this key cannot be used: it moves to another node, or is of another type.

    redis-py would follow it over any connection, but only the one that has sent ASKING may ask.
    """
    return isinstance(error, AskError | TryAgainError) or (
        isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
    )
