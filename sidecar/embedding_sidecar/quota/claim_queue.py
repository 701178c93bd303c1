"""The calls that wait for a claim, in the order in which they came."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from embedding_sidecar.quota.claims import Amounts
from embedding_sidecar.quota.leases import Reservation

Outcome = Reservation | BaseException
"""A call that may be made, or the reason why not: errors.Refused, or a fault of the program."""
Told = Callable[[Outcome], None]


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits in the queue; `told` is called once, by the event loop."""

    amounts: Amounts
    told: Told
    is_gone: bool = False

    def leave(self) -> None:
        """Stop waiting; an outcome of this same loop iteration is passed on all the same."""
        self.is_gone = True


class ClaimQueue:
    """The calls that wait for a claim; one claim serves, in order, all that it covers."""

    def __init__(self) -> None:
        self._waiting: deque[Waiter] = deque()

    def join(self, amounts: Amounts, told: Told) -> Waiter:
        """Wait for these amounts; a call that has left is not notified."""
        waiter = Waiter(amounts, told)
        self._waiting.append(waiter)
        return waiter

    def first(self) -> Amounts | None:
        """The amounts that the first needs; None where none waits."""
        while self._waiting and self._waiting[0].is_gone:
            self._waiting.popleft()
        return self._waiting[0].amounts if self._waiting else None

    def serve(self, outcome: Callable[[Amounts], Outcome | None]) -> None:
        """Notify each of its outcome, in order, up to the first whose outcome is None yet."""
        while (amounts := self.first()) is not None and (found := outcome(amounts)) is not None:
            _tell(self._waiting.popleft(), found)

    def sift(self, outcome: Callable[[Amounts], Outcome | None]) -> None:
        """Notify each of its outcome, also behind one whose outcome is None yet."""
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
        """Notify all of one outcome."""
        self.sift(lambda _: outcome)


def _tell(waiter: Waiter, outcome: Outcome) -> None:
    # Called later, so that a further draw of the caller takes nothing from the calls behind it.
    asyncio.get_running_loop().call_soon(waiter.told, outcome)
