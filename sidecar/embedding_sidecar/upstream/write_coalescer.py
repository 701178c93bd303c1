"""Sends the first write of a turn of the event loop at once, and the rest together after it.

A write wakes its receiver, and if that is on the same machine, as a sidecar's application is, the
wake-up is a good part of the sender's costs. Writes that are sent together cause one wake-up.
"""

import asyncio
from collections.abc import Callable


class WriteCoalescer:
    """The writes of this turn."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] | None = None
        """The writes to send when the turn is over; None: nothing was sent in it yet."""

    def send(self, send: Callable[[], object]) -> None:
        """Call `send` now, if nothing else was sent in this turn, or else when it is over."""
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
