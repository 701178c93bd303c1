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
        self._next: asyncio.Task[bytes] | None = None

    async def text(self) -> bytes:
        """The text, rendered at the next time allowed."""
        if self._next is None:
            self._next = asyncio.create_task(self._render_in_time())
        # A scraper that leaves must not cancel it for the others.
        return await asyncio.shield(self._next)

    async def _render_in_time(self) -> bytes:
        await asyncio.sleep(self._rendered_at + self._every_seconds - time.monotonic())
        self._next, self._rendered_at = None, time.monotonic()
        return self._render()
