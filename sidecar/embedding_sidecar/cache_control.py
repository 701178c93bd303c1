"""What one request asks of the cache.

The words are those of HTTP's Cache-Control (RFC 9111, section 5.2.1) and of LiteLLM's `cache` in
the body, which many callers know.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """How a request is answered from the cache, and what of it is kept.

    `no_cache`: not answered from it. `no_store`: nothing of it is kept. `max_age_seconds`: answered
    from entries of at most this age. `ttl_seconds`: kept for at most this long, where the policy
    keeps longer.
    """

    no_cache: bool = False
    no_store: bool = False
    max_age_seconds: int | None = None
    ttl_seconds: int | None = None


DEFAULT: Final = CacheControl()
