"""Who waits for a share of a claim: first come, first served, and all whom it serves at once."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from embedding_sidecar.quota.claims import Amounts
from embedding_sidecar.quota.leases import Reservation

Outcome = Reservation | BaseException
"""A call that may be made, or why not: errors.Refused, or a fault of the program."""
Told = Callable[[Outcome], None]


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits in the queue; `told` is called once, by the event loop."""

    amounts: Amounts
    told: Told
    is_gone: bool = False

    def leave(self) -> None:
        """Wait no longer; what it was given in this very turn is told it all the same."""
        self.is_gone = True


class ClaimQueue:
    """Those who wait, the first of whom is the next that a claim is made for."""

    def __init__(self) -> None:
        self._waiting: deque[Waiter] = deque()

    def join(self, amounts: Amounts, told: Told) -> Waiter:
        """Wait for these amounts; who is gone is told nothing."""
        waiter = Waiter(amounts, told)
        self._waiting.append(waiter)
        return waiter

    def first(self) -> Amounts | None:
        """What the first needs; None where nobody waits."""
        while self._waiting and self._waiting[0].is_gone:
            self._waiting.popleft()
        return self._waiting[0].amounts if self._waiting else None

    def serve(self, outcome: Callable[[Amounts], Outcome | None]) -> None:
        """Tell each, in order, what becomes of it, up to the first for whom that is None yet."""
        while (amounts := self.first()) is not None and (found := outcome(amounts)) is not None:
            _tell(self._waiting.popleft(), found)

    def sift(self, outcome: Callable[[Amounts], Outcome | None]) -> None:
        """Tell each what becomes of it, also behind one for whom that is None yet."""
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if waiter.is_gone:
                continue
            found = outcome(waiter.amounts)
            if found is None:
                self._waiting.append(waiter)
            else:
                _tell(waiter, found)

    def end(self, outcome: Outcome) -> None:
        """Tell all the same."""
        self.sift(lambda _: outcome)


def _tell(waiter: Waiter, outcome: Outcome) -> None:
    # What one does with it then robs nobody of his.
    asyncio.get_running_loop().call_soon(waiter.told, outcome)
