"""One call to a provider: within the quota, and seen by metrics whatever becomes of it."""

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any, Final, Protocol

from embedding_sidecar import errors, failover, provider, providers

_OK: Final = 200
_TOKENS_AROUND_ITEM: Final = 8
_TOKENS_OF_PROMPT: Final = 64
"""Voyage puts a prompt of at most 57 characters before a text whose input_type is given."""


class Quota(Protocol):
    """The policy's day."""

    async def reserve(self, *, tokens: int) -> Any:
        """Set aside one call and an upper bound of its tokens.

        Raises:
            errors.QuotaExhausted: there is not that much left today.
            errors.Unavailable: nobody can tell.
        """
        ...

    async def settle(self, reservation: Any, *, billed: bool, tokens: int) -> None:
        """Say what a reservation came to; a call that was not billed is given back."""
        ...


class Observer(Protocol):
    """Is told what was asked of providers; `provider` is the lower-case word for its type."""

    def call(self, *, provider: str, model: str, outcome: str, seconds: float) -> None:
        """One HTTP request to a provider ended."""
        ...

    def tokens(self, *, provider: str, model: str, tokens: int) -> None:
        """A provider billed tokens."""
        ...

    def error(self, kind: str, provider: str = "") -> None:
        """A provider failed."""
        ...

    def failover(self, provider: str) -> None:
        """A provider other than the first choice answered."""
        ...


class Caller:
    """Sends requests to providers, each within the quota."""

    def __init__(
        self,
        *,
        quota: Quota,
        upstream: provider.Upstream,
        observe: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._quota = quota
        self._upstream = upstream
        self._observe = observe
        self._clock = clock

    async def call(
        self, choice: failover.Choice, ask: provider.Ask, *, api_key: str | None
    ) -> provider.Vectors:
        """The vectors of `ask`, a part of the choice's own request.

        Raises:
            errors.ProviderFailed: there are none.
            errors.Rejected: the provider says that the request is at fault.
            errors.QuotaExhausted: the day is used up.
            errors.Unavailable: nobody can tell whether it is.
        """
        bound = sum(most_tokens(ask))
        reservation = await self._quota.reserve(tokens=bound)
        # Until we know better, a call that is cut short by anything has been billed.
        billed, tokens = True, bound
        try:
            vectors = await self._observed(choice, ask, api_key)
            tokens = vectors.tokens
        except (errors.ProviderFailed, errors.Rejected) as failure:
            billed = isinstance(failure, errors.ProviderFailed) and failure.billed
            tokens = bound if billed else 0
            raise
        finally:
            await self._quota.settle(reservation, billed=billed, tokens=tokens)
        self._observe.tokens(provider=label(choice), model=ask.model, tokens=tokens)
        return vectors

    async def _observed(
        self, choice: failover.Choice, ask: provider.Ask, api_key: str | None
    ) -> provider.Vectors:
        started = self._clock()
        outcome = "cancelled"
        try:
            vectors = await self._send(choice, ask, api_key)
            outcome = "ok"
        except errors.ProviderFailed as failure:
            outcome = failure.reason
            raise
        except errors.Rejected:
            outcome = "rejected"
            raise
        finally:
            self._observe.call(
                provider=label(choice),
                model=ask.model,
                outcome=outcome,
                seconds=self._clock() - started,
            )
        return vectors

    async def _send(
        self, choice: failover.Choice, ask: provider.Ask, api_key: str | None
    ) -> provider.Vectors:
        translation = providers.PROVIDERS[choice.provider.kind]
        answer = await self._upstream.send(
            translation.request(ask, base_url=choice.provider.base_url, api_key=api_key)
        )
        if answer.status != _OK:
            raise translation.failure(answer)
        return translation.vectors(ask, answer)


def label(choice: failover.Choice) -> str:
    """What metrics call a provider: the lower-case word for its type."""
    return choice.provider.kind.lower()


def most_tokens(ask: provider.Ask) -> list[int]:
    """For each item the tokens it has at most: no tokenizer makes more of a text than its bytes."""
    prompt = 0 if ask.input_type is None else _TOKENS_OF_PROMPT
    return [
        len(item.encode()) + _TOKENS_AROUND_ITEM + prompt if isinstance(item, str) else len(item)
        for item in ask.items
    ]


def shares(tokens: int, ask: provider.Ask) -> list[int]:
    """What was billed, split among the items by their size: whole numbers whose sum it is."""
    sizes = most_tokens(ask)
    whole = sum(sizes)
    marks = [tokens * size // whole for size in accumulate(sizes)]
    return [mark - before for before, mark in pairwise([0, *marks])]
