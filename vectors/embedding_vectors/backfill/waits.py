"""Waits that grow with each failure, and that end when the worker is to stop."""

import asyncio
import random
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

DATABASE_MOST_SECONDS: Final = 2.0
"""A database that is available again is used within this time."""
PROVIDER_MOST_SECONDS: Final = 30.0
_FIRST_SECONDS: Final = 0.25
STOPPED: Final = "it was told to"

T = TypeVar("T")


class StoppedError(Exception):
    """The worker is to stop."""


class Stop:
    """An event, set once by a signal or because the document has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """True once it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Sleep.

        Raises:
            StoppedError: the worker is to stop.
        """
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._event.wait()
        if self.is_set:
            raise StoppedError(STOPPED)

    async def unless_set(self, awaited: Awaitable[T]) -> T:
        """The result of the awaitable, unless a stop comes first.

        Raises:
            StoppedError: the worker is to stop; the awaitable is cancelled.
        """
        task = asyncio.ensure_future(awaited)
        stopped = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StoppedError(STOPPED)
            return task.result()
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


@dataclass(slots=True)
class Backoff:
    """Waits that double with each failure, up to `most_seconds`, half of each at random."""

    most_seconds: float
    failures: int = 0
    since: float | None = None

    def failed(self) -> float:
        """Record a failure; returns the seconds to wait now."""
        self.since = time.monotonic() if self.since is None else self.since
        longest = min(self.most_seconds, _FIRST_SECONDS * 2.0**self.failures)
        self.failures = min(self.failures + 1, 20)
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads workers, no secret

    def succeeded(self) -> None:
        """Record a success: the waits begin anew."""
        self.failures, self.since = 0, None

    @property
    def failing_seconds(self) -> float:
        """The seconds in which nothing has succeeded."""
        return 0.0 if self.since is None else time.monotonic() - self.since
