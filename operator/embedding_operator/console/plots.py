"""The queries to Prometheus for the page: figures of every policy, and plots of one."""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from embedding_operator.console import usage
from embedding_operator.console.prometheus import Prometheus

PERIOD: Final = "the last 24 hours"
PLOT_SECONDS: Final = 6 * 3600
POINTS: Final = 180

_POLICY: Final = "namespace, policy"
_FIGURES: Final = {
    "aos_embedding_daily_calls": f"max by ({_POLICY}) (aos_embedding_daily_calls)",
    "aos_embedding_daily_quota": f"max by ({_POLICY}) (aos_embedding_daily_quota)",
    "aos_embedding_cache_hits_total": (
        f"sum by ({_POLICY}, layer) (increase(aos_embedding_cache_hits_total[24h]))"
    ),
    "aos_embedding_cache_misses_total": (
        f"sum by ({_POLICY}) (increase(aos_embedding_cache_misses_total[24h]))"
    ),
    "aos_embedding_failovers_total": (
        f"sum by ({_POLICY}) (increase(aos_embedding_failovers_total[24h]))"
    ),
    "aos_embedding_tokens_total": (
        f"sum by ({_POLICY}, provider, model) (increase(aos_embedding_tokens_total[24h]))"
    ),
    "aos_embedding_breaker_open": (f"max by ({_POLICY}, provider) (aos_embedding_breaker_open)"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One plot. `@` in the expression stands for the policy's matchers; `label` names series."""

    title: str
    unit: str
    expr: str
    label: str


PLOTS: Final = (
    Plot(
        title="Calls to providers",
        unit="/s",
        expr="sum by (outcome) (rate(aos_embedding_api_calls_total{@}[5m]))",
        label="outcome",
    ),
    Plot(
        title="Texts answered from the cache",
        unit="%",
        expr=(
            "100 * sum by (layer) (rate(aos_embedding_cache_hits_total{@}[5m]))"
            " / on () group_left () (sum (rate(aos_embedding_cache_hits_total{@}[5m]))"
            " + sum (rate(aos_embedding_cache_misses_total{@}[5m])))"
        ),
        label="layer",
    ),
    Plot(
        title="Provider latency, p95",
        unit="s",
        expr=(
            "histogram_quantile(0.95, sum by (provider, le)"
            " (rate(aos_embedding_api_latency_seconds_bucket{@}[5m])))"
        ),
        label="provider",
    ),
    Plot(
        title="Tokens billed",
        unit="/s",
        expr="sum by (model) (rate(aos_embedding_tokens_total{@}[5m]))",
        label="model",
    ),
)


def figures(prometheus: Prometheus) -> tuple[usage.Sample, ...]:
    """Every policy's figures.

    Raises:
        errors.OperatorError: Prometheus gives no answer.
    """
    return tuple(
        usage.Sample(name=name, labels=labels, value=value)
        for name, expr in _FIGURES.items()
        for labels, value in prometheus.instant(expr)
    )


def draw(
    prometheus: Prometheus, *, namespace: str, policy: str, now: float, seconds: float
) -> dict[str, Any]:
    """One policy's plots of so many seconds until now.

    Returns:
        `seconds`, and `plots`: title, unit and series of [seconds since 1970, value] each.

    Raises:
        errors.OperatorError: Prometheus gives no answer.
    """
    matchers = f"namespace={json.dumps(namespace)}, policy={json.dumps(policy)}"
    drawn = [
        _drawn(prometheus, plot, matchers=matchers, now=now, seconds=seconds) for plot in PLOTS
    ]
    return {"seconds": seconds, "plots": drawn}


def _drawn(
    prometheus: Prometheus, plot: Plot, *, matchers: str, now: float, seconds: float
) -> dict[str, Any]:
    found = prometheus.range(
        plot.expr.replace("@", matchers),
        start=now - seconds,
        end=now,
        step_seconds=seconds / POINTS,
    )
    return {
        "title": plot.title,
        "unit": plot.unit,
        "series": [
            {
                "name": labels.get(plot.label) or "all",
                "points": [[at, value] for at, value in points if math.isfinite(value)],
            }
            for labels, points in found
        ],
    }
