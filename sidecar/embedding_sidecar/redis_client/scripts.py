"""A script that Redis runs: over our own connection to one server, by redis-py in a Cluster."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import hiredis
import redis.asyncio
import redis.exceptions
from redis.asyncio.cluster import RedisCluster

from embedding_sidecar import errors
from embedding_sidecar.redis_client import pipelined_connection, redis_refusals

_MOST_BYTES: Final = 4096
"""Bound of an answer: some numbers and a word, or a refusal."""

Words = Sequence[str | int]


class Rights(NamedTuple):
    """The rights of a Redis user that a script needs: its keys as a pattern, and its commands."""

    keys: str
    commands: str


def of(client: redis.asyncio.Redis, text: str, *, needs: Rights) -> "_AtOne | _InCluster":
    """A script of one key, at the servers behind a client of redis_url.connect."""
    if isinstance(client, RedisCluster):
        return _InCluster(client, text, needs)
    return _AtOne(client, text, needs)


class _AtOne:
    """A script at one server, over a connection of its own."""

    def __init__(self, client: redis.asyncio.Redis, text: str, needs: Rights) -> None:
        self._needs = needs
        self._pipe = pipelined_connection.PipelinedConnection(client.connection_pool)
        self._text = text
        # The script's name in Redis.
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, key: str, words: Words) -> Any:
        """The script's answer. On errors.StoreAway it may have run, or may run later."""
        answer = await self._ask(("EVALSHA", self._digest, 1, key, *words))
        if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
            answer = await self._ask(("EVAL", self._text, 1, key, *words))
        if isinstance(answer, hiredis.ReplyError):
            raise _refused(str(answer), self._needs)
        return answer

    def reset(self) -> None:
        """Drop the connection, as an answer did not fit its command."""
        self._pipe.reset()

    async def close(self) -> None:
        """Drop the connection."""
        await self._pipe.close()

    async def _ask(self, words: tuple[Any, ...]) -> Any:
        command = pipelined_connection.pack(words)
        answers = await self._told(command)
        if isinstance(answers, Exception):
            # Sent once more: the connection may have ended before the command was sent.
            answers = await self._told(command)
        if isinstance(answers, Exception):
            # The connection may be refused, too: a wrong password is, before any command.
            needs = self._needs
            raise redis_refusals.failure(
                answers, pattern=needs.keys, run_by_script=needs.commands
            ) from answers
        return answers[0]

    def _told(self, command: bytes) -> "asyncio.Future[Sequence[Any] | Exception]":
        waiting: asyncio.Future[Sequence[Any] | Exception]
        waiting = asyncio.get_running_loop().create_future()

        def told(answers: Sequence[Any] | Exception) -> None:
            # A time-out has cancelled it.
            if not waiting.done():
                waiting.set_result(answers)

        self._pipe.ask([command], told, most_bytes=_MOST_BYTES)
        return waiting


class _InCluster:
    """A script in a Cluster, with the methods of _AtOne: redis-py finds the node of the key."""

    def __init__(self, client: redis.asyncio.Redis, text: str, needs: Rights) -> None:
        self._needs = needs
        self._script = client.register_script(text)

    async def run(self, key: str, words: Words) -> Any:
        try:
            return await self._script(keys=[key], args=words)
        except redis.exceptions.ResponseError as error:
            # redis-py takes the code out of the text.
            is_right = isinstance(error, redis.exceptions.NoPermissionError)
            raise _refused(f"{'NOPERM' if is_right else 'ERR'} {error}", self._needs) from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise errors.StoreAway(type(error).__name__) from error

    def reset(self) -> None:
        """Nothing: redis-py gives each command a connection of its own."""

    async def close(self) -> None:
        """Nothing: the store closes the client."""


def _refused(answer: str, needs: Rights) -> errors.StoreRefuses:
    lacking = redis_refusals.lacking(answer, pattern=needs.keys, run_by_script=needs.commands)
    return errors.StoreRefuses(lacking)
