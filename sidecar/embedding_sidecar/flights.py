"""What is under way to providers: a key is asked for once, however many wait for it.

A flight is a task of its own. Who waits for it may go away, and it lands all the same: what is paid
for is kept. What has not begun yet is not begun for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from embedding_sidecar import cache, calls, errors

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
        """Until all have landed, or the time is up."""
        for flight in flights:
            flight.waiting += 1
        try:
            tasks = [flight.task for flight in flights if flight.task is not None]
            await asyncio.wait(tasks, timeout=max(0.0, seconds))
        finally:
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
            if kept:
                asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, flight)
            else:
                self._forget(flight)

    def _forget(self, flight: Flight) -> None:
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
