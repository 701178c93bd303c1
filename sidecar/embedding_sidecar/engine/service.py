"""Answering a request for vectors: from the cache, else from the providers the policy allows."""

import asyncio
import functools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embedding_contract import document as contract
from embedding_sidecar import errors, provider, tracing
from embedding_sidecar.engine import (
    api_keys,
    calls,
    completion,
    failover,
    flights,
    keyed_calls,
    orders,
    provider_states,
    retries,
)
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.engine.work import Found, Work
from embedding_sidecar.wire import cache_control


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
        flying: what is under way to providers; it outlives a document.
        states: what is known of providers; it outlives a document, which it follows.
        share: a random number of 0 to 1, for waits.
    """

    def __init__(
        self,
        *,
        document: contract.PolicyDocument,
        keys: Mapping[str, api_keys.ApiKey],
        cache: completion.Cache,
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
        self._cache = cache
        self._observe = observe
        self._timing = timing
        self._clock = clock
        self._share = share
        if states is None:
            states = provider_states.ProviderStates()
            states.refused.update({it: float("-inf") for it, key in keys.items() if key.refused})
        self._breaker = states.breaker
        self._calls = keyed_calls.KeyedCalls(
            keys=keys,
            caller=calls.Caller(quota=quota, upstream=upstream, observe=observe, clock=clock),
            observe=observe,
            states=states,
            clock=clock,
        )
        ordering = orders.Orders(
            store=cache,
            caller=self._calls,
            states=states,
            flying=flying,
            observe=observe,
            attempt_seconds=timing.attempt_seconds,
            clock=clock,
            wall_clock=wall_clock,
        )
        self._completion = completion.Completion(
            keys=keys,
            cache=cache,
            ordering=ordering,
            states=states,
            flying=flying,
            observe=observe,
            clock=clock,
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
        started_at = self._clock() - waited_seconds
        work = Work(ask, control=control, started_at=started_at, span=span, background=background)
        if found is not None:
            work.looked(choices[0], found)
        if not await self._completion.missing(choices[0], work):
            return self._answer(work, choices[0])
        return await self._go_through(work, self._course(work, choices))

    def begin(
        self,
        ask: provider.Ask,
        *,
        control: cache_control.CacheControl = cache_control.DEFAULT,
        found: Found,
        done: Callable[[Answer | Exception], None],
        span: tracing.RequestSpan | None = None,
        background: bool = False,
    ) -> Callable[[], None] | None:
        """Begin what embed does, for one item that was not found; `done` is told what it says.

        While nothing fails this needs no task. What is returned is to be called when nobody waits
        any more: `done` is not, then. None, and nothing was done: it is not as simple as that.

        Raises:
            errors.Rejected: the request is at fault.
        """
        if ask.extra:
            choices = self._choices(ask.model, ask.dimensions, ask.extra)
        else:
            choices = self._choices(ask.model, ask.dimensions)
        if len(ask.items) != 1 or self._breaker.knows(choices[0].provider.name):
            return None
        work = Work(
            ask, control=control, started_at=self._clock(), span=span, background=background
        )
        work.looked(choices[0], found)
        course = self._course(work, choices)
        placed = self._completion.begin(choices[0], work, course)
        return None if placed is None else self._later(work, course, placed, done)

    def _later(
        self,
        work: Work,
        course: retries.Course,
        placed: orders.Placed,
        done: Callable[[Answer | Exception], None],
    ) -> Callable[[], None]:
        """Tell the answer when what was ordered has landed, or by a task that goes on."""
        going_on: asyncio.Task[Answer] | None = None

        def over() -> None:
            nonlocal going_on
            if placed.whole:
                done(self._landed(work, placed))
            else:
                going_on = asyncio.create_task(self._go_through(work, course, placed))
                going_on.add_done_callback(functools.partial(_hand_over, done))

        watch = flights.Watch(
            placed.flights, now=self._clock(), ends_at=placed.order.ends_at, over=over
        )

        def leave() -> None:
            watch.leave()
            if going_on is not None:
                going_on.cancel()

        return leave

    def _landed(self, work: Work, placed: orders.Placed) -> Answer | Exception:
        try:
            work.landed(placed, now=self._clock())
            return self._answer(work, placed.order.choice)
        except Exception as failure:  # noqa: BLE001 - it is for who waits
            return failure

    def _course(self, work: Work, choices: Sequence[failover.Choice]) -> retries.Course:
        return retries.Course(
            choices,
            known=self._breaker,
            ends_at=work.started_at + self._timing.of_request(choices[0].provider),
            share=self._share,
        )

    async def _go_through(
        self, work: Work, course: retries.Course, placed: orders.Placed | None = None
    ) -> Answer:
        """The answer of the first provider of the course that completes it.

        It goes on with what has been placed.
        """
        step: failover.Choice | retries.Wait | None
        try:
            step = placed.order.choice if placed else course.next(now=self._clock(), held=None)
            while step is not None:
                if isinstance(step, retries.Wait):
                    await asyncio.sleep(step.seconds)
                elif await self._completion.by(step, work, course, placed):
                    if not course.is_first(step):
                        self._observe.failover(failover.label(step))
                        if work.span is not None:
                            work.span.failed_over(provider=failover.label(step))
                    return self._answer(work, step)
                placed = None
                # Meanwhile others may have brought what is missing.
                work.keys.clear()
                step = course.next(now=self._clock(), held=work.held)
            raise failover.verdict(course.failures(), policy=self._document)
        except errors.Refused as refused:
            refused.attempts = work.attempts
            raise

    def health(self) -> dict[str, str]:
        """Each provider's state in one word: `ok`, `failing`, `key_missing` or `key_refused`.

        Where the key in force is refused, the one before it may still serve.
        """
        now = self._clock()
        refused = self.refused_keys()
        return {
            it.name: errors.KEY_MISSING
            if self._completion.key_is_missing(it)
            else errors.KEY_REFUSED
            if it.name in refused
            else "failing"
            if self._breaker.rest(it.name, now=now) is not None
            else "ok"
            for it in self._document.providers
        }

    def failures(self) -> dict[str, str]:
        """Of each provider that has not answered since it failed: why, in a word."""
        return self._breaker.words()

    def refused_keys(self) -> frozenset[str]:
        """Names of the providers that refused the key in force when it was last tried."""
        return self._calls.refused_keys()

    def _answer(self, work: Work, choice: failover.Choice) -> Answer:
        answer = work.answer(choice)
        if answer.tokens_saved:
            self._cache.saved(answer.tokens_saved, model=answer.model)
        return answer


def _hand_over(done: Callable[[Answer | Exception], None], task: "asyncio.Task[Answer]") -> None:
    """Tell what became of a task, unless it was cancelled: then nobody waits."""
    if task.cancelled():
        return
    failure = task.exception()
    if failure is None:
        done(task.result())
    elif isinstance(failure, Exception):
        done(failure)
