"""Saying the same thing once a minute: a fault that lasts would fill a log."""

from collections.abc import Hashable
from typing import Final

SECONDS: Final = 60.0
MOST: Final = 256
"""Things that are remembered; beyond them, all are forgotten and said again."""


class Repeated:
    """What has been said lately."""

    def __init__(self) -> None:
        self._said_at: dict[Hashable, float] = {}

    def is_news(self, thing: Hashable, *, now: float) -> bool:
        """Whether this has not been said for SECONDS; then it counts as said now."""
        before = self._said_at.get(thing)
        if before is not None and now - before < SECONDS:
            return False
        if len(self._said_at) >= MOST:
            self._said_at.clear()
        self._said_at[thing] = now
        return True
