"""What is under way to providers: a key is asked for once, however many wait for it.

A flight is a task of its own. Who waits for it may go away, and it lands all the same: what is paid
for is kept. What has not begun yet is not begun for nobody.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from embedding_sidecar import errors
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import calls

KEPT_SECONDS: Final = 0.5
"""How long a landed flight is found by who began to look before it landed: longer than a look into
the cache takes."""


_NO_ENTRIES: Final[Mapping[str, cache.Entry]] = MappingProxyType({})


class Landing(NamedTuple):
    """What a flight brought: entries by key, what they cost, and why some are missing, if so."""

    entries: Mapping[str, cache.Entry] = _NO_ENTRIES
    tokens: int = 0
    failure: errors.ProviderFailed | errors.Refused | None = None


_ENDED: Final = Landing(failure=errors.Unreachable("cancelled", billed=True))
"""Of a flight that was ended from outside: the process ends."""


@dataclass(slots=True, eq=False, kw_only=True)
class Flight:
    """Calls to one provider, one after the other, for some keys.

    `waiting` are told when it has landed, which is when `landed_at` is set.
    """

    provider: str
    keys: Sequence[str]
    sent: list[calls.Span] = field(default_factory=list)
    waiting: set[Callable[[], None]] = field(default_factory=set)
    landed_at: float | None = None
    task: "asyncio.Task[Landing] | None" = None

    def landing(self) -> Landing | None:
        """What came of it; None while it is under way."""
        if self.task is None or self.landed_at is None:
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

    def begin(self, flight: Flight, bring: Coroutine[Any, Any, Landing], *, shared: bool) -> None:
        """Begin a flight; a shared one is found by its keys from now on."""
        if shared:
            for key in flight.keys:
                self._by_key[key] = flight
        flight.task = task = asyncio.get_running_loop().create_task(bring)
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._land, flight))

    async def wait(self, flights: Collection[Flight], *, seconds: float) -> None:
        """Until all have landed, or the time is up.

        By hand, because asyncio.wait costs several times what all else here does.
        """
        under_way = [it for it in flights if it.landed_at is None]
        if not under_way:
            return
        left = len(under_way)
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        def landed() -> None:
            nonlocal left
            left -= 1
            if not left:
                end()

        for flight in under_way:
            flight.waiting.add(landed)
        timer = loop.call_later(seconds, end)
        try:
            await over
        finally:
            timer.cancel()
            for flight in under_way:
                flight.waiting.discard(landed)

    async def close(self) -> None:
        """End all that is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _land(self, flight: Flight, task: "asyncio.Task[Landing]") -> None:
        self._tasks.discard(task)
        flight.landed_at = self._clock()
        for told in flight.waiting:
            told()
        kept = False
        try:
            landing = flight.landing()
            kept = landing is not None and landing.failure is None
        finally:
            if not kept:
                self._forget(flight)
        if kept:
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
