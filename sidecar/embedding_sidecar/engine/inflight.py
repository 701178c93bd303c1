"""Calls to providers in flight: a key is fetched once, however many requests wait for it.

A call in flight goes on when the requests that wait for it go away: it is paid for, so its vectors
are kept. A call that no request waits for any more is not begun.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry
from embedding_sidecar.telemetry import tracing

KEPT_SECONDS: Final = 0.5
"""A completed call is found for this time by a request that asked the cache before it completed:
longer than a look-up in the cache takes."""
MAX_KEPT_BYTES: Final = 16 * 2**20
"""Bytes of vectors in the completed calls that are kept. Where more than that completes in
KEPT_SECONDS, the oldest are dropped sooner; a single call with more is not kept."""

_NO_ENTRIES: Final[Mapping[str, cache_entry.Entry]] = MappingProxyType({})

Span = tuple[float, float | None]
"""Start and end of a request that was sent to a provider; None: not ended yet."""


class CallResult(NamedTuple):
    """The result of a call: entries by key, their cost, and the failure if some are missing."""

    entries: Mapping[str, cache_entry.Entry] = _NO_ENTRIES
    tokens: int = 0
    failure: errors.ProviderFailed | errors.Refused | None = None
    is_estimated: bool = False
    """True if `tokens` is a bound because a provider did not state it."""


ENDED: Final = CallResult(failure=errors.Unreachable("cancelled", billed=True))
"""The result of a call that the end of the process cancels."""


@dataclass(slots=True, eq=False)
class Trace:
    """The traces of an in-flight call: that of the request that starts it, and those that join.

    `call` is the span of the provider call under way.
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


@dataclass(slots=True, eq=False)
class InflightCall:
    """Calls to one provider, one after the other, for some keys.

    `deadline` is the latest time at which it completes. `cancel` ends the call under way. `brought`
    is None until it completes, and an exception where a fault ended it. `completed_at` is the time
    when the cache had its entries. Only a `shared` call is found by its keys. `hindrance` is the
    failure of a call that waits for limits per minute, as of now. `beyond` names the observed
    limits that its requests exceeded.
    """

    provider: str
    keys: Sequence[str]
    _: KW_ONLY
    shared: bool = True
    trace: Trace | None = None
    deadline: float = math.inf
    cancel: Callable[[], object] | None = None
    sent: list[Span] = field(default_factory=list)
    waiting: "set[Waiter]" = field(default_factory=set)
    brought: CallResult | Exception | None = None
    completed_at: float = math.inf
    size_bytes: int = 0
    hindrance: Callable[[], errors.RateLimited] | None = None
    beyond: frozenset[str] = frozenset()
    waits: tuple[Span, ...] = ()
    """Times in which it waited for limits per minute."""

    def result(self) -> CallResult | None:
        """The result; None while it is in flight. Raises the fault that ended it."""
        if isinstance(self.brought, Exception):
            raise self.brought
        if self.brought is None and self.hindrance is not None:
            return CallResult(failure=self.hindrance())
        return self.brought

    @property
    def ends_at(self) -> float:
        """The time until which a request waits for it."""
        return max([waiter.ends_at for waiter in self.waiting], default=-math.inf)


class Waiter:
    """A request that waits for the calls that fetch its keys: its own, and those of others."""

    __slots__ = ("_calls", "_left", "_over", "ends_at", "others", "ours")

    def __init__(
        self,
        ours: Sequence[InflightCall] = (),
        others: Sequence[InflightCall] = (),
        *,
        ends_at: float,
    ) -> None:
        self.ours, self.others, self.ends_at = ours, others, ends_at
        self._left = 0
        self._over: asyncio.Future[None] | None = None
        self._calls = (*ours, *others)
        for inflight_call in self._calls:
            if inflight_call.brought is None:
                inflight_call.waiting.add(self)
                self._left += 1

    def completed(self) -> None:
        """One of the calls has completed."""
        self._left -= 1
        if not self._left:
            self._end()

    async def wait(self, *, clock: Callable[[], float]) -> None:
        """Wait until all calls have completed, or until `ends_at`; then wait for none of them.

        asyncio.wait would cost several times as much as the rest of the engine.
        """
        timer = None
        try:
            if self._left:
                loop = asyncio.get_running_loop()
                self._over = loop.create_future()
                ends_at = self.ends_at
                # A call that completes in time anyway needs no timer.
                for inflight_call in self._calls:
                    if inflight_call.deadline > ends_at:
                        timer = loop.call_later(ends_at - clock(), self._end)
                        break
                await self._over
        finally:
            if timer is not None:
                timer.cancel()
            for inflight_call in self._calls:
                inflight_call.waiting.discard(self)

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class InflightCalls:
    """All calls of a process, by the keys that they fetch."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_key: dict[str, InflightCall] = {}
        self._under_way: set[InflightCall] = set()
        self._completed: deque[InflightCall] = deque()
        self._completed_bytes = 0
        self._sweeps = False
        self._closed = False

    def find(self, key: str, *, since: float) -> InflightCall | None:
        """The call that fetches this key, or whose entry the cache did not have yet at `since`."""
        inflight_call = self._by_key.get(key)
        return inflight_call if inflight_call and inflight_call.completed_at >= since else None

    def follow(self, inflight_call: InflightCall) -> None:
        """Register a call, which `complete` must end. After `close` it completes at once."""
        if self._closed:
            self.complete(inflight_call, ENDED)
            return
        self._under_way.add(inflight_call)
        if inflight_call.shared:
            for key in inflight_call.keys:
                self._by_key[key] = inflight_call

    def complete(self, inflight_call: InflightCall, brought: CallResult | Exception) -> None:
        """End a call: wake the requests that wait for it.

        The caller then puts the entries into the cache, and calls `kept`.
        """
        self._under_way.discard(inflight_call)
        inflight_call.brought = brought
        # The callback refers to the call: a cycle.
        inflight_call.cancel = None
        for waiter in inflight_call.waiting:
            waiter.completed()
        if isinstance(brought, Exception):
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a call to a provider failed", "exception": brought}
            )
            self._forget(inflight_call)
        elif brought.failure is not None:
            self._forget(inflight_call)

    def kept(self, inflight_call: InflightCall) -> None:
        """The cache has the entries: only requests that asked it before find the call."""
        brought = inflight_call.brought
        if (
            not isinstance(brought, CallResult)
            or brought.failure is not None
            or not inflight_call.shared
        ):
            return
        inflight_call.completed_at = self._clock()
        size_bytes = 0
        for entry in brought.entries.values():
            size_bytes += len(entry.vector)
        if size_bytes > MAX_KEPT_BYTES:
            self._forget(inflight_call)
            return
        inflight_call.size_bytes = size_bytes
        self._completed.append(inflight_call)
        self._completed_bytes += size_bytes
        while self._completed_bytes > MAX_KEPT_BYTES:
            self._forget_oldest()
        if not self._sweeps:
            self._sweep()

    async def close(self) -> None:
        """Cancel all calls in flight, and begin no more."""
        self._closed = True
        while self._under_way:
            inflight_call = self._under_way.pop()
            if inflight_call.cancel is not None:
                inflight_call.cancel()
            self.complete(inflight_call, ENDED)

    def _sweep(self) -> None:
        """Forget the calls that completed long ago; one timer for all."""
        until = self._clock() - KEPT_SECONDS
        while self._completed and self._completed[0].completed_at <= until:
            self._forget_oldest()
        self._sweeps = bool(self._completed)
        if self._sweeps:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._sweep)

    def _forget_oldest(self) -> None:
        inflight_call = self._completed.popleft()
        self._completed_bytes -= inflight_call.size_bytes
        self._forget(inflight_call)

    def _forget(self, inflight_call: InflightCall) -> None:
        for key in inflight_call.keys:
            if self._by_key.get(key) is inflight_call:
                del self._by_key[key]
