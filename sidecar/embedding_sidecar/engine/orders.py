"""Dispatch of what a request misses to one provider: each key once, a few batches at a time."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from embedding_sidecar import errors
from embedding_sidecar.engine import batch_calls, calls, flights, portions

PARTS_AT_ONCE: Final = 4
"""Batches of one request under way; more would use a provider's rate up sooner."""


class Placed(NamedTuple):
    """An order, and the flights that bring it: those begun for it, and those of others."""

    order: portions.Order
    ours: list[flights.Flight]
    others: list[flights.Flight]
    waiter: flights.Waiter


class Orders:
    """Places orders."""

    def __init__(self, *, caller: batch_calls.BatchCaller) -> None:
        self._caller = caller
        self._states = caller.states
        self._known = caller.states.breaker
        self._flying = caller.flying

    def place(self, order: portions.Order) -> Placed | None:
        """Begin what nobody brings yet; None where another request probes the provider just now."""
        wanted, others = self._join(order)
        name = order.choice.provider.name
        probes = bool(wanted) and self._known.suspects(name)
        if probes and not self._known.probe(name):
            return None
        shared, span = not order.control.no_store, order.span
        ours = [
            flights.Flight(
                provider=name,
                keys=keys,
                shared=shared,
                trace=None if span is None else flights.Trace(span),
            )
            for keys in self._caller.split(order, wanted)
        ]
        # It waits before they begin: no call is made that nobody waits for.
        waiter = flights.Waiter([*ours, *others])
        for flight in ours:
            self._flying.follow(flight)
        if probes or len(ours) > 1:
            at_once = 1 if probes or self._states.is_slow(name) else PARTS_AT_ONCE
            _Queue(self._caller, order, deque(ours), at_once=at_once, probes=probes).go_on()
        elif ours and ours[0].brought is None:
            self._caller.start(order, ours[0])
        return Placed(order, ours, others, waiter)

    def _join(self, order: portions.Order) -> tuple[Sequence[str], list[flights.Flight]]:
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
                if joined.trace is not None:
                    joined.trace.join(order.span)
        return wanted, list(others)


@dataclass(slots=True, eq=False)
class _Queue:
    """The batches of an order that have not begun; `probes`: the first one is the probe."""

    caller: batch_calls.BatchCaller
    order: portions.Order
    waiting: deque[flights.Flight]
    at_once: int
    probes: bool
    under_way: int = 0
    stopped: errors.ProviderFailed | errors.Refused | None = None
    is_going_on: bool = False

    def go_on(self) -> None:
        """Begin as many as may be under way."""
        # A batch may end as it begins, and come back here.
        if self.is_going_on:
            return
        self.is_going_on = True
        while self.waiting and self.under_way < self.at_once:
            flight = self.waiting.popleft()
            if flight.brought is not None:  # the process ends
                continue
            if self.stopped is not None:
                self.caller.flying.land(flight, flights.Landing(failure=self.stopped))
                continue
            self.under_way += 1
            self.caller.start(self.order, flight, partial(self._over, flight.provider))
        self.is_going_on = False

    def _over(self, name: str, landing: flights.Landing | Exception) -> None:
        known = self.caller.states.breaker
        if self.probes:
            known.left(name)
            self.probes = False
        failure = landing.failure if isinstance(landing, flights.Landing) else None
        if (failure is not None and failure is not calls.FOR_NOBODY) and (
            not isinstance(failure, errors.Unreachable | errors.Declined) or known.suspects(name)
        ):
            # It is about the other batches too: those not begun yet would only cost.
            self.stopped = failure
        self.under_way -= 1
        self.go_on()
