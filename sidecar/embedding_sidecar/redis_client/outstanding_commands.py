"""Bounds the outstanding commands of a Redis, and the wait for one.

A time-out ends the wait and not the command, which goes on in the background: so a slow connection
is made once and kept, and no late answer is left on a connection for the next command to read.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from embedding_sidecar import errors
from embedding_sidecar.redis_client import redis_refusals

LATE: Final = errors.StoreAway("Redis did not answer in time")
_MAX: Final = 64
"""Outstanding commands; at this number no other one is sent."""

T = TypeVar("T")


class OutstandingCommands:
    """Outstanding commands of one Redis: a caller's own in `owed`, and those begun here."""

    def __init__(self) -> None:
        self.owed: set[object] = set()

    @property
    def is_too_much(self) -> bool:
        """True if no other command may be sent."""
        return len(self.owed) >= _MAX

    async def within(
        self,
        seconds: float,
        command: Callable[[], Coroutine[Any, Any, T]],
        *,
        pattern: str,
        run_by_script: str = "",
    ) -> T:
        """The result of a command, if it comes in time; the rest is as in redis_refusals.

        Raises:
            errors.StoreAway: it failed, or is late and may still be carried out.
        """
        if self.is_too_much:
            raise errors.StoreAway(str(LATE))
        task = asyncio.get_running_loop().create_task(command())
        self.owed.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            raise errors.StoreAway(str(LATE))
        try:
            return task.result()
        except Exception as error:
            # redis-py raises any kind of error over a server that is not a Redis.
            failure = redis_refusals.failure(error, pattern=pattern, run_by_script=run_by_script)
            raise failure from error

    async def end(self) -> None:
        """End the commands that were begun here."""
        tasks = [it for it in self.owed if isinstance(it, asyncio.Task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self.owed.discard(task)
        if not task.cancelled():
            # Retrieved, so that the loop does not log an error that no caller waits for.
            task.exception()
