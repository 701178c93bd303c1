"""Rate limit of log lines: the same message once a minute, so that no lasting fault fills a log."""

from collections.abc import Hashable
from typing import Final

SECONDS: Final = 60.0
MOST: Final = 256
"""Messages that are remembered; at one more, all are forgotten."""


class Repeated:
    """The messages of the last minute."""

    def __init__(self) -> None:
        self._said_at: dict[Hashable, float] = {}

    def is_news(self, thing: Hashable, *, now: float) -> bool:
        """True if this was not logged for SECONDS; then it counts as logged now."""
        before = self._said_at.get(thing)
        if before is not None and now - before < SECONDS:
            return False
        if len(self._said_at) >= MOST:
            self._said_at.clear()
        self._said_at[thing] = now
        return True
