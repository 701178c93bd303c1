"""Calls by the key in force, and by the one before it where a provider refuses that.

Likewise in the form a provider takes: one that refuses `encoding_format` is asked without it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from embedding_sidecar import errors, provider, statuses
from embedding_sidecar.engine import api_keys, breaker, calls, failover, provider_states

_FORM_REFUSED: Final = frozenset({400, 422})


class KeyedCalls:
    """A Caller that knows the keys.

    Args:
        keys: API keys by the provider's name, absent where there is none.
        states: what is known of providers.
    """

    def __init__(
        self,
        *,
        keys: Mapping[str, api_keys.ApiKey],
        caller: calls.Caller,
        observe: calls.Observer,
        states: provider_states.ProviderStates,
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._caller = caller
        self._observe = observe
        self._clock = clock
        self._states = states
        self._trying: set[str] = set()
        """Providers that have just refused `encoding_format`."""

    def refused_keys(self) -> frozenset[str]:
        """Providers that refused the key in force when it was last tried."""
        return frozenset(self._states.refused)

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
        """As Caller.call, made again where the provider refuses the key, or `encoding_format`."""
        name, now = choice.provider.name, self._clock()
        by_key = partial(
            self._by_key,
            choice,
            within_seconds=within_seconds,
            sent=sent,
            trace=trace,
            background=background,
        )
        if name not in self._trying:
            if self._states.is_plain(name, now=now):
                return await by_key(part._replace(plain=True))
            try:
                return await by_key(part)
            except errors.Rejected as rejected:
                if not _is_about_encoding(rejected):
                    raise
        self._trying.discard(name)
        vectors = await by_key(part._replace(plain=True))
        self._states.takes_no_encoding(name, now=now)
        return vectors

    async def _by_key(
        self,
        choice: failover.Choice,
        part: provider.Ask,
        *,
        within_seconds: float,
        sent: list[calls.Span],
        trace: calls.Trace,
        background: bool,
    ) -> provider.Vectors:
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
        if fallback is not None and now < self._states.refused.get(name, now):
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
        except errors.Declined as failure:
            if failure.reason != statuses.FORBIDDEN or fallback is None:
                raise
            # Not in its own form: what the same text gets with the other key tells.
            vectors = await call(api_key=fallback)
            self._refuse(name)
            self._observe.error("misconfigured", failover.label(choice))
            return vectors
        self._states.refused.pop(name, None)
        return vectors

    def is_one_call(self, name: str) -> bool:
        """Whether a call to this provider is one however it ends, so that it may be begun."""
        key = self._keys.get(name)
        return (
            name not in self._states.refused
            and name not in self._trying
            and (key is None or key.fallback(now=self._clock()) is None)
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
                self._states.refused.pop(name, None)
            elif isinstance(it, errors.Rejected) and not is_plain and _is_about_encoding(it):
                # It is asked again without, which is a second call: for a task.
                self._trying.add(name)
                it = None
            done(it)

        # Seldom so, and asked for every miss.
        is_plain = self._states.may_be_plain(name) and self._states.is_plain(
            name, now=self._clock()
        )
        if is_plain:
            part = part._replace(plain=True)

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
        self._states.refused[name] = self._clock() + breaker.OPEN_SECONDS


def _is_about_encoding(rejected: errors.Rejected) -> bool:
    """Whether it names the field that callers do not send here: in words, as forms differ."""
    said = f"{rejected.param} {rejected.message}"
    return rejected.status in _FORM_REFUSED and ("encoding_format" in said or "base64" in said)
