"""A lock that shares time fairly among parties."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

REMEMBERED: Final = 1024


class FairLock:
    """Goes to the waiting party with least time so far; a new party starts at that time."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._is_taken = False

    @contextlib.asynccontextmanager
    async def hold(self, party: str) -> AsyncIterator[None]:
        """Wait for the lock, and hold it."""
        if self._is_taken:
            await self._wait(party)
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    def spent(self, party: str, seconds: float) -> None:
        """Charge a party with the time that it held the lock."""
        self._spent[party] = self._start(party) + seconds
        for it in tuple(self._spent)[: max(0, len(self._spent) - REMEMBERED)]:
            if it not in self._waiting:  # waiting parties are compared
                del self._spent[it]

    async def _wait(self, party: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spent[party] = self._start(party)
        self._waiting.setdefault(party, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._pass_on()  # it was given the lock and cannot take it
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
