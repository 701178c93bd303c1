"""One at a time, and next the one of those waiting whose like has had least so far."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

REMEMBERED: Final = 1024


class FairLock:
    """Turns of parties, by name. A new one starts level with the least served of those waiting."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._is_taken = False

    @contextlib.asynccontextmanager
    async def turn(self, party: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        if self._is_taken:
            await self._wait(party)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    def spent(self, party: str, seconds: float) -> None:
        """A turn of this party took so long."""
        self._spent[party] = self._start(party) + seconds
        for it in tuple(self._spent)[: max(0, len(self._spent) - REMEMBERED)]:
            if it not in self._waiting:  # those are compared with each other
                del self._spent[it]

    async def _wait(self, party: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spent[party] = self._start(party)
        self._waiting.setdefault(party, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._pass_on()  # it was given the turn and cannot take it
            raise

    def _start(self, party: str) -> float:
        least = min((self._spent[it] for it in self._waiting), default=0.0)
        return max(self._spent.get(party, 0.0), least)

    def _pass_on(self) -> None:
        self._is_taken = False
        while self._waiting:
            party = min(self._waiting, key=lambda it: self._spent.get(it, 0.0))
            futures = self._waiting[party]
            future = futures.popleft()
            if not futures:
                del self._waiting[party]
            if not future.done():
                self._is_taken = True
                future.set_result(None)
                return
