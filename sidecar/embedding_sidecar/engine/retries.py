"""A request's way through its choices: who is asked next, after which wait, and when it is over.

Everybody is asked once, in the policy's order, before anybody is asked again, and nobody is waited
for while another one may answer now. A provider that is left alone comes last, and one by one.
Waits are full jitter: a random part of a time that doubles, so that those who failed together do
not come back together. Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from embedding_sidecar import errors
from embedding_sidecar.engine import breaker, failover

MOST_TRIES: Final = 3
"""Of one provider by one request; OpenAI's SDKs try as often."""
BACKOFF_SECONDS: Final = 0.5
MOST_WAIT_SECONDS: Final = 8.0
"""The first and the longest wait, as in OpenAI's SDKs; who asks for a longer one is given up."""
PROBE_SECONDS: Final = 5.0
"""How long the only one who could answer is waited for while another request finds out whether it
is back."""
LOOK_SECONDS: Final = 0.05
"""The shortest time until it is looked again."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask nobody for so many seconds."""

    seconds: float


@dataclass(slots=True)
class _Leg:
    choice: failover.Choice
    tries: int = 0
    ready_at: float = float("-inf")
    rests: bool = False
    blocked_at: float | None = None
    failure: failover.Failure | None = None
    over: bool = False

    @property
    def name(self) -> str:
        return self.choice.provider.name


class Course:
    """The state of one request.

    Args:
        choices: the first choice first.
        known: what is known of providers.
        ends_at: when the caller gets an answer at the latest; by the clock of every `now`.
        share: a random number of 0 to 1.
    """

    def __init__(
        self,
        choices: Sequence[failover.Choice],
        *,
        known: breaker.Breaker,
        ends_at: float,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._choices = choices
        self._legs: list[_Leg] = []
        """One for each choice, as soon as anything is known that speaks against one."""
        self._known = known
        self._ends_at = ends_at
        self._share = share

    def next(self, *, now: float, held: str | None) -> failover.Choice | Wait | None:
        """Whom to ask now, or how long to wait before asking this again; None: it is over.

        Args:
            now: seconds.
            held: the space in which a part of the answer has been paid for; others come after it.
        """
        if now >= self._ends_at:
            return None
        if not self._legs:
            if not self._known.anything:
                return self._choices[0]
            self._legs = [_Leg(choice) for choice in self._choices]
        for leg in self._legs:
            self._learn(leg, now)
        return self._among(held, now) or self._among(None, now)

    def patience(self, choice: failover.Choice, *, now: float) -> float:
        """Seconds this choice may take: all that is left, or half where another one is due."""
        left = self._ends_at - now
        if self._legs:
            this = self._leg(choice)
            due = any(
                not leg.over and leg is not this and leg.tries <= this.tries for leg in self._legs
            )
        else:
            due = len(self._choices) > 1
        return left / 2 if due else left

    def is_first(self, choice: failover.Choice) -> bool:
        """Whether this is the provider the caller meant."""
        return choice is self._choices[0]

    def failed(self, choice: failover.Choice, failure: failover.Failure, *, now: float) -> None:
        """The choice was asked, and did not give all that was missing."""
        self._legs = self._legs or [_Leg(it) for it in self._choices]
        leg = self._leg(choice)
        leg.tries += 1
        leg.failure = failure
        leg.over = (
            leg.tries >= MOST_TRIES
            or isinstance(failure, errors.Unusable)
            or not isinstance(failure, errors.Exhausted | errors.Unreachable)
        )
        wait = BACKOFF_SECONDS * 2 ** (leg.tries - 1) * self._share()
        if isinstance(failure, errors.ProviderFailed):
            wait += failure.retry_after_seconds or 0.0
        leg.ready_at = now + wait

    def failures(self) -> dict[str, failover.Failure]:
        """Why nobody answered, by provider, in order."""
        return {leg.name: leg.failure for leg in self._legs if leg.failure is not None}

    def _leg(self, choice: failover.Choice) -> _Leg:
        return next(it for it in self._legs if it.choice is choice)

    def _learn(self, leg: _Leg, now: float) -> None:
        """Take over what is known by now of the provider."""
        rest = self._known.rest(leg.name, now=now)
        leg.rests = rest is not None and not rest.asked_for
        if rest is None:
            leg.blocked_at = None
            return
        leg.over = leg.over or rest.certain
        leg.failure = rest.told(now) if leg.failure is None else leg.failure
        if rest.asked_for and rest.until is not None and leg.ready_at < rest.until:
            leg.ready_at = rest.until + BACKOFF_SECONDS * self._share()

    def _among(self, held: str | None, now: float) -> failover.Choice | Wait | None:
        legs = [it for it in self._legs if not it.over and held in (None, it.choice.space)]
        ready = [it for it in legs if it.ready_at <= now]
        able = [it for it in ready if not it.rests] or [
            it for it in ready if not self._known.probed(it.name)
        ]
        if able:
            return min(able, key=lambda leg: leg.tries).choice
        waits = [self._wait(leg, now) for leg in legs]
        soonest = min((it for it in waits if it is not None), default=None)
        return None if soonest is None else Wait(soonest)

    def _wait(self, leg: _Leg, now: float) -> float | None:
        """Seconds until it makes sense to look again; None where it does not any more."""
        wait = leg.ready_at - now
        if wait <= 0:  # ready, and somebody else is finding out
            leg.blocked_at = now if leg.blocked_at is None else leg.blocked_at
            if now - leg.blocked_at >= PROBE_SECONDS:
                return None
            wait = LOOK_SECONDS + BACKOFF_SECONDS * self._share()
        return wait if wait <= MOST_WAIT_SECONDS and now + wait < self._ends_at else None
