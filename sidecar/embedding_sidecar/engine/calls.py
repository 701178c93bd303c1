"""One call to a provider: within the quota, and seen by metrics whatever becomes of it."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from embedding_sidecar import errors, provider, providers
from embedding_sidecar.engine import batches, failover

_OK: Final = 200


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


Span = tuple[float, float | None]
"""When a call that was sent began and when it ended; None: not yet."""


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
        self,
        choice: failover.Choice,
        ask: provider.Ask,
        *,
        api_key: str | None,
        within_seconds: float,
        sent: list[Span],
    ) -> provider.Vectors:
        """The vectors of `ask`, a part of the choice's own request; the call is added to `sent`.

        Raises:
            errors.ProviderFailed: there are none.
            errors.Rejected: the provider says that the request is at fault.
            errors.QuotaExhausted: the day is used up.
            errors.Unavailable: nobody can tell whether it is.
        """
        bound = sum(batches.most_tokens(ask))
        reservation = await self._quota.reserve(tokens=bound)
        translation = providers.PROVIDERS[choice.provider.kind]
        # Until we know better, a call that is cut short by anything has been billed.
        outcome, billed, tokens = "cancelled", True, bound
        span, started = len(sent), self._clock()
        sent.append((started, None))
        try:
            answer = await self._upstream.send(
                translation.request(ask, base_url=choice.provider.base_url, api_key=api_key),
                within_seconds=within_seconds,
            )
            if answer.status != _OK:
                raise translation.failure(answer)
            vectors = translation.vectors(ask, answer)
            outcome, tokens = "ok", vectors.tokens
        except errors.ProviderFailed as failure:
            outcome, billed = failure.reason, failure.billed
            raise
        except errors.Rejected:
            outcome, billed = "rejected", False
            raise
        finally:
            ended = self._clock()
            sent[span] = started, ended
            self._observe.call(
                provider=failover.label(choice),
                model=ask.model,
                outcome=outcome,
                seconds=ended - started,
            )
            await self._quota.settle(reservation, billed=billed, tokens=tokens if billed else 0)
        self._observe.tokens(provider=failover.label(choice), model=ask.model, tokens=tokens)
        return vectors
