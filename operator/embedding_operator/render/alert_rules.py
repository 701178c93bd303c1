"""The built-in alerts and the recording rules of one policy."""

from collections.abc import Iterator
from typing import Any, Final

from embedding_contract import built_in_alerts as table
from embedding_operator.errors import Problem
from embedding_operator.policy import alerts
from embedding_operator.policy.policy import EmbeddingPolicy
from embedding_operator.render import costs

RECORDED_RANGE: Final = "5m"
PACE_RANGE: Final = "1h"
_LIMIT: Final = "namespace, policy, period, unit"
_LEVELS: Final = (
    ("namespace_policy", "namespace, policy"),
    ("namespace_policy_workload", "namespace, policy, workload"),
)

Rule = dict[str, Any]


def built_in(policy: EmbeddingPolicy) -> list[Rule]:
    """The alerts of the table that this policy has not switched off."""
    return [
        rule
        for alert in table.BUILT_IN
        if (rule := _rule(alert, policy, policy.alert_rules.get(alert.key, alerts.Rule())))
    ]


def problems(policy: EmbeddingPolicy) -> list[Problem]:
    """The settings of built-in alerts that cannot be applied."""
    found = []
    cost = policy.alert_rules.get("costHigh", alerts.Rule())
    if cost.enabled and cost.threshold is not None and not costs.of(policy):
        message = (
            "spec.alerts.rules.costHigh: no provider's price is known; set"
            " spec.providers[].pricePerMillionTokens"
        )
        found.append(Problem("PriceUnknown", message))
    severity = policy.alert_labels.get("severity")
    if severity is not None and severity not in table.SEVERITIES:
        message = (
            f"spec.alerts.labels.severity {severity!r} must be one of"
            f" {', '.join(table.SEVERITIES)}; alerts keep their own"
        )
        found.append(Problem("SeverityUnknown", message))
    return found


def labels(policy: EmbeddingPolicy, *, severity: str, own: str | None = None) -> dict[str, str]:
    """Labels of an alert: those of the policy, with its own or else this default severity."""
    made = {"severity": severity, **policy.alert_labels}
    if made["severity"] not in table.SEVERITIES:
        made["severity"] = severity
    return {**made, "severity": own or made["severity"]}


def recording(policy: EmbeddingPolicy) -> list[Rule]:
    """Rates of calls, tokens and cost, by policy and by workload; each limit's share and time."""
    return [*_recording(policy), *of_limits(matchers(policy))]


def of_limits(matchers: str) -> tuple[Rule, ...]:
    """The used share of each limit, and the seconds until it is used up at the last hour's pace.

    The second has no series while nothing is used.
    """
    used, limit = (
        f"max by ({_LIMIT}) (aos_embedding_quota_{what}{{{matchers}}})"
        for what in ("used", "limit")
    )
    pace = f"max by ({_LIMIT}) (deriv(aos_embedding_quota_used{{{matchers}}}[{PACE_RANGE}]))"
    level = _LIMIT.replace(", ", "_")
    return (
        {
            "record": f"{level}:aos_embedding_quota_used:ratio",
            "expr": f"{used} / ({limit} > 0)",
        },
        {
            "record": f"{level}:aos_embedding_quota_left:seconds",
            "expr": f"({limit} - {used}) / ({pace} > 0)",
        },
    )


def matchers(policy: EmbeddingPolicy) -> str:
    """The matchers for this policy's series."""
    return f'namespace="{policy.namespace}", policy="{policy.name}"'


def _recording(policy: EmbeddingPolicy) -> Iterator[Rule]:
    own = matchers(policy)
    by_provider = costs.expression(
        policy,
        tokens=f"rate(aos_embedding_tokens_total{{{own}, @matchers@}}[{RECORDED_RANGE}])",
    )
    for level, by in _LEVELS:
        for metric in ("api_calls", "tokens"):
            rate = f"rate(aos_embedding_{metric}_total{{{own}}}[{RECORDED_RANGE}])"
            yield {
                "record": f"{level}:aos_embedding_{metric}:rate{RECORDED_RANGE}",
                "expr": f"sum by ({by}) ({rate})",
            }
        if by_provider is not None:
            yield {
                "record": f"{level}:aos_embedding_cost:rate{RECORDED_RANGE}",
                "expr": f"sum by ({by}) ({by_provider})",
            }


def _rule(alert: table.Alert, policy: EmbeddingPolicy, chosen: alerts.Rule) -> Rule | None:
    expr = _expression(alert, policy, chosen)
    if expr is None or not chosen.enabled:
        return None
    for_seconds = alert.for_seconds if chosen.for_seconds is None else chosen.for_seconds
    return {
        "alert": alert.name,
        "expr": expr,
        "for": alerts.duration(for_seconds),
        "labels": labels(policy, severity=alert.severity, own=chosen.severity),
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": alert.runbook_url,
        },
    }


def _expression(alert: table.Alert, policy: EmbeddingPolicy, chosen: alerts.Rule) -> str | None:
    """The expression; None if it needs a threshold or a price and there is none."""
    expr = alert.expr
    if alert.threshold is not None:
        default = alert.threshold.default
        threshold = chosen.threshold or (None if default is None else str(default))
        if threshold is None:
            return None
        expr = expr.replace(table.THRESHOLD, threshold)
    if table.COST in expr:
        tokens = f"increase(aos_embedding_tokens_total{{{matchers(policy)}, @matchers@}}[1d])"
        cost = costs.expression(policy, tokens=tokens)
        if cost is None:
            return None
        expr = expr.replace(table.COST, f"sum by (namespace, policy) ({cost})")
    least, most = table.WINDOW_SECONDS
    for_seconds = alert.for_seconds if chosen.for_seconds is None else chosen.for_seconds
    window = alerts.duration(min(max(for_seconds, least), most))
    return expr.replace(table.WINDOW, window).replace(table.SELECTOR, matchers(policy))
