"""Ordering vectors of a provider: in parts that it takes, each text once, a few parts at a time."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from embedding_sidecar import errors, provider, tracing
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import (
    batches,
    breaker,
    calls,
    failover,
    flights,
    keyed_calls,
    portions,
    provider_states,
)
from embedding_sidecar.engine.learned_limits import Size
from embedding_sidecar.wire import cache_control

PARTS_AT_ONCE: Final = 4
"""Of one request; a provider's rate is used up sooner by more."""
_TIMEOUT: Final = "timeout"
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
    them. `alone`: nothing that others have asked for will do. `span`: the request's, where traced.
    `background`: its calls, however many, are made of what the quota leaves to background work.
    """

    choice: failover.Choice
    ask: provider.Ask
    missing: Mapping[str, Sequence[int]]
    control: cache_control.CacheControl
    since: float
    ends_at: float
    alone: bool
    span: tracing.RequestSpan | None = None
    background: bool = False


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


_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The parts of an order, where they are several or the first one tries whether all is well."""

    gate: asyncio.Semaphore
    probes: bool
    stopped: errors.ProviderFailed | errors.Refused | None = None


class Orders:
    """Places orders; what comes back is kept, whoever is still there to see it.

    Args:
        attempt_seconds: the longest that one call may take.
        wall_clock: Unix time in seconds, which entries are marked with.
    """

    def __init__(
        self,
        *,
        store: Store,
        caller: keyed_calls.KeyedCalls,
        states: provider_states.ProviderStates,
        flying: flights.Flights,
        observe: calls.Observer,
        attempt_seconds: float,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._caller = caller
        self._states = states
        self._known = states.breaker
        self._flying = flying
        self._observe = observe
        self._attempt_seconds = attempt_seconds
        self._clock = clock
        self._wall_clock = wall_clock

    def place(self, order: Order) -> Placed | None:
        """Begin what nobody brings yet; None where somebody else probes the provider just now."""
        wanted, others = self._join(order)
        name = order.choice.provider.name
        probes = bool(wanted) and self._known.suspects(name)
        if probes and not self._known.probe(name):
            return None
        parts = self._parts(order, wanted)
        batch = None
        if probes or len(parts) > 1:
            one_by_one = probes or self._states.is_slow(name)
            gate = asyncio.Semaphore(1 if one_by_one else PARTS_AT_ONCE)
            batch = _Batch(gate=gate, probes=probes)
        ours = []
        for keys in parts:
            flight = flights.Flight(provider=name, keys=keys)
            if order.span is not None:
                flight.trace = calls.Trace(order.span)
            ours.append(flight)
            if batch is not None:
                self._fly(flight, order, self._in_turn(flight, order, batch))
            elif len(keys) == 1 and not self._flying.is_closed and self._caller.is_one_call(name):
                self._call(flight, order)
            else:
                self._fly(flight, order, self._bring(flight, order, keys))
        return Placed(order, ours, others)

    def _join(self, order: Order) -> tuple[list[str], list[flights.Flight]]:
        """The keys that nobody brings yet, and the flights that bring the others."""
        others: dict[flights.Flight, None] = {}
        wanted = []
        for key in order.missing:
            flight = None if order.alone else self._flying.find(key, since=order.since)
            if flight is None:
                wanted.append(key)
            else:
                others[flight] = None
        if order.span is not None:
            for joined in others:
                joined.trace.join(order.span)
        return wanted, list(others)

    def _fly(
        self,
        flight: flights.Flight,
        order: Order,
        bring: Coroutine[Any, Any, flights.Landing],
    ) -> None:
        self._flying.begin(flight, bring, shared=not order.control.no_store)

    def _call(self, flight: flights.Flight, order: Order) -> None:
        """Bring it by one call, without a task where that can be."""
        keys = flight.keys
        # A flight that is called so has one key; most requests have no other item.
        part = order.ask if len(order.ask.items) == 1 else _part(order, keys)
        now = self._clock()
        attempt_seconds = order.choice.provider.call_seconds or self._attempt_seconds
        lands_by = min(now + attempt_seconds, order.ends_at)

        def done(came: provider.Vectors | Exception | None) -> None:
            if came is None:
                self._fly(flight, order, self._bring(flight, order, keys))
                return
            try:
                landing = self._landing(order, part, keys, came)
            except Exception as fault:  # noqa: BLE001 - it is for who waits
                self._flying.land(flight, fault)
                return
            self._flying.land(flight, landing)
            # Who waited has the answer by now, or will have it when this turn of the loop is over.
            try:
                self._keep(order, landing)
            except Exception as fault:  # noqa: BLE001 - it is no fault of the connection's
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "vectors could not be kept", "exception": fault}
                )

        self._flying.follow(flight, shared=not order.control.no_store)
        end = self._caller.begin(
            order.choice,
            part,
            within_seconds=lands_by - now,
            sent=flight.sent,
            is_wanted=lambda: bool(flight.waiting),
            done=done,
            trace=flight.trace,
            background=order.background,
        )
        if flight.landed_at is None:
            flight.end = end
        if flight.sent:
            # Else it waits for the quota, or for a task.
            flight.lands_by = lands_by

    def _parts(self, order: Order, keys: Sequence[str]) -> list[Sequence[str]]:
        if len(keys) <= 1:
            return [keys] if keys else []
        limits = portions.limits(order.choice.provider, self._states, now=self._clock())
        part = _part(order, keys)
        return [keys[it.start : it.stop] for it in batches.split(part, limits)]

    async def _in_turn(
        self, flight: flights.Flight, order: Order, batch: _Batch
    ) -> flights.Landing:
        async with batch.gate:
            try:
                if batch.stopped is not None:
                    return flights.Landing(failure=batch.stopped)
                parts: Sequence[Sequence[str]] = [flight.keys]
                if self._states.is_slow(flight.provider):
                    # A part before this one may have run out of time, and this may be as large.
                    parts = self._parts(order, flight.keys)
                landing = await self._in_parts(flight, order, parts, flights.Landing())
            finally:
                if batch.probes:
                    self._known.left(flight.provider)
                    batch.probes = False
            failure = landing.failure
            if (failure is not None and failure is not _FOR_NOBODY) and (
                not isinstance(failure, errors.Unreachable | errors.Declined)
                or self._known.suspects(flight.provider)
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
        attempt_seconds = order.choice.provider.call_seconds or self._attempt_seconds
        within = min(attempt_seconds, order.ends_at - self._clock())
        if within <= 0:
            return flights.Landing(failure=_TOO_LATE)
        part = _part(order, keys)
        came: provider.Vectors | Exception
        try:
            came = await self._caller.call(
                order.choice,
                part,
                within_seconds=within,
                sent=flight.sent,
                trace=flight.trace,
                background=order.background,
            )
        except (errors.ProviderFailed, errors.Refused) as failure:
            came = failure
        if isinstance(came, errors.Rejected):
            if len(keys) > 1 and portions.may_be_too_much(order.choice.provider, came):
                self._known.succeeded(order.choice.provider.name)
                return await self._halves(flight, order, keys, status=came.status)
            if len(keys) < len(flight.keys):
                came = portions.of_flight(came, at=flight.keys.index(keys[0]), count=len(keys))
        self._learn(order.choice.provider.name, part, came)
        landing = self._landing(order, part, keys, came)
        self._keep(order, landing)
        return landing

    def _landing(
        self,
        order: Order,
        part: provider.Ask,
        keys: Sequence[str],
        came: provider.Vectors | Exception,
    ) -> flights.Landing:
        """What a call has brought, or why it brought nothing, which is remembered.

        Raises what nobody thought of.
        """
        choice = order.choice
        name = choice.provider.name
        if isinstance(came, provider.Vectors):
            self._known.succeeded(name)
            return flights.Landing(
                self._entries(choice, part, keys, came),
                came.tokens or 0,
                is_estimated=came.is_estimated,
            )
        if isinstance(came, errors.WrongSize) and choice.provider.dimensions is None:
            # The caller chose the size, and the server has answered: it is no fault of either key
            # or connection, and buying it again would bring the same.
            self._known.succeeded(name)
            self._states.ignores_dimensions(name, came.numbers, now=self._clock())
            self._observe.error(type(came).__name__.lower(), failover.label(choice))
            return flights.Landing(failure=failover.ignores_dimensions(choice, came.numbers))
        if isinstance(came, errors.ProviderFailed):
            if self._known.word(name) != came.reason:
                _log.warning("provider %s gave no answer: %s", name, came.reason)
            # Not the keys: the same text has others in other sizes.
            texts = frozenset(map(hash, part.items))
            of_all = self._known.failed(name, came, now=self._clock(), texts=texts)
            if of_all is not came and failover.is_key_refused(of_all):
                self._states.refused[name] = self._clock() + breaker.OPEN_SECONDS
            self._observe.error(type(came).__name__.lower(), failover.label(choice))
        elif isinstance(came, errors.Rejected):
            self._known.succeeded(name)
            if len(keys) == 1 and portions.may_be_too_much(choice.provider, came):
                # Perhaps it is too long: then one of its size goes alone, and no batch is halved.
                self._states.learned(name).refused_alone(portions.size(part), now=self._clock())
        elif not isinstance(came, errors.Refused):
            raise came
        return flights.Landing(failure=came.as_value())

    def _keep(self, order: Order, landing: flights.Landing) -> None:
        if landing.entries and not order.control.no_store:
            self._store.put_many(landing.entries, ttl_seconds=order.control.ttl_seconds)

    async def _in_parts(
        self,
        call: flights.Flight,
        order: Order,
        parts: Sequence[Sequence[str]],
        came: flights.Landing,
    ) -> flights.Landing:
        """What has come, and these parts, one after the other until one fails."""
        for part in parts:
            more = await self._bring(call, order, part)
            came = flights.Landing(
                entries={**came.entries, **more.entries},
                tokens=came.tokens + more.tokens,
                failure=more.failure,
                is_estimated=came.is_estimated or more.is_estimated,
            )
            if more.failure is not None:
                break
        return came

    async def _halves(
        self, flight: flights.Flight, order: Order, keys: Sequence[str], *, status: int
    ) -> flights.Landing:
        """Both halves, one after the other; what that teaches of the provider's limits is kept."""
        half = (len(keys) + 1) // 2
        first = await self._bring(flight, order, keys[:half])
        if first.failure is not None:
            return first
        # By now something may have been learned: then the rest goes in parts that fit.
        parts = self._parts(order, keys[half:])
        landing = await self._in_parts(flight, order, parts, first)
        if landing.failure is None and len(parts) == 1:
            whole, *halves = (
                portions.size(_part(order, it)) for it in (keys, keys[:half], keys[half:])
            )
            self._states.learned(order.choice.provider.name).halved(
                whole, Size(*map(max, *halves)), status=status, now=self._clock()
            )
        return landing

    def _learn(self, name: str, part: provider.Ask, came: provider.Vectors | Exception) -> None:
        """What a call tells of how much the provider takes."""
        if isinstance(came, provider.Vectors):
            self._states.learned(name).passed(portions.size(part), now=self._clock())
        elif (
            len(part.items) > 1 and isinstance(came, errors.Unreachable) and came.reason == _TIMEOUT
        ):
            self._states.learned(name).timed_out(portions.size(part), now=self._clock())

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
        shares = batches.shares(vectors.tokens or 0, part)
        return {
            key: cache.Entry(
                model=model, space=space, vector=vector, tokens=tokens, made_at=made_at
            )
            for key, vector, tokens in zip(keys, vectors.vectors, shares, strict=True)
        }


def _part(order: Order, keys: Sequence[str]) -> provider.Ask:
    return portions.of(order.ask, order.missing, keys)
