"""Ordering vectors of a provider: in parts that it takes, each text once, a few parts at a time."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, Protocol

from embedding_sidecar import errors, provider, providers
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import api_keys, batches, breaker, calls, failover, flights
from embedding_sidecar.wire import cache_control

PARTS_AT_ONCE: Final = 4
"""Of one request; a provider's rate is used up sooner by more."""
_TOO_LARGE: Final = 413
_FOR_NOBODY: Final = errors.Unreachable("abandoned", billed=False)
_TOO_LATE: Final = errors.Unreachable("timeout", billed=False)


class Store(Protocol):
    """Where entries are kept; never fails."""

    def put_many(
        self, entries: Mapping[str, cache.Entry], *, ttl_seconds: int | None = None
    ) -> None:
        """Keep these entries, for at most so long."""
        ...


class Order(NamedTuple):
    """What a request still wants of a provider, until `ends_at`: keys, each with its items' places.

    `ask` is the whole request, in this provider's terms. `since`: when the cache was last asked for
    them. `alone`: nothing that others have asked for will do.
    """

    choice: failover.Choice
    ask: provider.Ask
    missing: Mapping[str, Sequence[int]]
    control: cache_control.CacheControl
    since: float
    ends_at: float
    alone: bool


class Placed(NamedTuple):
    """An order, and the flights that bring it: those begun for it, and those of others."""

    order: Order
    ours: list[flights.Flight]
    others: list[flights.Flight]

    @property
    def flights(self) -> list[flights.Flight]:
        """All of them."""
        return self.ours + self.others

    @property
    def whole(self) -> bool:
        """Whether they have brought all of it."""
        return all(it.whole for it in self.flights)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The parts of an order, where they are several or the first one tries whether all is well."""

    gate: asyncio.Semaphore
    probes: bool
    stopped: errors.ProviderFailed | errors.Refused | None = None


class Orders:
    """Places orders; what comes back is kept, whoever is still there to see it.

    Args:
        keys: API keys by the provider's name, absent where there is none.
        attempt_seconds: the longest that one call may take.
        wall_clock: Unix time in seconds, which entries are marked with.
    """

    def __init__(
        self,
        *,
        keys: Mapping[str, api_keys.ApiKey],
        store: Store,
        caller: calls.Caller,
        known: breaker.Breaker,
        flying: flights.Flights,
        observe: calls.Observer,
        attempt_seconds: float,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._store = store
        self._caller = caller
        self._known = known
        self._flying = flying
        self._observe = observe
        self._attempt_seconds = attempt_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._refused = {name: float("-inf") for name, key in keys.items() if key.refused}
        """Providers that refuse the key in force, and until when it is not tried again."""
        self._most_items: dict[str, int] = {}
        """By provider: what a 413 has taught."""

    def refused_keys(self) -> frozenset[str]:
        """Providers that refused the key in force when it was last tried."""
        return frozenset(self._refused)

    def place(self, order: Order) -> Placed | None:
        """Begin what nobody brings yet; None where somebody else probes the provider just now."""
        others: dict[flights.Flight, None] = {}
        wanted = []
        for key in order.missing:
            flight = None if order.alone else self._flying.find(key, since=order.since)
            if flight is None:
                wanted.append(key)
            else:
                others[flight] = None
        name = order.choice.provider.name
        probes = bool(wanted) and self._known.suspects(name)
        if probes and not self._known.probe(name):
            return None
        parts = self._parts(order, wanted)
        batch = None
        if probes or len(parts) > 1:
            gate = asyncio.Semaphore(1 if probes else PARTS_AT_ONCE)
            batch = _Batch(gate=gate, probes=probes)
        ours = []
        for keys in parts:
            flight = flights.Flight(provider=name, keys=keys)
            bring = (
                self._bring(flight, order, keys)
                if batch is None
                else self._in_turn(flight, order, batch)
            )
            self._flying.begin(flight, bring, shared=not order.control.no_store)
            ours.append(flight)
        return Placed(order, ours, list(others))

    def _parts(self, order: Order, keys: Sequence[str]) -> list[Sequence[str]]:
        if len(keys) <= 1:
            return [keys] if keys else []
        chosen = order.choice.provider
        limits = providers.PROVIDERS[chosen.kind].limits(chosen.model)
        if chosen.name in self._most_items:
            limits = replace(limits, items=min(limits.items, self._most_items[chosen.name]))
        return [keys[part.start : part.stop] for part in batches.split(_part(order, keys), limits)]

    async def _in_turn(
        self, flight: flights.Flight, order: Order, batch: _Batch
    ) -> flights.Landing:
        async with batch.gate:
            try:
                if batch.stopped is not None:
                    return flights.Landing(failure=batch.stopped)
                landing = await self._bring(flight, order, flight.keys)
            finally:
                if batch.probes:
                    self._known.left(flight.provider)
                    batch.probes = False
            failure = landing.failure
            if (failure is not None and failure is not _FOR_NOBODY) and (
                not isinstance(failure, errors.Unreachable) or self._known.suspects(flight.provider)
            ):
                # It is about the other parts too: those not begun yet would only cost.
                batch.stopped = failure
            return landing

    async def _bring(
        self, flight: flights.Flight, order: Order, keys: Sequence[str]
    ) -> flights.Landing:
        """These keys, by one call, or by more where the provider says that it is too much."""
        if not flight.waiting:
            return flights.Landing(failure=_FOR_NOBODY)
        within = min(self._attempt_seconds, order.ends_at - self._clock())
        if within <= 0:
            return flights.Landing(failure=_TOO_LATE)
        name = order.choice.provider.name
        part = _part(order, keys)
        try:
            vectors = await self._with_a_key(flight, order.choice, part, within)
        except (errors.ProviderFailed, errors.Refused) as raised:
            failure = raised.as_value()
        else:
            self._known.succeeded(name)
            entries = self._entries(order.choice, part, keys, vectors)
            if not order.control.no_store:
                self._store.put_many(entries, ttl_seconds=order.control.ttl_seconds)
            return flights.Landing(entries, vectors.tokens)
        if isinstance(failure, errors.ProviderFailed):
            self._known.failed(name, failure, now=self._clock())
            self._observe.error(type(failure).__name__.lower(), failover.label(order.choice))
        elif isinstance(failure, errors.Rejected):
            self._known.succeeded(name)
            if failure.status == _TOO_LARGE and len(keys) > 1:
                return await self._halves(flight, order, keys)
        return flights.Landing(failure=failure)

    async def _halves(
        self, flight: flights.Flight, order: Order, keys: Sequence[str]
    ) -> flights.Landing:
        half = (len(keys) + 1) // 2
        first = await self._bring(flight, order, keys[:half])
        if first.failure is not None:
            return first
        second = await self._bring(flight, order, keys[half:])
        if second.failure is None:
            name = order.choice.provider.name
            self._most_items[name] = min(half, self._most_items.get(name, half))
        return flights.Landing(
            entries={**first.entries, **second.entries},
            tokens=first.tokens + second.tokens,
            failure=second.failure,
        )

    async def _with_a_key(
        self,
        flight: flights.Flight,
        choice: failover.Choice,
        part: provider.Ask,
        within_seconds: float,
    ) -> provider.Vectors:
        """By the key in force; by the one before it where that is refused."""
        call = partial(
            self._caller.call, choice, part, within_seconds=within_seconds, sent=flight.sent
        )
        name = choice.provider.name
        key = self._keys.get(name)
        if key is None:
            return await call(api_key=None)
        now = self._clock()
        fallback = key.fallback(now=now)
        if fallback is not None and now < self._refused.get(name, now):
            return await call(api_key=fallback)
        try:
            vectors = await call(api_key=key.current)
        except errors.Misconfigured as failure:
            if failure.reason != errors.KEY_REFUSED:
                raise
            self._refused[name] = self._clock() + breaker.OPEN_SECONDS
            if fallback is None:
                raise
            self._observe.error("misconfigured", failover.label(choice))
            return await call(api_key=fallback)
        self._refused.pop(name, None)
        return vectors

    def _entries(
        self,
        choice: failover.Choice,
        part: provider.Ask,
        keys: Sequence[str],
        vectors: provider.Vectors,
    ) -> dict[str, cache.Entry]:
        made_at = self._wall_clock()
        # One for all entries, as of those that are read: memory counts on it.
        model, space = sys.intern(choice.provider.model), sys.intern(choice.space)
        shares = batches.shares(vectors.tokens, part)
        return {
            key: cache.Entry(
                model=model, space=space, vector=vector, tokens=tokens, made_at=made_at
            )
            for key, vector, tokens in zip(keys, vectors.vectors, shares, strict=True)
        }


def _part(order: Order, keys: Sequence[str]) -> provider.Ask:
    if len(keys) == len(order.ask.items):  # all of them, in order
        return order.ask
    return replace(order.ask, items=tuple(order.ask.items[order.missing[key][0]] for key in keys))
