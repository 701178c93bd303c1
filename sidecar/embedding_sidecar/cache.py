"""The cache of vectors: what an entry is called, what it looks like, and entries in memory.

An item's key says everything that can change its vector: model, dimensions, space, input_type,
truncation and the text itself, each with its length before it, so that no two differ only in where
one part ends. It never says which provider: two that serve one model share its entries. Before the
hash stand whose entries they are and their generation; see `generations`.
"""

import hashlib
import struct
import sys
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from embedding_sidecar import provider

PREFIX: Final = "aos:embedding:cache:"
FORMAT: Final = 1
_HEAD: Final = struct.Struct("<BI")
"""Format and CRC-32 of all that follows."""
_BODY: Final = struct.Struct("<dIHH")
"""Unix time it was made, tokens, bytes of the model's and of the space's name; then both names and
the vector."""
_MAX_TOKENS: Final = 2**32 - 1
_OVERHEAD_BYTES: Final = 400
"""What Python keeps for an entry beside the bytes of key and vector: the object, its two numbers,
two object headers and a slot of an ordered dictionary; the names are shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One vector (little-endian float32), who made it when, and how many tokens it cost.

    `made_at` is Unix time in seconds by the clock of the pod that stored it, so that an entry is no
    older in memory than in Redis and a shorter TTL of the policy holds for old entries too.
    """

    model: str
    space: str
    vector: bytes = field(repr=False)
    tokens: int
    made_at: float


def encode(entry: Entry) -> bytes:
    """The bytes of an entry."""
    model, space = entry.model.encode(), entry.space.encode()
    body = b"".join(
        (
            _BODY.pack(entry.made_at, min(entry.tokens, _MAX_TOKENS), len(model), len(space)),
            model,
            space,
            entry.vector,
        )
    )
    return _HEAD.pack(FORMAT, zlib.crc32(body)) + body


def decode(raw: bytes) -> Entry | None:
    """The entry in these bytes; None where they are of another format, cut off or changed."""
    if len(raw) < _HEAD.size + _BODY.size:
        return None
    version, checksum = _HEAD.unpack_from(raw)
    if version != FORMAT or zlib.crc32(memoryview(raw)[_HEAD.size :]) != checksum:
        return None
    made_at, tokens, model_bytes, space_bytes = _BODY.unpack_from(raw, _HEAD.size)
    model_at = _HEAD.size + _BODY.size
    space_at = model_at + model_bytes
    vector_at = space_at + space_bytes
    try:
        # Shared by all entries of a model, or each would hold its own: see _OVERHEAD_BYTES.
        model = sys.intern(raw[model_at:space_at].decode())
        space = sys.intern(raw[space_at:vector_at].decode())
    except UnicodeDecodeError:
        return None
    return Entry(model=model, space=space, vector=raw[vector_at:], tokens=tokens, made_at=made_at)


def keys(ask: provider.Ask, *, space: str, scope: str, generation: str) -> list[str]:
    """The keys of a request's items, in order; `ask.model` is the provider's name of the model."""
    common = hashlib.sha256()
    for part in (ask.model, str(ask.dimensions), space, str(ask.input_type), str(ask.truncation)):
        _feed(common, part.encode())
    prefix = f"{PREFIX}{scope}:{generation}:"
    found = []
    for item in ask.items:
        digest = common.copy()
        if isinstance(item, str):
            _feed(digest, b"text")
            _feed(digest, item.encode())
        else:
            _feed(digest, b"tokens")
            _feed(digest, struct.pack(f"<{len(item)}I", *item))
        found.append(prefix + digest.hexdigest())
    return found


def _feed(digest: "hashlib._Hash", part: bytes) -> None:
    digest.update(len(part).to_bytes(8, "big"))
    digest.update(part)


class MemoryCache:
    """Entries in this process, the least recently used dropped first; bounded by bytes and TTL."""

    def __init__(
        self, *, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        """Bytes of memory the entries take, not less than they really do."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """The entry, if it is here and not too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not self._fresh(entry):
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: Entry) -> None:
        """Keep the entry, unless it is too old or larger than all there is room for."""
        self._drop(key)
        if not self._fresh(entry) or _size(key, entry) > self._max_bytes:
            return
        self._entries[key] = entry
        self._bytes += _size(key, entry)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def forget(self, model: str | None) -> None:
        """Drop the entries of one model, or all."""
        for key in [key for key, entry in self._entries.items() if model in (None, entry.model)]:
            self._drop(key)

    def _fresh(self, entry: Entry) -> bool:
        return self._clock() - entry.made_at < self._ttl_seconds

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry)


def _size(key: str, entry: Entry) -> int:
    return len(key) + len(entry.vector) + _OVERHEAD_BYTES
