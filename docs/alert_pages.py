"""Pages and rules that are written from the tables of alerts and prices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from embedding_contract import built_in_alerts, prices
from embedding_operator.policy.alerts import duration

ROOT: Final = Path(__file__).parent.parent
NOTICE: Final = (
    "<!-- Written by `make generate` from sidecar/embedding_contract/built_in_alerts.py and "
    "models.py. Edit those, not this. -->\n\n"
)


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file of alerts, and its text."""
    yield ROOT / "docs/alerts.md", alerts_page()
    yield ROOT / "charts/embedding-operator/files/operator-alerts.yaml", operator_rules()


def alerts_page() -> str:
    """Both tables of alerts, and the built-in prices."""
    lines = [NOTICE, ALERTS_INTRODUCTION]
    for alert in built_in_alerts.BUILT_IN:
        lines.extend(_alert(alert, f"`rules.{alert.key}`; "))
    lines.append(OPERATOR_INTRODUCTION)
    for alert in built_in_alerts.OPERATOR:
        lines.extend(_alert(alert, ""))
    lines.append(PRICES_INTRODUCTION.format(date=prices.AS_OF))
    lines.append("| provider and model | USD per million tokens | as of | source |\n")
    lines.append("|---|---|---|---|\n")
    for model, price in prices.PRICES.items():
        usd = price.usd_per_million_tokens
        lines.append(f"| `{model}` | {usd} | {price.date} | {price.source} |\n")
    return "".join(lines)


ALERTS_INTRODUCTION = """# Alerts

Each policy has these alerts, for its own series only. `spec.alerts.rules.NAME` changes one:
`{enabled, threshold, for, severity}`. Rates use the time `for`, at least 1 minute and at most 5,
as `@window@` below; `@threshold@` is the policy's number or the default, and `@selector@` its
namespace and name. Severities are critical, warning and info. [install.md](install.md#alerts)
says how the rules reach a Prometheus, with and without the Prometheus operator.

"""
OPERATOR_INTRODUCTION = """# Alerts about the operator

One PrometheusRule of the chart, with the value `prometheusRule.enabled`.

"""
PRICES_INTRODUCTION = """# Built-in prices

`costHigh` and the recording rules of cost use a provider's `pricePerMillionTokens`. Without one,
they use this list, of {date} or later, for vendors at their own addresses. The list has list
prices as third parties quote them: compare it with the vendor's page before you rely on it.
Your account may pay less. A model that is not in the list has an unknown cost, not a cost of 0.
If a policy names prices in another currency, name all of them.

"""


def _alert(alert: built_in_alerts.Alert, key: str) -> Iterator[str]:
    yield f"## {alert.name}\n\n{alert.description} [Runbook](runbooks/{alert.name}.md).\n\n"
    yield f"{key}for {duration(alert.for_seconds)}; severity {alert.severity}"
    if alert.threshold is not None:
        it = alert.threshold
        default = "off until it is set" if it.default is None else f"default {it.default}"
        bounds = "above 0" if it.default is None else f"{it.low} to {it.high}"
        yield f"; threshold in {it.unit} {it.meaning}: {default}, {bounds}"
    yield f". Fires when {alert.fault}."
    yield f"\n\n    {alert.expr}\n\n"


def operator_rules() -> str:
    """The groups of the chart's PrometheusRule, which its template puts under `spec`."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": duration(alert.for_seconds),
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": alert.runbook_url,
            },
        }
        for alert in built_in_alerts.OPERATOR
    ]
    groups = {"groups": [{"name": "embedding-operator", "rules": rules}]}
    source = "# Written by `make generate` from sidecar/embedding_contract/built_in_alerts.py.\n"
    return source + yaml.safe_dump(groups, sort_keys=False, width=100)
