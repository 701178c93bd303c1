"""Headers by which an answer or a refusal explains itself."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from embedding_sidecar import errors
from embedding_sidecar.allowance import NO_LIMIT, Allowance
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.quota.quota import Quota

HEADER_CACHE: Final = "x-embedding-cache"
HEADER_CACHE_HITS: Final = "x-embedding-cache-hits"
HEADER_PROVIDER: Final = "x-embedding-provider"
HEADER_MODEL: Final = "x-embedding-model"
HEADER_SPACE: Final = "x-embedding-space"
HEADER_ATTEMPTS: Final = "x-embedding-attempts"
HEADER_TOKENS_SAVED: Final = "x-embedding-tokens-saved"
HEADER_OVERHEAD_MS: Final = "x-embedding-overhead-ms"
HEADER_OBSERVED: Final = "x-embedding-quota-observed"
"""The limits that calls for this answer exceeded, while they are only observed: `day.requests`."""
HEADER_USAGE: Final = "x-embedding-usage"
"""`estimated`; sent only if `usage` is a bound, because a provider did not report it."""

_HEAD: Final = (
    f"%b{HEADER_CACHE}: %b\r\n{HEADER_CACHE_HITS}: %d/%d\r\n{HEADER_ATTEMPTS}: %d\r\n"
    f"{HEADER_TOKENS_SAVED}: %d\r\n{HEADER_OVERHEAD_MS}: %.3f\r\n%b"
).encode()

_ESTIMATED: Final = f"{HEADER_USAGE}: estimated\r\n".encode()

_OF_REQUESTS, _OF_TOKENS = (
    f"x-ratelimit-limit-{unit}: %d\r\nx-ratelimit-remaining-{unit}: %d\r\n"
    f"x-ratelimit-reset-{unit}: %s\r\n"
    for unit in ("requests", "tokens")
)

_PRINTABLE: Final = "".join(map(chr, range(ord(" "), 0x7F)))


def head(answer: Answer, quota: Quota, *, seconds: float, background: bool = False) -> bytes:
    """The header lines by which an answer explains itself, `seconds` after its request came.

    The policy's rate limit, as left to its class, is included only if the answer took a call.
    """
    state = b"hit" if answer.hits == answer.items else b"partial" if answer.hits else b"miss"
    return _HEAD % (
        _made_by(answer.provider, answer.model, answer.space),
        state,
        answer.hits,
        answer.items,
        answer.attempts,
        answer.tokens_saved,
        max(seconds - answer.upstream_seconds, 0.0) * 1000,
        _of_calls(answer, quota, background=background) if answer.attempts else b"",
    )


def _of_calls(answer: Answer, quota: Quota, *, background: bool) -> bytes:
    found = ratelimit_lines(quota.left(background=background)).encode()
    if answer.is_estimated:
        found += _ESTIMATED
    if answer.beyond:
        found += lines({HEADER_OBSERVED: ",".join(sorted(answer.beyond))})
    return found


def lines(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")


@lru_cache(maxsize=256)
def _made_by(provider: str, model: str, space: str) -> bytes:
    """Cached: the lines are the same for every answer of one provider and space."""
    names = ((HEADER_PROVIDER, provider), (HEADER_MODEL, model), (HEADER_SPACE, space))
    # Characters that no header can hold are percent-encoded.
    return lines({name: quote(value, safe=_PRINTABLE) for name, value in names})


def refusal_headers(error: errors.Refused) -> dict[str, str]:
    """The headers that tell an SDK when to retry, or not to retry at all."""
    if isinstance(error, errors.QuotaExhausted):
        return {
            "retry-after": str(_whole(error.retry_after_seconds or 0.0)),
            "x-should-retry": "false",
            **dict(line.split(": ", 1) for line in ratelimit_lines(error.left).splitlines()),
        }
    found: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        found["retry-after"] = str(_whole(error.retry_after_seconds))
    if error.should_retry is not None:
        found["x-should-retry"] = str(error.should_retry).lower()
    return found


def ratelimit_lines(left: Allowance) -> str:
    """The policy's limits in OpenAI's headers: each, what is left of it, and the time to reset.

    https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers; what is left is what
    this sidecar may still use, as far as it knows without a call. Where both a day and a month are
    limited, the one that leaves less is told. The headers know no money.
    """
    if left is NO_LIMIT:
        return ""
    of_requests, of_tokens = left, left
    month = left.month
    if month is not None:
        if _is_less(month.requests_left, left.requests_left):
            of_requests = month
        if _is_less(month.tokens_left, left.tokens_left):
            of_tokens = month
    found = ""
    if of_requests.requests is not None:
        found = _OF_REQUESTS % (
            of_requests.requests,
            of_requests.requests_left,
            go_duration(_whole(of_requests.resets_in_seconds)),
        )
    if of_tokens.tokens is not None:
        found += _OF_TOKENS % (
            of_tokens.tokens,
            of_tokens.tokens_left,
            go_duration(_whole(of_tokens.resets_in_seconds)),
        )
    return found


def _is_less(rest: int | None, than: int | None) -> bool:
    """None is no limit."""
    return rest is not None and (than is None or rest < than)


@lru_cache(maxsize=2)  # many answers hold the same second
def go_duration(seconds: int) -> str:
    """Whole seconds as Go prints a time.Duration: `15h4m5s`, `6m0s`, `7s`."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _whole(seconds: float) -> int:
    # Rounded up: a caller that retries then is in the new period.
    return max(1, math.ceil(seconds))
