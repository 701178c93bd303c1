"""Limit log lines that others can cause: one a minute for each reason."""

import logging
import time
from collections.abc import Callable
from typing import Final

PERIOD_SECONDS: Final = 60.0


class LogLimiter:
    """Logs the first error of a reason with its stack trace, and later the number of others.

    The next line has that number; metrics count each at once. For one thread.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def error(self, reason: str, what: str) -> None:
        """Log the exception being handled under this reason; reasons must be few."""
        now = self._clock()
        if now - self._told_at.get(reason, float("-inf")) < PERIOD_SECONDS:
            self._untold[reason] = self._untold.get(reason, 0) + 1
            return
        self._told_at[reason] = now
        untold = self._untold.pop(reason, 0)
        more = f" ({untold} more like it since the last line)" if untold else ""
        self._log.error("%s: %s%s", reason, what, more, exc_info=True)
