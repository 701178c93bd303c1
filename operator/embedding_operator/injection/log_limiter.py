"""Log lines of what others can cause as often as they like: one a minute for each reason."""

import logging
import time
from collections.abc import Callable
from typing import Final

PERIOD_SECONDS: Final = 60.0


class LogLimiter:
    """Tells of an error with its stack trace, and of those like it with their number.

    That number is told with the next one: metrics count each as it comes. For one thread.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def error(self, reason: str, what: str) -> None:
        """The exception that is handled now is of this reason, of which there are a few."""
        now = self._clock()
        if now - self._told_at.get(reason, float("-inf")) < PERIOD_SECONDS:
            self._untold[reason] = self._untold.get(reason, 0) + 1
            return
        self._told_at[reason] = now
        untold = self._untold.pop(reason, 0)
        more = f" ({untold} more like it since the last line)" if untold else ""
        self._log.error("%s: %s%s", reason, what, more, exc_info=True)
