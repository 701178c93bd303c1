"""A request's schedule of its candidates: the next one, the wait before it, and the end.

Each candidate is asked once, in the policy's order, before any is asked again, and no wait begins
while another one may answer now. Providers in cool-down come last, and one by one. Waits are full
jitter: a random part of a time that doubles, so that requests that failed together do not retry
together. Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from embedding_sidecar import errors
from embedding_sidecar.engine import breaker, failover

MOST_TRIES: Final = 3
"""Calls to one provider by one request; OpenAI's SDKs try as often."""
BACKOFF_SECONDS: Final = 0.5
MOST_WAIT_SECONDS: Final = 8.0
"""The first and the longest wait, as in OpenAI's SDKs; a provider with a longer one is given up."""
PROBE_SECONDS: Final = 5.0
"""The longest wait for the only candidate that could answer, while another request probes it."""
LOOK_SECONDS: Final = 0.05
"""The shortest time until the next check."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask no provider for so many seconds."""

    seconds: float


class Time(NamedTuple):
    """The time that a candidate may take: its calls end by `ends_at`.

    A call waits for limits per minute until `waits_until`; then it may end by `ends_late`.
    """

    ends_at: float
    waits_until: float
    ends_late: float


@dataclass(slots=True)
class _Entry:
    candidate: failover.Candidate
    tries: int = 0
    ready_at: float = float("-inf")
    cools_down: bool = False
    blocked_at: float | None = None
    failure: failover.Failure | None = None
    over: bool = False
    full_until: float = float("-inf")
    """Until then the policy's own limit of a minute lets no call to it go."""


class RetrySchedule:
    """The state of one request.

    `ends_at` is the latest time of the caller's answer, in seconds by the clock of every
    `now`. `share` is a random number of 0 to 1.
    """

    def __init__(
        self,
        candidates: Sequence[failover.Candidate],
        *,
        known: breaker.Breaker,
        ends_at: float,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._candidates = candidates
        self._entries: list[_Entry] = []
        """One for each candidate, as soon as any failure of a provider is known."""
        self._known = known
        self._ends_at = ends_at
        self._share = share

    def next(self, *, now: float, held: str | None) -> failover.Candidate | Wait | None:
        """The candidate to ask now, or the wait until the next call of this; None: it is over.

        `held` is the space in which a part of the answer has been paid for; others come after.
        """
        if now >= self._ends_at:
            return None
        if not self._entries:
            if not self._known.anything:
                return self._candidates[0]
            self._entries = [_Entry(candidate) for candidate in self._candidates]
        for entry in self._entries:
            self._learn(entry, now)
        return self._among(held, now) or self._among(None, now)

    def time(self, candidate: failover.Candidate, *, now: float) -> Time:
        """The time of this candidate: all that is left, or half of it where another one is due.

        A limit per minute is waited for in that half at most; then again half of the rest is left.
        """
        end = self._ends_at
        if self._entries:
            this = self._entry(candidate)
            # Asked again although it is full: no other one can answer.
            due = this.full_until <= now and any(
                not entry.over and entry is not this and entry.tries <= this.tries
                for entry in self._entries
            )
        else:
            due = len(self._candidates) > 1
        if not due:
            return Time(end, math.inf, end)
        half = (now + end) / 2
        return Time(half, half, (half + end) / 2)

    def is_first(self, candidate: failover.Candidate) -> bool:
        """True if this is the provider that the caller meant."""
        return candidate is self._candidates[0]

    def failed(
        self, candidate: failover.Candidate, failure: failover.Failure, *, now: float
    ) -> None:
        """The candidate was asked, and did not complete the answer."""
        self._entries = self._entries or [_Entry(it) for it in self._candidates]
        entry = self._entry(candidate)
        entry.failure = failure
        if failover.is_own_rate(failure):
            # It was not asked.
            entry.full_until = now + (failure.retry_after_seconds or 0.0)
            return
        entry.tries += 1
        entry.over = (
            entry.tries >= MOST_TRIES
            or isinstance(failure, errors.Unusable)
            or not isinstance(failure, errors.RateLimited | errors.Unreachable)
        )
        wait = BACKOFF_SECONDS * 2 ** (entry.tries - 1) * self._share()
        if isinstance(failure, errors.ProviderFailed):
            wait += failure.retry_after_seconds or 0.0
        entry.ready_at = now + wait

    def failures(self) -> dict[str, failover.Failure]:
        """The last failure of each provider, in order."""
        return {
            it.candidate.provider.name: it.failure for it in self._entries if it.failure is not None
        }

    def _entry(self, candidate: failover.Candidate) -> _Entry:
        return next(it for it in self._entries if it.candidate is candidate)

    def _learn(self, entry: _Entry, now: float) -> None:
        """Update an entry by the present cool-down of its provider."""
        cool_down = self._known.cool_down(entry.candidate.provider.name, now=now)
        entry.cools_down = cool_down is not None and not cool_down.asked_for
        if cool_down is None:
            entry.blocked_at = None
            return
        entry.over = entry.over or cool_down.certain
        entry.failure = cool_down.as_error(now) if entry.failure is None else entry.failure
        if cool_down.asked_for and cool_down.until is not None and entry.ready_at < cool_down.until:
            entry.ready_at = cool_down.until + BACKOFF_SECONDS * self._share()

    def _among(self, held: str | None, now: float) -> failover.Candidate | Wait | None:
        entries = [it for it in self._entries if not it.over and held in (None, it.candidate.space)]
        ready = [it for it in entries if it.ready_at <= now]
        able = [it for it in ready if not it.cools_down] or [
            it for it in ready if not self._known.probed(it.candidate.provider.name)
        ]
        if able:
            return min(able, key=lambda entry: (max(entry.full_until, now), entry.tries)).candidate
        waits = [self._wait(entry, now) for entry in entries]
        soonest = min((it for it in waits if it is not None), default=None)
        return None if soonest is None else Wait(soonest)

    def _wait(self, entry: _Entry, now: float) -> float | None:
        """Seconds until the next check makes sense; None where none does any more."""
        wait = entry.ready_at - now
        if wait <= 0:  # ready, and another request is probing it
            entry.blocked_at = now if entry.blocked_at is None else entry.blocked_at
            if now - entry.blocked_at >= PROBE_SECONDS:
                return None
            wait = LOOK_SECONDS + BACKOFF_SECONDS * self._share()
        return wait if wait <= MOST_WAIT_SECONDS and now + wait < self._ends_at else None
