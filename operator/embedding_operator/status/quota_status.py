"""The quota in a policy's status, and its conditions, by what a sidecar reported: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from embedding_operator.kube import conditions
from embedding_operator.kube.conditions import Verdict
from embedding_operator.policy.policy import EmbeddingPolicy
from embedding_operator.status import config_in_force

EXACT: Final = "QuotaExact"
OBSERVED: Final = "QuotaObserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimit:
    """One limit and its count: of `period` day or month, in `unit` requests, tokens or cost.

    Costs are decimal strings in US dollars, the others whole numbers. `reserved` is granted and not
    used yet, and stands beside `used`.
    """

    period: str
    unit: str
    limit: int | str
    used: int | str
    reserved: int | str
    reset_at: datetime

    @property
    def is_exceeded(self) -> bool:
        """True if more is used than the limit allows."""
        return Decimal(self.used) > Decimal(self.limit)

    def __str__(self) -> str:
        return f"{self.unit} of the {self.period}: {self.used} of {self.limit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveQuota:
    """The quota of a policy as its store counts it; `limit` is the day's calls, None unlimited.

    `mode` and `limits` are empty in reports of older sidecars.
    """

    used: int
    limit: int | None
    reset_at: datetime
    exact: bool
    exact_reason: str
    mode: str = ""
    limits: tuple[LiveLimit, ...] = ()


def exact_verdict(policy: EmbeddingPolicy, quota: LiveQuota | None) -> Verdict:
    """Condition QuotaExact: all pods share one counter that forgets nothing."""
    if not (policy.quota.redis or policy.cache.redis):
        message = (
            "The policy names no Redis, so each pod counts alone and the limit applies per pod."
        )
        return Verdict("False", "NoSharedStore", message)
    if quota is None:
        message = "The operator has not asked a sidecar yet."
        return Verdict("Unknown", config_in_force.NOT_ASKED, message)
    if not quota.exact:
        reason, _, text = quota.exact_reason.partition(": ")
        message = text or "Redis may lose acknowledged writes."
        return Verdict("False", reason or "StoreMayForget", message)
    return Verdict("True", "Exact", "All pods share one durable counter.")


def observed_verdict(policy: EmbeddingPolicy, quota: LiveQuota | None) -> Verdict | None:
    """Condition QuotaObserved, True while Enforce would refuse; None unless `mode` is Observe."""
    if not policy.quota.observes:
        return None
    if quota is None or not quota.mode:
        message = "No sidecar has reported the limits yet."
        return Verdict("Unknown", config_in_force.NOT_ASKED, message)
    exceeded = [str(it) for it in quota.limits if it.is_exceeded]
    if exceeded:
        message = (
            f"Used: {conditions.few(exceeded)}. spec.quota.mode Observe refuses nothing; Enforce"
            " would have refused what is beyond."
        )
        return Verdict("True", "LimitExceeded", message)
    message = "spec.quota.mode Observe refuses nothing, and no limit is exceeded."
    return Verdict("False", "WithinLimits", message)


def part(
    policy: EmbeddingPolicy | None, quota: LiveQuota | None, *, previous: Mapping[str, Any]
) -> dict[str, Any]:
    """The `quota` of a status; the last figures stay where no sidecar could be asked."""
    if quota is None:
        return dict(previous.get("quota", {}))
    limit = policy.quota.requests if policy is not None else quota.limit
    made: dict[str, Any] = {
        "used": quota.used,
        "resetAt": _text(quota.reset_at),
        "summary": f"{quota.used}/{'unlimited' if limit is None else limit}",
    }
    if limit is not None:
        made["limit"] = limit
    if quota.mode:
        made["mode"] = quota.mode
    if quota.limits:
        made["limits"] = [_limit(it) for it in quota.limits]
    return made


def _limit(it: LiveLimit) -> dict[str, Any]:
    return {
        "period": it.period,
        "unit": it.unit,
        "limit": it.limit,
        "used": it.used,
        "reserved": it.reserved,
        "resetAt": _text(it.reset_at),
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
