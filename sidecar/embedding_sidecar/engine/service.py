"""Answering a request for vectors: from the cache, else from the providers the policy allows."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from embedding_contract import document as contract
from embedding_sidecar import errors, providers
from embedding_sidecar.engine import (
    batches,
    dispatch,
    failover,
    portions,
    retry_schedule,
)
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.caller import ATTEMPT_SECONDS, Caller
from embedding_sidecar.engine.request_state import Found, RequestState
from embedding_sidecar.openai_format import cache_control
from embedding_sidecar.rate.rates import ProviderRate
from embedding_sidecar.telemetry import tracing
from embedding_sidecar.translation import provider_api

_KEY_IS_MISSING: Final = errors.ConfigurationError(errors.KEY_MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time-outs in seconds: of a call to a provider, and of a request with all its calls."""

    attempt_seconds: float = ATTEMPT_SECONDS
    request_seconds: float = 50.0

    def of_request(self, chosen: contract.Provider) -> float:
        """The time-out of a request for this provider's model.

        Where the policy states that of a call alone, a request has the time of one call at least.
        """
        return chosen.request_seconds or max(self.request_seconds, chosen.call_seconds or 0.0)


class Service:
    """Answers under one policy document; a new document makes a new service.

    The document's providers are of types in PROVIDERS. `share` is a random number of 0 to 1, for
    waits and weights.
    """

    def __init__(
        self,
        *,
        document: contract.PolicyDocument,
        caller: Caller,
        timing: Timing = Timing(),
        share: Callable[[], float] = random.random,
    ) -> None:
        self._document = document
        self._candidates = failover.chooser(document)
        self._caller = caller
        self._cache = caller.cache
        self._clock = caller.clock
        self._timing = timing
        self._share = share

    async def embed(
        self,
        ask: provider_api.Ask,
        *,
        control: cache_control.CacheControl = cache_control.DEFAULT,
        found: Found | None = None,
        waited_seconds: float = 0.0,
        span: tracing.RequestSpan | None = None,
        background: bool = False,
    ) -> Answer:
        """The vectors of the items.

        The first candidate's cache is asked first, even if that provider is failing: cached entries
        need no provider and no quota. `found` is its answer, where it has just been asked. The
        `waited_seconds` are a part of the request's time. Background work spends only the part of
        the quota that is not reserved for applications.

        Raises:
            errors.Rejected: the request is at fault.
            errors.QuotaExhausted: the day is used up, and not all is in the cache.
            errors.Unavailable: no provider that may answer can.
        """
        candidates = self._candidates(ask.model, ask.dimensions, ask.extra)
        candidate = candidates[0]
        started_at = self._clock() - waited_seconds
        state = RequestState(ask, control, started_at=started_at, span=span, background=background)
        state.looked(candidate, found or await self._look(state, candidate))
        if not state.is_complete(candidate):
            by_weight = failover.drawn(
                candidates, self._share, goes_on=self._document.failover.enabled
            )
            if by_weight is not candidates and failover.equal_terms(by_weight[0], candidate):
                state.keys[by_weight[0].provider.name] = state.keys[candidate.provider.name]
            try:
                candidate = await self._fill_from_any(by_weight, state)
            except errors.Refused as refused:
                refused.attempts = state.attempts
                raise
        answer = state.answer(candidate)
        if answer.tokens_saved:
            self._cache.saved(answer.tokens_saved, model=answer.model)
        return answer

    async def _fill_from_any(
        self, candidates: Sequence[failover.Candidate], state: RequestState
    ) -> failover.Candidate:
        """Fetch the missing entries; the first candidate that completes them."""
        schedule = retry_schedule.RetrySchedule(
            candidates,
            known=self._caller.states.breaker,
            ends_at=state.started_at + self._timing.of_request(candidates[0].provider),
            share=self._share,
        )
        now = self._clock()
        step = schedule.next(now=now, held=None)
        while step is not None:
            if isinstance(step, retry_schedule.Wait):
                await asyncio.sleep(step.seconds)
            elif await self._fill_from(step, state, schedule, now=now):
                if not schedule.is_first(step):
                    self._caller.observe.failover(step.label)
                    if state.span is not None:
                        state.span.failed_over(provider=step.label)
                return step
            # Other requests may have fetched the missing entries meanwhile.
            state.keys.clear()
            now = self._clock()
            step = schedule.next(now=now, held=state.held)
        raise failover.final_error(schedule.failures(), policy=self._document)

    async def _fill_from(
        self,
        candidate: failover.Candidate,
        state: RequestState,
        schedule: retry_schedule.RetrySchedule,
        *,
        now: float,
    ) -> bool:
        """Fetch the missing entries from this provider; True if none is missing then.

        Raises:
            errors.Refused: the request is at fault, or the quota is used up.
        """
        time = schedule.time(candidate, now=now)
        rate = self._caller.rate_of(candidate.provider.name)
        failure: errors.ProviderFailed | errors.Refused | None
        while True:
            # The cache is asked once for each provider and wait.
            if candidate.provider.name not in state.keys:
                state.looked(candidate, await self._look(state, candidate))
            missing = state.missing(candidate)
            if not missing:
                return True
            failure = self._hindrance(state, candidate, missing, rate)
            if failure is None and self._caller.tokens:
                failure = await self._without_token(candidate, ends_at=time.ends_at)
            if failure is None:
                request = portions.BatchRequest(
                    candidate,
                    failover.terms(candidate, state.ask),
                    missing=missing,
                    control=state.control,
                    since=state.looked_at,
                    time=time,
                    alone=state.is_alone(candidate.space),
                    span=state.span,
                    background=state.background,
                    rate=rate,
                )
                waiter = dispatch.dispatch(self._caller, request)
                if waiter is None:
                    return False
                await waiter.wait(clock=self._clock)
                failure = state.completed(request, waiter, clock=self._clock)
            if failure is not None:
                self._give_up(candidate, failure, schedule)
                return False
            if state.is_complete(candidate):
                return True
            # A call of other requests failed, for a reason of their own: the cache is asked again.
            state.keys.clear()

    def _give_up(
        self,
        candidate: failover.Candidate,
        failure: errors.ProviderFailed | errors.Refused,
        schedule: retry_schedule.RetrySchedule,
    ) -> None:
        """Record that a candidate failed, or raise a failure that decides the request."""
        if failure is _KEY_IS_MISSING:
            self._caller.observe.error("misconfigured", candidate.label)
        # Only the provider the caller meant may say that the caller is at fault.
        if isinstance(failure, errors.ProviderFailed) or (
            isinstance(failure, errors.Rejected) and not schedule.is_first(candidate)
        ):
            schedule.failed(candidate, failure, now=self._clock())
        else:
            raise failure

    async def _look(self, state: RequestState, candidate: failover.Candidate) -> Found:
        """The cache's entries for the missing items."""
        looked_at = self._clock()
        keys = self._cache.keys(failover.terms(candidate, state.ask), space=candidate.space)
        state.keys[candidate.provider.name] = keys
        wanted = state.missing(candidate)
        if state.is_alone(candidate.space) or not wanted:
            return Found(keys, [None] * len(keys), looked_at)
        entries = await self._cache.get_many(
            list(wanted), max_age_seconds=state.control.max_age_seconds
        )
        found = dict(zip(wanted, entries, strict=True))
        return Found(keys, [found.get(key) for key in keys], looked_at)

    def _hindrance(
        self,
        state: RequestState,
        candidate: failover.Candidate,
        missing: Mapping[str, Sequence[int]],
        rate: ProviderRate | None,
    ) -> errors.ProviderFailed | errors.Rejected | None:
        """The failure that is known without a call to this provider; None without one."""
        chosen = candidate.provider
        if self._key_is_missing(chosen):
            return _KEY_IS_MISSING
        if candidate.dimensions is not None and chosen.dimensions is None:
            numbers = self._caller.states.own_size(chosen.name, clock=self._clock)
            if numbers is not None and numbers != candidate.dimensions:
                return failover.ignores_dimensions(candidate, numbers)
        most_tokens = chosen.limits.tokens_per_item
        if most_tokens is not None and state.ask.truncation is not True:
            for places in missing.values():
                if batches.is_longer(state.ask.items[places[0]], tokens=most_tokens):
                    return failover.too_long(candidate, places[0], most_tokens)
        most = None if rate is None else rate.tokens(background=state.background)
        if most is not None:
            bounds = batches.most_tokens(state.ask)
            for places in missing.values():
                if bounds[places[0]] > most:
                    return failover.over_rate(candidate, places[0], most)
        items = (state.ask.items[places[0]] for places in missing.values())
        return providers.PROVIDERS[chosen.kind].obstacle(items)

    async def _without_token(
        self, candidate: failover.Candidate, *, ends_at: float
    ) -> errors.ProviderFailed | None:
        """The reason why an identity has no access token for this provider; None where it has."""
        source = self._caller.tokens.get(candidate.provider.name)
        if source is None:
            return None
        failure = await source.obstacle(within_seconds=ends_at - self._clock())
        if failure is not None:
            self._caller.observe.error(failure.kind, candidate.label)
        return failure

    def _key_is_missing(self, it: contract.Provider) -> bool:
        return it.api_key_file is not None and it.name not in self._caller.keys

    def health(self) -> dict[str, str]:
        """Each provider's state in one word: `ok`, `failing`, `key_missing` or `key_refused`.

        Where the key in force is refused, the one before it may still serve. A provider whose
        identity has no access token has the reason for that.
        """
        now = self._clock()
        refused = self.refused_keys()
        tokens = self._caller.tokens.items()
        tokenless = {
            name: it.problem.reason
            for name, it in tokens
            if it.token is None and it.problem is not None
        }
        return {
            it.name: errors.KEY_MISSING
            if self._key_is_missing(it)
            else errors.KEY_REFUSED
            if it.name in refused
            else tokenless[it.name]
            if it.name in tokenless
            else "failing"
            if self._caller.states.breaker.cool_down(it.name, now=now) is not None
            else "ok"
            for it in self._document.providers
        }

    def failures(self) -> dict[str, str]:
        """The reason, in a word, of each provider that has not answered since it failed.

        A renewal of an access token that failed comes first, also while the old token is valid.
        """
        tokens = self._caller.tokens.items()
        words = {name: word for name, it in tokens if (word := it.word) is not None}
        return {**self._caller.states.breaker.words(), **words}

    def refused_keys(self) -> frozenset[str]:
        """Names of the providers that refused the key in force when it was last tried."""
        return frozenset(self._caller.states.refused)
