"""End the process within a bounded time after SIGTERM, even with hanging threads."""

import logging
import os
import threading
from typing import Final

_LOG = logging.getLogger(__name__)

GRACE_SECONDS: Final = 8.0
"""Shorter than the 30 s of Kubernetes, so that nothing waits for its SIGKILL."""
_FORCED_EXIT: Final = 1


def end_in_time() -> None:
    """Give the process `GRACE_SECONDS` to end by itself."""
    timer = threading.Timer(GRACE_SECONDS, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    hanging = [it.name for it in threading.enumerate() if it is not threading.current_thread()]
    _LOG.warning("ended after %g s with threads that hang: %s", GRACE_SECONDS, ", ".join(hanging))
    # Not sys.exit, which waits for threads.
    os._exit(_FORCED_EXIT)
