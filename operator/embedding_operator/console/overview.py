"""The content of the page from policies and their sidecars' series: pure, for JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from embedding_operator.console import advice, costs, limits, usage
from embedding_operator.kube.kinds import Object

NEARLY_USED: Final = 0.8
"""The share of a day's quota from which the page warns."""
_SHOWN_ALONE: Final = ("day", "requests")
"""The limit that has a bar of its own."""
_INFORMING: Final = frozenset({"QuotaExact", "QuotaObserved", "ModelRetires"})
"""Conditions that report something in many good installations: shown, but no task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Series with labels `namespace` and `policy`, and their source and period.

    `period` is the period of counters as text; `notes` are failures with advice.
    """

    samples: Sequence[usage.Sample] = ()
    period: str = ""
    source: str = "status"
    notes: tuple[str, ...] = ()


def build(policies: Iterable[Mapping[str, Any]], seen: Seen, *, at: str, scope: str) -> Object:
    """The whole content of the page at the time `at` (ISO 8601) for the namespaces in `scope`."""
    own = costs.of_policies(policies := list(policies))
    grouped: dict[tuple[str, str], list[usage.Sample]] = {}
    for sample in seen.samples:
        key = (sample.labels.get("namespace", ""), sample.labels.get("policy", ""))
        grouped.setdefault(key, []).append(sample)
    shown = [
        _policy(it, grouped.get((_namespace(it), _name(it)), []), own=own)
        for it in sorted(policies, key=lambda it: (_namespace(it), _name(it)))
    ]
    return {
        "at": at,
        "scope": scope,
        "source": seen.source,
        "period": seen.period,
        "notes": list(seen.notes),
        "summary": _summary(shown),
        "policies": shown,
    }


def _policy(
    policy: Mapping[str, Any], samples: Sequence[usage.Sample], *, own: costs.PolicyPrices
) -> Object:
    status = policy.get("status") or {}
    conditions = [_condition(it) for it in status.get("conditions") or []]
    ready = next((it for it in conditions if it["type"] == "Ready"), None)
    quota = _quota(policy, status.get("quota") or {}, samples)
    pods = status.get("pods") or {}
    return {
        "namespace": _namespace(policy),
        "name": _name(policy),
        "ready": ready or _not_seen(),
        "providers": [
            {
                "name": it.get("name") or it["ref"],
                "type": it.get("type", "ClusterEmbeddingProvider"),
                "model": it.get("model") or it["ref"],
            }
            for it in policy["spec"]["providers"]
        ],
        "quota": quota,
        "pods": {key: pods.get(key, 0) for key in ("matching", "covered", "inForce", "outdated")}
        | {"missing": list(pods.get("missing") or [])},
        "cache": _cache(samples),
        "failovers": _total(samples, "aos_embedding_failovers_total"),
        "breakers": sorted(
            it.labels.get("provider", "")
            for it in samples
            if it.name == "aos_embedding_breaker_open" and it.value > 0
        ),
        "cost": _cost(policy, samples, own=own),
        "rules": _rules(conditions),
        "conditions": [it for it in conditions if it["type"] != "Ready"],
        "tasks": _tasks(conditions, quota),
    }


def _condition(raw: Mapping[str, Any]) -> Object:
    return {
        "type": raw["type"],
        "status": raw["status"],
        "reason": raw["reason"],
        "message": raw["message"],
        "since": raw.get("lastTransitionTime", ""),
        "state": advice.state(raw),
        "advice": advice.sentence(raw),
    }


def _not_seen() -> Object:
    return {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NoStatus",
        "message": "The operator has not reconciled this policy.",
        "since": "",
        "state": "unknown",
        "advice": "Check that the operator runs: kubectl get pods -A -l"
        " app.kubernetes.io/name=embedding-operator",
    }


def _quota(
    policy: Mapping[str, Any], status: Mapping[str, Any], samples: Sequence[usage.Sample]
) -> Object:
    """The day's quota: from sidecars if they answered, else from the status."""
    calls = _greatest(samples, "aos_embedding_daily_calls")
    limit: float | None = _greatest(samples, "aos_embedding_daily_quota")
    live = calls is not None
    if calls is None:
        calls = status.get("used")
        limit = status.get("limit")
    if limit is None and not (policy["spec"].get("quota") or {}).get("unlimited"):
        daily = (policy["spec"].get("quota") or {}).get("daily") or {}
        limit = daily.get("requests")
    if limit is not None and math.isinf(limit):
        limit = None
    used = None if calls is None else int(calls)
    share = None
    if used is not None and limit is not None:
        share = 1.0 if limit == 0 else min(used / limit, 1.0)
    return {
        "used": used,
        "limit": None if limit is None else int(limit),
        "share": share,
        "resetAt": status.get("resetAt", ""),
        "live": live,
        "mode": status.get("mode", "Enforce"),
        "limits": [
            {"name": it.name, "shown": it.shown, "share": it.share}
            for it in limits.of_status(status)
            if (it.period, it.unit) != _SHOWN_ALONE
        ],
    }


def _cache(samples: Sequence[usage.Sample]) -> Object | None:
    """Shares of hits by layer; None without look-ups or series."""
    hits: dict[str, float] = {}
    for it in samples:
        if it.name == "aos_embedding_cache_hits_total":
            layer = it.labels.get("layer", "")
            hits[layer] = hits.get(layer, 0) + it.value
    misses = _total(samples, "aos_embedding_cache_misses_total") or 0
    texts = sum(hits.values()) + misses
    if not texts:
        return None
    return {
        "texts": round(texts),
        "memory": hits.get("memory", 0) / texts,
        "redis": hits.get("redis", 0) / texts,
    }


def _cost(
    policy: Mapping[str, Any], samples: Sequence[usage.Sample], *, own: costs.PolicyPrices
) -> Object | None:
    billed = usage.tokens(samples, namespace=_namespace(policy), policy=_name(policy))
    found = costs.total(billed, own=own, by="policy")
    if not found:
        return None
    (cost,) = found
    return {
        "shown": cost.shown,
        "tokens": cost.tokens,
        "currency": "USD" if cost.sources == {"list"} else "",
        "notes": costs.notes(found),
    }


def _rules(conditions: Sequence[Object]) -> Object:
    """The state of alert rules: loaded, or, without a Prometheus to ask, written."""
    for kind, good, bad in (
        ("RulesLoaded", "loaded", "not loaded"),
        ("MonitoringApplied", "written", "not written"),
    ):
        found = next((it for it in conditions if it["type"] == kind), None)
        if found is not None and found["state"] != "unknown":
            word = good if found["state"] == "good" else bad
            return {"word": word, "state": found["state"]}
    return {"word": "not known", "state": "unknown"}


def _tasks(conditions: Sequence[Object], quota: Object) -> list[Object]:
    """The tasks for the user, the most urgent first."""
    found = [
        {"state": it["state"], "what": it["message"], "do": it["advice"], "type": it["type"]}
        for it in conditions
        if it["state"] != "good" and it["type"] != "Ready" and it["type"] not in _INFORMING
    ]
    if not conditions:
        seen = _not_seen()
        found = [{"state": "unknown", "what": seen["message"], "do": seen["advice"], "type": ""}]
    found += _nearly_used(quota)
    return sorted(found, key=lambda it: it["state"] != "bad")


def _nearly_used(quota: Object) -> list[Object]:
    """A task for each limit that is nearly used up."""
    found = [(it["name"], it["shown"], it["share"]) for it in quota["limits"]]
    if quota["share"] is not None:
        shown = f"{quota['used']:,}/{quota['limit']:,}"
        found.insert(0, ("daily.requests", shown, quota["share"]))
    return [
        {
            "state": "bad" if share >= 1 and quota["mode"] != "Observe" else "warn",
            "what": f"{shown} of {name} are used.",
            "do": f"Raise spec.quota.{name}, or wait for the end of its time in UTC.",
            "type": "Quota",
        }
        for name, shown, share in found
        if share >= NEARLY_USED
    ]


def _summary(shown: Sequence[Object]) -> Object:
    caches = [it["cache"] for it in shown if it["cache"]]
    texts = sum(it["texts"] for it in caches)
    hits = sum(it["texts"] * (it["memory"] + it["redis"]) for it in caches)
    return {
        "policies": len(shown),
        "ready": sum(it["ready"]["state"] == "good" for it in shown),
        "pods": sum(it["pods"]["matching"] for it in shown),
        "uncovered": sum(it["pods"]["matching"] - it["pods"]["covered"] for it in shown),
        "hitRate": hits / texts if texts else None,
        "calls": sum(it["quota"]["used"] or 0 for it in shown),
    }


def _total(samples: Iterable[usage.Sample], name: str) -> int | None:
    values = [it.value for it in samples if it.name == name]
    return round(sum(values)) if values else None


def _greatest(samples: Iterable[usage.Sample], name: str) -> float | None:
    return max((it.value for it in samples if it.name == name), default=None)


def _namespace(policy: Mapping[str, Any]) -> str:
    return str(policy["metadata"]["namespace"])


def _name(policy: Mapping[str, Any]) -> str:
    return str(policy["metadata"]["name"])
