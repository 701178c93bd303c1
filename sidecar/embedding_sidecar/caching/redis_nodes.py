"""Many keys at once: one round trip to each server that has some of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

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

_LOOK_AGAIN_SECONDS: Final = 0.5
"""How often at most a Cluster in trouble is asked who has which keys now."""


class Nodes(Protocol):
    """The servers of one Redis. All raise RedisError or OSError."""

    async def read(self, keys: Sequence[str], into: dict[str, object]) -> None:
        """Fill in the values of these keys, None for each that is not there, as they come."""
        ...

    async def write(self, values: Mapping[str, tuple[bytes, int]]) -> None:
        """Set each key to a value, for so many milliseconds."""
        ...

    async def remove(self, keys: Sequence[str]) -> None:
        """Drop these keys."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


def of(client: redis.asyncio.Redis) -> Nodes:
    """The servers behind a client of redis_url.connect."""
    return _Several(client) if isinstance(client, RedisCluster) else _One(client)


class _One:
    """One server. Over a connection of the client's pool, which looks whether it still lives.

    What the client does for a command beyond that takes longer than all the rest.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def read(self, keys: Sequence[str], into: dict[str, object]) -> None:
        async with self._connection() as connection:
            await connection.send_command("MGET", *keys)
            found = await connection.read_response(disable_decoding=True)
        into.update(zip(keys, found, strict=True))

    async def write(self, values: Mapping[str, tuple[bytes, int]]) -> None:
        commands = [("SET", key, value, "PX", ms) for key, (value, ms) in values.items()]
        failure: ResponseError | None = None
        async with self._connection() as connection:
            await connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                # Every answer is read, also after one that is a refusal.
                try:
                    await connection.read_response(disable_decoding=True)
                except ResponseError as error:
                    failure = error
        if failure is not None:
            raise failure

    async def remove(self, keys: Sequence[str]) -> None:
        await self._client.unlink(*keys)

    async def close(self) -> None:
        pass

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = self._client.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call] # upstream's
        try:
            yield connection
        finally:
            await pool.release(connection)


class _Several:
    """A Cluster. redis-py's own pipeline gives all nodes up where one of them is gone."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        self._looking: asyncio.Task[None] | None = None

    async def read(self, keys: Sequence[str], into: dict[str, object]) -> None:
        await self._each((("GET", key) for key in keys), into.__setitem__)

    async def write(self, values: Mapping[str, tuple[bytes, int]]) -> None:
        commands = (("SET", key, value, "PX", ms) for key, (value, ms) in values.items())
        await self._each(commands, _ignored)

    async def remove(self, keys: Sequence[str]) -> None:
        await self._each((("UNLINK", key) for key in keys), _ignored)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _each(
        self, commands: Iterable[tuple[Any, ...]], told: Callable[[str, Any], None]
    ) -> None:
        """Carry out each command, of which the second word is the key; then raise what failed."""
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
            *(self._ask(node, asked, told) for node, asked in by_node.items()),
            return_exceptions=True,
        )
        failures = [outcome for outcome in outcomes if outcome is not None]
        if uncovered is not None:
            self._look_again()
            failures.append(RedisError(str(uncovered)))
        if failures:
            raise failures[0]

    async def _ask(
        self, node: ClusterNode, asked: list[PipelineCommand], told: Callable[[str, Any], None]
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
                told(command.args[1], None if isinstance(result, Exception) else result)
        except (RedisError, OSError):
            self._look_again()
            raise

    def _look_again(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        # Where nobody can tell, whoever needs to know asks again.
        with contextlib.suppress(RedisError, RedisClusterException, OSError):
            await self._client.nodes_manager.initialize()
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _of_this_key(error: Exception) -> bool:
    """Whether only this key is of no use: it is on its way to another node, or of another type.

    redis-py would follow it, but over any connection, and only the one that said ASKING may ask.
    """
    return isinstance(error, AskError | TryAgainError) or (
        isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
    )


def _ignored(key: str, result: Any) -> None:
    del key, result
