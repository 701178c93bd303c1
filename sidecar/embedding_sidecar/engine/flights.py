"""What is under way to providers: a key is asked for once, however many wait for it.

A flight is a task of its own. Who waits for it may go away, and it lands all the same: what is paid
for is kept. What has not begun yet is not begun for nobody.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import calls

KEPT_SECONDS: Final = 0.5
"""How long a landed flight is found by who began to look before it landed: longer than a look into
the cache takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What a flight brought: entries by key, what they cost, and why some are missing, if so."""

    entries: Mapping[str, cache.Entry] = field(default_factory=dict)
    tokens: int = 0
    failure: errors.ProviderFailed | errors.Refused | None = None


_ENDED: Final = Landing(failure=errors.Unreachable("cancelled", billed=True))
"""Of a flight that was ended from outside: the process ends."""


@dataclass(slots=True, eq=False, kw_only=True)
class Flight:
    """Calls to one provider, one after the other, for some keys."""

    provider: str
    keys: Sequence[str]
    sent: calls.Sent = field(default_factory=calls.Sent)
    waiting: int = 0
    landed_at: float | None = None
    task: "asyncio.Task[Landing] | None" = None

    def landing(self) -> Landing | None:
        """What came of it; None while it is under way."""
        if self.task is None or not self.task.done():
            return None
        return _ENDED if self.task.cancelled() else self.task.result()


class Flights:
    """All flights of a process, by the keys that may be waited for."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_key: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[Landing]] = set()
        self._landed: deque[Flight] = deque()

    def find(self, key: str, *, since: float) -> Flight | None:
        """The flight that brings this key, or has brought it since then."""
        flight = self._by_key.get(key)
        if flight is None or (flight.landed_at is not None and flight.landed_at < since):
            return None
        return flight

    def begin(
        self, flight: Flight, make: Callable[[], Awaitable[Landing]], *, shared: bool
    ) -> None:
        """Begin a flight; a shared one is found by its keys from now on."""
        if shared:
            self._by_key.update(dict.fromkeys(flight.keys, flight))
        flight.task = asyncio.get_running_loop().create_task(self._fly(flight, make))
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)

    async def wait(self, flights: Collection[Flight], *, seconds: float) -> None:
        """Until all have landed, or the time is up.

        By hand, because asyncio.wait costs several times what all else here does.
        """
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        tasks = [it.task for it in flights if it.task is not None and not it.task.done()]
        left = len(tasks)

        def end() -> None:
            if not over.done():
                over.set_result(None)

        def landed(_: "asyncio.Task[Landing]") -> None:
            nonlocal left
            left -= 1
            if not left:
                end()

        timer = loop.call_later(seconds if tasks else 0, end)
        for flight in flights:
            flight.waiting += 1
        for task in tasks:
            task.add_done_callback(landed)
        try:
            await over
        finally:
            timer.cancel()
            for task in tasks:
                task.remove_done_callback(landed)
            for flight in flights:
                flight.waiting -= 1

    async def close(self) -> None:
        """End all that is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fly(self, flight: Flight, make: Callable[[], Awaitable[Landing]]) -> Landing:
        kept = False
        try:
            landing = await make()
            kept = landing.failure is None
            return landing
        finally:
            flight.landed_at = self._clock()
            if not kept:
                self._forget(flight)
            else:
                self._landed.append(flight)
                if len(self._landed) == 1:
                    asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Forget what landed long ago; one timer for all."""
        until = self._clock() - KEPT_SECONDS
        while self._landed and (self._landed[0].landed_at or until) <= until:
            self._forget(self._landed.popleft())
        if self._landed:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def _forget(self, flight: Flight) -> None:
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
