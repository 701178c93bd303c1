"""Answering a request for vectors: from the cache, else from the providers the policy allows."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from embedding_contract import document as contract
from embedding_sidecar import cache, calls, errors, failover, provider, providers


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One vector (little-endian float32) for each item, in order, all of one space.

    `provider`, `kind` and `model` are of the provider that answered, whose space it is; `tokens`
    were billed for this answer, `tokens_saved` had been billed for what came from the cache;
    `hits` of `items` did; `attempts` requests were sent to providers.
    """

    vectors: tuple[bytes, ...] = field(repr=False)
    provider: str
    kind: str
    model: str
    space: str
    hits: int
    items: int
    tokens: int
    tokens_saved: int
    attempts: int


class Cache(Protocol):
    """Entries by key; never fails."""

    def keys(self, ask: provider.Ask, *, space: str) -> list[str]:
        """The keys of the items of a request in a provider's terms, in order."""
        ...

    async def get_many(self, keys: Sequence[str]) -> list[cache.Entry | None]:
        """The entries of these keys, in order."""
        ...

    async def put_many(self, entries: Mapping[str, cache.Entry]) -> None:
        """Keep these entries."""
        ...

    def saved(self, tokens: int) -> None:
        """An answer needed so many tokens less than without the cache."""
        ...


class _Work:
    """A request under way: what is known of its items, and what that took.

    `cached` is by space, so that another provider of the same space goes on with what was found;
    `made` is the one successful call's. Both are by index of the item.
    """

    def __init__(self, items: int) -> None:
        self.keys: dict[str, list[str]] = {}
        self.cached: defaultdict[str, dict[int, cache.Entry]] = defaultdict(dict)
        self.made: dict[int, cache.Entry] = {}
        self.attempts = 0
        self.tokens = 0
        self._items = items

    def missing(self, choice: failover.Choice) -> dict[str, list[int]]:
        """The keys still to be had, each once, with the items that wait for it."""
        found: dict[str, list[int]] = {}
        cached = self.cached[choice.space]
        for index, key in enumerate(self.keys[choice.provider.name]):
            if index not in cached:
                found.setdefault(key, []).append(index)
        return found

    def answer(self, choice: failover.Choice) -> Answer:
        """The answer, once nothing is missing."""
        cached = self.cached[choice.space]
        entries = [self.made.get(index) or cached[index] for index in range(self._items)]
        saved = sum(entry.tokens for index, entry in cached.items() if index not in self.made)
        return Answer(
            vectors=tuple(entry.vector for entry in entries),
            provider=choice.provider.name,
            kind=choice.provider.kind,
            model=choice.provider.model,
            space=choice.space,
            hits=self._items - len(self.made),
            items=self._items,
            tokens=self.tokens,
            tokens_saved=saved,
            attempts=self.attempts,
        )


class Service:
    """Answers under one policy document; a new document makes a new service.

    Args:
        document: its providers are of types in PROVIDERS.
        keys: API keys by the provider's name, absent where there is none.
    """

    def __init__(
        self,
        *,
        document: contract.PolicyDocument,
        keys: Mapping[str, str],
        cache: Cache,
        quota: calls.Quota,
        upstream: provider.Upstream,
        observe: calls.Observer,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._document = document
        self._keys = keys
        self._cache = cache
        self._caller = calls.Caller(quota=quota, upstream=upstream, observe=observe, clock=clock)
        self._observe = observe
        self._clock = clock
        self._wall_clock = wall_clock
        self._breaker = failover.Breaker()

    async def embed(self, ask: provider.Ask) -> Answer:
        """The vectors of the items.

        The first choice's cache is asked first, whatever is known of that provider: what is there
        needs no provider and no quota.

        Raises:
            errors.Rejected: the request is at fault.
            errors.QuotaExhausted: the day is used up, and not all is in the cache.
            errors.Unavailable: nobody who may answer can.
        """
        choices = failover.choices(self._document, ask)
        first = choices[0]
        work = _Work(len(ask.items))
        if await self._is_cached(work, first):
            return self._answer(work, first)
        failures: dict[str, failover.Failure] = {}
        for choice in self._breaker.order(choices, now=self._clock()):
            try:
                failure = await self._complete(work, choice)
            except errors.Rejected as rejected:
                # Only the provider the caller meant may say that the caller is at fault.
                if choice is first:
                    raise
                failure = rejected
            if failure is not None:
                failures[choice.provider.name] = failure
                continue
            if choice is not first:
                self._observe.failover(calls.label(choice))
            return self._answer(work, choice)
        raise failover.verdict(failures, policy=self._document)

    def health(self) -> dict[str, str]:
        """Each provider's state in one word: `ok`, `failing` or `key_missing`."""
        now = self._clock()
        return {
            it.name: failover.KEY_MISSING
            if self._key_is_missing(it)
            else "failing"
            if self._breaker.is_open(it.name, now=now)
            else "ok"
            for it in self._document.providers
        }

    async def _is_cached(self, work: _Work, choice: failover.Choice) -> bool:
        """Look up what is missing, once for each provider; whether nothing is missing then."""
        name = choice.provider.name
        if name not in work.keys:
            work.keys[name] = self._cache.keys(choice.ask, space=choice.space)
            missing = work.missing(choice)
            entries = await self._cache.get_many(list(missing))
            for indexes, entry in zip(missing.values(), entries, strict=True):
                # The key says both already; an entry that does not agree is nobody's.
                if entry is not None and (entry.model, entry.space) == (
                    choice.provider.model,
                    choice.space,
                ):
                    work.cached[choice.space].update(dict.fromkeys(indexes, entry))
            if not _of_one_size(work.cached[choice.space].values()):
                work.cached[choice.space].clear()
        return not work.missing(choice)

    async def _complete(self, work: _Work, choice: failover.Choice) -> failover.Failure | None:
        """Get what is missing from this provider; why there is none, otherwise.

        Raises:
            errors.Rejected: the provider says that the request is at fault.
        """
        if await self._is_cached(work, choice):
            return None
        name = choice.provider.name
        missing = work.missing(choice)
        obstacle = providers.PROVIDERS[choice.provider.kind].obstacle(_part(choice, missing))
        if obstacle is not None:
            return errors.Rejected(f"{obstacle}.", param="input")
        try:
            made = await self._make(work, choice, missing)
            if not _of_one_size([*made.values(), *work.cached[choice.space].values()]):
                work.cached[choice.space].clear()
                missing = work.missing(choice)
                made = await self._make(work, choice, missing)
        except errors.ProviderFailed as failure:
            self._breaker.failed(name, now=self._clock())
            self._observe.error(type(failure).__name__.lower(), calls.label(choice))
            return failure
        self._breaker.succeeded(name)
        await self._cache.put_many(made)
        for key, indexes in missing.items():
            work.made.update(dict.fromkeys(indexes, made[key]))
        return None

    async def _make(
        self, work: _Work, choice: failover.Choice, missing: Mapping[str, list[int]]
    ) -> dict[str, cache.Entry]:
        """An entry for each missing key, by one call to the provider."""
        if self._key_is_missing(choice.provider):
            raise errors.Misconfigured(failover.KEY_MISSING)
        part = _part(choice, missing)
        work.attempts += 1
        vectors = await self._caller.call(
            choice, part, api_key=self._keys.get(choice.provider.name)
        )
        work.tokens += vectors.tokens
        made_at = self._wall_clock()
        return {
            key: cache.Entry(
                model=choice.provider.model,
                space=choice.space,
                vector=vector,
                tokens=tokens,
                made_at=made_at,
            )
            for key, vector, tokens in zip(
                missing, vectors.vectors, calls.shares(vectors.tokens, part), strict=True
            )
        }

    def _answer(self, work: _Work, choice: failover.Choice) -> Answer:
        answer = work.answer(choice)
        if answer.tokens_saved:
            self._cache.saved(answer.tokens_saved)
        return answer

    def _key_is_missing(self, it: contract.Provider) -> bool:
        return it.api_key_file is not None and it.name not in self._keys


def _part(choice: failover.Choice, missing: Mapping[str, list[int]]) -> provider.Ask:
    items = tuple(choice.ask.items[indexes[0]] for indexes in missing.values())
    return replace(choice.ask, items=items)


def _of_one_size(entries: Iterable[cache.Entry]) -> bool:
    """Otherwise the model behind a name has changed, and what was kept of it is of no use."""
    return len({len(entry.vector) for entry in entries}) <= 1
