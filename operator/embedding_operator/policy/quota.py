"""`spec.quota`: limits of calls, tokens and money for a day and a month."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedding_contract import document, money, reserve
from embedding_operator import errors
from embedding_operator.policy import reference
from embedding_operator.policy.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """`spec.quota`; None is no limit, and costs are in nano-dollars.

    `requests` and `tokens` are of the day.
    """

    requests: int | None
    tokens: int | None
    on_store_loss: str
    redis: Reference | None
    reserve: reserve.Reserve
    cost: int | None = None
    monthly_requests: int | None = None
    monthly_tokens: int | None = None
    monthly_cost: int | None = None
    observes: bool = False

    @property
    def limits_cost(self) -> bool:
        """True if a day or a month has a limit in money."""
        return self.cost is not None or self.monthly_cost is not None

    @property
    def limits_month(self) -> bool:
        """True if a month has a limit of any unit."""
        limits = (self.monthly_requests, self.monthly_tokens, self.monthly_cost)
        return any(it is not None for it in limits)


def parse(entry: Mapping[str, Any]) -> Quota:
    """`spec.quota` as values.

    Raises:
        errors.InvalidPolicy: a cost is no amount, or the reserve no share.
        KeyError, TypeError, AttributeError: it is not what the schema admits.
    """
    daily, monthly = entry["daily"], entry.get("monthly", {})
    requests = None if entry["unlimited"] else daily["requests"]
    tokens = daily.get("tokens")
    return Quota(
        requests=requests,
        tokens=tokens,
        cost=_cost(daily.get("cost"), "spec.quota.daily.cost"),
        monthly_requests=monthly.get("requests"),
        monthly_tokens=monthly.get("tokens"),
        monthly_cost=_cost(monthly.get("cost"), "spec.quota.monthly.cost"),
        observes=entry.get("mode") == "Observe",
        reserve=_reserve(entry, requests=requests, tokens=tokens),
        on_store_loss=entry["onStoreLoss"],
        redis=reference.parse(entry.get("redis")),
    )


def requires(quota: Quota) -> set[str]:
    """The words of `requires` for limits that an older sidecar would not hold."""
    found = set[str]()
    if quota.limits_cost:
        found.add("quota.cost")
    if quota.limits_month:
        found.add("quota.monthly")
    return found


def to_document(quota: Quota, *, redis_url_file: str | None) -> document.Quota:
    """The quota as sidecars read it."""
    return document.Quota(
        daily_requests=quota.requests,
        daily_tokens=quota.tokens,
        daily_cost=quota.cost,
        monthly_requests=quota.monthly_requests,
        monthly_tokens=quota.monthly_tokens,
        monthly_cost=quota.monthly_cost,
        observes=quota.observes,
        deny_on_store_loss=quota.on_store_loss == "Deny",
        redis_url_file=redis_url_file,
        reserved_requests=quota.reserve.requests,
        reserved_tokens=quota.reserve.tokens,
        reserved_percent=quota.reserve.percent,
    )


def _cost(amount: str | None, path: str) -> int | None:
    try:
        return None if amount is None else money.nanos(amount)
    except ValueError as error:
        raise errors.InvalidPolicy(path, str(error)) from None


def _reserve(
    entry: Mapping[str, Any], *, requests: int | None, tokens: int | None
) -> reserve.Reserve:
    written = entry.get("reserveForApplications", reserve.DEFAULT)
    try:
        return reserve.of(written, daily_requests=requests, daily_tokens=tokens)
    except ValueError as error:
        # Without an API server the CEL rules have not been evaluated.
        raise errors.InvalidPolicy("spec.quota.reserveForApplications", str(error)) from None
