"""What the sidecar says of itself: headers of an answer, and the management pages.

The field names of quota and config are the user's, kept to the letter; what we add comes after.
"""

import contextlib
import math
from collections.abc import Mapping
from datetime import UTC
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from embedding_contract import document
from embedding_contract.prices import PRICED_TOKENS
from embedding_sidecar import errors
from embedding_sidecar.allowance import Allowance
from embedding_sidecar.engine.answer import Answer
from embedding_sidecar.in_force import InForce
from embedding_sidecar.metrics import Metrics
from embedding_sidecar.quotas.quota import Quota
from embedding_sidecar.runtime import Runtime

HEADER_CACHE: Final = "x-embedding-cache"
HEADER_CACHE_HITS: Final = "x-embedding-cache-hits"
HEADER_PROVIDER: Final = "x-embedding-provider"
HEADER_MODEL: Final = "x-embedding-model"
HEADER_SPACE: Final = "x-embedding-space"
HEADER_ATTEMPTS: Final = "x-embedding-attempts"
HEADER_TOKENS_SAVED: Final = "x-embedding-tokens-saved"
HEADER_OVERHEAD_MS: Final = "x-embedding-overhead-ms"
HEADER_USAGE: Final = "x-embedding-usage"
"""Only where `usage` is a bound, because a provider did not say: `estimated`."""

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
_WAITS: Final = "waits_for_reset"
"""Of background work: what is left of the day is for applications, or nothing is."""
_REDIS_UP: Final = {"ok": True, "away": False, "refuses": False}
"""By the first word of runtime.redis_state(); of the other words nothing is known."""
_PRINTABLE: Final = "".join(map(chr, range(ord(" "), 0x7F)))

_NOTHING: Final = Decimal(0)


def head(answer: Answer, day: Quota, *, seconds: float, background: bool = False) -> bytes:
    """The header lines by which an answer explains itself, `seconds` after its request came.

    Of the day it speaks only where the answer took a call: of what is left to its class.
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
        _of_calls(answer, day, background=background) if answer.attempts else b"",
    )


def _of_calls(answer: Answer, day: Quota, *, background: bool) -> bytes:
    """What only an answer that took a call says."""
    found = ratelimit_lines(day.left(background=background)).encode()
    return found + _ESTIMATED if answer.is_estimated else found


def lines(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")


@lru_cache(maxsize=256)
def _made_by(provider: str, model: str, space: str) -> bytes:
    """Made once: the same for every answer of one provider and space."""
    names = ((HEADER_PROVIDER, provider), (HEADER_MODEL, model), (HEADER_SPACE, space))
    return lines({name: _value(value) for name, value in names})


def _value(name: str) -> str:
    """A name as the value of a header; what no header can hold is percent-encoded."""
    return quote(name, safe=_PRINTABLE)


def refusal_headers(error: errors.Refused) -> dict[str, str]:
    """What tells an SDK when to come back, and when not to try at all."""
    if isinstance(error, errors.QuotaExhausted):
        return {
            "retry-after": str(_seconds_until_reset(error.left)),
            "x-should-retry": "false",
            **dict(line.split(": ", 1) for line in ratelimit_lines(error.left).splitlines()),
        }
    found: dict[str, str] = {}
    if isinstance(error, errors.Unavailable) and error.retry_after_seconds is not None:
        found["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if error.should_retry is not None:
        found["x-should-retry"] = str(error.should_retry).lower()
    return found


def ratelimit_lines(left: Allowance) -> str:
    """The policy's day as OpenAI writes a rate: of each limit how much, how much left, how long.

    https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers; what is left is what
    this sidecar may still draw on, without asking anybody.
    """
    if left.daily_requests is None and left.daily_tokens is None:
        return ""
    reset = go_duration(_seconds_until_reset(left))
    found = ""
    if left.daily_requests is not None:
        found = _OF_REQUESTS % (left.daily_requests, left.requests_left, reset)
    if left.daily_tokens is not None:
        found += _OF_TOKENS % (left.daily_tokens, left.tokens_left, reset)
    return found


@lru_cache(maxsize=2)  # the same second is told in many answers
def go_duration(seconds: int) -> str:
    """Whole seconds as Go prints a time.Duration: `15h4m5s`, `6m0s`, `7s`."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _seconds_until_reset(left: Allowance) -> int:
    # Rounded up: whoever comes back then is in the new day.
    return max(1, math.ceil(left.resets_in_seconds))


def health(current: InForce) -> dict[str, Any]:
    """Whether it serves, and what stands in the way."""
    runtime = current.runtime_or_none()
    if runtime is None:
        return {"status": "unavailable", "document": None, "rejected": current.rejected}
    providers = runtime.service.health()
    counted, cached = runtime.quota.store_word, runtime.redis_state()
    troubled = (
        current.rejected is not None
        # One that is away comes back by itself.
        or cached.startswith("refuses")
        or any(word != "ok" for word in providers.values())
        or counted not in ("ok", "none")
    )
    return {
        "status": "degraded" if troubled else "ok",
        "document": runtime.loaded.document_fingerprint,
        "rejected": current.rejected,
        "redis": cached,
        "quota_store": counted,
        "redis_entries": runtime.cache.entries_in_store,
        "providers": providers,
        "keys_refused": sorted(runtime.service.refused_keys()),
        "background": _WAITS if runtime.quota.left(background=True).used_up else "ok",
        "failures": runtime.service.failures(),
    }


async def quota(runtime: Runtime) -> dict[str, Any]:
    """The day of the whole policy. `current_count` is calls made, by every pod.

    `exceeded`: this sidecar can make no call before the reset. That is so before `remaining` is 0
    where other pods hold the rest, or have died with it (`reserved`), or where tokens are used up.
    `vector_search_enabled`: the policy has a table to search. `fallback_enabled`: a search that can
    have no vectors is answered by words, which is so for every table that is searched.
    `background` says likewise what is left to that class of requests, without the reserve for
    applications.
    """
    state = await runtime.quota.state()
    limit = state.daily_requests
    is_searched = bool(runtime.loaded.document.indexes)
    return {
        "daily_quota": limit,
        "current_count": state.used,
        "remaining": None if limit is None else max(0, limit - state.used),
        "exceeded": state.left.used_up,
        "reset_at": state.reset_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "vector_search_enabled": is_searched,
        "fallback_enabled": is_searched,
        "reserved": state.reserved,
        "exact": state.exact,
        "exact_reason": f"{state.exact_reason}: {state.exact_text}" if state.exact_reason else "",
        "tokens": {"limit": state.daily_tokens, "used": state.tokens_used},
        "reserve_for_applications": _reserve(runtime),
        "background": {
            "remaining": state.left_to_background.requests_left,
            "tokens_remaining": state.left_to_background.tokens_left,
            "exceeded": state.left_to_background.used_up,
        },
    }


def config(current: InForce) -> dict[str, Any]:
    """What is in force: the first two providers by the user's names, then everything."""
    runtime = current.runtime()
    policy = runtime.loaded.document
    first, backup = policy.providers[0], _backup(policy)
    return {
        "provider": type_word(first.kind),
        "model": first.model,
        "backup_provider": type_word(backup.kind) if backup else None,
        "backup_model": backup.model if backup else None,
        "provider_fallback_enabled": policy.failover.enabled and backup is not None,
        "policy": {"namespace": policy.namespace, "name": policy.name},
        "document_fingerprint": runtime.loaded.document_fingerprint,
        "secrets_fingerprint": runtime.loaded.secrets_fingerprint,
        "rejected": current.rejected,
        "keys_refused": sorted(runtime.service.refused_keys()),
        "reserve_for_applications": _reserve(runtime),
        "failures": runtime.service.failures(),
        "providers": [
            {
                "name": provider.name,
                "type": type_word(provider.kind),
                "model": provider.model,
                "aliases": list(provider.aliases),
                "base_url": provider.base_url,
                "space": provider.space(),
            }
            for provider in policy.providers
        ],
    }


def _reserve(runtime: Runtime) -> dict[str, int]:
    """What each day reserves for applications; 0 of what has no limit."""
    kept = runtime.loaded.document.quota
    return {"requests": kept.reserved_requests, "tokens": kept.reserved_tokens}


def cache_stats(runtime: Runtime) -> dict[str, Any]:
    """This sidecar's hits and misses by layer, what the memory layer holds, what it all saved.

    `money_saved` is a decimal string at the policy's present prices, None where it names none.
    """
    saved = runtime.cache.tokens_saved()
    prices = _prices(runtime.loaded.document)
    money = sum((prices.get(it, _NOTHING) * tokens for it, tokens in saved.items()), _NOTHING)
    return {
        **runtime.cache.stats(),
        "money_saved": f"{(money / PRICED_TOKENS).normalize():f}" if prices else None,
        "redis": runtime.redis_state(),
    }


def _prices(policy: document.PolicyDocument) -> dict[str, Decimal]:
    """Price of a million tokens by model; the first provider's where several have one."""
    found: dict[str, Decimal] = {}
    for it in policy.providers:
        if it.price_per_million_tokens is not None:
            with contextlib.suppress(InvalidOperation):
                found.setdefault(it.model, Decimal(it.price_per_million_tokens))
    return found


def observe(current: InForce, metrics: Metrics) -> None:
    """Set the gauges that are read at a scrape, to what is known: nobody is asked."""
    runtime = current.runtime_or_none()
    metrics.document_rejected(rejected=current.rejected is not None)
    metrics.document_in_force(runtime.loaded.document_fingerprint if runtime else "")
    if runtime is None:
        return
    refused = runtime.service.refused_keys()
    metrics.keys({it.name: it.name in refused for it in runtime.loaded.document.providers})
    metrics.breakers({name: word == "failing" for name, word in runtime.service.health().items()})
    metrics.daily(
        calls=runtime.quota.calls_made(),
        limit=runtime.loaded.document.quota.daily_requests,
        reserved=runtime.quota.calls_reserved(),
    )
    metrics.memory_bytes(runtime.memory_bytes())
    metrics.redis(
        {
            "cache": _REDIS_UP.get(runtime.redis_state().partition(":")[0]),
            "quota": runtime.quota.store_up,
        }
    )


def type_word(kind: str) -> str:
    """A provider's type as metrics and pages write it."""
    return kind.lower()


def _backup(policy: document.PolicyDocument) -> document.Provider | None:
    return policy.providers[1] if len(policy.providers) > 1 else None
