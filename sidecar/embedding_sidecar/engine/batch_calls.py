"""The calls for one batch: one, or several in turn where the provider refuses it as too large.

The vectors are kept, and the state of the provider is updated by each answer, even if no request
waits for it any more.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.cache import cache_entry
from embedding_sidecar.engine import batches, breaker, failover, inflight, portions, provider_call
from embedding_sidecar.engine.caller import Caller
from embedding_sidecar.engine.learned_limits import Learned, Size
from embedding_sidecar.translation import provider_api, vector_decoder

_TIMEOUT: Final = "timeout"

_log = logging.getLogger(__name__)


def split(by: Caller, request: portions.BatchRequest, keys: Sequence[str]) -> list[Sequence[str]]:
    """The keys in batches that the provider takes at once."""
    if len(keys) <= 1:
        return [keys] if keys else []
    chosen = request.candidate.provider
    limits = portions.limits(chosen, by.states, now=by.clock())
    rate = request.rate
    most = None if rate is None else rate.tokens(background=request.background)
    if most is not None:
        limits = replace(limits, tokens=min(most, limits.tokens or most))
    return [keys[it.start : it.stop] for it in batches.split(portions.of(request, keys), limits)]


@dataclass(slots=True, eq=False, repr=False)
class Batch:
    """The provider calls that complete one in-flight call; a failure ends them.

    `over` receives the result just before the requests that wait for it.
    """

    by: Caller
    request: portions.BatchRequest
    inflight_call: inflight.InflightCall
    over: Callable[[inflight.CallResult | Exception], None] | None = None
    _: KW_ONLY
    entries: dict[str, cache_entry.Entry] = field(default_factory=dict)
    tokens: int = 0
    is_estimated: bool = False
    next: list[Callable[[], None]] = field(default_factory=list)
    """The steps after the call under way, the last one first."""

    def start(self) -> None:
        """Begin the first call."""
        keys = self.inflight_call.keys
        try:
            # A batch before this one may have run out of time, and this may be as large.
            if self.over is not None and self._learned.is_slow:
                self._call_in_sequence(split(self.by, self.request, keys))
            else:
                self._call(keys)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a request waits for it
            self._end(fault)

    @property
    def _learned(self) -> Learned:
        return self.by.states.learned[self.inflight_call.provider]

    def _call_in_sequence(self, parts: Sequence[Sequence[str]]) -> None:
        """Fetch these parts, one after the other, then run the next step."""
        self.next.extend(partial(self._call, keys) for keys in reversed(parts))
        self._go_on()

    def _call(self, keys: Sequence[str]) -> None:
        """Fetch these keys by one call, or by several if the provider refuses it as too large."""
        by, inflight_call, request = self.by, self.inflight_call, self.request
        now, chosen = by.clock(), request.candidate.provider
        attempt_seconds = chosen.call_seconds or by.attempt_seconds
        rate = request.rate
        if self.over is not None and rate is None:
            # Earlier batches of the request may have learned of one.
            rate = by.rate_of(chosen.name)
        until = min(now + attempt_seconds, request.time.ends_at)
        if not inflight_call.waiting or until <= now:
            self._end(provider_call.TOO_LATE if inflight_call.waiting else provider_call.FOR_NOBODY)
            return
        part = portions.of(request, keys)
        provider_call.Call(
            by,
            request.candidate,
            part,
            inflight_call,
            until=until,
            background=request.background,
            rate=rate,
            waits_until=request.time.waits_until,
            done=partial(self._came, part, keys),
        ).start(now=now)
        is_renewable = chosen.name in by.tokens
        if inflight_call.sent and len(inflight_call.keys) == 1 and not is_renewable:
            # No other call follows; one that waits for the quota, or a token, may take longer.
            inflight_call.deadline = until

    def _came(
        self, part: provider_api.Ask, keys: Sequence[str], came: vector_decoder.Vectors | Exception
    ) -> None:
        try:
            self._take(part, keys, came)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a request waits for it
            self._end(fault)

    def _take(
        self, part: provider_api.Ask, keys: Sequence[str], came: vector_decoder.Vectors | Exception
    ) -> None:
        """Add the vectors of a call and run the next step, or end with the failure."""
        chosen, known = self.request.candidate.provider, self.by.states.breaker
        of_call = self.inflight_call.keys
        if isinstance(came, errors.Rejected):
            if len(keys) > 1 and portions.may_be_too_much(chosen, came):
                known.succeeded(chosen.name)
                self.next.append(partial(self._second_half, keys, came.status))
                self._call(keys[: _half(keys)])
                return
            if len(keys) < len(of_call):
                came = portions.of_call(came, at=of_call.index(keys[0]), count=len(keys))
        if len(of_call) > 1 or self.over is not None:
            self._learn(part, came)
        if isinstance(came, Exception):
            self._end(self._failure(part, came))
            return
        known.succeeded(chosen.name)
        made = self._entries(part, keys, came)
        self.entries |= made
        self.tokens += came.tokens or 0
        if came.is_estimated:
            self.is_estimated = True
        try:
            self._go_on()
        finally:
            if not self.request.control.no_store:
                # Only after the requests that it woke have continued.
                asyncio.get_running_loop().call_soon(self._keep, made)

    def _failure(self, part: provider_api.Ask, came: Exception) -> Exception:
        """The failure of a call, which is recorded in the provider's state."""
        candidate, states = self.request.candidate, self.by.states
        name, now = candidate.provider.name, self.by.clock()
        if came is provider_call.FOR_NOBODY or came is provider_call.TOO_LATE:
            return came
        if failover.is_own_rate(came) or isinstance(came, errors.NotGranted):
            # It was not asked, so nothing is known of it.
            return came.as_value()
        if isinstance(came, errors.WrongSize) and candidate.provider.dimensions is None:
            # The caller chose the size, and the server has answered: neither key nor connection is
            # at fault, and another call would be billed for the same result.
            states.breaker.succeeded(name)
            states.ignores_dimensions(name, came.numbers, now=now)
            self.by.observe.error(came.kind, candidate.label)
            return failover.ignores_dimensions(candidate, came.numbers)
        if isinstance(came, errors.ProviderFailed):
            self._failed(part, came)
        elif isinstance(came, errors.Rejected):
            states.breaker.succeeded(name)
            if len(part.items) == 1 and portions.may_be_too_much(candidate.provider, came):
                # It may be too long: items of its size then go alone, and no batch is halved.
                self._learned.refused_alone(portions.size(part), now=now)
        return came.as_value() if isinstance(came, errors.SidecarError) else came

    def _failed(self, part: provider_api.Ask, failure: errors.ProviderFailed) -> None:
        candidate, states = self.request.candidate, self.by.states
        name, known = candidate.provider.name, states.breaker
        if known.word(name) != failure.reason:
            _log.warning("provider %s gave no answer: %s", name, failure.reason)
        # Texts, not cache keys: one text has another key for each size.
        texts = frozenset(map(hash, part.items))
        of_all = known.failed(name, failure, now=self.by.clock(), texts=texts)
        if of_all is not failure and failover.is_key_refused(of_all):
            states.refused[name] = self.by.clock() + breaker.OPEN_SECONDS
        self.by.observe.error(failure.kind, candidate.label)

    def _entries(
        self, part: provider_api.Ask, keys: Sequence[str], vectors: vector_decoder.Vectors
    ) -> dict[str, cache_entry.Entry]:
        made_at, candidate = self.by.wall_clock(), self.request.candidate
        # All entries share these, as those from Redis do: the size of the cache counts on it.
        model, space = sys.intern(candidate.provider.model), sys.intern(candidate.space)
        shares = batches.shares(vectors.tokens or 0, part)
        made = {}
        for key, vector, tokens in zip(keys, vectors.vectors, shares, strict=True):
            made[key] = cache_entry.Entry(model, space, vector, tokens, made_at)
        return made

    def _keep(self, made: Mapping[str, cache_entry.Entry]) -> None:
        try:
            self.by.cache.put_many(made, ttl_seconds=self.request.control.ttl_seconds)
        except Exception as fault:  # noqa: BLE001 - reported; the call ends all the same
            asyncio.get_running_loop().call_exception_handler(
                {"message": "vectors could not be kept", "exception": fault}
            )
        self.by.registry.kept(self.inflight_call)

    def _go_on(self) -> None:
        if self.next:
            self.next.pop()()
        else:
            self._end(None)

    def _end(self, failure: Exception | None) -> None:
        """Report the vectors so far and the failure, or a fault of the program alone."""
        # A step that remains refers to the batch, and the batch to the step: a cycle.
        self.next.clear()
        result: inflight.CallResult | Exception
        if failure is None or isinstance(failure, errors.ProviderFailed | errors.Refused):
            result = inflight.CallResult(self.entries, self.tokens, failure, self.is_estimated)
        else:
            result = failure
        if self.over is not None:
            self.over(result)
        self.by.registry.complete(self.inflight_call, result)

    def _second_half(self, keys: Sequence[str], status: int) -> None:
        """Fetch the rest of a batch that was refused, after its first half."""
        # A limit may have been learned by now: then the rest is split into parts that fit.
        parts = split(self.by, self.request, keys[_half(keys) :])
        if len(parts) == 1:
            self.next.append(partial(self._halved, keys, status))
        self._call_in_sequence(parts)

    def _halved(self, keys: Sequence[str], status: int) -> None:
        """Learn from a batch that was refused, after both its halves were answered."""
        half = _half(keys)
        whole, *halves = (
            portions.size(portions.of(self.request, it)) for it in (keys, keys[:half], keys[half:])
        )
        size = Size(*map(max, *halves))
        self._learned.halved(whole, size, status=status, now=self.by.clock())
        self._go_on()

    def _learn(self, part: provider_api.Ask, came: vector_decoder.Vectors | Exception) -> None:
        """Learn from a call how much the provider takes."""
        learned, now = self._learned, self.by.clock()
        if isinstance(came, vector_decoder.Vectors):
            learned.passed(portions.size(part), now=now)
        elif (
            len(part.items) > 1
            and isinstance(came, errors.Unreachable)
            and came.reason == _TIMEOUT
            and came is not provider_call.TOO_LATE
        ):
            learned.timed_out(portions.size(part), now=now)


def _half(keys: Sequence[str]) -> int:
    return (len(keys) + 1) // 2
