"""Calls by the key in force; by the one before it where a provider refuses that."""

from collections.abc import Callable, Mapping
from functools import partial

from embedding_sidecar import errors, provider
from embedding_sidecar.engine import api_keys, breaker, calls, failover


class KeyedCalls:
    """A Caller that knows the keys.

    Args:
        keys: API keys by the provider's name, absent where there is none.
    """

    def __init__(
        self,
        *,
        keys: Mapping[str, api_keys.ApiKey],
        caller: calls.Caller,
        observe: calls.Observer,
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._caller = caller
        self._observe = observe
        self._clock = clock
        self._refused = {name: float("-inf") for name, key in keys.items() if key.refused}
        """Providers that refuse the key in force, and until when it is not tried again."""

    def refused_keys(self) -> frozenset[str]:
        """Providers that refused the key in force when it was last tried."""
        return frozenset(self._refused)

    async def call(
        self,
        choice: failover.Choice,
        part: provider.Ask,
        *,
        within_seconds: float,
        sent: list[calls.Span],
        trace: calls.Trace = calls.UNTRACED,
        background: bool = False,
    ) -> provider.Vectors:
        """As Caller.call, which is made twice where the provider refuses the key in force."""
        call = partial(
            self._caller.call,
            choice,
            part,
            within_seconds=within_seconds,
            sent=sent,
            trace=trace,
            background=background,
        )
        name = choice.provider.name
        key = self._keys.get(name)
        if key is None:
            return await call(api_key=None)
        now = self._clock()
        fallback = key.fallback(now=now)
        if fallback is not None and now < self._refused.get(name, now):
            return await call(api_key=fallback)
        try:
            vectors = await call(api_key=key.current)
        except errors.Misconfigured as failure:
            if failure.reason != errors.KEY_REFUSED:
                raise
            self._refuse(name)
            if fallback is None:
                raise
            self._observe.error("misconfigured", failover.label(choice))
            return await call(api_key=fallback)
        self._refused.pop(name, None)
        return vectors

    def is_one_call(self, name: str) -> bool:
        """Whether a call to this provider is one however it ends, so that it may be begun."""
        key = self._keys.get(name)
        return name not in self._refused and (
            key is None or key.fallback(now=self._clock()) is None
        )

    def begin(
        self,
        choice: failover.Choice,
        part: provider.Ask,
        *,
        within_seconds: float,
        sent: list[calls.Span],
        is_wanted: Callable[[], bool],
        done: calls.Done,
        trace: calls.Trace = calls.UNTRACED,
        background: bool = False,
    ) -> Callable[[], None]:
        """As Caller.begin."""
        name = choice.provider.name
        key = self._keys.get(name)

        def came(it: provider.Vectors | Exception | None) -> None:
            if isinstance(it, errors.Misconfigured) and it.reason == errors.KEY_REFUSED:
                self._refuse(name)
            elif isinstance(it, provider.Vectors):
                self._refused.pop(name, None)
            done(it)

        return self._caller.begin(
            choice,
            part,
            api_key=None if key is None else key.current,
            within_seconds=within_seconds,
            sent=sent,
            is_wanted=is_wanted,
            done=came,
            trace=trace,
            background=background,
        )

    def _refuse(self, name: str) -> None:
        self._refused[name] = self._clock() + breaker.OPEN_SECONDS
