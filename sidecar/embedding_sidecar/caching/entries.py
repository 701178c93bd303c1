"""Entries as Redis holds them: bytes bound to their key, and read as an entry only if they can be.

Redis is shared, and more programs than this one may write there. With the key of the policy's owned
Secret the bytes carry a MAC over the Redis key and all that follows, so that nobody without that
key can make an entry, change one, or move one to the key of another text. Without it they carry a
checksum, which shows accidents only; then a vector is also looked at before it is believed.
"""

import functools
import hashlib
import hmac
import re
import struct
import sys
import zlib
from typing import Final

from embedding_sidecar import vectors
from embedding_sidecar.caching.cache import MAX_TTL_SECONDS, Entry

FORMAT: Final = 3
MAX_TOKENS: Final = 2**20
"""Twice what an item of 512 KiB can have. What a provider bills beyond that is kept as this."""
MAX_AHEAD_SECONDS: Final = 300.0
"""How far the clock of the pod that made an entry may be ahead of the one that reads it."""
_MAX_NAME_BYTES: Final = 4096
"""Of a model's or a space's name, which may hold a URL."""
_TAG_BYTES: Final = 16
_BEGIN: Final = struct.Struct(f"<B{_TAG_BYTES}s")
"""Format, and the MAC or checksum of all that follows."""
_BODY: Final = struct.Struct("<dIIHH")
"""Unix time it was made, its own TTL in seconds (0 for none), tokens, bytes of the model's and of
the space's name; then both names and the vector."""
_NAMES_AT: Final = _BEGIN.size + _BODY.size
_SECRET: Final = re.compile(r"[0-9a-f]{64}")
_PURPOSE: Final = b"embedding-sidecar cache entry/3"
_BLOCK_BYTES: Final = 64


class Seal:
    """Binds an entry's bytes to its key in Redis: by a MAC, or without a secret by a checksum.

    The MAC is SHA-256 over one block with the secret and then the message, cut to 128 bits: as the
    half that is cut off is part of the hash's state, nobody can go on from a MAC to that of a
    longer message (Coron and others, Merkle-Damgard Revisited, 2005, section 3.3). It is a third
    faster than HMAC for a vector of 6 KB, as the block is hashed once and not for each entry.
    """

    __slots__ = ("_keyed",)

    def __init__(self, secret: bytes = b"") -> None:
        self._keyed = hashlib.sha256((secret + _PURPOSE).ljust(_BLOCK_BYTES)) if secret else None

    def __repr__(self) -> str:
        """Without the secret."""
        return f"<{'MAC' if self.is_authentic else 'checksum'}>"

    @property
    def is_authentic(self) -> bool:
        """Whether only who has the secret can make what it accepts."""
        return self._keyed is not None

    def tag(self, key: str, content: "bytes | memoryview[int]") -> bytes:
        """16 bytes that change with the key and with the content."""
        name = key.encode()
        framed = len(name).to_bytes(4, "big") + name
        if self._keyed is None:
            return zlib.crc32(content, zlib.crc32(framed)).to_bytes(_TAG_BYTES, "big")
        digest = self._keyed.copy()
        digest.update(framed)
        digest.update(content)
        return digest.digest()[:_TAG_BYTES]


def secret_of(written: str) -> bytes | None:
    """The secret in 64 hexadecimal digits, as the owned Secret has it; None where it is none."""
    return bytes.fromhex(written) if _SECRET.fullmatch(written) else None


def encode(entry: Entry, *, key: str, seal: Seal) -> bytes:
    """The bytes of an entry under this key."""
    model, space = entry.model.encode(), entry.space.encode()
    body = b"".join(
        (
            _BODY.pack(
                entry.made_at,
                entry.ttl_seconds or 0,
                min(entry.tokens, MAX_TOKENS),
                len(model),
                len(space),
            ),
            model,
            space,
            entry.vector,
        )
    )
    return _BEGIN.pack(FORMAT, seal.tag(key, body)) + body


def decode(raw: bytes, *, key: str, seal: Seal, now: float) -> Entry | None:
    """The entry in these bytes, found under this key at this Unix time.

    None where they are of another format, cut off, changed, moved, or say what no entry can.
    """
    if not _is_whole(raw, key=key, seal=seal):
        return None
    made_at, ttl_seconds, tokens, model_bytes, space_bytes = _BODY.unpack_from(raw, _BEGIN.size)
    vector_at = _NAMES_AT + model_bytes + space_bytes
    can_be = (
        # A time that is no number is not between these either.
        0 <= made_at <= now + MAX_AHEAD_SECONDS
        and ttl_seconds <= MAX_TTL_SECONDS
        and tokens <= MAX_TOKENS
        and model_bytes <= _MAX_NAME_BYTES
        and space_bytes <= _MAX_NAME_BYTES
        and len(raw) > vector_at
        and (len(raw) - vector_at) % vectors.BYTES_PER_NUMBER == 0
    )
    if not can_be:
        return None
    try:
        model, space = _names(raw[_NAMES_AT:vector_at], model_bytes)
    except UnicodeDecodeError:
        return None
    vector = raw[vector_at:]
    # Who has the secret keeps finite vectors only.
    if not seal.is_authentic and not vectors.is_finite(vector):
        return None
    return Entry(model, space, vector, tokens, made_at, ttl_seconds or None)


def _is_whole(raw: bytes, *, key: str, seal: Seal) -> bool:
    """Whether these are the bytes that `encode` made under this key."""
    if len(raw) < _NAMES_AT:
        return False
    version, tag = _BEGIN.unpack_from(raw)
    return version == FORMAT and hmac.compare_digest(
        tag, seal.tag(key, memoryview(raw)[_BEGIN.size :])
    )


@functools.lru_cache(maxsize=256)
def _names(raw: bytes, model_bytes: int) -> tuple[str, str]:
    # Shared by all entries of a model, or each would hold its own: see cache._ENTRY_BYTES.
    return sys.intern(raw[:model_bytes].decode()), sys.intern(raw[model_bytes:].decode())
