"""One turn of the event loop: what is sent in it, the first at once and the rest together after it.

Whoever is sent something wakes up for it, and where that is in the same machine, as a sidecar's
application is, waking is a good part of the sender's costs. Sent together, it is one waking.
"""

import asyncio
from collections.abc import Callable


class WriteCoalescer:
    """What is sent in this turn."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] | None = None
        """What is sent when it is over; None: nothing was sent in it yet."""

    def send(self, send: Callable[[], object]) -> None:
        """Call this now, if nothing else was sent in this turn, or when it is over."""
        if self._waiting is None:
            self._waiting = []
            asyncio.get_running_loop().call_soon(self._over)
            send()
        else:
            self._waiting.append(send)

    def _over(self) -> None:
        waiting, self._waiting = self._waiting, None
        for send in waiting or ():
            try:
                send()
            except Exception as error:  # noqa: BLE001 - the others are to be sent too
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "something could not be sent", "exception": error}
                )
