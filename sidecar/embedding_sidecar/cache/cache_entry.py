"""Cache entries: the key of an item, and what an entry holds."""

import functools
import hashlib
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from embedding_sidecar.translation import provider_api

PREFIX: Final = "aos:embedding:cache:"

MAX_TTL_SECONDS: Final = 31_536_000
"""A year, as in the resource. Nothing is kept longer, so entries cleared a year ago are gone."""

_TEXT_NAME_BYTES: Final = 8


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
    ask: provider_api.Ask,
    *,
    space: str,
    scope: str,
    generation: str,
    cleared: Mapping[str, str] | None = None,
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


def name(item: provider_api.Item) -> str:
    """The name of an item where its text must not appear: 16 hexadecimal digits.

    Two items may share a name, so it serves only where mixing them up does no harm.
    """
    digest = hashlib.sha256()
    _feed_item(digest, item)
    return digest.digest()[:_TEXT_NAME_BYTES].hex()


def _feed_item(digest: "hashlib._Hash", item: provider_api.Item) -> None:
    if isinstance(item, str):
        text = item.encode()
        digest.update(_TEXT + len(text).to_bytes(8, "big") + text)
    else:
        digest.update(_TOKENS + _framed(struct.pack(f"<{len(item)}I", *item)))


@functools.lru_cache(maxsize=1024, typed=True)
def _common(*parts: str | int | bool | None) -> "hashlib._Hash":
    """The hash of the parts that many items share; to be copied, never fed."""
    common = hashlib.sha256()
    for part in parts:
        common.update(_framed(str(part).encode()))
    return common


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


_TEXT: Final = _framed(b"text")

_TOKENS: Final = _framed(b"tokens")
