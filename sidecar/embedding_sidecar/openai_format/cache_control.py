"""Cache directives of one request.

They are those of HTTP's Cache-Control (RFC 9111, section 5.2.1) and of LiteLLM's `cache` in the
body. Where a request uses both, the stricter one counts.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from embedding_sidecar import errors
from embedding_sidecar.openai_format import fields

MAX_SECONDS: Final = 2**31
"""RFC 9111, section 1.2.2: a larger number means this one."""
BODY_FLAGS: Final = ("no-cache", "no-store")
BODY_TIMES: Final = ("ttl", "s-maxage")

# A token, and an argument that is a token or a quoted string (RFC 9111, section 5.2).
_DIRECTIVE: Final = re.compile(
    r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=("(?:[^"\\]|\\.)*"|[^",\s]*))?"""
)
_SECONDS: Final = fields.integer(least=0, most=MAX_SECONDS)
_DIGITS: Final = re.compile(r'"?0*([0-9]{1,10})"?')


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """The directives of a request.

    `no_cache`: it is not answered from the cache. `no_store`: nothing of it is kept.
    `max_age_seconds`: older entries do not answer it. `ttl_seconds`: the longest time it is kept.
    """

    no_cache: bool = False
    no_store: bool = False
    max_age_seconds: int | None = None
    ttl_seconds: int | None = None

    def and_also(self, other: "CacheControl") -> "CacheControl":
        """Both together: the stricter of each directive."""
        return CacheControl(
            no_cache=self.no_cache or other.no_cache,
            no_store=self.no_store or other.no_store,
            max_age_seconds=_shorter(self.max_age_seconds, other.max_age_seconds),
            ttl_seconds=_shorter(self.ttl_seconds, other.ttl_seconds),
        )


DEFAULT: Final = CacheControl()


def from_header(value: str) -> CacheControl:
    """Read a Cache-Control header: `no-cache`, `no-store` and `max-age`; others are ignored.

    A `max-age` that is not a number counts as 0: RFC 9111, section 4.2.1, calls such an answer
    stale.
    """
    found = DEFAULT
    for name, argument in _DIRECTIVE.findall(value):
        match name.lower():
            case "no-cache":
                found = found.and_also(CacheControl(no_cache=True))
            case "no-store":
                found = found.and_also(CacheControl(no_store=True))
            case "max-age":
                found = found.and_also(CacheControl(max_age_seconds=_delta(argument)))
    return found


def from_body(raw: Any) -> CacheControl:
    """Read LiteLLM's `cache` of a request body; `s-maxage` is its name for `max_age_seconds`.

    Raises:
        errors.Rejected: 400, with `param` naming the field.
    """
    if not isinstance(raw, dict):
        raise errors.Rejected("'cache' must be an object.", param="cache")
    if "namespace" in raw:
        raise errors.Rejected(
            "'cache.namespace' is not supported; the policy's cache.shared says which pods share "
            "entries.",
            param="cache.namespace",
        )
    known = (*BODY_FLAGS, *BODY_TIMES)
    if raw.keys() - set(known):
        raise errors.Rejected(f"'cache' may only hold {', '.join(known)}.", param="cache")
    no_cache, no_store = (
        fields.optional(raw, key, fields.boolean, within="cache.") for key in BODY_FLAGS
    )
    ttl, max_age = (fields.optional(raw, key, _SECONDS, within="cache.") for key in BODY_TIMES)
    return CacheControl(
        no_cache=no_cache or False,
        no_store=no_store or False,
        max_age_seconds=max_age,
        ttl_seconds=ttl,
    )


def _delta(argument: str) -> int:
    digits = _DIGITS.fullmatch(argument)
    if digits is not None:
        return min(int(digits[1]), MAX_SECONDS)
    return MAX_SECONDS if re.fullmatch(r'"?[0-9]+"?', argument) else 0


def _shorter(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
