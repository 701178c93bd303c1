"""What the answers of providers hold while they come, all of them together.

Each is bounded by what it was asked for. Where all of them are longer than they need be, which only
a hostile or broken server makes them, the sum is bounded too: the longest one is given up.
"""

from typing import Final

from embedding_sidecar import memory_limit
from embedding_sidecar.translation import provider_api

SHARE: Final = 4
"""A quarter of all memory: more than the vectors of the large requests that are let in at once,
which are counted as base64 (decision 017)."""


class Intake:
    """The bodies under way."""

    def __init__(self, memory_bytes: int = memory_limit.DEFAULT_BYTES) -> None:
        self._most_bytes = memory_bytes // SHARE
        self._held: dict[provider_api.Body, int] = {}
        self.held_bytes = 0

    def grew(self, body: provider_api.Body) -> None:
        """A body has come further, and is not whole yet."""
        held_bytes = body.held_bytes
        self.held_bytes += held_bytes - self._held.get(body, 0)
        self._held[body] = held_bytes
        while self.held_bytes > self._most_bytes:
            longest = max(self._held, key=self._held.__getitem__)
            longest.drop()
            self.leave(longest)

    def leave(self, body: provider_api.Body) -> None:
        """Nothing more comes of it; a second time changes nothing."""
        self.held_bytes -= self._held.pop(body, 0)
