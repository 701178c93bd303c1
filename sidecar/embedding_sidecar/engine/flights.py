"""Calls in flight to providers: a key is asked for once, however many requests wait for it.

A call in flight goes on when the requests that wait for it go away: what is paid for is kept. One
that has not begun yet is not begun for nobody.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from embedding_sidecar import errors, tracing
from embedding_sidecar.caching import cache

KEPT_SECONDS: Final = 0.5
"""How long a landed flight is found by a request that asked the cache before it landed: longer than
a look into the cache takes."""
MAX_KEPT_BYTES: Final = 16 * 2**20
"""Bytes of vectors in the landed flights that are kept. Where more than that lands in KEPT_SECONDS,
the oldest go sooner; a flight that brings more by itself is not kept."""

_NO_ENTRIES: Final[Mapping[str, cache.Entry]] = MappingProxyType({})

Span = tuple[float, float | None]
"""When a request that was sent to a provider began and when it ended; None: not yet."""


class Landing(NamedTuple):
    """What a flight brought: entries by key, what they cost, and why some are missing, if so."""

    entries: Mapping[str, cache.Entry] = _NO_ENTRIES
    tokens: int = 0
    failure: errors.ProviderFailed | errors.Refused | None = None
    is_estimated: bool = False
    """Whether `tokens` is a bound where a provider did not say."""


ENDED: Final = Landing(failure=errors.Unreachable("cancelled", billed=True))
"""The landing of a flight that the end of the process cancels."""


@dataclass(slots=True, eq=False)
class Trace:
    """The traces of a flight's calls: that of the request that starts them, and those that join.

    `call` is the span of the call under way.
    """

    request: tracing.RequestSpan
    joined: list[tracing.RequestSpan] = field(default_factory=list)
    call: tracing.CallSpan | None = None

    def start(self, *, provider: str, model: str, url: str) -> tracing.CallSpan | None:
        """Start the span of a call, linked to the requests that have joined before it was sent."""
        self.call = self.request.call(provider=provider, model=model, url=url)
        if self.call is not None:
            for other in self.joined:
                self.call.link(other)
        return self.call

    def join(self, other: tracing.RequestSpan) -> None:
        """Link the span of another request that waits for the same call."""
        self.joined.append(other)
        if self.call is not None:
            self.call.link(other)


@dataclass(slots=True, eq=False, kw_only=True)
class Flight:
    """Calls to one provider, one after the other, for some keys.

    `lands_by` is the latest time at which it lands. `cancel` ends the call under way. `brought` is
    None until it lands, and an exception where a fault ended it. `landed_at` is set once the cache
    has what it brought. Only a `shared` flight is found by its keys.
    """

    provider: str
    keys: Sequence[str]
    shared: bool = True
    trace: Trace | None = None
    lands_by: float = math.inf
    cancel: Callable[[], object] | None = None
    sent: list[Span] = field(default_factory=list)
    waiting: "set[Waiter]" = field(default_factory=set)
    brought: Landing | Exception | None = None
    landed_at: float | None = None
    size_bytes: int = 0

    def landing(self) -> Landing | None:
        """What it brought; None while it is under way. Raises the fault that ended it."""
        if isinstance(self.brought, Exception):
            raise self.brought
        return self.brought


class Waiter:
    """A request that waits for some flights."""

    __slots__ = ("_flights", "_left", "_over")

    def __init__(self, flights: Iterable[Flight]) -> None:
        self._flights = [it for it in flights if it.brought is None]
        self._left = len(self._flights)
        self._over: asyncio.Future[None] | None = None
        for flight in self._flights:
            flight.waiting.add(self)

    def landed(self) -> None:
        """One of the flights has landed."""
        self._left -= 1
        if not self._left:
            self._end()

    async def wait(self, *, now: float, ends_at: float) -> None:
        """Wait until all flights have landed, or until `ends_at`, and then no more for any.

        asyncio.wait would cost several times as much as the rest of the engine.
        """
        timer = None
        try:
            if self._left:
                loop = asyncio.get_running_loop()
                self._over = loop.create_future()
                # A flight that lands in time anyway needs no timer.
                if any(it.lands_by > ends_at for it in self._flights):
                    timer = loop.call_later(ends_at - now, self._end)
                await self._over
        finally:
            if timer is not None:
                timer.cancel()
            for flight in self._flights:
                flight.waiting.discard(self)

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class Flights:
    """All flights of a process, by the keys that they bring."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_key: dict[str, Flight] = {}
        self._under_way: set[Flight] = set()
        self._landed: deque[Flight] = deque()
        self._landed_bytes = 0
        self._sweeps = False
        self._closed = False

    def find(self, key: str, *, since: float) -> Flight | None:
        """The flight that brings this key, or that the cache did not have when asked at `since`."""
        flight = self._by_key.get(key)
        if flight is None or (flight.landed_at is not None and flight.landed_at < since):
            return None
        return flight

    def follow(self, flight: Flight) -> None:
        """Begin a flight; `land` is to be told. It lands at once after `close`."""
        if self._closed:
            self.land(flight, ENDED)
            return
        self._under_way.add(flight)
        if flight.shared:
            for key in flight.keys:
                self._by_key[key] = flight

    def land(self, flight: Flight, brought: Landing | Exception) -> None:
        """End a flight: wake the requests that wait for it.

        What it brought is to be put into the cache next, and `kept` is to be told.
        """
        self._under_way.discard(flight)
        flight.brought = brought
        # The callback holds what holds the flight.
        flight.cancel = None
        for waiter in flight.waiting:
            waiter.landed()
        if isinstance(brought, Exception):
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a call to a provider failed", "exception": brought}
            )
            self._forget(flight)
        elif brought.failure is not None:
            self._forget(flight)

    def kept(self, flight: Flight) -> None:
        """The cache has what the flight brought: only requests that asked it before find it."""
        brought = flight.brought
        if not isinstance(brought, Landing) or brought.failure is not None or not flight.shared:
            return
        flight.landed_at = self._clock()
        flight.size_bytes = sum([len(it.vector) for it in brought.entries.values()])
        if flight.size_bytes > MAX_KEPT_BYTES:
            self._forget(flight)
            return
        self._landed.append(flight)
        self._landed_bytes += flight.size_bytes
        while self._landed_bytes > MAX_KEPT_BYTES:
            self._forget_oldest()
        if not self._sweeps:
            self._sweep_later()

    async def close(self) -> None:
        """Cancel all that is under way, and begin nothing more."""
        self._closed = True
        while self._under_way:
            flight = self._under_way.pop()
            if flight.cancel is not None:
                flight.cancel()
            self.land(flight, ENDED)

    def _sweep_later(self) -> None:
        self._sweeps = bool(self._landed)
        if self._sweeps:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Forget the flights that landed long ago; one timer for all."""
        until = self._clock() - KEPT_SECONDS
        while self._landed and (self._landed[0].landed_at or until) <= until:
            self._forget_oldest()
        self._sweep_later()

    def _forget_oldest(self) -> None:
        flight = self._landed.popleft()
        self._landed_bytes -= flight.size_bytes
        self._forget(flight)

    def _forget(self, flight: Flight) -> None:
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
