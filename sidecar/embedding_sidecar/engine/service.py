"""Answering a request for vectors: from the cache, else from the providers the policy allows."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from embedding_contract import document as contract
from embedding_sidecar import errors, provider, providers, vectors
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import api_keys, breaker, calls, failover, flights, orders, retries
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.work import Found, Work, worst
from embedding_sidecar.wire import cache_control

_UNKNOWN: Final = flights.Landing(failure=errors.Unreachable("timeout", billed=True))
"""What is known of a flight that is still under way when its time is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The longest, in seconds, that a call to a provider may take, and a request with all of it."""

    attempt_seconds: float = 30.0
    request_seconds: float = 50.0


class Cache(orders.Store, Protocol):
    """Entries by key; never fails."""

    def keys(self, ask: provider.Ask, *, space: str) -> list[str]:
        """The keys of the items of a request in a provider's terms, in order."""
        ...

    async def get_many(
        self, keys: Sequence[str], *, max_age_seconds: int | None = None
    ) -> list[cache.Entry | None]:
        """The entries of these keys, in order; older ones than `max_age_seconds` stay unseen."""
        ...

    def saved(self, tokens: int, *, model: str) -> None:
        """An answer of this model needed so many tokens less than without the cache."""
        ...


class Service:
    """Answers under one policy document; a new document makes a new service.

    Args:
        document: its providers are of types in PROVIDERS.
        keys: API keys by the provider's name, absent where there is none.
        flying: what is under way to providers; it outlives a document.
        share: a random number of 0 to 1, for waits.
    """

    def __init__(
        self,
        *,
        document: contract.PolicyDocument,
        keys: Mapping[str, api_keys.ApiKey],
        cache: Cache,
        quota: calls.Quota,
        upstream: provider.Upstream,
        observe: calls.Observer,
        flying: flights.Flights,
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
        self._flying = flying
        self._timing = timing
        self._clock = clock
        self._share = share
        self._breaker = breaker.Breaker()
        self._orders = orders.Orders(
            keys=keys,
            store=cache,
            caller=calls.Caller(quota=quota, upstream=upstream, observe=observe, clock=clock),
            known=self._breaker,
            flying=flying,
            observe=observe,
            attempt_seconds=timing.attempt_seconds,
            clock=clock,
            wall_clock=wall_clock,
        )

    async def embed(
        self,
        ask: provider.Ask,
        *,
        control: cache_control.CacheControl = cache_control.DEFAULT,
        found: Found | None = None,
    ) -> Answer:
        """The vectors of the items.

        The first choice's cache is asked first, whatever is known of that provider: what is there
        needs no provider and no quota. `found` is what it said, where it has just been asked.

        Raises:
            errors.Rejected: the request is at fault.
            errors.QuotaExhausted: the day is used up, and not all is in the cache.
            errors.Unavailable: nobody who may answer can.
        """
        choices = self._choices(ask.model, ask.dimensions)
        started_at = self._clock()
        work = Work(ask, control=control, started_at=started_at)
        work.looked(choices[0], found or await self._look(work, choices[0]))
        if not work.missing(choices[0]):
            return self._answer(work, choices[0])
        try:
            ends_at = started_at + self._timing.request_seconds
            return await self._go_through(work, choices, ends_at=ends_at)
        except errors.Refused as refused:
            refused.attempts = work.attempts
            raise

    async def _go_through(
        self, work: Work, choices: Sequence[failover.Choice], *, ends_at: float
    ) -> Answer:
        """The answer of the first provider of the course that completes it."""
        course = retries.Course(
            choices,
            known=self._breaker,
            ends_at=ends_at,
            share=self._share,
        )
        while (step := course.next(now=self._clock(), held=work.held)) is not None:
            if isinstance(step, retries.Wait):
                await asyncio.sleep(step.seconds)
            elif await self._complete(work, step, course):
                if step is not choices[0]:
                    self._observe.failover(failover.label(step))
                return self._answer(work, step)
            # Meanwhile others may have brought what is missing.
            work.keys.clear()
        raise failover.verdict(course.failures(), policy=self._document)

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
            if self._breaker.rest(it.name, now=now) is not None
            else "ok"
            for it in self._document.providers
        }

    def refused_keys(self) -> frozenset[str]:
        """Names of the providers that refused the key in force when it was last tried."""
        return self._orders.refused_keys()

    async def _look(self, work: Work, choice: failover.Choice) -> Found:
        """What the cache has of what is missing."""
        looked_at = self._clock()
        keys = self._cache.keys(failover.terms(choice, work.ask), space=choice.space)
        entries: list[cache.Entry | None] = [None] * len(keys)
        missing = {} if work.is_alone(choice.space) else work.missing_of(keys, choice.space)
        if missing:
            found = await self._cache.get_many(
                list(missing), max_age_seconds=work.control.max_age_seconds
            )
            for indexes, entry in zip(missing.values(), found, strict=True):
                for index in indexes:
                    entries[index] = entry
        return Found(keys, entries, looked_at)

    async def _complete(self, work: Work, choice: failover.Choice, course: retries.Course) -> bool:
        """Get what is missing from this provider, as far as it gives it; whether nothing is then.

        Raises:
            errors.Refused: it is decided: the request is at fault, or the quota is used up.
        """
        now = self._clock()
        ends_at = now + course.patience(choice, now=now)
        ask = failover.terms(choice, work.ask)
        failure: errors.ProviderFailed | errors.Refused | None
        while True:
            # Once for each provider, and after each wait.
            if choice.provider.name not in work.keys:
                work.looked(choice, await self._look(work, choice))
            missing = work.missing(choice)
            if not missing:
                return True
            failure = self._hindrance(choice, [ask.items[at[0]] for at in missing.values()])
            if failure is not None:
                break
            placed = self._orders.place(
                orders.Order(
                    choice=choice,
                    ask=ask,
                    missing=missing,
                    control=work.control,
                    since=work.looked_at,
                    ends_at=ends_at,
                    alone=work.is_alone(choice.space),
                )
            )
            if placed is None:
                return False
            await self._flying.wait(placed.ours + placed.others, seconds=ends_at - self._clock())
            failure = self._landed(work, choice, placed, missing)
            if work.of(choice.space).is_mixed() and not work.distrust(choice.space):
                failure = vectors.bad_answer()
            if failure is not None:
                break
            if not work.missing(choice):
                return True
            # A call of others failed, in a way that is theirs. What is there by now?
            work.keys.clear()
        # Only the provider the caller meant may say that the caller is at fault.
        if isinstance(failure, errors.ProviderFailed) or (
            isinstance(failure, errors.Rejected) and not course.is_first(choice)
        ):
            course.failed(choice, failure, now=self._clock())
            return False
        raise failure

    def _hindrance(
        self, choice: failover.Choice, items: Collection[provider.Item]
    ) -> errors.ProviderFailed | None:
        """Why this provider need not be asked."""
        if self._key_is_missing(choice.provider):
            self._observe.error("misconfigured", failover.label(choice))
            return errors.Misconfigured(errors.KEY_MISSING)
        return providers.PROVIDERS[choice.provider.kind].obstacle(items)

    def _landed(
        self,
        work: Work,
        choice: failover.Choice,
        placed: orders.Placed,
        missing: Mapping[str, list[int]],
    ) -> errors.ProviderFailed | errors.Refused | None:
        """Take what came; what went wrong, if anything did that is about this provider or us."""
        now = self._clock()
        failures: list[errors.ProviderFailed | errors.Refused] = []
        for flight in placed.ours:
            landing = flight.landing() or _UNKNOWN
            work.took(flight.sent, now=now)
            work.take(choice.space, landing.entries, missing, ours=True)
            work.attempts += len(flight.sent)
            work.tokens += landing.tokens
            if isinstance(landing.failure, errors.Rejected):
                failures.append(work.told(landing.failure, flight.keys, missing))
            elif landing.failure is not None:
                failures.append(landing.failure)
        for flight in placed.others:
            landing = flight.landing() or _UNKNOWN
            work.took(flight.sent, now=now)
            work.take(choice.space, landing.entries, missing, ours=False)
            of_this = flight.provider == choice.provider.name or landing is _UNKNOWN
            if of_this and isinstance(landing.failure, errors.ProviderFailed):
                failures.append(landing.failure)
        return worst(failures)

    def _answer(self, work: Work, choice: failover.Choice) -> Answer:
        entries, part = work.entries(choice.space), work.of(choice.space)
        saved = sum(entry.tokens for at, entry in part.cached.items() if at not in part.made)
        if saved:
            self._cache.saved(saved, model=choice.provider.model)
        return Answer(
            vectors=tuple(entry.vector for entry in entries),
            provider=choice.provider.name,
            kind=choice.provider.kind,
            model=choice.provider.model,
            space=choice.space,
            hits=len(entries) - len(part.made),
            coalesced=len(part.coalesced),
            items=len(entries),
            tokens=work.tokens,
            tokens_saved=saved,
            attempts=work.attempts,
            upstream_seconds=work.upstream_seconds(),
        )

    def _key_is_missing(self, it: contract.Provider) -> bool:
        return it.api_key_file is not None and it.name not in self._keys
