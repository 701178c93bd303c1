"""What a Redis has been asked and has not answered, which is bounded, and a wait that is, too.

Time that is up ends the waiting and not the command: what was begun goes on in the background, so
that a slow connection is made once and kept, instead of being dropped half made by every request,
and no late answer is left lying on a connection for the next one to read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from embedding_sidecar import errors

LATE: Final = errors.StoreAway("Redis did not answer in time")
_MAX: Final = 64
"""Commands that a Redis may owe an answer to; while it owes more, nothing is asked of it."""

T = TypeVar("T")


class Debt:
    """What one Redis owes answers to: commands of one's own, and those begun here."""

    def __init__(self) -> None:
        self.owed: set[object] = set()

    @property
    def is_too_much(self) -> bool:
        """Whether nothing more is to be asked."""
        return len(self.owed) >= _MAX

    async def within(self, seconds: float, command: Callable[[], Awaitable[T]]) -> T:
        """The outcome of a command, if it is there in time.

        Raises:
            errors.StoreAway: it is not, or the command failed; it may still be carried out.
        """
        if self.is_too_much:
            raise errors.StoreAway(str(LATE))
        task = self._begin(_run(command))
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            raise errors.StoreAway(str(LATE))
        return task.result()

    async def end(self) -> None:
        """End the commands that were begun here."""
        tasks = [it for it in self.owed if isinstance(it, asyncio.Task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self.owed.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self.owed.discard(task)
        if not task.cancelled():
            # Looked at, so that the loop does not complain of one nobody waits for any more.
            task.exception()


async def _run(command: Callable[[], Awaitable[T]]) -> T:
    try:
        return await command()
    except Exception as error:
        # Not those of the client alone: it stumbles over what a server says that is no Redis.
        raise errors.StoreAway(type(error).__name__) from error
