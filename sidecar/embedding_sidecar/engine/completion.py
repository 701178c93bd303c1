"""Getting what a request misses from one of its choices: from the cache, else by orders."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from embedding_contract import document as contract
from embedding_sidecar import errors, provider, providers
from embedding_sidecar.caching import cache
from embedding_sidecar.engine import (
    api_keys,
    batches,
    calls,
    failover,
    flights,
    orders,
    provider_states,
    retries,
)
from embedding_sidecar.engine.work import Found, Work

_KEY_IS_MISSING: Final = errors.Misconfigured(errors.KEY_MISSING)


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


class Completion:
    """Completes requests, each by one choice at a time.

    Args:
        keys: API keys by the provider's name, absent where there is none.
    """

    def __init__(
        self,
        *,
        keys: Mapping[str, api_keys.ApiKey],
        cache: Cache,
        ordering: orders.Orders,
        flying: flights.Flights,
        observe: calls.Observer,
        states: provider_states.ProviderStates,
        clock: Callable[[], float],
    ) -> None:
        self._states = states
        self._keys = keys
        self._cache = cache
        self._orders = ordering
        self._flying = flying
        self._observe = observe
        self._clock = clock

    def key_is_missing(self, it: contract.Provider) -> bool:
        """Whether this provider wants a key and has none."""
        return it.api_key_file is not None and it.name not in self._keys

    async def missing(self, choice: failover.Choice, work: Work) -> dict[str, list[int]]:
        """What is still missing, after the cache was asked once for each provider and wait."""
        if choice.provider.name not in work.keys:
            work.looked(choice, await self._look(work, choice))
        return work.missing(choice)

    async def by(
        self,
        choice: failover.Choice,
        work: Work,
        course: retries.Course,
        placed: orders.Placed | None = None,
    ) -> bool:
        """Get what is missing from this provider, as far as it gives it; whether nothing is then.

        It begins with what has been placed.

        Raises:
            errors.Refused: it is decided: the request is at fault, or the quota is used up.
        """
        now = self._clock()
        ends_at = placed.order.ends_at if placed else now + course.patience(choice, now=now)
        failure: errors.ProviderFailed | errors.Refused | None
        while True:
            if placed is None:
                missing = await self.missing(choice, work)
                if not missing:
                    return True
                failure = self._hindrance(work, choice, missing)
                if failure is not None:
                    break
                placed = self._place(work, choice, missing, ends_at=ends_at)
                if placed is None:
                    return False
            await self._flying.wait(placed.flights, ends_at=ends_at)
            failure = work.landed(placed, now=self._clock())
            if failure is not None:
                break
            if not work.missing(choice):
                return True
            # A call of others failed, in a way that is theirs. What is there by now?
            work.keys.clear()
            placed = None
        if failure is _KEY_IS_MISSING:
            self._observe.error("misconfigured", failover.label(choice))
        # Only the provider the caller meant may say that the caller is at fault.
        if isinstance(failure, errors.ProviderFailed) or (
            isinstance(failure, errors.Rejected) and not course.is_first(choice)
        ):
            course.failed(choice, failure, now=self._clock())
            return False
        raise failure

    def begin(
        self, choice: failover.Choice, work: Work, course: retries.Course
    ) -> orders.Placed | None:
        """Order what is missing after a look; None where nothing is, or it cannot be had now."""
        missing = work.missing(choice)
        if not missing or self._hindrance(work, choice, missing) is not None:
            return None
        now = self._clock()
        ends_at = now + course.patience(choice, now=now)
        return self._place(work, choice, missing, ends_at=ends_at)

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

    def _hindrance(
        self, work: Work, choice: failover.Choice, missing: Mapping[str, Sequence[int]]
    ) -> errors.ProviderFailed | errors.Rejected | None:
        """Why this provider need not be asked."""
        chosen = choice.provider
        if self.key_is_missing(chosen):
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
        return providers.PROVIDERS[choice.provider.kind].obstacle(items)

    def _place(
        self,
        work: Work,
        choice: failover.Choice,
        missing: Mapping[str, Sequence[int]],
        *,
        ends_at: float,
    ) -> orders.Placed | None:
        return self._orders.place(
            orders.Order(
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
