"""Who waits for a share of a claim: first come, first served, and all whom it serves at once."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from embedding_sidecar import errors
from embedding_sidecar.quotas.claims import Amounts
from embedding_sidecar.quotas.leases import Reservation

Outcome = Reservation | errors.Refused


class _Waiter(NamedTuple):
    amounts: Amounts
    told: "asyncio.Future[Outcome]"


class Line:
    """Those who wait, the first of whom is the next that a claim is made for."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiter] = deque()

    def join(self, amounts: Amounts) -> "asyncio.Future[Outcome]":
        """Wait for these amounts; who cancels the future has left the line."""
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiter(amounts, told))
        return told

    def first(self) -> Amounts | None:
        """What the first needs; None where nobody waits."""
        while self._waiting and self._waiting[0].told.done():
            self._waiting.popleft()
        return self._waiting[0].amounts if self._waiting else None

    def serve(self, outcome: Callable[[Amounts], Outcome | None]) -> None:
        """Tell each, in order, what becomes of it; for whom that is None yet, goes on waiting."""
        still: deque[_Waiter] = deque()
        for waiter in self._waiting:
            if waiter.told.done():
                continue
            told = outcome(waiter.amounts)
            if told is None:
                still.append(waiter)
            else:
                waiter.told.set_result(told)
        self._waiting = still

    def fail(self, error: BaseException) -> None:
        """Tell all that nobody asks for them any more, and why."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.told.done():
                waiter.told.set_exception(error)
