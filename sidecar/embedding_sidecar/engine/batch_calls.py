"""The calls for one batch: one call, or several in turn where the provider refuses it as too much.

What comes back is kept, and what an answer tells of the provider is remembered, whether a request
still waits for it or not.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Final

from embedding_sidecar import errors, provider
from embedding_sidecar.caching import cache, layers
from embedding_sidecar.engine import (
    batches,
    breaker,
    calls,
    failover,
    flights,
    portions,
)
from embedding_sidecar.engine.learned_limits import Size

_TIMEOUT: Final = "timeout"

_log = logging.getLogger(__name__)

Over = Callable[[flights.Landing | Exception], None]
"""Is told what a batch comes to, just before the requests that wait for it."""


class BatchCaller:
    """Calls providers for batches.

    Args:
        attempt_seconds: the longest that one call may take.
        wall_clock: Unix time in seconds, which entries are marked with.
    """

    def __init__(
        self,
        *,
        store: layers.Layers,
        caller: calls.Caller,
        flying: flights.Flights,
        attempt_seconds: float,
        wall_clock: Callable[[], float],
    ) -> None:
        self.caller = caller
        self.states = caller.states
        self.flying = flying
        self.clock = caller.clock
        self._store = store
        self._observe = caller.observe
        self._attempt_seconds = attempt_seconds
        self._wall_clock = wall_clock

    def start(
        self, order: portions.Order, flight: flights.Flight, over: Over | None = None
    ) -> None:
        """Bring a flight, and land it."""
        _Batch(self, order, flight, over).start()

    def split(self, order: portions.Order, keys: Sequence[str]) -> list[Sequence[str]]:
        """The keys in batches that the provider takes at once."""
        if len(keys) <= 1:
            return [keys] if keys else []
        limits = portions.limits(order.choice.provider, self.states, now=self.clock())
        return [keys[it.start : it.stop] for it in batches.split(portions.of(order, keys), limits)]

    def until(self, order: portions.Order, *, now: float) -> float:
        """When a call that begins now has to be over."""
        attempt_seconds = order.choice.provider.call_seconds or self._attempt_seconds
        return min(now + attempt_seconds, order.ends_at)

    def read(
        self,
        order: portions.Order,
        part: provider.Ask,
        keys: Sequence[str],
        came: provider.Vectors | Exception,
    ) -> flights.Landing:
        """What a call has brought, or why it brought nothing, which is remembered.

        Raises `came` where that is a fault of the program.
        """
        choice, known = order.choice, self.states.breaker
        name = choice.provider.name
        if isinstance(came, provider.Vectors):
            known.succeeded(name)
            return flights.Landing(
                self._entries(choice, part, keys, came),
                came.tokens or 0,
                is_estimated=came.is_estimated,
            )
        if came is calls.FOR_NOBODY or came is calls.TOO_LATE:
            return flights.Landing(failure=came)
        if isinstance(came, errors.WrongSize) and choice.provider.dimensions is None:
            # The caller chose the size, and the server has answered: it is no fault of either key
            # or connection, and buying it again would bring the same.
            known.succeeded(name)
            self.states.ignores_dimensions(name, came.numbers, now=self.clock())
            self._observe.error(type(came).__name__.lower(), failover.label(choice))
            return flights.Landing(failure=failover.ignores_dimensions(choice, came.numbers))
        if isinstance(came, errors.ProviderFailed):
            self._failed(choice, part, came)
        elif isinstance(came, errors.Rejected):
            known.succeeded(name)
            if len(keys) == 1 and portions.may_be_too_much(choice.provider, came):
                # Perhaps it is too long: then one of its size goes alone, and no batch is halved.
                self.states.learned(name).refused_alone(portions.size(part), now=self.clock())
        elif not isinstance(came, errors.Refused):
            raise came
        return flights.Landing(failure=came.as_value())

    def keep_soon(
        self, order: portions.Order, flight: flights.Flight, landing: flights.Landing
    ) -> None:
        """Keep what a call brought, after the requests that it woke have gone on."""
        if landing.entries and not order.control.no_store:
            asyncio.get_running_loop().call_soon(self._keep, order, flight, landing)

    def _keep(
        self, order: portions.Order, flight: flights.Flight, landing: flights.Landing
    ) -> None:
        try:
            self._store.put_many(landing.entries, ttl_seconds=order.control.ttl_seconds)
        except Exception as fault:  # noqa: BLE001 - it is told without what could not be kept
            asyncio.get_running_loop().call_exception_handler(
                {"message": "vectors could not be kept", "exception": fault}
            )
        self.flying.kept(flight)

    def _failed(
        self, choice: failover.Choice, part: provider.Ask, failure: errors.ProviderFailed
    ) -> None:
        name, known = choice.provider.name, self.states.breaker
        if known.word(name) != failure.reason:
            _log.warning("provider %s gave no answer: %s", name, failure.reason)
        # Not the keys: the same text has others in other sizes.
        texts = frozenset(map(hash, part.items))
        of_all = known.failed(name, failure, now=self.clock(), texts=texts)
        if of_all is not failure and failover.is_key_refused(of_all):
            self.states.refused[name] = self.clock() + breaker.OPEN_SECONDS
        self._observe.error(type(failure).__name__.lower(), failover.label(choice))

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


@dataclass(slots=True, eq=False, repr=False)
class _Batch:
    """The calls for a flight; a failure ends them."""

    by: BatchCaller
    order: portions.Order
    flight: flights.Flight
    over: Over | None
    _: KW_ONLY
    brought: flights.Landing = flights.Landing()  # noqa: RUF009 - immutable
    next: list[Callable[[], None]] = field(default_factory=list)
    """The steps after the call under way, the last one first."""

    def start(self) -> None:
        """Begin the first call."""
        keys = self.flight.keys
        try:
            # A batch before this one may have run out of time, and this may be as large.
            if self.over is not None and self.by.states.is_slow(self.flight.provider):
                self.call_in_turn(self.by.split(self.order, keys))
            else:
                self.call(keys)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a request waits for it
            self._end(fault)

    def call_in_turn(self, parts: Sequence[Sequence[str]]) -> None:
        """Bring these parts, one after the other, and go on."""
        self.next.extend(partial(self.call, keys) for keys in reversed(parts))
        self._go_on()

    def call(self, keys: Sequence[str]) -> None:
        """Bring these keys by one call, or by more if the provider says that it is too much."""
        flight, now = self.flight, self.by.clock()
        until = self.by.until(self.order, now=now)
        if not flight.waiting or until <= now:
            failure = calls.TOO_LATE if flight.waiting else calls.FOR_NOBODY
            self._end(flights.Landing(failure=failure))
            return
        part = portions.of(self.order, keys)
        self.by.caller.start(
            self.order.choice,
            part,
            flight=flight,
            until=until,
            background=self.order.background,
            done=partial(self._came, part, keys),
        )
        if flight.sent and len(flight.keys) == 1:
            # No other call follows; one that waits for the quota may take longer.
            flight.lands_by = until

    def _came(
        self, part: provider.Ask, keys: Sequence[str], came: provider.Vectors | Exception
    ) -> None:
        landing = flights.Landing()
        try:
            if isinstance(came, errors.Rejected):
                chosen = self.order.choice.provider
                if len(keys) > 1 and portions.may_be_too_much(chosen, came):
                    self.by.states.breaker.succeeded(chosen.name)
                    self.next.append(partial(self._second_half, keys, came.status))
                    self.call(keys[: _half(keys)])
                    return
                if len(keys) < len(self.flight.keys):
                    at = self.flight.keys.index(keys[0])
                    came = portions.of_flight(came, at=at, count=len(keys))
            if self.over is not None or len(keys) > 1:
                self._learn(part, came)
            landing = self.by.read(self.order, part, keys, came)
            self._take(landing)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a request waits for it
            self._end(fault)
        self.by.keep_soon(self.order, self.flight, landing)

    def _take(self, landing: flights.Landing) -> None:
        """Add what a call brought, and go on."""
        before = self.brought
        self.brought = flights.Landing(
            entries={**before.entries, **landing.entries} if before.entries else landing.entries,
            tokens=before.tokens + landing.tokens,
            failure=landing.failure,
            is_estimated=before.is_estimated or landing.is_estimated,
        )
        if landing.failure is None:
            self._go_on()
        else:
            self._end(self.brought)

    def _go_on(self) -> None:
        if self.next:
            self.next.pop()()
        else:
            self._end(self.brought)

    def _end(self, landing: flights.Landing | Exception) -> None:
        if self.over is not None:
            self.over(landing)
        self.by.flying.land(self.flight, landing)

    def _second_half(self, keys: Sequence[str], status: int) -> None:
        """Bring the rest of a batch that was refused, once its first half has come."""
        # By now something may have been learned: then the rest goes in parts that fit.
        parts = self.by.split(self.order, keys[_half(keys) :])
        if len(parts) == 1:
            self.next.append(partial(self._halved, keys, status))
        self.call_in_turn(parts)

    def _halved(self, keys: Sequence[str], status: int) -> None:
        """Learn from a batch that was refused, both of whose halves have come."""
        half = _half(keys)
        whole, *halves = (
            portions.size(portions.of(self.order, it)) for it in (keys, keys[:half], keys[half:])
        )
        self.by.states.learned(self.flight.provider).halved(
            whole, Size(*map(max, *halves)), status=status, now=self.by.clock()
        )
        self._go_on()

    def _learn(self, part: provider.Ask, came: provider.Vectors | Exception) -> None:
        """Learn from a call how much the provider takes."""
        learned, now = self.by.states.learned(self.flight.provider), self.by.clock()
        if isinstance(came, provider.Vectors):
            learned.passed(portions.size(part), now=now)
        elif (
            len(part.items) > 1
            and isinstance(came, errors.Unreachable)
            and came.reason == _TIMEOUT
            and came is not calls.TOO_LATE
        ):
            learned.timed_out(portions.size(part), now=now)


def _half(keys: Sequence[str]) -> int:
    return (len(keys) + 1) // 2
