"""One call to a provider: within the quota, and seen by metrics whatever becomes of it."""

import functools
import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from embedding_sidecar import errors, provider, providers, repeated, tracing, words
from embedding_sidecar.engine import batches, failover

_LOWEST_REDIRECT: Final = 300
_CANCELLED: Final = "cancelled"

_log = logging.getLogger(__name__)


class Quota(Protocol):
    """The policy's day."""

    async def reserve(self, *, tokens: int, background: bool = False) -> Any:
        """Set aside one call and an upper bound of its tokens; of what is left to background work.

        Raises:
            errors.QuotaExhausted: there is not that much left today.
            errors.Unavailable: nobody can tell.
        """
        ...

    def draw(
        self, *, tokens: int, done: Callable[[Any], None], background: bool = False
    ) -> Callable[[], None] | None:
        """Tell `done`, now or soon, what `reserve` returns or raises.

        What is returned is to be called when nobody waits for it any more; None: it has been told.
        """
        ...

    def settle(self, reservation: Any, *, billed: bool, tokens: int) -> None:
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


@dataclass(slots=True, eq=False)
class Trace:
    """The trace of calls that one request starts and others may join; no spans without `request`.

    The span in `call` is that of the call under way.
    """

    request: tracing.RequestSpan | None
    joined: list[tracing.RequestSpan] = field(default_factory=list)
    call: tracing.CallSpan | None = None

    def start(
        self, request: tracing.RequestSpan, choice: failover.Choice, ask: provider.Ask
    ) -> tracing.CallSpan | None:
        """Start the span of a call, linked to the requests that have joined before it was sent."""
        self.call = request.call(
            provider=failover.label(choice), model=ask.model, url=choice.provider.base_url
        )
        if self.call is not None:
            for other in self.joined:
                self.call.link(other)
        return self.call

    def join(self, other: tracing.RequestSpan) -> None:
        """Link the span of another request that waits for the same call."""
        if self.request is None:
            return
        self.joined.append(other)
        if self.call is not None:
            self.call.link(other)


UNTRACED: Final = Trace(None)
"""The trace of all requests while tracing is off."""


Done = Callable[[provider.Vectors | Exception | None], None]
"""Is told what came of a call; None: it was not made, as it needs a task. Raises nothing."""


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
        self._repeated = repeated.Repeated()

    async def call(
        self,
        choice: failover.Choice,
        ask: provider.Ask,
        *,
        api_key: str | None,
        within_seconds: float,
        sent: list[Span],
        trace: Trace = UNTRACED,
        background: bool = False,
    ) -> provider.Vectors:
        """The vectors of `ask`, a part of the choice's own request; the call is added to `sent`.

        Raises:
            errors.ProviderFailed: there are none.
            errors.Rejected: the provider says that the request is at fault.
            errors.QuotaExhausted: the day is used up.
            errors.Unavailable: nobody can tell whether it is.
        """
        bound = sum(batches.most_tokens(ask))
        reservation = await self._quota.reserve(tokens=bound, background=background)
        call = self._call(choice, ask, reservation, bound=bound, sent=sent, trace=trace)
        try:
            answer = await self._upstream.send(call.request(api_key), within_seconds=within_seconds)
        except BaseException as failure:
            self._failed(call, failure)
            raise
        return self._read(call, answer, api_key)

    def begin(
        self,
        choice: failover.Choice,
        ask: provider.Ask,
        *,
        api_key: str | None,
        within_seconds: float,
        sent: list[Span],
        is_wanted: Callable[[], bool],
        done: Done,
        trace: Trace = UNTRACED,
        background: bool = False,
    ) -> Callable[[], None]:
        """Do what `call` does without a task, where the provider can be sent something at once.

        `done` is told, now or later, what `call` returns or raises. What is returned ends it, and
        `done` is not told any more. Where the quota is waited for, it is not made either if then
        it `is_wanted` no more.
        """
        bound = sum(batches.most_tokens(ask))
        until = self._clock() + within_seconds
        begun = _Begun(
            choice, ask, api_key, until=until, bound=bound, sent=sent, done=done, trace=trace
        )
        begun.leave = self._quota.draw(
            tokens=bound, done=functools.partial(self._drawn, begun), background=background
        )
        if begun.leave is not None:
            # Before that nobody can have wanted it.
            begun.is_wanted = is_wanted
        return functools.partial(self._end, begun)

    def _drawn(self, begun: "_Begun", outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            # Whoever asked for it in a task of his own was cancelled with the process.
            ended = errors.Unreachable(_CANCELLED, billed=False)
            begun.tell(outcome if isinstance(outcome, Exception) else ended)
            return
        left = begun.until - self._clock()
        if not begun.has_ended and left > 0 and begun.is_wanted():
            call = self._call(
                begun.choice,
                begun.ask,
                outcome,
                bound=begun.bound,
                sent=begun.sent,
                trace=begun.trace,
            )
            try:
                begun.abandon = self._upstream.begin(
                    call.request(begun.api_key),
                    within_seconds=left,
                    done=functools.partial(self._came, begun, call),
                )
            except Exception as fault:  # noqa: BLE001 - whatever it is, somebody waits for it
                self._failed(call, fault)
                begun.tell(fault)
                return
            if begun.abandon is not None:
                begun.call = call
                return
            begun.sent.pop()
        self._quota.settle(outcome, billed=False, tokens=0)
        begun.tell(None if left > 0 else errors.Unreachable("timeout", billed=False))

    def _came(
        self, begun: "_Begun", call: "_Call", said: provider.HttpAnswer | errors.Unreachable
    ) -> None:
        # Else it and what ends it would hold each other.
        begun.abandon = None
        found: provider.Vectors | Exception
        if isinstance(said, errors.Unreachable):
            found = said
            self._failed(call, said)
        else:
            try:
                found = self._read(call, said, begun.api_key)
            except Exception as failure:  # noqa: BLE001 - whatever it is, somebody waits for it
                found = failure
        begun.tell(found)

    def _end(self, begun: "_Begun") -> None:
        begun.has_ended = True
        if begun.leave is not None:
            begun.leave()
        if begun.call is not None and begun.abandon is not None:
            begun.abandon()
            self._over(begun.call, _CANCELLED, billed=True, tokens=begun.bound)

    def _call(
        self,
        choice: failover.Choice,
        ask: provider.Ask,
        reservation: Any,
        *,
        bound: int,
        sent: list[Span],
        trace: Trace,
    ) -> "_Call":
        started = self._clock()
        sent.append((started, None))
        span = None if trace.request is None else trace.start(trace.request, choice, ask)
        return _Call(choice, ask, reservation, bound, sent, len(sent) - 1, started, span)

    def _read(
        self, call: "_Call", answer: provider.HttpAnswer, api_key: str | None
    ) -> provider.Vectors:
        translation = providers.PROVIDERS[call.choice.provider.kind]
        try:
            if answer.status >= _LOWEST_REDIRECT:
                raise self._said(call, translation.failure(answer), api_key)  # noqa: TRY301 - as what reading it raises
            try:
                vectors = translation.vectors(call.ask, answer)
            except errors.Unusable as unusable:
                raise self._said(call, unusable, api_key) from None
        except Exception as failure:
            self._failed(call, failure)
            raise
        tokens = vectors.tokens
        if tokens is None:
            # The vectors are paid for; the quota must not be told less than that may be.
            tokens = call.bound
            vectors = vectors._replace(tokens=tokens, is_estimated=True)
        self._over(call, "ok", billed=True, tokens=tokens)
        self._observe.tokens(
            provider=failover.label(call.choice), model=call.ask.model, tokens=tokens
        )
        return vectors

    def _said(
        self, call: "_Call", failure: errors.ProviderFailed | errors.Rejected, api_key: str | None
    ) -> errors.ProviderFailed | errors.Rejected:
        """The failure, whose words hold neither our key nor the texts, and are logged."""
        said = failure.message if isinstance(failure, errors.Rejected) else failure.words
        said = words.without(said, key=api_key, texts=call.ask.items)
        if isinstance(failure, errors.Rejected):
            failure.message, reason = said, f"status {failure.status}"
            failure.code = failure.code and words.without(failure.code, key=api_key)
            failure.param = failure.param and words.without(failure.param, key=api_key)
        else:
            failure.words, reason = said, failure.reason
        name = call.choice.provider.name
        if said and self._repeated.is_news((name, reason), now=call.started):
            _log.warning("provider %s: %s: %s", name, reason, said[: words.MAX_LOGGED])
        return failure

    def _failed(self, call: "_Call", failure: BaseException) -> None:
        if isinstance(failure, errors.ProviderFailed):
            self._over(call, failure.reason, billed=failure.billed, tokens=call.bound)
        elif isinstance(failure, errors.Rejected):
            self._over(call, "rejected", billed=False, tokens=0)
        else:
            # Whatever cut it short: until we know better, a call that was sent has been billed.
            self._over(call, _CANCELLED, billed=True, tokens=call.bound)

    def _over(self, call: "_Call", outcome: str, *, billed: bool, tokens: int) -> None:
        ended = self._clock()
        call.sent[call.place] = call.started, ended
        if call.span is not None:
            call.span.end(outcome=outcome)
        self._observe.call(
            provider=failover.label(call.choice),
            model=call.ask.model,
            outcome=outcome,
            seconds=ended - call.started,
        )
        self._quota.settle(call.reservation, billed=billed, tokens=tokens if billed else 0)


class _Call(NamedTuple):
    """A call that has been reserved; its span stands at `place` of `sent`."""

    choice: failover.Choice
    ask: provider.Ask
    reservation: Any
    bound: int
    sent: list[Span]
    place: int
    started: float
    span: tracing.CallSpan | None

    def request(self, api_key: str | None) -> provider.HttpRequest:
        """What is sent."""
        chosen = self.choice.provider
        translation = providers.PROVIDERS[chosen.kind]
        made = translation.request(self.ask, base_url=chosen.base_url, api_key=api_key)
        if self.span is None:
            return made
        return made._replace(headers={**made.headers, **self.span.headers})


@dataclass(slots=True)
class _Begun:
    """A call without a task: drawn for, or sent once there is a `call`."""

    choice: failover.Choice
    ask: provider.Ask
    api_key: str | None = field(repr=False)
    _: KW_ONLY
    until: float
    bound: int
    sent: list[Span]
    done: Done
    trace: Trace
    is_wanted: Callable[[], bool] = lambda: True
    leave: Callable[[], None] | None = None
    call: _Call | None = None
    abandon: Callable[[], None] | None = None
    has_ended: bool = False

    def tell(self, came: provider.Vectors | Exception | None) -> None:
        """Say what came of it, to who still waits."""
        if not self.has_ended:
            self.done(came)
