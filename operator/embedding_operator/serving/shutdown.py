"""The end of the process: work ends, reviews go on for a while, and nothing that hangs prevents it.

After SIGTERM the API server may ask this replica for as long as the Service names it; the removal
takes some time to arrive everywhere. So the webhook answers for LINGER_SECONDS more, and each
answer closes its connection.
"""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

_LOG = logging.getLogger(__name__)

GRACE_SECONDS: Final = 12.0
"""Shorter than the 30 s of Kubernetes, so that nothing waits for its SIGKILL."""
LINGER_SECONDS: Final = 5.0
WORK_SECONDS: Final = 8.0
"""The time for the work under way to end before the Lease is given back."""
_FORCED_EXIT: Final = 1


class Ending:
    """The end of the process, begun once, by a signal or by a fault.

    `finish` ends the work; it may take WORK_SECONDS and some. `over` is done when the process is to
    end by itself; `code` is its exit code then.
    """

    def __init__(self, finish: Callable[[], None]) -> None:
        self._finish = finish
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self.over: Future[None] = Future()
        self.code = 0

    @property
    def has_begun(self) -> bool:
        """True from the signal or the fault on."""
        return self._begun.is_set()

    def begin(self, *, code: int = 0, reason: str = "", lingers: bool = True) -> None:
        """Begin the end; a second call changes nothing. `reason` is logged as an error."""
        with self._lock:
            if self._begun.is_set():
                return
            self.code = code
            self._begun.set()
        if reason:
            _LOG.error("ends: %s", reason)
        end_in_time()
        threading.Thread(target=self._end, args=(lingers,), name="ending", daemon=True).start()

    def _end(self, lingers: bool) -> None:  # noqa: FBT001 - of a thread
        lingered = threading.Event()
        timer = threading.Timer(LINGER_SECONDS if lingers else 0.0, lingered.set)
        timer.daemon = True
        timer.start()
        try:
            self._finish()
        except Exception:  # noqa: BLE001 - no bug may prevent the end
            _LOG.exception("the work did not end well")
        lingered.wait()
        self.over.set_result(None)


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
