"""Answering a request for vectors: from the cache, else from the providers the policy allows."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from embedding_contract import document as contract
from embedding_sidecar import errors, provider, providers, tracing
from embedding_sidecar.caching import cache as caching
from embedding_sidecar.caching import layers
from embedding_sidecar.engine import (
    batch_calls,
    batches,
    calls,
    failover,
    flights,
    orders,
    portions,
    provider_states,
    retries,
)
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.work import Found, Work
from embedding_sidecar.wire import cache_control

_KEY_IS_MISSING: Final = errors.Misconfigured(errors.KEY_MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The longest, in seconds, that a call to a provider may take, and a request with all of it."""

    attempt_seconds: float = 30.0
    request_seconds: float = 50.0

    def of_request(self, chosen: contract.Provider) -> float:
        """A request for this provider's model, which is given the time of one call to it at least.

        That is so where the policy says the call's alone.
        """
        return chosen.request_seconds or max(self.request_seconds, chosen.call_seconds or 0.0)


class Service:
    """Answers under one policy document; a new document makes a new service.

    Args:
        document: its providers are of types in PROVIDERS.
        keys: API keys by the provider's name, absent where there is none.
        flying: what is in flight to providers; it outlives a document.
        states: what is known of providers; it outlives a document, which it follows.
        share: a random number of 0 to 1, for waits.
    """

    def __init__(
        self,
        *,
        document: contract.PolicyDocument,
        keys: Mapping[str, provider_states.ApiKey],
        cache: layers.Layers,
        quota: calls.Quota,
        upstream: provider.Upstream,
        observe: calls.Observer,
        flying: flights.Flights,
        states: provider_states.ProviderStates | None = None,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._document = document
        self._choices = failover.chooser(document)
        self._keys = keys
        self._cache = cache
        self._observe = observe
        self._timing = timing
        self._clock = clock
        self._share = share
        self._states = states or provider_states.ProviderStates()
        caller = calls.Caller(
            keys=keys,
            quota=quota,
            upstream=upstream,
            observe=observe,
            states=self._states,
            clock=clock,
        )
        self._orders = orders.Orders(
            caller=batch_calls.BatchCaller(
                store=cache,
                caller=caller,
                flying=flying,
                attempt_seconds=timing.attempt_seconds,
                wall_clock=wall_clock,
            )
        )

    async def embed(
        self,
        ask: provider.Ask,
        *,
        control: cache_control.CacheControl = cache_control.DEFAULT,
        found: Found | None = None,
        waited_seconds: float = 0.0,
        span: tracing.RequestSpan | None = None,
        background: bool = False,
    ) -> Answer:
        """The vectors of the items.

        The first choice's cache is asked first, whatever is known of that provider: what is there
        needs no provider and no quota. `found` is what it said, where it has just been asked. What
        the request has waited for before is of its time. Background work spends only what the quota
        does not reserve for applications.

        Raises:
            errors.Rejected: the request is at fault.
            errors.QuotaExhausted: the day is used up, and not all is in the cache.
            errors.Unavailable: nobody who may answer can.
        """
        choices = self._choices(ask.model, ask.dimensions, *failover.fields_of(ask))
        choice = choices[0]
        started_at = self._clock() - waited_seconds
        work = Work(ask, control=control, started_at=started_at, span=span, background=background)
        work.looked(choice, found or await self._look(work, choice))
        if work.missing(choice):
            try:
                choice = await self._fill_from_any(choices, work)
            except errors.Refused as refused:
                refused.attempts = work.attempts
                raise
        answer = work.answer(choice)
        if answer.tokens_saved:
            self._cache.saved(answer.tokens_saved, model=answer.model)
        return answer

    async def _fill_from_any(
        self, choices: Sequence[failover.Choice], work: Work
    ) -> failover.Choice:
        """Get what is missing; the first choice that completes it."""
        course = retries.Course(
            choices,
            known=self._states.breaker,
            ends_at=work.started_at + self._timing.of_request(choices[0].provider),
            share=self._share,
        )
        step = course.next(now=self._clock(), held=None)
        while step is not None:
            if isinstance(step, retries.Wait):
                await asyncio.sleep(step.seconds)
            elif await self._fill_from(step, work, course):
                if not course.is_first(step):
                    self._observe.failover(failover.label(step))
                    if work.span is not None:
                        work.span.failed_over(provider=failover.label(step))
                return step
            # Meanwhile other requests may have brought what is missing.
            work.keys.clear()
            step = course.next(now=self._clock(), held=work.held)
        raise failover.verdict(course.failures(), policy=self._document)

    async def _fill_from(self, choice: failover.Choice, work: Work, course: retries.Course) -> bool:
        """Get what is missing from this provider, as far as it gives it; whether nothing is then.

        Raises:
            errors.Refused: it is decided: the request is at fault, or the quota is used up.
        """
        now = self._clock()
        ends_at = now + course.patience(choice, now=now)
        failure: errors.ProviderFailed | errors.Refused | None
        while True:
            # The cache is asked once for each provider and wait.
            if choice.provider.name not in work.keys:
                work.looked(choice, await self._look(work, choice))
            missing = work.missing(choice)
            if not missing:
                return True
            failure = self._hindrance(work, choice, missing)
            if failure is None:
                placed = self._place(work, choice, missing, ends_at=ends_at)
                if placed is None:
                    return False
                await placed.waiter.wait(now=self._clock(), ends_at=ends_at)
                failure = work.landed(placed, now=self._clock())
            if failure is not None:
                self._give_up(choice, failure, course)
                return False
            if not work.missing(choice):
                return True
            # A call of other requests failed, in a way that is theirs. What is there by now?
            work.keys.clear()

    def _give_up(
        self,
        choice: failover.Choice,
        failure: errors.ProviderFailed | errors.Refused,
        course: retries.Course,
    ) -> None:
        """Note that a choice failed, or raise what decides the request."""
        if failure is _KEY_IS_MISSING:
            self._observe.error("misconfigured", failover.label(choice))
        # Only the provider the caller meant may say that the caller is at fault.
        if isinstance(failure, errors.ProviderFailed) or (
            isinstance(failure, errors.Rejected) and not course.is_first(choice)
        ):
            course.failed(choice, failure, now=self._clock())
        else:
            raise failure

    async def _look(self, work: Work, choice: failover.Choice) -> Found:
        """What the cache has of what is missing."""
        looked_at = self._clock()
        keys = self._cache.keys(failover.terms(choice, work.ask), space=choice.space)
        entries: list[caching.Entry | None] = [None] * len(keys)
        missing = {} if work.is_alone(choice.space) else work.missing_of(keys, choice.space)
        if missing:
            found = await self._cache.get_many(
                list(missing), max_age_seconds=work.control.max_age_seconds
            )
            for indexes, entry in zip(missing.values(), found, strict=True):
                for index in indexes:
                    entries[index] = entry
        return Found(keys, entries, looked_at)

    def _hindrance(
        self, work: Work, choice: failover.Choice, missing: Mapping[str, Sequence[int]]
    ) -> errors.ProviderFailed | errors.Rejected | None:
        """Why this provider need not be asked."""
        chosen = choice.provider
        if self._key_is_missing(chosen):
            return _KEY_IS_MISSING
        if choice.dimensions is not None and chosen.dimensions is None:
            numbers = self._states.own_size(chosen.name, now=self._clock())
            if numbers is not None and numbers != choice.dimensions:
                return failover.ignores_dimensions(choice, numbers)
        most_tokens = chosen.limits.tokens_per_item
        if most_tokens is not None and work.ask.truncation is not True:
            for places in missing.values():
                if batches.is_longer(work.ask.items[places[0]], tokens=most_tokens):
                    return failover.too_long(choice, places[0], most_tokens)
        items = [work.ask.items[places[0]] for places in missing.values()]
        return providers.PROVIDERS[chosen.kind].obstacle(items)

    def _place(
        self,
        work: Work,
        choice: failover.Choice,
        missing: Mapping[str, Sequence[int]],
        *,
        ends_at: float,
    ) -> orders.Placed | None:
        return self._orders.place(
            portions.Order(
                choice=choice,
                ask=failover.terms(choice, work.ask),
                missing=missing,
                control=work.control,
                since=work.looked_at,
                ends_at=ends_at,
                alone=work.is_alone(choice.space),
                span=work.span,
                background=work.background,
            )
        )

    def _key_is_missing(self, it: contract.Provider) -> bool:
        return it.api_key_file is not None and it.name not in self._keys

    def health(self) -> dict[str, str]:
        """Each provider's state in one word: `ok`, `failing`, `key_missing` or `key_refused`.

        Where the key in force is refused, the one before it may still serve.
        """
        now = self._clock()
        refused = self.refused_keys()
        return {
            it.name: errors.KEY_MISSING
            if self._key_is_missing(it)
            else errors.KEY_REFUSED
            if it.name in refused
            else "failing"
            if self._states.breaker.rest(it.name, now=now) is not None
            else "ok"
            for it in self._document.providers
        }

    def failures(self) -> dict[str, str]:
        """Of each provider that has not answered since it failed: why, in a word."""
        return self._states.breaker.words()

    def refused_keys(self) -> frozenset[str]:
        """Names of the providers that refused the key in force when it was last tried."""
        return frozenset(self._states.refused)
