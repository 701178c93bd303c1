"""One call to a provider: within the quota, with the API key that it takes, and counted.

A call is one HTTP request, or another one after it: with the previous key where the provider
refuses the key in force, with a new access token where it refuses the old one, and without
`encoding_format` where it refuses that field.
"""

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, Final

from embedding_sidecar import errors, providers
from embedding_sidecar.engine import batches, breaker, failover, inflight
from embedding_sidecar.engine.caller import Caller
from embedding_sidecar.identity import access_tokens
from embedding_sidecar.quota.ceilings import WithCeiling
from embedding_sidecar.quota.quota import Quota
from embedding_sidecar.rate import learned
from embedding_sidecar.rate.rates import Passage, Permit, ProviderRate
from embedding_sidecar.telemetry import tracing
from embedding_sidecar.translation import error_words, http_status, provider_api, vector_decoder

FOR_NOBODY: Final = errors.Unreachable("abandoned", billed=False)
"""The failure of a call that is not made because no request waits for it any more."""
TOO_LATE: Final = errors.Unreachable("timeout", billed=False)
"""The failure of a call that is not made because its time is up before it begins."""
_CANCELLED: Final = "cancelled"
IDENTITY_DENIED: Final = "identity_denied"
"""The reason where the provider refuses a new access token: the identity lacks a role."""
_OK: Final = "ok"
LEAST_SECONDS: Final = 1.0
"""A call that fails with less time than that, as it waited for limits per minute, says nothing of
the provider."""
_FORM_REFUSED: Final = frozenset({400, 422})
_OF_THE_ENCODING: Final = ("encoding_format", "embedding_type", "base64")

_log = logging.getLogger(__name__)

Done = Callable[[vector_decoder.Vectors | Exception], None]
"""Receives the result of a call; raises nothing."""


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """A call under way, as a part of an in-flight call, and its present HTTP request.

    `done` receives, now or later, and by `until` at the latest, the vectors or the failure:
    errors.ProviderFailed, errors.Refused, or a fault of the program. The in-flight call's `cancel`
    ends the call, and `done` is not called any more.
    """

    by: Caller
    candidate: failover.Candidate
    ask: provider_api.Ask
    inflight_call: inflight.InflightCall
    _: KW_ONLY
    until: float
    background: bool
    rate: ProviderRate | None
    waits_until: float
    done: Done
    quota: Quota | WithCeiling = field(init=False)
    price: int = field(init=False)
    """Nano-dollars of a million tokens; 0 where no limit is in money."""
    passage: Passage | Permit | None = None
    """Its draws from limits per minute, until it has ended."""
    is_short: bool = False
    """True if the wait left it little time."""
    bound: int = 0
    """The most tokens that the request may be billed for."""
    reservation: Any = None
    started: float | None = None
    """Time at which the request under way was sent; None without one."""
    span: tracing.CallSpan | None = None
    cancel_step: Callable[[], object] | None = None
    has_ended: bool = False
    key: str | None = None
    fallback: str | None = None
    """The previous key, until it has been tried."""
    by_previous: bool = False
    is_forbidden: bool = False
    """True if the key in force got a 403 that may be about the text."""
    is_newly_plain: bool = False
    is_renewed: bool = False
    """True if the provider has refused an access token, and a new one was asked for."""

    def start(self, *, now: float) -> None:
        """Make the first request."""
        by, name = self.by, self.candidate.provider.name
        self.quota, self.price = by.quota_of(name), by.price_of(name)
        if by.states.is_plain(name, now=now):
            self.ask = replace(self.ask, plain=True)
        self.inflight_call.cancel = self._cancel
        self._choose_key(now)
        self._draw()

    def _choose_key(self, now: float) -> None:
        """Take the key in force, or the previous one while the provider refuses that."""
        name = self.candidate.provider.name
        key = self.by.keys.get(name)
        if key is None:
            source = self.by.tokens.get(name)
            self.key = None if source is None else source.token
            return
        self.key, self.fallback, self.by_previous = key.current, key.fallback(now=now), False
        if self.fallback is not None and now < self.by.states.refused.get(name, now):
            self._fall_back()

    def _fall_back(self) -> None:
        self.key, self.fallback, self.by_previous = self.fallback, None, True

    def _draw(self) -> None:
        self.bound = sum(batches.most_tokens(self.ask))
        drawn = partial(self._step, self._send if self.rate is None else self._wait)
        leave = self.quota.draw(
            tokens=self.bound, done=drawn, background=self.background, price=self.price
        )
        if leave is not None:
            self.cancel_step = leave

    def _step(self, step: Callable[[Any], None], said: Any) -> None:
        """Run a step; its callers are sockets and the event loop, which report to no request."""
        try:
            step(said)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a request waits for it
            self._tell(fault)

    def _wait(self, outcome: Any) -> None:
        """Wait for the limits per minute, if the quota allows the request."""
        if isinstance(outcome, BaseException) or self.has_ended or self.rate is None:
            self._send(outcome)
            return
        if not self.background:
            permit = self.rate.take(tokens=self.bound)
            if permit is not None:
                self.passage = permit
                self.by.observe.rate_waited(self.candidate.provider.name, seconds=0.0)
                self._send(outcome)
                return
        self.reservation = outcome
        self.passage = passage = self.rate.draw(
            tokens=self.bound,
            background=self.background,
            waits_until=self.waits_until,
            is_wanted=self._is_wanted,
            observed=self.by.observe.quota_observed,
            told=partial(self._step, self._pass),
        )
        self.inflight_call.hindrance = passage.refusal
        self.cancel_step = self._leave

    def _is_wanted(self) -> bool:
        return bool(self.inflight_call.waiting)

    def _leave(self) -> None:
        """Stop waiting for the limits per minute, or do not send what they allowed."""
        self.inflight_call.hindrance = None
        passage, self.passage = self.passage, None
        if passage is not None:
            passage.leave()
        self.quota.settle(self.reservation, billed=False, tokens=0)

    def _pass(self, outcome: Any) -> None:
        """Send the request, if the limits per minute allow it."""
        name, passage = self.candidate.provider.name, self.passage
        if passage is None:
            return
        if isinstance(outcome, BaseException):
            self.cancel_step = None
            self._leave()
            if failover.is_own_rate(outcome):
                self.by.observe.rate_refused(name)
            ended = errors.Unreachable(_CANCELLED, billed=False)
            failure = outcome if isinstance(outcome, Exception) else ended
            self._tell(failure if self._is_wanted() else FOR_NOBODY)
            return
        self.inflight_call.hindrance = None
        self.by.observe.rate_waited(name, seconds=passage.waited_seconds)
        now = self.by.clock()
        self.inflight_call.waits += ((now - passage.waited_seconds, now),)
        # Its own time begins now.
        self.until = min(self.until + passage.waited_seconds, self.inflight_call.ends_at)
        self.is_short = self.until - now < LEAST_SECONDS
        self._send(self.reservation)

    def _send(self, outcome: Any) -> None:
        """Send the request, if the quota allows it."""
        self.cancel_step = None
        if isinstance(outcome, BaseException):
            # The task that asked for it was cancelled with the process.
            ended = errors.Unreachable(_CANCELLED, billed=False)
            self._tell(outcome if isinstance(outcome, Exception) else ended)
            return
        now = self.by.clock()
        left = self.until - now
        if self.has_ended or left <= 0 or not self.inflight_call.waiting:
            self.reservation = outcome
            self._leave()
            self._tell(FOR_NOBODY if left > 0 else TOO_LATE)
            return
        self.reservation, self.started = outcome, now
        self.inflight_call.sent.append((now, None))
        if outcome.beyond:
            self.inflight_call.beyond |= frozenset(outcome.beyond)
        try:
            self.cancel_step = self.by.upstream.start(
                self._request(), within_seconds=left, done=partial(self._step, self._take)
            )
        except Exception as fault:  # noqa: BLE001 - whatever it is, a request waits for it
            self._fail(fault)

    def _request(self) -> provider_api.HttpRequest:
        chosen = self.candidate.provider
        made = providers.PROVIDERS[chosen.kind].request(
            self.ask, to=chosen, credential=self.key, now=self.by.wall_clock()
        )
        if self.inflight_call.trace is None:
            return made
        self.span = self.inflight_call.trace.start(
            provider=self.candidate.label, model=self.ask.model, url=chosen.base_url
        )
        if self.span is None:
            return made
        return made._replace(headers={**made.headers, **self.span.headers})

    def _take(self, said: provider_api.HttpAnswer | Exception) -> None:
        """Read the answer, if one came."""
        if isinstance(said, Exception):
            self._fail(said)
            return
        seconds = learned.used_up_seconds(said)
        if seconds is not None:
            name = self.candidate.provider.name
            self.by.states.used_up(name, seconds, clock=self.by.clock)
        try:
            vectors = self._read(said)
        except Exception as failure:  # noqa: BLE001 - whatever it is, a request waits for it
            self._fail(failure)
            return
        tokens = vectors.tokens
        if tokens is None:
            # The vectors are paid for; the quota must not count less than they may have cost.
            tokens = self.bound
            vectors = vectors._replace(tokens=tokens, is_estimated=True)
        self._end(_OK, billed=True, tokens=tokens)
        self.by.observe.tokens(provider=self.candidate.label, model=self.ask.model, tokens=tokens)
        self._succeed(vectors)

    def _read(self, answer: provider_api.HttpAnswer) -> vector_decoder.Vectors:
        translation = providers.PROVIDERS[self.candidate.provider.kind]
        if answer.reader is None:
            raise self._said(translation.failure(answer))
        try:
            return translation.vectors(answer)
        except errors.Unusable as unusable:
            raise self._said(unusable) from None

    def _said(
        self, failure: errors.ProviderFailed | errors.Rejected
    ) -> errors.ProviderFailed | errors.Rejected:
        """The failure, without our key and the texts in its words, which are logged."""
        said = failure.message if isinstance(failure, errors.Rejected) else failure.words
        said = error_words.without(said, key=self.key, texts=self.ask.items)
        if isinstance(failure, errors.Rejected):
            failure.message, reason = said, f"status {failure.status}"
            failure.code = failure.code and error_words.without(failure.code, key=self.key)
            failure.param = failure.param and error_words.without(failure.param, key=self.key)
        else:
            failure.words, reason = said, failure.reason
        name = self.candidate.provider.name
        if said and self.by.repeated.is_news((name, reason), now=self.by.clock()):
            _log.warning("provider %s: %s: %s", name, reason, said[: error_words.MAX_LOGGED])
        return failure

    def _succeed(self, vectors: vector_decoder.Vectors) -> None:
        """Record which key and form were accepted, and report the vectors."""
        name, states = self.candidate.provider.name, self.by.states
        if self.is_forbidden:
            # The previous key gets an answer for the same text.
            self._refuse_key()
            self.by.observe.error("misconfigured", self.candidate.label)
        elif not self.by_previous:
            states.refused.pop(name, None)
        if self.is_newly_plain:
            states.takes_no_encoding(name, now=self.by.clock())
        self._tell(vectors)

    def _fail(self, failure: Exception) -> None:
        """Count the request, and make the next one, or report the failure."""
        if isinstance(failure, errors.ProviderFailed):
            self._end(failure.reason, billed=failure.billed, tokens=self.bound)
        elif isinstance(failure, errors.Rejected):
            self._end("rejected", billed=False, tokens=0)
        else:
            # Until more is known, a request that was sent has been billed.
            self._end(_CANCELLED, billed=True, tokens=self.bound)
        if self.is_short and isinstance(failure, errors.Unreachable):
            # The provider is not at fault.
            failure = errors.RateLimited(errors.OWN_RATE, retry_after_seconds=LEAST_SECONDS)
        source = self.by.tokens.get(self.candidate.provider.name)
        if source is not None and failover.is_key_refused(failure):
            self._deny(source, failure)
        elif self._is_tried_again(failure):
            self._draw()
        else:
            self._tell(failure)

    def _deny(self, source: access_tokens.TokenSource, failure: errors.ConfigurationError) -> None:
        """The provider refuses the access token: it is renewed once, and the call is made again."""
        refused = self.key or ""
        denied = errors.ConfigurationError(IDENTITY_DENIED)
        denied.words = failure.words

        def renewed() -> None:
            self.cancel_step = None
            self.key = source.token
            if self.key in (None, refused):
                self._tell(denied)
            else:
                self._draw()

        if self.is_renewed:
            self._tell(denied)
        else:
            self.is_renewed = True
            self.cancel_step = source.renew(
                refused, done=partial(self._step, lambda _: renewed(), None)
            )

    def _is_tried_again(self, failure: Exception) -> bool:
        """True if another key or form may help, which is then set."""
        if isinstance(failure, errors.Rejected):
            if self.ask.plain or not _is_about_encoding(failure):
                return False
            self.ask = replace(self.ask, plain=True)
            self.is_newly_plain, self.is_forbidden = True, False
            self._choose_key(self.by.clock())
            return True
        if self.by_previous:
            return False
        is_refused = failover.is_key_refused(failure)
        # A 403 that is not in the provider's own form: the previous key's answer shows the cause.
        self.is_forbidden = isinstance(failure, errors.Declined) and (
            failure.reason == http_status.FORBIDDEN
        )
        if is_refused:
            self._refuse_key()
        if self.fallback is None or not (is_refused or self.is_forbidden):
            return False
        if is_refused:
            self.by.observe.error("misconfigured", self.candidate.label)
        self._fall_back()
        return True

    def _refuse_key(self) -> None:
        until = self.by.clock() + breaker.OPEN_SECONDS
        self.by.states.refused[self.candidate.provider.name] = until

    def _cancel(self) -> None:
        self.has_ended = True
        if self.cancel_step is not None:
            self.cancel_step()
            self.cancel_step = None
        if self.started is not None:
            self._end(_CANCELLED, billed=True, tokens=self.bound)

    def _end(self, outcome: str, *, billed: bool, tokens: int) -> None:
        """The request under way has ended."""
        # The callback refers to this call: a cycle.
        self.cancel_step = None
        started, self.started = self.started, None
        assert started is not None  # noqa: S101 - only a request that was sent ends
        ended = self.by.clock()
        self.inflight_call.sent[-1] = started, ended
        tokens_billed = tokens if billed else 0
        self.quota.settle(self.reservation, billed=billed, tokens=tokens_billed, price=self.price)
        if self.passage is not None:
            self._end_passage(self.passage, tokens=tokens if outcome == _OK else self.bound)
        if self.span is not None:
            self.span.end(outcome=outcome)
        of, model = self.candidate.label, self.ask.model
        self.by.observe.call(provider=of, model=model, outcome=outcome, seconds=ended - started)

    def _end_passage(self, passage: Passage | Permit, *, tokens: int) -> None:
        self.passage = None
        # Failures count in a provider's own limits, too: only an answer gives tokens back.
        if beyond := passage.beyond:
            self.inflight_call.beyond |= {f"minute.{unit}" for unit in beyond}
        passage.settle(tokens=tokens)

    def _tell(self, came: vector_decoder.Vectors | Exception) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.done(came)


def _is_about_encoding(rejected: errors.Rejected) -> bool:
    """True if its words blame the encoding's field, which this sidecar sets; forms differ."""
    said = f"{rejected.param} {rejected.message}"
    return rejected.status in _FORM_REFUSED and any(it in said for it in _OF_THE_ENCODING)
