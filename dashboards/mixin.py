"""The monitoring mixin: dashboards, alerts and rules as files, for who deploys without the chart.

Source: https://github.com/monitoring-mixins/docs. `mixin.libsonnet` imports the files, so that a
jsonnet build takes them as any other mixin; nothing else of it is jsonnet.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards import cost, operations, panels
from embedding_contract import built_in_alerts as table
from embedding_operator.policy import alerts
from embedding_operator.render import alert_rules

ROOT: Final = Path(__file__).parents[1]
CHART_FOLDER: Final = ROOT / "charts" / "embedding-operator" / "files" / "dashboards"
MIXIN: Final = ROOT / "mixin"
DASHBOARDS: Final = (cost.DASHBOARD, operations.DASHBOARD)
EVERY_POLICY: Final = 'policy!=""'
"""The matcher in place of one policy's: a mixin's alerts speak of all of them."""
_NOTICE: Final = (
    "# Written by `make generate`. Edit dashboards/ and the table of alerts, not this.\n"
)


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file and its text: the chart's dashboards, and the mixin."""
    for dashboard in DASHBOARDS:
        text = panels.dump(dashboard)
        yield CHART_FOLDER / dashboard.file, text
        yield MIXIN / "dashboards" / dashboard.file, text
    yield MIXIN / "alerts" / "alerts.yaml", _NOTICE + _yaml(_alerts())
    yield MIXIN / "rules" / "rules.yaml", _NOTICE + _yaml(_rules())


def _alerts() -> list[dict[str, Any]]:
    """The built-in alerts with their default thresholds; costs need a policy's prices."""
    rules = [
        {
            "alert": alert.name,
            "expr": expr,
            "for": alerts.duration(alert.for_seconds),
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": alert.runbook_url,
            },
        }
        for alert in table.BUILT_IN
        if (expr := _expression(alert)) is not None
    ]
    return [{"name": "embedding", "rules": rules}]


def _expression(alert: table.Alert) -> str | None:
    expr = alert.expr
    if alert.threshold is not None:
        if alert.threshold.default is None:
            return None
        expr = expr.replace(table.THRESHOLD, str(alert.threshold.default))
    least, most = table.WINDOW_SECONDS
    window = alerts.duration(min(max(alert.for_seconds, least), most))
    return expr.replace(table.WINDOW, window).replace(table.SELECTOR, EVERY_POLICY)


def _rules() -> list[dict[str, Any]]:
    """Calls, tokens and limits, under the names of a policy's own records."""
    rules = [
        {
            "record": f"{level}:aos_embedding_{metric}:rate5m",
            "expr": f"sum by ({by}) (rate(aos_embedding_{metric}_total{{{EVERY_POLICY}}}[5m]))",
        }
        for level, by in (
            ("namespace_policy", "namespace, policy"),
            ("namespace_policy_workload", "namespace, policy, workload"),
        )
        for metric in ("api_calls", "tokens")
    ]
    rules += alert_rules.of_limits(EVERY_POLICY)
    return [{"name": "embedding.rules", "rules": rules}]


def _yaml(groups: list[dict[str, Any]]) -> str:
    text: str = yaml.safe_dump({"groups": groups}, sort_keys=False, width=100)
    return text
