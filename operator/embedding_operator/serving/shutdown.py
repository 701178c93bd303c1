"""The end of the process: on SIGTERM, and within a bounded time, whatever still hangs by then."""

import logging
import os
import threading
from typing import Final

_LOG = logging.getLogger(__name__)

GRACE_SECONDS: Final = 8.0
"""Kubernetes gives 30 s; nobody waits for the rest of it."""
_FORCED_EXIT: Final = 1


def end_in_time() -> None:
    """From now on the process has `GRACE_SECONDS` to end by itself."""
    timer = threading.Timer(GRACE_SECONDS, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    hanging = [it.name for it in threading.enumerate() if it is not threading.current_thread()]
    _LOG.warning("ended after %g s with threads that hang: %s", GRACE_SECONDS, ", ".join(hanging))
    # Not sys.exit, which waits for threads.
    os._exit(_FORCED_EXIT)
