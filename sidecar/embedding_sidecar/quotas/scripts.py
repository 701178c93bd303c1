"""A script that a Redis runs: over a pipe to one server, by redis-py in a Cluster."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import hiredis
import redis.asyncio
import redis.exceptions
from redis.asyncio.cluster import RedisCluster

from embedding_sidecar import errors, redis_pipe, redis_refusals

_pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command
"""Its own type says that a command is one word."""
_NOT_THERE: Final = "NOSCRIPT"
KEYS: Final = "aos:embedding:quota:*"
"""The keys that scripts use."""
_RUN: Final = "+time +hgetall +hmget +hset +hlen +expire"
"""What they run."""
_MOST_BYTES: Final = 4096
"""Of an answer: some numbers and a word, or a refusal."""

Words = Sequence[str | int]


class Script(Protocol):
    """A script of one key. Where its answer is lost, it may be carried out, or will be yet."""

    async def run(self, key: str, words: Words) -> Any:
        """Its answer. Raises errors.StoreAway: there is none, with a reason that is no prose."""
        ...

    def mistrust(self) -> None:
        """Its answer was none to what was asked."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


def of(client: redis.asyncio.Redis, text: str) -> Script:
    """A script at the servers behind a client of redis_url.connect."""
    return _InCluster(client, text) if isinstance(client, RedisCluster) else _AtOne(client, text)


class _AtOne:
    """One server, by a connection on which nobody waits behind anything else."""

    def __init__(self, client: redis.asyncio.Redis, text: str) -> None:
        self._pipe = redis_pipe.Pipe(client.connection_pool)
        self._text = text
        # What Redis calls it.
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, key: str, words: Words) -> Any:
        answer = await self._ask(_pack(("EVALSHA", self._digest, 1, key, *words)))
        if _refusal(answer) == _NOT_THERE:
            answer = await self._ask(_pack(("EVAL", self._text, 1, key, *words)))
        if isinstance(answer, hiredis.ReplyError):
            raise _refused(str(answer))
        return answer

    def mistrust(self) -> None:
        self._pipe.mistrust()

    async def close(self) -> None:
        await self._pipe.close()

    async def _ask(self, command: bytes) -> Any:
        answers = await self._told(command)
        if isinstance(answers, Exception):
            # Once more: the connection may have ended before it was asked.
            answers = await self._told(command)
        if isinstance(answers, Exception):
            # Of a connection, too: a wrong password is told before anything is asked.
            lacking = redis_refusals.of(answers, pattern=KEYS, run_by_script=_RUN)
            if lacking is not None:
                raise errors.StoreRefuses(lacking) from answers
            raise errors.StoreAway(type(answers).__name__) from answers
        return answers[0]

    def _told(self, command: bytes) -> "asyncio.Future[Sequence[Any] | Exception]":
        waiting: asyncio.Future[Sequence[Any] | Exception]
        waiting = asyncio.get_running_loop().create_future()

        def told(answers: Sequence[Any] | Exception) -> None:
            # One whose time was up has cancelled it.
            if not waiting.done():
                waiting.set_result(answers)

        self._pipe.ask([command], told, most_bytes=_MOST_BYTES)
        return waiting


class _InCluster:
    """A Cluster: who has the key's slot is what redis-py knows."""

    def __init__(self, client: redis.asyncio.Redis, text: str) -> None:
        self._script = client.register_script(text)

    async def run(self, key: str, words: Words) -> Any:
        try:
            return await self._script(keys=[key], args=words)
        except redis.exceptions.NoPermissionError as error:
            # redis-py takes the code away.
            raise _refused(f"NOPERM {error}") from error
        except redis.exceptions.ResponseError as error:
            raise _refused(f"ERR {error}") from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise errors.StoreAway(type(error).__name__) from error

    def mistrust(self) -> None:
        """redis-py gives each question a connection of its own."""

    async def close(self) -> None:
        """The client is closed by whoever made it."""


def _refused(answer: str) -> errors.StoreRefuses:
    return errors.StoreRefuses(redis_refusals.lacking(answer, pattern=KEYS, run_by_script=_RUN))


def _refusal(answer: Any) -> str:
    """The code of a refusal, which is its first word; empty where it is none."""
    return str(answer).partition(" ")[0] if isinstance(answer, hiredis.ReplyError) else ""
