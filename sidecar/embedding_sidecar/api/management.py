"""The management pages: health, quota, config and cache statistics; gauges of a scrape.

The field names of quota and config are the user's, kept to the letter; ours come after
them.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from embedding_contract import document, formats, money
from embedding_sidecar.policy.current_policy import CurrentPolicy
from embedding_sidecar.policy.runtime import Runtime
from embedding_sidecar.telemetry.metrics import Metrics

_REDIS_UP: Final = {"ok": True, "away": False, "refuses": False}
"""By the first word of TieredCache.store_state; the other words say nothing about Redis."""

SCRAPES_SECONDS: Final = 1.0


def health(current: CurrentPolicy) -> dict[str, Any]:
    """The health of the sidecar and all that impairs it; no secret, as it needs no token."""
    runtime = current.runtime_or_none()
    if runtime is None:
        return {"status": "unavailable", "document": None, "rejected": current.source.rejected}
    providers = runtime.service.health()
    counted, cached = runtime.quota.store_word, runtime.cache.store_state
    troubled = (
        current.source.rejected is not None
        # A Redis that is away comes back by itself.
        or cached.startswith("refuses")
        or any(word != "ok" for word in providers.values())
        or counted not in ("ok", "none")
    )
    return {
        "status": "degraded" if troubled else "ok",
        "document": runtime.loaded.document_fingerprint,
        "rejected": current.source.rejected,
        "redis": cached,
        "quota_store": counted,
        "redis_entries": runtime.cache.entries_in_store,
        "providers": providers,
        "keys_refused": sorted(runtime.service.refused_keys()),
        "background": "waits_for_reset" if runtime.quota.left(background=True).used_up else "ok",
        "failures": runtime.service.failures(),
    }


async def quota(runtime: Runtime) -> dict[str, Any]:
    """The whole policy's day, and all its limits. `current_count` is the calls made by all pods.

    `exceeded`: this sidecar can make no call before the reset, also while `remaining` is not yet 0,
    if other pods hold the rest, or have died with it (`reserved`), or if tokens are used up.
    `vector_search_enabled`: the policy has a table to search. `fallback_enabled`: a search that can
    have no vectors is answered by words, which holds for every table that is searched.
    `background`: likewise what is left to that class of requests, without the reserve for
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
        "reset_at": _time(state.reset_at),
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
        "mode": "Observe" if runtime.quota.observes else "Enforce",
        "limits": [
            {
                "period": it.period,
                "unit": it.unit,
                "limit": _amount(it.unit, it.limit),
                "used": _amount(it.unit, it.used),
                "reserved": _amount(it.unit, it.reserved),
                "reset_at": _time(it.reset_at),
            }
            for it in state.limits
        ],
    }


def _amount(unit: str, amount: int) -> int | str:
    """An amount as a page shows it: money as a decimal string of US dollars."""
    return money.dollars(amount) if unit == "cost" else amount


def _figure(unit: str, amount: int) -> float:
    """An amount as a metric shows it: money in US dollars."""
    return amount / money.NANOS_PER_DOLLAR if unit == "cost" else amount


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def config(current: CurrentPolicy) -> dict[str, Any]:
    """The policy in force: the first two providers by the user's names, then everything."""
    runtime = current.runtime()
    policy = runtime.loaded.document
    first, backup = policy.providers[0], next(iter(policy.providers[1:]), None)
    return {
        "provider": first.kind.lower(),
        "model": first.model,
        "backup_provider": backup.kind.lower() if backup else None,
        "backup_model": backup.model if backup else None,
        "provider_fallback_enabled": policy.failover.enabled and backup is not None,
        "policy": {"namespace": policy.namespace, "name": policy.name},
        "document_fingerprint": runtime.loaded.document_fingerprint,
        "secrets_fingerprint": runtime.loaded.secrets_fingerprint,
        "format": formats.CURRENT,
        "rejected": current.source.rejected,
        "keys_refused": sorted(runtime.service.refused_keys()),
        "reserve_for_applications": _reserve(runtime),
        "failures": runtime.service.failures(),
        "providers": [
            {
                "name": provider.name,
                "type": provider.kind.lower(),
                "model": provider.model,
                "aliases": list(provider.aliases),
                "base_url": provider.base_url,
                "space": provider.space(),
                "rate": {
                    "requests_per_minute": provider.rate.requests_per_minute,
                    "tokens_per_minute": provider.rate.tokens_per_minute,
                },
            }
            for provider in policy.providers
        ],
    }


def _reserve(runtime: Runtime) -> dict[str, int]:
    """The part of each day reserved for applications; 0 where there is no limit."""
    kept = runtime.loaded.document.quota
    return {"requests": kept.reserved_requests, "tokens": kept.reserved_tokens}


def cache_stats(runtime: Runtime) -> dict[str, Any]:
    """This sidecar's hits and misses by layer, the size of the memory layer, and all savings.

    `money_saved` is a decimal string at the policy's present prices, None where it names none.
    """
    saved = runtime.cache.tokens_saved
    prices = _prices(runtime.loaded.document)
    saved_money = sum(
        (prices.get(it, Decimal()) * tokens for it, tokens in saved.items()), Decimal()
    )
    return {
        **runtime.cache.stats(),
        "money_saved": f"{(saved_money / money.PRICED_TOKENS).normalize():f}" if prices else None,
        "redis": runtime.cache.store_state,
    }


def _prices(policy: document.PolicyDocument) -> dict[str, Decimal]:
    """Price of a million tokens by model; the first provider's where several have one."""
    found: dict[str, Decimal] = {}
    for it in policy.providers:
        if it.price_per_million_tokens is not None:
            with contextlib.suppress(InvalidOperation):
                found.setdefault(it.model, Decimal(it.price_per_million_tokens))
    return found


def observe(current: CurrentPolicy, metrics: Metrics) -> None:
    """Set the gauges that are read at a scrape to what is known without a call."""
    runtime = current.runtime_or_none()
    metrics.set("aos_embedding_policy_rejected", current.source.rejected is not None)
    in_force = runtime.loaded.document_fingerprint if runtime else ""
    metrics.show("aos_embedding_policy_info", {in_force: 1})
    if runtime is None:
        return
    policy, refused = runtime.loaded.document, runtime.service.refused_keys()
    failing = {it: word == "failing" for it, word in runtime.service.health().items()}
    metrics.show(
        "aos_embedding_key_refused", {it.name: it.name in refused for it in policy.providers}
    )
    metrics.show("aos_embedding_breaker_open", failing)
    metrics.set("aos_embedding_daily_quota", policy.quota.daily_requests)
    metrics.set("aos_embedding_daily_calls", runtime.quota.day.books.policy_used().calls)
    limits = runtime.quota.limit_states()
    metrics.show(
        "aos_embedding_quota_limit",
        {(it.period, it.unit): _figure(it.unit, it.limit) for it in limits},
    )
    metrics.show(
        "aos_embedding_quota_used",
        {(it.period, it.unit): _figure(it.unit, it.used) for it in limits},
    )
    metrics.set("aos_embedding_quota_reserved", runtime.quota.day.books.policy_reserved().calls)
    held_bytes = runtime.cache.memory.bytes_held + runtime.cached_answers.bytes_held
    metrics.set("aos_embedding_cache_memory_bytes", held_bytes)
    words = {"cache": runtime.cache.store_state, "quota": runtime.quota.store_word}
    redis_up = {it: _REDIS_UP.get(word.partition(":")[0]) for it, word in words.items()}
    metrics.show("aos_embedding_redis_up", redis_up)


class Exposition:
    """The text of a scrape, rendered at most once in `every_seconds` for all scrapers.

    A scrape needs no token, and rendering takes milliseconds of the loop that answers the
    application. A scrape within that time waits for the next text, so no scraper gets an old one.
    """

    def __init__(
        self,
        render: Callable[[], bytes],
        *,
        every_seconds: float = SCRAPES_SECONDS,
    ) -> None:
        self._render = render
        self._every_seconds = every_seconds
        self._rendered_at = float("-inf")
        self._next: asyncio.Task[bytes] | None = None

    async def text(self) -> bytes:
        """The text, rendered at the next time allowed."""
        if self._next is None:
            self._next = asyncio.create_task(self._render_in_time())
        # A scraper that leaves must not cancel it for the others.
        return await asyncio.shield(self._next)

    async def _render_in_time(self) -> bytes:
        await asyncio.sleep(self._rendered_at + self._every_seconds - time.monotonic())
        self._next, self._rendered_at = None, time.monotonic()
        return self._render()
