"""The cache of vectors: keys, entries, and the entries in memory.

An item's key says everything that can change its vector: model, dimensions, space, input_type,
truncation and the text itself, each with its length before it, so that no two differ only in where
one part ends. The provider is no part of it: two that serve one model share its entries. Before the
hash stand the scope and the generation; see `generations`.
"""

import functools
import hashlib
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from embedding_sidecar import provider

PREFIX: Final = "aos:embedding:cache:"
MAX_TTL_SECONDS: Final = 31_536_000
"""A year, as in the resource. Nothing is kept longer, so entries cleared a year ago are gone."""
_TEXT_NAME_BYTES: Final = 8
_NOTHING_CLEARED: Final[Mapping[str, str]] = MappingProxyType({})


class Entry(NamedTuple):
    """One vector (little-endian float32), its model and space, and the tokens it cost.

    `made_at` is Unix time in seconds by the clock of the pod that stored it, so that an entry is no
    older in memory than in Redis and a shorter TTL of the policy holds for old entries too.
    `ttl_seconds` is the entry's own TTL, where that is shorter than the policy's.
    """

    model: str
    space: str
    vector: bytes
    tokens: int
    made_at: float
    ttl_seconds: int | None = None

    def __repr__(self) -> str:
        """Without the vector."""
        return f"<{self.tokens} tokens of {self.model} in {self.space}>"

    def is_fresh(self, *, now: float, ttl_seconds: float) -> bool:
        """True if it may be used at this Unix time, under this TTL of the policy."""
        if self.ttl_seconds is not None and self.ttl_seconds < ttl_seconds:
            ttl_seconds = self.ttl_seconds
        return now - self.made_at < ttl_seconds


def keys(
    ask: provider.Ask,
    *,
    space: str,
    scope: str,
    generation: str,
    cleared: Mapping[str, str] = _NOTHING_CLEARED,
) -> list[str]:
    """The keys of a request's items, in order; `ask.model` is the provider's name of the model.

    `cleared` has the generations of single items, by `name`; other items have none.
    """
    common = _common(ask.model, ask.dimensions, space, ask.input_type, ask.truncation)
    if ask.extra:
        common = common.copy()
        for field, value in ask.extra:
            common.update(_framed(field.encode()) + _framed(value))
    prefix = f"{PREFIX}{scope}:{generation}:"
    found = []
    for item in ask.items:
        digest = common.copy()
        _feed_item(digest, item)
        key = prefix + digest.hexdigest()
        if cleared and (own := cleared.get(name(item))):
            key = f"{key}.{own}"
        found.append(key)
    return found


def name(item: provider.Item) -> str:
    """The name of an item where its text must not stand: 16 hexadecimal digits.

    Two items may share a name, so it serves only where mixing them up does no harm.
    """
    digest = hashlib.sha256()
    _feed_item(digest, item)
    return digest.digest()[:_TEXT_NAME_BYTES].hex()


def _feed_item(digest: "hashlib._Hash", item: provider.Item) -> None:
    if isinstance(item, str):
        text = item.encode()
        digest.update(_TEXT + len(text).to_bytes(8, "big") + text)
    else:
        digest.update(_TOKENS + _framed(struct.pack(f"<{len(item)}I", *item)))


@functools.lru_cache(maxsize=1024, typed=True)
def _common(*parts: str | int | bool | None) -> "hashlib._Hash":
    """The hash of what is the same for many items; to be copied, never fed."""
    common = hashlib.sha256()
    for part in parts:
        common.update(_framed(str(part).encode()))
    return common


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


_TEXT: Final = _framed(b"text")
_TOKENS: Final = _framed(b"tokens")


class MemoryCache:
    """Entries in this process, bounded by bytes and TTL; the least recently used are dropped."""

    def __init__(
        self, *, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._entries_bytes = 0

    @property
    def bytes_held(self) -> int:
        """Upper bound of the memory that the entries take."""
        return self._entries_bytes + sys.getsizeof(self._entries) - _EMPTY_BYTES

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, *, max_age_seconds: float | None = None) -> Entry | None:
        """The entry, if it is here, may be used and is no older than `max_age_seconds`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        if not entry.is_fresh(now=now, ttl_seconds=self._ttl_seconds):
            self._drop(key)
            return None
        if max_age_seconds is not None and now - entry.made_at > max_age_seconds:
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: Entry) -> None:
        """Keep the entry, unless it is too old or larger than the whole bound."""
        if not self._max_bytes:
            return
        if key in self._entries:
            self._drop(key)
        size = _size(key, entry)
        fresh = entry.is_fresh(now=self._clock(), ttl_seconds=self._ttl_seconds)
        if not fresh or size > self._max_bytes:
            return
        self._entries[key] = entry
        self._entries_bytes += size
        while self._entries and self.bytes_held > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def forget(self, model: str | None) -> None:
        """Drop the entries of one model, or all."""
        self.drop([key for key, entry in self._entries.items() if model in (None, entry.model)])

    def drop(self, keys: Iterable[str]) -> None:
        """Drop the entries of these keys."""
        for key in keys:
            self._drop(key)

    def _drop(self, key: str) -> None:
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
    for part in (Entry(model="", space="", vector=b"", tokens=0, made_at=0.0), 0.5, 2**30)
)
"""An entry beside its vector and its names, which are shared: the object and two numbers."""


def _size(key: str, entry: Entry) -> int:
    return _ENTRY_BYTES + _piece(sys.getsizeof(key)) + _piece(sys.getsizeof(entry.vector))
