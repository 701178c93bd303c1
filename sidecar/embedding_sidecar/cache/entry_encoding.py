"""Entries as Redis holds them: bytes bound to their key, and checked before they are used.

Other programs may write the same Redis. With the key of the policy's owned Secret the bytes carry a
MAC over the Redis key and all that follows, so that only a holder of that key can make an entry,
change one, or move one to the key of another text. Without it they carry a checksum, which shows
accidents only; then the vector is checked, too.
"""

import functools
import hmac
import itertools
import os
import re
import struct
import sys
import zlib
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from embedding_sidecar.cache.cache_entry import MAX_TTL_SECONDS, Entry
from embedding_sidecar.translation import vector_decoder

FORMAT: Final = 4
MAX_TOKENS: Final = 2**20
"""Twice as many as an item of 512 KiB can have. A provider's higher figure is kept as this one."""
MAX_AHEAD_SECONDS: Final = 300.0
"""The clock of the pod that made an entry may be so far ahead of the reader's."""
_MAX_NAME_BYTES: Final = 4096
"""Bound of a model's or a space's name, which may hold a URL."""
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_MAC_BYTES: Final = 16
_TAG: Final = struct.Struct(f"{_SALT_BYTES}s{_NONCE_BYTES}s{_MAC_BYTES}s")
TAG_BYTES: Final = _TAG.size
_BEGIN: Final = struct.Struct(f"<B{TAG_BYTES}s")
"""Format, and the MAC or checksum of all that follows."""
_MAX_CIPHERS: Final = 1024
"""Bound of the salts that are remembered; each runtime of a sidecar has one."""
_BODY: Final = struct.Struct("<dIIHH")
"""Unix time it was made, its own TTL in seconds (0 for none), tokens, bytes of the model's and of
the space's name; then both names and the vector."""
_FIXED: Final = struct.Struct(f"{_BEGIN.format}{_BODY.format.removeprefix('<')}")
"""The beginning of an entry."""
_NAMES_AT: Final = _FIXED.size
_SECRET: Final = re.compile(r"[0-9a-f]{64}")
_PURPOSE: Final = b"embedding-sidecar cache entry/4"


class Seal:
    """Binds an entry's bytes to its key in Redis: by a MAC, or without a secret by a checksum.

    The MAC is the tag of AES-256-GCM (NIST SP 800-38D) with the Redis key as the text and the
    content as associated data; the ciphertext is dropped, and a tag is checked by making it again.
    No two stored tags may have the same nonce under one key. So each process counts its nonces
    under a key of its own, derived from the secret and a random salt that its entries carry.
    """

    __slots__ = ("_ciphers", "_nonces", "_own_cipher", "_salt", "_secret", "is_authentic")

    def __init__(self, secret: bytes = b"") -> None:
        self._secret = secret
        self.is_authentic = bool(secret)
        """True if only a holder of the secret can make a tag that is accepted."""
        self._salt = os.urandom(_SALT_BYTES)
        self._nonces = itertools.count()
        self._ciphers: dict[bytes, AESGCM] = {}
        """By salt: those of this process and of the pods whose entries it has read."""
        self._own_cipher = self._cipher(self._salt) if secret else None

    def __repr__(self) -> str:
        """Without the secret."""
        return f"<{'MAC' if self.is_authentic else 'checksum'}>"

    def tag(self, key: str, content: bytes) -> bytes:
        """TAG_BYTES that bind the content to the key; another tag each time."""
        if self._own_cipher is None:
            return _checksum(key, content)
        nonce = next(self._nonces).to_bytes(_NONCE_BYTES, "big")
        sealed = self._own_cipher.encrypt(nonce, key.encode(), content)
        return b"%b%b%b" % (self._salt, nonce, sealed[-_MAC_BYTES:])

    def accepts(self, tag: bytes, key: str, content: "bytes | memoryview[int]") -> bool:
        """True if a holder of the secret made `tag` for this key and content."""
        if self._own_cipher is None:
            return tag == _checksum(key, content)
        salt, nonce, mac = _TAG.unpack(tag)
        sealed = self._cipher(salt).encrypt(nonce, key.encode(), content)
        return hmac.compare_digest(sealed[-_MAC_BYTES:], mac)

    def _cipher(self, salt: bytes) -> AESGCM:
        found = self._ciphers.get(salt)
        if found is None:
            if len(self._ciphers) >= _MAX_CIPHERS:
                # Any program that writes Redis may make up salts.
                self._ciphers.clear()
            derived = hmac.digest(self._secret, _PURPOSE + salt, "sha256")
            found = self._ciphers[salt] = AESGCM(derived)
        return found


def _checksum(key: str, content: "bytes | memoryview[int]") -> bytes:
    name = key.encode()
    # It begins with the length, which says where the key ends.
    return zlib.crc32(content, zlib.crc32(name, len(name))).to_bytes(TAG_BYTES, "big")


def secret_of(written: str) -> bytes | None:
    """The secret that 64 hexadecimal digits are, as in the owned Secret; None for another text."""
    return bytes.fromhex(written) if _SECRET.fullmatch(written) else None


def encode(entry: Entry, *, key: str, seal: Seal) -> bytes:
    """The bytes of an entry under this key."""
    model, space = entry.model.encode(), entry.space.encode()
    fixed = _BODY.pack(
        entry.made_at,
        entry.ttl_seconds or 0,
        min(entry.tokens, MAX_TOKENS),
        len(model),
        len(space),
    )
    content = b"".join((fixed, model, space, entry.vector))
    return _BEGIN.pack(FORMAT, seal.tag(key, content)) + content


def decode(raw: bytes, *, key: str, seal: Seal, now: float) -> Entry | None:
    """The entry in these bytes, found under this key at this Unix time.

    None where they are of another format, cut off, changed, moved, or out of an entry's bounds.
    """
    if len(raw) < _NAMES_AT:
        return None
    version, tag, made_at, ttl_seconds, tokens, model_bytes, space_bytes = _FIXED.unpack_from(raw)
    if version != FORMAT or not seal.accepts(tag, key, memoryview(raw)[_BEGIN.size :]):
        return None
    vector_at = _NAMES_AT + model_bytes + space_bytes
    can_be = (
        # NaN is not between these either.
        0 <= made_at <= now + MAX_AHEAD_SECONDS
        and ttl_seconds <= MAX_TTL_SECONDS
        and tokens <= MAX_TOKENS
        and model_bytes <= _MAX_NAME_BYTES
        and space_bytes <= _MAX_NAME_BYTES
        and len(raw) > vector_at
        and (len(raw) - vector_at) % vector_decoder.BYTES_PER_NUMBER == 0
    )
    if not can_be:
        return None
    try:
        model, space = _names(raw[_NAMES_AT:vector_at], model_bytes)
    except UnicodeDecodeError:
        return None
    vector = raw[vector_at:]
    # A holder of the secret keeps finite vectors only.
    if not seal.is_authentic and not vector_decoder.is_finite(vector):
        return None
    return Entry(model, space, vector, tokens, made_at, ttl_seconds or None)


@functools.lru_cache(maxsize=256)
def _names(raw: bytes, model_bytes: int) -> tuple[str, str]:
    # All entries of a model share them: memory_cache._ENTRY_BYTES counts none of them.
    return sys.intern(raw[:model_bytes].decode()), sys.intern(raw[model_bytes:].decode())
