"""Waits that grow with each failure, and that end when the worker is told to stop."""

import asyncio
import random
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

DATABASE_MOST_SECONDS: Final = 2.0
"""A database that is back is used within this time."""
PROVIDER_MOST_SECONDS: Final = 30.0
_FIRST_SECONDS: Final = 0.25
STOPPED: Final = "it was told to"

T = TypeVar("T")


class StoppedError(Exception):
    """The worker was told to stop."""


class Stop:
    """Set once, by a signal or because the document has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Stop."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait.

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
        """The result, or an end before it is there.

        Raises:
            StoppedError: the worker is to stop; what was awaited is cancelled.
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
    """Twice as long after each failure, up to `most_seconds`, with half of it by chance."""

    most_seconds: float
    failures: int = 0
    since: float | None = None

    def failed(self) -> float:
        """One failure more; how long to wait now."""
        self.since = time.monotonic() if self.since is None else self.since
        longest = min(self.most_seconds, _FIRST_SECONDS * 2.0**self.failures)
        self.failures = min(self.failures + 1, 20)
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads workers, no secret

    def succeeded(self) -> None:
        """Begin anew."""
        self.failures, self.since = 0, None

    @property
    def failing_seconds(self) -> float:
        """How long nothing has succeeded."""
        return 0.0 if self.since is None else time.monotonic() - self.since
