"""Dispatch of a request's missing keys to one provider: each key once, a few batches at a time."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.engine import batch_calls, inflight, portions, provider_call
from embedding_sidecar.engine.caller import Caller

PARTS_AT_ONCE: Final = 4
"""Batches of one request in flight; more would exhaust a provider's rate limit sooner."""


def dispatch(by: Caller, request: portions.BatchRequest) -> inflight.Waiter | None:
    """Start calls for keys that have none; None while another request probes the provider."""
    wanted, others = _join(by.registry, request)
    name, known = request.candidate.provider.name, by.states.breaker
    probes = bool(wanted) and known.suspects(name)
    if probes and not known.probe(name):
        return None
    shared, span = not request.control.no_store, request.span
    ours = []
    for keys in batch_calls.split(by, request, wanted):
        trace = None if span is None else inflight.Trace(span)
        ours.append(inflight.InflightCall(name, keys, shared=shared, trace=trace))
    # It waits before they begin: no call is made without a waiting request.
    waiter = inflight.Waiter(ours, others, ends_at=request.ends_at)
    for inflight_call in ours:
        by.registry.follow(inflight_call)
    if probes or len(ours) > 1:
        at_once = 1 if probes or by.states.learned[name].is_slow else PARTS_AT_ONCE
        _Queue(by, request, deque(ours), at_once=at_once, probes=probes).go_on()
    elif ours and ours[0].brought is None:
        batch_calls.Batch(by, request, ours[0]).start()
    return waiter


def _join(
    registry: inflight.InflightCalls, request: portions.BatchRequest
) -> tuple[Sequence[str], list[inflight.InflightCall]]:
    """The keys that no call fetches yet, and the calls that fetch the others."""
    others: dict[inflight.InflightCall, None] = {}
    wanted = []
    for key in request.missing:
        inflight_call = None if request.alone else registry.find(key, since=request.since)
        if inflight_call is None:
            wanted.append(key)
        else:
            others[inflight_call] = None
    if request.span is not None:
        for joined in others:
            if joined.trace is not None:
                joined.trace.join(request.span)
    return wanted, list(others)


@dataclass(slots=True, eq=False)
class _Queue:
    """The batches of a request that have not begun; `probes`: the first one is the probe."""

    by: Caller
    request: portions.BatchRequest
    waiting: deque[inflight.InflightCall]
    at_once: int
    probes: bool
    under_way: int = 0
    stopped: errors.ProviderFailed | errors.Refused | None = None
    is_going_on: bool = False

    def go_on(self) -> None:
        """Start as many as may be in flight."""
        # A batch may end while it starts, and call this method again.
        if self.is_going_on:
            return
        self.is_going_on = True
        while self.waiting and self.under_way < self.at_once:
            inflight_call = self.waiting.popleft()
            if inflight_call.brought is not None:  # the process ends
                continue
            if self.stopped is not None:
                stopped = inflight.CallResult(failure=self.stopped)
                self.by.registry.complete(inflight_call, stopped)
                continue
            self.under_way += 1
            batch_calls.Batch(self.by, self.request, inflight_call, self._over).start()
        self.is_going_on = False

    def _over(self, result: inflight.CallResult | Exception) -> None:
        name, known = self.request.candidate.provider.name, self.by.states.breaker
        if self.probes:
            known.left(name)
            self.probes = False
        failure = result.failure if isinstance(result, inflight.CallResult) else None
        if (failure is not None and failure is not provider_call.FOR_NOBODY) and (
            not isinstance(failure, errors.Unreachable | errors.Declined) or known.suspects(name)
        ):
            # It concerns the other batches too: those not begun yet would only cost.
            self.stopped = failure
        self.under_way -= 1
        self.go_on()
