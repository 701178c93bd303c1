"""The bytes that all answers of providers together hold while they come.

Each answer is bounded by what its request asked for. If all are longer than they need be, which
only a hostile or broken server causes, the sum is bounded too: the longest one is given up.
"""

from typing import Final

from embedding_sidecar import memory_limit
from embedding_sidecar.translation import provider_api

SHARE: Final = 4
"""A quarter of all memory: more than the vectors of the large requests that are admitted at once,
which are counted as base64 (decision 017)."""


class Intake:
    """The bodies being received."""

    def __init__(self, memory_bytes: int = memory_limit.DEFAULT_BYTES) -> None:
        self._most_bytes = memory_bytes // SHARE
        self._held: dict[provider_api.Body, int] = {}
        self.held_bytes = 0

    def grew(self, body: provider_api.Body) -> None:
        """A body has grown, and is not complete yet."""
        held_bytes = body.held_bytes
        self.held_bytes += held_bytes - self._held.get(body, 0)
        self._held[body] = held_bytes
        while self.held_bytes > self._most_bytes:
            longest = max(self._held, key=self._held.__getitem__)
            longest.drop()
            self.leave(longest)

    def leave(self, body: provider_api.Body) -> None:
        """No more of a body will come; a second call changes nothing."""
        self.held_bytes -= self._held.pop(body, 0)
