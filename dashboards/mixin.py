"""The monitoring mixin: dashboards, alerts and rules as files, for who deploys without the chart.

Source: https://github.com/monitoring-mixins/docs. `mixin.libsonnet` imports the files, so that a
jsonnet build takes them as any other mixin; nothing else of it is jsonnet.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards import cost, operations, panels
from embedding_operator.render import monitoring

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


def _alerts() -> list[dict[str, Any]]:
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr.replace(monitoring.SELECTOR, EVERY_POLICY),
            "for": alert.for_,
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{monitoring.RUNBOOKS}/{alert.name}.md",
            },
        }
        for alert in monitoring.ALERTS
    ]
    return [{"name": "embedding", "rules": rules}]


def _yaml(groups: list[dict[str, Any]]) -> str:
    text: str = yaml.safe_dump({"groups": groups}, sort_keys=False, width=100)
    return text
