"""Backoff after failures in a row. Pure, under the caller's clock."""

import random
from dataclasses import dataclass, field

from embedding_operator.vault.failures import VaultReadError


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """Delays that double from the first to the last."""

    first_seconds: float
    last_seconds: float

    def delay_seconds(self, failures: int) -> float:
        """The longest delay after so many failures in a row."""
        doubled: float = self.first_seconds * 2.0 ** min(failures, 16)
        return min(self.last_seconds, doubled)


@dataclass(slots=True)
class Backoff:
    """The failure of a server, an identity or a path, and until when nobody need ask."""

    failures: int = 0
    failure: VaultReadError | None = None
    until: float = field(default=float("-inf"))
    _recorded_at: float = field(default=float("-inf"))

    def holds(self, now: float) -> VaultReadError | None:
        """The failure that a read would repeat now; None where a read is worth its request."""
        return self.failure if now < self.until else None

    def probe(self, until: float) -> None:
        """One read finds out whether the failure lasts; others wait for it until then at most."""
        if self.failure is not None:
            self.until = until

    def record(
        self, failure: VaultReadError, *, started_at: float, now: float, delays: Exponential
    ) -> None:
        """Record the failure of a read; concurrent reads count once, as they meet the same one."""
        self.failure = failure
        if started_at < self._recorded_at:
            return
        # Jitter: paths that failed together shall not come back together.
        part = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        wait_seconds = delays.delay_seconds(self.failures) * part
        # Vault may ask for a long wait, and a path is never read later than is promised.
        asked_seconds = min(failure.retry_after_seconds, delays.last_seconds)
        self.until = now + max(wait_seconds, asked_seconds)
        self.failures += 1
        self._recorded_at = now

    def end(self) -> bool:
        """Forget the failure; False where there was none."""
        was = self.failure is not None
        self.failures, self.failure, self.until = 0, None, float("-inf")
        return was
