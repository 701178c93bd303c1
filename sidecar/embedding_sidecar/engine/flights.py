"""What is under way to providers: a key is asked for once, however many wait for it.

A flight is a task of its own, or a call that needs none. Who waits for it may go away, and it lands
all the same: what is paid for is kept. What has not begun yet is not begun for nobody.
"""

import asyncio
import functools
import math
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
MAX_KEPT_BYTES: Final = 16 * 2**20
"""Of vectors in them. Where more than that lands in KEPT_SECONDS, the oldest go sooner; a flight
that brings more by itself is not kept."""

_NO_ENTRIES: Final[Mapping[str, cache.Entry]] = MappingProxyType({})


class Landing(NamedTuple):
    """What a flight brought: entries by key, what they cost, and why some are missing, if so."""

    entries: Mapping[str, cache.Entry] = _NO_ENTRIES
    tokens: int = 0
    failure: errors.ProviderFailed | errors.Refused | None = None
    is_estimated: bool = False
    """Whether `tokens` is a bound where a provider did not say."""


_ENDED: Final = Landing(failure=errors.Unreachable("cancelled", billed=True))
"""Of a flight that was ended from outside: the process ends."""


@dataclass(slots=True, eq=False, kw_only=True)
class Flight:
    """Calls to one provider, one after the other, for some keys.

    It has landed when `landed_at` is set, which is at `lands_by` at the latest; `whole` says that
    it brought all of them then, and `size_bytes` how much that is. A `shared` one may be found by
    its keys.
    """

    provider: str
    keys: Sequence[str]
    lands_by: float = math.inf
    end: Callable[[], None] | None = None
    sent: list[calls.Span] = field(default_factory=list)
    trace: calls.Trace = calls.UNTRACED
    waiting: "set[Watch]" = field(default_factory=set)
    landed_at: float | None = None
    brought: Landing | Exception = _ENDED
    whole: bool = False
    shared: bool = False
    size_bytes: int = 0

    def landing(self) -> Landing | None:
        """What came of it; None while it is under way. It may be an exception nobody thought of."""
        if self.landed_at is None:
            return None
        if isinstance(self.brought, Exception):
            raise self.brought
        return self.brought


class Watch:
    """Somebody who waits until all of some flights have landed, or the time is up.

    `over` is called then, once, unless it was left before.
    """

    __slots__ = ("_left", "_over", "_timer", "_under_way")

    def __init__(
        self, flights: Collection[Flight], *, now: float, ends_at: float, over: Callable[[], None]
    ) -> None:
        self._under_way = [it for it in flights if it.landed_at is None]
        self._left = len(self._under_way)
        self._over = over
        self._timer: asyncio.TimerHandle | None = None
        is_timely = bool(self._under_way)
        for flight in self._under_way:
            flight.waiting.add(self)
            is_timely = is_timely and flight.lands_by <= ends_at
        if not is_timely:
            wait = ends_at - now if self._under_way else 0
            self._timer = asyncio.get_running_loop().call_later(wait, self._end)

    def landed(self) -> None:
        """One of them has landed."""
        self._left -= 1
        if not self._left:
            self._end()

    def leave(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
        for flight in self._under_way:
            flight.waiting.discard(self)

    def _end(self) -> None:
        self.leave()
        try:
            self._over()
        except Exception as error:  # noqa: BLE001 - whatever it is, others wait for the flight too
            asyncio.get_running_loop().call_exception_handler(
                {"message": "an answer could not be handed over", "exception": error}
            )


class Flights:
    """All flights of a process, by the keys that may be waited for."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_key: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[Flight] = set()
        """Those that need no task."""
        self._landed: deque[Flight] = deque()
        self._landed_bytes = 0
        self._sweeps = False
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing begins any more."""
        return self._closed

    def find(self, key: str, *, since: float) -> Flight | None:
        """The flight that brings this key, or has brought it since then."""
        flight = self._by_key.get(key)
        if flight is None or (flight.landed_at is not None and flight.landed_at < since):
            return None
        return flight

    def begin(self, flight: Flight, bring: Coroutine[Any, Any, Landing], *, shared: bool) -> None:
        """Begin a flight; a shared one is found by its keys from now on.

        After the end of all, it lands at once with nothing.
        """
        if self._closed:
            bring.close()
            self._land(flight)
            return
        self._may_be_found(flight, shared=shared)
        # One that needs a task after all.
        self._calls.discard(flight)
        task = asyncio.get_running_loop().create_task(self._fly(flight, bring))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._ended, flight, bring))

    def follow(self, flight: Flight, *, shared: bool) -> None:
        """A flight begins that needs no task: `land` will be told, and its `end` ends it sooner."""
        self._may_be_found(flight, shared=shared)
        self._calls.add(flight)

    def land(self, flight: Flight, brought: Landing | Exception) -> None:
        """A flight that needs no task is over."""
        self._calls.discard(flight)
        flight.brought = brought
        self._land(flight)
        if isinstance(brought, Exception):
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a flight failed", "exception": brought}
            )

    async def wait(self, flights: Collection[Flight], *, ends_at: float) -> None:
        """Until all have landed, or it is `ends_at`.

        By hand, because asyncio.wait costs several times what all else here does.
        """
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watch = Watch(flights, now=self._clock(), ends_at=ends_at, over=lambda: _resolve(over))
        try:
            await over
        finally:
            watch.leave()

    async def close(self) -> None:
        """End all that is under way, and begin nothing more."""
        self._closed = True
        while self._calls:
            flight = self._calls.pop()
            if flight.end is not None:
                flight.end()
            self._land(flight)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fly(self, flight: Flight, bring: Coroutine[Any, Any, Landing]) -> None:
        # Whoever waits is told before the task ends: after it would be a turn of the loop later.
        try:
            flight.brought = await bring
        except Exception as fault:
            flight.brought = fault
            raise
        finally:
            self._land(flight)

    def _ended(
        self, flight: Flight, bring: Coroutine[Any, Any, Landing], task: "asyncio.Task[None]"
    ) -> None:
        self._tasks.discard(task)
        if flight.landed_at is None:  # It was cancelled before it began.
            bring.close()
            self._land(flight)

    def _may_be_found(self, flight: Flight, *, shared: bool) -> None:
        flight.shared = shared
        if shared:
            for key in flight.keys:
                self._by_key[key] = flight

    def _land(self, flight: Flight) -> None:
        flight.landed_at = self._clock()
        # It would hold what has begun it, and be held.
        flight.end = None
        landing = flight.brought
        if isinstance(landing, Landing) and landing.failure is None:
            flight.whole = True
            flight.size_bytes = sum([len(it.vector) for it in landing.entries.values()])
        # First who waits; the rest is for who comes after.
        for watch in tuple(flight.waiting):
            watch.landed()
        if flight.whole and flight.shared and flight.size_bytes <= MAX_KEPT_BYTES:
            self._keep(flight)
        else:
            self._forget(flight)

    def _keep(self, flight: Flight) -> None:
        self._landed.append(flight)
        self._landed_bytes += flight.size_bytes
        while self._landed_bytes > MAX_KEPT_BYTES:
            self._forget_oldest()
        if not self._sweeps:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._sweeps = bool(self._landed)
        if self._sweeps:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Forget what landed long ago; one timer for all."""
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


def _resolve(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)
