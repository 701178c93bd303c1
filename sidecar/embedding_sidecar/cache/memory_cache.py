"""The cache in memory."""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from embedding_sidecar.cache import cache_entry


class MemoryCache:
    """Entries in this process, bounded by bytes and TTL; the least recently used are dropped."""

    def __init__(
        self, *, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[str, cache_entry.Entry] = OrderedDict()
        self._entries_bytes = 0

    @property
    def bytes_held(self) -> int:
        """Upper bound of the memory that the entries take."""
        return self._entries_bytes + sys.getsizeof(self._entries) - _EMPTY_BYTES

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, *, max_age_seconds: float | None = None) -> cache_entry.Entry | None:
        """The entry, if it is here, may be used and is no older than `max_age_seconds`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        if not entry.is_fresh(now=now, ttl_seconds=self._ttl_seconds):
            self.drop(key)
            return None
        if max_age_seconds is not None and now - entry.made_at > max_age_seconds:
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: cache_entry.Entry) -> None:
        """Keep the entry, unless it is too old or larger than the whole bound."""
        if not self._max_bytes:
            return
        if key in self._entries:
            self.drop(key)
        size = _size(key, entry)
        fresh = entry.is_fresh(now=self._clock(), ttl_seconds=self._ttl_seconds)
        if not fresh or size > self._max_bytes:
            return
        self._entries[key] = entry
        self._entries_bytes += size
        while self._entries and self.bytes_held > self._max_bytes:
            self.drop(next(iter(self._entries)))

    def forget(self, model: str | None) -> None:
        """Drop the entries of one model, or all."""
        for key in [it for it, entry in self._entries.items() if model in (None, entry.model)]:
            self.drop(key)

    def drop(self, key: str) -> None:
        """Drop the entry of this key, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._entries_bytes -= _size(key, entry)
            if not self._entries:
                # Its table shrinks only while it grows again.
                self._entries.clear()


_GRAIN_BYTES: Final = 16

_SMALL_BYTES: Final = 512

_HEADER_BYTES: Final = 8
"""Memory comes in steps of 16 bytes. Above 512 malloc serves it, which keeps 8 for itself."""

_EMPTY_BYTES: Final = sys.getsizeof(OrderedDict())


def _piece(size: int) -> int:
    if size > _SMALL_BYTES:
        size += _HEADER_BYTES
    return -(-size // _GRAIN_BYTES) * _GRAIN_BYTES


_ENTRY_BYTES: Final = sum(
    _piece(sys.getsizeof(part))
    for part in (
        cache_entry.Entry(model="", space="", vector=b"", tokens=0, made_at=0.0),
        0.5,
        2**30,
    )
)
"""An entry beside its vector and its names, which are shared: the object and two numbers."""


_BYTES_BYTES: Final = sys.getsizeof(b"")


def _size(key: str, entry: cache_entry.Entry) -> int:
    vector_bytes = _BYTES_BYTES + len(entry.vector)
    return _ENTRY_BYTES + _piece(sys.getsizeof(key)) + _piece(vector_bytes)
