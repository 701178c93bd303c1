"""Failures in a row, and when it is worth while to try again. Pure, under the caller's clock."""

import random
from dataclasses import dataclass, field

from embedding_operator.vault.failures import Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double from the first to the last."""

    first_seconds: float
    last_seconds: float

    def step_seconds(self, failures: int) -> float:
        """The longest wait after so many failures in a row."""
        doubled: float = self.first_seconds * 2.0 ** min(failures, 16)
        return min(self.last_seconds, doubled)


@dataclass(slots=True)
class Trouble:
    """What is wrong with a server, an identity or a path, and until when nobody need ask."""

    failures: int = 0
    failure: Unreadable | None = None
    until: float = field(default=float("-inf"))
    _noted_at: float = field(default=float("-inf"))

    def holds(self, now: float) -> Unreadable | None:
        """The failure that a look would only find again; None where it is worth while."""
        return self.failure if now < self.until else None

    def probe(self, until: float) -> None:
        """Somebody finds out whether it lasts, which others wait for until then at most."""
        if self.failure is not None:
            self.until = until

    def note(self, failure: Unreadable, *, started_at: float, now: float, backoff: Backoff) -> None:
        """A look that was started at this time failed.

        Of looks that ran side by side the first counts: the others met the same failure.
        """
        self.failure = failure
        if started_at < self._noted_at:
            return
        # Jitter, so that what failed together does not come back together.
        part = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        wait_seconds = backoff.step_seconds(self.failures) * part
        # What is asked for may be long, and a path is never looked at later than is promised.
        asked_seconds = min(failure.retry_after_seconds, backoff.last_seconds)
        self.until = now + max(wait_seconds, asked_seconds)
        self.failures += 1
        self._noted_at = now

    def end(self) -> bool:
        """It is over; whether there was any."""
        was = self.failure is not None
        self.failures, self.failure, self.until = 0, None, float("-inf")
        return was
