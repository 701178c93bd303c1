"""The text of a scrape, rendered at most once a second for all scrapers.

A scrape needs no token, and rendering takes milliseconds of the loop that answers the application.
A scrape within the same second waits for the next text, so no scraper gets an old one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 1.0


class Exposition:
    """Renders for all scrapes that wait, at most once in `every_seconds`."""

    def __init__(
        self,
        render: Callable[[], bytes],
        *,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._render = render
        self._every_seconds = every_seconds
        self._rendered_at = float("-inf")
        self._next: asyncio.Future[bytes] | None = None

    async def text(self) -> bytes:
        """The text, rendered now or at the next time allowed."""
        if self._next is None:
            left = self._rendered_at + self._every_seconds - time.monotonic()
            if left <= 0:
                return self._rendered()
            loop = asyncio.get_running_loop()
            self._next = loop.create_future()
            loop.call_later(left, self._tell, self._next)
        # A scraper that leaves must not cancel it for the others.
        return await asyncio.shield(self._next)

    def _tell(self, waiting: "asyncio.Future[bytes]") -> None:
        self._next = None
        try:
            waiting.set_result(self._rendered())
        except Exception as failure:  # noqa: BLE001 - all scrapes that wait get it
            waiting.set_exception(failure)

    def _rendered(self) -> bytes:
        self._rendered_at = time.monotonic()
        return self._render()
